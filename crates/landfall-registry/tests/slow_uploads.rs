//! Uploads that send nothing, or a byte now and then. Other clients upload meanwhile.

#![expect(clippy::unwrap_used, reason = "test set-up")]

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use camino::Utf8Path;
use futures_util::stream::FuturesUnordered;
use futures_util::{StreamExt as _, stream};
use http::{HeaderMap, Request};
use http_body_util::BodyExt as _;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use landfall_net::certificate::PemPair;
use landfall_net::serve::ServeLimits;
use landfall_oci::store::ContentStore;
use landfall_registry::fast_path::with_fast_path;
use landfall_registry::{Policy, Registry, registry_service};
use landfall_testkit::image_builder::digest_of;
use landfall_testkit::server::{Running, connect_from, mk_pair_and_slot, mk_server, start_tls};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Time after which a client is not served at all. It is shorter than the stall that ends a slow upload.
const HUNG: Duration = Duration::from_secs(50);
/// Uploads to the disk that one client may have.
const SHARE: usize = 256;
/// Streams of a connection, as hyper's server allows them.
const STREAMS: usize = 200;
/// Length of a body that does not stay in memory, in bytes.
const LONG: usize = 4 << 20;

struct Served {
    _directory: tempfile::TempDir,
    running: Running,
    authority: PemPair,
}

async fn mk_registry(with_tls: bool, limits: ServeLimits) -> Served {
    let directory = tempfile::tempdir().unwrap();
    let root = Utf8Path::from_path(directory.path()).unwrap();
    let store = ContentStore::open(&root.join("store")).unwrap();
    let registry = Registry::open(store, &root.join("repositories")).unwrap();
    let policy = Policy {
        metrics: true,
        ..Policy::default()
    };
    let http = with_fast_path(registry_service(Arc::new(registry), policy));
    let (authority, certificate) = mk_pair_and_slot();
    Served {
        _directory: directory,
        running: mk_server(http, with_tls.then_some(certificate), limits).await,
        authority,
    }
}

/// A connection by HTTP/2.
#[derive(Clone)]
struct Connection(SendRequest<Body>);

impl Connection {
    async fn open(client: u8, address: SocketAddr, authority: &PemPair, driver: &mut JoinSet<()>) -> Connection {
        let stream = start_tls(connect_from(client, address).await, authority, &["h2"]).await;
        let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        driver.spawn(async move { drop(connection.await) });
        Connection(sender)
    }

    async fn send(&self, method: &str, path: &str, body: Body) -> (u16, HeaderMap, Bytes) {
        let mut sender = self.0.clone();
        let request = Request::builder().method(method).uri(format!("https://test{path}"));
        sender.ready().await.unwrap();
        let response = sender.send_request(request.body(body).unwrap()).await.unwrap();
        let (parts, body) = response.into_parts();
        (
            parts.status.as_u16(),
            parts.headers,
            body.collect().await.unwrap().to_bytes(),
        )
    }

    async fn requests_under_way(&self) -> usize {
        let (_, _, metrics) = self.send("GET", "/metrics", Body::empty()).await;
        let metrics = String::from_utf8(metrics.to_vec()).unwrap();
        let line = metrics
            .lines()
            .find_map(|line| line.strip_prefix("landfall_registry_requests_under_way "));
        line.unwrap().parse().unwrap()
    }

    /// Opens an upload session, and returns its path.
    async fn open_session(&self) -> String {
        let (status, headers, _) = self.send("POST", "/v2/a/blobs/uploads/", Body::empty()).await;
        assert_eq!(status, 202);
        headers["location"].to_str().unwrap().to_owned()
    }

    /// Uploads a blob in a session. Returns the status, and `Retry-After`.
    async fn push(&self, bytes: &Bytes) -> (u16, Option<u64>) {
        let path = format!("{}?digest={}", self.open_session().await, digest_of(bytes));
        let (status, headers, _) = self.send("PUT", &path, bytes.clone().into()).await;
        let wait = headers.get("retry-after").map(|value| value.to_str().unwrap().parse());
        (status, wait.map(Result::unwrap))
    }
}

/// Returns a body that sends a byte a second.
fn slow_body() -> Body {
    let bytes = stream::unfold((), async |()| {
        tokio::time::sleep(Duration::from_secs(1)).await;
        Some((Ok::<_, Infallible>("x"), ()))
    });
    Body::from_stream(bytes)
}

