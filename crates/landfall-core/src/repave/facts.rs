//! Facts about the hosts of a site, as the leader observes them before each decision.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::order::{BootId, HostJournal, RunOutcome};
use crate::host_name::HostName;
use crate::maintenance::WindowState;
use crate::reference::Digest;

/// Facts about a site.
#[derive(Debug, Clone)]
pub struct SiteFacts<'a> {
    /// The host of the leader, which decides.
    pub me: &'a HostName,
    /// True if the leader holds a Lease that another host can take. A named leader stays the leader.
    pub has_lease: bool,
    pub hosts: &'a BTreeMap<HostName, HostFacts>,
    pub window: WindowState,
    /// Run time of this agent since the last decision.
    pub elapsed: Duration,
}

/// Role of a host in the cluster. The control plane has its turns first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum HostRole {
    ControlPlane,
    Worker,
}

/// Facts about one host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostFacts {
    pub role: HostRole,
    pub node: NodeState,
    /// The report of its agent; `None` if the host does not answer.
    pub report: Option<HostReport>,
}

/// The knowledge of the cluster's API about a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeState {
    /// The site has no cluster.
    NoCluster,
    /// The API does not answer, or does not know the node.
    Unknown,
    Node(NodeFacts),
}

/// Facts about a node, from the API of the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeFacts {
    pub is_ready: bool,
    pub cordon: Cordon,
    /// Pods that a drain evicts: none of a DaemonSet, and no static ones.
    pub evictable_pods: usize,
}

/// Cordon of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cordon {
    None,
    /// With our annotation.
    Ours,
    Others,
}

/// System that a host runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Slot {
    /// The system that was installed last.
    Active,
    /// The system before, because the active one did not come up.
    Passive,
    Recovery,
}

/// Report of the agent of a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostReport {
    pub boot: BootId,
    pub slot: Slot,
    /// Fingerprint of the running system.
    pub system: String,
    /// Digest of the running image, if the driver can tell.
    pub image: Option<Digest>,
    pub journal: HostJournal,
    /// True if the store of the host has the wanted image.
    pub has_image: bool,
    /// True if the disk has room for the other slot.
    pub has_room: bool,
    /// Difference between the clock of the host and that of the leader.
    pub clock_skew: Duration,
    /// True if the system before can be booted; `None` if the driver cannot tell.
    pub can_fall_back: Option<bool>,
    /// True if changed stages wait for a boot.
    pub needs_reboot: bool,
    /// Facts about its etcd member, if it has one.
    pub etcd: Option<EtcdFacts>,
    /// True if the primary registry answers this host, or if there is none.
    pub primary_answers: bool,
    /// True if the agent is in its phase `Running`.
    pub is_running: bool,
}

/// Facts about an etcd member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EtcdFacts {
    /// Number of voting members that this member knows.
    pub members: usize,
    /// True if it is started, votes, and has the log of its leader: more than healthy.
    pub is_in_sync: bool,
    pub is_leader: bool,
}

impl HostFacts {
    /// Returns the cordon of the node; `None` if it is not known.
    #[must_use]
    pub fn cordon(&self) -> Option<Cordon> {
        match self.node {
            NodeState::Node(node) => Some(node.cordon),
            NodeState::NoCluster | NodeState::Unknown => None,
        }
    }

    /// Returns true if the node is ready, or if there is no cluster.
    pub(super) fn is_ready(&self) -> bool {
        match self.node {
            NodeState::NoCluster => true,
            NodeState::Unknown => false,
            NodeState::Node(node) => node.is_ready,
        }
    }

    /// Returns true if the host does its work: its agent is running, its node is ready, its etcd member is in sync.
    #[must_use]
    pub fn is_up(&self) -> bool {
        let has_report = self
            .report
            .as_ref()
            .is_some_and(|report| report.is_running && report.etcd.is_none_or(|etcd| etcd.is_in_sync));
        has_report && self.is_ready()
    }
}

impl HostReport {
    /// Returns true if the host runs this image; `None` if nothing tells. The driver's own knowledge comes first, then
    /// the last run of the driver with a boot after it: the active slot is then the one that it wrote.
    #[must_use]
    pub fn runs(&self, wanted: &Digest) -> Option<bool> {
        if let Some(image) = &self.image {
            return Some(image == wanted);
        }
        let run = self.journal.run.as_ref()?;
        let is_judged = run.outcome == RunOutcome::Succeeded && run.from_boot != self.boot && run.image == *wanted;
        is_judged.then_some(self.slot == Slot::Active)
    }
}
