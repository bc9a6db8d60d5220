//! Carries out the steps of the plan. It decides the order in time alone: images in parallel, the steps of one image
//! one after the other. An image that a pod pulls out of a bundle at this time comes next [spec:bundles.adoption]. A
//! failure does not stop the other images.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex};

use futures_util::StreamExt as _;
use futures_util::stream;
use landfall_core::plan::Step;
use landfall_core::reference::{Digest, ImageReference};
use landfall_core::status::{EventReason, ProgressEvent};
use landfall_core::sync::lock;
use tracing::Instrument as _;

use crate::agent::active_config::ActiveConfig;
use crate::agent::core_images::load_core_images;
use crate::agent::host::Host;
use crate::agent::ledger::CoreImages;
use crate::agent::transfer::{Failed, fetch_image, load_image, push_image};

/// The part of a step's result that the ledger has to remember.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Applied {
    /// The result can be observed, so that there is nothing to remember.
    InPlace,
    Core(CoreImages),
    /// The primary registry holds this image.
    Pushed {
        target: ImageReference,
        digest: Digest,
    },
}

/// The causes of the failures of one pass.
#[derive(Debug, Default)]
pub(crate) struct Causes(Mutex<HashSet<String>>);

impl Causes {
    /// Returns true if no image of this pass failed for this cause before.
    fn is_new(&self, cause: &str) -> bool {
        lock(&self.0).insert(cause.to_owned())
    }
}

/// Applies steps and returns one result for each image. Each failure is in the status first, and each new cause is an
/// event.
pub(crate) async fn apply_steps(
    host: &Arc<Host>,
    active: &ActiveConfig,
    steps: Vec<Step>,
    causes: &Causes,
) -> Vec<Result<Applied, Failed>> {
    let side_by_side = active.settings.landfall.concurrency.max(1);
    let mut groups = VecDeque::from(group_by_image(steps));
    let in_order = std::iter::from_fn(move || {
        let names = groups.iter().map(|(name, _)| name);
        let first = active.bundles.first_asked(names, &host.asked.digests());
        groups.remove(first.unwrap_or(0))
    });
    stream::iter(in_order)
        .map(|(image, steps)| {
            let span = tracing::info_span!("image", %image);
            apply_image_steps(host, active, image.to_string(), steps, causes).instrument(span)
        })
        .buffer_unordered(side_by_side)
        .collect()
        .await
}

/// Groups the steps by image, in the order in which the plan first names each image.
fn group_by_image(steps: Vec<Step>) -> Vec<(ImageReference, Vec<Step>)> {
    let mut positions: HashMap<ImageReference, usize> = HashMap::new();
    let mut groups: Vec<(ImageReference, Vec<Step>)> = Vec::new();
    for step in steps {
        let name = image_of(&step).clone();
        let position = *positions.entry(name.clone()).or_insert(groups.len());
        if position == groups.len() {
            groups.push((name, Vec::new()));
        }
        groups[position].1.push(step);
    }
    groups
}

/// Returns the image that a step is about.
pub(crate) fn image_of(step: &Step) -> &ImageReference {
    match step {
        Step::StoreImage { name, .. } | Step::LoadImage { name, .. } | Step::PushImage { name, .. } => name,
        Step::LoadCoreImages { provider, .. } => provider,
    }
}

async fn apply_image_steps(
    host: &Arc<Host>,
    active: &ActiveConfig,
    image: String,
    steps: Vec<Step>,
    causes: &Causes,
) -> Result<Applied, Failed> {
    let mut last = Applied::InPlace;
    for step in steps {
        let reason = failure_reason(&step);
        match apply_step(host, active, step).await {
            Ok(applied) => last = applied,
            Err(mut failed) => {
                failed.is_known = !causes.is_new(&failed.cause);
                let text = failed.explanation.line();
                // A failure that stays the same is one event, and not one with each pass.
                let before = host.status.image(&image).and_then(|status| status.error);
                if !failed.is_known && before.as_ref() != Some(&text) {
                    host.warn(reason, &image, text.clone()).await;
                }
                host.status
                    .update_image(&image, |status| status.error = Some(text.clone()));
                host.progress(ProgressEvent::ImageFailed {
                    image: image.clone(),
                    error: text,
                });
                return Err(failed);
            }
        }
    }
    host.status.update_image(&image, |status| status.error = None);
    host.progress(ProgressEvent::ImageFinished { image });
    Ok(last)
}

fn failure_reason(step: &Step) -> EventReason {
    match step {
        Step::StoreImage { .. } => EventReason::ImageFailed,
        Step::LoadCoreImages { .. } | Step::LoadImage { .. } => EventReason::LoadFailed,
        Step::PushImage { .. } => EventReason::PushFailed,
    }
}

async fn apply_step(host: &Arc<Host>, active: &ActiveConfig, step: Step) -> Result<Applied, Failed> {
    match step {
        Step::StoreImage { planned, name, .. } => {
            let from = fetch_image(host, active, planned, &name).await?;
            host.note(EventReason::ImageStored, &name.to_string(), from).await;
            Ok(Applied::InPlace)
        }
        Step::LoadCoreImages { provider, .. } => {
            let core = load_core_images(host, active, &provider).await?;
            Ok(Applied::Core(core))
        }
        Step::LoadImage { name, as_names, .. } => {
            load_image(host, active, &name, &as_names).await?;
            host.note(
                EventReason::ImageLoaded,
                &name.to_string(),
                format!("named {}", as_names.join(", ")),
            )
            .await;
            Ok(Applied::InPlace)
        }
        Step::PushImage { name, target, .. } => {
            let digest = push_image(host, active, &name, &target).await?;
            host.note(
                EventReason::ImagePushed,
                &name.to_string(),
                format!("pushed to `{target}`"),
            )
            .await;
            Ok(Applied::Pushed { target, digest })
        }
    }
}
