//! Clients that disappear in the middle of an upload, as after `kill -9`. The registry keeps the bytes that arrived,
//! and the next request continues from there.

#![expect(clippy::unwrap_used, reason = "test set-up")]

use std::sync::Arc;

use axum::Router;
use http::StatusCode;
use landfall_net::certificate::PemPair;
use landfall_oci::digest::digest_of;
use landfall_oci::store::ContentStore;
use landfall_registry::fast_path::with_fast_path;
use landfall_registry::{Policy, Registry, registry_service};
use landfall_testkit::server::{QUICK, Running, connect_with_tls, mk_pair_and_slot, mk_server};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

const LENGTH: usize = 3_000_000;
const HALF: usize = LENGTH / 2;

/// A way to reach the registry: plain or TLS, fast path or hyper.
struct Way {
    running: Running,
    authority: Option<PemPair>,
    /// Additional header of each request.
    header: &'static str,
}

trait Connection: AsyncRead + AsyncWrite + Unpin + Send {
    /// Makes the end of the connection discard the bytes that the server has not read.
    fn reset_at_end(&self);
}

impl Connection for TcpStream {
    fn reset_at_end(&self) {
        self.set_zero_linger().unwrap();
    }
}

impl Connection for tokio_rustls::client::TlsStream<TcpStream> {
    fn reset_at_end(&self) {
        self.get_ref().0.reset_at_end();
    }
}

impl Way {
    async fn open(router: &Router, with_tls: bool, header: &'static str) -> Way {
        let (authority, slot) = with_tls.then(mk_pair_and_slot).unzip();
        Way {
            running: mk_server(with_fast_path(router.clone()), slot, QUICK).await,
            authority,
            header,
        }
    }

    async fn connect(&self) -> Box<dyn Connection> {
        match &self.authority {
            Some(authority) => {
                let mut connection = connect_with_tls(self.running.address, authority, &["http/1.1"]).await;
                // Unread session tickets would reset the connection, and the sent bytes would be lost.
                connection
                    .write_all(b"HEAD /v2/ HTTP/1.1\r\nHost: test\r\n\r\n")
                    .await
                    .unwrap();
                read_head(&mut connection).await;
                Box::new(connection)
            }
            None => Box::new(TcpStream::connect(self.running.address).await.unwrap()),
        }
    }

    /// Sends a request with a part of its body, over a connection of its own.
    async fn begin(&self, request: &str, length: usize, body: &[u8]) -> Box<dyn Connection> {
        let mut connection = self.connect().await;
        let head = format!(
            "{request} HTTP/1.1\r\nHost: test\r\nContent-Length: {length}\r\n{}\r\n",
            self.header
        );
        connection.write_all(head.as_bytes()).await.unwrap();
        connection.write_all(body).await.unwrap();
        connection.flush().await.unwrap();
        connection
    }

    /// Returns the status of a response, and the value of a header.
    async fn ask(&self, request: &str, body: &[u8], wanted: &str) -> (u16, String) {
        let mut connection = self.begin(request, body.len(), body).await;
        let head = read_head(&mut connection).await;
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let value = head
            .lines()
            .find_map(|line| line.strip_prefix(wanted)?.strip_prefix(": "));
        (status, value.unwrap_or_default().to_owned())
    }
}

async fn read_head(connection: &mut (impl AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(connection.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

#[tokio::test]
async fn what_a_client_sent_before_it_was_killed_counts_whatever_way_it_came() {
    let directory = tempfile::tempdir().unwrap();
    let root = camino::Utf8Path::from_path(directory.path()).unwrap();
    let store = ContentStore::open(&root.join("store")).unwrap();
    let registry = Arc::new(Registry::open(store, &root.join("repositories")).unwrap());
    let router = registry_service(registry.clone(), Policy::default());
    for (number, (with_tls, header)) in [
        (false, ""),
        (false, "Connection: close\r\n"),
        // This header makes hyper answer the request.
        (false, "TE: trailers\r\n"),
        (true, ""),
        (true, "Connection: close\r\n"),
    ]
    .into_iter()
    .enumerate()
    {
        let way = Way::open(&router, with_tls, header).await;
        for method in ["PATCH", "PUT"] {
            let what = format!("{method}, TLS {with_tls}, {header}");
            let blob: Vec<u8> = method.bytes().cycle().skip(number).take(LENGTH).collect();
            let digest = digest_of(&blob);
            let (status, upload) = way.ask("POST /v2/a/blobs/uploads/", b"", "location").await;
            assert_eq!(status, StatusCode::ACCEPTED, "{what}");
            let last = format!("PUT {upload}?digest={digest}");
            let killed = match method {
                "PATCH" => format!("PATCH {upload}"),
                _ => last.clone(),
            };
            drop(way.begin(&killed, LENGTH, &blob[..HALF]).await);

            let question = format!("GET {upload}");
            let (status, range) = way.ask(&question, b"", "range").await;
            assert_eq!((status, range), (204, format!("0-{}", HALF - 1)), "{what}");
            // The number of bytes that reached the server is random, but the upload still exists.
            let connection = way.begin(&killed, LENGTH - HALF, &blob[HALF..LENGTH - 1]).await;
            connection.reset_at_end();
            drop(connection);
            let (status, range) = way.ask(&question, b"", "range").await;
            assert_eq!(status, StatusCode::NO_CONTENT, "{what}");
            let last_byte: usize = range.strip_prefix("0-").unwrap().parse().unwrap();

            let (status, _) = way.ask(&last, &blob[last_byte + 1..], "location").await;
            assert_eq!(status, StatusCode::CREATED, "{what}");
            let (_, length) = way
                .ask(&format!("HEAD /v2/a/blobs/{digest}"), b"", "content-length")
                .await;
            assert_eq!(length, LENGTH.to_string(), "{what}");
        }
        way.running.stop().await;
    }
}
