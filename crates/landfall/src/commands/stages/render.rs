//! Rows of the report of a stage's run, and the report as text for people.

use landfall_core::failure::error_chain;
use landfall_core::report::{StageCondition, StageEffectRow, StageResult, StageStepRow, StagesReport};
use landfall_host::files::FileChange;
use landfall_host::stages::{ConditionOutcome, Effect, EffectOutcome, StageReport};

/// Returns a row for each step of one part.
pub(super) fn rows(part: &str, report: &StageReport) -> Vec<StageStepRow> {
    report
        .steps
        .iter()
        .map(|step| {
            let (condition, condition_error) = match &step.condition {
                None => (None, None),
                Some(ConditionOutcome::True) => (Some(StageCondition::True), None),
                Some(ConditionOutcome::False) => (Some(StageCondition::False), None),
                Some(ConditionOutcome::NotAsked) => (Some(StageCondition::NotAsked), None),
                Some(ConditionOutcome::Failed(error)) => (Some(StageCondition::Failed), Some(error_chain(error))),
            };
            StageStepRow {
                part: part.to_owned(),
                name: step.name.clone(),
                location: step.location.clone(),
                condition,
                condition_error,
                effects: step.effects.iter().map(row).collect(),
            }
        })
        .collect()
}

fn row(effect: &Effect) -> StageEffectRow {
    let (result, error, diff) = match &effect.outcome {
        EffectOutcome::Ensured(FileChange::Created) => (StageResult::Created, None, None),
        EffectOutcome::Ensured(FileChange::Updated) => (StageResult::Updated, None, None),
        EffectOutcome::Ensured(FileChange::Unchanged) => (StageResult::Unchanged, None, None),
        EffectOutcome::Ran { .. } => (StageResult::Ran, None, None),
        EffectOutcome::WouldDo { diff } => (StageResult::WouldDo, None, diff.clone()),
        EffectOutcome::NotRun => (StageResult::NotRun, None, None),
        EffectOutcome::Failed(error) => (StageResult::Failed, Some(error_chain(error)), None),
    };
    StageEffectRow {
        action: effect.action.to_string(),
        result,
        error,
        diff,
    }
}

/// Renders the report for people.
pub(super) fn text(report: &StagesReport) -> String {
    let mut text = String::new();
    let mut line = |line: &str| {
        text.push_str(line);
        text.push('\n');
    };
    for step in &report.steps {
        let location = &step.location;
        line(&format!(
            "{}: {} ({}:{})",
            step.part, step.name, location.file, location.line
        ));
        match (&step.condition, &step.condition_error) {
            (Some(StageCondition::False), _) => line("  skipped    its condition is not met"),
            (Some(StageCondition::NotAsked), _) if !report.dry_run => {
                line("  skipped    its condition cannot be asked below another root");
            }
            (Some(StageCondition::NotAsked), _) => line("  if         its condition is met"),
            (Some(StageCondition::Failed), error) => {
                line(&format!(
                    "  failed     its condition: {}",
                    error.as_deref().unwrap_or_default()
                ));
            }
            (Some(StageCondition::True) | None, _) => {}
        }
        for effect in &step.effects {
            let error = effect
                .error
                .as_ref()
                .map(|error| format!(": {error}"))
                .unwrap_or_default();
            line(&format!("  {:<9}  {}{error}", effect.result.word(), effect.action));
            for diff_line in effect.diff.iter().flat_map(|diff| diff.lines()) {
                line(&format!("    {diff_line}"));
            }
        }
    }
    let summary = &report.summary;
    let counts = [
        (summary.done, "done"),
        (summary.would_do, "would be done"),
        (summary.unchanged, "unchanged"),
        (summary.not_run, "not run below this root"),
        (summary.failed, "failed"),
    ];
    let nonzero: Vec<String> = counts
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, word)| format!("{count} {word}"))
        .collect();
    let summary = match nonzero.is_empty() {
        true => "nothing to do".to_owned(),
        false => nonzero.join(", "),
    };
    line(&format!("stage {}: {summary}", report.stage));
    text
}
