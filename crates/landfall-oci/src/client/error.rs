//! Errors of a registry: a text for the user, and a kind for the code that decides the next step. No text holds a
//! credential, a token or the query of a URL.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::time::Duration;

use http::StatusCode;
use landfall_core::failure::{FailureKind, Hint};
use landfall_core::reference::{Digest, RegistryHost, Repository};
use landfall_net::tls::CertificateProblem;
use reqwest::Url;

use super::problem::{ConnectionProblem, ProtocolProblem, TlsProblem};
use super::redirect_policy::shown_host;
use super::server_message::{DIGEST_INVALID, ServerMessage};
use crate::image::TransferError;
use crate::keychain::KeychainError;

/// A failed request to a registry. The text names the attempt; the source is the cause.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {preposition} `{registry}`", preposition = action.preposition())]
pub struct RegistryError {
    pub action: RegistryAction,
    /// Name of the registry in the user's words.
    pub registry: RegistryHost,
    /// Cause of the failure; boxed to keep results small.
    #[source]
    pub fault: Box<Fault>,
}

/// An attempted operation on a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RegistryAction {
    /// Set-up of trust, proxies and names before the first request.
    Prepare,
    /// Check for a response of the registry.
    Reach,
    FetchManifest {
        repository: Repository,
        /// Tag or digest.
        selector: String,
    },
    PushManifest {
        repository: Repository,
        /// Tag or digest.
        selector: String,
    },
    /// Fetch of a blob, or a question about it.
    FetchBlob {
        repository: Repository,
        digest: Digest,
    },
    PushBlob {
        repository: Repository,
        digest: Digest,
    },
    ListTags {
        repository: Repository,
    },
    ListReferrers {
        repository: Repository,
        /// Digest of the subject.
        digest: Digest,
    },
    ListRepositories,
    /// Creation of a Harbor project.
    EnsureProject {
        project: String,
    },
}

impl RegistryAction {
    fn preposition(&self) -> &'static str {
        match self {
            RegistryAction::Prepare => "for",
            RegistryAction::Reach => "registry",
            RegistryAction::PushManifest { .. } | RegistryAction::PushBlob { .. } => "to",
            RegistryAction::EnsureProject { .. } => "in",
            RegistryAction::FetchManifest { .. }
            | RegistryAction::FetchBlob { .. }
            | RegistryAction::ListTags { .. }
            | RegistryAction::ListReferrers { .. }
            | RegistryAction::ListRepositories => "from",
        }
    }
}

impl fmt::Display for RegistryAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RegistryAction::Prepare => write!(f, "set up connections"),
            RegistryAction::Reach => write!(f, "reach"),
            RegistryAction::FetchManifest { repository, selector } => {
                write!(f, "fetch manifest `{}`", reference(repository, selector))
            }
            RegistryAction::PushManifest { repository, selector } => {
                write!(f, "push manifest `{}`", reference(repository, selector))
            }
            RegistryAction::FetchBlob { repository, digest } => write!(f, "fetch blob `{repository}@{digest}`"),
            RegistryAction::PushBlob { repository, digest } => write!(f, "push blob `{repository}@{digest}`"),
            RegistryAction::ListTags { repository } => write!(f, "list the tags of `{repository}`"),
            RegistryAction::ListReferrers { repository, digest } => {
                write!(f, "list what refers to `{repository}@{digest}`")
            }
            RegistryAction::ListRepositories => write!(f, "list the repositories"),
            RegistryAction::EnsureProject { project } => write!(f, "create project `{project}`"),
        }
    }
}

fn reference(repository: &Repository, selector: &str) -> String {
    let separator = if selector.contains(':') { '@' } else { ':' };
    format!("{repository}{separator}{selector}")
}

