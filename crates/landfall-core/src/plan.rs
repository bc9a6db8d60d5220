//! The agent's plan: the difference between the images and the inventory, as ordered steps.

pub mod phases;

use std::collections::{BTreeMap, BTreeSet, HashSet};

use serde::Serialize;

use crate::reference::{Digest, ImageReference};
use crate::resolve::{Candidate, Resolver, Warning, Why};
use crate::settings::{Finding, ImageRole, ProfileImage, Settings};
use crate::status::Phase;

/// The facts that a plan is made against: the content of this host and its registries, as far as it is known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inventory {
    /// Images that are complete in the content store: canonical source reference to manifest digest.
    pub stored: BTreeMap<ImageReference, Digest>,
    /// Provider images (by manifest digest) whose core images are all in containerd.
    pub core_loaded: BTreeSet<Digest>,
    /// Image names that containerd has, in namespace `k8s.io`, with their target digests.
    pub runtime: BTreeMap<String, Digest>,
    /// References that the primary registry is known to hold, with their digests.
    pub primary: BTreeMap<ImageReference, Digest>,
}

/// Sources and targets of one image of the profile: a row of `landfall plan`.
#[derive(Debug, Clone)]
pub struct PlannedImage {
    /// The index into [`Settings::images`].
    pub image: usize,
    pub role: ImageRole,
    /// Declared or discovered.
    pub finding: Finding,
    pub canonical: ImageReference,
    /// The sources from which the agent fetches the image, in order; canonical. The primary registry is among them only
    /// if the profile itself names it. Empty if sync from the origin is forbidden and no other source is allowed: then
    /// a person has to push the image.
    pub pull: Vec<Candidate>,
    /// The image's reference in the primary registry, for application images.
    pub primary: Option<ImageReference>,
    /// The image of a pod once all phases are done; canonical.
    pub runtime: ImageReference,
    pub warning: Option<Warning>,
}

/// Resolves every image of the profiles. The result has the order of work: provider image, infrastructure,
/// applications; within each, the order of the profiles.
#[must_use]
pub fn plan_images(settings: &Settings, resolver: &Resolver<'_>) -> Vec<PlannedImage> {
    let mut planned: Vec<PlannedImage> = settings
        .images
        .iter()
        .enumerate()
        .map(|(index, image)| plan_image(index, image, resolver))
        .collect();
    planned.sort_by_key(|image| image.role);
    planned
}

fn plan_image(index: usize, image: &ProfileImage, resolver: &Resolver<'_>) -> PlannedImage {
    let canonical = image.reference.canonical();
    let resolution = resolver.resolve_on_host(&canonical, image.role);
    let primary = match resolution.primary() {
        Some(candidate) => Some(candidate.reference.clone()),
        // While redirection is off, the primary registry is filled, although no pod pulls from it.
        None => resolver.primary_target(&canonical, image.role),
    };
    let runtime = resolution.runtime(true).reference.clone();
    let mut pull = resolution.candidates;
    pull.retain(|candidate| candidate.why != Why::Primary);
    PlannedImage {
        image: index,
        role: image.role,
        finding: image.finding,
        canonical,
        pull,
        primary,
        runtime,
        warning: resolution.warning,
    }
}

/// One effect. Applying a step needs no further decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Fetch a complete image into the content store, from the first candidate that has it.
    StoreImage {
        /// The index into the planned images.
        planned: usize,
        /// The role, which decides the phase.
        role: ImageRole,
        /// The canonical source, which is the name in the store.
        name: ImageReference,
        reason: Reason,
    },
    /// Load the core images, which are files in the layers of the provider image, into containerd; into the content
    /// store if containerd is disabled.
    LoadCoreImages {
        /// The provider image's name in the store.
        provider: ImageReference,
        reason: Reason,
    },
    /// Load a stored infrastructure image into containerd under these names.
    LoadImage {
        /// The name in the store.
        name: ImageReference,
        /// The names in containerd.
        as_names: Vec<String>,
        reason: Reason,
    },
    /// Push a stored image to the primary registry.
    PushImage {
        /// The name in the store.
        name: ImageReference,
        target: ImageReference,
        reason: Reason,
    },
}

/// Reason for a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// The content store does not have the image.
    NotStored,
    /// containerd does not have the image.
    NotLoaded,
    /// The primary registry does not have the image.
    NotInPrimary,
    /// The provider image differs from the one whose core images were loaded.
    ProviderChanged,
}

