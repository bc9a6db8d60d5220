//! A registry with faults: a real HTTP server on a loopback port, which does as it is told and remembers what it was
//! asked. It has a thread of its own, so that a synchronous test of the binary can use it too.
//!
//! It is a second reading of the distribution specification, made apart from the server that we ship, and smaller: no
//! deletion, no referrers.

mod access;
mod content;
mod fault;
mod handler;
mod harbor;
mod server;
mod upstream;

use std::fmt;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use bytes::Bytes;
use landfall_core::oci_types::Descriptor;
use landfall_core::reference::{Digest, RegistryHost};
use tokio_util::sync::CancellationToken;

pub use access::Access;
pub use fault::{Effect, Fault};
pub use harbor::FakeHarbor;

use crate::image_builder::{BuiltImage, digest_of};

/// A registry that runs until it is dropped.
pub struct FakeRegistry {
    host: RegistryHost,
    state: Arc<State>,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

/// How a [`FakeRegistry`] is set up.
#[derive(Debug, Clone, Default)]
pub struct FakeRegistryOptions {
    /// Who may come in.
    pub access: Access,
    /// Certificate chain and key in PEM; without them it speaks plain HTTP.
    pub tls: Option<FakeTls>,
    /// With TLS: the authority, in PEM, that has to have signed the certificate of whoever connects.
    pub client_authority: Option<String>,
    /// The token that the token server takes in exchange for access tokens, by OAuth 2.0's `POST`.
    pub identity_token: Option<String>,
    /// What it is called: an IP address of this machine, or a name for one. `127.0.0.1` when empty.
    pub name: String,
    /// A blob is in the repository that it was pushed to or mounted in, and in no other one.
    pub repositories_apart: bool,
    /// The URL of a real registry that answers in its place: the faults happen to its answers, the access is ours.
    pub upstream: Option<String>,
    /// It is a Harbor: it has projects, and refuses what is pushed outside of them.
    pub harbor: Option<FakeHarbor>,
}

/// What a TLS server shows.
#[derive(Debug, Clone)]
pub struct FakeTls {
    /// The certificate, and those that signed it, in PEM.
    pub certificates: String,
    /// The key in PEM.
    pub key: String,
}

/// What the registry was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedRequest {
    /// `GET`, `PUT`…
    pub method: String,
    /// Path and query.
    pub path: String,
    /// The answer's status; `None` when there was none.
    pub status: Option<u16>,
    /// The scheme of `Authorization`, when it was sent.
    pub authorization: Option<String>,
    /// The value of `Range`, when it was sent.
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

/// What the connections share.
struct State {
    options: FakeRegistryOptions,
    /// `http://127.0.0.1:1234`.
    base: String,
    upstream: Option<upstream::Upstream>,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    content: content::Content,
    faults: Vec<Fault>,
    tokens: access::Tokens,
    /// Projects that were made since the start.
    projects: Vec<String>,
    log: Vec<LoggedRequest>,
}

impl State {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
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
            // A panic in there was printed by the thread itself; a second one here could end the process.
            drop(thread.join());
        }
    }
}

impl FakeRegistry {
    /// Starts an open registry that speaks plain HTTP.
    #[must_use]
    pub fn start() -> FakeRegistry {
        FakeRegistry::start_with(FakeRegistryOptions::default())
    }

    /// Starts a registry.
    ///
    /// # Panics
    /// Panics if there is no free port, or the options make no sense.
    #[must_use]
    pub fn start_with(options: FakeRegistryOptions) -> FakeRegistry {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a loopback port is free");
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

    /// Its `host:port`.
    #[must_use]
    pub fn host(&self) -> RegistryHost {
        self.host.clone()
    }

    /// Its URL, without a slash at the end.
    #[must_use]
    pub fn url(&self) -> String {
        self.state.base.clone()
    }

    /// Puts an image into a repository, with a tag at its top.
    pub fn add_image(&self, repository: &str, tag: &str, image: &BuiltImage) {
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

    /// Puts a blob into every repository.
    pub fn add_blob(&self, media_type: &str, bytes: impl Into<Bytes>) -> Descriptor {
        let bytes = bytes.into();
        let descriptor = Descriptor::new(media_type, digest_of(&bytes), bytes.len() as u64);
        self.state.lock().content.put_blob(bytes);
        descriptor
    }

    /// Puts a manifest into a repository, under a tag or its digest; whether its parts are there is not asked.
    pub fn add_manifest(&self, repository: &str, selector: &str, media_type: &str, bytes: impl Into<Bytes>) {
        self.state
            .lock()
            .content
            .put_manifest(repository, selector, media_type, bytes.into());
    }

    /// Loses a blob.
    pub fn remove_blob(&self, digest: &Digest) {
        self.state.lock().content.remove_blob(digest);
    }

    /// The bytes of a blob that it has.
    #[must_use]
    pub fn blob(&self, digest: &Digest) -> Option<Bytes> {
        self.state.lock().content.blob(digest.as_str())
    }

    /// The bytes of a manifest that it has.
    #[must_use]
    pub fn manifest(&self, repository: &str, selector: &str) -> Option<Bytes> {
        self.state
            .lock()
            .content
            .manifest(repository, selector)
            .map(|(_, bytes)| bytes)
    }

    /// From now on, answers with a fault where it matches. The one that was injected first wins.
    pub fn inject(&self, fault: Fault) {
        self.state.lock().faults.push(fault);
    }

    /// Forgets the tokens that it gave, as if they had expired.
    pub fn expire_tokens(&self) {
        self.state.lock().tokens.clear();
    }

    /// What it was asked so far, in the order of the answers.
    #[must_use]
    pub fn requests(&self) -> Vec<LoggedRequest> {
        self.state.lock().log.clone()
    }

    /// Forgets what it was asked so far.
    pub fn clear_requests(&self) {
        self.state.lock().log.clear();
    }
}
