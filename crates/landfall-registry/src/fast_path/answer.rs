//! Writer of responses: from a reused buffer, or by the kernel for a file.

use std::io::{self, Write as _};
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use futures_util::FutureExt;
use http::{HeaderValue, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::Body as _;
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimePrinter;
use landfall_net::serve::stall::{client_stall_timer, with_timeout};
use landfall_net::stall::StallTimer;
use rustix::fs::{Advice, fadvise, sendfile};
use rustix::net::{SendFlags, send};
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::fast_path::body::FileBody;
use crate::fast_path::request::HEAD_MAX;

/// Bytes of a file that one call sends at most. A call blocks its thread if the file is not in the page cache.
const SENDFILE_BYTES_MAX: u64 = 512 * 1024;

/// Writer of responses. Its buffers are reused for the next response.
#[derive(Default)]
pub(crate) struct ResponseWriter {
    bytes: Vec<u8>,
    /// Cached `Date` header, with its second.
    date: (i64, String),
}

impl ResponseWriter {
    pub(crate) async fn write(
        &mut self,
        stream: &TcpStream,
        response: Response,
        with_body: bool,
        is_last: bool,
        stall: Duration,
    ) -> io::Result<()> {
        let (mut parts, body) = response.into_parts();
        let file = parts.extensions.remove::<FileBody>().filter(|_| with_body);
        let may_have_body = !matches!(parts.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        if parts.status == StatusCode::NO_CONTENT {
            // RFC 9110 section 8.6 forbids the header here, and routers set it anyway.
            parts.headers.remove(header::CONTENT_LENGTH);
        }
        let mut chunked = false;
        if may_have_body && !parts.headers.contains_key(header::CONTENT_LENGTH) {
            match body.size_hint().exact() {
                Some(length) => drop(parts.headers.insert(header::CONTENT_LENGTH, length.into())),
                None => {
                    chunked = true;
                    let value = HeaderValue::from_static("chunked");
                    parts.headers.insert(header::TRANSFER_ENCODING, value);
                }
            }
        }
        if is_last {
            let value = HeaderValue::from_static("close");
            parts.headers.insert(header::CONNECTION, value);
        }
        self.render_head(&parts)?;
        let mut stall_timer = client_stall_timer(stall);
        if let Some(file) = file {
            return self.send_file(stream, &file, &mut stall_timer).await;
        }
        if with_body && may_have_body {
            self.write_body(stream, body, chunked, &mut stall_timer).await?;
        }
        self.flush(stream, &mut stall_timer).await
    }

    fn render_head(&mut self, parts: &http::response::Parts) -> io::Result<()> {
        let now = Timestamp::now();
        if self.date.0 != now.as_second() || self.date.1.is_empty() {
            let date = DateTimePrinter::new().timestamp_to_rfc9110_string(&now);
            self.date = (now.as_second(), date.map_err(io::Error::other)?);
        }
        let out = &mut self.bytes;
        out.clear();
        let reason = parts.status.canonical_reason().unwrap_or("-");
        write!(out, "HTTP/1.1 {} {reason}\r\n", parts.status.as_str())?;
        for (name, value) in &parts.headers {
            out.extend_from_slice(name.as_str().as_bytes());
            out.extend_from_slice(b": ");
            out.extend_from_slice(value.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        // `NO_SNIFF`, which hyper's service adds to its responses.
        write!(out, "x-content-type-options: nosniff\r\ndate: {}\r\n\r\n", self.date.1)
    }

    async fn write_body(
        &mut self,
        stream: &TcpStream,
        mut body: Body,
        chunked: bool,
        stall_timer: &mut StallTimer,
    ) -> io::Result<()> {
        loop {
            let frame = match body.frame().now_or_never() {
                Some(frame) => frame,
                // The client gets the bytes so far before the body makes it wait.
                None => {
                    self.flush(stream, stall_timer).await?;
                    body.frame().await
                }
            };
            let Some(frame) = frame else {
                break;
            };
            let Ok(data) = frame.map_err(io::Error::other)?.into_data() else {
                continue;
            };
            if chunked && !data.is_empty() {
                write!(self.bytes, "{:x}\r\n", data.len())?;
            }
            if data.len() > HEAD_MAX {
                // Large data is sent from where it is.
                self.flush(stream, stall_timer).await?;
                send_all(stream, &data, stall_timer).await?;
            } else {
                self.bytes.extend_from_slice(&data);
            }
            if chunked && !data.is_empty() {
                self.bytes.extend_from_slice(b"\r\n");
            }
            if self.bytes.len() > HEAD_MAX {
                self.flush(stream, stall_timer).await?;
            }
        }
        if chunked {
            self.bytes.extend_from_slice(b"0\r\n\r\n");
        }
        Ok(())
    }

    async fn flush(&mut self, stream: &TcpStream, stall_timer: &mut StallTimer) -> io::Result<()> {
        send_all(stream, &self.bytes, stall_timer).await?;
        self.bytes.clear();
        // The buffer of a large manifest is freed, not kept with the connection.
        self.bytes.shrink_to(2 * HEAD_MAX);
        Ok(())
    }

    /// Sends the head and the file. The kernel holds the head back until the first bytes of the file (`MSG_MORE`).
    async fn send_file(&mut self, stream: &TcpStream, body: &FileBody, stall_timer: &mut StallTimer) -> io::Result<()> {
        let flags = match body.length {
            0 => SendFlags::empty(),
            _ => SendFlags::MORE,
        };
        let mut sent = 0;
        while sent < self.bytes.len() {
            let rest = &self.bytes[sent..];
            let send = || stream.try_io(Interest::WRITABLE, || Ok(send(stream, rest, flags)?));
            sent += send_when_writable(stream, stall_timer, send).await?;
        }
        if body.length > SENDFILE_BYTES_MAX {
            let _only_advice = fadvise(&*body.file, body.offset, None, Advice::Sequential);
        }
        let mut offset = body.offset;
        let end = body.offset + body.length;
        while offset < end {
            let piece = usize::try_from(SENDFILE_BYTES_MAX.min(end - offset)).map_err(io::Error::other)?;
            let send = || {
                stream.try_io(Interest::WRITABLE, || {
                    Ok(sendfile(stream, &*body.file, Some(&mut offset), piece)?)
                })
            };
            if send_when_writable(stream, stall_timer, send).await? == 0 {
                return Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    "a blob is shorter than it was",
                ));
            }
            // Yields to the other tasks of this thread.
            tokio::task::consume_budget().await;
        }
        Ok(())
    }
}

async fn send_all(stream: &TcpStream, bytes: &[u8], stall_timer: &mut StallTimer) -> io::Result<()> {
    let mut sent = 0;
    while sent < bytes.len() {
        sent += send_when_writable(stream, stall_timer, || stream.try_write(&bytes[sent..])).await?;
    }
    Ok(())
}

/// Sends bytes once the socket takes them. The kernel nearly always takes them at once, so a timer is needed only for a
/// slower client.
async fn send_when_writable(
    stream: &TcpStream,
    stall_timer: &mut StallTimer,
    mut attempt: impl FnMut() -> io::Result<usize>,
) -> io::Result<usize> {
    loop {
        match attempt() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            taken => {
                stall_timer.add_bytes(*taken.as_ref().unwrap_or(&0));
                return taken;
            }
        }
        let since = Instant::now();
        with_timeout(stall_timer.remaining(), stream.writable()).await?;
        stall_timer.add_wait(since.elapsed());
    }
}
