//! The answer of `landfall copy` and `landfall push`: what moved, was mounted, or was there, image by image.

use schemars::JsonSchema;
use serde::Serialize;

use super::API_VERSION;

/// What became of a list of images.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TransferReport {
    /// `landfall.dev/v1alpha1`.
    pub api_version: &'static str,
    /// `Transfer`.
    pub kind: &'static str,
    /// Nothing was written: the figures are what would happen.
    pub dry_run: bool,
    /// Every image, in the order in which it was asked for.
    pub images: Vec<TransferRow>,
    /// All of them together.
    pub summary: TransferSummary,
}

/// One image of a transfer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TransferRow {
    /// Where from.
    pub source: String,
    /// Where to.
    pub destination: String,
    /// What became of it.
    pub state: TransferState,
    /// The digest of its top manifest.
    pub digest: Option<String>,
    /// What a copied image is without, because its source was made without it: platforms, and digests of what names none.
    pub lacking: Vec<String>,
    /// Signatures, attestations and the like that were copied with it.
    pub referrers: u64,
    /// Its blobs.
    pub blobs: BlobTally,
    /// Why it failed, in a sentence.
    pub problem: Option<String>,
    /// What to do about it.
    pub fix: Option<String>,
}

/// What became of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TransferState {
    /// It was copied, or would be.
    Copied,
    /// The destination had it: nothing was done.
    Unchanged,
    /// It could not be copied.
    Failed,
}

/// What became of blobs; sizes in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BlobTally {
    /// Blobs that crossed the link.
    pub moved: u64,
    /// Bytes that crossed the link, those of failed attempts included.
    pub moved_bytes: u64,
    /// Blobs that the destination took over from another of its repositories.
    pub mounted: u64,
    /// Their bytes.
    pub mounted_bytes: u64,
    /// Blobs that were there.
    pub skipped: u64,
    /// Their bytes.
    pub skipped_bytes: u64,
}

/// All images of a transfer together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TransferSummary {
    /// Images that were copied, or would be.
    pub copied: usize,
    /// Images that the destination had.
    pub unchanged: usize,
    /// Images that failed.
    pub failed: usize,
    /// Signatures, attestations and the like that were copied with them.
    pub referrers: u64,
    /// The blobs of all.
    pub blobs: BlobTally,
}

impl TransferReport {
    /// The rows, counted.
    #[must_use]
    pub fn new(dry_run: bool, images: Vec<TransferRow>) -> TransferReport {
        let mut summary = TransferSummary::default();
        for row in &images {
            *match row.state {
                TransferState::Copied => &mut summary.copied,
                TransferState::Unchanged => &mut summary.unchanged,
                TransferState::Failed => &mut summary.failed,
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
