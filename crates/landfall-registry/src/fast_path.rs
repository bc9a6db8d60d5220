//! Pulls and pushes over plain TCP, with no general HTTP server in between: nearly all requests that a registry gets are
//! for small manifests, and nearly all bytes that it sends are files, which the kernel sends by itself (sendfile(2)). The
//! bytes that it gets are [`body`]'s business.
//!
//! Answers requests below `/v2/` that ask for nothing unusual, one after the other: `GET` and `HEAD` without a body, others
//! with a body of a length that is told. The first request that is anything else goes to hyper with all that was read, and
//! the rest of its connection too: there is no second implementation of what is hard about HTTP.

mod answer;
pub(crate) mod body;
pub(crate) mod request;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use bytes::BytesMut;
use futures_util::future::BoxFuture;
use http::Method;
use landfall_net::serve::stall::{TimedBody, slow_client_error};
use landfall_net::serve::{FastPath, Http, PrefixedStream, ServeLimits};
use rustix::net::{Shutdown, shutdown};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tower::Service;

use crate::fast_path::answer::ResponseWriter;
use crate::fast_path::body::{AcceptsFileBody, RequestBody};
use crate::fast_path::request::{FastRequest, HEAD_MAX, ParsedHead, parse_head};

/// How long a client that was told that the connection ends may take to end it as well.
const DRAIN_MAX: Duration = Duration::from_secs(1);

/// A router with the fast path before it, for [`landfall_net::serve::serve`].
#[must_use]
pub fn with_fast_path(router: Router) -> Http {
    Http::Fast(Arc::new(RegistryFastPath(router.clone())), router)
}

#[derive(Debug)]
struct RegistryFastPath(Router);

impl FastPath for RegistryFastPath {
    fn serve<'a>(
        &'a self,
        stream: TcpStream,
        peer: SocketAddr,
        limits: ServeLimits,
        shutdown: &'a CancellationToken,
    ) -> BoxFuture<'a, io::Result<Option<PrefixedStream>>> {
        Box::pin(serve_requests(stream, peer, self.0.clone(), limits, shutdown))
    }
}

/// Answers pulls and pushes until the client or the server ends the connection, or another request comes.
async fn serve_requests(
    stream: TcpStream,
    peer: SocketAddr,
    mut router: Router,
    limits: ServeLimits,
    shutdown: &CancellationToken,
) -> io::Result<Option<PrefixedStream>> {
    let stopped = shutdown.cancelled();
    tokio::pin!(stopped);
    let stream = Arc::new(stream);
    let mut input = BytesMut::new();
    let mut output = ResponseWriter::default();
    // For the whole head: a byte now and then is not enough.
    let mut deadline = Instant::now() + limits.header;
    loop {
        let (fast, head) = match parse_head(&input) {
            ParsedHead::Fast { request, head } => (*request, head),
            // Bodies are gone once they are answered, and their hold on the connection with them.
            ParsedHead::Other => return Ok(Arc::into_inner(stream).map(|stream| (input, stream))),
            ParsedHead::Partial => {
                input.reserve(HEAD_MAX);
                let is_idle = input.is_empty();
                let read = timeout_at(deadline, read_some(&stream, &mut input));
                let read = tokio::select! {
                    read = read => read.map_err(|_elapsed| slow_client_error())??,
                    () = stopped.as_mut(), if is_idle => 0,
                };
                match read {
                    0 => return Ok(None),
                    _ => continue,
                }
            }
        };
        drop(input.split_to(head));
        let FastRequest {
            mut request,
            body_length: length,
            wants_close,
        } = fast;
        let with_body = request.method() != Method::HEAD;
        request.extensions_mut().insert(ConnectInfo(peer));
        request.extensions_mut().insert(AcceptsFileBody);
        let mut request_body = None;
        if length > 0 {
            let here = usize::try_from(length).map_or(input.len(), |length| length.min(input.len()));
            let body = RequestBody::new(stream.clone(), input.split_to(here), length, limits.stall);
            *request.body_mut() = Body::new(TimedBody::new(body.clone(), limits.stall));
            request.extensions_mut().insert(body.clone());
            request_body = Some(body);
        }
        let response = match router.call(request).await {
            Ok(response) => response,
            Err(infallible) => match infallible {},
        };
        // Where the next request begins is not known before the body has ended.
        let is_last = wants_close || shutdown.is_cancelled() || request_body.is_some_and(|body| body.left() > 0);
        output
            .write(&stream, response, with_body, is_last, limits.stall)
            .await?;
        if is_last {
            drain_connection(&stream).await?;
            return Ok(None);
        }
        deadline = Instant::now() + limits.header;
    }
}

/// Ends a connection so that the client gets the last answer: were bytes of the client's still unread, or on their way, when
/// the connection is closed, they would reset it, and take the answer away (RFC 9112 section 9.6).
async fn drain_connection(stream: &TcpStream) -> io::Result<()> {
    shutdown(stream, Shutdown::Write)?;
    let drain = async {
        let mut discarded = BytesMut::new();
        while read_some(stream, &mut discarded).await? > 0 {
            discarded.clear();
        }
        Ok(())
    };
    // A client that does not hang up has had the time to read.
    timeout(DRAIN_MAX, drain).await.unwrap_or(Ok(()))
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

#[cfg(test)]
mod tests;
