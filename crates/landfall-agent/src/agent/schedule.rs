//! The schedule of the `reconcile` stages: 5 minutes after boot, and every 60 minutes after that [spec:agent].

use std::time::Duration;

const FIRST: Duration = Duration::from_secs(5 * 60);
const EVERY: Duration = Duration::from_secs(60 * 60);

/// Returns the wait until the next run, given the uptime of the host. The runs are tied to the boot and not to the
/// start of the agent, so that a restart neither repeats nor shifts them.
pub(crate) fn until_reconcile_stages(uptime: Duration) -> Duration {
    let Some(since_first) = uptime.checked_sub(FIRST) else {
        return FIRST - uptime;
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
                until_reconcile_stages(minutes(uptime)),
                minutes(wait),
                "after {uptime} minutes"
            );
        }
    }
}
