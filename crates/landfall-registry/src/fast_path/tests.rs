use std::fs::File;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr};

use axum::response::Response;
use axum::routing::get;
use futures_util::stream;
use http::{Request, StatusCode, header};
use landfall_net::serve::Drained;
use landfall_net::serve::slots::{SlotLimits, Slots};
use landfall_testkit::server::{QUICK, mk_server};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::fast_path::body::FileBody;

const HOST: &str = "Host: test\r\n";

fn is_fast(request: &str) -> Option<bool> {
    match parse_head(request.as_bytes()) {
        ParsedHead::Fast { head, .. } => {
            assert_eq!(head, request.len(), "{request}");
            Some(true)
        }
        ParsedHead::Other => Some(false),
        ParsedHead::Partial => None,
    }
}

#[test]
fn only_plain_requests_of_the_api_are_ours() {
    for (request, expected) in [
        (format!("GET /v2/a/manifests/b HTTP/1.1\r\n{HOST}\r\n"), Some(true)),
        (
            format!("HEAD /v2/ HTTP/1.1\r\n{HOST}Connection: Keep-Alive\r\n\r\n"),
            Some(true),
        ),
        (
            format!("GET /v2/ HTTP/1.1\r\n{HOST}Content-Length: 0\r\nRange: bytes=0-\r\n\r\n"),
            Some(true),
        ),
        (format!("GET /v2/a HTTP/1.1\r\n{HOST}Acc"), None),
        (String::new(), None),
        (format!("POST /v2/ HTTP/1.1\r\n{HOST}\r\n"), Some(true)),
        (
            format!("PUT /v2/a HTTP/1.1\r\n{HOST}Content-Length: 5\r\n\r\n"),
            Some(true),
        ),
        (
            format!("PUT /v2/a HTTP/1.1\r\n{HOST}Content-Length: +5\r\n\r\n"),
            Some(false),
        ),
        (
            format!("PUT /v2/a HTTP/1.1\r\n{HOST}Content-Length: 5\r\nContent-Length: 5\r\n\r\n"),
            Some(false),
        ),
        (
            format!("PUT /v2/a HTTP/1.1\r\n{HOST}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"),
            Some(false),
        ),
        (
            format!("PUT /v2/a HTTP/1.1\r\n{HOST}Content-Length: 5\r\nExpect: 100-continue\r\n\r\n"),
            Some(false),
        ),
        (format!("OPTIONS /v2/ HTTP/1.1\r\n{HOST}\r\n"), Some(false)),
        (format!("GET /metrics HTTP/1.1\r\n{HOST}\r\n"), Some(false)),
        (format!("GET http://test/v2/ HTTP/1.1\r\n{HOST}\r\n"), Some(false)),
        (format!("GET /v2/ HTTP/1.0\r\n{HOST}\r\n"), Some(false)),
        ("GET /v2/ HTTP/1.1\r\n\r\n".to_owned(), Some(false)),
        (format!("GET /v2/ HTTP/1.1\r\n{HOST}{HOST}\r\n"), Some(false)),
        ("GET /v2/ HTTP/1.1\r\nHost: x y\r\n\r\n".to_owned(), Some(false)),
        ("GET /v2/ HTTP/1.1\r\nHost:\r\n\r\n".to_owned(), Some(false)),
        (
            format!("GET /v2/ HTTP/1.1\r\n{HOST}Connection: close\r\n\r\n"),
            Some(true),
        ),
        (
            format!("GET /v2/ HTTP/1.1\r\n{HOST}Connection: close, TE\r\n\r\n"),
            Some(false),
        ),
        (
            format!("GET /v2/ HTTP/1.1\r\n{HOST}Connection: close\r\nConnection: upgrade\r\n\r\n"),
            Some(false),
        ),
        (
            format!("GET /v2/ HTTP/1.1\r\n{HOST}Content-Length: 5\r\n\r\n"),
            Some(false),
        ),
        (
            format!("GET /v2/ HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n"),
            Some(false),
        ),
        (format!("GET /v2/ HTTP/1.1\r\n{HOST}Upgrade: h2c\r\n\r\n"), Some(false)),
        (
            format!("GET /v2/{} HTTP/1.1\r\n{HOST}\r\n", "a".repeat(HEAD_MAX)),
            Some(true),
        ),
        (format!("GET /v2/{}", "a".repeat(HEAD_MAX)), Some(false)),
        ("PRI * HTTP/2.0\r\n\r\n".to_owned(), Some(false)),
        ("\u{1}\u{2}\u{3}".to_owned(), Some(false)),
    ] {
        assert_eq!(is_fast(&request), expected, "{request:.60}");
    }
}

