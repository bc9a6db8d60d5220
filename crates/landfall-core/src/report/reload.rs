//! Output of `landfall reload`.

use schemars::JsonSchema;
use serde::Serialize;

use super::API_VERSION;
use crate::status::AgentStatus;

/// The output of `landfall reload`: the configuration that is active after the agent read its files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReloadReport {
    /// Always `landfall.dev/v1alpha1`.
    pub api_version: &'static str,
    /// Always `Reload`.
    pub kind: &'static str,
    /// The process ID of the agent.
    pub pid: u32,
    /// The number of the active configuration, which the agent counts; null if none is active.
    pub generation: Option<u64>,
    /// The SHA-256 of the active configuration, in hex; null if none is active.
    pub configuration: Option<String>,
    /// True if another configuration was active before.
    pub changed: bool,
    /// The errors of the files; null if they have none. The last valid configuration is active then.
    pub error: Option<String>,
}

impl ReloadReport {
    /// Compares the status after the files were read with that before.
    #[must_use]
    pub fn new(pid: u32, before: Option<&AgentStatus>, after: &AgentStatus) -> ReloadReport {
        ReloadReport {
            api_version: API_VERSION,
            kind: "Reload",
            pid,
            generation: after.generation,
            configuration: after.configuration.clone(),
            changed: before.is_none_or(|before| before.configuration != after.configuration),
            error: after.configuration_error.clone(),
        }
    }
}
