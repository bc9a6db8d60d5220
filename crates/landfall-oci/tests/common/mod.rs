//! Fixtures of the client's and the copy's tests.

#![allow(dead_code, reason = "each test program uses a part of it")]
#![expect(clippy::unwrap_used, reason = "test set-up")]

pub(crate) mod archives;
pub(crate) mod scripted;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use camino::Utf8Path;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use landfall_core::failure::{FailureKind, RetryPolicy, error_chain};
use landfall_core::oci_types::Descriptor;
use landfall_core::reference::{Digest, ImageReference, Repository};
use landfall_core::status::{ProgressEvent, ProgressSink};
use landfall_net::serve::{ServeLimits, serve};
use landfall_net::tls::TlsPolicy;
use landfall_oci::client::{Endpoint, Login, RegistryClient, RegistrySource, Timeouts};
use landfall_oci::copy::CopyOptions;
use landfall_oci::image::{BlobState, BlobStream, ImageSink, RawManifest, TransferError};
use landfall_oci::store::ContentStore;
use landfall_registry::fast_path::with_fast_path;
use landfall_registry::{Policy, Registry, registry_service};
use landfall_testkit::fake_registry::{FakeRegistry, LoggedRequest};
use landfall_testkit::image_builder::digest_of;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::scripted::WRONG_BYTES;

/// A password that no output may contain.
pub(crate) const CANARY: &str = "canary-9f3a-password";

pub(crate) fn mk_endpoint(registry: &FakeRegistry) -> Endpoint {
    let mut endpoint = Endpoint::new(registry.host());
    endpoint.tls = TlsPolicy {
        insecure: true,
        certificates: Vec::new(),
    };
    endpoint
}

pub(crate) fn mk_client(registry: &FakeRegistry) -> RegistryClient {
    RegistryClient::new(mk_endpoint(registry)).unwrap()
}

pub(crate) fn mk_client_with_login(registry: &FakeRegistry, username: &str, password: &str) -> RegistryClient {
    let mut endpoint = mk_endpoint(registry);
    endpoint.login = Some(Login {
        username: username.to_owned(),
        password: password.to_owned().into(),
    });
    RegistryClient::new(endpoint).unwrap()
}

/// Returns timeouts short enough for a test, with room for a busy machine.
pub(crate) fn short_timeouts() -> Timeouts {
    Timeouts {
        connect: Duration::from_secs(5),
        response: Duration::from_secs(5),
        stall: Duration::from_millis(300),
        min_throughput: 256,
        commit: Duration::from_secs(1),
    }
}

pub(crate) fn mk_source(registry: &FakeRegistry) -> RegistrySource {
    RegistrySource {
        client: mk_client(registry),
        repository: repository("shop/app"),
    }
}

/// Returns options whose retries have no delay.
pub(crate) fn mk_options() -> CopyOptions {
    let mut options = CopyOptions::new(4);
    options.retry = RetryPolicy {
        first_delay: Duration::from_millis(1),
        longest_delay: Duration::from_millis(2),
        ..RetryPolicy::default()
    };
    options
}

pub(crate) fn repository(path: &str) -> Repository {
    path.parse().unwrap()
}

/// Returns bytes without repetition.
pub(crate) fn mk_bytes(length: u32) -> Bytes {
    (0..length.div_ceil(4))
        .flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes())
        .collect()
}

pub(crate) async fn collect(mut stream: BlobStream) -> Result<Bytes, TransferError> {
    let mut bytes = BytesMut::new();
    while let Some(chunk) = stream.next().await {
        bytes.extend_from_slice(&chunk?);
    }
    Ok(bytes.freeze())
}

/// Returns an error and all its causes in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    error_chain(error)
}

/// Returns the log of a registry, one request per line, with ports and digests shortened.
pub(crate) fn log(registry: &FakeRegistry) -> String {
    let lines: Vec<_> = registry.requests().iter().map(short_line).collect();
    lines.join("\n")
}

fn short_line(request: &LoggedRequest) -> String {
    let mut line = request.to_string();
    while let Some(start) = line.find("sha256:") {
        line.replace_range(start..start + "sha256:".len() + 60, "");
    }
    line
}

/// A sink that keeps everything in memory, including incomplete blobs.
#[derive(Debug, Default)]
pub(crate) struct MemorySink {
    pub(crate) inner: Mutex<MemoryContent>,
    /// True if the sink drops the incomplete bytes of a failed blob.
    pub(crate) forgets: bool,
}

#[derive(Debug, Default)]
pub(crate) struct MemoryContent {
    pub(crate) blobs: HashMap<Digest, Bytes>,
    pub(crate) partial: HashMap<Digest, Bytes>,
    pub(crate) manifests: Vec<RawManifest>,
    pub(crate) names: HashMap<String, Digest>,
}

