//! Clients that are slow on purpose. Each takes the server's only connection; the next client is served once it is cut.

use std::io::ErrorKind;

use axum::routing::{get, post};
use futures_util::stream;
use tokio::io::AsyncWriteExt;

use super::tests::{QUICK, Running, ask, connect_with_tls, mk_pair_and_slot, mk_server};
use super::*;

/// Short for what the test is about; nothing else ends within it.
const SHORT: Duration = Duration::from_millis(80);
const LONG: Duration = Duration::from_secs(60);
const PATIENT: ServeLimits = ServeLimits {
    connections: 1,
    handshake: LONG,
    header: LONG,
    stall: LONG,
    drain: LONG,
};
const STALL: ServeLimits = ServeLimits {
    stall: SHORT,
    ..PATIENT
};
const HEADER: ServeLimits = ServeLimits {
    header: SHORT,
    ..PATIENT
};

fn mk_router() -> Router {
    let endless = || async {
        let pieces = stream::repeat_with(|| Ok::<_, Infallible>(vec![b'x'; 256 * 1024]));
        Body::from_stream(pieces)
    };
    Router::new()
        .route("/", get(endless))
        .route("/v2/endless", get(endless))
        .route("/hello", get(|| async { "hello" }))
        .route(
            "/upload",
            post(|body: axum::body::Bytes| async move { body.len().to_string() }),
        )
}

/// Whether the server has an ear for others again, whatever the first client still holds.
async fn expect_served(running: &Running, first: impl Send) {
    let mut other = TcpStream::connect(running.address).await.unwrap();
    assert!(ask(&mut other, "/hello").await.ends_with("hello"));
    drop(first);
}

#[tokio::test]
async fn a_client_that_stops_reading_loses_its_connection() {
    // The way of pulls, and hyper's.
    for path in ["/v2/endless", "/"] {
        let running = mk_server(mk_router(), None, STALL).await;
        let mut client = TcpStream::connect(running.address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n");
        client.write_all(request.as_bytes()).await.unwrap();
        expect_served(&running, client).await;
        assert_eq!(running.stop().await, Drained { abandoned: 0 }, "{path}");
    }
}

/// Sends a byte whenever the server had a moment to hang up, until it has.
async fn trickle(client: &mut (impl AsyncRead + AsyncWrite + Unpin)) {
    let mut read = [0; 1024];
    loop {
        if client.write_all(b"a").await.is_err() {
            return;
        }
        match timeout(Duration::from_millis(5), client.read(&mut read)).await {
            Ok(Ok(0)) => return,
            Ok(Err(error)) => {
                let is_cut = matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof);
                return assert!(is_cut, "{error}");
            }
            Ok(Ok(_)) | Err(_) => {}
        }
    }
}

#[tokio::test]
async fn a_byte_now_and_then_is_too_slow_for_headers() {
    // The way of pulls, hyper's, and what may become either.
    for beginning in ["GET /v2/", "POST /upload HTTP/1.1\r\nHost: test\r\nX: ", ""] {
        let running = mk_server(mk_router(), None, HEADER).await;
        let mut client = TcpStream::connect(running.address).await.unwrap();
        client.write_all(beginning.as_bytes()).await.unwrap();
        trickle(&mut client).await;
        expect_served(&running, client).await;
        assert_eq!(running.stop().await, Drained { abandoned: 0 }, "{beginning}");
    }
}

#[tokio::test]
async fn a_byte_now_and_then_is_too_slow_for_a_body() {
    let running = mk_server(mk_router(), None, STALL).await;
    let mut client = TcpStream::connect(running.address).await.unwrap();
    let request = "POST /upload HTTP/1.1\r\nHost: test\r\nContent-Length: 1000000\r\n\r\n";
    client.write_all(request.as_bytes()).await.unwrap();
    trickle(&mut client).await;
    expect_served(&running, client).await;
    assert_eq!(running.stop().await, Drained { abandoned: 0 });
}

/// The first bytes of an HTTP/2 connection: the preface and a `SETTINGS` frame.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// A `HEADERS` frame that ends stream 1: `GET https://test/`.
const GET_ROOT: &[u8] = b"\0\0\x09\x01\x05\0\0\0\x01\x82\x87\x84\x41\x04test";
const PING: u8 = 6;

/// Answers pings, as every client does, until the server hangs up.
async fn answer_pings(client: &mut (impl AsyncRead + AsyncWrite + Unpin)) {
    let mut head = [0; 9];
    while client.read_exact(&mut head).await.is_ok() {
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        client.read_exact(&mut payload).await.unwrap();
        if head[3] == PING && head[4] == 0 {
            let answer = [&[0, 0, 8, PING, 1, 0, 0, 0, 0], payload.as_slice()].concat();
            // The server may just be hanging up.
            drop(client.write_all(&answer).await);
        }
    }
}

#[tokio::test]
async fn over_tls_nothing_keeps_a_connection_that_is_of_no_use() {
    for (what, protocol, limits, sent) in [
        (
            "stops reading",
            "http/1.1",
            STALL,
            b"GET / HTTP/1.1\r\nHost: test\r\n\r\n".as_slice(),
        ),
        ("opens no window", "h2", STALL, &[PREFACE, GET_ROOT].concat()),
        ("asks for nothing", "h2", HEADER, PREFACE),
        ("says nothing", "h2", HEADER, b""),
        ("says half of it", "h2", HEADER, &PREFACE[..10]),
    ] {
        let (authority, slot) = mk_pair_and_slot();
        let running = mk_server(mk_router(), Some(slot), limits).await;
        let mut client = connect_with_tls(running.address, &authority, &[protocol]).await;
        client.write_all(sent).await.unwrap();
        if protocol == "h2" {
            timeout(Duration::from_secs(10), answer_pings(&mut client))
                .await
                .expect(what);
        }
        let mut other = connect_with_tls(running.address, &authority, &["http/1.1"]).await;
        assert!(ask(&mut other, "/hello").await.ends_with("hello"), "{what}");
        drop(client);
        assert_eq!(running.stop().await, Drained { abandoned: 0 }, "{what}");
    }
}

#[tokio::test]
async fn a_client_that_is_only_slow_gets_everything() {
    let body = vec![b'x'; 3_000_000];
    let sent = body.clone();
    let router = Router::new().route("/v2/some", get(move || async move { sent }));
    let limits = ServeLimits {
        stall: Duration::from_millis(300),
        ..QUICK
    };
    let (authority, slot) = mk_pair_and_slot();
    let running = mk_server(router, Some(slot), limits).await;
    let mut client = connect_with_tls(running.address, &authority, &["http/1.1"]).await;
    client
        .write_all(b"GET /v2/some HTTP/1.1\r\nHost: test\r\n\r\n")
        .await
        .unwrap();
    let mut read = Vec::new();
    // All of it takes longer than the limit.
    while read.len() < body.len() {
        let mut piece = vec![0; 200_000];
        let length = client.read(&mut piece).await.unwrap();
        assert!(length > 0, "cut after {}", read.len());
        read.extend_from_slice(&piece[..length]);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(read.ends_with(&body[..1000]));
}
