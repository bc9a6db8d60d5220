//! Clients that are too slow: of the bytes that a client sends, and of those that it takes, [`PACE_BYTES`] have to pass
//! within [`ServeLimits::stall`] of waiting for it. Only waiting for the client counts: the disk may take its time.
//!
//! [`ServeLimits::stall`]: crate::serve::limits::ServeLimits::stall

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep, timeout};

use crate::pace::Pace;

/// A client with which fewer bytes pass keeps a connection, and often a file, busy for nothing.
pub const PACE_BYTES: usize = 16 * 1024;

/// The pace that a client has to keep.
pub fn pace_of_clients(limit: Duration) -> Pace {
    Pace::new(limit, PACE_BYTES as u64)
}

/// A [`Pace`] of something that is polled.
#[derive(Debug)]
struct PolledPace {
    pace: Pace,
    waiting: Option<(Instant, Pin<Box<Sleep>>)>,
}

impl PolledPace {
    fn new(limit: Duration) -> PolledPace {
        PolledPace {
            pace: pace_of_clients(limit),
            waiting: None,
        }
    }

    /// What a poll came to; an error once the client is too slow. `moved` tells how many bytes passed.
    fn check<T>(
        &mut self,
        context: &mut Context<'_>,
        poll: Poll<T>,
        moved: impl FnOnce(&T) -> usize,
    ) -> Poll<Result<T, io::Error>> {
        match poll {
            Poll::Ready(ready) => {
                if let Some((since, _)) = self.waiting.take() {
                    self.pace.waited(since.elapsed());
                }
                self.pace.moved(moved(&ready));
                Poll::Ready(Ok(ready))
            }
            Poll::Pending => {
                let left = self.pace.left();
                let (_, sleep) = self
                    .waiting
                    .get_or_insert_with(|| (Instant::now(), Box::pin(sleep(left))));
                sleep.as_mut().poll(context).map(|()| Err(too_slow()))
            }
        }
    }
}

/// Why a connection with a client that is too slow ends.
pub fn too_slow() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the client is too slow")
}

/// What a client is waited for, for so long.
pub async fn within<T>(limit: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(limit, work).await.map_err(|_elapsed| too_slow())?
}

/// A request's body, whose sender keeps pace.
#[derive(Debug)]
pub struct PacedBody<B> {
    body: B,
    pace: PolledPace,
}

impl<B> PacedBody<B> {
    /// A body whose sender is given up after `limit` of waiting.
    pub fn new(body: B, limit: Duration) -> PacedBody<B> {
        PacedBody {
            body,
            pace: PolledPace::new(limit),
        }
    }
}

impl<B> HttpBody for PacedBody<B>
where
    B: HttpBody<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Unpin,
{
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let PacedBody { body, pace } = self.get_mut();
        let poll = Pin::new(body).poll_frame(context);
        pace.check(context, poll, |frame| match frame {
            Some(Ok(frame)) => frame.data_ref().map_or(0, Bytes::len),
            Some(Err(_)) | None => 0,
        })
        .map(|checked| match checked {
            Ok(frame) => frame.map(|frame| frame.map_err(Into::into)),
            Err(error) => Some(Err(error.into())),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A connection, whose client keeps pace with what it is sent.
#[derive(Debug)]
pub struct PacedStream<S> {
    /// What was read of the stream before.
    prefix: BytesMut,
    stream: S,
    pace: PolledPace,
}

impl<S> PacedStream<S> {
    /// A stream of which something was read already.
    pub fn with_prefix(prefix: BytesMut, stream: S, limit: Duration) -> PacedStream<S> {
        PacedStream {
            prefix,
            stream,
            pace: PolledPace::new(limit),
        }
    }
}

impl<S: Unpin> PacedStream<S> {
    fn write_with(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut S>, &mut Context<'_>) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        let PacedStream { stream, pace, .. } = self.get_mut();
        let poll = write(Pin::new(stream), context);
        let written = |result: &io::Result<usize>| result.as_ref().map_or(0, |written| *written);
        pace.check(context, poll, written).map(Result::flatten)
    }

    fn end_with(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        end: impl FnOnce(Pin<&mut S>, &mut Context<'_>) -> Poll<io::Result<()>>,
    ) -> Poll<io::Result<()>> {
        let PacedStream { stream, pace, .. } = self.get_mut();
        let poll = end(Pin::new(stream), context);
        pace.check(context, poll, |_| 0).map(Result::flatten)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for PacedStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.prefix.is_empty() {
            return Pin::new(&mut self.stream).poll_read(context, buffer);
        }
        let length = self.prefix.len().min(buffer.remaining());
        buffer.put_slice(&self.prefix.split_to(length));
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for PacedStream<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.write_with(context, |stream, context| stream.poll_write(context, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.write_with(context, |stream, context| stream.poll_write_vectored(context, pieces))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.end_with(context, AsyncWrite::poll_flush)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.end_with(context, AsyncWrite::poll_shutdown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_bytes_enough_make_up_for_the_waiting() {
        let second = Duration::from_secs(1);
        let mut pace = pace_of_clients(3 * second);
        pace.waited(2 * second);
        pace.moved(PACE_BYTES - 1);
        assert_eq!(pace.left(), second);
        pace.moved(1);
        assert_eq!(pace.left(), 3 * second);
        pace.waited(4 * second);
        assert_eq!(pace.left(), Duration::ZERO);
    }
}
