//! What running a stage did, step by step. Nothing here prints a command or its output by itself: both may hold a secret.

use std::fmt;
use std::time::Duration;

use camino::Utf8PathBuf;
use landfall_core::diagnostic::Location;
use landfall_core::stage::accounts::AccountError;

use crate::files::{Change, FileError};
use crate::root::RootError;

/// What running a stage did.
#[derive(Debug)]
pub struct StageReport {
    /// One for each step, in order.
    pub steps: Vec<StepReport>,
}

impl StageReport {
    /// The steps of which something failed.
    pub fn failed_steps(&self) -> impl Iterator<Item = &StepReport> {
        self.steps.iter().filter(|step| step.failures().next().is_some())
    }
}

/// What one step did.
#[derive(Debug)]
pub struct StepReport {
    /// The step's name.
    pub name: String,
    /// Where it is written.
    pub location: Location,
    /// What became of its condition, when it has one.
    pub condition: Option<ConditionOutcome>,
    /// What it did, in order; empty when its condition kept it from running.
    pub effects: Vec<Effect>,
}

impl StepReport {
    /// Everything of it that failed: `None` is the condition.
    pub fn failures(&self) -> impl Iterator<Item = (Option<&Action>, &StageError)> {
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

    /// Whether it did something: changed what is on the host, or ran a command.
    #[must_use]
    pub fn did_something(&self) -> bool {
        (self.effects.iter()).any(|effect| match &effect.outcome {
            EffectOutcome::Ensured(change) => *change != Change::Unchanged,
            EffectOutcome::Ran { .. } => true,
            EffectOutcome::WouldDo { .. } | EffectOutcome::NotRun | EffectOutcome::Failed(_) => false,
        })
    }
}

/// What became of a step's `if`.
#[derive(Debug)]
pub enum ConditionOutcome {
    /// It exited 0: the step ran.
    True,
    /// It exited otherwise: the step did not run.
    False,
    /// It was not asked (dry run, or another root): the step did not run, or in a dry run is told as if it would.
    NotAsked,
    /// It could not be asked: the step did not run.
    Failed(StageError),
}

/// One thing that a step does.
#[derive(Debug)]
pub struct Effect {
    /// What.
    pub action: Action,
    /// How it went.
    pub outcome: EffectOutcome,
}

/// What a step does. Commands are told by their number: their text may hold a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Bring a directory into its state.
    Directory(Utf8PathBuf),
    /// Bring a file into its state.
    File(Utf8PathBuf),
    /// Run a command, counted from 1.
    Command(usize),
    /// Make a user, or set its password, groups and keys.
    User(String),
    /// Do something to a unit: `enable`, `disable`, `mask` or `start`.
    Unit {
        /// What to do.
        verb: &'static str,
        /// The unit.
        unit: String,
    },
    /// Have systemd read its units anew, because a drop-in changed.
    ReloadUnits,
    /// Set variables in a file.
    Variables(Utf8PathBuf),
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::Directory(path) => write!(f, "directory `{path}`"),
            Action::File(path) => write!(f, "file `{path}`"),
            Action::Command(number) => write!(f, "command {number}"),
            Action::User(name) => write!(f, "user `{name}`"),
            Action::Unit { verb, unit } => write!(f, "{verb} unit `{unit}`"),
            Action::ReloadUnits => f.write_str("reload units"),
            Action::Variables(path) => write!(f, "variables in `{path}`"),
        }
    }
}

/// How one effect went.
#[derive(Debug)]
pub enum EffectOutcome {
    /// It is as it should be.
    Ensured(Change),
    /// A command exited 0. The end of what it printed may hold a secret: for the terminal, not for events or logs.
    Ran {
        /// The last bytes of its output and errors, in the order they came.
        output: String,
    },
    /// A dry run: it would be done.
    WouldDo {
        /// What would change in a file, secrets masked.
        diff: Option<String>,
    },
    /// Not done, because it would change the running host and the root is another one.
    NotRun,
    /// It failed.
    Failed(StageError),
}

impl EffectOutcome {
    /// Of a change or a failure.
    pub(super) fn of(result: Result<Change, StageError>) -> EffectOutcome {
        match result {
            Ok(change) => EffectOutcome::Ensured(change),
            Err(error) => EffectOutcome::Failed(error),
        }
    }
}

/// A step, or a part of it, failed.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// A file or directory could not be brought into its state.
    #[error(transparent)]
    File(#[from] FileError),
    /// `ownerstring` names nobody.
    #[error("cannot find {kind} `{name}` in `{table}`")]
    UnknownOwner {
        /// `user` or `group`.
        kind: &'static str,
        /// The name.
        name: String,
        /// `/etc/passwd` or `/etc/group`.
        table: &'static str,
    },
    /// The table of users or groups cannot be read.
    #[error("cannot look up an owner")]
    OwnerTable(#[from] RootError),
    /// A file that lines are to be added to is no text.
    #[error("cannot change `{path}`: it is no text")]
    NoText {
        /// The file.
        path: Utf8PathBuf,
    },
    /// A user cannot be made.
    #[error(transparent)]
    Account(#[from] AccountError),
    /// The user is there, and not in all groups.
    #[error("user `{user}` is not in `{}`: `/etc/group` has no such group", groups.join("`, `"))]
    MissingGroups {
        /// The user.
        user: String,
        /// The groups that are not there.
        groups: Vec<String>,
    },
    /// Keys cannot be put into a home directory.
    #[error("cannot put keys into `{home}`")]
    Home {
        /// The home directory.
        home: Utf8PathBuf,
        /// The cause; its paths are inside the home directory.
        #[source]
        source: FileError,
    },
    /// Randomness for a password's hash cannot be had.
    #[error("cannot hash the password of user `{user}`")]
    NoSalt {
        /// The user.
        user: String,
    },
    /// A program could not be started or watched.
    #[error("cannot run `{program}`")]
    Program {
        /// The program.
        program: String,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// The command exited with something else than 0, or was killed.
    #[error("the command ended with {status}")]
    Exit {
        /// `exit status: N` or the signal.
        status: std::process::ExitStatus,
        /// The last bytes of what it printed; may hold a secret.
        output: String,
    },
    /// `systemctl` did not do it; what it says holds no secret.
    #[error("systemctl ended with {status}: {}", output.trim())]
    Systemctl {
        /// `exit status: N` or the signal.
        status: std::process::ExitStatus,
        /// The last bytes of what it printed.
        output: String,
    },
    /// The command took too long and was killed.
    #[error("the command was killed: it ran longer than {} s", limit.as_secs())]
    Timeout {
        /// The limit.
        limit: Duration,
        /// The last bytes of what it printed; may hold a secret.
        output: String,
    },
}
