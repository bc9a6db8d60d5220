//! Rotation of the webhook's certificate authority. The authority is created once and replaced with an overlap, so that
//! no API server ever meets a certificate of an authority that it does not trust.
//!
//! The steps of a rotation: **introduce** the next authority (all API servers trust it, no agent uses it), **promote**
//! it once they trust it (every agent issues a new certificate; the old authority stays trusted), **retire** the old
//! one.

use jiff::{SignedDuration, Timestamp};

use crate::certificate::{Renewal, Validity, plan_renewal};

/// State of the authority, without its keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuthorityFacts {
    /// The validity of the signing authority.
    pub current: Validity,
    /// The validity of the next authority, if it exists.
    pub next: Option<Validity>,
    /// True if the previous authority is still trusted.
    pub has_previous: bool,
    /// The time of the last step.
    pub changed: Timestamp,
    /// True if a user requested a new authority.
    pub wanted: bool,
    /// True if the API server is seen to trust every existing authority.
    pub is_known: bool,
}

/// Time between the steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RotationPolicy {
    /// A new authority is introduced when the signing one is valid for less than this.
    pub renew_before: SignedDuration,
    /// The time for which the API servers trust the next authority before it signs.
    pub overlap: SignedDuration,
    /// The time for which the previous authority stays trusted after it signed last: agents without a connection may
    /// still use it.
    pub retire_after: SignedDuration,
}

/// Next step of the rotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RotationStep {
    Keep,
    /// No authority exists: create the first.
    Create,
    /// Create the next authority, and have the API servers trust it.
    Introduce,
    /// The next authority signs from now on.
    Promote,
    /// Remove the previous authority.
    Retire,
}

#[must_use]
pub fn plan_rotation(authority: Option<&AuthorityFacts>, now: Timestamp, policy: &RotationPolicy) -> RotationStep {
    let Some(authority) = authority else {
        return RotationStep::Create;
    };
    // A step from the future was taken while the clock was ahead: it lies back for longer than any wait.
    let since = match now.duration_since(authority.changed) {
        since if since.is_negative() => SignedDuration::MAX,
        since => since,
    };
    if let Some(next) = &authority.next {
        if next.is_from_the_future(now) {
            return RotationStep::Introduce;
        }
        // An authority that no client accepts serves nobody, so there is nothing to wait for.
        let overlapped = authority.is_known && since >= policy.overlap;
        return if overlapped || authority.current.is_useless(now) {
            RotationStep::Promote
        } else {
            RotationStep::Keep
        };
    }
    let renewal = plan_renewal(&authority.current, now, policy.renew_before);
    if authority.wanted || renewal != Renewal::Keep {
        return RotationStep::Introduce;
    }
    if authority.has_previous && since >= policy.retire_after {
        return RotationStep::Retire;
    }
    RotationStep::Keep
}

/// Returns the CA bundle for the API server, in PEM: the signing authority, the next, the previous. Duplicates are left
/// out.
#[must_use]
pub fn merge_bundle(current: &str, next: Option<&str>, previous: Option<&str>) -> String {
    let mut bundle = String::new();
    for certificate in [Some(current), next, previous].into_iter().flatten() {
        let certificate = certificate.trim();
        if !certificate.is_empty() && !bundle.contains(certificate) {
            bundle.push_str(certificate);
            bundle.push('\n');
        }
    }
    bundle
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 24 * 3600;

    /// Returns a time some seconds after the authority was made.
    fn at(second: i64) -> Timestamp {
        "2030-01-01T00:00:00Z".parse::<Timestamp>().unwrap() + SignedDuration::from_secs(second)
    }

    fn valid(from: i64, to: i64) -> Validity {
        Validity {
            not_before: at(from),
            not_after: at(to),
        }
    }

    fn mk_policy() -> RotationPolicy {
        RotationPolicy {
            renew_before: SignedDuration::from_secs(30 * DAY),
            overlap: SignedDuration::from_secs(60),
            retire_after: SignedDuration::from_secs(DAY),
        }
    }

    fn mk_facts() -> AuthorityFacts {
        AuthorityFacts {
            current: valid(-DAY, 3650 * DAY),
            next: None,
            has_previous: false,
            changed: at(0),
            wanted: false,
            is_known: true,
        }
    }

    #[test]
    fn each_state_has_one_next_step() {
        let with = |change: fn(&mut AuthorityFacts)| {
            let mut facts = mk_facts();
            change(&mut facts);
            Some(facts)
        };
        let introduced: fn(&mut AuthorityFacts) = |facts| facts.next = Some(valid(-DAY, 7300 * DAY));
        for (case, facts, now, expected) in [
            ("none", None, 0, RotationStep::Create),
            ("young", with(|_| {}), DAY, RotationStep::Keep),
            ("near its end", with(|_| {}), 3630 * DAY, RotationStep::Introduce),
            (
                "asked for",
                with(|facts| facts.wanted = true),
                0,
                RotationStep::Introduce,
            ),
            ("introduced just now", with(introduced), 59, RotationStep::Keep),
            ("known for long enough", with(introduced), 60, RotationStep::Promote),
            (
                "introduced, and the API server does not know it",
                with(|facts| (facts.next, facts.is_known) = (Some(valid(-DAY, 7300 * DAY)), false)),
                DAY,
                RotationStep::Keep,
            ),
            (
                "introduced, and the old one has ended",
                with(|facts| (facts.next, facts.is_known) = (Some(valid(-DAY, 7300 * DAY)), false)),
                3651 * DAY,
                RotationStep::Promote,
            ),
            (
                "asked for again while one is introduced",
                with(|facts| (facts.next, facts.wanted) = (Some(valid(-DAY, 7300 * DAY)), true)),
                59,
                RotationStep::Keep,
            ),
            (
                "promoted",
                with(|facts| facts.has_previous = true),
                DAY - 1,
                RotationStep::Keep,
            ),
            (
                "promoted a day ago",
                with(|facts| facts.has_previous = true),
                DAY,
                RotationStep::Retire,
            ),
            (
                "asked for again before the old one is retired",
                with(|facts| (facts.has_previous, facts.wanted) = (true, true)),
                60,
                RotationStep::Introduce,
            ),
            // The clock was ten years ahead when these were made.
            (
                "not valid yet",
                with(|facts| facts.current = valid(3650 * DAY, 7300 * DAY)),
                0,
                RotationStep::Introduce,
            ),
            (
                "not valid yet, and the next was introduced just now",
                with(|facts| {
                    facts.current = valid(3650 * DAY, 7300 * DAY);
                    (facts.next, facts.is_known) = (Some(valid(-DAY, 3650 * DAY)), false);
                }),
                0,
                RotationStep::Promote,
            ),
            (
                "the next one is not valid yet",
                with(|facts| facts.next = Some(valid(3650 * DAY, 7300 * DAY))),
                DAY,
                RotationStep::Introduce,
            ),
            (
                "changed last in the future",
                with(|facts| (facts.has_previous, facts.changed) = (true, at(3650 * DAY))),
                0,
                RotationStep::Retire,
            ),
        ] {
            assert_eq!(plan_rotation(facts.as_ref(), at(now), &mk_policy()), expected, "{case}");
        }
    }

    #[test]
    fn bundle_holds_each_authority_once_in_order() {
        assert_eq!(merge_bundle("a\n", None, None), "a\n");
        assert_eq!(merge_bundle("a", Some("b\n"), Some("c")), "a\nb\nc\n");
        assert_eq!(merge_bundle("a", Some("b"), Some("a\n")), "a\nb\n");
        assert_eq!(merge_bundle("a", None, Some(" ")), "a\n");
    }
}
