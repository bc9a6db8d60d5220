//! Kinds of failed transfers.

use std::time::Duration;

/// What went wrong with a transfer, as far as the decision goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FailureKind {
    /// The registry answers that it does not have it.
    NotFound,
    /// 401 after our credentials, or without any.
    Unauthorized,
    /// 403.
    Forbidden,
    /// 429, with the wait that the registry asks for.
    RateLimited {
        /// `Retry-After`, when it was sent.
        after: Option<Duration>,
    },
    /// No connection, a connection that broke or stalled, or a 5xx.
    Unreachable,
    /// It has been silent for so long that it is not asked for now.
    GivenUp,
    /// The registry has no room left (507): that does not pass by waiting.
    Full,
    /// The certificate is not one that we trust.
    BadTls,
    /// The bytes are not those that the digest names.
    Corrupt,
    /// The answer is not one that the protocol allows.
    Protocol,
    /// Our own side failed: disk full, permissions.
    Local,
}
