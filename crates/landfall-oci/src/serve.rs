//! Serves a router on a listener that the caller bound: the registry, the webhook and the status API alike.
//!
//! Pulls over plain TCP have a way of their own, [`pulls`], and everything else is hyper's.
//!
//! Plain or TLS, HTTP/1.1 and HTTP/2, a limit of connections, limits in time for everything that a client is waited for, and
//! an end in good order: no new connection, idle ones closed, requests under way finished within a deadline.

pub(crate) mod pace;
pub(crate) mod pulls;
pub(crate) mod pushes;
pub mod tls;
mod watch;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use bytes::BytesMut;
use futures_util::TryFutureExt;
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

use crate::serve::pace::{PacedBody, PacedStream, too_slow};
use crate::serve::tls::CertificateSlot;
use crate::serve::watch::{ConnectionWatch, Outstayed, WatchedBody};

/// The limits of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServeLimits {
    /// How many connections are open at once; more wait in the kernel's queue.
    pub connections: usize,
    /// How long a TLS handshake may take.
    pub handshake: Duration,
    /// How long a client may take for the headers of a request, and how long a connection may be idle.
    pub header: Duration,
    /// How long a client is waited for while fewer than 16 KiB pass: of a body that it sends, or of an answer that it takes.
    pub stall: Duration,
    /// How long requests under way may go on after the server was told to stop.
    pub drain: Duration,
}