impl MemorySink {
    pub(crate) fn lock(&self) -> MutexGuard<'_, MemoryContent> {
        self.inner.lock().unwrap()
    }

    fn failure(kind: FailureKind, attempt: &str) -> TransferError {
        TransferError {
            attempt: attempt.to_owned(),
            kind,
            source: None,
        }
    }
}

impl ImageSink for MemorySink {
    fn describe(&self) -> String {
        "memory".to_owned()
    }

    fn has_image<'a>(&'a self, manifest: &'a RawManifest) -> BoxFuture<'a, Result<bool, TransferError>> {
        Box::pin(async {
            Ok(self
                .lock()
                .manifests
                .iter()
                .any(|found| found.digest == manifest.digest))
        })
    }

    fn blob_state<'a>(&'a self, blob: &'a Descriptor) -> BoxFuture<'a, Result<BlobState, TransferError>> {
        Box::pin(async {
            let inner = self.lock();
            Ok(
                match (inner.blobs.contains_key(&blob.digest), inner.partial.get(&blob.digest)) {
                    (true, _) => BlobState::Complete,
                    (false, Some(partial)) => BlobState::Partial(partial.len() as u64),
                    (false, None) => BlobState::Missing,
                },
            )
        })
    }

    fn write_blob<'a>(
        &'a self,
        blob: &'a Descriptor,
        offset: u64,
        mut stream: BlobStream,
    ) -> BoxFuture<'a, Result<(), TransferError>> {
        Box::pin(async move {
            let partial = self.lock().partial.remove(&blob.digest).unwrap_or_default();
            assert_eq!(partial.len() as u64, offset, "the copy goes on where the sink said");
            let mut bytes = BytesMut::from(partial);
            while let Some(chunk) = stream.next().await {
                match chunk {
                    Ok(chunk) => bytes.extend_from_slice(&chunk),
                    Err(error) => {
                        if !self.forgets {
                            self.lock().partial.insert(blob.digest.clone(), bytes.freeze());
                        }
                        return Err(error);
                    }
                }
            }
            if digest_of(&bytes) != blob.digest {
                return Err(MemorySink::failure(FailureKind::Corrupt, WRONG_BYTES));
            }
            self.lock().blobs.insert(blob.digest.clone(), bytes.freeze());
            Ok(())
        })
    }

    fn write_manifest<'a>(
        &'a self,
        manifest: &'a RawManifest,
        name: Option<&'a ImageReference>,
    ) -> BoxFuture<'a, Result<(), TransferError>> {
        Box::pin(async move {
            let mut inner = self.lock();
            inner.manifests.retain(|found| found.digest != manifest.digest);
            inner.manifests.push(manifest.clone());
            if let Some(name) = name {
                inner.names.insert(name.to_string(), manifest.digest.clone());
            }
            Ok(())
        })
    }
}

/// Recorded progress events.
#[derive(Debug, Default)]
pub(crate) struct ProgressLog(Mutex<Vec<ProgressEvent>>);

impl ProgressLog {
    pub(crate) fn events(&self) -> Vec<ProgressEvent> {
        self.0.lock().unwrap().clone()
    }
}

impl ProgressSink for ProgressLog {
    fn progress(&self, event: ProgressEvent) {
        self.0.lock().unwrap().push(event);
    }
}

/// The product's registry over plain HTTP, until it is dropped.
pub(crate) struct Served {
    pub(crate) address: SocketAddr,
    _task: JoinSet<()>,
    _directory: tempfile::TempDir,
}

impl Served {
    pub(crate) async fn start() -> Served {
        let directory = tempfile::tempdir().unwrap();
        let path = Utf8Path::from_path(directory.path()).unwrap();
        let store = ContentStore::open(&path.join("store")).unwrap();
        let registry = Arc::new(Registry::open(store, path).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let service = with_fast_path(registry_service(registry, Policy::default()));
        let mut task = JoinSet::new();
        let serving = serve(
            listener,
            None,
            service,
            ServeLimits::default(),
            CancellationToken::new(),
        );
        task.spawn(async {
            let _drained = serving.await;
        });
        Served {
            address,
            _task: task,
            _directory: directory,
        }
    }

    pub(crate) fn client(&self) -> RegistryClient {
        RegistryClient::new(mk_plain_endpoint(self.address)).unwrap()
    }
}

/// Returns a plain HTTP endpoint with short timeouts.
pub(crate) fn mk_plain_endpoint(address: SocketAddr) -> Endpoint {
    let mut endpoint = Endpoint::new(address.to_string().parse().unwrap());
    endpoint.tls = TlsPolicy {
        insecure: true,
        certificates: Vec::new(),
    };
    endpoint.timeouts = short_timeouts();
    endpoint
}
