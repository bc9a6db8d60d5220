//! What is to be done, in what order: images against inventory.

use std::collections::HashSet;

use serde::Serialize;

use crate::inventory::Inventory;
use crate::reference::ImageReference;
use crate::resolve::{Candidate, Resolver, Warning, Why};
use crate::settings::{Finding, ImageRole, ProfileImage, Settings};
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
    /// Where the agent fetches it, in order; never the primary registry, unless the profile itself names it. Canonical.
    /// Empty where sync from the origin is forbidden and nothing else may serve it: it has to be brought by hand.
    pub pull: Vec<Candidate>,
    /// Where it stands in the primary registry, for application images.
    pub primary: Option<ImageReference>,
    /// What a pod's image becomes once everything is in place; canonical.
    pub runtime: ImageReference,
    /// A finding about this image.
    pub warning: Option<Warning>,
}

/// Every image of the profiles, resolved, in the order of work: provider image, infrastructure, applications; within
/// each as the profiles write them.
#[must_use]
pub fn plan_images(settings: &Settings, resolver: &Resolver<'_>) -> Vec<PlannedImage> {
    let mut planned: Vec<PlannedImage> = (settings.images.iter().enumerate())
        .map(|(index, image)| plan_image(index, image, resolver))
        .collect();
    planned.sort_by_key(|image| image.role);
    planned
}

fn plan_image(index: usize, image: &ProfileImage, resolver: &Resolver<'_>) -> PlannedImage {
    let canonical = image.reference.canonical();
    let resolution = resolver.resolve(&canonical, image.role);
    let primary = match resolution.primary() {
        Some(candidate) => Some(candidate.reference.clone()),
        // While redirection is off, the primary registry is filled though nothing is pulled from it.
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

/// One effect. A step leaves nothing to decide when it is applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Fetch an image whole into the content store, from the first candidate that has it.
    StoreImage {
        /// Index into the planned images.
        planned: usize,
        /// What it is for: it decides the phase.
        role: ImageRole,
        /// The canonical source: the name in the store.
        name: ImageReference,
        /// Why.
        reason: Reason,
    },
    /// Load the core images that ride in the provider image's layers into containerd; into the store where containerd
    /// is switched off.
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

/// The steps that lead from the inventory to the planned state, in order: the provider image and what rides in it, then
/// the infrastructure that a node needs to become ready, then applications, then the primary registry. Applied, they
/// leave an empty plan.
#[must_use]
pub fn plan_steps(settings: &Settings, planned: &[PlannedImage], inventory: &Inventory) -> Vec<Step> {
    let containerd = settings.landfall.containerd_enable;
    let mut steps = Vec::new();
    let mut names = HashSet::new();
    for role in [ImageRole::Provider, ImageRole::Infrastructure, ImageRole::Application] {
        let images: Vec<(usize, &PlannedImage)> = (planned.iter().enumerate())
            .filter(|(_, image)| image.role == role && names.insert(&image.canonical))
            .collect();
        steps.extend(
            images
                .iter()
                .filter_map(|(index, image)| store_step(*index, image, inventory)),
        );
        let images = images.into_iter().map(|(_, image)| image);
        match role {
            // Also without containerd: then they are kept in the store, so that nothing is lost.
            ImageRole::Provider => {
                steps.extend(images.filter_map(|image| core_step(image, inventory)));
            }
            ImageRole::Infrastructure if containerd => {
                steps.extend(images.filter_map(|image| load_step(image, inventory)));
            }
            ImageRole::Infrastructure => {}
            ImageRole::Application => {
                // Two sources may have one name in the primary registry: the first one written is kept there, or the
                // two would replace each other for ever.
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
    // Brought by hand: it is in the primary registry, and there is no place that the agent may fetch it from.
    let brought =
        image.pull.is_empty() && (image.primary.as_ref()).is_some_and(|name| inventory.primary.contains_key(name));
    (!stored && !brought).then(|| Step::StoreImage {
        planned: index,
        role: image.role,
        name: image.canonical.clone(),
        reason: Reason::NotStored,
    })
}

fn core_step(image: &PlannedImage, inventory: &Inventory) -> Option<Step> {
    let loaded = (inventory.stored.get(&image.canonical)).is_some_and(|digest| inventory.core_loaded.contains(digest));
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
    let loaded = (as_names.iter()).all(|name| stored.is_some() && inventory.runtime.get(name) == stored);
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
