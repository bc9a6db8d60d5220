//! HTTP/1.1 over plain TCP without a general HTTP server. Nearly all requests of a registry are for small manifests.
//! Nearly all bytes that it sends are files, which the kernel sends by itself (sendfile(2)). [`body`] handles the bytes
//! that it receives.
//!
//! The fast path answers ordinary requests below `/v2/`, one after the other: `GET` and `HEAD` without a body, other
//! methods with a body of a stated length. At the first other request it hands the connection to hyper, with all bytes
//! that it has read. hyper then keeps the connection, so that the difficult parts of HTTP are not implemented twice.

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
use landfall_net::serve::slots::Slot;
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

/// Time for a client to close its side of a connection after the server closed its own.
const DRAIN_MAX: Duration = Duration::from_secs(1);

/// Returns a router with the fast path before it, for [`landfall_net::serve::serve`].
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
        slot: &'a Slot,
        limits: ServeLimits,
        shutdown: &'a CancellationToken,
    ) -> BoxFuture<'a, io::Result<Option<PrefixedStream>>> {
        Box::pin(serve_requests(stream, peer, slot, self.0.clone(), limits, shutdown))
    }
}

/// Answers requests until the client or the server ends the connection, or until a request comes that hyper has to
/// answer.
async fn serve_requests(
    stream: TcpStream,
    peer: SocketAddr,
    slot: &Slot,
    mut router: Router,
    limits: ServeLimits,
    shutdown: &CancellationToken,
) -> io::Result<Option<PrefixedStream>> {
    let stopped = shutdown.cancelled();
    tokio::pin!(stopped);
    let stream = Arc::new(stream);
    let mut input = BytesMut::new();
    let mut output = ResponseWriter::default();
    // The deadline covers the whole head: a byte now and then does not extend it.
    let mut deadline = Instant::now() + limits.header;
    loop {
        let (fast, head) = match parse_head(&input) {
            ParsedHead::Fast { request, head } => (*request, head),
            // The bodies of earlier requests are dropped, so no other handle to the stream is left.
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
        if !slot.begin() {
            return Ok(None);
        }
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
            let body = RequestBody::new(stream.clone(), input.split_to(here), length);
            *request.body_mut() = Body::new(TimedBody::new(body.clone(), limits.stall));
            request.extensions_mut().insert(body.clone());
            request_body = Some(body);
        }
        let response = match router.call(request).await {
            Ok(response) => response,
            Err(infallible) => match infallible {},
        };
        // An unread rest of the body hides the start of the next request.
        let is_last = wants_close || shutdown.is_cancelled() || request_body.is_some_and(|body| body.left() > 0);
        output
            .write(&stream, response, with_body, is_last, limits.stall)
            .await?;
        if is_last {
            // The response is on its way: what is left gives way to the next connection.
            slot.wait();
            drain_connection(&stream).await?;
            return Ok(None);
        }
        slot.wait();
        deadline = Instant::now() + limits.header;
    }
}

/// Ends a connection so that the client receives the last response. If the server closed the connection while bytes of
/// the client were unread or on their way, those bytes would cause a reset, and the client could lose the response (RFC
/// 9112 section 9.6).
async fn drain_connection(stream: &TcpStream) -> io::Result<()> {
    shutdown(stream, Shutdown::Write)?;
    let drain = async {
        let mut discarded = BytesMut::new();
        while read_some(stream, &mut discarded).await? > 0 {
            discarded.clear();
        }
        Ok(())
    };
    // A client that does not close its side has had time to read the response.
    timeout(DRAIN_MAX, drain).await.unwrap_or(Ok(()))
}

/// Reads available bytes, waiting for the first. Returns 0 at the end.
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
