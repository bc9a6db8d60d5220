//! Options for running a stage.

use std::time::Duration;

use camino::Utf8PathBuf;

/// Options for running a stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StageOptions {
    /// Report the effects without carrying them out. Conditions are commands and do not run either.
    pub dry_run: bool,
    /// The timeout of one command, also of a condition's command. After it the command and its children are killed.
    pub command_limit: Duration,
    /// Run commands on the running host even if the root is another directory; it is their working directory.
    pub commands_outside_root: bool,
    /// The program that manages units.
    pub systemctl: Utf8PathBuf,
}

impl Default for StageOptions {
    /// Returns options that carry out the effects, with a limit of ten minutes for a command, and no command outside
    /// the root.
    fn default() -> Self {
        StageOptions {
            dry_run: false,
            command_limit: Duration::from_secs(600),
            commands_outside_root: false,
            systemctl: Utf8PathBuf::from("systemctl"),
        }
    }
}
