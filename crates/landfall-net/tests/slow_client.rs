//! Clients that are slow on purpose. Each occupies the server's only connection. The next client is served once the
//! server cuts the first.

#![expect(clippy::unwrap_used, reason = "test set-up")]

use std::time::Duration;

use axum::Router;
use axum::routing::get;
use landfall_net::serve::{Drained, Http, ServeLimits};
use landfall_testkit::server::{
    QUICK, SHORT_HEADER, SHORT_STALL, ask, connect_with_tls, expect_served, mk_endless_router, mk_pair_and_slot,
    mk_server, trickle,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

#[tokio::test]
async fn a_client_that_stops_reading_loses_its_connection() {
    let running = mk_server(Http::Plain(mk_endless_router(&["/"])), None, SHORT_STALL).await;
    let mut client = TcpStream::connect(running.address).await.unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n").await.unwrap();
    expect_served(&running, client).await;
    assert_eq!(running.stop().await, Drained { abandoned: 0 });
}

#[tokio::test]
async fn a_byte_now_and_then_is_too_slow_for_headers() {
    for beginning in ["GET /", "POST /upload HTTP/1.1\r\nHost: test\r\nX: ", ""] {
        let running = mk_server(Http::Plain(mk_endless_router(&["/"])), None, SHORT_HEADER).await;
        let mut client = TcpStream::connect(running.address).await.unwrap();
        client.write_all(beginning.as_bytes()).await.unwrap();
        trickle(&mut client).await;
        expect_served(&running, client).await;
        assert_eq!(running.stop().await, Drained { abandoned: 0 }, "{beginning}");
    }
}

#[tokio::test]
async fn a_byte_now_and_then_is_too_slow_for_a_body() {
    let running = mk_server(Http::Plain(mk_endless_router(&["/"])), None, SHORT_STALL).await;
    let mut client = TcpStream::connect(running.address).await.unwrap();
    let request = "POST /upload HTTP/1.1\r\nHost: test\r\nContent-Length: 1000000\r\n\r\n";
    client.write_all(request.as_bytes()).await.unwrap();
    trickle(&mut client).await;
    expect_served(&running, client).await;
    assert_eq!(running.stop().await, Drained { abandoned: 0 });
}

/// First bytes of an HTTP/2 connection: the preface and a `SETTINGS` frame.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// A `HEADERS` frame that ends stream 1: `GET https://test/`.
const GET_ROOT: &[u8] = b"\0\0\x09\x01\x05\0\0\0\x01\x82\x87\x84\x41\x04test";
const PING: u8 = 6;

/// Answers pings, as every client does, until the server closes the connection.
async fn answer_pings(client: &mut (impl AsyncRead + AsyncWrite + Unpin)) {
    let mut head = [0; 9];
    while client.read_exact(&mut head).await.is_ok() {
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        client.read_exact(&mut payload).await.unwrap();
        if head[3] == PING && head[4] == 0 {
            let answer = [&[0, 0, 8, PING, 1, 0, 0, 0, 0], payload.as_slice()].concat();
            // The server may be closing the connection.
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
            SHORT_STALL,
            b"GET / HTTP/1.1\r\nHost: test\r\n\r\n".as_slice(),
        ),
        ("opens no window", "h2", SHORT_STALL, &[PREFACE, GET_ROOT].concat()),
        ("asks for nothing", "h2", SHORT_HEADER, PREFACE),
        ("says nothing", "h2", SHORT_HEADER, b""),
        ("says half of it", "h2", SHORT_HEADER, &PREFACE[..10]),
    ] {
        let (authority, slot) = mk_pair_and_slot();
        let running = mk_server(Http::Plain(mk_endless_router(&["/"])), Some(slot), limits).await;
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
    let router = Router::new().route("/some", get(move || async move { sent }));
    let limits = ServeLimits {
        stall: Duration::from_millis(300),
        ..QUICK
    };
    let (authority, slot) = mk_pair_and_slot();
    let running = mk_server(Http::Plain(router), Some(slot), limits).await;
    let mut client = connect_with_tls(running.address, &authority, &["http/1.1"]).await;
    client
        .write_all(b"GET /some HTTP/1.1\r\nHost: test\r\n\r\n")
        .await
        .unwrap();
    let mut read = Vec::new();
    // The whole transfer takes longer than the limit.
    while read.len() < body.len() {
        let mut piece = vec![0; 200_000];
        let length = client.read(&mut piece).await.unwrap();
        assert!(length > 0, "cut after {}", read.len());
        read.extend_from_slice(&piece[..length]);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(read.ends_with(&body[..1000]));
}
