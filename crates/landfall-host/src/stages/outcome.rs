//! Results of running a stage, step by step. No type here prints a command or its output by itself, because both may
//! hold a secret.

use std::fmt;
use std::time::Duration;

use camino::Utf8PathBuf;
use landfall_core::diagnostic::Location;
use landfall_core::stage::accounts::AccountError;

use crate::files::{FileChange, FileError};
use crate::root::RootError;

/// Result of a stage.
#[derive(Debug)]
pub struct StageReport {
    /// One report for each step, in order.
    pub steps: Vec<StepReport>,
}

impl StageReport {
    /// Returns the steps with at least one failure.
    pub fn failed_steps(&self) -> impl Iterator<Item = &StepReport> {
        self.steps.iter().filter(|step| step.failures().next().is_some())
    }
}

/// Result of one step.
#[derive(Debug)]
pub struct StepReport {
    pub name: String,
    /// The position of the step in the input file.
    pub location: Location,
    /// The result of the condition, if the step has one.
    pub condition: Option<ConditionOutcome>,
    /// The effects in order; empty if the condition prevented the step.
    pub effects: Vec<Effect>,
}

impl StepReport {
    /// Returns all failures of the step. `None` in place of the action means the condition.
    pub fn failures(&self) -> impl Iterator<Item = (Option<&StageAction>, &StageError)> {
        let condition = match &self.condition {
            Some(ConditionOutcome::Failed(error)) => Some((None, error)),
            _ => None,
        };
        let effects = self.effects.iter().filter_map(|effect| match &effect.outcome {
            EffectOutcome::Failed(error) => Some((Some(&effect.action), error)),
            _ => None,
        });
        condition.into_iter().chain(effects)
    }

    /// Returns true if the step changed the host or ran a command.
    #[must_use]
    pub fn did_something(&self) -> bool {
        self.effects.iter().any(|effect| match &effect.outcome {
            EffectOutcome::Ensured(change) => *change != FileChange::Unchanged,
            EffectOutcome::Ran { .. } => true,
            EffectOutcome::WouldDo { .. } | EffectOutcome::NotRun | EffectOutcome::Failed(_) => false,
        })
    }
}

/// Result of a step's `if`.
#[derive(Debug)]
pub enum ConditionOutcome {
    /// The condition exited with 0: the step ran.
    True,
    /// The condition exited with another code: the step did not run.
    False,
    /// The condition was not evaluated (dry run, or another root). A dry run reports the step as if it would run;
    /// otherwise the step did not run.
    NotAsked,
    /// The condition could not be evaluated: the step did not run.
    Failed(StageError),
}

/// One effect of a step.
#[derive(Debug)]
pub struct Effect {
    pub action: StageAction,
    pub outcome: EffectOutcome,
}

/// Action of a step. Commands are identified by number, because their text may hold a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StageAction {
    /// Bring a directory into its state.
    Directory(Utf8PathBuf),
    /// Bring a file into its state.
    File(Utf8PathBuf),
    /// Run a command, counted from 1.
    Command(usize),
    /// Create a user, or set its password, groups and keys.
    User(String),
    /// Change a unit.
    Unit {
        /// One of `enable`, `disable`, `mask` and `start`.
        verb: &'static str,
        unit: String,
    },
    /// Make systemd reload its units, because a drop-in changed.
    ReloadUnits,
    /// Set variables in a file.
    Variables(Utf8PathBuf),
}

impl fmt::Display for StageAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StageAction::Directory(path) => write!(f, "directory `{path}`"),
            StageAction::File(path) => write!(f, "file `{path}`"),
            StageAction::Command(number) => write!(f, "command {number}"),
            StageAction::User(name) => write!(f, "user `{name}`"),
            StageAction::Unit { verb, unit } => write!(f, "{verb} unit `{unit}`"),
            StageAction::ReloadUnits => f.write_str("reload units"),
            StageAction::Variables(path) => write!(f, "variables in `{path}`"),
        }
    }
}

/// Result of one effect.
#[derive(Debug)]
pub enum EffectOutcome {
    /// The wanted state is reached.
    Ensured(FileChange),
    /// A command exited with 0. The end of its output may hold a secret: it is for the terminal, not for events or
    /// logs.
    Ran {
        /// The last bytes of its output and errors, in order of arrival.
        output: String,
    },
    /// A dry run reports a change that would be made.
    WouldDo {
        /// The change of a file, with secrets masked.
        diff: Option<String>,
    },
    /// The effect was skipped, because it would change the running host and the root is another directory.
    NotRun,
    Failed(StageError),
}

impl EffectOutcome {
    /// Converts the result of a change.
    pub(super) fn of(result: Result<FileChange, StageError>) -> EffectOutcome {
        match result {
            Ok(change) => EffectOutcome::Ensured(change),
            Err(error) => EffectOutcome::Failed(error),
        }
    }
}

/// Failure of a step or of a part of it.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// A file or directory could not be brought into its state.
    #[error(transparent)]
    File(#[from] FileError),
    /// The key `ownerstring` names an unknown user or group.
    #[error("cannot find {kind} `{name}` in `{table}`")]
    UnknownOwner {
        /// Either `user` or `group`.
        kind: &'static str,
        name: String,
        /// Either `/etc/passwd` or `/etc/group`.
        table: &'static str,
    },
    /// The table of users or groups cannot be read.
    #[error("cannot look up an owner")]
    OwnerTable(#[from] RootError),
    /// A file to which lines are to be added is no text.
    #[error("cannot change `{path}`: it is no text")]
    NoText { path: Utf8PathBuf },
    /// A user cannot be created.
    #[error(transparent)]
    Account(#[from] AccountError),
    /// The user exists, but is not in all groups.
    #[error("user `{user}` is not in `{}`: `/etc/group` has no such group", groups.join("`, `"))]
    MissingGroups {
        user: String,
        /// The groups that do not exist.
        groups: Vec<String>,
    },
    /// Keys cannot be written into a home directory.
    #[error("cannot put keys into `{home}`")]
    Home {
        home: Utf8PathBuf,
        /// The cause; its paths are inside the home directory.
        #[source]
        source: FileError,
    },
    /// No random bytes are available for the hash of a password.
    #[error("cannot hash the password of user `{user}`")]
    NoSalt { user: String },
    /// A program could not be started or watched.
    #[error("cannot run `{program}`")]
    Program {
        program: String,
        #[source]
        source: std::io::Error,
    },
    /// The command exited with another code than 0, or was killed.
    #[error("the command ended with {status}")]
    Exit {
        /// The exit code or the signal.
        status: std::process::ExitStatus,
        /// The last bytes of its output, which may hold a secret.
        output: String,
    },
    /// The program `systemctl` failed. Its output holds no secret.
    #[error("systemctl ended with {status}: {}", output.trim())]
    Systemctl {
        /// The exit code or the signal.
        status: std::process::ExitStatus,
        /// The last bytes of its output.
        output: String,
    },
    /// The command took too long and was killed.
    #[error("the command was killed: it ran longer than {} s", limit.as_secs())]
    Timeout {
        limit: Duration,
        /// The last bytes of its output, which may hold a secret.
        output: String,
    },
}
