//! Copies images from sources to sinks: the only code that walks an image's graph. Children are written before their
//! parents, so that a manifest in the sink always has all that it names; each blob moves once however many images share
//! it, from where it stopped, and is mounted where the registry has it in another repository.
//!
//! What is retried is decided by [`landfall_core::failure`]; which source comes next is the caller's to decide. Nothing is
//! spawned: dropping the future stops the copy, and [`CopyOptions::cancel`] stops it so that sinks keep what they have.

mod bandwidth;
mod blob;
mod blob_locks;
mod graph;
mod index_children;
mod job;
mod options;
mod referrers;
mod report;
mod resuming_reader;
mod retries;
mod survey;
mod transfers;
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
use self::job::Job;
use crate::image::{BlobState, ImageSink, ImageSource, RawManifest, TransferError};

pub use bandwidth::BandwidthLimit;
pub use blob_locks::BlobLocks;
pub use index_children::{ForeignLayersRefused, IndexEntriesMissing, PartialIndexRefused, PlatformMissing};
pub use job::ImageCopy;
pub use options::CopyOptions;
pub use report::{CopyFailure, CopyReport};
pub use survey::survey_images;
pub use transfers::Transfers;

/// How many images are looked at at once, and how many are written; how many blobs move is the options' to say.
const IMAGES_AT_ONCE: usize = 32;

/// Copies images, all of them at once as far as the options allow: what they share crosses the link once. The answers are
/// in the order of the copies; one that fails keeps none of the others from going on. All images are looked at while the
/// first ones move already, so that it is soon known how much there is to move.
///
/// Tells `progress` of each image that is finished or has failed.
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

/// Limits the images in progress: each takes memory.
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
    let job = Job::new(copy, options, progress);
    let copied = async {
        let looked = {
            let _slot = slots.inspect.acquire().await;
            Box::pin(job.look(copy.selector, &options.platforms)).await?
        };
        let _slot = slots.write.acquire().await;
        Box::pin(job.carry_out(looked, copy.name)).await
    };
    let copied = copied.await;
    let image = job.image;
    progress.progress(match &copied {
        Ok(_) => ProgressEvent::ImageFinished { image },
        Err(failure) => ProgressEvent::ImageFailed {
            image,
            error: failure.error.chain(),
        },
    });
    copied
}

/// Copies the image that `selector` (a tag or digest) names in `source` to `sink`, with all its platforms or those of the
/// options, and gives it `name` there. Layers that must not be handed on are left out: they have addresses of their own.
///
/// Does not tell `progress` that the image is finished or has failed: there may be another source.
///
/// # Errors
/// When the source does not have it all, the sink does not take it, or the copy is cancelled. What arrived is kept where
/// the sink can do that. Of several blobs that failed, the first one's error is given; the others were tried as well.
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
    };
    let job = Job::new(&copy, options, progress);
    let looked = job.look(selector, &options.platforms).await?;
    job.carry_out(looked, name).await.map_err(|failure| failure.error)
}

/// What there is to do for an image.
struct Looked {
    root: RawManifest,
    /// The sink has it all.
    unchanged: bool,
    /// What it is made of, as far as somebody has to know.
    graph: Graph,
}

impl Job<'_> {
    /// Finds out what there is to do, and tells which blobs it is about.
    async fn look(&self, selector: &str, platforms: &[Platform]) -> Result<Looked, TransferError> {
        let root = self.fetch_manifest(selector).await?;
        let unchanged = self.is_present(&root, platforms).await?;
        let mut graph = Graph::default();
        if !unchanged || self.options.referrers {
            graph = self.walk(&root, platforms).await?;
        }
        for blob in graph.blobs.iter().filter(|_| !unchanged) {
            self.progress.progress(ProgressEvent::BlobPlanned {
                digest: blob.digest.to_string(),
                size: blob.size,
            });
        }
        Ok(Looked { root, unchanged, graph })
    }

    /// Copies an image, with what belongs to it where the options say so.
    async fn carry_out(&self, looked: Looked, name: Option<&ImageReference>) -> Result<CopyReport, CopyFailure> {
        let mut report = CopyReport::new(looked.root.digest.clone());
        let carried_out = async {
            let root = looked.root.clone();
            let subjects = self.carry_out_alone(looked, name, &mut report).await?;
            if self.options.referrers {
                self.copy_referrers(subjects, &mut report).await?;
            }
            self.finish(&root).await
        };
        match carried_out.await {
            Ok(()) => Ok(report),
            Err(error) => Err(CopyFailure {
                error,
                so_far: Some(report),
            }),
        }
    }

    /// Copies an image without what belongs to it, and does not finish it. Gives its manifests as well: something may belong to them.
    async fn carry_out_alone(
        &self,
        looked: Looked,
        name: Option<&ImageReference>,
        report: &mut CopyReport,
    ) -> Result<Vec<Digest>, TransferError> {
        let Looked { root, unchanged, graph } = looked;
        report.unchanged = unchanged;
        let mut subjects = vec![root.digest.clone()];
        subjects.extend(graph.manifests.iter().map(|manifest| manifest.digest.clone()));
        if unchanged {
            // The name may be new, as far as the sink knows.
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

    /// Everything is written: the sink may show it.
    async fn finish(&self, root: &RawManifest) -> Result<(), TransferError> {
        self.retrying(&self.image, || self.sink.finish_image(root)).await
    }

    /// The blobs that were thought to be in the sink and are not, where a refused manifest raises the suspicion: somebody
    /// wiped the sink, or collected its garbage, while we relied on it.
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
