//! Clients that are slow on purpose, at the fast path and at hyper. Each occupies the server's only connection. The
//! next client is served once the server cuts the first.

use landfall_net::serve::{Drained, ServeLimits};
use landfall_registry::fast_path::with_fast_path;
use landfall_testkit::server::{
    Running, SHORT_HEADER, SHORT_STALL, expect_served, mk_endless_router, mk_server, trickle,
};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

/// Starts a server with an endless response behind the fast path, and one behind hyper.
async fn mk_fast_server(limits: ServeLimits) -> Running {
    let router = mk_endless_router(&["/", "/v2/endless"]);
    mk_server(with_fast_path(router), None, limits).await
}

#[tokio::test]
async fn a_client_that_stops_reading_loses_its_connection() {
    // The fast path, and hyper.
    for path in ["/v2/endless", "/"] {
        let running = mk_fast_server(SHORT_STALL).await;
        let mut client = TcpStream::connect(running.address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n");
        client.write_all(request.as_bytes()).await.unwrap();
        expect_served(&running, client).await;
        assert_eq!(running.stop().await, Drained { abandoned: 0 }, "{path}");
    }
}

#[tokio::test]
async fn a_byte_now_and_then_is_too_slow_for_headers() {
    // The fast path, hyper, and a beginning that may become either.
    for beginning in ["GET /v2/", "POST /upload HTTP/1.1\r\nHost: test\r\nX: ", ""] {
        let running = mk_fast_server(SHORT_HEADER).await;
        let mut client = TcpStream::connect(running.address).await.unwrap();
        client.write_all(beginning.as_bytes()).await.unwrap();
        trickle(&mut client).await;
        expect_served(&running, client).await;
        assert_eq!(running.stop().await, Drained { abandoned: 0 }, "{beginning}");
    }
}

#[tokio::test]
async fn a_byte_now_and_then_is_too_slow_for_a_body() {
    let running = mk_fast_server(SHORT_STALL).await;
    let mut client = TcpStream::connect(running.address).await.unwrap();
    let request = "POST /upload HTTP/1.1\r\nHost: test\r\nContent-Length: 1000000\r\n\r\n";
    client.write_all(request.as_bytes()).await.unwrap();
    trickle(&mut client).await;
    expect_served(&running, client).await;
    assert_eq!(running.stop().await, Drained { abandoned: 0 });
}
