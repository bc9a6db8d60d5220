//! Output of `landfall check`: is every image at the source that the plan pulls it from?

use schemars::JsonSchema;
use serde::Serialize;

use super::{API_VERSION, ImageRow, reason};
use crate::settings::Unknowns;

/// The output of `landfall check`: the availability of every image of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CheckReport {
    /// Always `landfall.dev/v1alpha1`.
    pub api_version: &'static str,
    /// Always `Check`.
    pub kind: &'static str,
    /// The requested platforms; empty if every platform is accepted.
    pub platforms: Vec<String>,
    /// The reason why images may be missing from the list; null if it is complete.
    pub images_incomplete: Option<String>,
    /// The bundles that images are looked for in before a registry is asked, the preferred one first.
    pub bundles: Vec<String>,
    /// All images, in the order of work.
    pub images: Vec<CheckRow>,
    /// The numbers of images.
    pub summary: CheckSummary,
}

/// One image of a check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CheckRow {
    /// The image as the profile names it.
    #[serde(flatten)]
    pub image: ImageRow,
    /// The result for this image.
    pub state: CheckState,
    /// The reference at which the image was found, else the first that was tried; null if no source is allowed.
    pub reference: Option<String>,
    /// The bundle in which the image was found; null if it was not found in one.
    pub bundle: Option<String>,
    /// The digest that the registry or the bundle reports for it.
    pub digest: Option<String>,
    /// The requested platforms that the image does not have.
    pub missing_platforms: Vec<String>,
    /// The problem, in a sentence.
    pub problem: Option<String>,
    /// The solution: a command if a single one suffices, else an instruction.
    pub fix: Option<String>,
}

/// Availability of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CheckState {
    /// The image is available for every requested platform.
    Present,
    /// The image is available, but lacks a platform.
    Incomplete,
    /// The image is not available.
    Missing,
    /// The registry could not be asked.
    Unknown,
}

/// Numbers of images in a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CheckSummary {
    /// The number of available images.
    pub present: usize,
    /// The number of images that a bundle has.
    pub in_bundles: usize,
    /// The number of available images that lack a platform.
    pub incomplete: usize,
    /// The number of images that are not available.
    pub missing: usize,
    /// The number of images whose registry could not be asked.
    pub unknown: usize,
}

impl CheckReport {
    /// Makes the report and counts its rows. `unknowns` are the reasons why images may be missing.
    #[must_use]
    pub fn new(
        platforms: Vec<String>,
        bundles: Vec<String>,
        images: Vec<CheckRow>,
        unknowns: &Unknowns,
    ) -> CheckReport {
        let mut summary = CheckSummary::default();
        for row in &images {
            summary.in_bundles += usize::from(row.bundle.is_some());
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
            bundles,
            images_incomplete: reason(&unknowns.images),
            images,
            summary,
        }
    }

    /// Returns true if all images are known and available.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        let all_known = self.images_incomplete.is_none();
        all_known && self.images.iter().all(|row| row.state == CheckState::Present)
    }
}
