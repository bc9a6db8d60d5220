//! Progress of a transfer, computed from its events: the bytes to move and the bytes moved.

use std::collections::HashMap;

use super::ProgressEvent;

/// Counter for the bytes of all blobs that have to move. Each blob counts once, even if several images share it or its
/// transfer is retried.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TransferTally {
    blobs: HashMap<String, Blob>,
    done: u64,
    total: u64,
}

/// One blob. Positions are in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Blob {
    size: u64,
    /// The start of the part that this run has to move.
    first: u64,
    /// The current position of the transfer.
    position: u64,
    /// The highest position so far.
    furthest: u64,
    state: TransferStage,
    /// The bytes of this blob that were moved to other destinations.
    elsewhere: u64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum TransferStage {
    #[default]
    Planned,
    UnderWay,
    Finished,
}

impl TransferTally {
    /// Returns the number of bytes moved so far.
    #[must_use]
    pub fn done(&self) -> u64 {
        self.done
    }

    /// Returns the number of bytes that have to move, as far as known.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.total
    }

    pub fn note(&mut self, event: &ProgressEvent) {
        match event {
            ProgressEvent::BlobPlanned { digest, size } => self.change(digest, *size, |_| {}),
            ProgressEvent::BlobStarted {
                digest, size, offset, ..
            } => self.change(digest, *size, |blob| blob.start(*offset)),
            ProgressEvent::BlobAdvanced { digest, bytes } => self.change(digest, 0, |blob| blob.advance(*bytes)),
            ProgressEvent::BlobFinished { digest } => self.change(digest, 0, Blob::finish),
            ProgressEvent::BlobSkipped { digest, size } => self.change(digest, *size, Blob::skip),
            ProgressEvent::Phase { .. }
            | ProgressEvent::Retrying { .. }
            | ProgressEvent::ImageFinished { .. }
            | ProgressEvent::ImageFailed { .. } => {}
        }
    }

    fn change(&mut self, digest: &str, size: u64, change: impl FnOnce(&mut Blob)) {
        let blob = self.blobs.entry(digest.to_owned()).or_default();
        self.done -= blob.done();
        self.total -= blob.total();
        blob.size = blob.size.max(size);
        change(blob);
        self.done += blob.done();
        self.total += blob.total();
    }
}

impl Blob {
    fn done(&self) -> u64 {
        self.elsewhere + self.furthest.saturating_sub(self.first)
    }

    fn total(&self) -> u64 {
        self.elsewhere + self.size.saturating_sub(self.first)
    }

    fn start(&mut self, offset: u64) {
        if self.state == TransferStage::Finished {
            *self = Blob {
                size: self.size,
                elsewhere: self.done(),
                ..Blob::default()
            };
        }
        if self.state == TransferStage::Planned {
            (self.first, self.furthest) = (offset, offset);
        }
        // The destination may have lost a part that it had.
        self.first = self.first.min(offset);
        self.position = offset;
        self.state = TransferStage::UnderWay;
    }

    fn advance(&mut self, bytes: u64) {
        self.position = self.position.saturating_add(bytes).min(self.size);
        self.furthest = self.furthest.max(self.position);
    }

    fn finish(&mut self) {
        self.furthest = self.size;
        self.state = TransferStage::Finished;
    }

    /// Records that the blob exists at the destination: from before, or because another image brought it.
    fn skip(&mut self) {
        if self.state == TransferStage::Planned {
            (self.first, self.furthest) = (self.size, self.size);
        }
        self.finish();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(digest: &str, size: u64) -> ProgressEvent {
        ProgressEvent::BlobPlanned {
            digest: digest.to_owned(),
            size,
        }
    }

    fn started(digest: &str, size: u64, offset: u64) -> ProgressEvent {
        ProgressEvent::BlobStarted {
            image: "i".to_owned(),
            digest: digest.to_owned(),
            size,
            offset,
        }
    }

    fn advanced(digest: &str, bytes: u64) -> ProgressEvent {
        ProgressEvent::BlobAdvanced {
            digest: digest.to_owned(),
            bytes,
        }
    }

    fn finished(digest: &str) -> ProgressEvent {
        ProgressEvent::BlobFinished {
            digest: digest.to_owned(),
        }
    }

    fn skipped(digest: &str, size: u64) -> ProgressEvent {
        ProgressEvent::BlobSkipped {
            digest: digest.to_owned(),
            size,
        }
    }

    #[test]
    fn each_byte_that_has_to_move_counts_once() {
        let cases = [
            (
                "two images share a blob",
                vec![planned("a", 10), planned("a", 10), planned("b", 5)],
                (0, 15),
            ),
            (
                "one is there already",
                vec![planned("a", 10), planned("b", 5), skipped("a", 10)],
                (0, 5),
            ),
            (
                "the second image gets it from the first one's repository",
                vec![
                    planned("a", 10),
                    started("a", 10, 0),
                    advanced("a", 10),
                    finished("a"),
                    skipped("a", 10),
                ],
                (10, 10),
            ),
            (
                "an earlier run brought a part",
                vec![planned("a", 10), started("a", 10, 4), advanced("a", 3)],
                (3, 6),
            ),
            (
                "it is begun anew",
                vec![
                    started("a", 10, 0),
                    advanced("a", 8),
                    started("a", 10, 0),
                    advanced("a", 3),
                ],
                (8, 10),
            ),
            (
                "what an earlier run brought is lost",
                vec![
                    started("a", 10, 4),
                    advanced("a", 2),
                    started("a", 10, 0),
                    advanced("a", 10),
                ],
                (10, 10),
            ),
            (
                "it goes to two registries",
                vec![
                    started("a", 10, 0),
                    advanced("a", 10),
                    finished("a"),
                    started("a", 10, 0),
                    advanced("a", 1),
                ],
                (11, 20),
            ),
            (
                "another transfer brings it meanwhile",
                vec![started("a", 10, 0), advanced("a", 2), skipped("a", 10)],
                (10, 10),
            ),
        ];
        for (case, events, expected) in cases {
            let mut tally = TransferTally::default();
            events.iter().for_each(|event| tally.note(event));
            assert_eq!((tally.done(), tally.total()), expected, "{case}");
        }
    }
}
