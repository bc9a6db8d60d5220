//! The copy of a bundle's images into the content store.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use landfall_core::bundle::adoption::{PendingImage, next_step, next_to_adopt};
use landfall_core::bundle::document::BundledImage;
use landfall_core::failure::FailureKind;
use landfall_core::oci_types::parse_manifest;
use landfall_core::reference::{Digest, ImageReference};
use landfall_core::status::{EventReason, ProgressEvent};
use landfall_core::wording::counted;
use landfall_host::facts::own_platform;
use landfall_oci::copy::{CopyOptions, copy_image};
use landfall_oci::image::{ImageSource, TransferError};
use landfall_oci::store::source_and_sink::StoreSink;
use tokio::time::Instant;

use super::opened::Opened;
use super::trust::refuse_image;
use crate::agent::active_config::ActiveConfig;
use crate::agent::host::Host;
use crate::failure::find_hint;

impl Opened {
    /// Copies the images that the content store lacks. An image that fails does not stop the others. The next image is
    /// chosen when there is room for it: a pod may ask for another one while a large bundle is being copied.
    pub(super) async fn adopt(&mut self, host: &Arc<Host>, active: &ActiveConfig) {
        let mut images = self.to_adopt();
        let Some(source) = self.content.source().filter(|_| !images.is_empty()) else {
            return;
        };
        let mut pending = describe(&*source, &images, active).await;
        let begun = Instant::now();
        let (mut adopted, mut bytes, mut failures) = (0, 0, Vec::new());
        let mut copies = FuturesUnordered::new();
        loop {
            while copies.len() < active.settings.landfall.concurrency.max(1)
                && let Some(next) = next_to_adopt(&pending, &host.asked.digests())
            {
                pending.swap_remove(next);
                copies.push(copy_one(host, active, &source, images.swap_remove(next)));
            }
            let Some((image, copied)) = copies.next().await else {
                break;
            };
            match copied {
                Ok(read) => {
                    host.metrics.adopted.inc_by(read);
                    (adopted, bytes) = (adopted + 1, bytes + read);
                    self.show_adopted(host, &image, self.missing().len() - adopted);
                }
                Err(error) => failures.push((image.name.canonical(), error)),
            }
        }
        drop(copies);
        let (wrong, mut failures): (Vec<_>, Vec<_>) = failures
            .into_iter()
            .map(|(name, error)| {
                let is_wrong = matches!(error.kind, FailureKind::Corrupt | FailureKind::WrongLength);
                let hint = find_hint(&error).map(std::borrow::Cow::into_owned);
                (is_wrong, name, (error.chain(), hint))
            })
            .partition(|(is_wrong, ..)| *is_wrong);
        self.bad
            .extend(wrong.into_iter().map(|(_, name, problem)| (name, problem)));
        // Those of earlier passes are still a problem of the bundle.
        let of_content = self.bad.iter().map(|(name, problem)| (name.clone(), problem.clone()));
        let others = failures.drain(..).map(|(_, name, problem)| (name, problem));
        let failures: Vec<_> = of_content.chain(others).collect();
        self.report(host, adopted, bytes, begun, &failures).await;
    }

    /// Shows in the status that an image was adopted. The others are shown as they were at the begin.
    fn show_adopted(&self, host: &Host, image: &BundledImage, missing: usize) {
        let (id, name, facts) = (self.content.id().as_str(), image.name.to_string(), self.facts(missing));
        host.status.update(|status| {
            let mut bundles = status.bundles.iter_mut();
            if let Some(shown) = bundles.find(|bundle| bundle.id.as_deref() == Some(id)) {
                shown.phase = next_step(&facts).0;
                shown.adopted = facts.adopted;
                shown.missing.retain(|missing| *missing != name);
            }
        });
    }

    async fn report(
        &mut self,
        host: &Host,
        images: usize,
        bytes: u64,
        begun: Instant,
        failures: &[(ImageReference, (String, Option<String>))],
    ) {
        let before = self.problem.take();
        let Some((name, (reason, hint))) = failures.first() else {
            let seconds = begun.elapsed().as_secs_f64();
            #[expect(clippy::cast_precision_loss, reason = "a rate is shown in three digits")]
            let rate = bytes as f64 / 1e6 / seconds.max(1e-3);
            let message = format!(
                "{}, {bytes} bytes in {seconds:.1} s ({rate:.1} MB/s)",
                counted(images, "image")
            );
            return host.note(EventReason::BundleAdopted, self.path.as_str(), message).await;
        };
        let more = match failures.len() - 1 {
            0 => String::new(),
            more => format!(", and {more} more"),
        };
        let text = format!("`{name}` cannot be adopted: {reason}{more}");
        if before.is_none_or(|(before, _)| before != text) {
            let line = landfall_core::failure::line_with_hint(&text, hint.as_ref());
            host.warn(EventReason::BundleRefused, self.path.as_str(), line).await;
        }
        self.problem = Some((text, hint.clone()));
    }
}

/// Copies an image with its companions, if the host takes it, and returns the number of bytes that were read.
async fn copy_one(
    host: &Host,
    active: &ActiveConfig,
    source: &Arc<dyn ImageSource>,
    image: BundledImage,
) -> (BundledImage, Result<u64, TransferError>) {
    let name = image.name.canonical();
    let sink = StoreSink::omitting(host.store.clone(), source.clone(), own_platform()).with_referrers_of(&name);
    let copy = async |options: &CopyOptions| {
        let selector = image.digest.as_str();
        copy_image(&**source, selector, &sink, Some(&name), options, &*host.meter).await
    };
    let copied = async {
        refuse_image(&active.settings.landfall.bundles, &host.root, &**source, &image.digest).await?;
        let with_companions = CopyOptions {
            referrers: true,
            ..active.local.clone()
        };
        let copied = copy(&with_companions).await;
        if copied.is_err() && !image.companions.is_empty() {
            // Pods can run an image whose signature is damaged. What is missing is told all the same.
            drop(copy(&active.local).await);
        }
        copied
    };
    let copied = copied.await.map(|report| report.bytes_moved);
    host.progress(match &copied {
        Ok(_) => ProgressEvent::ImageFinished {
            image: name.to_string(),
        },
        Err(error) => ProgressEvent::ImageFailed {
            image: name.to_string(),
            error: error.chain(),
        },
    });
    (image, copied)
}

/// Returns what decides about the order of adoption.
async fn describe(source: &dyn ImageSource, images: &[BundledImage], active: &ActiveConfig) -> Vec<PendingImage> {
    // The first place of an image counts.
    let planned = active.planned.iter().enumerate().rev();
    let planned: HashMap<_, _> = planned.map(|(number, image)| (&image.canonical, number)).collect();
    let mut described = Vec::with_capacity(images.len());
    for image in images {
        let name = image.name.canonical();
        let mut content: HashSet<Digest> = [image.digest.clone()].into();
        let mut pending = vec![image.digest.clone()];
        while let Some(digest) = pending.pop() {
            let Ok(manifest) = source.fetch_manifest(digest.as_str()).await else {
                continue;
            };
            if let Ok(parsed) = parse_manifest(&manifest.bytes) {
                for child in parsed.children() {
                    let may_be_manifest = parsed.role_of(child).may_be_manifest();
                    if content.insert(child.digest.clone()) && may_be_manifest {
                        pending.push(child.digest.clone());
                    }
                }
            }
        }
        described.push(PendingImage {
            planned: planned.get(&name).copied(),
            name,
            content,
        });
    }
    described
}