impl Default for ServeLimits {
    fn default() -> ServeLimits {
        ServeLimits {
            connections: 512,
            handshake: Duration::from_secs(10),
            header: Duration::from_secs(30),
            stall: Duration::from_secs(60),
            drain: Duration::from_secs(10),
        }
    }
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
    router: Router,
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
        let router = router.clone();
        let acceptor = acceptor.clone();
        let shutdown = shutdown.clone();
        connections.spawn(async move {
            if let Err(error) = serve_connection(stream, peer, acceptor, router, limits, shutdown).await {
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
    router: Router,
    limits: ServeLimits,
    shutdown: CancellationToken,
) -> Result<(), BoxError> {
    stream.set_nodelay(true)?;
    match acceptor {
        None => match pulls::serve_pulls(stream, peer, router.clone(), limits, &shutdown).await? {
            Some((read, stream)) => {
                let stream = PacedStream::rejoin(read, stream, limits.stall);
                serve_http(stream, Protocol::Http1, peer, router, limits, shutdown).await
            }
            None => Ok(()),
        },
        Some(acceptor) => {
            let mut stream = within(limits.handshake, acceptor.accept(stream)).await?;
            if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
                let stream = PacedStream::rejoin(BytesMut::new(), stream, limits.stall);
                return serve_http(stream, Protocol::Http1, peer, router, limits, shutdown).await;
            }
            // hyper waits for it for ever.
            let mut preface = BytesMut::zeroed(HTTP2_PREFACE_LENGTH);
            within(limits.header, stream.read_exact(&mut preface)).await?;
            let stream = PacedStream::rejoin(preface, stream, limits.stall);
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
    stream: PacedStream<impl AsyncRead + AsyncWrite + Unpin + Send + 'static>,
    protocol: Protocol,
    peer: SocketAddr,
    router: Router,
    limits: ServeLimits,
    shutdown: CancellationToken,
) -> Result<(), BoxError> {
    let watch = ConnectionWatch::new();
    let noted = watch.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let answer = noted.begin();
        let mut request = request.map(|body| Body::new(PacedBody::new(body, limits.stall)));
        request.extensions_mut().insert(ConnectInfo(peer));
        let responded = router.clone().call(request);
        async move { Ok::<_, Infallible>(responded.await?.map(|body| WatchedBody::new(body, answer))) }
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
        outstayed = watch.outstayed(limits), if matches!(protocol, Protocol::Http2) => match outstayed {
            Outstayed::Stalled => return Err(too_slow().into()),
            Outstayed::Idle => {
                connection.as_mut().graceful_shutdown();
                // What it was sent last it may not have taken yet.
                return within(limits.stall, connection.map_err(io::Error::other)).await.map_err(Into::into);
            }
        },
    }
    connection.await
}

/// What a client is waited for, for so long.
async fn within<T>(limit: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(limit, work).await.map_err(|_elapsed| too_slow())?
}

#[cfg(test)]
mod hang_up;
#[cfg(test)]
mod slow;

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::Arc;

    use axum::body::Body;
    use axum::routing::get;
    use bytes::Bytes;
    use futures_util::stream;
    use jiff::{Timestamp, ToSpan};
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, ServerName};
    use rustls::{ClientConfig, RootCertStore};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::{Notify, mpsc};

    use super::*;
    use crate::certificate::{PemPair, Validity, issue_certificate, make_authority, read_expiry};

    pub(super) const QUICK: ServeLimits = ServeLimits {
        connections: 8,
        handshake: Duration::from_secs(5),
        header: Duration::from_secs(5),
        stall: Duration::from_secs(5),
        drain: Duration::from_secs(5),
    };

    pub(super) struct Running {
        pub(super) address: SocketAddr,
        shutdown: CancellationToken,
        server: JoinSet<Drained>,
    }

    pub(super) async fn mk_server(
        router: Router,
        certificate: Option<Arc<CertificateSlot>>,
        limits: ServeLimits,
    ) -> Running {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let mut server = JoinSet::new();
        server.spawn(serve(listener, certificate, router, limits, shutdown.clone()));
        Running {
            address,
            shutdown,
            server,
        }
    }

    impl Running {
        pub(super) async fn stop(mut self) -> Drained {
            self.shutdown.cancel();
            self.server.join_next().await.unwrap().unwrap()
        }
    }

    pub(super) async fn ask(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), path: &str) -> String {
        let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    fn mk_pair(authority: &PemPair, hours: i64) -> PemPair {
        let validity = Validity {
            not_before: Timestamp::now() - 1.hour(),
            not_after: Timestamp::now() + hours.hours(),
        };
        issue_certificate(authority, &["127.0.0.1"], validity).unwrap()
    }

    pub(super) async fn connect_with_tls(
        address: SocketAddr,
        authority: &PemPair,
        protocols: &[&str],
    ) -> tokio_rustls::client::TlsStream<TcpStream> {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(authority.certificate.as_bytes()).unwrap())
            .unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        let stream = TcpStream::connect(address).await.unwrap();
        tokio_rustls::TlsConnector::from(Arc::new(config))
            .connect(ServerName::try_from("127.0.0.1").unwrap(), stream)
            .await
            .unwrap()
    }

