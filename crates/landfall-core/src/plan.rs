//! What is to be done, in what order: images against inventory.

use serde::Serialize;

use crate::config::{Finding, ImageRole, Settings};
use crate::inventory::Inventory;
use crate::reference::ImageReference;
use crate::resolve::{Candidate, Resolver, Warning};
use crate::status::Phase;

/// Where one image of the profile comes from and goes: a row of `landfall plan`.
#[derive(Debug, Clone)]
pub struct PlannedImage {
    /// Index into [`Settings::images`].
    pub image: usize,
    /// What it is for.
    pub role: ImageRole,
    /// Declared or discovered.
    pub finding: Finding,
    /// The canonical source.
    pub canonical: ImageReference,
    /// Where the agent fetches it, in order; never the primary registry. Canonical.
    pub pull: Vec<Candidate>,
    /// Where it stands in the primary registry, for application images.
    pub primary: Option<ImageReference>,
    /// What a pod's image becomes once everything is in place; canonical.
    pub runtime: ImageReference,
    /// A finding about this image.
    pub warning: Option<Warning>,
}

/// Every image of the profiles, resolved, in the order of work.
#[must_use]
pub fn plan_images(settings: &Settings, resolver: &Resolver<'_>) -> Vec<PlannedImage> {
    let _ = (settings, resolver);
    unimplemented!("contract")
}

/// One effect. A step leaves nothing to decide when it is applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Fetch an image whole into the content store, from the first candidate that has it.
    StoreImage {
        /// Index into the planned images.
        planned: usize,
        /// The canonical source: the name in the store.
        name: ImageReference,
        /// Why.
        reason: Reason,
    },
    /// Load the core images that ride in the provider image's layers into containerd.
    LoadCoreImages {
        /// The provider image's name in the store.
        provider: ImageReference,
        /// Why.
        reason: Reason,
    },
    /// Load a stored infrastructure image into containerd under these names.
    LoadImage {
        /// The name in the store.
        name: ImageReference,
        /// The names in containerd.
        as_names: Vec<String>,
        /// Why.
        reason: Reason,
    },
    /// Push a stored image to the primary registry.
    PushImage {
        /// The name in the store.
        name: ImageReference,
        /// Where to.
        target: ImageReference,
        /// Why.
        reason: Reason,
    },
}

/// Why a step is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// It is not in the content store.
    NotStored,
    /// containerd does not have it.
    NotLoaded,
    /// The primary registry does not hold it.
    NotInPrimary,
    /// The provider image is another than the one whose core images were loaded.
    ProviderChanged,
}

impl Step {
    /// The phase in which the step runs.
    #[must_use]
    pub fn phase(&self) -> Phase {
        match self {
            Step::StoreImage { .. } => Phase::Images,
            Step::LoadCoreImages { .. } => Phase::CoreImages,
            Step::LoadImage { .. } => Phase::Images,
            Step::PushImage { .. } => Phase::PrimaryRegistry,
        }
    }
}

/// The steps that lead from the inventory to the planned state, in order. Applied, they leave an empty plan.
#[must_use]
pub fn plan_steps(settings: &Settings, planned: &[PlannedImage], inventory: &Inventory) -> Vec<Step> {
    let _ = (settings, planned, inventory);
    unimplemented!("contract")
}
