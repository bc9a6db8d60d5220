//! Bodies of requests over plain TCP. Nearly all of their bytes belong to blobs. A blocking thread can read them from
//! the connection itself and then hash and write them. Handing each chunk from one thread to another would cost an
//! upload twice the processor time.

use std::fs::File;
use std::io;
use std::net;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use landfall_core::sync::lock;
use landfall_net::serve::stall::{client_stall_timer, slow_client_error};
use landfall_net::stall::StallTimer;
use rustix::net::{RecvFlags, recv};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Size of a blocking read, in bytes. The bytes stay in the processor's cache until they are hashed and written.
const READ_BYTES_MAX: usize = 256 * 1024;
/// Size of an asynchronous read, in bytes.
const FRAME_BYTES_MAX: usize = 64 * 1024;
/// Interval at which a thread that waits for the client checks for cancellation.
const CANCEL_CHECK_INTERVAL: Duration = Duration::from_millis(100);

/// Request extension: the response may carry a [`FileBody`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct AcceptsFileBody;

/// Response extension: the body is this part of a file. The response has a `Content-Length` and no other body.
#[derive(Debug, Clone)]
pub(crate) struct FileBody {
    /// A file that contains the part.
    pub(crate) file: Arc<File>,
    /// Start of the part, in bytes.
    pub(crate) offset: u64,
    /// Length of the part, in bytes.
    pub(crate) length: u64,
}

/// Body of a request, of the length that the client stated. Clones share the body.
///
/// It is also an extension of the request, for handlers that use [`RequestBody::blocking_reader`].
#[derive(Debug, Clone)]
pub(crate) struct RequestBody {
    stream: Arc<TcpStream>,
    stall: Duration,
    state: Arc<Mutex<BodyState>>,
}

#[derive(Debug)]
struct BodyState {
    /// Bytes that arrived together with the head.
    read: BytesMut,
    left: u64,
}

impl RequestBody {
    /// Returns a body of `length` bytes, of which `read` has arrived. The client is timed by a [`StallTimer`].
    pub(crate) fn new(stream: Arc<TcpStream>, read: BytesMut, length: u64, stall: Duration) -> RequestBody {
        RequestBody {
            stream,
            stall,
            state: Arc::new(Mutex::new(BodyState { read, left: length })),
        }
    }

    fn lock(&self) -> MutexGuard<'_, BodyState> {
        lock(&self.state)
    }

    /// Returns the number of unread bytes.
    pub(crate) fn left(&self) -> u64 {
        self.lock().left
    }

    /// Returns a reader for a thread that may block, until it is `cancelled`.
    ///
    /// # Errors
    /// Returns an error if the connection cannot be switched to blocking reads.
    pub(crate) fn blocking_reader(&self, cancelled: CancellationToken) -> io::Result<BodyReader> {
        let stream = net::TcpStream::from(self.stream.as_fd().try_clone_to_owned()?);
        stream.set_read_timeout(Some(CANCEL_CHECK_INTERVAL))?;
        stream.set_nonblocking(false)?;
        let size = usize::try_from(self.left()).map_or(READ_BYTES_MAX, |left| left.min(READ_BYTES_MAX));
        Ok(BodyReader {
            body: self.clone(),
            stream,
            buffer: vec![0; size],
            stall_timer: client_stall_timer(self.stall),
            cancelled,
        })
    }
}

/// Reader of a body on a thread that may block. Nothing else reads from the connection meanwhile.
#[derive(Debug)]
pub(crate) struct BodyReader {
    body: RequestBody,
    stream: net::TcpStream,
    buffer: Vec<u8>,
    stall_timer: StallTimer,
    cancelled: CancellationToken,
}

impl BodyReader {
    /// Reads the next bytes. Returns `None` at the end.
    ///
    /// # Errors
    /// Returns an error if the client disconnects or is too slow, or if the read is cancelled.
    pub(crate) fn next(&mut self) -> io::Result<Option<&[u8]>> {
        // `receive` checks only while it waits, which it does not do while bytes trickle in.
        if self.cancelled.is_cancelled() {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let mut state = self.body.lock();
        let wanted = usize::try_from(state.left).map_or(self.buffer.len(), |left| left.min(self.buffer.len()));
        if wanted == 0 {
            return Ok(None);
        }
        let length = if state.read.is_empty() {
            receive(
                &self.stream,
                &mut self.buffer[..wanted],
                &mut self.stall_timer,
                &self.cancelled,
            )?
        } else {
            let length = wanted.min(state.read.len());
            self.buffer[..length].copy_from_slice(&state.read.split_to(length));
            length
        };
        state.left -= length as u64;
        Ok(Some(&self.buffer[..length]))
    }
}

impl Drop for BodyReader {
    fn drop(&mut self) {
        // If this fails, the connection is unusable, and the next read reports that.
        drop(self.stream.set_nonblocking(true));
    }
}

/// Receives until the buffer is full or [`CANCEL_CHECK_INTERVAL`] is over, whichever comes first.
fn receive(
    stream: &net::TcpStream,
    buffer: &mut [u8],
    stall_timer: &mut StallTimer,
    cancelled: &CancellationToken,
) -> io::Result<usize> {
    loop {
        let begun = Instant::now();
        // Without this flag each packet wakes the thread.
        let received = recv(stream, &mut *buffer, RecvFlags::WAITALL);
        stall_timer.add_wait(begun.elapsed());
        match received {
            Ok((_, 0)) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok((_, length)) => {
                stall_timer.add_bytes(length);
                return Ok(length);
            }
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) if cancelled.is_cancelled() => {
                return Err(io::ErrorKind::Interrupted.into());
            }
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) if stall_timer.remaining().is_zero() => {
                return Err(slow_client_error());
            }
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

impl HttpBody for RequestBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let mut state = self.lock();
        let wanted = usize::try_from(state.left).map_or(FRAME_BYTES_MAX, |left| left.min(FRAME_BYTES_MAX));
        if wanted == 0 {
            return Poll::Ready(None);
        }
        let mut frame = BytesMut::new();
        if state.read.is_empty() {
            frame.reserve(wanted);
            loop {
                ready!(self.stream.poll_read_ready(context))?;
                match self.stream.try_read_buf(&mut (&mut frame).limit(wanted)) {
                    Ok(0) => return Poll::Ready(Some(Err(io::ErrorKind::UnexpectedEof.into()))),
                    Ok(_) => break,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Poll::Ready(Some(Err(error))),
                }
            }
        } else {
            let length = wanted.min(state.read.len());
            frame = state.read.split_to(length);
        }
        state.left -= frame.len() as u64;
        Poll::Ready(Some(Ok(Frame::data(frame.freeze()))))
    }

    fn is_end_stream(&self) -> bool {
        self.left() == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left())
    }
}

#[cfg(test)]
mod tests;
