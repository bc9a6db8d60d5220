//! Copies images from sources to sinks. No other code walks an image's graph. Children are written before their
//! parents, so the sink always has all content that a manifest names. Each blob moves once, even if many images share
//! it. A blob resumes at the first missing byte, and is mounted if the registry has it in another repository.
//!
//! [`landfall_core::failure`] decides about retries; the caller chooses the next source. Nothing is spawned: dropping
//! the future stops the copy, and [`CopyOptions::cancel`] stops it so that sinks keep the received bytes.

mod bandwidth;
mod blob;
mod blob_locks;
mod digest_check;
mod dry_run;
mod graph;
mod in_flight;
mod index_children;
mod job;
mod options;
mod referrers;
mod report;
mod resuming_reader;
mod retries;
mod upload_digest;

use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use landfall_core::failure::FailureKind;
use landfall_core::oci_types::{Descriptor, Platform};
use landfall_core::reference::{Digest, ImageReference};
use landfall_core::status::{ProgressEvent, ProgressSink};
use tokio::sync::Semaphore;

use self::graph::Graph;
use self::job::CopyJob;
use crate::image::{BlobState, ImageSink, ImageSource, RawManifest, TransferError};

pub use bandwidth::BandwidthLimit;
pub use blob_locks::BlobLocks;
pub use digest_check::OtherDigest;
pub use dry_run::dry_run_images;
pub use in_flight::InFlightLimit;
pub use index_children::{ForeignLayersRefused, IndexEntriesMissing, PartialIndexRefused, PlatformMissing};
pub use job::ImageCopy;
pub use options::{CopyOptions, UploadHash};
pub use report::{CopyFailure, CopyReport};

/// Images that are inspected at once, and images that are written at once. [`CopyOptions::in_flight`] limits the blobs.
const IMAGES_AT_ONCE: usize = 32;

