//! Serves a router on a listener that the caller bound: the registry, the webhook and the status API alike.
//!
//! A caller may have a way of its own for plain TCP, [`FastPath`], and everything else is hyper's.
//!
//! Plain or TLS, HTTP/1.1 and HTTP/2, a limit of connections, limits in time for everything that a client is waited for, and
//! an end in good order: no new connection, idle ones closed, requests under way finished within a deadline.

mod in_flight;
mod limits;
pub mod stall;
pub mod tls;

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use bytes::BytesMut;
use futures_util::TryFutureExt;
use futures_util::future::BoxFuture;
use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tower::Service;

use crate::serve::in_flight::{InFlightRequests, TimeoutReason, TrackedBody};
use crate::serve::stall::{TimedBody, TimedStream, slow_client_error, with_timeout};
use crate::serve::tls::CertificateSlot;

pub use crate::serve::limits::ServeLimits;

/// Bytes that were read of a connection, and the connection.
pub type PrefixedStream = (BytesMut, TcpStream);

/// Takes plain connections before hyper does.
pub trait FastPath: fmt::Debug + Send + Sync + 'static {
    /// Serves a connection until it ends, which is `None`, or until a request comes that is left to hyper, with all that
    /// was read of it.
    fn serve<'a>(
        &'a self,
        stream: TcpStream,
        peer: SocketAddr,
        limits: ServeLimits,
        shutdown: &'a CancellationToken,
    ) -> BoxFuture<'a, io::Result<Option<PrefixedStream>>>;
}

/// Answers to the requests of a server's connections.
#[derive(Debug, Clone)]
pub enum Http {
    /// By a router behind hyper alone.
    Plain(Router),
    /// Over plain TCP by a fast path first, and by the router for all that it leaves.
    Fast(Arc<dyn FastPath>, Router),
}

/// How a server ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// Connections whose requests were not finished within [`ServeLimits::drain`].
    pub abandoned: usize,
}

/// After a failed `accept` (too many open files, mostly) the server waits this long for others to end.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until `shutdown` is cancelled. Requests carry the peer's address as axum's `ConnectInfo<SocketAddr>`.
/// Dropping the future closes all connections at once.
pub async fn serve(
    listener: TcpListener,
    certificate: Option<Arc<CertificateSlot>>,
    http: Http,
    limits: ServeLimits,
    shutdown: CancellationToken,
) -> Drained {
    let acceptor = certificate.map(|slot| slot.acceptor());
    let slots = Arc::new(Semaphore::new(limits.connections));
    let mut connections = JoinSet::new();
    loop {
        let permit = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            permit = slots.clone().acquire_owned() => permit.expect("the semaphore is never closed"),
        };
        let (stream, peer) = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            Some(_ended) = connections.join_next(), if !connections.is_empty() => continue,
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
        };
        let http = http.clone();
        let acceptor = acceptor.clone();
        let shutdown = shutdown.clone();
        connections.spawn(async move {
            if let Err(error) = serve_connection(stream, peer, acceptor, http, limits, shutdown).await {
                tracing::debug!(%peer, %error, "connection ended");
            }
            drop(permit);
        });
    }
    drop(listener);
    let drained = timeout(limits.drain, async { while connections.join_next().await.is_some() {} }).await;
    let abandoned = if drained.is_ok() { 0 } else { connections.len() };
    Drained { abandoned }
}

async fn serve_connection(
    stream: TcpStream,
    peer: SocketAddr,
    acceptor: Option<tokio_rustls::TlsAcceptor>,
    http: Http,
    limits: ServeLimits,
    shutdown: CancellationToken,
) -> Result<(), BoxError> {
    stream.set_nodelay(true)?;
    let (fast, router) = match http {
        Http::Plain(router) => (None, router),
        Http::Fast(fast, router) => (Some(fast), router),
    };
    match acceptor {
        None => {
            let unserved = match fast {
                None => Some((BytesMut::new(), stream)),
                Some(fast) => fast.serve(stream, peer, limits, &shutdown).await?,
            };
            let Some((prefix, stream)) = unserved else {
                return Ok(());
            };
            let stream = TimedStream::with_prefix(prefix, stream, limits.stall);
            serve_http(stream, Protocol::Http1, peer, router, limits, shutdown).await
        }
        Some(acceptor) => {
            let mut stream = with_timeout(limits.handshake, acceptor.accept(stream)).await?;
            if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
                let stream = TimedStream::with_prefix(BytesMut::new(), stream, limits.stall);
                return serve_http(stream, Protocol::Http1, peer, router, limits, shutdown).await;
            }
            // hyper waits for it for ever.
            let mut preface = BytesMut::zeroed(HTTP2_PREFACE_LENGTH);
            with_timeout(limits.header, stream.read_exact(&mut preface)).await?;
            let stream = TimedStream::with_prefix(preface, stream, limits.stall);
            serve_http(stream, Protocol::Http2, peer, router, limits, shutdown).await
        }
    }
}

/// Told by TLS. Guessing it from the first bytes would have no limit in time: a silent client would keep its connection.
#[derive(Debug, Clone, Copy)]
enum Protocol {
    Http1,
    Http2,
}

/// `PRI * HTTP/2.0 … SM …` (RFC 9113 section 3.4).
const HTTP2_PREFACE_LENGTH: usize = 24;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

async fn serve_http(
    stream: TimedStream<impl AsyncRead + AsyncWrite + Unpin + Send + 'static>,
    protocol: Protocol,
    peer: SocketAddr,
    router: Router,
    limits: ServeLimits,
    shutdown: CancellationToken,
) -> Result<(), BoxError> {
    let in_flight = InFlightRequests::new();
    let requests = in_flight.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let response = requests.start();
        let mut request = request.map(|body| Body::new(TimedBody::new(body, limits.stall)));
        request.extensions_mut().insert(ConnectInfo(peer));
        let responded = router.clone().call(request);
        async move { Ok::<_, Infallible>(responded.await?.map(|body| TrackedBody::new(body, response))) }
    });
    let builder = auto::Builder::new(TokioExecutor::new());
    let mut builder = match protocol {
        Protocol::Http1 => builder.http1_only(),
        Protocol::Http2 => builder.http2_only(),
    };
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(limits.header)
        .keep_alive_timeout(limits.header);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => return ended,
        () = shutdown.cancelled() => connection.as_mut().graceful_shutdown(),
        reason = in_flight.wait_for_timeout(limits), if matches!(protocol, Protocol::Http2) => match reason {
            TimeoutReason::Stalled => return Err(slow_client_error().into()),
            TimeoutReason::Idle => {
                connection.as_mut().graceful_shutdown();
                // What it was sent last it may not have taken yet.
                return with_timeout(limits.stall, connection.map_err(io::Error::other)).await.map_err(Into::into);
            }
        },
    }
    connection.await
}
