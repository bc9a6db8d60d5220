//! Orders of the leader to a host, and the host's answer. A host carries out the run of a driver and a reboot once,
//! whoever sends the order how often: the journal of the host and its boot ID decide.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::change::SystemImage;
use crate::failure::Hint;
use crate::host_name::HostName;
use crate::reference::Digest;

/// An order of the leader to a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Order {
    pub host: HostName,
    /// The generation of the leader.
    pub generation: u64,
    /// The boot in which the order holds.
    pub from_boot: BootId,
    pub effect: Effect,
}

/// ID of a boot of a host: `/proc/sys/kernel/random/boot_id`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootId(pub String);

/// The effect of an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Effect {
    /// Write this image from the store of the host into the other slot, by the driver.
    Upgrade {
        run: RunId,
        image: SystemImage,
    },
    Reboot,
}

/// Number of a run of the driver: a later one is higher, over all updates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RunId {
    pub update: u64,
    pub run: u32,
}

/// The record of a host, durable before each effect.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HostJournal {
    /// The highest generation of a leader that this host has seen.
    pub generation: u64,
    /// The last run of the driver.
    pub run: Option<Run>,
}

/// A run of the driver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Run {
    pub id: RunId,
    pub from_boot: BootId,
    pub image: Digest,
    pub outcome: RunOutcome,
}

/// Outcome of a run of the driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RunOutcome {
    Running,
    Succeeded,
    Failed,
    /// The agent or the host ended while the driver ran: its result is not known.
    Interrupted,
}

/// Answer of a host to an order that it does not refuse.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admission {
    /// Make this journal durable, then carry the order out.
    Begin(HostJournal),
    /// The order was carried out before. Make this journal durable.
    AlreadyDone(HostJournal),
}

/// Reason of a host to refuse an order.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OrderRefusal {
    #[error("the order is for `{0}`")]
    OtherHost(HostName),
    #[error("the order is of generation {generation} of the leader, and this host has seen generation {seen}")]
    Stale { generation: u64, seen: u64 },
    #[error("the order is for another boot of this host")]
    OtherBoot,
    #[error("a driver is running")]
    Busy,
}

impl Hint for OrderRefusal {
    fn hint(&self) -> Option<Cow<'_, str>> {
        Some(Cow::Borrowed(match self {
            OrderRefusal::OtherHost(_) => "check the addresses of the hosts of the site: two of them share one",
            OrderRefusal::Stale { .. } => "another host leads the site now: `landfall site status` names it",
            OrderRefusal::OtherBoot => "the leader sends another order once it has read the state of this host",
            OrderRefusal::Busy => "wait for the end of the driver, or end its process on this host",
        }))
    }
}

/// Decides about an order of a leader, before its first effect. The caller holds the journal for itself meanwhile.
///
/// # Errors
/// If the host must not carry it out.
pub fn admit_order(
    journal: &HostJournal,
    order: &Order,
    host: &HostName,
    boot: &BootId,
) -> Result<Admission, OrderRefusal> {
    if order.host != *host {
        return Err(OrderRefusal::OtherHost(order.host.clone()));
    }
    if order.generation < journal.generation {
        return Err(OrderRefusal::Stale {
            generation: order.generation,
            seen: journal.generation,
        });
    }
    let mut seen = journal.clone();
    seen.generation = order.generation;
    let last = journal.run.as_ref();
    let is_busy = last.is_some_and(|run| run.outcome == RunOutcome::Running);
    match &order.effect {
        Effect::Upgrade { run, .. } if last.is_some_and(|last| last.id >= *run) => Ok(Admission::AlreadyDone(seen)),
        Effect::Reboot if order.from_boot != *boot => Ok(Admission::AlreadyDone(seen)),
        _ if is_busy => Err(OrderRefusal::Busy),
        Effect::Upgrade { .. } if order.from_boot != *boot => Err(OrderRefusal::OtherBoot),
        Effect::Upgrade { run, image } => {
            seen.run = Some(Run {
                id: *run,
                from_boot: boot.clone(),
                image: image.digest.clone(),
                outcome: RunOutcome::Running,
            });
            Ok(Admission::Begin(seen))
        }
        Effect::Reboot => Ok(Admission::Begin(seen)),
    }
}

/// Returns the journal at the start of the agent: a run without a result was interrupted.
#[must_use]
pub fn recover_journal(mut journal: HostJournal) -> HostJournal {
    if let Some(run) = &mut journal.run
        && run.outcome == RunOutcome::Running
    {
        run.outcome = RunOutcome::Interrupted;
    }
    journal
}
