use axum::body::Body;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::routing::put;
use axum::{Extension, Router};
use landfall_net::serve::{Drained, ServeLimits};
use landfall_oci::digest::digest_of;
use landfall_testkit::server::{QUICK, Running, mk_server};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::fast_path::with_fast_path;

/// Reads the body on a blocking thread. Answers with its length and digest, or with the error.
async fn read_directly(body: Extension<RequestBody>) -> String {
    read_until(body, CancellationToken::new(), true).await
}

/// Reads the body on a blocking thread as long as the client is quick.
async fn read_quickly(body: Extension<RequestBody>) -> String {
    read_until(body, CancellationToken::new(), false).await
}

/// Cancels the read before the first byte.
async fn read_nothing(body: Extension<RequestBody>) -> String {
    let cancelled = CancellationToken::new();
    cancelled.cancel();
    read_until(body, cancelled, true).await
}

async fn read_until(Extension(body): Extension<RequestBody>, cancelled: CancellationToken, patient: bool) -> String {
    let _guard = cancelled.clone().drop_guard();
    let read = tokio::task::spawn_blocking(move || {
        let mut all = Vec::new();
        let mut reader = body.blocking_reader(cancelled)?;
        loop {
            match reader.next() {
                Ok(Some(piece)) => all.extend_from_slice(piece),
                Ok(None) => return Ok(all),
                // A busy machine makes every client slow.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && patient => reader.is_slow = false,
                Err(error) => return Err(error),
            }
        }
    });
    match read.await.unwrap() {
        Ok(all) => format!("{} {}\n", all.len(), digest_of(&all)),
        Err(error) => format!("{:?}\n", error.kind()),
    }
}

async fn read_as_body(body: Bytes) -> String {
    format!("{} {}\n", body.len(), digest_of(&body))
}

async fn refuse(_unread: Request) -> (StatusCode, Body) {
    (StatusCode::FORBIDDEN, Body::from("no\n"))
}

async fn mk_pushes(limits: ServeLimits) -> Running {
    let router = Router::new()
        .route("/v2/direct", put(read_directly))
        .route("/v2/quick", put(read_quickly))
        .route("/v2/body", put(read_as_body))
        .route("/v2/given-up", put(read_nothing))
        .route("/v2/refused", put(refuse))
        .layer(axum::extract::DefaultBodyLimit::disable());
    mk_server(with_fast_path(router), None, limits).await
}

fn head(path: &str, length: usize) -> String {
    format!("PUT /v2/{path} HTTP/1.1\r\nHost: test\r\nContent-Length: {length}\r\n\r\n")
}

async fn last_line(client: &mut TcpStream) -> String {
    let mut read = Vec::new();
    loop {
        read.push(client.read_u8().await.unwrap());
        let text = String::from_utf8_lossy(&read);
        if let Some((_, body)) = text.split_once("\r\n\r\n")
            && body.ends_with('\n')
        {
            return body.trim().to_owned();
        }
    }
}

#[tokio::test]
async fn bodies_of_any_length_arrive_whole_however_they_are_read_and_another_request_follows() {
    let running = mk_pushes(QUICK).await;
    let mut client = TcpStream::connect(running.address).await.unwrap();
    let bytes: Vec<u8> = (0..3 * READ_BYTES_MAX + 7)
        .map(|at| u8::try_from(at % 251).unwrap())
        .collect();
    for length in [
        1,
        5000,
        FRAME_BYTES_MAX,
        READ_BYTES_MAX - 1,
        READ_BYTES_MAX,
        READ_BYTES_MAX + 1,
        bytes.len(),
    ] {
        for path in ["direct", "body", "direct"] {
            client.write_all(head(path, length).as_bytes()).await.unwrap();
            client.write_all(&bytes[..length]).await.unwrap();
            let expected = format!("{length} {}", digest_of(&bytes[..length]));
            assert_eq!(last_line(&mut client).await, expected, "{path}");
        }
    }
    drop(client);
    assert_eq!(running.stop().await, Drained { abandoned: 0 });
}

#[tokio::test]
async fn a_body_that_nobody_wants_any_more_is_not_read_although_its_bytes_are_there() {
    let running = mk_pushes(QUICK).await;
    let mut client = TcpStream::connect(running.address).await.unwrap();
    client.write_all(head("given-up", 10).as_bytes()).await.unwrap();
    client.write_all(b"half").await.unwrap();
    assert_eq!(last_line(&mut client).await, "Interrupted");
    running.stop().await;
}

#[tokio::test]
async fn a_body_that_ends_early_is_an_error_for_its_reader() {
    let running = mk_pushes(QUICK).await;
    let mut client = TcpStream::connect(running.address).await.unwrap();
    client.write_all(head("direct", 10).as_bytes()).await.unwrap();
    client.write_all(b"half").await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(last_line(&mut client).await, "UnexpectedEof");
    assert_eq!(client.read(&mut [0; 8]).await.unwrap(), 0, "no request can follow");
    running.stop().await;
}

#[tokio::test]
async fn a_client_that_sends_too_little_is_not_waited_for_on_a_thread() {
    let running = mk_pushes(QUICK).await;
    let mut client = TcpStream::connect(running.address).await.unwrap();
    client.write_all(head("quick", 10).as_bytes()).await.unwrap();
    assert_eq!(last_line(&mut client).await, "WouldBlock");
    running.stop().await;
}

#[tokio::test]
async fn a_body_that_nobody_reads_ends_the_connection_after_the_answer() {
    let running = mk_pushes(QUICK).await;
    let mut client = TcpStream::connect(running.address).await.unwrap();
    client.write_all(head("refused", 8_000_000).as_bytes()).await.unwrap();
    client.write_all(&vec![0; 8_000_000]).await.unwrap();
    assert_eq!(last_line(&mut client).await, "no");
    assert_eq!(client.read(&mut [0; 8]).await.unwrap(), 0, "no request can follow");
    running.stop().await;
}

#[tokio::test]
async fn a_thread_that_waits_for_a_body_ends_with_the_request() {
    let limits = ServeLimits {
        stall: Duration::from_secs(600),
        drain: Duration::from_millis(20),
        ..QUICK
    };
    let running = mk_pushes(limits).await;
    let mut client = TcpStream::connect(running.address).await.unwrap();
    client.write_all(head("direct", 10).as_bytes()).await.unwrap();
    client.write_all(b"half").await.unwrap();
    // The test's runtime waits for the thread when it ends.
    running.stop().await;
    drop(client);
}
