//! The decision after a failure: another attempt, the next source, or stop. A table decides by the kind of the failure.

use std::time::Duration;

use crate::failure::kind::FailureKind;
use crate::jitter::{unit, with_jitter};

/// Attempts at a source whose bytes have another length than it told: the second one shows that it means it.
const WRONG_LENGTH_ATTEMPTS: u32 = 2;

/// Limits on the attempts at one source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Attempts at one source, the first included.
    pub attempts: u32,
    /// The wait after the first failure. It doubles with each further one.
    pub first_delay: Duration,
    pub longest_delay: Duration,
    /// The longest `Retry-After` that is waited out. A longer one ends the source for this pass: it is never shortened.
    pub longest_wait: Duration,
}

impl Default for RetryPolicy {
    /// Returns five attempts within about 15 seconds. A registry that asks for more than two minutes is left for this
    /// pass.
    fn default() -> RetryPolicy {
        RetryPolicy {
            attempts: 5,
            first_delay: Duration::from_secs(1),
            longest_delay: Duration::from_secs(30),
            longest_wait: Duration::from_secs(120),
        }
    }
}

impl RetryPolicy {
    /// Returns the wait after the given number of failed attempts, from 1. The caller draws `jitter`, from 0 to 1. It
    /// shortens the wait by up to half, so that many hosts that lost one registry do not return at the same moment.
    #[must_use]
    pub fn delay(&self, failed: u32, jitter: f64) -> Duration {
        let doublings = failed.saturating_sub(1).min(31);
        let full = self.first_delay.saturating_mul(1 << doublings).min(self.longest_delay);
        full.mul_f64(1.0 - unit(jitter) / 2.0)
    }
}

/// The reaction to a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NextAction {
    /// Try the same source again after this wait.
    Retry { delay: Duration },
    /// Go on with the next candidate. Without one, the transfer has failed.
    NextSource,
    /// Give up: the failure is local, so no other source helps.
    Stop,
}

/// Decides after the given number of failed attempts at one source, from 1, by the kind of the last failure. A wait that
/// a registry asks for is a lower bound ([spec:agent.retry]).
#[must_use]
pub fn next_action(kind: FailureKind, failed: u32, policy: &RetryPolicy, jitter: f64) -> NextAction {
    let delay = match kind {
        FailureKind::Unreachable | FailureKind::Corrupt | FailureKind::RateLimited { after: None } => {
            policy.delay(failed, jitter)
        }
        FailureKind::RateLimited { after: Some(after) } if after <= policy.longest_wait => {
            with_jitter(after, jitter).max(policy.delay(failed, jitter))
        }
        FailureKind::WrongLength if failed < WRONG_LENGTH_ATTEMPTS => policy.delay(failed, jitter),
        // The same request to the same registry gets the same answer.
        FailureKind::RateLimited { after: Some(_) }
        | FailureKind::WrongLength
        | FailureKind::NotFound
        | FailureKind::Unauthorized
        | FailureKind::Forbidden
        | FailureKind::GivenUp
        | FailureKind::Full
        | FailureKind::BadTls
        | FailureKind::Protocol => return NextAction::NextSource,
        FailureKind::Local | FailureKind::Stopped => return NextAction::Stop,
    };
    if failed < policy.attempts {
        NextAction::Retry { delay }
    } else {
        NextAction::NextSource
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const POLICY: RetryPolicy = RetryPolicy {
        attempts: 4,
        first_delay: Duration::from_secs(1),
        longest_delay: Duration::from_secs(3),
        longest_wait: Duration::from_secs(60),
    };

    #[test]
    fn delays_double_up_to_the_longest() {
        let delays = [1, 2, 3, 4].map(|failed| POLICY.delay(failed, 0.0).as_secs());
        assert_eq!(delays, [1, 2, 3, 3]);
    }

    #[test]
    fn the_kind_of_a_failure_decides_what_comes_next() {
        let after = |seconds| FailureKind::RateLimited {
            after: Some(Duration::from_secs(seconds)),
        };
        let retry = |seconds| NextAction::Retry {
            delay: Duration::from_secs(seconds),
        };
        for (kind, failed, expected) in [
            (FailureKind::NotFound, 1, NextAction::NextSource),
            (FailureKind::Unauthorized, 1, NextAction::NextSource),
            (FailureKind::Forbidden, 1, NextAction::NextSource),
            (FailureKind::GivenUp, 1, NextAction::NextSource),
            (FailureKind::Full, 1, NextAction::NextSource),
            (FailureKind::BadTls, 1, NextAction::NextSource),
            (FailureKind::Protocol, 1, NextAction::NextSource),
            (FailureKind::Local, 1, NextAction::Stop),
            (FailureKind::Unreachable, 1, retry(1)),
            (FailureKind::Unreachable, 3, retry(3)),
            (FailureKind::Unreachable, 4, NextAction::NextSource),
            (FailureKind::Corrupt, 2, retry(2)),
            (FailureKind::RateLimited { after: None }, 1, retry(1)),
            (after(7), 1, retry(7)),
            (after(0), 2, retry(2)),
            (after(60), 1, retry(60)),
            (after(61), 1, NextAction::NextSource),
            (after(900), 1, NextAction::NextSource),
            (FailureKind::WrongLength, 1, retry(1)),
            (FailureKind::WrongLength, 2, NextAction::NextSource),
            (FailureKind::Stopped, 1, NextAction::Stop),
            (after(7), 4, NextAction::NextSource),
        ] {
            assert_eq!(
                next_action(kind, failed, &POLICY, 0.0),
                expected,
                "{kind:?} after {failed}"
            );
        }
    }

    proptest! {
        #[test]
        fn a_delay_is_never_longer_than_allowed_nor_shorter_than_half(failed in any::<u32>(), jitter in prop_oneof![any::<f64>(), 0.0..1.0, Just(f64::NAN)]) {
            let delay = POLICY.delay(failed, jitter);
            prop_assert!(delay <= POLICY.longest_delay);
            prop_assert!(delay >= POLICY.first_delay / 2);
        }

        #[test]
        fn a_registry_is_never_asked_earlier_than_it_told(after in 0..100_000_u64, failed in 1..6_u32, jitter in prop_oneof![any::<f64>(), 0.0..1.0, Just(f64::NAN)]) {
            let told = Duration::from_secs(after);
            let kind = FailureKind::RateLimited { after: Some(told) };
            match next_action(kind, failed, &POLICY, jitter) {
                NextAction::Retry { delay } => prop_assert!(delay >= told && told <= POLICY.longest_wait),
                NextAction::NextSource => prop_assert!(told > POLICY.longest_wait || failed >= POLICY.attempts),
                NextAction::Stop => prop_assert!(false),
            }
        }
    }
}
