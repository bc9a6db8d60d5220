//! What can go wrong with a registry, in words for the person who mends it and as a kind for the code that decides what
//! happens next. No text here holds a credential, a token or the query of a URL.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use http::StatusCode;
use landfall_core::failure::FailureKind;
use landfall_core::reference::{Digest, RegistryHost, Repository};
use landfall_net::tls::CertificateProblem;

use super::problem::{ConnectionProblem, ProtocolProblem, TlsProblem};
use super::server_message::ServerMessage;
use crate::image::TransferError;
use crate::keychain::KeychainError;

/// A request to a registry failed: what we tried is the text, why it failed is the source.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {preposition} `{registry}`", preposition = action.preposition())]
pub struct RegistryError {
    /// What we were trying to do.
    pub action: Action,
    /// The registry as the user names it.
    pub registry: RegistryHost,
    /// Why it failed. Boxed to keep results small.
    #[source]
    pub fault: Box<Fault>,
}

/// What we were trying to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Setting up trust, proxies and names before the first request.
    Prepare,
    /// Asking whether it answers at all.
    Reach,
    /// Fetching a manifest.
    FetchManifest {
        /// The repository.
        repository: Repository,
        /// The tag or digest.
        selector: String,
    },
    /// Pushing a manifest.
    PushManifest {
        /// The repository.
        repository: Repository,
        /// The tag or digest.
        selector: String,
    },
    /// Fetching a blob, or asking for it.
    FetchBlob {
        /// The repository.
        repository: Repository,
        /// The blob.
        digest: Digest,
    },
    /// Pushing a blob.
    PushBlob {
        /// The repository.
        repository: Repository,
        /// The blob.
        digest: Digest,
    },
    /// Listing the tags of a repository.
    ListTags {
        /// The repository.
        repository: Repository,
    },
    /// Listing what refers to a manifest.
    ListReferrers {
        /// The repository.
        repository: Repository,
        /// The manifest.
        digest: Digest,
    },
    /// Listing the repositories.
    ListRepositories,
    /// Creating a Harbor project.
    EnsureProject {
        /// Its name.
        project: String,
    },
}

impl Action {
    fn preposition(&self) -> &'static str {
        match self {
            Action::Prepare => "for",
            Action::Reach => "registry",
            Action::PushManifest { .. } | Action::PushBlob { .. } => "to",
            Action::EnsureProject { .. } => "in",
            Action::FetchManifest { .. }
            | Action::FetchBlob { .. }
            | Action::ListTags { .. }
            | Action::ListReferrers { .. }
            | Action::ListRepositories => "from",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::Prepare => write!(f, "set up connections"),
            Action::Reach => write!(f, "reach"),
            Action::FetchManifest { repository, selector } => {
                write!(f, "fetch manifest `{}`", reference(repository, selector))
            }
            Action::PushManifest { repository, selector } => {
                write!(f, "push manifest `{}`", reference(repository, selector))
            }
            Action::FetchBlob { repository, digest } => write!(f, "fetch blob `{repository}@{digest}`"),
            Action::PushBlob { repository, digest } => write!(f, "push blob `{repository}@{digest}`"),
            Action::ListTags { repository } => write!(f, "list the tags of `{repository}`"),
            Action::ListReferrers { repository, digest } => write!(f, "list what refers to `{repository}@{digest}`"),
            Action::ListRepositories => write!(f, "list the repositories"),
            Action::EnsureProject { project } => write!(f, "create project `{project}`"),
        }
    }
}

