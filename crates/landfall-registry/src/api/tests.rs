#![expect(clippy::disallowed_methods, reason = "test set-up")]

mod access;
mod blobs;
mod budgets;
mod collection;
mod deletion;
mod in_place;
mod listing;
mod manifests;
mod records;
mod repair;
mod uploads;

use axum::body::Body;
use axum::extract::ConnectInfo;
use base64::Engine;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::HeaderMap;
use http_body_util::BodyExt;
use landfall_core::oci_types::{Descriptor, media_type};
use landfall_testkit::image_builder::{FixtureBuilder, ImageFixture, digest_of, multi_platform, small_image};
use serde_json::{Value, json};
use tower::ServiceExt;

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use camino::Utf8Path;
use landfall_core::reference::{Digest, Repository};
use landfall_oci::store::ContentStore;

use super::*;
use crate::repository::record::RecordChange;
use crate::{GRACE, Users, inspect};

struct Fixture {
    directory: tempfile::TempDir,
    registry: Arc<Registry>,
    router: Router,
}

impl Fixture {
    /// Closes the registry, and keeps its directory for the next one.
    fn stop(self) -> tempfile::TempDir {
        self.directory
    }
}

fn mk_fixture() -> Fixture {
    mk_fixture_with(Policy::default())
}

fn mk_fixture_with(policy: Policy) -> Fixture {
    let directory = tempfile::tempdir().unwrap();
    let registry = open(&directory);
    Fixture {
        router: registry_service(registry.clone(), policy),
        directory,
        registry,
    }
}

fn open(directory: &tempfile::TempDir) -> Arc<Registry> {
    let root = Utf8Path::from_path(directory.path()).unwrap();
    let store = ContentStore::open(&root.join("store")).unwrap();
    Arc::new(Registry::open(store, &root.join("repositories")).unwrap())
}

#[derive(Debug)]
struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Bytes,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    fn code(&self) -> String {
        self.json()["errors"][0]["code"].as_str().unwrap().to_owned()
    }
}

/// Lets a router answer a request.
async fn ask(router: &Router, request: Request) -> Answer {
    let (parts, body) = router.clone().oneshot(request).await.unwrap().into_parts();
    Answer {
        status: parts.status.as_u16(),
        headers: parts.headers,
        body: body.collect().await.unwrap().to_bytes(),
    }
}

impl Fixture {
    async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Answer {
        let mut request = http::Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = ask(&self.router, request.body(body.into()).unwrap()).await;
        assert_eq!(answer.header("docker-distribution-api-version"), "registry/2.0");
        answer
    }

    /// Sends a request of a client with another address, of which this is the last number.
    async fn send_from(&self, client: u8, method: &str, path: &str, body: impl Into<Body>) -> Answer {
        let mut request = http::Request::builder().method(method).uri(path);
        let peer = SocketAddr::from(([10, 0, 0, client], 1234));
        request.extensions_mut().unwrap().insert(ConnectInfo(peer));
        ask(&self.router, request.body(body.into()).unwrap()).await
    }

    /// Lets the registry run for this time, as its clock measures it.
    async fn run_for(&self, time: Duration) {
        let step = Duration::from_secs(30 * 60);
        let mut left = time;
        while !left.is_zero() {
            tokio::time::advance(left.min(step)).await;
            left = left.saturating_sub(step);
            self.registry.clock.now();
        }
    }

    fn collect(&self, grace: Duration) -> usize {
        self.registry.gc(grace, SystemTime::now()).unwrap().deleted
    }

    async fn head(&self, path: &str) -> u16 {
        self.send("HEAD", path, &[], Body::empty()).await.status
    }

    async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], Body::empty()).await
    }

    async fn push_blob(&self, name: &str, bytes: &[u8]) -> Digest {
        let digest = digest_of(bytes);
        let path = format!("/v2/{name}/blobs/uploads/?digest={digest}");
        let answer = self.send("POST", &path, &[], bytes.to_vec()).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        digest
    }

    async fn push_manifest(&self, name: &str, selector: &str, descriptor: &Descriptor, bytes: &Bytes) -> Answer {
        let path = format!("/v2/{name}/manifests/{selector}");
        self.send("PUT", &path, &[("content-type", &descriptor.media_type)], bytes.clone())
            .await
    }

    async fn push(&self, name: &str, tag: &str, image: &ImageFixture) {
        for bytes in image.blobs.values() {
            self.push_blob(name, bytes).await;
        }
        for (descriptor, bytes) in &image.manifests {
            let answer = self
                .push_manifest(name, descriptor.digest.as_str(), descriptor, bytes)
                .await;
            assert_eq!(answer.status, 201, "{answer:?}");
        }
        let answer = self.push_manifest(name, tag, &image.root, &image.root_bytes()).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        assert_eq!(answer.header("docker-content-digest"), image.root.digest.as_str());
    }
}
