//! A server of `landfall_net` on a port of its own, and clients that speak to it byte by byte.

#![expect(clippy::unwrap_used, reason = "test set-up")]

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::routing::{get, post};
use futures_util::stream;
use jiff::{Timestamp, ToSpan};
use landfall_net::certificate::{PemPair, Validity, issue_certificate, make_authority};
use landfall_net::serve::tls::CertificateSlot;
use landfall_net::serve::transport::Encryption;
use landfall_net::serve::{Drained, Http, ServeLimits, listen, serve};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;

/// Limits that no test reaches.
pub const QUICK: ServeLimits = ServeLimits {
    connections: 8,
    handshake: Duration::from_secs(5),
    header: Duration::from_secs(5),
    stall: Duration::from_secs(5),
    drain: Duration::from_secs(5),
};

/// The timeout under test in [`SHORT_STALL`] and [`SHORT_HEADER`]. All others are long.
const SHORT: Duration = Duration::from_millis(80);
const LONG: Duration = Duration::from_secs(60);
const ONE_CONNECTION: ServeLimits = ServeLimits {
    connections: 1,
    handshake: LONG,
    header: LONG,
    stall: LONG,
    drain: LONG,
};
/// Limits with one connection, which a client loses by a stall.
pub const SHORT_STALL: ServeLimits = ServeLimits {
    stall: SHORT,
    ..ONE_CONNECTION
};
/// Limits with one connection, which a client loses by a slow request header.
pub const SHORT_HEADER: ServeLimits = ServeLimits {
    header: SHORT,
    ..ONE_CONNECTION
};

/// Returns a router with an endless response at each of these paths, one of a word at `/hello`, and `/upload`, which
/// returns the length of the body.
pub fn mk_endless_router(paths: &[&str]) -> Router {
    let endless = || async {
        let pieces = stream::repeat_with(|| Ok::<_, Infallible>(vec![b'x'; 256 * 1024]));
        Body::from_stream(pieces)
    };
    let router = Router::new()
        .route("/hello", get(|| async { "hello" }))
        .route("/upload", post(|body: Bytes| async move { body.len().to_string() }));
    paths
        .iter()
        .fold(router, |router, path| router.route(path, get(endless)))
}

/// A running server.
#[derive(Debug)]
pub struct Running {
    /// Address of its listener.
    pub address: SocketAddr,
    /// Stops the server when it is cancelled.
    pub shutdown: CancellationToken,
    server: JoinSet<Drained>,
}

/// Starts a server on a port of its own.
pub async fn mk_server(http: Http, encryption: impl Into<Encryption>, limits: ServeLimits) -> Running {
    let encryption = encryption.into();
    let listener = listen("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let mut server = JoinSet::new();
    server.spawn(serve(listener, encryption, http, limits, shutdown.clone()));
    Running {
        address,
        shutdown,
        server,
    }
}

impl Running {
    /// Stops the server and returns the outcome of its drain.
    pub async fn stop(mut self) -> Drained {
        self.shutdown.cancel();
        self.server.join_next().await.unwrap().unwrap()
    }
}

/// Sends a request that ends its connection, and returns the whole response.
pub async fn ask(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// Makes a server certificate for 127.0.0.1.
pub fn mk_pair(authority: &PemPair, hours: i64) -> PemPair {
    let validity = Validity {
        not_before: Timestamp::now() - 1.hour(),
        not_after: Timestamp::now() + hours.hours(),
    };
    issue_certificate(authority, &["127.0.0.1"], validity).unwrap()
}

/// Connects from 127.0.0.N, which is a client of its own.
pub async fn connect_from(number: u8, address: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from(([127, 0, 0, number], 0))).unwrap();
    socket.connect(address).await.unwrap()
}

/// Connects over TLS and offers these protocols.
pub async fn connect_with_tls(address: SocketAddr, authority: &PemPair, protocols: &[&str]) -> TlsStream<TcpStream> {
    start_tls(TcpStream::connect(address).await.unwrap(), authority, protocols).await
}

/// Begins TLS on a connection and offers these protocols.
pub async fn start_tls(stream: TcpStream, authority: &PemPair, protocols: &[&str]) -> TlsStream<TcpStream> {
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
    tokio_rustls::TlsConnector::from(Arc::new(config))
        .connect(ServerName::try_from("127.0.0.1").unwrap(), stream)
        .await
        .unwrap()
}

/// Makes an authority that is valid for 100 hours.
pub fn mk_authority() -> PemPair {
    let validity = Validity {
        not_before: Timestamp::now() - 1.hour(),
        not_after: Timestamp::now() + 100.hours(),
    };
    make_authority("test", validity).unwrap()
}

/// Makes an authority and a server certificate of it.
pub fn mk_pair_and_slot() -> (PemPair, Arc<CertificateSlot>) {
    let authority = mk_authority();
    let slot = CertificateSlot::new(&mk_pair(&authority, 5)).unwrap();
    (authority, slot)
}

/// Sends a byte whenever the server had a moment to hang up, until it has.
pub async fn trickle(client: &mut (impl AsyncRead + AsyncWrite + Unpin)) {
    let mut read = [0; 1024];
    loop {
        if client.write_all(b"a").await.is_err() {
            return;
        }
        match timeout(Duration::from_millis(5), client.read(&mut read)).await {
            Ok(Ok(0)) => return,
            Ok(Err(error)) => {
                let is_cut = matches!(
                    error.kind(),
                    std::io::ErrorKind::ConnectionReset | std::io::ErrorKind::UnexpectedEof
                );
                return assert!(is_cut, "{error}");
            }
            Ok(Ok(_)) | Err(_) => {}
        }
    }
}

/// Expects that the server serves another client, while the first one still holds its connection.
pub async fn expect_served(running: &Running, first: impl Send) {
    let mut other = TcpStream::connect(running.address).await.unwrap();
    assert!(ask(&mut other, "/hello").await.ends_with("hello"));
    drop(first);
}