/// Cause of a failed request.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The registry refused the request.
    #[error("the registry answers {status}{message}{}", wait(*retry_after))]
    Answer {
        status: StatusCode,
        message: ServerMessage,
        /// Wait that the registry asks for.
        retry_after: Option<Duration>,
    },
    /// The registry wants a login, and the client has none for it.
    #[error("the registry wants a login and none is configured for it{message}")]
    LoginMissing { message: ServerMessage },
    /// The registry, or its token server, does not accept the login.
    #[error("the login of user `{}`{} is not accepted{message}", shown_name(username), from(origin.as_ref()))]
    LoginRefused {
        username: String,
        /// Source of the login if it is not the configuration.
        origin: Option<String>,
        message: ServerMessage,
    },
    /// A token expired during a streamed body, which can be sent only once. The next attempt gets a new token.
    #[error("the registry no longer accepts the token that the transfer began with{message}")]
    LoginLapsed { message: ServerMessage },
    #[error("the login for the registry cannot be looked up")]
    Keychain(#[from] KeychainError),
    /// The token server returned no token.
    #[error("the token server `{server}` answers {status}{message}{}", wait(*retry_after))]
    TokenRefused {
        /// Host of the token server.
        server: String,
        status: StatusCode,
        message: ServerMessage,
        /// Wait that the token server asks for.
        retry_after: Option<Duration>,
    },
    /// The registry names a token server that must not see the login.
    #[error("the registry names the token server `{server}`, which {reason}; nothing was sent there")]
    TokenServerNotTrusted {
        /// Host of the token server.
        server: String,
        /// Reason against the token server.
        reason: &'static str,
    },
    /// The connection failed, before or during the transfer.
    #[error("{problem}")]
    Connection {
        problem: ConnectionProblem,
        /// Underlying cause, if it says more.
        #[source]
        source: Option<Box<dyn Error + Send + Sync>>,
    },
    /// The registry has not responded for a while. The client sends it nothing for now.
    #[error("it has not answered anything for {} s{}, and is not asked for now", silent.as_secs(), last_reason(last))]
    GivenUp {
        /// Time since the last response.
        silent: Duration,
        /// Text of the last failure.
        last: String,
    },
    /// The registry asked for no request before a time that has not come yet.
    #[error("it asked for no request within the next {} s", whole_seconds(*wait))]
    NotBefore {
        /// Rest of the wait.
        wait: Duration,
    },
    #[error("{problem}")]
    Tls {
        problem: TlsProblem,
        /// The registry whose trust settings applied; empty if none is known.
        registry: String,
        #[source]
        source: Option<Box<dyn Error + Send + Sync>>,
    },
    /// The bytes do not match the digest.
    #[error("the bytes have digest `{computed}`, not `{expected}`")]
    WrongDigest { expected: Digest, computed: Digest },
    /// The number of bytes does not match the descriptor.
    #[error("the registry offers {found} bytes, and the descriptor says {expected}")]
    WrongSize {
        /// Size from the descriptor, in bytes.
        expected: u64,
        /// Size at the registry, in bytes.
        found: u64,
    },
    /// The response exceeds the size limit.
    #[error("the answer is larger than {limit} bytes")]
    TooLarge {
        /// Limit in bytes.
        limit: usize,
    },
    /// The client does not follow the redirect.
    #[error("the registry redirects to `{to}`, which {reason}")]
    RedirectRefused {
        /// Host of the redirect's target.
        to: String,
        /// Reason against the redirect.
        reason: &'static str,
    },
    /// The registry redirects a streamed request, which can be sent only once. The next attempt goes to the target.
    #[error("the registry redirects the upload to `{}`", shown_host(to))]
    UploadRedirected { to: Box<Url> },
    /// The response violates the protocol.
    #[error("the answer breaks the distribution protocol: {0}")]
    Protocol(ProtocolProblem),
    /// A foreign host that the registry refers to failed: a token server or a blob store.
    #[error("the registry redirects to `{host}`")]
    Elsewhere {
        host: String,
        /// Its failure. In its texts "the registry" means this host.
        #[source]
        fault: Box<Fault>,
    },
    /// The source stream of a push failed.
    #[error("the bytes to push could not be read")]
    Body(#[source] TransferError),
    /// A configured certificate is unusable.
    #[error("a configured certificate cannot be used")]
    Certificate(#[from] CertificateProblem),
    /// A configured proxy URL is unusable. The text does not show it: it may hold a password.
    #[error("the address of the {which} proxy is not a URL")]
    Proxy {
        /// Setting of the proxy.
        which: &'static str,
    },
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
    /// Returns the fault of the registry in a failed transfer, e.g. for its hint; `None` if something else failed.
    #[must_use]
    pub fn of(error: &TransferError) -> Option<&Fault> {
        error.source.as_deref()?.downcast_ref()
    }

    /// Returns the TLS problem if TLS failed.
    #[must_use]
    pub fn tls_problem(&self) -> Option<&TlsProblem> {
        match self {
            Fault::Tls { problem, .. } => Some(problem),
            Fault::Elsewhere { fault, .. } => fault.tls_problem(),
            _ => None,
        }
    }

    /// Returns true if a proxy failed.
    #[must_use]
    pub fn is_of_proxy(&self) -> bool {
        match self {
            Fault::Connection { problem, .. } => matches!(problem, ConnectionProblem::Proxy { .. }),
            Fault::Elsewhere { fault, .. } => fault.is_of_proxy(),
            _ => false,
        }
    }

    /// Returns the kind that decides about retries and other sources.
    #[must_use]
    pub fn kind(&self) -> FailureKind {
        match self {
            // Docker's registry answers 500 for several errors at once, this one among them. A retry does not help.
            Fault::Answer { message, .. } if message.has_code("MANIFEST_BLOB_UNKNOWN") => FailureKind::Protocol,
            // Wrong bytes arrived: they may be right the next time.
            Fault::Answer { message, .. } if message.has_code(DIGEST_INVALID) => FailureKind::Corrupt,
            Fault::Answer {
                status, retry_after, ..
            }
            | Fault::TokenRefused {
                status, retry_after, ..
            } => kind_of_status(*status, *retry_after),
            Fault::LoginMissing { .. } | Fault::LoginRefused { .. } => FailureKind::Unauthorized,
            Fault::Connection { .. } | Fault::LoginLapsed { .. } | Fault::UploadRedirected { .. } => {
                FailureKind::Unreachable
            }
            Fault::GivenUp { .. } => FailureKind::GivenUp,
            Fault::NotBefore { wait } => FailureKind::RateLimited { after: Some(*wait) },
            Fault::Tls { .. } => FailureKind::BadTls,
            Fault::WrongDigest { .. } => FailureKind::Corrupt,
            Fault::WrongSize { .. } => FailureKind::WrongLength,
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
}

impl Hint for Fault {
    fn hint(&self) -> Option<Cow<'_, str>> {
        let advice = match self {
            Fault::Tls { problem, registry, .. } => return Some(problem.advice_for(registry)),
            Fault::Elsewhere { fault, .. } => return fault.hint(),
            Fault::Keychain(error) => return error.hint(),
            Fault::LoginMissing { .. } => {
                "configure `username` and `password` for this registry, or log in with `landfall login`"
            }
            Fault::LoginRefused { origin: Some(_), .. } => "log in again with `landfall login`",
            Fault::LoginRefused { origin: None, .. } => "correct `username` and `password` of this registry",
            // Distribution says no more than this when its disk is full.
            Fault::Answer { status, .. } if *status == StatusCode::INTERNAL_SERVER_ERROR => {
                "look into the registry's log, and whether its disk is full"
            }
            Fault::TokenServerNotTrusted { .. } => {
                "if it is the right one, list it as `REGISTRY=SERVER`: in `landfall.tokenServers` of the user-data, or \
                 by `--token-server`"
            }
            Fault::Connection {
                problem: ConnectionProblem::Name,
                ..
            } => "check the registry's name and this machine's DNS",
            Fault::Connection {
                problem: ConnectionProblem::Proxy { .. },
                ..
            } => {
                "check the address of the proxy and that it reaches the registry, or list the registry in `no_proxy` \
                 (`stylus.site.network.noProxy` in the user-data)"
            }
            Fault::Proxy { .. } => "write it as `http://HOST:PORT`, in the environment or in `stylus.site.network`",
            Fault::GivenUp { .. }
            | Fault::Connection {
                problem: ConnectionProblem::Refused | ConnectionProblem::ConnectTimeout(_),
                ..
            } => "check that the registry is up and can be reached from here",
            _ => return None,
        };
        Some(Cow::Borrowed(advice))
    }
}

fn wait(retry_after: Option<Duration>) -> String {
    match retry_after {
        Some(wait) if !wait.is_zero() => format!("; it may be asked again in {} s", whole_seconds(wait)),
        _ => String::new(),
    }
}

/// Returns the seconds, rounded up: nobody is told to come too early.
fn whole_seconds(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
}

/// Returns a user name for a message: a helper may give any text. Control characters are escaped, and a long name is
/// cut.
fn shown_name(username: &str) -> String {
    const LENGTH_MAX: usize = 100;
    let mut shown = String::new();
    for (count, character) in username.chars().enumerate() {
        if count == LENGTH_MAX {
            shown.push('…');
            break;
        }
        match character.is_control() {
            true => shown.extend(character.escape_default()),
            false => shown.push(character),
        }
    }
    shown
}

fn last_reason(last: &str) -> String {
    match last {
        "" => String::new(),
        last => format!(" ({last})"),
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
        // A server that states a time is busy, not down.
        503 if retry_after.is_some() => FailureKind::RateLimited { after: retry_after },
        507 => FailureKind::Full,
        408 | 425 | 500.. => FailureKind::Unreachable,
        _ => FailureKind::Protocol,
    }
}

impl RegistryError {
    /// Returns the kind that decides about retries and other sources.
    #[must_use]
    pub fn kind(&self) -> FailureKind {
        self.fault.kind()
    }
}

impl Hint for RegistryError {
    fn hint(&self) -> Option<Cow<'_, str>> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_name_cannot_write_lines_of_its_own() {
        assert_eq!(shown_name("Ännchen o'T"), "Ännchen o'T");
        assert_eq!(shown_name("a\r\nerror: b\u{1b}[31m"), "a\\r\\nerror: b\\u{1b}[31m");
        assert_eq!(shown_name(&"x".repeat(1000)).chars().count(), 101);
    }

    #[test]
    fn a_failure_says_when_the_registry_may_be_asked_again_and_what_it_said_last() {
        let busy = |seconds| Fault::Answer {
            status: StatusCode::TOO_MANY_REQUESTS,
            message: ServerMessage::default(),
            retry_after: Some(Duration::from_millis(seconds)),
        };
        assert_eq!(
            busy(899_001).to_string(),
            "the registry answers 429 Too Many Requests; it may be asked again in 900 s"
        );
        assert_eq!(busy(0).to_string(), "the registry answers 429 Too Many Requests");
        let silent = Fault::GivenUp {
            silent: Duration::from_secs(13),
            last: ConnectionProblem::Refused.to_string(),
        };
        assert_eq!(
            silent.to_string(),
            "it has not answered anything for 13 s (the connection is refused: nothing listens there), and is not asked \
             for now"
        );
    }
}
