//! The outcome of a copy, in blobs and bytes.

use landfall_core::oci_types::Descriptor;
use landfall_core::reference::Digest;

use crate::image::TransferError;

/// What became of a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BlobOutcome {
    /// It was written.
    Moved,
    /// The registry took it over from another of its repositories.
    Mounted,
    /// It was there.
    Skipped,
}

/// What a copy amounted to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyReport {
    /// The digest of the image's top manifest.
    pub digest: Digest,
    /// The sink had the whole image under its name: nobody looked at the blobs.
    pub unchanged: bool,
    /// Bytes of blobs that were read from the source, those of failed attempts included.
    pub bytes_moved: u64,
    /// Blobs that were written.
    pub blobs_moved: u64,
    /// Bytes of the blobs that were mounted.
    pub bytes_mounted: u64,
    /// Blobs that the sink's registry took over from another of its repositories.
    pub blobs_mounted: u64,
    /// Bytes of the blobs that the sink had already.
    pub bytes_skipped: u64,
    /// Blobs that the sink had already.
    pub blobs_skipped: u64,
    /// What an image that was copied is without, because the source was made without it: platforms, and digests of what
    /// names none.
    pub lacking: Vec<String>,
    /// Signatures, attestations and the like that the sink has now; their blobs are counted with the image's.
    pub referrers: u64,
}

impl CopyReport {
    pub(super) fn new(digest: Digest) -> CopyReport {
        CopyReport {
            digest,
            unchanged: false,
            bytes_moved: 0,
            blobs_moved: 0,
            bytes_mounted: 0,
            blobs_mounted: 0,
            bytes_skipped: 0,
            blobs_skipped: 0,
            lacking: Vec::new(),
            referrers: 0,
        }
    }

    pub(super) fn add_referrer(&mut self, part: &CopyReport) {
        self.referrers += 1;
        self.bytes_moved += part.bytes_moved;
        self.blobs_moved += part.blobs_moved;
        self.bytes_mounted += part.bytes_mounted;
        self.blobs_mounted += part.blobs_mounted;
        self.bytes_skipped += part.bytes_skipped;
        self.blobs_skipped += part.blobs_skipped;
    }

    pub(super) fn count(&mut self, blob: &Descriptor, outcome: BlobOutcome) {
        let (blobs, bytes) = match outcome {
            // Its bytes were counted as they came.
            BlobOutcome::Moved => {
                self.blobs_moved += 1;
                return;
            }
            BlobOutcome::Mounted => (&mut self.blobs_mounted, &mut self.bytes_mounted),
            BlobOutcome::Skipped => (&mut self.blobs_skipped, &mut self.bytes_skipped),
        };
        *blobs += 1;
        *bytes += blob.size;
    }
}

/// A copy of an image failed.
#[derive(Debug)]
pub struct CopyFailure {
    /// Why.
    pub error: TransferError,
    /// What it amounted to until then; `None` when the source did not even have the manifest.
    pub so_far: Option<CopyReport>,
}

impl From<TransferError> for CopyFailure {
    fn from(error: TransferError) -> CopyFailure {
        CopyFailure { error, so_far: None }
    }
}
