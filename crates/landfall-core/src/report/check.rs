//! The answer of `landfall check`: is every image where the plan pulls it from?

use schemars::JsonSchema;
use serde::Serialize;

use super::{API_VERSION, ImageRow};

/// Whether every image of a plan can be pulled, before anybody has to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CheckReport {
    /// `landfall.dev/v1alpha1`.
    pub api_version: &'static str,
    /// `Check`.
    pub kind: &'static str,
    /// The platforms that were asked for; empty when any will do.
    pub platforms: Vec<String>,
    /// Every image, in the order of work.
    pub images: Vec<CheckRow>,
    /// How many there are.
    pub summary: CheckSummary,
}

/// One image of a check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CheckRow {
    /// The image as the profile names it.
    #[serde(flatten)]
    pub image: ImageRow,
    /// Whether it is there.
    pub state: CheckState,
    /// Where it was found, else where it is looked for first; null when nothing may serve it.
    pub reference: Option<String>,
    /// The digest that the registry gives for it.
    pub digest: Option<String>,
    /// The platforms that were asked for and that it does not have.
    pub missing_platforms: Vec<String>,
    /// What is wrong, in a sentence.
    pub problem: Option<String>,
    /// What to do about it: a command where one command does it, else an instruction.
    pub fix: Option<String>,
}

/// Whether an image is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CheckState {
    /// It is, for every platform that was asked for.
    Present,
    /// It is, and lacks a platform.
    Incomplete,
    /// It is not.
    Missing,
    /// The registry could not be asked.
    Unknown,
}

/// How many images a check found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CheckSummary {
    /// There.
    pub present: usize,
    /// There, without a platform.
    pub incomplete: usize,
    /// Not there.
    pub missing: usize,
    /// Not known: the registry could not be asked.
    pub unknown: usize,
}

impl CheckReport {
    /// The rows, counted.
    #[must_use]
    pub fn new(platforms: Vec<String>, images: Vec<CheckRow>) -> CheckReport {
        let mut summary = CheckSummary::default();
        for row in &images {
            *match row.state {
                CheckState::Present => &mut summary.present,
                CheckState::Incomplete => &mut summary.incomplete,
                CheckState::Missing => &mut summary.missing,
                CheckState::Unknown => &mut summary.unknown,
            } += 1;
        }
        CheckReport {
            api_version: API_VERSION,
            kind: "Check",
            platforms,
            images,
            summary,
        }
    }

    /// Whether all of it is there.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.images.iter().all(|row| row.state == CheckState::Present)
    }
}
