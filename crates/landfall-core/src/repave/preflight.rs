//! Checks before a host has its turn: the site must survive without it, and the host must have a way back.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::facts::{Cordon, SiteFacts};
use super::policy::RepavePolicy;
use super::{Change, Repave};
use crate::failure::Hint;
use crate::host_name::HostName;

/// Reason for which a host must not begin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Blocker {
    /// The host does not answer.
    Silent(HostName),
    /// Another host does not do its work: a second one must not go down.
    Down(HostName),
    /// Somebody else cordoned the node.
    CordonedByOthers(HostName),
    /// Without this host the etcd members would have no majority.
    Quorum { in_sync: usize, members: usize },
    /// The disk has no room for the image.
    NoRoom(HostName),
    /// The clock differs by this many seconds.
    ClockSkew(HostName, u64),
    /// The system before cannot be booted.
    NoWayBack(HostName),
}

impl fmt::Display for Blocker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Blocker::Silent(host) => write!(f, "the host `{host}` does not answer"),
            Blocker::Down(host) => write!(f, "the host `{host}` is not ready, and a second one must not go down"),
            Blocker::CordonedByOthers(host) => write!(f, "somebody else cordoned the node `{host}`"),
            Blocker::Quorum { in_sync, members } => write!(
                f,
                "{in_sync} of {members} etcd members are in sync: without one of them there is no majority"
            ),
            Blocker::NoRoom(host) => write!(f, "the disk of `{host}` has no room for the image"),
            Blocker::ClockSkew(host, seconds) => {
                write!(
                    f,
                    "the clock of `{host}` differs by {seconds} s from that of the leader"
                )
            }
            Blocker::NoWayBack(host) => write!(f, "the system before cannot be booted on `{host}`"),
        }
    }
}

impl Hint for Blocker {
    fn hint(&self) -> Option<Cow<'_, str>> {
        Some(match self {
            Blocker::Silent(host) | Blocker::Down(host) => {
                format!("see `landfall status` on `{host}`; start the host, or remove it from the site").into()
            }
            Blocker::CordonedByOthers(host) => {
                format!("finish the other maintenance, and run `kubectl uncordon {host}`").into()
            }
            Blocker::Quorum { .. } => "bring the members into sync; a control plane needs 1, 3 or 5 hosts".into(),
            Blocker::NoRoom(host) => format!("free space on `{host}`").into(),
            Blocker::ClockSkew(host, _) => format!("set the clock of `{host}`: check its NTP servers").into(),
            Blocker::NoWayBack(host) => format!("repair the passive system of `{host}`").into(),
        })
    }
}

/// Returns the reasons for which a host must not begin its turn.
pub(super) fn blockers(repave: &Repave, host: &HostName, site: &SiteFacts<'_>, policy: &RepavePolicy) -> Vec<Blocker> {
    let mut found = others_down(host, site);
    for (name, facts) in site.hosts {
        if facts.cordon() == Some(Cordon::Others) {
            found.push(Blocker::CordonedByOthers(name.clone()));
        }
        let Some(report) = &facts.report else {
            // Another host that does not answer is in the list already.
            if name == host {
                found.push(Blocker::Silent(name.clone()));
            }
            continue;
        };
        if report.clock_skew > policy.clock_skew_max {
            found.push(Blocker::ClockSkew(name.clone(), report.clock_skew.as_secs()));
        }
        if let (Change::Upgrade { .. }, true) = (&repave.change, name == host) {
            if !report.has_room {
                found.push(Blocker::NoRoom(name.clone()));
            }
            if report.can_fall_back == Some(false) {
                found.push(Blocker::NoWayBack(name.clone()));
            }
        }
    }
    found
}

/// Returns the reasons in the other hosts: asked again right before the host goes down. The etcd member of the host
/// itself does not count, so that a host that failed can have another turn.
pub(super) fn others_down(host: &HostName, site: &SiteFacts<'_>) -> Vec<Blocker> {
    let others = || site.hosts.iter().filter(|(name, _)| *name != host);
    let mut found: Vec<Blocker> = others()
        .filter(|(_, facts)| !facts.is_up())
        .map(|(name, facts)| match facts.report {
            None => Blocker::Silent(name.clone()),
            Some(_) => Blocker::Down(name.clone()),
        })
        .collect();
    let etcd_of = |name: &HostName| site.hosts.get(name).and_then(|facts| facts.report.as_ref()?.etcd);
    if etcd_of(host).is_some() {
        let known = site.hosts.keys().filter_map(etcd_of);
        let members = known.map(|etcd| etcd.members).max().unwrap_or(1);
        let in_sync = others()
            .filter_map(|(name, _)| etcd_of(name))
            .filter(|etcd| etcd.is_in_sync)
            .count();
        if members > 1 && in_sync < members / 2 + 1 {
            let own = usize::from(etcd_of(host).is_some_and(|etcd| etcd.is_in_sync));
            found.push(Blocker::Quorum {
                in_sync: in_sync + own,
                members,
            });
        }
    }
    found
}