fn without_date(answer: &str) -> String {
    let kept = answer
        .split_inclusive("\r\n")
        .filter(|line| !line.starts_with("date: "));
    kept.collect::<String>().replace("\r\n", "\n")
}

/// Returns one response, which ends with these bytes.
async fn answer(client: &mut TcpStream, request: &str, end: &str) -> String {
    client.write_all(request.as_bytes()).await.unwrap();
    let mut read = Vec::new();
    while !read.ends_with(end.as_bytes()) {
        assert!(client.read_buf(&mut read).await.unwrap() > 0, "ended after {read:?}");
    }
    without_date(std::str::from_utf8(&read).unwrap())
}

fn mk_file(length: usize) -> (Arc<File>, Vec<u8>) {
    let bytes: Vec<u8> = (0..length).map(|at| b'a' + u8::try_from(at % 23).unwrap()).collect();
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&bytes).unwrap();
    (Arc::new(file), bytes)
}

fn mk_router(file: Arc<File>, offset: u64, length: u64) -> Router {
    let whole = move |request: Request<Body>| async move {
        assert!(
            request.extensions().get::<AcceptsFileBody>().is_some()
                && request.extensions().get::<ConnectInfo<SocketAddr>>().is_some()
        );
        let mut response = Response::new(Body::empty());
        response.headers_mut().insert(header::CONTENT_LENGTH, length.into());
        response.extensions_mut().insert(FileBody { file, offset, length });
        response
    };
    let streamed = || async {
        let pieces = ["one ", "two"].map(Ok::<_, std::convert::Infallible>);
        Body::from_stream(stream::iter(pieces))
    };
    Router::new()
        .route("/v2/file", get(whole))
        .route(
            "/v2/text",
            get(|| async { "hello" }).post(|body: String| async move { format!("got {body}") }),
        )
        .route("/v2/stream", get(streamed))
        .route("/v2/nothing", get(|| async { StatusCode::NO_CONTENT }))
}

