//! Pulls and pushes over plain TCP, with no general HTTP server in between: nearly all requests that a registry gets are
//! for small manifests, and nearly all bytes that it sends are files, which the kernel sends by itself (sendfile(2)). The
//! bytes that it gets are [`pushes`](super::pushes)' business.
//!
//! Answers requests below `/v2/` that ask for nothing unusual, one after the other: `GET` and `HEAD` without a body, others
//! with a body of a length that is told. The first request that is anything else goes to hyper with all that was read, and
//! the rest of its connection too: there is no second implementation of what is hard about HTTP.

use std::fs::File;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::response::Response;
use bytes::BytesMut;
use futures_util::FutureExt;
use http::{HeaderName, HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::BodyExt;
use hyper::body::Body as _;
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimePrinter;
use rustix::fs::{Advice, fadvise, sendfile};
use rustix::net::{SendFlags, send};
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tower::Service;

use crate::pace::Pace;
use crate::serve::pace::{PacedBody, pace_of_clients, too_slow};
use crate::serve::pushes::PushBody;
use crate::serve::{ServeLimits, within};

/// A longer head is hyper's business.
const HEAD_MAX: usize = 8 * 1024;
const HEADERS_MAX: usize = 32;
/// How much of a file one call sends: what a disk that is not in memory may keep a thread for.
const FILE_PIECE: u64 = 512 * 1024;
const PATHS: &str = "/v2/";

/// Marks a request whose answer may be a [`FileBody`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct TakesFile;

/// In the extensions of a response: its body is this part of a file. The response has a `Content-Length` and no other body.
#[derive(Debug, Clone)]
pub(crate) struct FileBody {
    /// The file, which has that part.
    pub(crate) file: Arc<File>,
    /// Where the part begins.
    pub(crate) offset: u64,
    /// How long it is.
    pub(crate) length: u64,
}

/// A connection whose next request is not for us, with what was read of it.
pub(super) type Rest = (BytesMut, TcpStream);

/// Answers pulls and pushes until the client or the server ends the connection, or another request comes.
pub(super) async fn serve_pulls(
    stream: TcpStream,
    peer: SocketAddr,
    mut router: Router,
    limits: ServeLimits,
    shutdown: &CancellationToken,
) -> io::Result<Option<Rest>> {
    let stopped = shutdown.cancelled();
    tokio::pin!(stopped);
    let stream = Arc::new(stream);
    let mut input = BytesMut::new();
    let mut output = Output::default();
    // For the whole head: a byte now and then is not enough.
    let mut deadline = Instant::now() + limits.header;
    loop {
        let (mut request, head, length) = match parse_pull(&input) {
            Parsed::Ours {
                request,
                head,
                body_length,
            } => (*request, head, body_length),
            // Bodies are gone once they are answered, and their hold on the connection with them.
            Parsed::Other => return Ok(Arc::into_inner(stream).map(|stream| (input, stream))),
            Parsed::Partial => {
                input.reserve(HEAD_MAX);
                let is_idle = input.is_empty();
                let read = timeout_at(deadline, read_some(&stream, &mut input));
                let read = tokio::select! {
                    read = read => read.map_err(|_elapsed| too_slow())??,
                    () = stopped.as_mut(), if is_idle => 0,
                };
                match read {
                    0 => return Ok(None),
                    _ => continue,
                }
            }
        };
        drop(input.split_to(head));
        let with_body = request.method() != Method::HEAD;
        request.extensions_mut().insert(ConnectInfo(peer));
        request.extensions_mut().insert(TakesFile);
        let mut pushed = None;
        if length > 0 {
            let here = usize::try_from(length).map_or(input.len(), |length| length.min(input.len()));
            let body = PushBody::new(stream.clone(), input.split_to(here), length, limits.stall);
            *request.body_mut() = Body::new(PacedBody::new(body.clone(), limits.stall));
            request.extensions_mut().insert(body.clone());
            pushed = Some(body);
        }
        let response = match router.call(request).await {
            Ok(response) => response,
            Err(infallible) => match infallible {},
        };
        // Where the next request begins is not known before the body has ended.
        let is_last = shutdown.is_cancelled() || pushed.is_some_and(|body| body.left() > 0);
        output
            .write(&stream, response, with_body, is_last, limits.stall)
            .await?;
        if is_last {
            return Ok(None);
        }
        deadline = Instant::now() + limits.header;
    }
}

/// Reads what is there, as soon as something is; 0 at the end.
async fn read_some(stream: &TcpStream, input: &mut BytesMut) -> io::Result<usize> {
    loop {
        stream.readable().await?;
        match stream.try_read_buf(input) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            read => return read,
        }
    }
}

