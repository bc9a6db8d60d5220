//! Dry run of a copy: the same walk, with a request for the state of each blob in place of its transfer.

use std::collections::HashSet;

use futures_util::{StreamExt, stream};
use landfall_core::reference::Digest;
use landfall_core::status::ProgressSink;

use super::job::{CopyJob, ImageCopy};
use super::options::CopyOptions;
use super::report::{BlobOutcome, CopyFailure, CopyReport};
use crate::image::{BlobState, TransferError};

/// Blobs whose states are requested at once.
const REQUESTS_MAX: usize = 16;

/// Predicts the reports of [`super::copy_images`] without writing anything. A blob shared by several images counts as
/// moved for the first one and as mounted for the others. A blob that the registry has in another image's repository
/// counts as moved: nothing tells the client about it.
pub async fn dry_run_images(
    copies: &[ImageCopy<'_>],
    options: &CopyOptions,
    progress: &dyn ProgressSink,
) -> Vec<Result<CopyReport, CopyFailure>> {
    let mut moved = HashSet::new();
    let mut reports = Vec::new();
    for copy in copies {
        let job = CopyJob::new(copy, options, progress);
        let expected = Box::pin(job.dry_run(copy.selector, &mut moved)).await;
        reports.push(expected.map_err(CopyFailure::from));
    }
    reports
}

impl CopyJob<'_> {
    async fn dry_run(
        &self,
        selector: &str,
        moved: &mut HashSet<(String, Digest)>,
    ) -> Result<CopyReport, TransferError> {
        let root = self.fetch_manifest(selector).await?;
        self.check_digest(&root, &self.options.platforms)?;
        let mut report = CopyReport::new(root.digest.clone());
        report.unchanged = self.is_present(&root, &self.options.platforms).await?;
        if report.unchanged {
            return Ok(report);
        }
        let graph = self.walk(&root, &self.options.platforms).await?;
        self.sink.check_content(&root, &graph.manifests)?;
        report.lacking.clone_from(&graph.lacking);
        let requests: Vec<_> = graph
            .blobs
            .iter()
            .map(|blob| self.retrying(blob.digest.as_str(), || self.sink.blob_state(blob)))
            .collect();
        let states: Vec<_> = stream::iter(requests).buffered(REQUESTS_MAX).collect().await;
        let within_registry = self.is_within_registry();
        for (blob, state) in graph.blobs.iter().zip(states) {
            let offset = match state? {
                BlobState::Complete => {
                    report.count(blob, BlobOutcome::Skipped);
                    continue;
                }
                BlobState::Partial(offset) => offset,
                BlobState::Missing => 0,
            };
            if within_registry || !moved.insert((self.storage(), blob.digest.clone())) {
                report.count(blob, BlobOutcome::Mounted);
            } else {
                report.count(blob, BlobOutcome::Moved);
                report.bytes_moved += blob.size - offset;
            }
        }
        Ok(report)
    }
}
