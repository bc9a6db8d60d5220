//! Streams that are received into a file on a blocking thread.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::store::blocking::blocking;
use crate::store::error::StoreError;
use crate::store::ingest::BlobWriter;

/// How many bytes wait for the disk before the network has to. Counted in bytes and not in pieces: hyper's are of any size
/// up to 400 KiB.
const WAITING_MAX: u32 = 1024 * 1024;

/// What bytes can be received into.
pub trait ByteReceiver: Send + 'static {
    /// Takes in more bytes.
    fn append(&mut self, bytes: &[u8]) -> Result<(), StoreError>;
}

impl ByteReceiver for BlobWriter {
    fn append(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        BlobWriter::append(self, bytes)
    }
}

/// Receives a stream on a blocking thread. Gives the receiver back, with what it got until the stream ended or failed.
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
            // Nobody listens only when the receiver failed, which then says why.
            if sender.send((bytes, taken)).is_err() {
                break;
            }
        }
        Ok(())
    };
    let (receiver, forwarded) = futures_util::join!(receive, forward);
    Ok((receiver?, forwarded))
}
