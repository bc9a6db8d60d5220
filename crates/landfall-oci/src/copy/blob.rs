//! One blob: is it there, how much of it, and the rest.

use std::pin::pin;

use futures_util::stream;
use landfall_core::oci_types::Descriptor;
use landfall_core::status::ProgressEvent;
use tokio::sync::mpsc;

use super::Job;
use super::retries::stopped;
use crate::image::{BlobState, BlobStream, TransferError};

/// Pieces that may wait between source and sink: enough to keep both busy, too few to matter for memory.
const PIECES_WAITING_MAX: usize = 8;

/// What became of a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BlobOutcome {
    /// It was written.
    Moved,
    /// It was there.
    Skipped,
}

/// Who failed, because each side is tried again in its own way.
enum BlobFailure {
    /// The source, for good: it was tried again while the sink waited.
    Source(TransferError),
    /// The sink, or the bytes were not the right ones.
    Sink(TransferError),
}

impl Job<'_> {
    /// The bytes that were read from the source, and what came of it.
    pub(super) async fn copy_blob(&self, blob: &Descriptor) -> (u64, Result<BlobOutcome, TransferError>) {
        let mut bytes_moved = 0;
        let outcome = self.copy_blob_counting(blob, &mut bytes_moved).await;
        (bytes_moved, outcome)
    }

    async fn copy_blob_counting(&self, blob: &Descriptor, bytes_moved: &mut u64) -> Result<BlobOutcome, TransferError> {
        let turn = self.options.in_flight.turn(self.sink.describe(), blob.digest.clone());
        let _turn = self.unless_stopped(turn).await?;
        // `Err` means a closed semaphore: the owner of the options wants no more transfers.
        let permit = self.unless_stopped(self.options.transfers.acquire()).await?;
        let _permit = permit.map_err(|_| stopped(&self.image))?;
        let digest = blob.digest.as_str();
        let mut failed = 0;
        let mut furthest = 0;
        loop {
            let offset = match self.retrying(digest, || self.sink.blob_state(blob)).await? {
                BlobState::Complete => {
                    return Ok(self.skip(blob));
                }
                BlobState::Partial(offset) => offset,
                BlobState::Missing => 0,
            };
            if offset > furthest {
                furthest = offset;
                failed = 0;
            }
            match self.transfer(blob, offset, bytes_moved).await {
                Ok(()) => {
                    self.progress.progress(ProgressEvent::BlobFinished {
                        digest: digest.to_owned(),
                    });
                    return Ok(BlobOutcome::Moved);
                }
                Err(BlobFailure::Source(error)) => return Err(error),
                Err(BlobFailure::Sink(error)) => self.wait_to_retry(digest, &mut failed, error).await?,
            }
        }
    }

    fn skip(&self, blob: &Descriptor) -> BlobOutcome {
        self.progress.progress(ProgressEvent::BlobSkipped {
            digest: blob.digest.to_string(),
            size: blob.size,
        });
        BlobOutcome::Skipped
    }

    /// Moves the rest of a blob: the source feeds, the sink writes, both in this task. When the copy is stopped, the sink
    /// sees its stream fail and keeps what it has.
    async fn transfer(&self, blob: &Descriptor, offset: u64, bytes_moved: &mut u64) -> Result<(), BlobFailure> {
        self.progress.progress(ProgressEvent::BlobStarted {
            image: self.image.clone(),
            digest: blob.digest.to_string(),
            size: blob.size,
            offset,
        });
        let (sender, receiver) = mpsc::channel(PIECES_WAITING_MAX);
        let received: BlobStream = Box::pin(stream::unfold(receiver, async |mut receiver| {
            let piece = receiver.recv().await?;
            Some((piece, receiver))
        }));
        let mut feed = pin!(self.feed(blob, offset, sender, bytes_moved));
        let mut write = self.sink.write_blob(blob, offset, received);
        let mut fed = None;
        loop {
            tokio::select! {
                written = &mut write => return match (fed, written) {
                    (_, Ok(())) => Ok(()),
                    // The sink failed because its stream did: the source's own words say more.
                    (Some(Err(error)), Err(_)) => Err(BlobFailure::Source(error)),
                    (_, Err(error)) => Err(BlobFailure::Sink(error)),
                },
                result = &mut feed, if fed.is_none() => fed = Some(result),
            }
        }
    }
}