#[tokio::test]
async fn answers_follow_each_other_and_the_first_unusual_request_goes_on_with_hyper() {
    let (file, bytes) = mk_file(10);
    let running = mk_server(with_fast_path(mk_router(file, 3, 5)), None, QUICK).await;
    let mut client = TcpStream::connect(running.address).await.unwrap();
    let mut told = String::new();
    let part = std::str::from_utf8(&bytes[3..8]).unwrap();
    for (request, end) in [
        ("GET /v2/text", "hello"),
        ("HEAD /v2/text", "\r\n\r\n"),
        ("GET /v2/file", part),
        ("HEAD /v2/file", "\r\n\r\n"),
        ("GET /v2/stream", "0\r\n\r\n"),
        ("GET /v2/nothing", "\r\n\r\n"),
    ] {
        let request = format!("{request} HTTP/1.1\r\n{HOST}\r\n");
        told.push_str(&answer(&mut client, &request, end).await);
        told.push_str("\n--\n");
    }
    insta::assert_snapshot!(told, @r"
    HTTP/1.1 200 OK
    content-type: text/plain; charset=utf-8
    content-length: 5
    x-content-type-options: nosniff

    hello
    --
    HTTP/1.1 200 OK
    content-type: text/plain; charset=utf-8
    content-length: 5
    x-content-type-options: nosniff


    --
    HTTP/1.1 200 OK
    content-length: 5
    x-content-type-options: nosniff

    defgh
    --
    HTTP/1.1 200 OK
    content-length: 5
    x-content-type-options: nosniff


    --
    HTTP/1.1 200 OK
    transfer-encoding: chunked
    x-content-type-options: nosniff

    4
    one 
    3
    two
    0


    --
    HTTP/1.1 204 No Content
    x-content-type-options: nosniff


    --
    ");
    // Pipelined requests, with and without a body.
    let three = format!(
        "POST /v2/text HTTP/1.1\r\n{HOST}Content-Length: 5\r\n\r\nfirstGET /v2/text HTTP/1.1\r\n{HOST}\r\n\
         POST /v2/text HTTP/1.1\r\n{HOST}Content-Length: 6\r\n\r\nsec"
    );
    assert!(answer(&mut client, &three, "hello").await.contains("got first"));
    assert!(
        answer(&mut client, "ond", "got second")
            .await
            .starts_with("HTTP/1.1 200 OK")
    );
    // Two pipelined requests, of which hyper answers the second.
    let both = format!(
        "GET /v2/text HTTP/1.1\r\n{HOST}\r\nPOST /v2/text HTTP/1.1\r\n{HOST}Content-Length: 4\r\nTE: trailers\r\n\r\nbody"
    );
    assert!(answer(&mut client, &both, "got body").await.contains("hello"));
    let last = format!("GET /v2/text HTTP/1.1\r\n{HOST}\r\n");
    assert!(answer(&mut client, &last, "hello").await.starts_with("HTTP/1.1 200 OK"));
    drop(client);
    running.stop().await;
}

#[tokio::test]
async fn a_client_that_asks_for_the_end_of_the_connection_is_answered_first() {
    let (file, _) = mk_file(10);
    let running = mk_server(with_fast_path(mk_router(file, 0, 10)), None, QUICK).await;
    let mut client = TcpStream::connect(running.address).await.unwrap();
    let first = format!("POST /v2/text HTTP/1.1\r\n{HOST}Content-Length: 5\r\n\r\nfirst");
    assert!(!answer(&mut client, &first, "got first").await.contains("connection"));
    // Bytes after the last request do not destroy the response.
    let rest = "x".repeat(8_000_000);
    let last = format!("POST /v2/text HTTP/1.1\r\n{HOST}Connection: close\r\nContent-Length: 4\r\n\r\nlast{rest}");
    client.write_all(last.as_bytes()).await.unwrap();
    let mut read = String::new();
    client.read_to_string(&mut read).await.unwrap();
    insta::assert_snapshot!(without_date(&read), @"
    HTTP/1.1 200 OK
    content-type: text/plain; charset=utf-8
    content-length: 8
    connection: close
    x-content-type-options: nosniff

    got last
    ");
    running.stop().await;
}

#[tokio::test]
async fn a_file_larger_than_every_buffer_arrives_whole_at_a_slow_client() {
    let length = 9_000_000;
    let (file, bytes) = mk_file(length);
    let running = mk_server(with_fast_path(mk_router(file, 0, length as u64)), None, QUICK).await;
    let mut client = TcpStream::connect(running.address).await.unwrap();
    let request = format!("GET /v2/file HTTP/1.1\r\n{HOST}\r\n");
    client.write_all(request.as_bytes()).await.unwrap();
    let mut read = Vec::new();
    while !read.ends_with(b"\r\n\r\n") {
        read.push(client.read_u8().await.unwrap());
    }
    let mut body = vec![0; length];
    client.read_exact(&mut body).await.unwrap();
    assert!(body == bytes);
    drop(client);
    running.stop().await;
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_given_up() {
    let (file, _) = mk_file(20_000_000);
    let limits = ServeLimits {
        stall: Duration::from_millis(50),
        ..QUICK
    };
    let running = mk_server(with_fast_path(mk_router(file, 0, 20_000_000)), None, limits).await;
    let mut client = TcpStream::connect(running.address).await.unwrap();
    let request = format!("GET /v2/file HTTP/1.1\r\n{HOST}\r\n");
    client.write_all(request.as_bytes()).await.unwrap();
    assert_eq!(running.stop().await, Drained { abandoned: 0 });
    drop(client);
}

#[tokio::test]
async fn a_file_that_became_shorter_ends_the_connection_and_not_the_server() {
    let (file, _) = mk_file(10);
    let running = mk_server(with_fast_path(mk_router(file, 0, 20)), None, QUICK).await;
    let mut client = TcpStream::connect(running.address).await.unwrap();
    let request = format!("GET /v2/file HTTP/1.1\r\n{HOST}\r\n");
    client.write_all(request.as_bytes()).await.unwrap();
    let mut read = Vec::new();
    client.read_to_end(&mut read).await.unwrap();
    let mut other = TcpStream::connect(running.address).await.unwrap();
    let request = format!("GET /v2/text HTTP/1.1\r\n{HOST}\r\n");
    assert!(
        answer(&mut other, &request, "hello")
            .await
            .starts_with("HTTP/1.1 200 OK")
    );
}

#[tokio::test]
async fn a_connection_whose_client_does_not_close_it_gives_way_after_its_last_response() {
    let slots = Slots::new(SlotLimits {
        total: 1,
        share: 1,
        grace: Duration::ZERO,
    });
    let client = IpAddr::V4(Ipv4Addr::LOCALHOST).into();
    let taken = slots.take(client).unwrap();
    let slot = taken.slot().clone();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (accepted, peer) = listener.accept().await.unwrap();
    let shutdown = CancellationToken::new();
    let router = Router::new().route("/v2/", get(|| async { "{}" }));
    let served = serve_requests(accepted, peer, &slot, router, QUICK, &shutdown);
    let talk = async {
        let request = format!("GET /v2/ HTTP/1.1\r\n{HOST}Connection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.ends_with("{}"), "{answer}");
        assert!(slots.take(client).is_ok(), "the next connection need not wait");
        drop(stream);
    };
    let (served, ()) = tokio::join!(served, talk);
    assert!(served.unwrap().is_none());
}
