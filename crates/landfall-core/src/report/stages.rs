//! Output of `landfall stages run`: the effects of each step, or those that it would have.

use schemars::JsonSchema;
use serde::Serialize;

use super::API_VERSION;
use crate::diagnostic::Location;

/// The result of running a stage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StagesReport {
    /// Always `landfall.dev/v1alpha1`.
    pub api_version: &'static str,
    /// Always `Stages`.
    pub kind: &'static str,
    /// The requested stage.
    pub stage: String,
    /// The directory that is used as `/`.
    pub root: String,
    /// True if the effects are only reported and not carried out.
    pub dry_run: bool,
    /// All steps, in order.
    pub steps: Vec<StageStepRow>,
    /// The numbers of effects.
    pub summary: StagesSummary,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StageStepRow {
    /// The part of the stage: `boot.before`, `boot`, `boot.after`.
    pub part: String,
    /// The name of the step.
    pub name: String,
    /// The position of the step in the input file.
    pub location: Location,
    /// The result of the condition; null if the step has none.
    pub condition: Option<StageCondition>,
    /// The error that prevented the evaluation of the condition.
    pub condition_error: Option<String>,
    /// The effects of the step, in order.
    pub effects: Vec<StageEffectRow>,
}

/// Result of a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum StageCondition {
    /// The condition exited with 0: the step ran.
    True,
    /// The condition exited with another code: the step did not run.
    False,
    /// The condition was not evaluated. A dry run reports the step as if it ran; below another root the step did not
    /// run.
    NotAsked,
    /// The condition could not be evaluated: the step did not run.
    Failed,
}

/// One effect of a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StageEffectRow {
    /// The effect, e.g. ``file `/etc/motd` ``; a command is named by its number.
    pub action: String,
    /// The result of the effect.
    pub result: StageResult,
    /// The error, if it failed.
    pub error: Option<String>,
    /// The change of a file, as a unified diff with secrets masked.
    pub diff: Option<String>,
}

/// Result of an effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum StageResult {
    /// The file or object did not exist and was created.
    Created,
    /// The file or object existed and was changed.
    Updated,
    /// The file or object was as wanted and was not touched.
    Unchanged,
    /// The command exited with 0.
    Ran,
    /// A dry run reports an effect that would be carried out.
    WouldDo,
    /// The effect would change the running host, but the root is another one.
    NotRun,
    /// The effect failed.
    Failed,
}

impl StageResult {
    /// Returns the word for the output.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            StageResult::Created => "created",
            StageResult::Updated => "updated",
            StageResult::Unchanged => "unchanged",
            StageResult::Ran => "ran",
            StageResult::WouldDo => "would do",
            StageResult::NotRun => "not run",
            StageResult::Failed => "failed",
        }
    }
}

/// Numbers of effects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StagesSummary {
    /// The number of effects that created, updated or ran something.
    pub done: usize,
    /// The number of effects without a change.
    pub unchanged: usize,
    /// The number of effects that would be carried out.
    pub would_do: usize,
    /// The number of effects that did not run because the root is not that of the running host.
    pub not_run: usize,
    /// The number of failures, including conditions.
    pub failed: usize,
}

impl StagesReport {
    /// Makes the report and counts its effects.
    #[must_use]
    pub fn new(stage: &str, root: &str, dry_run: bool, steps: Vec<StageStepRow>) -> StagesReport {
        let mut summary = StagesSummary::default();
        for step in &steps {
            summary.failed += usize::from(step.condition == Some(StageCondition::Failed));
            for effect in &step.effects {
                *match effect.result {
                    StageResult::Created | StageResult::Updated | StageResult::Ran => &mut summary.done,
                    StageResult::Unchanged => &mut summary.unchanged,
                    StageResult::WouldDo => &mut summary.would_do,
                    StageResult::NotRun => &mut summary.not_run,
                    StageResult::Failed => &mut summary.failed,
                } += 1;
            }
        }
        StagesReport {
            api_version: API_VERSION,
            kind: "Stages",
            stage: stage.to_owned(),
            root: root.to_owned(),
            dry_run,
            steps,
            summary,
        }
    }
}
