//! Reasons for which an update halts, and the advice that goes with each.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::preflight::Blocker;
use super::step::{TurnStep, Unmet};
use crate::failure::Hint;
use crate::host_name::HostName;
use crate::wording::quoted;

/// End of an update before its time. A person resumes or reverts it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Halt {
    /// The host that failed; `None` if none had its turn.
    pub host: Option<HostName>,
    pub reason: HaltReason,
}

/// Reason for which an update halts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum HaltReason {
    /// These hosts did not get the image in time.
    Prefetch(Vec<HostName>),
    /// This host was blocked for too long.
    Preflight(HostName, Vec<Blocker>),
    /// A step before the reboot, or the reboot itself, took too long.
    Deadline(TurnStep),
    DriverFailed,
    /// The driver was interrupted in each of its runs.
    DriverInterrupted,
    /// The host came up with its old system.
    RolledBack,
    /// The host did not pass the gate in time.
    Gate(Vec<Unmet>),
}

impl HaltReason {
    /// Returns true if the host is on its old system after a try of the new one.
    #[must_use]
    pub fn is_rolled_back(&self) -> bool {
        *self == HaltReason::RolledBack
    }
}

impl fmt::Display for HaltReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HaltReason::Prefetch(hosts) => write!(f, "these hosts did not get the image in time: {}", quoted(hosts)),
            HaltReason::Preflight(host, blockers) => {
                let texts: Vec<String> = blockers.iter().map(ToString::to_string).collect();
                write!(f, "the host `{host}` could not begin in time: {}", texts.join("; "))
            }
            HaltReason::Deadline(step) => write!(f, "the host did not finish the step `{step}` in time"),
            HaltReason::DriverFailed => f.write_str("the driver could not write the image"),
            HaltReason::DriverInterrupted => f.write_str("the driver was interrupted in each of its runs"),
            HaltReason::RolledBack => f.write_str("the host did not come up with the new system, and runs the old one"),
            HaltReason::Gate(unmet) => {
                let texts: Vec<String> = unmet.iter().map(ToString::to_string).collect();
                write!(f, "the host did not pass the gate in time: {}", texts.join("; "))
            }
        }
    }
}

impl Hint for HaltReason {
    fn hint(&self) -> Option<Cow<'_, str>> {
        Some(match self {
            HaltReason::Prefetch(_) => "check the sources of the image on these hosts with `landfall explain`, then \
                                        resume the update"
                .into(),
            HaltReason::Preflight(_, blockers) => {
                return blockers.first()?.hint().map(|hint| Cow::Owned(hint.into_owned()));
            }
            HaltReason::Deadline(TurnStep::Drain) => "find the PodDisruptionBudget that keeps the pods with `kubectl \
                                                      get pdb -A`, then resume the update"
                .into(),
            HaltReason::Deadline(_) | HaltReason::DriverInterrupted => {
                "look at the host, then resume or revert the update".into()
            }
            HaltReason::DriverFailed => "read the output of the driver in the log of the agent on that host, then \
                                         resume the update"
                .into(),
            HaltReason::RolledBack => "read the log of the boot that failed on that host, mend the image, and revert \
                                       this update"
                .into(),
            HaltReason::Gate(_) => "mend the host, then resume or revert the update".into(),
        })
    }
}
