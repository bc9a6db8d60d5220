//! Changes of systemd units. Each unit's state is read first, so that a unit in the wanted state is not touched.
//! `systemctl` makes the changes; it also works on a root that is not running.

use landfall_core::stage::Systemctl;

use crate::files::FileChange;
use crate::root::HostRoot;

use super::options::StageOptions;
use super::outcome::{Effect, EffectOutcome, StageAction, StageError};
use super::{command, writes};

/// The verb, the query before it, and the answer that means that the unit needs no change.
const VERBS: [(&str, &str, &str); 4] = [
    ("enable", "is-enabled", "enabled"),
    ("disable", "is-enabled", "disabled"),
    ("mask", "is-enabled", "masked"),
    ("start", "is-active", "active"),
];

/// Writes the drop-ins, reloads systemd, then enables, disables, masks and starts, in this order.
pub(super) async fn ensure_units(wanted: &Systemctl, root: &HostRoot, options: &StageOptions) -> Vec<Effect> {
    let mut effects = Vec::new();
    let mut changed = false;
    for file in &wanted.overrides {
        let outcome = writes::ensure_stage_file(file, root, options).await;
        changed |= matches!(
            outcome,
            EffectOutcome::Ensured(FileChange::Created | FileChange::Updated)
        );
        let action = StageAction::File(file.path.clone().into());
        effects.push(Effect { action, outcome });
    }
    if changed && root.is_running_host() {
        let outcome = match systemctl(&["daemon-reload"], root, options).await {
            Ok(_) => EffectOutcome::Ensured(FileChange::Updated),
            Err(error) => EffectOutcome::Failed(error),
        };
        let action = StageAction::ReloadUnits;
        effects.push(Effect { action, outcome });
    }
    let lists = [&wanted.enable, &wanted.disable, &wanted.mask, &wanted.start];
    for ((verb, question, done), units) in VERBS.into_iter().zip(lists) {
        for unit in units {
            let outcome = ensure_unit(verb, question, done, unit, root, options).await;
            let unit = unit.clone();
            effects.push(Effect {
                action: StageAction::Unit { verb, unit },
                outcome,
            });
        }
    }
    effects
}

async fn ensure_unit(
    verb: &'static str,
    question: &str,
    done: &str,
    unit: &str,
    root: &HostRoot,
    options: &StageOptions,
) -> EffectOutcome {
    if verb == "start" && !root.is_running_host() {
        return EffectOutcome::NotRun;
    }
    // Every state but the wanted one has an exit status of its own, so the output is the answer.
    let answer = match systemctl(&[question, "--", unit], root, options).await {
        Ok(output) | Err(StageError::Systemctl { output, .. }) => output,
        Err(error) => return EffectOutcome::Failed(error),
    };
    if answer.lines().last().map(str::trim) == Some(done) {
        return EffectOutcome::Ensured(FileChange::Unchanged);
    }
    if options.dry_run {
        return EffectOutcome::WouldDo { diff: None };
    }
    match systemctl(&[verb, "--", unit], root, options).await {
        Ok(_) => EffectOutcome::Ensured(FileChange::Updated),
        Err(error) => EffectOutcome::Failed(error),
    }
}

async fn systemctl(arguments: &[&str], root: &HostRoot, options: &StageOptions) -> Result<String, StageError> {
    let mut command = tokio::process::Command::new(options.systemctl.as_std_path());
    if !root.is_running_host() {
        command.arg(format!("--root={}", root.as_path()));
    }
    command.arg("--no-ask-password").args(arguments);
    match command::run_program(command, options.systemctl.as_str(), options.command_limit).await {
        Err(StageError::Exit { status, output }) => Err(StageError::Systemctl { status, output }),
        other => other,
    }
}
