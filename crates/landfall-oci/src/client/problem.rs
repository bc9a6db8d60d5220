//! Failures of connections, TLS and responses.

use std::borrow::Cow;
use std::time::Duration;

use landfall_core::reference::Digest;

/// Failure of a connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectionProblem {
    #[error("the connection is refused: nothing listens there")]
    Refused,
    #[error("the name cannot be resolved")]
    Name,
    #[error("no connection within {}", seconds(.0))]
    ConnectTimeout(Duration),
    #[error("no answer within {}", seconds(.0))]
    ResponseTimeout(Duration),
    #[error("the transfer stalled: almost no bytes moved for {}", seconds(.0))]
    Stalled(Duration),
    /// The peer closed the connection too early.
    #[error("the connection broke")]
    Broken,
    /// The proxy could not be reached, or connected to no registry.
    #[error("no connection by the proxy `{proxy}`: {problem}")]
    Proxy {
        /// Host and port of the proxy, without its login.
        proxy: String,
        problem: Box<ConnectionProblem>,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TlsProblem {
    #[error("its certificate is signed by an authority that is not trusted here")]
    UnknownAuthority,
    #[error("its certificate has expired")]
    Expired,
    #[error("its certificate is not valid yet: is this machine's clock right?")]
    NotYetValid,
    #[error("its certificate is for another name")]
    WrongName,
    #[error("the server speaks plain HTTP, and the registry is not marked `insecure`")]
    NotTls,
    /// The server requires a client certificate, and accepts none of those that the client has.
    #[error("the registry asks for a client certificate, and was shown none that it accepts")]
    ClientCertificate,
    /// Any other failure.
    #[error("the TLS handshake failed")]
    Handshake,
}

impl TlsProblem {
    /// Returns the advice for a registry, as the user names it.
    pub(super) fn advice_for(&self, registry: &str) -> Cow<'static, str> {
        let registry = if registry.is_empty() { "HOST:PORT" } else { registry };
        match self {
            TlsProblem::UnknownAuthority => Cow::Owned(format!(
                "put the PEM of the authority that signed it as `ca.crt` into `/etc/docker/certs.d/{registry}/`, or name \
                 its file by `SSL_CERT_FILE`; `--insecure {registry}` trusts any certificate"
            )),
            TlsProblem::NotTls => Cow::Owned(format!(
                "serve the registry over TLS, or mark it: `insecure: true` in the user-data, `--insecure {registry}` on \
                 the command line"
            )),
            TlsProblem::ClientCertificate => Cow::Owned(format!(
                "put a certificate that the registry accepts, and its key, into `/etc/docker/certs.d/{registry}/` as \
                 `client.cert` and `client.key`"
            )),
            TlsProblem::Expired => Cow::Borrowed("renew the registry's certificate, if this machine's clock is right"),
            TlsProblem::NotYetValid => Cow::Borrowed("set this machine's clock"),
            TlsProblem::WrongName => {
                Cow::Borrowed("use a name that the certificate is for, or renew it with this name")
            }
            TlsProblem::Handshake => Cow::Borrowed("check that a TLS server listens at this address and port"),
        }
    }
}

/// Violation of the protocol by a response.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolProblem {
    #[error("an upload was accepted without a usable `Location`")]
    NoLocation,
    #[error("a redirect has no usable `Location`")]
    BadRedirect,
    #[error("more than {0} redirects")]
    RedirectLoop(usize),
    #[error("the answer does not say how large the blob is (`Content-Length`)")]
    NoSize,
    #[error("the client asked for a range from byte {offset}, and the registry sent another one")]
    WrongRange { offset: u64 },
    #[error("the answer comes in the content coding `{0}`, which was not asked for and cannot be decoded")]
    ContentCoding(String),
    #[error("the answer is a web page")]
    WebPage,
    #[error("the body is not the JSON that was expected")]
    NotJson,
    #[error("a manifest came without a media type")]
    NoMediaType,
    /// A manifest of an obsolete kind.
    #[error("the manifest has the media type `{media_type}`, which is not supported")]
    UnsupportedManifest { media_type: String },
    #[error("no way to log in that is supported: neither `Basic` nor `Bearer` is offered")]
    NoUsableChallenge,
    #[error("the `realm` of its challenge is not a URL")]
    BadRealm,
    #[error("the token server's answer holds no token")]
    NoToken,
    #[error("the next page of a list is on another host")]
    PageElsewhere,
    /// A list without an end.
    #[error("a list has more than {0} pages")]
    TooManyPages(usize),
    #[error("`Docker-Content-Digest` is `{header}` but the bytes have `{computed}`")]
    DigestHeader {
        /// Digest in the header.
        header: Digest,
        /// Digest of the bytes.
        computed: Digest,
    },
}

fn seconds(duration: &Duration) -> String {
    if duration.subsec_nanos() == 0 {
        format!("{} s", duration.as_secs())
    } else {
        format!("{} ms", duration.as_millis())
    }
}
