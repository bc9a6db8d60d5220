//! Receives streams into files on a blocking thread.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::store::blocking::blocking;
use crate::store::error::StoreError;
use crate::store::ingest::BlobWriter;

/// Bytes queued for the disk before the network must wait. Counted in bytes and not in chunks: hyper's have any size up
/// to 400 KiB.
const WAITING_MAX: u32 = 1024 * 1024;

/// A destination of received bytes.
pub trait ByteReceiver: Send + 'static {
    fn append(&mut self, bytes: &[u8]) -> Result<(), StoreError>;
}

impl ByteReceiver for BlobWriter {
    fn append(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        BlobWriter::append(self, bytes)
    }
}

/// Receives a stream on a blocking thread. Returns the receiver with the bytes until the end or failure of the stream,
/// and the stream's error.
pub async fn receive_stream<R: ByteReceiver, E>(
    open: impl FnOnce() -> Result<R, StoreError> + Send + 'static,
    mut stream: impl Stream<Item = Result<Bytes, E>> + Unpin,
) -> Result<(R, Result<(), E>), StoreError> {
    let (sender, mut chunks) = mpsc::unbounded_channel::<(Bytes, OwnedSemaphorePermit)>();
    let receive = blocking(move || {
        let mut receiver = open()?;
        while let Some((bytes, _room)) = chunks.blocking_recv() {
            receiver.append(&bytes)?;
        }
        Ok(receiver)
    });
    let room = Arc::new(Semaphore::new(WAITING_MAX as usize));
    let forward = async move {
        while let Some(bytes) = stream.next().await {
            let bytes = bytes?;
            let size = u32::try_from(bytes.len()).map_or(WAITING_MAX, |size| size.clamp(1, WAITING_MAX));
            let taken = room.clone().acquire_many_owned(size).await;
            let taken = taken.expect("nobody closes this semaphore");
            // The channel is closed only after the receiver failed; `receive` returns its error.
            if sender.send((bytes, taken)).is_err() {
                break;
            }
        }
        Ok(())
    };
    let (receiver, forwarded) = futures_util::join!(receive, forward);
    Ok((receiver?, forwarded))
}