enum Parsed {
    /// A request that is for us.
    Ours {
        request: Box<Request<Body>>,
        /// The length of its head, in bytes.
        head: usize,
        body_length: u64,
    },
    /// Not all of a head is here.
    Partial,
    /// Something that is not for us.
    Other,
}

fn parse_pull(input: &[u8]) -> Parsed {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut head = httparse::Request::new(&mut headers);
    match head.parse(input) {
        Ok(httparse::Status::Complete(length)) => {
            to_ours(&head).map_or(Parsed::Other, |(request, body_length)| Parsed::Ours {
                request: Box::new(request),
                head: length,
                body_length,
            })
        }
        Ok(httparse::Status::Partial) if input.len() < HEAD_MAX => Parsed::Partial,
        Ok(httparse::Status::Partial) | Err(_) => Parsed::Other,
    }
}

/// The law of [`parse_pull`], for [`crate::fuzzing`]: a request is taken once all of its head is here, and what follows it
/// changes nothing.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn check_pull(input: &[u8]) {
    let Parsed::Ours {
        request,
        head: length,
        body_length,
    } = parse_pull(input)
    else {
        return;
    };
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    assert!(!reads || body_length == 0);
    assert!(request.uri().path().starts_with(PATHS) && request.headers().contains_key(header::HOST));
    for end in [0, length / 2, length - 1] {
        assert!(matches!(parse_pull(&input[..end]), Parsed::Partial), "cut at {end}");
    }
    let Parsed::Ours {
        request: alone,
        head: same_length,
        ..
    } = parse_pull(&input[..length])
    else {
        panic!("the head alone is no request");
    };
    assert_eq!(
        (alone.uri(), alone.headers(), same_length),
        (request.uri(), request.headers(), length)
    );
}

/// The request and the length of its body; `None` for anything that we would have to think about.
fn to_ours(head: &httparse::Request<'_, '_>) -> Option<(Request<Body>, u64)> {
    let (method, may_have_body) = match head.method? {
        "GET" => (Method::GET, false),
        "HEAD" => (Method::HEAD, false),
        "POST" => (Method::POST, true),
        "PUT" => (Method::PUT, true),
        "PATCH" => (Method::PATCH, true),
        "DELETE" => (Method::DELETE, true),
        _ => return None,
    };
    let path = head.path.filter(|path| path.starts_with(PATHS))?;
    if head.version != Some(1) {
        return None;
    }
    let mut request = Request::new(Body::empty());
    *request.method_mut() = method;
    *request.uri_mut() = Uri::try_from(path).ok()?;
    let (mut hosts, mut length) = (0, None);
    for found in head.headers.iter() {
        let name = HeaderName::from_bytes(found.name.as_bytes()).ok()?;
        let value = HeaderValue::from_bytes(found.value).ok()?;
        if name == header::HOST {
            hosts += 1;
        }
        let is_usual = match name {
            header::CONNECTION => value.as_bytes().eq_ignore_ascii_case(b"keep-alive"),
            header::CONTENT_LENGTH => {
                let told = parse_length(value.as_bytes()).filter(|length| may_have_body || *length == 0);
                told.is_some() && length.replace(told).is_none()
            }
            header::TRANSFER_ENCODING | header::UPGRADE | header::EXPECT | header::TE | header::TRAILER => false,
            _ => true,
        };
        if !is_usual {
            return None;
        }
        request.headers_mut().append(name, value);
    }
    // RFC 9112 section 3.2: neither none nor several.
    (hosts == 1).then_some((request, length.flatten().unwrap_or_default()))
}

