//! Copies an image from a source to a sink: the only code that walks an image's graph. Children are written before their
//! parents, so that a manifest in the sink always has all that it names; each blob moves once, from where it stopped.
//!
//! What is retried is decided by [`landfall_core::retry`]; which source comes next is the caller's to decide. Nothing is
//! spawned: dropping the future stops the copy, and [`CopyOptions::cancel`] stops it so that sinks keep what they have.

mod bandwidth;
mod blob;
mod feed;
mod flights;
mod graph;
mod retries;

use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use landfall_core::oci_types::Descriptor;
use landfall_core::reference::{Digest, ImageReference};
use landfall_core::retry::RetryPolicy;
use landfall_core::status::ProgressSink;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

pub use bandwidth::BandwidthLimit;
pub use flights::BlobsInFlight;

use self::blob::BlobOutcome;
use crate::image::{ImageSink, ImageSource, TransferError};

/// What copies have in common. Clones share everything: make one and clone it for each image, and the limits hold for all
/// of them together.
#[derive(Debug, Clone)]
pub struct CopyOptions {
    /// How many blobs are under way at once.
    pub transfers: Arc<Semaphore>,
    /// Who copies which blob right now, so that images that share one move it once.
    pub in_flight: BlobsInFlight,
    /// How many bytes a second may be read from sources.
    pub bandwidth: Option<Arc<BandwidthLimit>>,
    /// How often and how long to try again.
    pub retry: RetryPolicy,
    /// Stops the copy.
    pub cancel: CancellationToken,
}

impl CopyOptions {
    /// With so many blobs under way at once (at least one), no limit of bandwidth and the usual retries.
    #[must_use]
    pub fn new(concurrency: usize) -> CopyOptions {
        CopyOptions {
            transfers: Arc::new(Semaphore::new(concurrency.max(1))),
            in_flight: BlobsInFlight::default(),
            bandwidth: None,
            retry: RetryPolicy::default(),
            cancel: CancellationToken::new(),
        }
    }
}

/// What a copy amounted to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyReport {
    /// The digest of the image's top manifest.
    pub digest: Digest,
    /// Bytes of blobs that were read from the source, those of failed attempts included.
    pub bytes_moved: u64,
    /// Blobs that were written.
    pub blobs_moved: u64,
    /// Blobs that the sink had already. Zero when it had the whole image: then nobody looks at the blobs.
    pub blobs_skipped: u64,
}

/// One copy: what every part of it needs to know.
struct Job<'a> {
    source: &'a dyn ImageSource,
    sink: &'a dyn ImageSink,
    options: &'a CopyOptions,
    progress: &'a dyn ProgressSink,
    /// What messages and progress call the image.
    image: String,
}

/// Copies the image that `selector` (a tag or digest) names in `source` to `sink`, with all its platforms, and gives it
/// `name` there. Layers that must not be handed on are left out: they have addresses of their own.
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
    let image = name.map_or_else(|| format!("{} {selector}", source.describe()), ToString::to_string);
    let job = Job {
        source,
        sink,
        options,
        progress,
        image,
    };
    let root = job.fetch_manifest(selector).await?;
    let mut report = CopyReport {
        digest: root.digest.clone(),
        bytes_moved: 0,
        blobs_moved: 0,
        blobs_skipped: 0,
    };
    let has_image = job.retrying(&job.image, || sink.has_image(&root)).await?;
    if !has_image {
        let graph = job.walk(&root).await?;
        job.copy_blobs(&graph.blobs, &mut report).await?;
        for manifest in &graph.manifests {
            job.retrying(&job.image, || sink.write_manifest(manifest, None)).await?;
        }
    }
    job.retrying(&job.image, || sink.write_manifest(&root, name)).await?;
    Ok(report)
}

impl Job<'_> {
    async fn copy_blobs(&self, blobs: &[Descriptor], report: &mut CopyReport) -> Result<(), TransferError> {
        let mut copies: FuturesUnordered<_> = blobs.iter().map(|blob| self.copy_blob(blob)).collect();
        let mut first_failure = None;
        while let Some((bytes, outcome)) = copies.next().await {
            report.bytes_moved += bytes;
            match outcome {
                Ok(BlobOutcome::Moved) => report.blobs_moved += 1,
                Ok(BlobOutcome::Skipped) => report.blobs_skipped += 1,
                Err(error) => first_failure = first_failure.or(Some(error)),
            }
        }
        first_failure.map_or(Ok(()), Err)
    }
}
