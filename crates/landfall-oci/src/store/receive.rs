//! Receives streams into files, whose disk work runs on blocking threads.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::future::OptionFuture;
use futures_util::{FutureExt, Stream, StreamExt};
use landfall_core::sync::lock;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::store::blocking::blocking;
use crate::store::error::StoreError;
use crate::store::ingest::BlobWriter;

/// Bytes queued for the disk before the network must wait. Counted in bytes and not in chunks: hyper's have any size up
/// to 400 KiB. With twice as many, a bundle takes 4 MB more memory and is made no faster.
const WAITING_MAX: u32 = 512 * 1024;

/// A destination of received bytes.
pub trait ByteReceiver: Send + 'static {
    fn append(&mut self, bytes: &[u8]) -> Result<(), StoreError>;
}

impl ByteReceiver for BlobWriter {
    fn append(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        BlobWriter::append(self, bytes)
    }
}

/// Receives a stream. Its chunks are written on a blocking thread, which is taken only while there are bytes to write: a
/// slow sender occupies none. Returns the receiver with the bytes until the end or failure of the stream, and the
/// stream's error.
///
/// If the future is dropped, the chunks that have arrived are still written.
pub async fn receive_stream<R: ByteReceiver, E>(
    open: impl FnOnce() -> Result<R, StoreError> + Send + 'static,
    mut stream: impl Stream<Item = Result<Bytes, E>> + Unpin,
) -> Result<(R, Result<(), E>), StoreError> {
    let writer = Arc::new(ChunkWriter::default());
    let room = Arc::new(Semaphore::new(WAITING_MAX as usize));
    let first = writer.clone();
    let mut writing = Some(blocking(move || first.write(open()?)).boxed());
    let mut without_room: Option<Bytes> = None;
    let mut ended = None;
    loop {
        if writing.is_none()
            && without_room.is_none()
            && let Some(ended) = ended.take()
        {
            let receiver = writer.take().ok_or(StoreError::Stopping)?;
            return Ok((receiver, ended));
        }
        let size = without_room.as_ref().map_or(0, chunk_size);
        tokio::select! {
            written = async { OptionFuture::from(writing.as_mut()).await }, if writing.is_some() => {
                writing = None;
                written.transpose()?;
            }
            taken = room.clone().acquire_many_owned(size), if without_room.is_some() => {
                let taken = taken.expect("nobody closes this semaphore");
                if let Some(bytes) = without_room.take()
                    && let Some(receiver) = writer.push((bytes, taken))
                {
                    let writer = writer.clone();
                    writing = Some(blocking(move || writer.write(receiver)).boxed());
                }
            }
            chunk = stream.next(), if without_room.is_none() && ended.is_none() => match chunk {
                Some(Ok(bytes)) => without_room = Some(bytes),
                Some(Err(error)) => ended = Some(Err(error)),
                None => ended = Some(Ok(())),
            },
        }
    }
}

/// Returns the number of bytes that a chunk counts for.
fn chunk_size(bytes: &Bytes) -> u32 {
    u32::try_from(bytes.len()).map_or(WAITING_MAX, |size| size.clamp(1, WAITING_MAX))
}

/// A chunk with its room.
type Chunk = (Bytes, OwnedSemaphorePermit);

/// Chunks that wait for the disk, and the receiver while no thread writes.
#[derive(Debug)]
struct ChunkWriter<R>(Mutex<(VecDeque<Chunk>, Option<R>)>);

impl<R> Default for ChunkWriter<R> {
    fn default() -> ChunkWriter<R> {
        ChunkWriter(Mutex::new((VecDeque::new(), None)))
    }
}

impl<R: ByteReceiver> ChunkWriter<R> {
    /// Queues a chunk. Returns the receiver if no thread writes: the caller starts one at once.
    fn push(&self, chunk: Chunk) -> Option<R> {
        let (queue, receiver) = &mut *lock(&self.0);
        queue.push_back(chunk);
        receiver.take()
    }

    fn take(&self) -> Option<R> {
        lock(&self.0).1.take()
    }

    /// Writes chunks until none is left.
    fn write(&self, mut receiver: R) -> Result<(), StoreError> {
        loop {
            let (bytes, _room) = {
                let (queue, idle) = &mut *lock(&self.0);
                match queue.pop_front() {
                    Some(chunk) => chunk,
                    None => {
                        *idle = Some(receiver);
                        return Ok(());
                    }
                }
            };
            receiver.append(&bytes)?;
        }
    }
}