fn reference(repository: &Repository, selector: &str) -> String {
    let separator = if selector.contains(':') { '@' } else { ':' };
    format!("{repository}{separator}{selector}")
}

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The registry answered, and the answer is no.
    #[error("the registry answers {status}{message}")]
    Answer {
        /// The HTTP status.
        status: StatusCode,
        /// What the registry says about it.
        message: ServerMessage,
        /// How long it asks us to wait.
        retry_after: Option<Duration>,
    },
    /// The registry wants a login and we have none for it.
    #[error("the registry wants a login and none is configured for it{message}")]
    LoginMissing {
        /// What the registry says about it.
        message: ServerMessage,
    },
    /// The registry, or the token server that it names, does not accept our login.
    #[error("the login of user `{username}`{} is not accepted{message}", from(origin.as_ref()))]
    LoginRefused {
        /// Who we said we are.
        username: String,
        /// Where the login is from, when the configuration does not hold it.
        origin: Option<String>,
        /// What the registry says about it.
        message: ServerMessage,
    },
    /// A token ended while bytes were on their way that can be sent only once. The next attempt has a new one.
    #[error("the registry no longer accepts the token that the transfer began with{message}")]
    LoginLapsed {
        /// What the registry says about it.
        message: ServerMessage,
    },
    /// The login could not be looked up.
    #[error("the login for the registry cannot be looked up")]
    Keychain(#[from] KeychainError),
    /// The token server did not give a token.
    #[error("the token server `{server}` answers {status}{message}")]
    TokenRefused {
        /// The host of the token server.
        server: String,
        /// The HTTP status.
        status: StatusCode,
        /// What the token server says about it.
        message: ServerMessage,
        /// How long it asks us to wait.
        retry_after: Option<Duration>,
    },
    /// The registry names a token server that must not see our login.
    #[error("the registry names the token server `{server}`, which {reason}; nothing was sent there")]
    TokenServerNotTrusted {
        /// The host of the token server.
        server: String,
        /// Why it is not used.
        reason: &'static str,
    },
    /// The connection failed before or while bytes passed.
    #[error("{problem}")]
    Connection {
        /// How it failed.
        problem: ConnectionProblem,
        /// The cause from below, when it says more.
        #[source]
        source: Option<Box<dyn Error + Send + Sync>>,
    },
    /// It has not answered for a while, and is left alone for now.
    #[error("it has not answered anything for {} s, and is not asked for now", silent.as_secs())]
    GivenUp {
        /// For how long.
        silent: Duration,
    },
    /// TLS failed.
    #[error("{problem}")]
    Tls {
        /// How it failed.
        problem: TlsProblem,
        /// The cause from below.
        #[source]
        source: Option<Box<dyn Error + Send + Sync>>,
    },
    /// The bytes are not those that the digest names.
    #[error("the bytes have digest `{computed}`, not `{expected}`")]
    WrongDigest {
        /// What was asked for.
        expected: Digest,
        /// What came.
        computed: Digest,
    },
    /// There are more or fewer bytes than the descriptor says.
    #[error("{found} bytes are on offer where the descriptor says {expected}")]
    WrongSize {
        /// What the descriptor says, in bytes.
        expected: u64,
        /// What the registry has, in bytes.
        found: u64,
    },
    /// The answer is larger than we read.
    #[error("the answer is larger than {limit} bytes")]
    TooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// A redirect that we do not follow.
    #[error("the registry redirects to `{to}`, which {reason}")]
    RedirectRefused {
        /// The host it points to.
        to: String,
        /// Why we do not follow it.
        reason: &'static str,
    },
    /// The answer breaks the protocol.
    #[error("the answer breaks the distribution protocol: {0}")]
    Protocol(ProtocolProblem),
    /// Another server, to which the registry sends us, failed: a token server, or where its blobs live.
    #[error("the registry sends us to `{host}`")]
    Elsewhere {
        /// The host that failed.
        host: String,
        /// How. Its texts say "the registry" and mean this host.
        #[source]
        fault: Box<Fault>,
    },
    /// The stream that was to be pushed failed.
    #[error("the bytes to push could not be read")]
    Body(#[source] TransferError),
    /// A certificate from the configuration cannot be used.
    #[error("a configured certificate cannot be used")]
    Certificate(#[from] CertificateProblem),
    /// A proxy's address from the configuration cannot be used. The address is not shown: it may hold a password.
    #[error("the address of the {which} proxy is not a URL")]
    Proxy {
        /// Which setting.
        which: &'static str,
    },
    /// The HTTP client could not be made.
    #[error("the HTTP client cannot be set up")]
    Setup(#[source] reqwest::Error),
}

impl From<ConnectionProblem> for Fault {
    fn from(problem: ConnectionProblem) -> Fault {
        Fault::Connection { problem, source: None }
    }
}

impl From<ProtocolProblem> for Fault {
    fn from(problem: ProtocolProblem) -> Fault {
        Fault::Protocol(problem)
    }
}

impl Fault {
    /// The registry's part in the failure of a transfer, e.g. for its hint. `None` when the failure is somebody else's.
    #[must_use]
    pub fn of(error: &TransferError) -> Option<&Fault> {
        error.source.as_deref()?.downcast_ref()
    }

    /// How TLS failed, when it was TLS.
    #[must_use]
    pub fn tls_problem(&self) -> Option<&TlsProblem> {
        match self {
            Fault::Tls { problem, .. } => Some(problem),
            Fault::Elsewhere { fault, .. } => fault.tls_problem(),
            _ => None,
        }
    }

    /// What follows from the fault (STYLE 3.5).
    #[must_use]
    pub fn kind(&self) -> FailureKind {
        match self {
            // Docker's registry answers 500 when it has several reasons, this one among them; it will not pass.
            Fault::Answer { message, .. } if message.has_code("MANIFEST_BLOB_UNKNOWN") => FailureKind::Protocol,
            Fault::Answer {
                status, retry_after, ..
            }
            | Fault::TokenRefused {
                status, retry_after, ..
            } => kind_of_status(*status, *retry_after),
            Fault::LoginMissing { .. } | Fault::LoginRefused { .. } => FailureKind::Unauthorized,
            Fault::Connection { .. } | Fault::LoginLapsed { .. } => FailureKind::Unreachable,
            Fault::GivenUp { .. } => FailureKind::GivenUp,
            Fault::Tls { .. } => FailureKind::BadTls,
            Fault::WrongDigest { .. } | Fault::WrongSize { .. } => FailureKind::Corrupt,
            Fault::Protocol(ProtocolProblem::DigestHeader { .. }) => FailureKind::Corrupt,
            Fault::TokenServerNotTrusted { .. }
            | Fault::TooLarge { .. }
            | Fault::RedirectRefused { .. }
            | Fault::Protocol(_) => FailureKind::Protocol,
            Fault::Body(error) => error.kind,
            Fault::Elsewhere { fault, .. } => fault.kind(),
            Fault::Keychain(_) | Fault::Certificate(_) | Fault::Proxy { .. } | Fault::Setup(_) => FailureKind::Local,
        }
    }

    /// One thing to do about it, as an instruction (STYLE 3.6).
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Fault::Tls { problem, .. } => Some(problem.hint()),
            Fault::Elsewhere { fault, .. } => fault.hint(),
            Fault::LoginMissing { .. } => {
                Some("configure `username` and `password` for this registry, or log in with `landfall login`")
            }
            Fault::LoginRefused { origin: Some(_), .. } => Some("log in again with `landfall login`"),
            Fault::LoginRefused { origin: None, .. } => Some("correct `username` and `password` of this registry"),
            // Distribution says no more than this when its disk is full.
            Fault::Answer { status, .. } if *status == StatusCode::INTERNAL_SERVER_ERROR => {
                Some("look into the registry's log, and whether its disk is full")
            }
            Fault::TokenServerNotTrusted { .. } => Some(
                "if it is the right one, list it as `REGISTRY=SERVER`: in `landfall.tokenServers` of the user-data, or \
                 by `--token-server`",
            ),
            Fault::Connection {
                problem: ConnectionProblem::Name,
                ..
            } => Some("check the registry's name and this machine's DNS"),
            Fault::Keychain(KeychainError::Helper { .. }) => {
                Some("run the helper by hand to see why, or take it out of the file and log in with `landfall login`")
            }
            Fault::GivenUp { .. }
            | Fault::Connection {
                problem: ConnectionProblem::Refused | ConnectionProblem::ConnectTimeout(_),
                ..
            } => Some("check that the registry is up and can be reached from here"),
            _ => None,
        }
    }
}

fn from(origin: Option<&String>) -> String {
    origin.map_or_else(String::new, |origin| format!(" from {origin}"))
}

fn kind_of_status(status: StatusCode, retry_after: Option<Duration>) -> FailureKind {
    match status.as_u16() {
        404 => FailureKind::NotFound,
        401 => FailureKind::Unauthorized,
        403 => FailureKind::Forbidden,
        429 => FailureKind::RateLimited { after: retry_after },
        // A server that says when to come back is busy, not gone.
        503 if retry_after.is_some() => FailureKind::RateLimited { after: retry_after },
        507 => FailureKind::Full,
        408 | 425 | 500.. => FailureKind::Unreachable,
        _ => FailureKind::Protocol,
    }
}

impl RegistryError {
    /// What follows from the failure.
    #[must_use]
    pub fn kind(&self) -> FailureKind {
        self.fault.kind()
    }

    /// One thing to do about it, as an instruction.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        self.fault.hint()
    }
}

impl From<RegistryError> for TransferError {
    fn from(error: RegistryError) -> TransferError {
        TransferError {
            kind: error.kind(),
            attempt: error.to_string(),
            source: Some(error.fault),
        }
    }
}

pub(crate) fn stalled(limit: Duration) -> Fault {
    Fault::from(ConnectionProblem::Stalled(limit))
}
