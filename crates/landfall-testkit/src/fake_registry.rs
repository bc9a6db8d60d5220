//! A registry with faults: a real HTTP server on a loopback port, which behaves as configured and records its
//! requests. It has its own thread, so that synchronous tests of the binary can use it too.
//!
//! It is a second, independent implementation of the distribution specification, smaller than the product's
//! server: no deletion, no referrers API.

mod access;
mod content;
mod fault;
mod handler;
mod harbor;
mod server;
mod upstream;

use std::fmt;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;

use bytes::Bytes;
use landfall_core::oci_types::Descriptor;
use landfall_core::reference::{Digest, RegistryHost};
use landfall_core::sync::lock;
use tokio_util::sync::CancellationToken;

pub use access::Access;
pub use fault::{Effect, Fault};
pub use harbor::FakeHarbor;

use crate::image_builder::{ImageFixture, digest_of};

/// A registry that runs until it is dropped.
pub struct FakeRegistry {
    host: RegistryHost,
    state: Arc<State>,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

/// Configuration of a [`FakeRegistry`].
#[derive(Debug, Clone, Default)]
pub struct FakeRegistryOptions {
    /// Required authentication.
    pub access: Access,
    /// Certificate chain and key; without them the registry speaks plain HTTP.
    pub tls: Option<FakeTls>,
    /// With TLS: the authority, in PEM, that must have signed the client's certificate.
    pub client_authority: Option<String>,
    /// The identity token that the token server exchanges for access tokens, by a `POST` of OAuth 2.0.
    pub identity_token: Option<String>,
    /// Host of the registry: an IP address of this machine, or a name for one. `127.0.0.1` if empty.
    pub name: String,
    /// True if a blob exists only in the repositories to which it was pushed or mounted.
    pub repositories_apart: bool,
    /// URL of a real registry that answers instead. Faults apply to its responses; authentication is the
    /// fake's.
    pub upstream: Option<String>,
    /// Behaves as a Harbor: it has projects, and refuses pushes outside of them.
    pub harbor: Option<FakeHarbor>,
}

/// Certificate and key of a TLS server.
#[derive(Debug, Clone)]
pub struct FakeTls {
    /// The certificate and its issuers, in PEM.
    pub certificates: String,
    /// The key in PEM.
    pub key: String,
}

/// One request in the log of the registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedRequest {
    pub method: String,
    /// Path and query.
    pub path: String,
    /// The status of the response; `None` if there was none.
    pub status: Option<u16>,
    /// The scheme of the `Authorization` header, if there was one.
    pub authorization: Option<String>,
    /// The value of the `Range` header, if there was one.
    pub range: Option<String>,
}

impl fmt::Display for LoggedRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.path)?;
        if let Some(range) = &self.range {
            write!(f, " {range}")?;
        }
        match self.status {
            Some(status) => write!(f, " -> {status}"),
            None => write!(f, " -> nothing"),
        }
    }
}

/// State shared by the connections.
struct State {
    options: FakeRegistryOptions,
    /// For example `http://127.0.0.1:1234`.
    base: String,
    upstream: Option<upstream::Upstream>,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    content: content::Content,
    faults: Vec<Fault>,
    /// Number of requests that met a fault.
    faults_met: u64,
    tokens: access::Tokens,
    /// Projects created since the start.
    projects: Vec<String>,
    log: Vec<LoggedRequest>,
}

impl State {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        lock(&self.inner)
    }
}

impl fmt::Debug for FakeRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FakeRegistry")
            .field("host", &self.host)
            .finish_non_exhaustive()
    }
}

impl Drop for FakeRegistry {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            // The thread has printed its panic; a second panic here could abort the process.
            drop(thread.join());
        }
    }
}

impl FakeRegistry {
    /// Starts a registry with plain HTTP and without authentication.
    #[must_use]
    pub fn start() -> FakeRegistry {
        FakeRegistry::start_with(FakeRegistryOptions::default())
    }

    /// Starts a registry.
    ///
    /// # Panics
    /// Panics if there is no free port, or the options contradict each other.
    #[must_use]
    pub fn start_with(options: FakeRegistryOptions) -> FakeRegistry {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a loopback port is free");
        FakeRegistry::start_on(listener, options)
    }

