//! Events of a stage: one for each step that changed something, one for each failure, one for the stage. A step that
//! changed nothing has no event, because the stages run every hour.

use landfall_core::failure::error_chain;
use landfall_core::status::{EventKind, EventReason};
use landfall_core::wording::counted;
use landfall_host::files::FileChange;
use landfall_host::stages::{Effect, EffectOutcome, StageAction, StageReport, StepReport};

/// Kind, reason, subject and message of an event.
pub type StageEvent = (EventKind, EventReason, String, String);

/// Returns the events of one part of a stage, in the order of its steps. The subject is the part. No message contains a
/// command, its output, or the content of a file.
#[must_use]
pub fn stage_events(part: &str, report: &StageReport) -> Vec<StageEvent> {
    let mut events = Vec::new();
    for step in &report.steps {
        let step_name = format!("step `{}` at {}", step.name, step.location);
        if step.did_something() {
            let message = format!("{step_name}: {}", describe_effects(step));
            events.push((EventKind::Normal, EventReason::StepFinished, part.to_owned(), message));
        }
        // A step continues after a failure, so that there may be several failures.
        for (action, error) in step.failures() {
            let what = match action {
                None => "`if`: ".to_owned(),
                // These errors name the file themselves.
                Some(StageAction::File(_) | StageAction::Directory(_) | StageAction::Variables(_)) => String::new(),
                Some(action) => format!("{action}: "),
            };
            let message = format!("{step_name}: {what}{}", error_chain(error));
            events.push((EventKind::Warning, EventReason::StageFailed, part.to_owned(), message));
        }
    }
    let failed = report.failed_steps().count();
    let steps = counted(report.steps.len(), "step");
    let message = match failed {
        0 => steps,
        failed => format!("{failed} of {steps} failed"),
    };
    events.push((EventKind::Normal, EventReason::StageFinished, part.to_owned(), message));
    events
}

fn describe_effects(step: &StepReport) -> String {
    let effects: Vec<String> = step.effects.iter().filter_map(describe_effect).collect();
    effects.join(", ")
}

fn describe_effect(effect: &Effect) -> Option<String> {
    let Effect { action, outcome } = effect;
    match outcome {
        EffectOutcome::Ensured(FileChange::Created) => Some(format!("created {action}")),
        EffectOutcome::Ensured(FileChange::Updated) => Some(match action {
            StageAction::Unit { .. } | StageAction::ReloadUnits => action.to_string(),
            _ => format!("updated {action}"),
        }),
        EffectOutcome::Ran { .. } => Some(format!("ran {action}")),
        EffectOutcome::Ensured(FileChange::Unchanged)
        | EffectOutcome::WouldDo { .. }
        | EffectOutcome::NotRun
        | EffectOutcome::Failed(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use landfall_core::diagnostic::Location;
    use landfall_host::stages::StageError;

    use super::*;

    fn mk_step(name: &str, outcomes: Vec<(StageAction, EffectOutcome)>) -> StepReport {
        let effects = outcomes.into_iter().map(|(action, outcome)| Effect { action, outcome });
        StepReport {
            name: name.to_owned(),
            location: Location {
                file: "user-data".into(),
                line: 7,
                column: 3,
                key: "stages.boot[0]".into(),
            },
            condition: None,
            effects: effects.collect(),
        }
    }

    #[test]
    fn steps_that_did_something_and_failures_are_told_and_quiet_ones_are_not() {
        let file = |path: &str| StageAction::File(path.into());
        let report = StageReport {
            steps: vec![
                mk_step(
                    "quiet",
                    vec![(file("/a"), EffectOutcome::Ensured(FileChange::Unchanged))],
                ),
                mk_step(
                    "busy",
                    vec![
                        (file("/a"), EffectOutcome::Ensured(FileChange::Created)),
                        (file("/b"), EffectOutcome::Ensured(FileChange::Updated)),
                        (
                            StageAction::Command(1),
                            EffectOutcome::Ran {
                                output: "canary".to_owned(),
                            },
                        ),
                        (
                            StageAction::User("kairos".to_owned()),
                            EffectOutcome::Failed(StageError::NoSalt {
                                user: "kairos".to_owned(),
                            }),
                        ),
                    ],
                ),
            ],
        };
        let messages: Vec<String> = stage_events("boot", &report)
            .into_iter()
            .map(|(kind, reason, subject, message)| format!("{kind:?} {reason:?} {subject}: {message}"))
            .collect();
        insta::assert_snapshot!(messages.join("\n"), @r"
        Normal StepFinished boot: step `busy` at user-data:7:3: created file `/a`, updated file `/b`, ran command 1
        Warning StageFailed boot: step `busy` at user-data:7:3: user `kairos`: cannot hash the password of user `kairos`
        Normal StageFinished boot: 1 of 2 steps failed
        ");
    }
}
