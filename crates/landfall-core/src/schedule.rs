//! The times of passes and stages. The `reconcile` stages run 5 minutes after boot, and every 60 minutes after that
//! [spec:agent.reconcile], each run up to 2 minutes later on some hosts [spec:agent.jitter].
//!
//! `tests/herd.rs` shows that thousands of hosts with these times do not move in step.

use std::time::Duration;

use crate::jitter::{spread, spread_widely, with_jitter};

const FIRST: Duration = Duration::from_secs(5 * 60);
const EVERY: Duration = Duration::from_secs(60 * 60);
/// The longest time by which a host is later than the schedule.
pub const LATEST: Duration = Duration::from_secs(2 * 60);

/// Times between passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PassTiming {
    /// The delay after the first failed pass, on average. It doubles with each failure, up to the interval.
    pub first_retry: Duration,
    /// The reconcile interval.
    pub interval: Duration,
}

/// Facts about a pass that ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PassResult {
    pub has_failures: bool,
    /// True if nothing that failed can be done before a registry may be asked again.
    pub waits_for_registry: bool,
    /// True if a registry was not to be asked when the pass began.
    pub began_in_wait: bool,
}

/// Returns the number of failed passes in a row, after a pass. A pass that waits for the registries that it was not
/// allowed to ask is none of them.
#[must_use]
pub fn count_failed_passes(before: u32, pass: PassResult) -> u32 {
    match pass {
        PassResult {
            has_failures: false, ..
        } => 0,
        PassResult {
            waits_for_registry: true,
            began_in_wait: true,
            ..
        } => before,
        _ => before.saturating_add(1),
    }
}

/// Returns the wait until the next run, given the uptime of the host and the time by which it is later than the
/// schedule. The runs are tied to the boot and not to the start of the agent, so that a restart neither repeats nor
/// shifts them.
#[must_use]
pub fn until_reconcile_stages(uptime: Duration, later: Duration) -> Duration {
    let first = FIRST + later;
    let Some(since_first) = uptime.checked_sub(first) else {
        return first - uptime;
    };
    let into_interval = Duration::from_secs(since_first.as_secs() % EVERY.as_secs())
        + Duration::from_nanos(u64::from(since_first.subsec_nanos()));
    EVERY - into_interval
}

/// Returns the wait until the next pass: the reconcile interval, or less after failures, with a delay that doubles.
/// Hosts that lost one registry fail in step, so the delay after a failure is spread widely.
/// `random`, from 0 to 1, spreads the passes of many hosts [spec:agent.jitter].
///
/// `registry_wait` is the time before which nothing that failed can be done, because its registries ask for a wait
/// [spec:agent.retry]. A pass before that would be in vain; one is made after the interval all the same, for all that may
/// have changed.
#[must_use]
pub fn next_pass_in(failures: u32, registry_wait: Option<Duration>, timing: PassTiming, random: f64) -> Duration {
    let interval = spread(timing.interval, random);
    let wait = match failures {
        0 => interval,
        n => {
            let doubled = timing.first_retry.saturating_mul(1 << (n - 1).min(16));
            // The longest wait, half of it more, is the interval.
            spread_widely(doubled.min(timing.interval * 2 / 3), random)
        }
    };
    let registry_wait = registry_wait.map_or(Duration::ZERO, |wait| with_jitter(wait, random));
    wait.max(registry_wait.min(interval))
}

/// Returns the first time at which something that failed can be done. `None` stands for a failure that can be mended at
/// any time, and is the result if there is one, or no failure at all.
pub fn shortest_wait<T: Ord>(waits: impl IntoIterator<Item = Option<T>>) -> Option<T> {
    waits.into_iter().min().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    const TIMING: PassTiming = PassTiming {
        first_retry: Duration::from_secs(10),
        interval: Duration::from_secs(300),
    };

    #[test]
    fn failed_passes_are_repeated_ever_later_up_to_the_interval() {
        let next = |failures, random| next_pass_in(failures, None, TIMING, random).as_secs();
        let waits: Vec<_> = (0..7).chain([1_000]).map(|failures| next(failures, 0.5)).collect();
        assert_eq!(waits, [300, 10, 20, 40, 80, 160, 200, 200]);
        assert_eq!([0.0, 1.0].map(|random| next(0, random)), [270, 330]);
        assert_eq!([0.0, 1.0].map(|random| next(3, random)), [20, 60]);
        assert_eq!([0.0, 1.0].map(|random| next(9, random)), [100, 300]);
    }

    #[test]
    fn a_pass_that_only_waits_for_registries_begins_when_the_first_may_be_asked() {
        let next = |failures, wait, random| next_pass_in(failures, Some(seconds(wait)), TIMING, random).as_secs();
        for (failures, wait, expected) in [
            // A registry that always asks for a second is asked ever more seldom.
            (1, 1, 10),
            (4, 1, 80),
            (1, 100, 110),
            // The other work of the agent is done in each interval.
            (1, 3_000, 300),
            (1, u64::MAX, 300),
        ] {
            assert_eq!(next(failures, wait, 0.5), expected, "{failures} failures, {wait} s");
        }
        for random in [0.0, 0.3, 1.0] {
            assert!((100..=120).contains(&next(1, 100, random)), "a wait is never cut");
        }
    }

    #[test]
    fn a_failure_that_waits_for_no_registry_decides_for_all() {
        let [soon, late] = [1, 2].map(|wait| Some(seconds(wait)));
        assert_eq!(shortest_wait([late, soon]), soon);
        assert_eq!(shortest_wait([late, None, soon]), None);
        assert_eq!(shortest_wait::<Duration>([]), None);
    }

    #[test]
    fn pass_that_was_not_allowed_to_ask_is_not_a_failed_one() {
        for (has_failures, waits_for_registry, began_in_wait, expected) in [
            (false, false, false, 0),
            (false, true, true, 0),
            (true, false, false, 4),
            (true, false, true, 4),
            (true, true, false, 4),
            (true, true, true, 3),
        ] {
            let pass = PassResult {
                has_failures,
                waits_for_registry,
                began_in_wait,
            };
            assert_eq!(count_failed_passes(3, pass), expected, "{pass:?}");
        }
    }

    #[test]
    fn stages_run_five_minutes_after_boot_and_every_hour() {
        let minutes = |minutes: u64| Duration::from_secs(minutes * 60);
        for (uptime, wait) in [(0, 5), (4, 1), (5, 60), (6, 59), (64, 1), (65, 60), (24 * 60 + 4, 1)] {
            assert_eq!(
                until_reconcile_stages(minutes(uptime), Duration::ZERO),
                minutes(wait),
                "after {uptime} minutes"
            );
        }
        for (uptime, wait) in [(0, 7), (5, 2), (6, 1), (7, 60), (66, 1)] {
            assert_eq!(
                until_reconcile_stages(minutes(uptime), LATEST),
                minutes(wait),
                "after {uptime} minutes on a late host"
            );
        }
    }
}
