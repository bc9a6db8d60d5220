//! The ways in which connections, TLS and answers fail.

use std::time::Duration;

use landfall_core::reference::Digest;

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
    ResponseTimeout(Duration),
    /// Bytes stopped to flow.
    #[error("the transfer stalled: next to nothing passed for {}", seconds(.0))]
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
    /// The server wants to know who we are, and none of our certificates is one that it takes.
    #[error("the registry asks for a client certificate, and was shown none that it accepts")]
    ClientCertificate,
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
                "put the PEM of the authority that signed it under `certificates` of this registry, or as `ca.crt` into \
                 `/etc/docker/certs.d/HOST:PORT/`"
            }
            TlsProblem::Expired => "renew the registry's certificate, if this machine's clock is right",
            TlsProblem::NotYetValid => "set this machine's clock",
            TlsProblem::WrongName => "use a name that the certificate is for, or renew it with this name",
            TlsProblem::NotTls => {
                "serve the registry over TLS, or mark it: `insecure: true` in the user-data, `--insecure` on the command line"
            }
            TlsProblem::ClientCertificate => {
                "put a certificate that the registry accepts, and its key, into `/etc/docker/certs.d/HOST:PORT/` as \
                 `client.cert` and `client.key`"
            }
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
    /// A blob's size is missing.
    #[error("the answer does not say how large the blob is (`Content-Length`)")]
    NoSize,
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

fn seconds(duration: &Duration) -> String {
    if duration.subsec_nanos() == 0 {
        format!("{} s", duration.as_secs())
    } else {
        format!("{} ms", duration.as_millis())
    }
}
