//! The schedule of the `reconcile` stages: 5 minutes after boot, and every 60 minutes after that [spec:agent.reconcile],
//! each run up to 2 minutes later on some hosts [spec:agent.jitter].

use std::time::Duration;

const FIRST: Duration = Duration::from_secs(5 * 60);
const EVERY: Duration = Duration::from_secs(60 * 60);
/// The longest time by which a host is later than the schedule.
pub(crate) const LATEST: Duration = Duration::from_secs(2 * 60);

/// Returns the wait until the next run, given the uptime of the host and the time by which it is later than the
/// schedule. The runs are tied to the boot and not to the start of the agent, so that a restart neither repeats nor
/// shifts them.
pub(crate) fn until_reconcile_stages(uptime: Duration, later: Duration) -> Duration {
    let first = FIRST + later;
    let Some(since_first) = uptime.checked_sub(first) else {
        return first - uptime;
    };
    let into_interval = Duration::from_secs(since_first.as_secs() % EVERY.as_secs())
        + Duration::from_nanos(u64::from(since_first.subsec_nanos()));
    EVERY - into_interval
}

#[cfg(test)]
mod tests {
    use super::*;

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
