//! Serves a router on a listener that the caller has bound with [`listen`]. The registry, the webhook and the status API
//! use it.
//!
//! The server speaks plain HTTP or TLS, or both on one port, HTTP/1.1 and HTTP/2. It limits the number of connections, in all and of each
//! client, the size of heads, and the time that it waits for a client. At shutdown it drains: it accepts no new
//! connection, closes idle ones, and lets requests in flight finish within a deadline.
//!
//! hyper handles the connections. A caller may handle plain TCP connections itself before hyper does, by a
//! [`FastPath`].

pub mod budget;
mod connection_slots;
pub mod host;
mod in_flight;
mod limits;
mod listen;
pub mod login_throttle;
pub mod request_body;
pub mod slots;
pub mod stall;
pub mod tls;
pub mod transport;

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::response::{IntoResponse as _, Response};
use bytes::BytesMut;
use futures_util::TryFutureExt;
use futures_util::future::BoxFuture;
use http::{HeaderName, HeaderValue, Request, header};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::Service;

use crate::serve::budget::ClientAddress;
use crate::serve::connection_slots::{ConnectionSlots, Place, ROOM_CHECK_INTERVAL};
use crate::serve::host::violation;
use crate::serve::in_flight::{InFlightRequests, TimeoutReason, TrackedBody};
use crate::serve::slots::Slot;
use crate::serve::stall::{TimedBody, TimedStream, slow_client_error, with_timeout};
use crate::serve::transport::{Encryption, Transport, begins_with_tls};

pub use crate::serve::limits::{HEAD_BYTES_MAX, ServeLimits};
pub use crate::serve::listen::listen;

/// Header of every response: a browser must not guess a content type from the bytes, which a client has pushed.
pub const NO_SNIFF: (HeaderName, HeaderValue) = (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));

/// A connection, together with the bytes that were already read of it.
pub type PrefixedStream = (BytesMut, TcpStream);

/// Handler of plain TCP connections that comes before hyper.
pub trait FastPath: fmt::Debug + Send + Sync + 'static {
    /// Serves a connection, and makes `slot` busy for each request. Returns `None` once the connection has ended.
    /// Returns the connection and the unprocessed bytes at the first request that hyper has to answer.
    fn serve<'a>(
        &'a self,
        stream: TcpStream,
        peer: SocketAddr,
        slot: &'a Slot,
        limits: ServeLimits,
        shutdown: &'a CancellationToken,
    ) -> BoxFuture<'a, io::Result<Option<PrefixedStream>>>;
}

/// HTTP handling of a server's connections.
#[derive(Debug, Clone)]
pub enum Http {
    /// hyper answers all requests by the router.
    Plain(Router),
    /// The fast path handles plain TCP connections first. hyper answers the requests that the fast path leaves, by the
    /// router.
    Fast(Arc<dyn FastPath>, Router),
}

/// Result of a server's shutdown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// Number of connections whose requests did not finish within [`ServeLimits::drain`].
    pub abandoned: usize,
}

/// Pause after a failed `accept`. Most failures are too many open files, which other connections free when they end.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until `shutdown` is cancelled, then drains. Requests carry the peer's address as axum's
/// `ConnectInfo<SocketAddr>`, and their [`Transport`]. Dropping the future closes all connections at once.
pub async fn serve(
    listener: TcpListener,
    encryption: impl Into<Encryption>,
    http: Http,
    limits: ServeLimits,
    shutdown: CancellationToken,
) -> Drained {
    let acceptance = match encryption.into() {
        Encryption::Off => Acceptance::Plain,
        Encryption::On(certificate) => Acceptance::Tls(certificate.acceptor()),
        Encryption::Detected(certificate) => Acceptance::Detected(certificate.acceptor()),
    };
    let slots = ConnectionSlots::new(limits);
    let mut tasks = JoinSet::new();
    loop {
        let has_room = slots.has_room();
        let (stream, peer) = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            Some(_ended) = tasks.join_next(), if !tasks.is_empty() => continue,
            () = tokio::time::sleep(ROOM_CHECK_INTERVAL), if !has_room => continue,
            accepted = listener.accept(), if has_room => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
        };
        let client = ClientAddress::from(peer.ip());
        let Ok(place) = slots.place(client) else {
            tracing::debug!(%peer, "the client has too many connections");
            continue;
        };
        let slots = slots.clone();
        let http = http.clone();
        let acceptance = acceptance.clone();
        let shutdown = shutdown.clone();
        tasks.spawn(async move {
            let taken = match place {
                Place::Serving(taken) => taken,
                Place::Waiting(waiting) => {
                    let taken = slots.wait(&waiting, &stream, client, limits);
                    match shutdown.run_until_cancelled(taken).await.flatten() {
                        Some(taken) => taken,
                        None => return,
                    }
                }
            };
            let slot = taken.slot().clone();
            let served = serve_connection(stream, peer, slot.clone(), acceptance, http, limits, shutdown);
            tokio::select! {
                served = served => if let Err(error) = served {
                    tracing::debug!(%peer, %error, "connection ended");
                },
                () = slot.gives_way() => tracing::debug!(%peer, "connection gave way to a new one"),
            }
            drop(taken);
        });
    }
    drop(listener);
    let drained = timeout(limits.drain, async { while tasks.join_next().await.is_some() {} }).await;
    let abandoned = if drained.is_ok() { 0 } else { tasks.len() };
    Drained { abandoned }
}

