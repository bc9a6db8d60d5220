//! Runs the steps of a cloud-init stage (SPEC section 10.1): in order, directories before files before commands, as Kairos'
//! `yip` does. A failing step is recorded and the others still run.
//!
//! Below another root than `/` no command runs unless [`StageOptions::commands_outside_root`] says so: it would change the
//! running host (there is no chroot). A step whose condition may therefore not be asked is skipped.

mod command;
mod owner;

use std::fmt;
use std::time::Duration;

use camino::Utf8PathBuf;
use landfall_core::config::{Stage, StageDirectory, StageFile};
use landfall_core::diagnostic::Location;

use crate::files::{Change, DirectorySpec, FileError, FileSpec, ensure_directory, ensure_file, preview_file};
use crate::root::{HostRoot, RootError};

/// How a stage is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StageOptions {
    /// Only tell what would be done. Conditions are commands and are not run either.
    pub dry_run: bool,
    /// How long one command, or the command of one condition, may take; then it and its children are killed.
    pub command_limit: Duration,
    /// Run commands on the running host even if the root is another directory; it is their working directory.
    pub commands_outside_root: bool,
}

impl Default for StageOptions {
    /// For real, ten minutes a command, none outside the root.
    fn default() -> Self {
        StageOptions {
            dry_run: false,
            command_limit: Duration::from_secs(600),
            commands_outside_root: false,
        }
    }
}

/// What running a stage did, step by step.
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
    /// Everything of it that failed, the condition included.
    pub fn failures(&self) -> impl Iterator<Item = &StageError> {
        let condition = match &self.condition {
            Some(ConditionOutcome::Failed(error)) => Some(error),
            _ => None,
        };
        let effects = self.effects.iter().filter_map(|effect| match &effect.outcome {
            EffectOutcome::Failed(error) => Some(error),
            _ => None,
        });
        condition.into_iter().chain(effects)
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
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::Directory(path) => write!(f, "directory `{path}`"),
            Action::File(path) => write!(f, "file `{path}`"),
            Action::Command(number) => write!(f, "command {number}"),
        }
    }
}

/// How one effect went.
#[derive(Debug)]
pub enum EffectOutcome {
    /// A file or directory is as it should be.
    Ensured(Change),
    /// A command exited 0. The end of what it printed may hold a secret: for the terminal, not for events or logs.
    Ran {
        /// The last bytes of its output and errors, in the order they came.
        output: String,
    },
    /// A dry run: it would be done.
    WouldDo,
    /// A command that was not run, because the root is not that of the running host.
    NotRun,
    /// It failed.
    Failed(StageError),
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
    /// The shell could not be started or watched.
    #[error("cannot run `sh`")]
    Shell(#[source] std::io::Error),
    /// The command exited with something else than 0, or was killed.
    #[error("the command ended with {status}")]
    Exit {
        /// `exit status: N` or the signal.
        status: std::process::ExitStatus,
        /// The last bytes of what it printed; may hold a secret.
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

/// Runs the steps in order.
pub async fn run_stage(steps: &[Stage], root: &HostRoot, options: &StageOptions) -> StageReport {
    let mut reports = Vec::with_capacity(steps.len());
    for step in steps {
        reports.push(run_step(step, root, options).await);
    }
    StageReport { steps: reports }
}

async fn run_step(step: &Stage, root: &HostRoot, options: &StageOptions) -> StepReport {
    let condition = match &step.condition {
        Some(script) => Some(ask_condition(script, root, options).await),
        None => None,
    };
    let goes_on = match &condition {
        None | Some(ConditionOutcome::True) => true,
        Some(ConditionOutcome::NotAsked) => options.dry_run,
        Some(ConditionOutcome::False | ConditionOutcome::Failed(_)) => false,
    };
    let mut effects = Vec::new();
    if goes_on {
        for directory in &step.directories {
            let action = Action::Directory(directory.path.clone().into());
            effects.push(Effect {
                action,
                outcome: ensure_stage_directory(directory, root, options).await,
            });
        }
        for file in &step.files {
            let action = Action::File(file.path.clone().into());
            effects.push(Effect {
                action,
                outcome: ensure_stage_file(file, root, options).await,
            });
        }
        for (at, script) in step.commands.iter().enumerate() {
            let action = Action::Command(at + 1);
            effects.push(Effect {
                action,
                outcome: run_command(script, root, options).await,
            });
        }
    }
    StepReport {
        name: step.name.clone(),
        location: step.location.clone(),
        condition,
        effects,
    }
}

fn commands_run(root: &HostRoot, options: &StageOptions) -> bool {
    root.is_running_host() || options.commands_outside_root
}

async fn ask_condition(script: &str, root: &HostRoot, options: &StageOptions) -> ConditionOutcome {
    if options.dry_run || !commands_run(root, options) {
        return ConditionOutcome::NotAsked;
    }
    match command::run_shell(script, root.as_path(), options.command_limit).await {
        Ok(_) => ConditionOutcome::True,
        Err(StageError::Exit { .. }) => ConditionOutcome::False,
        Err(error) => ConditionOutcome::Failed(error),
    }
}

async fn run_command(script: &str, root: &HostRoot, options: &StageOptions) -> EffectOutcome {
    if !commands_run(root, options) {
        return EffectOutcome::NotRun;
    }
    if options.dry_run {
        return EffectOutcome::WouldDo;
    }
    match command::run_shell(script, root.as_path(), options.command_limit).await {
        Ok(output) => EffectOutcome::Ran { output },
        Err(error) => EffectOutcome::Failed(error),
    }
}

async fn ensure_stage_directory(wanted: &StageDirectory, root: &HostRoot, options: &StageOptions) -> EffectOutcome {
    if options.dry_run {
        return EffectOutcome::WouldDo;
    }
    let (owner, group) = owner::given(root, wanted.owner, wanted.group);
    let directory = DirectorySpec {
        path: wanted.path.clone().into(),
        mode: wanted.mode,
        owner,
        group,
    };
    let root = root.clone();
    ensured(blocking(move || Ok(ensure_directory(&root, &directory)?)).await)
}

async fn ensure_stage_file(wanted: &StageFile, root: &HostRoot, options: &StageOptions) -> EffectOutcome {
    let (wanted, root, dry_run) = (wanted.clone(), root.clone(), options.dry_run);
    let ensure = move || {
        let (owner, group) = match &wanted.owner_name {
            Some(name) => owner::find_owner(&root, name)?,
            None => (wanted.owner, wanted.group),
        };
        let (owner, group) = owner::given(&root, owner, group);
        let file = FileSpec {
            path: wanted.path.into(),
            mode: wanted.mode,
            owner,
            group,
            content: wanted.content.0,
        };
        Ok(if dry_run {
            preview_file(&root, &file)?
        } else {
            ensure_file(&root, &file)?
        })
    };
    match blocking(ensure).await {
        Ok(Change::Created | Change::Updated) if dry_run => EffectOutcome::WouldDo,
        other => ensured(other),
    }
}

fn ensured(result: Result<Change, StageError>) -> EffectOutcome {
    match result {
        Ok(change) => EffectOutcome::Ensured(change),
        Err(error) => EffectOutcome::Failed(error),
    }
}

/// Work that syncs to disk keeps off the runtime's threads.
async fn blocking(work: impl FnOnce() -> Result<Change, StageError> + Send + 'static) -> Result<Change, StageError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(failure) => std::panic::resume_unwind(failure.into_panic()),
    }
}

#[cfg(test)]
mod tests;
