//! What can go wrong with a registry, in words for the person who mends it and as a kind for the code that decides what
//! happens next. No text here holds a credential, a token or the query of a URL.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use http::StatusCode;
use landfall_core::reference::{Digest, RegistryHost, Repository};
use landfall_core::retry::FailureKind;

use crate::image::TransferError;
use crate::tls::CertificateProblem;

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
    #[error("the login of user `{username}` is not accepted{message}")]
    LoginRefused {
        /// Who we said we are.
        username: String,
        /// What the registry says about it.
        message: ServerMessage,
    },
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

/// How a connection failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectionProblem {
    /// Nobody listens there.
    #[error("the connection is refused: nothing listens there")]
    Refused,
    /// The name is unknown.
    #[error("the name cannot be resolved")]
    Name,
    /// The connection was not set up in time.
    #[error("no connection within {}", seconds(.0))]
    ConnectTimeout(Duration),
    /// No answer came in time.
    #[error("no answer within {}", seconds(.0))]
    AnswerTimeout(Duration),
    /// Bytes stopped to flow.
    #[error("the transfer stalled: no byte passed for {}", seconds(.0))]
    Stalled(Duration),
    /// The other side ended the connection too early.
    #[error("the connection broke")]
    Broken,
}

/// How TLS failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TlsProblem {
    /// Nobody that we trust signed the certificate.
    #[error("its certificate is signed by an authority that is not trusted here")]
    UnknownAuthority,
    /// The certificate's time is over.
    #[error("its certificate has expired")]
    Expired,
    /// The certificate's time has not come.
    #[error("its certificate is not valid yet: is this machine's clock right?")]
    NotYetValid,
    /// The certificate is for somebody else.
    #[error("its certificate is for another name")]
    WrongName,
    /// The server speaks no TLS.
    #[error("the server speaks plain HTTP, and the registry is not marked `insecure`")]
    NotTls,
    /// Anything else.
    #[error("the TLS handshake failed")]
    Handshake,
}

impl TlsProblem {
    /// One thing to do about it.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            TlsProblem::UnknownAuthority => {
                "put the PEM of the authority that signed it under `certificates` of this registry"
            }
            TlsProblem::Expired => "renew the registry's certificate",
            TlsProblem::NotYetValid => "set this machine's clock",
            TlsProblem::WrongName => "use a name that the certificate is for, or renew it with this name",
            TlsProblem::NotTls => "serve the registry over TLS, or set `insecure: true` for it",
            TlsProblem::Handshake => "check that a TLS server listens at this address and port",
        }
    }
}

/// What in an answer breaks the protocol.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolProblem {
    /// An upload without a place to send the bytes to.
    #[error("an upload was accepted without a usable `Location`")]
    NoLocation,
    /// A redirect without a target.
    #[error("a redirect has no usable `Location`")]
    BadRedirect,
    /// Too many redirects.
    #[error("more than {0} redirects")]
    RedirectLoop(usize),
    /// A range that is not the one asked for.
    #[error("a range from byte {offset} was asked for and another one came")]
    WrongRange {
        /// What was asked for.
        offset: u64,
    },
    /// The body is not the JSON that it should be.
    #[error("the body is not the JSON that was expected")]
    NotJson,
    /// A header that a manifest needs is missing.
    #[error("a manifest came without a media type")]
    NoMediaType,
    /// A manifest of a kind that nobody can use any more.
    #[error("the manifest has the media type `{0}`, which is not supported")]
    UnsupportedManifest(String),
    /// A challenge that we cannot answer.
    #[error("no way to log in that is supported: neither `Basic` nor `Bearer` is offered")]
    NoUsableChallenge,
    /// The realm of a challenge.
    #[error("the `realm` of its challenge is not a URL")]
    BadRealm,
    /// An answer of a token server without a token.
    #[error("the token server's answer holds no token")]
    NoToken,
    /// A page of a list points elsewhere.
    #[error("the next page of a list is on another host")]
    PageElsewhere,
    /// A list that never ends.
    #[error("a list has more than {0} pages")]
    TooManyPages(usize),
    /// The digest header differs from the bytes.
    #[error("`Docker-Content-Digest` is `{header}` but the bytes have `{computed}`")]
    DigestHeader {
        /// What the header says.
        header: Digest,
        /// What the bytes have.
        computed: Digest,
    },
}

/// What a server says about a failure: the distribution envelope's codes and messages, or the body's first line. Bounded,
/// and free of control characters. Displays with a leading `: ` unless it is empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServerMessage(String);