    /// Starts a registry on a socket of the caller.
    ///
    /// # Panics
    /// Panics if the options contradict each other.
    #[must_use]
    pub fn start_on(listener: TcpListener, options: FakeRegistryOptions) -> FakeRegistry {
        let port = listener.local_addr().expect("a bound socket has an address").port();
        let name = if options.name.is_empty() {
            "127.0.0.1"
        } else {
            &options.name
        };
        let host = format!("{name}:{port}");
        let scheme = if options.tls.is_some() { "https" } else { "http" };
        let state = Arc::new(State {
            base: format!("{scheme}://{host}"),
            upstream: options.upstream.as_deref().map(upstream::Upstream::new),
            options,
            inner: Mutex::default(),
        });
        if state.options.repositories_apart {
            state.lock().content.keep_apart();
        }
        let stop = CancellationToken::new();
        let thread = server::serve_in_thread(listener, state.clone(), stop.clone());
        FakeRegistry {
            host: host.parse().expect("a name and a port are a host"),
            state,
            stop,
            thread: Some(thread),
        }
    }

    /// Returns `host:port`.
    #[must_use]
    pub fn host(&self) -> RegistryHost {
        self.host.clone()
    }

    /// Returns the URL, without a trailing slash.
    #[must_use]
    pub fn url(&self) -> String {
        self.state.base.clone()
    }

    /// Adds an image to a repository, with a tag on its top manifest.
    pub fn add_image(&self, repository: &str, tag: &str, image: &ImageFixture) {
        let mut inner = self.state.lock();
        for bytes in image.blobs.values() {
            let digest = inner.content.put_blob(bytes.clone());
            inner.content.link_blob(repository, digest.as_str());
        }
        for (descriptor, bytes) in &image.manifests {
            inner.content.put_manifest(
                repository,
                descriptor.digest.as_str(),
                &descriptor.media_type,
                bytes.clone(),
            );
        }
        inner
            .content
            .put_manifest(repository, tag, &image.root.media_type, image.root_bytes());
    }

    /// Adds a blob to every repository.
    pub fn add_blob(&self, media_type: &str, bytes: impl Into<Bytes>) -> Descriptor {
        let bytes = bytes.into();
        let descriptor = Descriptor::new(media_type, digest_of(&bytes), bytes.len() as u64);
        self.state.lock().content.put_blob(bytes);
        descriptor
    }

    /// Adds a manifest to a repository, under a tag or its digest. Its blobs need not exist.
    pub fn add_manifest(&self, repository: &str, selector: &str, media_type: &str, bytes: impl Into<Bytes>) {
        self.state
            .lock()
            .content
            .put_manifest(repository, selector, media_type, bytes.into());
    }

    pub fn remove_blob(&self, digest: &Digest) {
        self.state.lock().content.remove_blob(digest);
    }

    /// Returns the bytes of a blob.
    #[must_use]
    pub fn blob(&self, digest: &Digest) -> Option<Bytes> {
        self.state.lock().content.blob(digest.as_str())
    }

    /// Returns the bytes of a manifest.
    #[must_use]
    pub fn manifest(&self, repository: &str, selector: &str) -> Option<Bytes> {
        self.state
            .lock()
            .content
            .manifest(repository, selector)
            .map(|(_, bytes)| bytes)
    }

    /// Injects a fault into the requests that match it. The first injected fault wins.
    pub fn inject(&self, fault: Fault) {
        self.state.lock().faults.push(fault);
    }

    /// Returns the number of requests that met a fault: a test whose fault did not occur proves nothing.
    #[must_use]
    pub fn faults_met(&self) -> u64 {
        self.state.lock().faults_met
    }

    /// Revokes all access tokens, as if they had expired.
    pub fn expire_tokens(&self) {
        self.state.lock().tokens.clear();
    }

    /// Returns the requests so far, in the order of their responses.
    #[must_use]
    pub fn requests(&self) -> Vec<LoggedRequest> {
        self.state.lock().log.clone()
    }

    /// Clears the log of requests.
    pub fn clear_requests(&self) {
        self.state.lock().log.clear();
    }
}
