//! A circuit breaker for registries: after some time without an answer, requests to a registry fail at once.
//!
//! The caller passes the time, counted from any moment, the same one each time.

use std::time::Duration;

/// Limits after which a registry counts as gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CircuitPolicy {
    /// The number of requests in a row without an answer.
    pub failures: u32,
    /// The least time from the first of them to the last. A restart of a registry takes less, even if many requests
    /// fail during it.
    pub silence: Duration,
    /// The time without requests after that. Then one request probes the registry.
    pub rest: Duration,
}

impl Default for CircuitPolicy {
    fn default() -> CircuitPolicy {
        CircuitPolicy {
            failures: 5,
            silence: Duration::from_secs(8),
            rest: Duration::from_secs(30),
        }
    }
}

/// The state of one registry.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Circuit {
    failures: u32,
    silent_since: Option<Duration>,
    rests_until: Option<Duration>,
}

impl Circuit {
    /// Admits a request, or not. After the rest, the first request is admitted as a probe. All others are refused until
    /// the probe is answered, or another rest is over.
    ///
    /// # Errors
    /// The time since the registry stopped answering.
    pub fn admit(&mut self, policy: &CircuitPolicy, now: Duration) -> Result<(), Duration> {
        match self.rests_until {
            Some(until) if now < until => Err(now.saturating_sub(self.silent_since.unwrap_or(now))),
            Some(_) => {
                self.rests_until = Some(now + policy.rest);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Records an answer.
    pub fn answered(&mut self) {
        *self = Circuit::default();
    }

    /// Records a request without an answer.
    pub fn unanswered(&mut self, policy: &CircuitPolicy, now: Duration) {
        self.failures = self.failures.saturating_add(1);
        let since = *self.silent_since.get_or_insert(now);
        if self.failures >= policy.failures && now.saturating_sub(since) >= policy.silence {
            self.rests_until = Some(now + policy.rest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: CircuitPolicy = CircuitPolicy {
        failures: 3,
        silence: Duration::from_secs(8),
        rest: Duration::from_secs(30),
    };

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn after_failures(times: &[u64]) -> Circuit {
        let mut circuit = Circuit::default();
        for time in times {
            circuit.unanswered(&POLICY, at(*time));
        }
        circuit
    }

    #[test]
    fn a_registry_is_given_up_after_enough_failures_over_enough_time() {
        for (failures, now, expected) in [
            (&[][..], 0, Ok(())),
            // Many at once: it may be starting again.
            (&[0, 0, 0, 0, 1], 2, Ok(())),
            // Long, and few.
            (&[0, 20], 21, Ok(())),
            (&[0, 4, 8], 9, Err(at(9))),
            (&[0, 4, 8], 37, Err(at(37))),
            (&[0, 4, 8], 38, Ok(())),
        ] {
            assert_eq!(
                after_failures(failures).admit(&POLICY, at(now)),
                expected,
                "{failures:?}"
            );
        }
    }

    #[test]
    fn after_the_rest_one_asks_for_all() {
        let mut circuit = after_failures(&[0, 4, 8]);
        assert_eq!(circuit.admit(&POLICY, at(40)), Ok(()));
        assert_eq!(circuit.admit(&POLICY, at(40)), Err(at(40)));
        let mut failed = circuit;
        failed.unanswered(&POLICY, at(41));
        assert_eq!(failed.admit(&POLICY, at(70)), Err(at(70)));
        assert_eq!(failed.admit(&POLICY, at(71)), Ok(()));
        circuit.answered();
        assert_eq!(circuit, Circuit::default());
    }
}
