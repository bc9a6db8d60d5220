//! A circuit breaker for registries: after some time without an answer, requests to a registry fail at once. The same
//! holds until the time that a registry names with `Retry-After`.
//!
//! The caller passes the time, counted from any moment, the same one each time.

use std::time::Duration;

use crate::jitter::with_jitter;

/// Limits after which a registry counts as gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CircuitPolicy {
    /// The number of requests in a row without an answer.
    pub failures: u32,
    /// The least time from the first of them to the last. A restart of a registry takes less, even if many requests
    /// fail during it.
    pub silence: Duration,
    /// The time without requests after that, to which up to a fifth is added. Then one request probes the registry.
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
    /// The time that the registry named: no request is sent before it.
    not_before: Option<Duration>,
}

/// The reason for which a registry is not asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CircuitOpen {
    /// It has not answered for this time.
    Silent(Duration),
    /// It asked for no request within this time from now on.
    NotBefore(Duration),
}

impl Circuit {
    /// Admits a request, or not. After the rest, the first request is admitted as a probe. All others are refused until
    /// the probe is answered, or another rest is over. The caller draws `jitter`, from 0 to 1, for the rest.
    ///
    /// # Errors
    /// The reason against the request.
    pub fn admit(&mut self, policy: &CircuitPolicy, now: Duration, jitter: f64) -> Result<(), CircuitOpen> {
        if let Some(wait) = self.wait(now) {
            return Err(CircuitOpen::NotBefore(wait));
        }
        match self.rests_until {
            Some(until) if now < until => Err(CircuitOpen::Silent(
                now.saturating_sub(self.silent_since.unwrap_or(now)),
            )),
            Some(_) => {
                self.rests_until = Some(now + with_jitter(policy.rest, jitter));
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Returns the rest of the wait that the registry asked for; `None` if it may be asked now.
    #[must_use]
    pub fn wait(&self, now: Duration) -> Option<Duration> {
        self.not_before
            .and_then(|until| until.checked_sub(now))
            .filter(|wait| !wait.is_zero())
    }

    /// Records an answer.
    pub fn answered(&mut self) {
        *self = Circuit {
            not_before: self.not_before,
            ..Circuit::default()
        };
    }

    /// Records an answer that asks for a wait from now on. A longer wait that is not over stays.
    pub fn asked_to_wait(&mut self, now: Duration, wait: Duration) {
        let until = now.saturating_add(wait);
        self.not_before = Some(self.not_before.map_or(until, |known| known.max(until)));
    }

    /// Records a request without an answer. The caller draws `jitter`, from 0 to 1, for the rest.
    pub fn unanswered(&mut self, policy: &CircuitPolicy, now: Duration, jitter: f64) {
        self.failures = self.failures.saturating_add(1);
        let since = *self.silent_since.get_or_insert(now);
        if self.failures >= policy.failures && now.saturating_sub(since) >= policy.silence {
            self.rests_until = Some(now + with_jitter(policy.rest, jitter));
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
            circuit.unanswered(&POLICY, at(*time), 0.0);
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
            (&[0, 4, 8], 9, Err(CircuitOpen::Silent(at(9)))),
            (&[0, 4, 8], 37, Err(CircuitOpen::Silent(at(37)))),
            (&[0, 4, 8], 38, Ok(())),
        ] {
            assert_eq!(
                after_failures(failures).admit(&POLICY, at(now), 0.0),
                expected,
                "{failures:?}"
            );
        }
    }

    #[test]
    fn after_the_rest_one_asks_for_all() {
        let mut circuit = after_failures(&[0, 4, 8]);
        assert_eq!(circuit.admit(&POLICY, at(40), 0.0), Ok(()));
        assert_eq!(circuit.admit(&POLICY, at(40), 0.0), Err(CircuitOpen::Silent(at(40))));
        let mut failed = circuit;
        failed.unanswered(&POLICY, at(41), 0.0);
        assert_eq!(failed.admit(&POLICY, at(70), 0.0), Err(CircuitOpen::Silent(at(70))));
        assert_eq!(failed.admit(&POLICY, at(71), 0.0), Ok(()));
        circuit.answered();
        assert_eq!(circuit, Circuit::default());
    }
    #[test]
    fn hosts_that_lost_one_registry_probe_it_at_different_times() {
        let probes = [0.0, 0.5, 1.0].map(|jitter| {
            let mut circuit = Circuit::default();
            for time in [0, 4, 8] {
                circuit.unanswered(&POLICY, at(time), jitter);
            }
            (8..).find(|now| circuit.admit(&POLICY, at(*now), jitter).is_ok())
        });
        assert_eq!(probes, [Some(38), Some(41), Some(44)]);
    }

    #[test]
    fn a_registry_that_named_a_time_is_not_asked_before_it_whoever_asks() {
        let mut circuit = Circuit::default();
        circuit.asked_to_wait(at(10), at(900));
        circuit.asked_to_wait(at(11), at(5));
        circuit.answered();
        assert_eq!(
            circuit.admit(&POLICY, at(20), 0.0),
            Err(CircuitOpen::NotBefore(at(890)))
        );
        assert_eq!(circuit.wait(at(909)), Some(at(1)));
        assert_eq!(circuit.admit(&POLICY, at(910), 0.0), Ok(()));
        circuit.asked_to_wait(at(911), Duration::MAX);
        assert!(circuit.admit(&POLICY, at(u64::MAX / 2), 0.0).is_err());
    }
}
