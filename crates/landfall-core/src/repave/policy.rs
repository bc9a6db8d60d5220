//! Rules of the user for updates.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Approval of an update.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Approval {
    /// By a person.
    #[default]
    Manual,
    Auto,
}

/// `pack.drainPods` of the OS pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DrainPods {
    Always,
    Never,
    /// Only in a site of several hosts.
    #[default]
    Auto,
}

/// Rules of the user for an update. Deadlines are run time of the leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct RepavePolicy {
    pub approval: Approval,
    pub drain: DrainPods,
    /// Time for which a host must pass the gate without interruption.
    pub soak: Duration,
    pub prefetch_deadline: Duration,
    /// Time for which the next host may be blocked.
    pub preflight_deadline: Duration,
    pub cordon_deadline: Duration,
    pub drain_deadline: Duration,
    /// Time for which the leaderships of etcd and of the site may take. The update then goes on: an election follows.
    pub hand_over_deadline: Duration,
    pub upgrade_deadline: Duration,
    /// Time from the order to the next boot.
    pub reboot_deadline: Duration,
    /// Time for the gate, the soak time included only once.
    pub gate_deadline: Duration,
    /// Largest difference between the clock of a host and that of the leader.
    pub clock_skew_max: Duration,
}

impl Default for RepavePolicy {
    fn default() -> RepavePolicy {
        let minutes = |minutes: u64| Duration::from_secs(minutes * 60);
        RepavePolicy {
            approval: Approval::default(),
            drain: DrainPods::default(),
            soak: minutes(2),
            prefetch_deadline: minutes(24 * 60),
            preflight_deadline: minutes(60),
            cordon_deadline: minutes(5),
            drain_deadline: minutes(15),
            hand_over_deadline: minutes(1),
            upgrade_deadline: minutes(60),
            reboot_deadline: minutes(10),
            gate_deadline: minutes(20),
            clock_skew_max: Duration::from_secs(30),
        }
    }
}

impl DrainPods {
    /// Returns true if pods leave a host before its turn.
    #[must_use]
    pub fn applies(self, hosts: usize) -> bool {
        match self {
            DrainPods::Always => true,
            DrainPods::Never => false,
            DrainPods::Auto => hosts > 1,
        }
    }
}
