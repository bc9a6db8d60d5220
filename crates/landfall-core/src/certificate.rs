//! Renewal of certificates that Landfall issues: the one rule for the webhook, the embedded registry and the authority
//! of a cluster [spec:webhook.certificates].

use jiff::{SignedDuration, Timestamp};

/// The time by which a new certificate is valid before its issue: the clocks of the hosts that verify it may be behind.
pub const BACKDATED: SignedDuration = SignedDuration::from_hours(24);

/// A time that has passed: this program was written later. A clock that shows an earlier time was never set since the
/// machine started, and says nothing about a certificate.
const CREDIBLE_SINCE: Timestamp = Timestamp::constant(1_767_225_600, 0);

/// Validity period of a certificate, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    pub not_before: Timestamp,
    pub not_after: Timestamp,
}

/// Decision about an existing certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renewal {
    Keep,
    /// Issue a new certificate.
    Renew(RenewalReason),
}

/// Reason for a new certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RenewalReason {
    /// The certificate has expired, or expires soon.
    EndsSoon,
    /// The certificate is not valid yet: it was issued while the clock was ahead.
    FromTheFuture,
}

impl Validity {
    /// Returns the period of a certificate that is issued now and expires after `length`.
    #[must_use]
    pub fn starting(now: Timestamp, length: SignedDuration) -> Validity {
        Validity {
            not_before: now.saturating_sub(BACKDATED).unwrap_or(now),
            not_after: now.saturating_add(length).unwrap_or(now),
        }
    }

    /// Returns true if no client with this clock accepts the certificate because it is not valid yet. A clock that was
    /// not set since the machine started is no evidence.
    #[must_use]
    pub fn is_from_the_future(&self, now: Timestamp) -> bool {
        self.not_before > now && now >= CREDIBLE_SINCE
    }

    /// Returns true if a client with this clock rejects the certificate.
    #[must_use]
    pub fn is_useless(&self, now: Timestamp) -> bool {
        self.not_after < now || self.is_from_the_future(now)
    }
}

/// Decides whether a certificate is issued anew. It is renewed when it expires within `renew_before`, or is not valid
/// yet.
#[must_use]
pub fn plan_renewal(period: &Validity, now: Timestamp, renew_before: SignedDuration) -> Renewal {
    if period.is_from_the_future(now) {
        Renewal::Renew(RenewalReason::FromTheFuture)
    } else if period.not_after.duration_since(now) <= renew_before {
        Renewal::Renew(RenewalReason::EndsSoon)
    } else {
        Renewal::Keep
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: SignedDuration = SignedDuration::from_hours(24);

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn certificate_that_is_near_its_end_or_not_valid_yet_is_renewed() {
        let period = Validity {
            not_before: at("2030-01-01T00:00:00Z"),
            not_after: at("2031-01-01T00:00:00Z"),
        };
        for (now, expected) in [
            ("2030-01-01T00:00:00Z", Renewal::Keep),
            ("2030-12-01T00:00:00Z", Renewal::Keep),
            ("2030-12-02T00:00:00Z", Renewal::Renew(RenewalReason::EndsSoon)),
            ("2035-01-01T00:00:00Z", Renewal::Renew(RenewalReason::EndsSoon)),
            ("2029-12-31T23:59:59Z", Renewal::Renew(RenewalReason::FromTheFuture)),
            ("2026-06-01T00:00:00Z", Renewal::Renew(RenewalReason::FromTheFuture)),
            // A machine without a battery begins at such times.
            ("2000-01-01T00:00:00Z", Renewal::Keep),
            ("1970-01-01T00:00:00Z", Renewal::Keep),
        ] {
            assert_eq!(plan_renewal(&period, at(now), DAY * 30), expected, "{now}");
        }
    }

    #[test]
    fn new_certificate_is_kept_also_by_a_clock_that_is_a_day_behind() {
        let issued = at("2030-01-02T00:00:00Z");
        let period = Validity::starting(issued, DAY * 365);
        assert_eq!(
            (period.not_before, period.not_after),
            (at("2030-01-01T00:00:00Z"), at("2031-01-02T00:00:00Z"))
        );
        for (now, useless) in [
            ("2030-01-01T00:00:00Z", false),
            ("2029-12-31T00:00:00Z", true),
            ("2031-01-02T00:00:00Z", false),
            ("2031-01-03T00:00:00Z", true),
        ] {
            assert_eq!(period.is_useless(at(now)), useless, "{now}");
        }
        let last = Validity::starting(Timestamp::MAX, DAY * 365);
        assert_eq!(last.not_after, Timestamp::MAX);
    }
}
