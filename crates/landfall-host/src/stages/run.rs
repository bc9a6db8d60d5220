//! Runs the steps of a stage and records their effects.

use landfall_core::stage::StageStep;

use crate::root::HostRoot;

use super::options::StageOptions;
use super::outcome::{ConditionOutcome, Effect, EffectOutcome, StageAction, StageError, StageReport, StepReport};
use super::{command, units, users, writes};

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
        let action = StageAction::Directory(directory.path.clone().into());
        let outcome = writes::ensure_stage_directory(directory, root, options).await;
        effects.push(Effect { action, outcome });
    }
    for file in &step.files {
        let action = StageAction::File(file.path.clone().into());
        let outcome = writes::ensure_stage_file(file, root, options).await;
        effects.push(Effect { action, outcome });
    }
    for (at, script) in step.commands.iter().enumerate() {
        let action = StageAction::Command(at + 1);
        let outcome = run_command(script, root, options).await;
        effects.push(Effect { action, outcome });
    }
    for user in &step.users {
        let action = StageAction::User(user.name.clone());
        let outcome = users::ensure_user(user, root, options).await;
        effects.push(Effect { action, outcome });
    }
    effects.extend(units::ensure_units(&step.systemctl, root, options).await);
    if let Some(environment) = &step.environment {
        let action = StageAction::Variables(environment.path.clone().into());
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

#[cfg(test)]
mod tests;
