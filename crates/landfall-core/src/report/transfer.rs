//! Output of `landfall copy` and `landfall push`: the moved, mounted and existing blobs of each image.

use schemars::JsonSchema;
use serde::Serialize;

use super::API_VERSION;

/// The result of a transfer of images.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TransferReport {
    /// Always `landfall.dev/v1alpha1`.
    pub api_version: &'static str,
    /// Always `Transfer`.
    pub kind: &'static str,
    /// True if nothing was written: the numbers are those that a transfer would have.
    pub dry_run: bool,
    /// All images, in the order in which they were requested.
    pub images: Vec<TransferRow>,
    /// The totals of all images.
    pub summary: TransferSummary,
}

/// One image of a transfer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TransferRow {
    /// The source reference.
    pub source: String,
    /// The bundle, or another file with images, that it is read out of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bundle: Option<String>,
    /// The destination reference.
    pub destination: String,
    /// The result for this image.
    pub state: TransferState,
    /// The digest of its top manifest.
    pub digest: Option<String>,
    /// Index entries that the source omits, e.g. a single-platform archive: the platform, or the digest if
    /// the entry has none.
    pub lacking: Vec<String>,
    /// The number of referrers (signatures, attestations and the like) that were copied with it.
    pub referrers: u64,
    /// The blobs of this image.
    pub blobs: BlobTally,
    /// The reason of the failure, in a sentence.
    pub problem: Option<String>,
    /// The solution, in a sentence or a command.
    pub fix: Option<String>,
}

/// Result for an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TransferState {
    /// The image was copied; in a dry run, it would be copied.
    Copied,
    /// The destination had the image already.
    Unchanged,
    /// The image could not be copied.
    Failed,
    /// The command was stopped before the image was copied.
    Stopped,
}

/// Numbers of blobs and their sizes in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BlobTally {
    /// The number of blobs that crossed the network.
    pub moved: u64,
    /// The number of bytes that crossed the network, including those of failed attempts.
    pub moved_bytes: u64,
    /// The number of blobs that the destination mounted from another of its repositories.
    pub mounted: u64,
    /// The size of the mounted blobs.
    pub mounted_bytes: u64,
    /// The number of blobs that the destination had already.
    pub skipped: u64,
    /// The size of the skipped blobs.
    pub skipped_bytes: u64,
}

/// Totals of a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TransferSummary {
    /// The number of images that were copied; in a dry run, that would be copied.
    pub copied: usize,
    /// The number of images that the destination had already.
    pub unchanged: usize,
    /// The number of images that failed.
    pub failed: usize,
    /// The number of images that were not copied, because the command was stopped.
    pub stopped: usize,
    /// The number of referrers (signatures, attestations and the like) that were copied with the images.
    pub referrers: u64,
    /// The blobs of all images.
    pub blobs: BlobTally,
}

impl TransferReport {
    /// Makes the report and counts its rows.
    #[must_use]
    pub fn new(dry_run: bool, images: Vec<TransferRow>) -> TransferReport {
        let mut summary = TransferSummary::default();
        for row in &images {
            *match row.state {
                TransferState::Copied => &mut summary.copied,
                TransferState::Unchanged => &mut summary.unchanged,
                TransferState::Failed => &mut summary.failed,
                TransferState::Stopped => &mut summary.stopped,
            } += 1;
            summary.referrers += row.referrers;
            summary.blobs.add(&row.blobs);
        }
        TransferReport {
            api_version: API_VERSION,
            kind: "Transfer",
            dry_run,
            images,
            summary,
        }
    }
}

impl BlobTally {
    fn add(&mut self, other: &BlobTally) {
        self.moved += other.moved;
        self.moved_bytes += other.moved_bytes;
        self.mounted += other.mounted;
        self.mounted_bytes += other.mounted_bytes;
        self.skipped += other.skipped;
        self.skipped_bytes += other.skipped_bytes;
    }
}
