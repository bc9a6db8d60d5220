//! The steps of a turn and the conditions of its gate.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Step of a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum TurnStep {
    Cordon,
    Drain,
    /// The leaderships of etcd and of the site go to other hosts.
    HandOver,
    Upgrade,
    Reboot,
    Gate,
    Uncordon,
}

impl fmt::Display for TurnStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TurnStep::Cordon => "cordon",
            TurnStep::Drain => "drain",
            TurnStep::HandOver => "hand over",
            TurnStep::Upgrade => "upgrade",
            TurnStep::Reboot => "reboot",
            TurnStep::Gate => "gate",
            TurnStep::Uncordon => "uncordon",
        })
    }
}

/// Condition of the gate that a host does not meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Unmet {
    Silent,
    NotRebooted,
    OldSystem,
    PassiveSlot,
    NodeNotReady,
    EtcdNotInSync,
    PrimarySilent,
    AgentNotRunning,
}

impl fmt::Display for Unmet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Unmet::Silent => "the host does not answer",
            Unmet::NotRebooted => "it has not booted again",
            Unmet::OldSystem => "it runs another system",
            Unmet::PassiveSlot => "it does not run the active system",
            Unmet::NodeNotReady => "its node is not ready",
            Unmet::EtcdNotInSync => "its etcd member is not in sync",
            Unmet::PrimarySilent => "the primary registry does not answer it",
            Unmet::AgentNotRunning => "its agent is not in the phase `Running`",
        })
    }
}
