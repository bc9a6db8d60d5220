//! The answer of `landfall stages run`: what each step did, or would do.

use schemars::JsonSchema;
use serde::Serialize;

use super::API_VERSION;
use crate::diagnostic::Location;

/// What running a stage did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StagesReport {
    /// `landfall.dev/v1alpha1`.
    pub api_version: &'static str,
    /// `Stages`.
    pub kind: &'static str,
    /// The stage that was asked for.
    pub stage: String,
    /// The directory that stands for `/`.
    pub root: String,
    /// Whether it was only told what would be done.
    pub dry_run: bool,
    /// Every step, in order.
    pub steps: Vec<StageStepRow>,
    /// How many effects there were.
    pub summary: StagesSummary,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StageStepRow {
    /// The part of the stage: `boot.before`, `boot`, `boot.after`.
    pub part: String,
    /// The step's name.
    pub name: String,
    /// Where it is written.
    pub location: Location,
    /// What became of its condition; null where it has none.
    pub condition: Option<StageCondition>,
    /// Why the condition could not be asked.
    pub condition_error: Option<String>,
    /// What it did, in order.
    pub effects: Vec<StageEffectRow>,
}

/// What became of a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum StageCondition {
    /// It exited 0: the step ran.
    True,
    /// It exited otherwise: the step did not run.
    False,
    /// It was not asked: a dry run tells the step as if it ran; below another root it did not run.
    NotAsked,
    /// It could not be asked: the step did not run.
    Failed,
}

/// One thing that a step did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StageEffectRow {
    /// What, e.g. ``file `/etc/motd` ``; a command by its number.
    pub action: String,
    /// How it went.
    pub result: StageResult,
    /// Why it failed.
    pub error: Option<String>,
    /// What would change in a file, as a unified diff with secrets masked.
    pub diff: Option<String>,
}

/// How one effect went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum StageResult {
    /// It was not there.
    Created,
    /// It was there and differed.
    Updated,
    /// It was as it should be and was not touched.
    Unchanged,
    /// A command exited 0.
    Ran,
    /// It would be done.
    WouldDo,
    /// It would change the running host, and the root is another one.
    NotRun,
    /// It failed.
    Failed,
}

impl StageResult {
    /// The word for people.
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

/// How many effects there were.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StagesSummary {
    /// Created, updated or run.
    pub done: usize,
    /// As they should be.
    pub unchanged: usize,
    /// Would be done.
    pub would_do: usize,
    /// Left alone, as the root is not that of the running host.
    pub not_run: usize,
    /// Failed, conditions included.
    pub failed: usize,
}

impl StagesReport {
    /// The steps, counted.
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
