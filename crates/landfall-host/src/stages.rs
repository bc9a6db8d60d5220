//! Execution of the steps of a stage [spec:stages]: in order, and within a step directories, files, commands, users,
//! units and variables, as Kairos' `yip` does. A failure is recorded, and the rest still runs.
//!
//! If the root is not `/`, no command runs unless [`StageOptions::commands_outside_root`] is set, and no unit is
//! started, because both would change the running host (there is no chroot). A step with a condition that therefore
//! cannot be evaluated is skipped.

mod command;
mod crypt;
mod outcome;
mod owner;
mod units;
mod users;
mod writes;

use std::time::Duration;

use camino::Utf8PathBuf;
use landfall_core::stage::StageStep;

use crate::root::HostRoot;

pub use outcome::{Action, ConditionOutcome, Effect, EffectOutcome, StageError, StageReport, StepReport};

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

/// Runs the steps in order.
pub async fn run_stage(steps: &[StageStep], root: &HostRoot, options: &StageOptions) -> StageReport {
    let mut reports = Vec::with_capacity(steps.len());
    for step in steps {
        reports.push(run_step(step, root, options).await);
    }
    StageReport { steps: reports }
}

async fn run_step(step: &StageStep, root: &HostRoot, options: &StageOptions) -> StepReport {
    let condition = match &step.condition {
        Some(script) => Some(ask_condition(script, root, options).await),
        None => None,
    };
    let goes_on = match &condition {
        None | Some(ConditionOutcome::True) => true,
        Some(ConditionOutcome::NotAsked) => options.dry_run,
        Some(ConditionOutcome::False | ConditionOutcome::Failed(_)) => false,
    };
    let effects = if goes_on {
        run_parts(step, root, options).await
    } else {
        Vec::new()
    };
    StepReport {
        name: step.name.clone(),
        location: step.location.clone(),
        condition,
        effects,
    }
}

async fn run_parts(step: &StageStep, root: &HostRoot, options: &StageOptions) -> Vec<Effect> {
    let mut effects = Vec::new();
    for directory in &step.directories {
        let action = Action::Directory(directory.path.clone().into());
        let outcome = writes::ensure_stage_directory(directory, root, options).await;
        effects.push(Effect { action, outcome });
    }
    for file in &step.files {
        let action = Action::File(file.path.clone().into());
        let outcome = writes::ensure_stage_file(file, root, options).await;
        effects.push(Effect { action, outcome });
    }
    for (at, script) in step.commands.iter().enumerate() {
        let action = Action::Command(at + 1);
        let outcome = run_command(script, root, options).await;
        effects.push(Effect { action, outcome });
    }
    for user in &step.users {
        let action = Action::User(user.name.clone());
        let outcome = users::ensure_user(user, root, options).await;
        effects.push(Effect { action, outcome });
    }
    effects.extend(units::ensure_units(&step.systemctl, root, options).await);
    if let Some(environment) = &step.environment {
        let action = Action::Variables(environment.path.clone().into());
        let outcome = writes::ensure_environment(environment, root, options).await;
        effects.push(Effect { action, outcome });
    }
    effects
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
        return EffectOutcome::WouldDo { diff: None };
    }
    match command::run_shell(script, root.as_path(), options.command_limit).await {
        Ok(output) => EffectOutcome::Ran { output },
        Err(error) => EffectOutcome::Failed(error),
    }
}

/// Runs work that syncs to disk outside of the runtime's threads.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(failure) => std::panic::resume_unwind(failure.into_panic()),
    }
}

#[cfg(test)]
mod tests;
