//! Copies one blob: asks the sink for its state, mounts the blob or transfers the missing bytes.

use std::pin::pin;

use futures_util::{StreamExt, stream};
use landfall_core::failure::FailureKind;
use landfall_core::oci_types::Descriptor;
use landfall_core::reference::Repository;
use landfall_core::status::ProgressEvent;
use tokio::sync::mpsc;

use super::blob_locks::BlobLock;
use super::job::CopyJob;
use super::options::UploadHash;
use super::report::BlobOutcome;
use super::upload_digest::UploadDigest;
use crate::image::{BlobStart, BlobStream, RepositoryAddress, TransferError};

/// Chunks queued between source and sink, beside one that each of them holds: enough to keep both busy. hyper's have up
/// to 400 KiB.
const QUEUED_CHUNKS_MAX: usize = 1;

/// Length in bytes from which on a blob is worth the two requests of [`ImageSink::verifies_uploads`]: a hash of 8 MiB
/// takes 5 ms.
///
/// [`ImageSink::verifies_uploads`]: crate::image::ImageSink::verifies_uploads
const UNHASHED_MIN: u64 = 8 * 1024 * 1024;

/// The side that failed. Each side has its own retries.
enum BlobFailure {
    /// Final failure of the source: it was retried while the sink waited.
    Source(TransferError),
    /// Failure of the sink, or wrong bytes.
    Sink(TransferError),
}

