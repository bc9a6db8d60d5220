//! Output of `landfall uninstall`.

use schemars::JsonSchema;
use serde::Serialize;

use super::API_VERSION;

/// The output of `landfall uninstall`: all that Landfall left on the host and in the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UninstallReport {
    /// Always `landfall.dev/v1alpha1`.
    pub api_version: &'static str,
    /// Always `Uninstall`.
    pub kind: &'static str,
    /// True if nothing was removed: `--dry-run`.
    pub dry_run: bool,
    /// The things that were found, in the order of removal.
    pub items: Vec<UninstallRow>,
    /// The numbers of things.
    pub summary: UninstallSummary,
}

/// One thing that Landfall left, or that lies among its things.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UninstallRow {
    /// The kind of thing.
    pub what: UninstallKind,
    /// The path on the host, or kind and name of an object of the cluster.
    pub name: String,
    /// The outcome.
    pub state: UninstallState,
    /// The reason for `kept` and `left`; null for the other states.
    pub why: Option<String>,
}

/// A kind of thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum UninstallKind {
    /// An object of the cluster.
    ClusterObject,
    /// A file.
    File,
    /// A symbolic link.
    Link,
    /// A directory with all that is in it.
    Directory,
}

/// The outcome for one thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum UninstallState {
    /// It was removed.
    Removed,
    /// It would be removed without `--dry-run`.
    WouldRemove,
    /// It stays: it is the user's, or was asked to stay.
    Kept,
    /// It is Landfall's and could not be removed.
    Left,
}

/// Numbers of things.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UninstallSummary {
    /// The number of things that were removed.
    pub removed: usize,
    /// The number of things that would be removed.
    pub would_remove: usize,
    /// The number of things that stay on purpose.
    pub kept: usize,
    /// The number of things that could not be removed.
    pub left: usize,
}

impl UninstallReport {
    /// Counts the rows.
    #[must_use]
    pub fn new(dry_run: bool, items: Vec<UninstallRow>) -> UninstallReport {
        let count = |state| items.iter().filter(|row| row.state == state).count();
        UninstallReport {
            api_version: API_VERSION,
            kind: "Uninstall",
            dry_run,
            summary: UninstallSummary {
                removed: count(UninstallState::Removed),
                would_remove: count(UninstallState::WouldRemove),
                kept: count(UninstallState::Kept),
                left: count(UninstallState::Left),
            },
            items,
        }
    }
}

impl UninstallState {
    /// Returns the state as the report for people shows it.
    #[must_use]
    pub fn verb(self) -> &'static str {
        match self {
            UninstallState::Removed => "removed",
            UninstallState::WouldRemove => "would remove",
            UninstallState::Kept => "kept",
            UninstallState::Left => "left",
        }
    }
}
