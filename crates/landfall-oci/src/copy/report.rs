//! The outcome of a copy, in blobs and bytes.

use landfall_core::oci_types::Descriptor;
use landfall_core::reference::Digest;

use crate::image::TransferError;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BlobOutcome {
    Moved,
    /// The registry mounted it from another repository.
    Mounted,
    /// The sink had it already.
    Skipped,
}

/// Totals of one copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyReport {
    /// The digest of the image's top manifest.
    pub digest: Digest,
    /// True if the sink had the complete image under its name. The blobs were not checked one by one.
    pub unchanged: bool,
    /// Bytes of blobs read from the source, including failed attempts.
    pub bytes_moved: u64,
    pub blobs_moved: u64,
    pub bytes_mounted: u64,
    /// Blobs that the sink's registry mounted from another repository.
    pub blobs_mounted: u64,
    pub bytes_skipped: u64,
    /// Blobs that the sink had already.
    pub blobs_skipped: u64,
    /// Index entries missing from the source by construction (a single-platform archive): platform, or digest if it has
    /// none.
    pub lacking: Vec<String>,
    /// Referrers (signatures, attestations) that the sink has now. Their blobs are counted with the image's.
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

    pub(super) fn add_referrer(&mut self, referrer: &CopyReport) {
        self.referrers += 1;
        self.bytes_moved += referrer.bytes_moved;
        self.blobs_moved += referrer.blobs_moved;
        self.bytes_mounted += referrer.bytes_mounted;
        self.blobs_mounted += referrer.blobs_mounted;
        self.bytes_skipped += referrer.bytes_skipped;
        self.blobs_skipped += referrer.blobs_skipped;
    }

    pub(super) fn count(&mut self, blob: &Descriptor, outcome: BlobOutcome) {
        let (blobs, bytes) = match outcome {
            // Its bytes were counted when they were read.
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
    pub error: TransferError,
    /// Totals until the failure; `None` if the manifest could not be fetched.
    pub so_far: Option<CopyReport>,
}

impl From<TransferError> for CopyFailure {
    fn from(error: TransferError) -> CopyFailure {
        CopyFailure { error, so_far: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::digest_of;

    #[test]
    fn blobs_are_counted_by_their_outcome_with_the_bytes_that_did_not_cross() {
        let mut report = CopyReport::new(digest_of(b""));
        for (outcome, size) in [
            (BlobOutcome::Moved, 1),
            (BlobOutcome::Mounted, 20),
            (BlobOutcome::Mounted, 30),
            (BlobOutcome::Skipped, 400),
            (BlobOutcome::Skipped, 500),
            (BlobOutcome::Skipped, 600),
        ] {
            report.count(&Descriptor::new("", digest_of(b""), size), outcome);
        }
        let expected = CopyReport {
            blobs_moved: 1,
            bytes_mounted: 50,
            blobs_mounted: 2,
            bytes_skipped: 1_500,
            blobs_skipped: 3,
            ..CopyReport::new(digest_of(b""))
        };
        assert_eq!(report, expected);
    }

    #[test]
    fn the_blobs_of_referrers_are_added_to_those_of_the_image() {
        let part = CopyReport {
            bytes_moved: 1,
            blobs_moved: 2,
            bytes_mounted: 3,
            blobs_mounted: 4,
            bytes_skipped: 5,
            blobs_skipped: 6,
            ..CopyReport::new(digest_of(b"referrer"))
        };
        let mut report = CopyReport::new(digest_of(b""));
        report.add_referrer(&part);
        report.add_referrer(&part);
        let expected = CopyReport {
            referrers: 2,
            bytes_moved: 2,
            blobs_moved: 4,
            bytes_mounted: 6,
            blobs_mounted: 8,
            bytes_skipped: 10,
            blobs_skipped: 12,
            ..CopyReport::new(digest_of(b""))
        };
        assert_eq!(report, expected);
    }
}