/// Copies images concurrently, within the limits of the options: shared blobs cross the link once. The results are in
/// the order of the copies. A failed copy does not stop the others. All images are inspected while the first ones move,
/// so the total size is known early.
///
/// Reports each finished or failed image to `progress`.
pub async fn copy_images(
    copies: &[ImageCopy<'_>],
    options: &CopyOptions,
    progress: &dyn ProgressSink,
) -> Vec<Result<CopyReport, CopyFailure>> {
    let slots = ImageSlots {
        inspect: Semaphore::new(IMAGES_AT_ONCE),
        write: Semaphore::new(IMAGES_AT_ONCE),
    };
    let in_progress = copies
        .iter()
        .map(|copy| copy_and_report(copy, options, &slots, progress));
    join_all(in_progress).await
}

/// Limits of the images in progress: each of them takes memory.
struct ImageSlots {
    inspect: Semaphore,
    write: Semaphore,
}

async fn copy_and_report(
    copy: &ImageCopy<'_>,
    options: &CopyOptions,
    slots: &ImageSlots,
    progress: &dyn ProgressSink,
) -> Result<CopyReport, CopyFailure> {
    let job = CopyJob::new(copy, options, progress);
    let copied = async {
        let inspected = {
            let _slot = slots.inspect.acquire().await;
            Box::pin(job.inspect(copy.selector, &options.platforms)).await?
        };
        let _slot = slots.write.acquire().await;
        Box::pin(job.copy_inspected(inspected, copy.name)).await
    };
    let copied = copied.await;
    let image = job.image;
    progress.progress(match &copied {
        Ok(_) => ProgressEvent::ImageFinished { image },
        Err(failure) => ProgressEvent::ImageFailed {
            image,
            error: failure.error.reason(),
        },
    });
    copied
}

/// Copies the image that `selector` (a tag or digest) names in `source` to `sink`, with all platforms or those of the
/// options, and names it `name` there. Foreign layers are omitted: clients fetch them from their own URLs.
///
/// Does not report the end of the image to `progress`: the caller may have another source.
///
/// # Errors
/// If the source lacks content, the sink refuses it, or the copy is cancelled. The sink keeps the received bytes if it
/// can. All blobs are tried; the error is that of the first blob that failed.
pub async fn copy_image(
    source: &dyn ImageSource,
    selector: &str,
    sink: &dyn ImageSink,
    name: Option<&ImageReference>,
    options: &CopyOptions,
    progress: &dyn ProgressSink,
) -> Result<CopyReport, TransferError> {
    let copy = ImageCopy {
        source,
        selector,
        sink,
        name,
        expected: None,
    };
    let job = CopyJob::new(&copy, options, progress);
    let inspected = job.inspect(selector, &options.platforms).await?;
    job.copy_inspected(inspected, name)
        .await
        .map_err(|failure| failure.error)
}

/// Result of the inspection of an image: the content to copy.
struct Inspected {
    root: RawManifest,
    /// True if the sink has the complete image.
    unchanged: bool,
    /// Content of the image. Empty if the image is unchanged and referrers are not copied.
    graph: Graph,
}

impl CopyJob<'_> {
    /// Finds the content to copy, and reports the planned blobs.
    async fn inspect(&self, selector: &str, platforms: &[Platform]) -> Result<Inspected, TransferError> {
        let root = self.fetch_manifest(selector).await?;
        self.check_digest(&root, platforms)?;
        let unchanged = self.is_present(&root, platforms).await?;
        let mut graph = Graph::default();
        if !unchanged || self.options.referrers {
            graph = self.walk(&root, platforms).await?;
        }
        if !unchanged {
            self.sink.check_content(&root, &graph.manifests)?;
        }
        for blob in graph.blobs.iter().filter(|_| !unchanged) {
            self.progress.progress(ProgressEvent::BlobPlanned {
                digest: blob.digest.to_string(),
                size: blob.size,
            });
        }
        Ok(Inspected { root, unchanged, graph })
    }

    /// Copies an inspected image, and its referrers if the options ask for them.
    async fn copy_inspected(
        &self,
        inspected: Inspected,
        name: Option<&ImageReference>,
    ) -> Result<CopyReport, CopyFailure> {
        let mut report = CopyReport::new(inspected.root.digest.clone());
        let copied = async {
            let root = inspected.root.clone();
            let subjects = self.copy_without_referrers(inspected, name, &mut report).await?;
            if self.options.referrers {
                self.copy_referrers(subjects, &mut report).await?;
            }
            self.finish(&root).await
        };
        match copied.await {
            Ok(()) => Ok(report),
            Err(error) => Err(CopyFailure {
                error,
                so_far: Some(report),
            }),
        }
    }

    /// Copies an image without its referrers, and does not finish it. Returns the digests of its manifests: each may
    /// have referrers.
    async fn copy_without_referrers(
        &self,
        inspected: Inspected,
        name: Option<&ImageReference>,
        report: &mut CopyReport,
    ) -> Result<Vec<Digest>, TransferError> {
        let Inspected { root, unchanged, graph } = inspected;
        report.unchanged = unchanged;
        let mut subjects = vec![root.digest.clone()];
        subjects.extend(graph.manifests.iter().map(|manifest| manifest.digest.clone()));
        if unchanged {
            // The sink may not have the name yet.
            self.write_manifests(&Graph::default(), &root, name).await?;
            return Ok(subjects);
        }
        report.lacking.clone_from(&graph.lacking);
        self.copy_blobs(&graph.blobs, report).await?;
        if let Err(error) = self.write_manifests(&graph, &root, name).await {
            let lost = self.lost_blobs(&graph, &error).await?;
            if lost.is_empty() {
                return Err(index_children::explain_refusal(&graph, error));
            }
            tracing::info!(
                image = self.image,
                blobs = lost.len(),
                "the sink has lost blobs; they are copied again"
            );
            self.copy_blobs(&lost, report).await?;
            let written = self.write_manifests(&graph, &root, name).await;
            written.map_err(|error| index_children::explain_refusal(&graph, error))?;
        }
        Ok(subjects)
    }

    async fn copy_blobs(&self, blobs: &[Descriptor], report: &mut CopyReport) -> Result<(), TransferError> {
        let mut copies: FuturesUnordered<_> = blobs
            .iter()
            .map(async |blob| (blob, self.copy_blob(blob).await))
            .collect();
        let mut first_failure = None;
        while let Some((blob, (bytes, outcome))) = copies.next().await {
            report.bytes_moved += bytes;
            match outcome {
                Ok(outcome) => report.count(blob, outcome),
                Err(error) => first_failure = first_failure.or(Some(error)),
            }
        }
        first_failure.map_or(Ok(()), Err)
    }

    async fn write_manifests(
        &self,
        graph: &Graph,
        root: &RawManifest,
        name: Option<&ImageReference>,
    ) -> Result<(), TransferError> {
        for manifest in &graph.manifests {
            self.retrying(&self.image, || self.sink.write_manifest(manifest, None))
                .await?;
        }
        self.retrying(&self.image, || self.sink.write_manifest(root, name))
            .await
    }

    /// Lets the sink publish the image: all content is written.
    async fn finish(&self, root: &RawManifest) -> Result<(), TransferError> {
        self.retrying(&self.image, || self.sink.finish_image(root)).await
    }

    /// Returns the blobs that the sink no longer has, after it refused a manifest: it was wiped, or its garbage was
    /// collected, during the copy.
    async fn lost_blobs(&self, graph: &Graph, refusal: &TransferError) -> Result<Vec<Descriptor>, TransferError> {
        let mut lost = Vec::new();
        if !matches!(refusal.kind, FailureKind::NotFound | FailureKind::Protocol) {
            return Ok(lost);
        }
        for blob in &graph.blobs {
            let state = self
                .retrying(blob.digest.as_str(), || self.sink.blob_state(blob))
                .await?;
            if state != BlobState::Complete {
                self.forget(blob).await?;
                lost.push(blob.clone());
            }
        }
        Ok(lost)
    }
}
