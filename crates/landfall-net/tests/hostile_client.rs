//! Clients that take more than their part: of the connections, or of the memory for heads. Others are served meanwhile.

use std::time::Duration;

use axum::Router;
use axum::routing::{get, post};
use landfall_net::serve::{Drained, Http, ServeLimits};
use landfall_testkit::server::{QUICK, ask, connect_from, connect_with_tls, mk_pair_and_slot, mk_server};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

const SOON: Duration = Duration::from_secs(3);

/// Returns false if the connection was closed.
async fn try_hello(mut client: TcpStream) -> bool {
    let mut answer = Vec::new();
    let request = b"GET /hello HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n";
    client.write_all(request).await.is_ok()
        && client.read_to_end(&mut answer).await.is_ok()
        && answer.ends_with(b"hello")
}

fn mk_router() -> Router {
    Router::new().route("/hello", get(|| async { "hello" })).route(
        "/upload",
        post(|body: axum::body::Bytes| async move { body.len().to_string() }),
    )
}

#[tokio::test]
async fn connections_that_send_no_request_give_way_to_one_that_does() {
    let limits = ServeLimits {
        connections: 8,
        header: Duration::from_secs(60),
        ..QUICK
    };
    let running = mk_server(Http::Plain(mk_router()), None, limits).await;
    let mut silent = Vec::new();
    for number in 0..60u8 {
        let mut client = connect_from(1 + number % 3, running.address).await;
        if number % 2 == 0 {
            client.write_all(b"GET / HTTP/1.1\r\nHost: te").await.unwrap();
        }
        silent.push(client);
    }
    // The same client as some of the silent ones, and another one.
    for last in [1, 9] {
        let served = async {
            // The client with the silent ones may have too many that wait, and then tries again.
            while !try_hello(connect_from(last, running.address).await).await {}
        };
        timeout(SOON, served).await.expect("it is served soon");
    }
    drop(silent);
    assert_eq!(running.stop().await, Drained { abandoned: 0 });
}

#[tokio::test]
async fn each_connection_of_a_burst_is_answered_although_its_request_comes_late() {
    let limits = ServeLimits {
        header: Duration::from_secs(60),
        ..QUICK
    };
    let running = mk_server(Http::Plain(mk_router()), None, limits).await;
    let mut burst = Vec::new();
    for _ in 0..limits.connections {
        burst.push(connect_from(1, running.address).await);
    }
    // The first half has slots, for longer than a slot is kept for a connection that sends nothing.
    tokio::time::sleep(Duration::from_millis(400)).await;
    let mut asked = Vec::new();
    for mut client in burst {
        let request = b"GET /hello HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n";
        client.write_all(request).await.unwrap();
        asked.push(client);
    }
    for (number, mut client) in asked.into_iter().enumerate() {
        let mut answer = String::new();
        drop(client.read_to_string(&mut answer).await);
        assert!(answer.ends_with("hello"), "connection {number}: {answer}");
    }
    running.stop().await;
}

#[tokio::test]
async fn a_client_has_half_of_the_connections_while_all_of_them_are_busy() {
    let limits = ServeLimits {
        connections: 8,
        header: Duration::from_millis(300),
        stall: Duration::from_secs(60),
        drain: Duration::from_millis(20),
        ..QUICK
    };
    let running = mk_server(Http::Plain(mk_router()), None, limits).await;
    let mut busy = Vec::new();
    for _ in 0..4 {
        let mut client = connect_from(1, running.address).await;
        let head = b"POST /upload HTTP/1.1\r\nHost: test\r\nContent-Length: 1000\r\nExpect: 100-continue\r\n\r\n";
        client.write_all(head).await.unwrap();
        let mut answer = [0; 12];
        client.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 100");
        busy.push(client);
    }
    let mut fifth = connect_from(1, running.address).await;
    let mut nothing = Vec::new();
    drop(fifth.read_to_end(&mut nothing).await);
    assert!(nothing.is_empty(), "the fifth connection of the client is closed");
    for _ in 0..4 {
        let mut client = connect_from(2, running.address).await;
        assert!(ask(&mut client, "/hello").await.ends_with("hello"));
    }
    drop(busy);
    running.stop().await;
}

#[tokio::test]
async fn a_head_is_refused_before_it_takes_much_memory() {
    let (authority, slot) = mk_pair_and_slot();
    for slot in [None, Some(slot)] {
        let with_tls = slot.is_some();
        let running = mk_server(Http::Plain(mk_router()), slot, QUICK).await;
        let head = format!("GET /hello HTTP/1.1\r\nHost: test\r\nX: {}", "y".repeat(80 * 1024));
        let mut answer = Vec::new();
        if with_tls {
            let mut client = connect_with_tls(running.address, &authority, &["http/1.1"]).await;
            drop(client.write_all(head.as_bytes()).await);
            drop(client.read_to_end(&mut answer).await);
        } else {
            let mut client = TcpStream::connect(running.address).await.unwrap();
            drop(client.write_all(head.as_bytes()).await);
            drop(client.read_to_end(&mut answer).await);
        }
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431 "), "{answer}");
        running.stop().await;
    }
}

#[tokio::test]
async fn a_request_that_http_forbids_is_refused_and_no_answer_is_guessed_at() {
    let running = mk_server(Http::Plain(mk_router()), None, QUICK).await;
    for (request, status) in [
        ("GET /hello HTTP/1.1\r\nHost: test\r\n", "200"),
        ("GET /hello HTTP/1.0\r\n", "200"),
        ("GET /hello HTTP/1.1\r\n", "400"),
        ("GET /hello HTTP/1.1\r\nHost: a\r\nHost: a\r\n", "400"),
        ("GET /hello HTTP/1.1\r\nHost: x y\r\n", "400"),
        (
            "POST /upload HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n",
            "501",
        ),
        ("GET /none HTTP/1.1\r\nHost: a\r\nConnection: close\r\n", "404"),
    ] {
        let mut client = TcpStream::connect(running.address).await.unwrap();
        let close = if status == "200" {
            "Connection: close\r\n\r\n"
        } else {
            "\r\n"
        };
        client.write_all(format!("{request}{close}").as_bytes()).await.unwrap();
        let mut answer = String::new();
        timeout(SOON, client.read_to_string(&mut answer))
            .await
            .expect("the connection ends")
            .unwrap();
        assert_eq!(answer.get(9..12), Some(status), "{request}");
        assert!(
            answer.contains("x-content-type-options: nosniff\r\n"),
            "{request}: {answer}"
        );
    }
    running.stop().await;
}