    async fn expiry_seen_by_a_client(address: SocketAddr, authority: &PemPair) -> Timestamp {
        let mut stream = connect_with_tls(address, authority, &[]).await;
        assert!(ask(&mut stream, "/").await.contains("hello"));
        let seen = stream.get_ref().1.peer_certificates().unwrap()[0].clone();
        let pem = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, &seen);
        read_expiry(&format!(
            "-----BEGIN CERTIFICATE-----\n{pem}\n-----END CERTIFICATE-----\n"
        ))
        .unwrap()
    }

    fn mk_authority() -> PemPair {
        let validity = Validity {
            not_before: Timestamp::now() - 1.hour(),
            not_after: Timestamp::now() + 100.hours(),
        };
        make_authority("test", validity).unwrap()
    }

    pub(super) fn mk_pair_and_slot() -> (PemPair, Arc<CertificateSlot>) {
        let authority = mk_authority();
        let slot = CertificateSlot::new(&mk_pair(&authority, 5)).unwrap();
        (authority, slot)
    }

    #[tokio::test]
    async fn new_connections_see_a_new_certificate_without_a_restart() {
        let authority = mk_authority();
        let (first, second) = (mk_pair(&authority, 5), mk_pair(&authority, 50));
        let slot = CertificateSlot::new(&first).unwrap();
        let router = Router::new().route("/", get(|| async { "hello" }));
        let running = mk_server(router, Some(slot.clone()), QUICK).await;
        let seen = expiry_seen_by_a_client(running.address, &authority).await;
        assert_eq!(seen, read_expiry(&first.certificate).unwrap());

        let mixed = PemPair {
            certificate: second.certificate.clone(),
            key: first.key.clone(),
        };
        let error = slot.replace(&mixed).unwrap_err();
        assert_eq!(error.to_string(), "the certificate and the key do not belong together");
        slot.replace(&second).unwrap();
        let seen = expiry_seen_by_a_client(running.address, &authority).await;
        assert_eq!(seen, read_expiry(&second.certificate).unwrap());
        assert_eq!(running.stop().await, Drained { abandoned: 0 });
    }

    #[tokio::test]
    async fn a_request_under_way_is_finished_after_the_server_was_told_to_stop() {
        let (entered, finish) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (in_handler, may_finish) = (entered.clone(), finish.clone());
        let handler = move || async move {
            in_handler.notify_one();
            may_finish.notified().await;
            "done"
        };
        let running = mk_server(Router::new().route("/", get(handler)), None, QUICK).await;
        let mut client = TcpStream::connect(running.address).await.unwrap();
        client.write_all(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n").await.unwrap();
        entered.notified().await;
        running.shutdown.cancel();
        finish.notify_one();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(answer.ends_with("done"), "{answer}");
        assert_eq!(running.stop().await, Drained { abandoned: 0 });
    }

    #[tokio::test]
    async fn a_request_that_never_ends_is_given_up_after_the_deadline() {
        let (sender, receiver) = mpsc::channel::<Result<Bytes, Infallible>>(1);
        sender.send(Ok(Bytes::from_static(b"first"))).await.unwrap();
        let body = Arc::new(std::sync::Mutex::new(Some(receiver)));
        let handler = move || async move {
            let receiver = body.lock().unwrap().take().unwrap();
            Body::from_stream(stream::unfold(receiver, |mut receiver| async move {
                receiver.recv().await.map(|item| (item, receiver))
            }))
        };
        let limits = ServeLimits {
            drain: Duration::from_millis(20),
            ..QUICK
        };
        let running = mk_server(Router::new().route("/", get(handler)), None, limits).await;
        let mut client = TcpStream::connect(running.address).await.unwrap();
        client.write_all(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n").await.unwrap();
        let mut some = [0; 16];
        client.read_exact(&mut some).await.unwrap();
        assert_eq!(running.stop().await, Drained { abandoned: 1 });
        drop(sender);
    }

    #[tokio::test]
    async fn a_client_that_sends_no_headers_is_hung_up_on_and_the_peer_is_known() {
        let router = Router::new().route(
            "/",
            get(|ConnectInfo(peer): ConnectInfo<SocketAddr>| async move { format!("hello {}", peer.ip()) }),
        );
        let limits = ServeLimits {
            connections: 1,
            header: Duration::from_millis(50),
            ..QUICK
        };
        let running = mk_server(router, None, limits).await;
        for beginning in ["", "P", "PRI * HTTP/2.0", "GET / HT"] {
            let mut silent = TcpStream::connect(running.address).await.unwrap();
            silent.write_all(beginning.as_bytes()).await.unwrap();
            // The one connection is taken: this client is served once the silent one is gone.
            let mut client = TcpStream::connect(running.address).await.unwrap();
            assert!(ask(&mut client, "/").await.ends_with("hello 127.0.0.1"));
            let mut rest = Vec::new();
            silent.read_to_end(&mut rest).await.unwrap();
        }
        assert_eq!(running.stop().await, Drained { abandoned: 0 });
    }
}
