//! What a copy would do, without doing it: the same walk, and a question where the copy would move.

use std::collections::HashSet;

use futures_util::{StreamExt, stream};
use landfall_core::reference::Digest;
use landfall_core::status::ProgressSink;

use super::job::{ImageCopy, Job};
use super::options::CopyOptions;
use super::report::{BlobOutcome, CopyFailure, CopyReport};
use crate::image::{BlobState, TransferError};

/// How many blobs are asked for at once.
const QUESTIONS_MAX: usize = 16;

/// Says what [`super::copy_images`] would do now. Nothing is written. A blob that two of the images share counts as moved
/// for the first and as mounted for the others; that a registry has it in a repository of another image is not known.
pub async fn survey_images(
    copies: &[ImageCopy<'_>],
    options: &CopyOptions,
    progress: &dyn ProgressSink,
) -> Vec<Result<CopyReport, CopyFailure>> {
    let mut moved = HashSet::new();
    let mut reports = Vec::new();
    for copy in copies {
        let job = Job::new(copy, options, progress);
        let surveyed = Box::pin(job.survey(copy.selector, &mut moved)).await;
        reports.push(surveyed.map_err(CopyFailure::from));
    }
    reports
}

impl Job<'_> {
    async fn survey(&self, selector: &str, moved: &mut HashSet<(String, Digest)>) -> Result<CopyReport, TransferError> {
        let root = self.fetch_manifest(selector).await?;
        let mut report = CopyReport::new(root.digest.clone());
        report.unchanged = self.is_present(&root, &self.options.platforms).await?;
        if report.unchanged {
            return Ok(report);
        }
        let graph = self.walk(&root, &self.options.platforms).await?;
        report.lacking.clone_from(&graph.lacking);
        let questions: Vec<_> = graph
            .blobs
            .iter()
            .map(|blob| self.retrying(blob.digest.as_str(), || self.sink.blob_state(blob)))
            .collect();
        let states: Vec<_> = stream::iter(questions).buffered(QUESTIONS_MAX).collect().await;
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
