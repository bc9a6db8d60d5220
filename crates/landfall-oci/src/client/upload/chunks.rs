//! Splits the stream of a blob into chunks. Each chunk is a stream of its own; no chunk is buffered in memory.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::Stream;
use landfall_core::sync::lock;

use crate::image::{BlobStream, TransferError};

/// The unread bytes of a blob.
pub(super) struct BlobChunks {
    source: Arc<Mutex<Source>>,
}

struct Source {
    stream: BlobStream,
    /// Bytes that came with the end of a chunk and belong to the next one.
    rest: Bytes,
}

impl BlobChunks {
    pub(super) fn new(stream: BlobStream) -> BlobChunks {
        let source = Source {
            stream,
            rest: Bytes::new(),
        };
        BlobChunks {
            source: Arc::new(Mutex::new(source)),
        }
    }

    /// Returns a stream of the next `length` bytes. The previous chunk must be finished: unread bytes of it would come
    /// first.
    pub(super) fn next(&self, length: u64) -> BlobStream {
        Box::pin(Chunk {
            source: self.source.clone(),
            left: length,
        })
    }
}

struct Chunk {
    source: Arc<Mutex<Source>>,
    left: u64,
}

impl Stream for Chunk {
    type Item = Result<Bytes, TransferError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let mut bytes = {
            let mut source = lock(&self.source);
            if source.rest.is_empty() {
                match source.stream.as_mut().poll_next(cx) {
                    Poll::Ready(Some(Ok(bytes))) => source.rest = bytes,
                    other => return other,
                }
            }
            std::mem::take(&mut source.rest)
        };
        let given = usize::try_from(self.left).map_or(bytes.len(), |left| left.min(bytes.len()));
        let rest = bytes.split_off(given);
        lock(&self.source).rest = rest;
        self.left -= given as u64;
        Poll::Ready(Some(Ok(bytes)))
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{TryStreamExt, stream};
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn chunks_put_together_are_the_blob(parts in prop::collection::vec(1..9_usize, 0..9), length in 1..9_u64) {
            let total: usize = parts.iter().sum();
            let blob: Vec<u8> = (0..=u8::MAX).cycle().take(total).collect();
            let mut left = Bytes::from(blob.clone());
            let parts: Vec<_> = parts.iter().map(|&size| Ok(left.split_to(size))).collect();
            let chunks = BlobChunks::new(Box::pin(stream::iter(parts)));
            let mut together = Vec::new();
            while together.len() < total {
                let expected = (total - together.len()).min(usize::try_from(length).unwrap());
                let bytes = futures_util::FutureExt::now_or_never(chunks.next(length).try_collect());
                let chunk: Vec<Bytes> = bytes.unwrap().unwrap();
                prop_assert_eq!(chunk.concat().len(), expected);
                together.extend(chunk.concat());
            }
            prop_assert_eq!(together, blob);
        }
    }
}