impl Step {
    /// Returns the phase in which the step runs.
    #[must_use]
    pub fn phase(&self) -> Phase {
        match self {
            Step::StoreImage {
                role: ImageRole::Provider,
                ..
            } => Phase::ProviderImage,
            Step::StoreImage { .. } | Step::LoadImage { .. } => Phase::Images,
            Step::LoadCoreImages { .. } => Phase::CoreImages,
            Step::PushImage { .. } => Phase::PrimaryRegistry,
        }
    }
}

/// Plans the steps from the inventory to the planned state, in order: the provider image and its core images, then the
/// infrastructure that a node needs to become ready, then applications, then the primary registry. After all steps are
/// applied, the plan is empty.
#[must_use]
pub fn plan_steps(settings: &Settings, planned: &[PlannedImage], inventory: &Inventory) -> Vec<Step> {
    let containerd = settings.landfall.containerd_enable;
    let mut steps = Vec::new();
    let mut names = HashSet::new();
    for role in [ImageRole::Provider, ImageRole::Infrastructure, ImageRole::Application] {
        let images: Vec<(usize, &PlannedImage)> = planned
            .iter()
            .enumerate()
            .filter(|(_, image)| image.role == role && names.insert(&image.canonical))
            .collect();
        steps.extend(
            images
                .iter()
                .filter_map(|(index, image)| store_step(*index, image, inventory)),
        );
        let images = images.into_iter().map(|(_, image)| image);
        match role {
            // The step is also needed without containerd: the core images are then kept in the content store, and none
            // is lost.
            ImageRole::Provider => {
                steps.extend(images.filter_map(|image| core_step(image, inventory)));
            }
            ImageRole::Infrastructure if containerd => {
                steps.extend(images.filter_map(|image| load_step(image, inventory)));
            }
            ImageRole::Infrastructure => {}
            ImageRole::Application => {
                // Two sources may have the same name in the primary registry. The first one keeps it; otherwise each
                // run would replace one by the other.
                let mut targets = HashSet::new();
                steps.extend(
                    images
                        .filter(|image| image.primary.as_ref().is_none_or(|target| targets.insert(target)))
                        .filter_map(|image| push_step(image, inventory)),
                );
            }
        }
    }
    steps
}

fn store_step(index: usize, image: &PlannedImage, inventory: &Inventory) -> Option<Step> {
    let stored = inventory.stored.contains_key(&image.canonical);
    // A person has pushed the image to the primary registry, and the agent has no source for it.
    let brought = image.pull.is_empty()
        && image
            .primary
            .as_ref()
            .is_some_and(|name| inventory.primary.contains_key(name));
    (!stored && !brought).then(|| Step::StoreImage {
        planned: index,
        role: image.role,
        name: image.canonical.clone(),
        reason: Reason::NotStored,
    })
}

fn core_step(image: &PlannedImage, inventory: &Inventory) -> Option<Step> {
    let loaded = inventory
        .stored
        .get(&image.canonical)
        .is_some_and(|digest| inventory.core_loaded.contains(digest));
    (!loaded).then(|| Step::LoadCoreImages {
        provider: image.canonical.clone(),
        reason: if inventory.core_loaded.is_empty() {
            Reason::NotLoaded
        } else {
            Reason::ProviderChanged
        },
    })
}

fn load_step(image: &PlannedImage, inventory: &Inventory) -> Option<Step> {
    let mut as_names = vec![image.canonical.runtime_name()];
    let runtime = image.runtime.runtime_name();
    if !as_names.contains(&runtime) {
        as_names.push(runtime);
    }
    let stored = inventory.stored.get(&image.canonical);
    let loaded = as_names
        .iter()
        .all(|name| stored.is_some() && inventory.runtime.get(name) == stored);
    (!loaded).then(|| Step::LoadImage {
        name: image.canonical.clone(),
        as_names,
        reason: Reason::NotLoaded,
    })
}

fn push_step(image: &PlannedImage, inventory: &Inventory) -> Option<Step> {
    let target = image.primary.as_ref()?;
    let held = inventory.primary.get(target);
    let wanted = inventory.stored.get(&image.canonical);
    let current = match (held, wanted) {
        (Some(held), Some(wanted)) => held == wanted,
        (Some(_), None) => image.pull.is_empty(),
        (None, _) => false,
    };
    (!current).then(|| Step::PushImage {
        name: image.canonical.clone(),
        target: target.clone(),
        reason: Reason::NotInPrimary,
    })
}