/// Digits and nothing else (RFC 9110 section 8.6).
fn parse_length(text: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?;
    text.parse()
        .ok()
        .filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()))
}

/// The answer as it goes out; kept for the next one.
#[derive(Default)]
struct Output {
    bytes: Vec<u8>,
    /// `Date`, and the second that it is of.
    date: (i64, String),
}

impl Output {
    async fn write(
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
            // RFC 9110 section 8.6; routers set it all the same.
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
        let mut pace = pace_of_clients(stall);
        if let Some(file) = file {
            return self.send_file(stream, &file, &mut pace).await;
        }
        if with_body && may_have_body {
            self.write_body(stream, body, chunked, &mut pace).await?;
        }
        self.flush(stream, &mut pace).await
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
        write!(out, "date: {}\r\n\r\n", self.date.1)
    }

    async fn write_body(
        &mut self,
        stream: &TcpStream,
        mut body: Body,
        chunked: bool,
        pace: &mut Pace,
    ) -> io::Result<()> {
        loop {
            let frame = match body.frame().now_or_never() {
                Some(frame) => frame,
                // The client has what there is before it has to wait.
                None => {
                    self.flush(stream, pace).await?;
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
            self.bytes.extend_from_slice(&data);
            if chunked && !data.is_empty() {
                self.bytes.extend_from_slice(b"\r\n");
            }
            if self.bytes.len() > HEAD_MAX {
                self.flush(stream, pace).await?;
            }
        }
        if chunked {
            self.bytes.extend_from_slice(b"0\r\n\r\n");
        }
        Ok(())
    }

    async fn flush(&mut self, stream: &TcpStream, pace: &mut Pace) -> io::Result<()> {
        let mut sent = 0;
        while sent < self.bytes.len() {
            sent += pass(stream, pace, || stream.try_write(&self.bytes[sent..])).await?;
        }
        self.bytes.clear();
        // A manifest of megabytes does not stay with the connection.
        self.bytes.shrink_to(2 * HEAD_MAX);
        Ok(())
    }

    /// The head, which waits in the kernel for the first bytes of the file, and the file.
    async fn send_file(&mut self, stream: &TcpStream, body: &FileBody, pace: &mut Pace) -> io::Result<()> {
        let flags = match body.length {
            0 => SendFlags::empty(),
            _ => SendFlags::MORE,
        };
        let mut sent = 0;
        while sent < self.bytes.len() {
            let rest = &self.bytes[sent..];
            let send = || stream.try_io(Interest::WRITABLE, || Ok(send(stream, rest, flags)?));
            sent += pass(stream, pace, send).await?;
        }
        if body.length > FILE_PIECE {
            let _only_advice = fadvise(&*body.file, body.offset, None, Advice::Sequential);
        }
        let mut offset = body.offset;
        let end = body.offset + body.length;
        while offset < end {
            let piece = usize::try_from(FILE_PIECE.min(end - offset)).map_err(io::Error::other)?;
            let send = || {
                stream.try_io(Interest::WRITABLE, || {
                    Ok(sendfile(stream, &*body.file, Some(&mut offset), piece)?)
                })
            };
            if pass(stream, pace, send).await? == 0 {
                return Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    "a blob is shorter than it was",
                ));
            }
            // Others want this thread as well.
            tokio::task::consume_budget().await;
        }
        Ok(())
    }
}

/// Has the kernel take bytes, which it nearly always does at once: a timer is needed only when the client is slower.
async fn pass(
    stream: &TcpStream,
    pace: &mut Pace,
    mut attempt: impl FnMut() -> io::Result<usize>,
) -> io::Result<usize> {
    loop {
        match attempt() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            taken => {
                pace.moved(*taken.as_ref().unwrap_or(&0));
                return taken;
            }
        }
        let since = Instant::now();
        within(pace.left(), stream.writable()).await?;
        pace.waited(since.elapsed());
    }
}

#[cfg(test)]
mod tests;
