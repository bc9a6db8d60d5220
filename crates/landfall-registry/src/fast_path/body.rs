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
use rustix::net::{RecvFlags, recv};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Size of a blocking read, in bytes. The bytes stay in the processor's cache until they are hashed and written.
const READ_BYTES_MAX: usize = 256 * 1024;
/// Size of an asynchronous read, in bytes.
const FRAME_BYTES_MAX: usize = 64 * 1024;
/// Time that a thread waits for the client.
const THREAD_WAIT_MAX: Duration = Duration::from_millis(100);
/// Minimum of bytes that a client sends while a thread waits for it once.
const QUICK_BYTES_MIN: usize = 16 * 1024;

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
    state: Arc<Mutex<BodyState>>,
}

#[derive(Debug)]
struct BodyState {
    /// Bytes that arrived together with the head.
    read: BytesMut,
    left: u64,
}

impl RequestBody {
    /// Returns a body of `length` bytes, of which `read` has arrived.
    pub(crate) fn new(stream: Arc<TcpStream>, read: BytesMut, length: u64) -> RequestBody {
        RequestBody {
            stream,
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
        stream.set_read_timeout(Some(THREAD_WAIT_MAX))?;
        stream.set_nonblocking(false)?;
        let size = usize::try_from(self.left()).map_or(READ_BYTES_MAX, |left| left.min(READ_BYTES_MAX));
        Ok(BodyReader {
            body: self.clone(),
            stream,
            buffer: vec![0; size],
            is_slow: false,
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
    is_slow: bool,
    cancelled: CancellationToken,
}

impl BodyReader {
    /// Reads the next bytes. Returns `None` at the end.
    ///
    /// # Errors
    /// Returns an error if the client disconnects or if the read is cancelled, and `WouldBlock` once the client has sent
    /// little within [`THREAD_WAIT_MAX`]: the rest is to be read without a thread.
    pub(crate) fn next(&mut self) -> io::Result<Option<&[u8]>> {
        if self.cancelled.is_cancelled() {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let mut state = self.body.lock();
        let wanted = usize::try_from(state.left).map_or(self.buffer.len(), |left| left.min(self.buffer.len()));
        if wanted == 0 {
            return Ok(None);
        }
        let length = if state.read.is_empty() {
            if self.is_slow {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            let begun = Instant::now();
            let length = receive(&self.stream, &mut self.buffer[..wanted])?;
            self.is_slow = length < QUICK_BYTES_MIN && begun.elapsed() >= THREAD_WAIT_MAX;
            length
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

/// Receives until the buffer is full or [`THREAD_WAIT_MAX`] is over, whichever comes first.
fn receive(stream: &net::TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        // Without this flag each packet wakes the thread.
        match recv(stream, &mut *buffer, RecvFlags::WAITALL) {
            Ok((_, 0)) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok((_, length)) => return Ok(length),
            Err(rustix::io::Errno::INTR) => {}
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