#[tokio::test]
async fn slow_uploads_of_two_clients_over_http2_keep_no_other_from_uploading() {
    let served = mk_registry(true, ServeLimits::default()).await;
    let address = served.running.address;
    let mut driver = JoinSet::new();
    let mut slow = FuturesUnordered::new();
    for client in [1, 2] {
        let mut connections = Vec::new();
        for _ in 0..SHARE.div_ceil(STREAMS) {
            connections.push(Connection::open(client, address, &served.authority, &mut driver).await);
        }
        for number in 0..SHARE {
            let connection = connections[number / STREAMS].clone();
            let location = connection.open_session().await;
            slow.push(async move { connection.send("PATCH", &location, slow_body()).await });
        }
    }
    let honest = async {
        let connection = Connection::open(3, address, &served.authority, &mut driver).await;
        let small = Bytes::from_static(b"small");
        let long = Bytes::from(vec![b'x'; LONG]);
        while connection.requests_under_way().await < 2 * SHARE {}
        loop {
            // Reads, and a blob that fits into memory, need no place among the uploads.
            assert_eq!(connection.send("GET", "/v2/", Body::empty()).await.0, 200);
            assert_eq!(connection.push(&small).await.0, 201);
            let path = format!("/v2/a/blobs/{}", digest_of(&small));
            assert_eq!(connection.send("GET", &path, Body::empty()).await.2, small);
            match connection.push(&long).await {
                (201, _) => break,
                (429, Some(wait)) => tokio::time::sleep(Duration::from_secs(wait)).await,
                other => panic!("{other:?}"),
            }
        }
        let path = format!("/v2/a/blobs/{}", digest_of(&long));
        let (_, headers, _) = connection.send("HEAD", &path, Body::empty()).await;
        assert_eq!(headers["content-length"], LONG.to_string().as_str());
    };
    let honest = timeout(HUNG, honest);
    tokio::pin!(honest);
    let mut gave_way = 0;
    let mut is_done = false;
    while !is_done || gave_way == 0 {
        tokio::select! {
            served = honest.as_mut(), if !is_done => {
                served.expect("the third client is served");
                is_done = true;
            }
            Some((status, _, answer)) = slow.next() => {
                assert_eq!(status, 429, "{answer:?}");
                gave_way += 1;
            }
        }
    }
    let left = slow.len();
    assert!(
        left + 2 >= 2 * SHARE,
        "only {left} are left, though one or two places are enough"
    );
}

#[tokio::test]
async fn an_upload_that_is_too_slow_is_told_so_and_goes_on() {
    let limits = ServeLimits {
        stall: Duration::from_millis(200),
        ..ServeLimits::default()
    };
    let served = mk_registry(false, limits).await;
    let blob = "x".repeat(LONG);
    // The fast path, and hyper.
    for more in ["", "Expect: 100-continue\r\n"] {
        let opened = ask(
            &served.running,
            "POST /v2/a/blobs/uploads/",
            "Content-Length: 0\r\n",
            "",
        )
        .await;
        let location = header(&opened, "location").to_owned();
        let length = format!("Content-Length: {LONG}\r\n{more}");
        let patched = ask(&served.running, &format!("PATCH {location}"), &length, "xxxxx").await;
        let answer = patched.trim_start_matches("HTTP/1.1 100 Continue\r\n\r\n");
        assert!(answer.starts_with("HTTP/1.1 408 "), "{more:?}: {patched}");
        assert!(answer.contains("the body arrived too slowly"), "{more:?}: {patched}");
        let status = ask(&served.running, &format!("GET {location}"), "", "").await;
        assert_eq!(header(&status, "range"), "0-4", "{more:?}");
        let digest = digest_of(blob.as_bytes());
        let finish = format!("PUT {location}?digest={digest}");
        let range = format!("Content-Length: {}\r\nContent-Range: 5-{}\r\n", LONG - 5, LONG - 1);
        let finished = ask(&served.running, &finish, &range, &blob[5..]).await;
        assert!(finished.starts_with("HTTP/1.1 201 "), "{more:?}: {finished}");
    }
}

/// Sends a request on a connection of its own, and returns all that comes back.
async fn ask(running: &Running, line: &str, headers: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    let request = format!("{line} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n{headers}\r\n{body}");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let read = timeout(HUNG, stream.read_to_string(&mut answer)).await;
    read.unwrap_or_else(|_| panic!("{line} hangs")).unwrap();
    answer
}

fn header<'a>(answer: &'a str, name: &str) -> &'a str {
    let mut lines = answer.lines().filter_map(|line| line.split_once(": "));
    lines.find(|(key, _)| *key == name).map_or("", |(_, value)| value)
}
