//! The copy of a bundle's images into the content store.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use landfall_core::bundle::adoption::{PendingImage, order_of_adoption};
use landfall_core::bundle::document::BundledImage;
use landfall_core::failure::FailureKind;
use landfall_core::oci_types::parse_manifest;
use landfall_core::reference::{Digest, ImageReference};
use landfall_core::status::EventReason;
use landfall_core::wording::counted;
use landfall_host::facts::own_platform;
use landfall_oci::copy::{CopyOptions, ImageCopy, copy_images};
use landfall_oci::image::{ImageSource, TransferError};
use landfall_oci::store::source_and_sink::StoreSink;
use tokio::time::Instant;

use super::opened::{Opened, Served};
use super::trust::refuse_image;
use crate::agent::active_config::ActiveConfig;
use crate::agent::host::Host;
use crate::failure::find_hint;

impl Opened {
    /// Copies the images that the content store lacks. An image that fails does not stop the others.
    pub(super) async fn adopt(&mut self, host: &Arc<Host>, active: &ActiveConfig, missing: &[BundledImage]) {
        let Some(source) = self.content.source() else {
            return;
        };
        let asked = self.served.as_mut().map_or_else(Vec::new, Served::take_reads);
        let pending = describe(&*source, missing, active).await;
        let begun = Instant::now();
        let (mut wanted, mut failures) = (Vec::new(), Vec::new());
        for number in order_of_adoption(&pending, &asked) {
            let image = &missing[number];
            match refuse_image(&active.settings.landfall.bundles, &host.root, &*source, &image.digest).await {
                Ok(()) => wanted.push(Wanted::new(image)),
                Err(error) => failures.push((image.name.canonical(), error)),
            }
        }
        let bytes = copy_all(host, active, &source, &wanted, &mut failures).await;
        self.bad = failures
            .iter()
            .filter(|(_, error)| matches!(error.kind, FailureKind::Corrupt | FailureKind::WrongLength))
            .map(|(name, _)| name.clone())
            .collect();
        host.metrics.adopted.inc_by(bytes);
        self.report(host, wanted.len(), bytes, begun, &failures).await;
    }

    async fn report(
        &mut self,
        host: &Host,
        images: usize,
        bytes: u64,
        begun: Instant,
        failures: &[(ImageReference, TransferError)],
    ) {
        let before = self.problem.take();
        let Some((name, error)) = failures.first() else {
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
        let text = format!("`{name}` cannot be adopted: {}{more}", error.chain());
        let hint = find_hint(error).map(std::borrow::Cow::into_owned);
        if before.is_none_or(|(before, _)| before != text) {
            let line = landfall_core::failure::line_with_hint(&text, hint.as_ref());
            host.warn(EventReason::BundleRefused, self.path.as_str(), line).await;
        }
        self.problem = Some((text, hint));
    }
}

/// An image that is to be copied.
#[derive(Debug)]
struct Wanted {
    name: ImageReference,
    digest: String,
    has_companions: bool,
}

impl Wanted {
    fn new(image: &BundledImage) -> Wanted {
        Wanted {
            name: image.name.canonical(),
            digest: image.digest.to_string(),
            has_companions: !image.companions.is_empty(),
        }
    }
}

/// Copies images with their companions, and returns the number of bytes that were read.
async fn copy_all(
    host: &Host,
    active: &ActiveConfig,
    source: &Arc<dyn ImageSource>,
    wanted: &[Wanted],
    failures: &mut Vec<(ImageReference, TransferError)>,
) -> u64 {
    let copying = Copying { host, active, source };
    let all: Vec<&Wanted> = wanted.iter().collect();
    let (mut bytes, failed) = copying.copy(&all, Companions::Taken).await;
    let is_failed = |image: &&Wanted| image.has_companions && failed.iter().any(|(name, _)| *name == image.name);
    let again: Vec<&Wanted> = wanted.iter().filter(is_failed).collect();
    failures.extend(failed);
    if !again.is_empty() {
        // Pods can run an image whose signature is damaged. What is missing is told all the same.
        bytes += copying.copy(&again, Companions::LeftOut).await.0;
    }
    bytes
}

/// Decision about the companions of the images that are copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Companions {
    Taken,
    LeftOut,
}

/// Copies out of one bundle.
struct Copying<'a> {
    host: &'a Host,
    active: &'a ActiveConfig,
    source: &'a Arc<dyn ImageSource>,
}

impl Copying<'_> {
    /// Copies images. Returns the number of bytes that were read, and what failed.
    async fn copy(&self, wanted: &[&Wanted], companions: Companions) -> (u64, Vec<(ImageReference, TransferError)>) {
        let sink = |image: &&Wanted| {
            StoreSink::omitting(self.host.store.clone(), self.source.clone(), own_platform())
                .with_referrers_of(&image.name)
        };
        let sinks: Vec<StoreSink> = wanted.iter().map(sink).collect();
        let copies: Vec<_> = wanted
            .iter()
            .zip(&sinks)
            .map(|(image, sink)| ImageCopy {
                source: &**self.source,
                selector: &image.digest,
                sink,
                name: Some(&image.name),
                expected: None,
            })
            .collect();
        let options = CopyOptions {
            referrers: companions == Companions::Taken,
            ..self.active.local.clone()
        };
        let results = copy_images(&copies, &options, &*self.host.meter).await;
        let (mut bytes, mut failures) = (0, Vec::new());
        for (image, result) in wanted.iter().zip(results) {
            match result {
                Ok(report) => bytes += report.bytes_moved,
                Err(failure) => {
                    bytes += failure.so_far.map_or(0, |report| report.bytes_moved);
                    failures.push((image.name.clone(), failure.error));
                }
            }
        }
        (bytes, failures)
    }
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