impl CopyJob<'_> {
    /// Copies a blob. Returns the number of bytes read from the source, and the outcome.
    pub(super) async fn copy_blob(&self, blob: &Descriptor) -> (u64, Result<BlobOutcome, TransferError>) {
        let mut bytes_moved = 0;
        let outcome = self.copy_blob_counting(blob, &mut bytes_moved).await;
        (bytes_moved, outcome)
    }

    async fn copy_blob_counting(&self, blob: &Descriptor, bytes_moved: &mut u64) -> Result<BlobOutcome, TransferError> {
        let mut blob_lock = self.lock_blob(blob).await?;
        let address = self.sink.repository_address();
        let repository = address.as_ref().map(|address| &address.repository);
        if repository.is_some_and(|repository| blob_lock.repositories().contains(repository)) {
            return Ok(self.skip(blob, BlobOutcome::Skipped));
        }
        let _permit = self.unless_cancelled(self.options.in_flight.acquire(blob.size)).await?;
        let mut from = address
            .as_ref()
            .and_then(|address| self.mount_source(&blob_lock, address));
        let digest = blob.digest.as_str();
        // Sinks that are no registry hash the bytes themselves.
        let mut upload_digest = match address.is_some() && !self.leaves_hash_to_sink(blob).await {
            true => Some(UploadDigest::new(blob)),
            false => None,
        };
        let mut failed = 0;
        let mut furthest = 0;
        loop {
            let started = self
                .retrying(digest, || self.sink.start_blob(blob, from.as_ref()))
                .await;
            let offset = match started {
                Ok(BlobStart::Wanted(offset)) => offset,
                Ok(there) => {
                    repository
                        .into_iter()
                        .for_each(|repository| blob_lock.add_repository(repository));
                    let mounted = there == BlobStart::Mounted;
                    let outcome = if mounted {
                        BlobOutcome::Mounted
                    } else {
                        BlobOutcome::Skipped
                    };
                    return Ok(self.skip(blob, outcome));
                }
                // A login may write to this repository and have no right to read from the other one.
                Err(_) if from.is_some() => {
                    from = None;
                    continue;
                }
                Err(error) => return Err(error),
            };
            if let Some(refused) = from.take() {
                blob_lock.remove_repository(&refused);
            }
            if offset > furthest {
                furthest = offset;
                failed = 0;
            }
            if let Some(upload_digest) = &mut upload_digest
                && self.source.repository_address().is_none()
            {
                self.hash_beginning(blob, offset, upload_digest).await?;
            }
            match self.transfer(blob, offset, bytes_moved, upload_digest.as_mut()).await {
                Ok(()) => {
                    repository
                        .into_iter()
                        .for_each(|repository| blob_lock.add_repository(repository));
                    self.progress.progress(ProgressEvent::BlobFinished {
                        digest: digest.to_owned(),
                    });
                    return Ok(BlobOutcome::Moved);
                }
                Err(BlobFailure::Source(error)) if error.kind != FailureKind::Corrupt => return Err(error),
                Err(BlobFailure::Source(error) | BlobFailure::Sink(error)) => {
                    // The next attempt shows the side that has the wrong bytes.
                    if address.is_some() && error.kind == FailureKind::Corrupt && upload_digest.is_none() {
                        upload_digest = Some(UploadDigest::new(blob));
                    }
                    self.wait_to_retry(digest, &mut failed, error).await?
                }
            }
        }
    }

    /// Returns true if the sink's verification is enough ([`UploadHash::WhereUnverified`]).
    async fn leaves_hash_to_sink(&self, blob: &Descriptor) -> bool {
        self.options.upload_hash == UploadHash::WhereUnverified
            && blob.size >= UNHASHED_MIN
            && self.source.repository_address().is_some()
            && self.sink.verifies_uploads().await
    }

    /// Hashes the bytes that an earlier process sent. Reads them from a source on this machine only: from a registry
    /// they would cross the link a second time, so the sink's own verification has to suffice.
    async fn hash_beginning(
        &self,
        blob: &Descriptor,
        length: u64,
        upload_digest: &mut UploadDigest,
    ) -> Result<(), TransferError> {
        if upload_digest.covers(length) {
            return Ok(());
        }
        let mut position = 0;
        let mut stream = self.unless_cancelled(self.source.open_blob(blob, 0)).await??;
        while let Some(chunk) = self.unless_cancelled(stream.next()).await? {
            let chunk = chunk?;
            let wanted = usize::try_from(length - position).unwrap_or(usize::MAX);
            let hashed = &chunk[..chunk.len().min(wanted)];
            upload_digest.update(blob, position, hashed)?;
            position += hashed.len() as u64;
            if position == length {
                break;
            }
        }
        Ok(())
    }

    async fn lock_blob(&self, blob: &Descriptor) -> Result<BlobLock, TransferError> {
        let lock = self.options.blob_locks.lock(self.storage(), blob.digest.clone());
        self.unless_cancelled(lock).await
    }

    /// Returns the storage part of the key of [`super::BlobLocks`]: sinks of one registry share their blobs.
    pub(super) fn storage(&self) -> String {
        match self.sink.repository_address() {
            Some(address) => address.registry.to_string(),
            None => self.sink.describe(),
        }
    }

    /// Returns true if source and sink are one registry: it can mount the blobs.
    pub(super) fn is_within_registry(&self) -> bool {
        let (source, sink) = (self.source.repository_address(), self.sink.repository_address());
        source
            .zip(sink)
            .is_some_and(|(source, sink)| source.registry == sink.registry)
    }

    /// Removes the hint that the sink has a blob.
    pub(super) async fn forget(&self, blob: &Descriptor) -> Result<(), TransferError> {
        if let Some(address) = self.sink.repository_address() {
            self.lock_blob(blob).await?.remove_repository(&address.repository);
        }
        Ok(())
    }

    /// Returns another repository of the sink's registry that has the blob: one that received it in this process, or
    /// the source.
    fn mount_source(&self, blob_lock: &BlobLock, sink: &RepositoryAddress) -> Option<Repository> {
        let source = self
            .source
            .repository_address()
            .filter(|source| source.registry == sink.registry);
        let known = blob_lock.repositories().last().cloned();
        known
            .or(source.map(|source| source.repository))
            .filter(|from| *from != sink.repository)
    }

    fn skip(&self, blob: &Descriptor, outcome: BlobOutcome) -> BlobOutcome {
        self.progress.progress(ProgressEvent::BlobSkipped {
            digest: blob.digest.to_string(),
            size: blob.size,
        });
        outcome
    }

    /// Transfers a blob from `offset` on. The source is read and the sink is written in this task. If the copy is
    /// cancelled, the sink's stream fails and the sink keeps the received bytes.
    async fn transfer(
        &self,
        blob: &Descriptor,
        offset: u64,
        bytes_moved: &mut u64,
        upload_digest: Option<&mut UploadDigest>,
    ) -> Result<(), BlobFailure> {
        self.progress.progress(ProgressEvent::BlobStarted {
            image: self.image.clone(),
            digest: blob.digest.to_string(),
            size: blob.size,
            offset,
        });
        let (sender, receiver) = mpsc::channel(QUEUED_CHUNKS_MAX);
        let received: BlobStream = Box::pin(stream::unfold(receiver, async |mut receiver| {
            let chunk = receiver.recv().await?;
            Some((chunk, receiver))
        }));
        let mut reading = pin!(self.read_resuming(blob, offset, sender, bytes_moved, upload_digest));
        let mut writing = self.sink.write_blob(blob, offset, received);
        let mut read = None;
        loop {
            tokio::select! {
                written = &mut writing => return match (read, written) {
                    (_, Ok(())) => Ok(()),
                    // The sink failed because its stream did: the source's error says more.
                    (Some(Err(error)), Err(_)) => Err(BlobFailure::Source(error)),
                    (_, Err(error)) => Err(BlobFailure::Sink(error)),
                },
                result = &mut reading, if read.is_none() => read = Some(result),
            }
        }
    }
}