const SERVER_MESSAGE_LENGTH_MAX: usize = 300;

impl ServerMessage {
    /// Takes the message out of the body of an error. HTML, which proxies send, is left out.
    #[must_use]
    pub fn from_body(body: &[u8]) -> ServerMessage {
        let text = match serde_json::from_slice::<ErrorBody>(body) {
            Ok(body) => body.to_text(),
            Err(_) => {
                let text = String::from_utf8_lossy(body);
                let line = text.lines().map(str::trim).find(|line| !line.is_empty());
                line.filter(|line| !line.starts_with('<')).unwrap_or("").to_owned()
            }
        };
        let clean = text
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .take(SERVER_MESSAGE_LENGTH_MAX);
        ServerMessage(clean.collect::<String>().trim().to_owned())
    }

    /// The same message without a secret that the server echoes.
    #[must_use]
    pub fn without(&self, secret: &str) -> ServerMessage {
        if secret.is_empty() {
            return self.clone();
        }
        ServerMessage(self.0.replace(secret, "[redacted]"))
    }
}

impl fmt::Display for ServerMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return Ok(());
        }
        write!(f, ": {}", self.0)
    }
}

#[derive(serde::Deserialize)]
struct ErrorBody {
    #[serde(default)]
    errors: Vec<ErrorEntry>,
    // The token specification's and OAuth's way to say it.
    #[serde(default)]
    details: String,
    #[serde(default)]
    error_description: String,
}

#[derive(serde::Deserialize)]
struct ErrorEntry {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

impl ErrorBody {
    fn to_text(&self) -> String {
        let entries = self.errors.iter().map(|entry| match entry.message.as_str() {
            "" => entry.code.clone(),
            message => format!("{}: {message}", entry.code),
        });
        let text = entries.collect::<Vec<_>>().join("; ");
        [text, self.details.clone(), self.error_description.clone()]
            .into_iter()
            .find(|text| !text.is_empty())
            .unwrap_or_default()
    }
}

impl Fault {
    /// What follows from the fault (STYLE 3.5).
    #[must_use]
    pub fn kind(&self) -> FailureKind {
        match self {
            Fault::Answer {
                status, retry_after, ..
            }
            | Fault::TokenRefused {
                status, retry_after, ..
            } => kind_of_status(*status, *retry_after),
            Fault::LoginMissing { .. } | Fault::LoginRefused { .. } => FailureKind::Unauthorized,
            Fault::Connection { .. } => FailureKind::Unreachable,
            Fault::Tls { .. } => FailureKind::BadTls,
            Fault::WrongDigest { .. } | Fault::WrongSize { .. } => FailureKind::Corrupt,
            Fault::Protocol(ProtocolProblem::DigestHeader { .. }) => FailureKind::Corrupt,
            Fault::TokenServerNotTrusted { .. }
            | Fault::TooLarge { .. }
            | Fault::RedirectRefused { .. }
            | Fault::Protocol(_) => FailureKind::Protocol,
            Fault::Body(error) => error.kind,
            Fault::Certificate(_) | Fault::Proxy { .. } | Fault::Setup(_) => FailureKind::Local,
        }
    }

    /// One thing to do about it, as an instruction (STYLE 3.6).
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Fault::Tls { problem, .. } => Some(problem.hint()),
            Fault::LoginMissing { .. } => Some("configure `username` and `password` for this registry"),
            Fault::LoginRefused { .. } => Some("correct `username` and `password` of this registry"),
            Fault::TokenServerNotTrusted { .. } => {
                Some("list the token server for this registry if it is the right one")
            }
            Fault::Connection {
                problem: ConnectionProblem::Name,
                ..
            } => Some("check the registry's name and this machine's DNS"),
            _ => None,
        }
    }
}

fn kind_of_status(status: StatusCode, retry_after: Option<Duration>) -> FailureKind {
    match status.as_u16() {
        404 => FailureKind::NotFound,
        401 => FailureKind::Unauthorized,
        403 => FailureKind::Forbidden,
        429 => FailureKind::RateLimited { after: retry_after },
        // A server that says when to come back is busy, not gone.
        503 if retry_after.is_some() => FailureKind::RateLimited { after: retry_after },
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

fn seconds(duration: &Duration) -> String {
    if duration.subsec_nanos() == 0 {
        format!("{} s", duration.as_secs())
    } else {
        format!("{} ms", duration.as_millis())
    }
}
