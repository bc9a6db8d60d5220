//! Kinds of failed transfers.

use std::time::Duration;

/// The kind of a failed transfer, as far as the decision about the next attempt needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FailureKind {
    /// The registry answers that it does not have the content.
    NotFound,
    /// 401, with our credentials or without any.
    Unauthorized,
    /// 403.
    Forbidden,
    /// 429.
    RateLimited {
        /// The wait that the registry asks for with `Retry-After`: a lower bound, from the failure on. A caller that
        /// comes back later, in another pass, honours the rest of it.
        after: Option<Duration>,
    },
    /// No connection, a connection that broke or stalled, or a 5xx.
    Unreachable,
    /// The registry did not answer for so long that it is not asked for now: its circuit is open.
    GivenUp,
    /// The registry has no room left (507). Waiting does not help.
    Full,
    /// The certificate is not trusted.
    BadTls,
    /// The bytes do not match the digest.
    Corrupt,
    /// The source offers another number of bytes than it told.
    WrongLength,
    /// The answer violates the protocol.
    Protocol,
    /// The failure is on this side: disk full, permissions.
    Local,
    /// The work was stopped on request. Nothing failed.
    Stopped,
}

impl FailureKind {
    /// Returns the shortest time until the registry may be asked again; `None` if it named none.
    #[must_use]
    pub fn not_before(self) -> Option<Duration> {
        match self {
            FailureKind::RateLimited { after } => after,
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_registry_that_limits_the_rate_names_a_time() {
        let named = Some(Duration::from_secs(7));
        for (kind, expected) in [
            (FailureKind::RateLimited { after: named }, named),
            (FailureKind::RateLimited { after: None }, None),
            (FailureKind::Unreachable, None),
            (FailureKind::GivenUp, None),
        ] {
            assert_eq!(kind.not_before(), expected, "{kind:?}");
        }
    }
}