/// First step with a new connection.
#[derive(Clone)]
enum Acceptance {
    Plain,
    Tls(TlsAcceptor),
    Detected(TlsAcceptor),
}

async fn serve_connection(
    stream: TcpStream,
    peer: SocketAddr,
    slot: Arc<Slot>,
    acceptance: Acceptance,
    http: Http,
    limits: ServeLimits,
    shutdown: CancellationToken,
) -> Result<(), BoxError> {
    stream.set_nodelay(true)?;
    let (fast, router) = match http {
        Http::Plain(router) => (None, router),
        Http::Fast(fast, router) => (Some(fast), router),
    };
    let acceptor = match acceptance {
        Acceptance::Plain => None,
        Acceptance::Tls(acceptor) => Some(acceptor),
        Acceptance::Detected(acceptor) => {
            let is_tls = with_timeout(limits.header, begins_with_tls(&stream)).await?;
            is_tls.then_some(acceptor)
        }
    };
    match acceptor {
        None => {
            let transport = Transport::of_plain(stream.local_addr()?, peer);
            let unserved = match fast {
                None => Some((BytesMut::new(), stream)),
                Some(fast) => fast.serve(stream, peer, &slot, limits, &shutdown).await?,
            };
            let Some((prefix, stream)) = unserved else {
                return Ok(());
            };
            let stream = TimedStream::with_prefix(prefix, stream, limits.stall);
            serve_http(
                stream,
                Protocol::Http1,
                (peer, transport, slot),
                router,
                limits,
                shutdown,
            )
            .await
        }
        Some(acceptor) => {
            let stream = BufReader::with_capacity(TLS_READ_BYTES, stream);
            let mut stream = with_timeout(limits.handshake, acceptor.accept(stream)).await?;
            if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
                let stream = TimedStream::with_prefix(BytesMut::new(), stream, limits.stall);
                return serve_http(
                    stream,
                    Protocol::Http1,
                    (peer, Transport::Tls, slot),
                    router,
                    limits,
                    shutdown,
                )
                .await;
            }
            // hyper has no timeout for the preface.
            let mut preface = BytesMut::zeroed(HTTP2_PREFACE_LENGTH);
            with_timeout(limits.header, stream.read_exact(&mut preface)).await?;
            let stream = TimedStream::with_prefix(preface, stream, limits.stall);
            serve_http(
                stream,
                Protocol::Http2,
                (peer, Transport::Tls, slot),
                router,
                limits,
                shutdown,
            )
            .await
        }
    }
}

/// HTTP version of a connection, as negotiated by TLS (ALPN). hyper could guess it from the first bytes, but without a
/// timeout: a silent client would keep its connection open.
#[derive(Debug, Clone, Copy)]
enum Protocol {
    Http1,
    Http2,
}

/// Size of a read from a TLS connection, in bytes: two of the largest records. rustls alone reads 4 KiB at once, and needs
/// two calls of the system for the review of a pod.
const TLS_READ_BYTES: usize = 32 * 1024;

/// Length of the preface `PRI * HTTP/2.0 … SM …` (RFC 9113 section 3.4), in bytes.
const HTTP2_PREFACE_LENGTH: usize = 24;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

async fn serve_http(
    stream: TimedStream<impl AsyncRead + AsyncWrite + Unpin + Send + 'static>,
    protocol: Protocol,
    (peer, transport, slot): (SocketAddr, Transport, Arc<Slot>),
    router: Router,
    limits: ServeLimits,
    shutdown: CancellationToken,
) -> Result<(), BoxError> {
    let in_flight = InFlightRequests::new(slot);
    let requests = in_flight.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let response = requests.start();
        let forbidden = violation(request.version(), request.headers());
        let mut request = request.map(|body| Body::new(TimedBody::new(body, limits.stall)));
        request.extensions_mut().insert(ConnectInfo(peer));
        request.extensions_mut().insert(transport);
        let mut router = router.clone();
        async move {
            let mut answer: Response = match forbidden {
                // The body's length is in doubt, so the connection ends.
                Some(status) => (status, [(header::CONNECTION, "close")]).into_response(),
                None => router.call(request).await?,
            };
            answer.headers_mut().insert(NO_SNIFF.0, NO_SNIFF.1);
            Ok::<_, Infallible>(answer.map(|body| TrackedBody::new(body, response)))
        }
    });
    let builder = auto::Builder::new(TokioExecutor::new());
    let mut builder = match protocol {
        Protocol::Http1 => builder.http1_only(),
        Protocol::Http2 => builder.http2_only(),
    };
    builder
        .http1()
        .timer(TokioTimer::new())
        .max_buf_size(HEAD_BYTES_MAX)
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
                // The client may not have received the last response yet.
                return with_timeout(limits.stall, connection.map_err(io::Error::other)).await.map_err(Into::into);
            }
        },
    }
    connection.await
}
