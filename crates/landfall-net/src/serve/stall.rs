//! Detection of slow clients. At least [`STALL_BYTES`] have to pass within [`ServeLimits::stall`] of waiting for the
//! client, in either direction. Only time spent waiting for the client counts, so a slow disk stalls nobody.
//!
//! [`ServeLimits::stall`]: crate::serve::limits::ServeLimits::stall

use std::error::Error;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep, timeout};

use crate::stall::StallTimer;

/// Minimum of bytes within the limit. A client below it occupies a connection, and often an open file, without
/// progress.
pub const STALL_BYTES: usize = 16 * 1024;

/// Returns the stall timer of a client.
pub fn client_stall_timer(limit: Duration) -> StallTimer {
    StallTimer::new(limit, STALL_BYTES as u64)
}

/// A [`StallTimer`] for polled I/O.
#[derive(Debug)]
struct PolledStallTimer {
    stall_timer: StallTimer,
    waiting: Option<(Instant, Pin<Box<Sleep>>)>,
}

impl PolledStallTimer {
    fn new(limit: Duration) -> PolledStallTimer {
        PolledStallTimer {
            stall_timer: client_stall_timer(limit),
            waiting: None,
        }
    }

    /// Passes the result of a poll on. Returns an error once the client is too slow. `moved` returns the number of
    /// bytes that passed.
    fn check<T>(
        &mut self,
        context: &mut Context<'_>,
        poll: Poll<T>,
        moved: impl FnOnce(&T) -> usize,
    ) -> Poll<Result<T, io::Error>> {
        match poll {
            Poll::Ready(ready) => {
                if let Some((since, _)) = self.waiting.take() {
                    self.stall_timer.add_wait(since.elapsed());
                }
                self.stall_timer.add_bytes(moved(&ready));
                Poll::Ready(Ok(ready))
            }
            Poll::Pending => {
                let left = self.stall_timer.remaining();
                let (_, sleep) = self
                    .waiting
                    .get_or_insert_with(|| (Instant::now(), Box::pin(sleep(left))));
                sleep.as_mut().poll(context).map(|()| Err(slow_client_error()))
            }
        }
    }
}

/// Returns the error that ends the connection of a slow client.
pub fn slow_client_error() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the client is too slow")
}

/// Returns true if an error says that the client was too slow. A server answers it with 408 (RFC 9110 section 15.5.9),
/// after which a client may send its request again.
#[must_use]
pub fn is_slow_client(error: &(dyn Error + 'static)) -> bool {
    std::iter::successors(Some(error), |&error| error.source()).any(|cause| {
        cause
            .downcast_ref::<io::Error>()
            .is_some_and(|cause| cause.kind() == io::ErrorKind::TimedOut)
    })
}

/// Waits for a client for at most `limit`.
pub async fn with_timeout<T>(limit: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(limit, work).await.map_err(|_elapsed| slow_client_error())?
}

/// A request body that fails once its sender is too slow.
#[derive(Debug)]
pub struct TimedBody<B> {
    body: B,
    stall_timer: PolledStallTimer,
}

impl<B> TimedBody<B> {
    /// Returns a body whose sender may stall for `limit`.
    pub fn new(body: B, limit: Duration) -> TimedBody<B> {
        TimedBody {
            body,
            stall_timer: PolledStallTimer::new(limit),
        }
    }
}

impl<B> HttpBody for TimedBody<B>
where
    B: HttpBody<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Unpin,
{
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let TimedBody { body, stall_timer } = self.get_mut();
        let poll = Pin::new(body).poll_frame(context);
        stall_timer
            .check(context, poll, |frame| match frame {
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

/// A connection that fails once the client takes the bytes too slowly.
#[derive(Debug)]
pub struct TimedStream<S> {
    /// Bytes that were already read of the stream.
    prefix: BytesMut,
    stream: S,
    stall_timer: PolledStallTimer,
}

impl<S> TimedStream<S> {
    /// Returns a stream that yields `prefix` first.
    pub fn with_prefix(prefix: BytesMut, stream: S, limit: Duration) -> TimedStream<S> {
        TimedStream {
            prefix,
            stream,
            stall_timer: PolledStallTimer::new(limit),
        }
    }
}

impl<S: Unpin> TimedStream<S> {
    fn write_with(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut S>, &mut Context<'_>) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        let TimedStream {
            stream, stall_timer, ..
        } = self.get_mut();
        let poll = write(Pin::new(stream), context);
        let written = |result: &io::Result<usize>| result.as_ref().map_or(0, |written| *written);
        stall_timer.check(context, poll, written).map(Result::flatten)
    }

    fn end_with(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        end: impl FnOnce(Pin<&mut S>, &mut Context<'_>) -> Poll<io::Result<()>>,
    ) -> Poll<io::Result<()>> {
        let TimedStream {
            stream, stall_timer, ..
        } = self.get_mut();
        let poll = end(Pin::new(stream), context);
        stall_timer.check(context, poll, |_| 0).map(Result::flatten)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for TimedStream<S> {
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

impl<S: AsyncWrite + Unpin> AsyncWrite for TimedStream<S> {
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
        let mut stall_timer = client_stall_timer(3 * second);
        stall_timer.add_wait(2 * second);
        stall_timer.add_bytes(STALL_BYTES - 1);
        assert_eq!(stall_timer.remaining(), second);
        stall_timer.add_bytes(1);
        assert_eq!(stall_timer.remaining(), 3 * second);
        stall_timer.add_wait(4 * second);
        assert_eq!(stall_timer.remaining(), Duration::ZERO);
    }
}
