//! A server with a router behind hyper: replaced certificates, and draining at shutdown.

#![expect(clippy::unwrap_used, reason = "test set-up")]

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::routing::get;
use axum::{Extension, Router};
use bytes::Bytes;
use futures_util::stream;
use jiff::Timestamp;
use landfall_net::certificate::{PemPair, read_expiry};
use landfall_net::serve::tls::CertificateSlot;
use landfall_net::serve::transport::{Encryption, Transport};
use landfall_net::serve::{Drained, Http, ServeLimits};
use landfall_net::tls::{Fingerprint, client_config_pinned};
use landfall_testkit::server::{QUICK, SHORT_HEADER, ask, connect_with_tls, mk_authority, mk_pair, mk_server};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

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

#[tokio::test]
async fn new_connections_see_a_new_certificate_without_a_restart() {
    let authority = mk_authority();
    let (first, second) = (mk_pair(&authority, 5), mk_pair(&authority, 50));
    let slot = CertificateSlot::new(&first).unwrap();
    let router = Router::new().route("/", get(|| async { "hello" }));
    let running = mk_server(Http::Plain(router), Some(slot.clone()), QUICK).await;
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
async fn one_port_speaks_tls_to_a_handshake_and_plain_http_to_all_else() {
    let authority = mk_authority();
    let slot = CertificateSlot::new(&mk_pair(&authority, 5)).unwrap();
    let transport = async |Extension(transport): Extension<Transport>| format!("{transport:?}");
    let router = Router::new().route("/", get(transport));
    let running = mk_server(Http::Plain(router), Encryption::Detected(slot), QUICK).await;
    let mut plain = TcpStream::connect(running.address).await.unwrap();
    assert!(ask(&mut plain, "/").await.ends_with("PlainLocal"));
    let mut encrypted = connect_with_tls(running.address, &authority, &[]).await;
    assert!(ask(&mut encrypted, "/").await.ends_with("Tls"));
    // A client that sends nothing has no more time than one that begins a request.
    let silent = TcpStream::connect(running.address).await.unwrap();
    assert_eq!(running.stop().await, Drained { abandoned: 0 });
    drop(silent);
}

#[tokio::test]
async fn client_that_says_nothing_is_let_go() {
    let slot = CertificateSlot::new(&mk_pair(&mk_authority(), 5)).unwrap();
    let router = Router::new().route("/", get(|| async { "hello" }));
    let running = mk_server(Http::Plain(router), Encryption::Detected(slot), SHORT_HEADER).await;
    let mut silent = TcpStream::connect(running.address).await.unwrap();
    let end = timeout(Duration::from_secs(10), silent.read_u8()).await;
    assert!(end.expect("the server hangs up").is_err());
    let _drained = running.stop().await;
}

#[tokio::test]
async fn pinned_certificate_is_trusted_under_any_name_and_no_other_is() {
    let authority = mk_authority();
    let pair = mk_pair(&authority, 5);
    let slot = CertificateSlot::new(&pair).unwrap();
    let router = Router::new().route("/", get(|| async { "hello" }));
    let running = mk_server(Http::Plain(router), Some(slot), QUICK).await;
    let pin = |text: &str| Fingerprint::of_pem(text).unwrap();
    for (pinned, is_trusted) in [
        (pin(&authority.certificate), true),
        (pin(&pair.certificate), true),
        (pin(&mk_authority().certificate), false),
    ] {
        let config = Arc::new(client_config_pinned(pinned));
        let stream = TcpStream::connect(running.address).await.unwrap();
        let name = ServerName::try_from("till-7").unwrap();
        let connected = TlsConnector::from(config).connect(name, stream).await;
        assert_eq!(connected.is_ok(), is_trusted, "{pinned}: {connected:?}");
    }
    // A certificate that only accompanies another one proves nothing.
    let stranger = mk_pair(&mk_authority(), 5);
    let slot = CertificateSlot::new(&PemPair {
        certificate: stranger.certificate + &authority.certificate,
        key: stranger.key,
    });
    let router = Router::new().route("/", get(|| async { "hello" }));
    let running = mk_server(Http::Plain(router), Some(slot.unwrap()), QUICK).await;
    let config = Arc::new(client_config_pinned(pin(&authority.certificate)));
    let stream = TcpStream::connect(running.address).await.unwrap();
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let refused = TlsConnector::from(config).connect(name, stream).await;
    assert!(
        refused.is_err(),
        "the chain of another authority with the pinned one beside it"
    );
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
    let running = mk_server(Http::Plain(Router::new().route("/", get(handler))), None, QUICK).await;
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
    let running = mk_server(Http::Plain(Router::new().route("/", get(handler))), None, limits).await;
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
    let running = mk_server(Http::Plain(router), None, limits).await;
    for beginning in ["", "P", "PRI * HTTP/2.0", "GET / HT"] {
        let mut silent = TcpStream::connect(running.address).await.unwrap();
        silent.write_all(beginning.as_bytes()).await.unwrap();
        // The limit is one connection: the server accepts this client after it has cut the silent one.
        let mut client = TcpStream::connect(running.address).await.unwrap();
        assert!(ask(&mut client, "/").await.ends_with("hello 127.0.0.1"));
        let mut rest = Vec::new();
        silent.read_to_end(&mut rest).await.unwrap();
    }
    assert_eq!(running.stop().await, Drained { abandoned: 0 });
}
