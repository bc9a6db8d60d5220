//! Runs the `reconcile` stages when they are due, in a task of their own: a download of hours must not delay them.

use std::sync::Arc;
use std::time::Duration;

use camino::Utf8Path;
use landfall_core::jitter::{fraction_of, offset};
use landfall_core::schedule::{LATEST, until_reconcile_stages};
use landfall_core::settings::Settings;
use landfall_core::stage::parts_of;
use landfall_host::facts;
use landfall_host::root::HostRoot;
use landfall_host::stages::{StageOptions, run_stage};
use landfall_net::random::random_fraction;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::agent::host::Host;
use crate::stage_events::stage_events;

const STAGE: &str = "reconcile";

/// Runs the stages of the active configuration from now on.
pub(crate) fn supervise_stages(host: &Arc<Host>, settings: watch::Receiver<Option<Arc<Settings>>>) {
    let runner = host.clone();
    let uptime = facts::uptime();
    let later = offset(LATEST, host_fraction(&host.root));
    host.supervisor.supervise("reconcile-stages", |stop| async move {
        let work = run_on_schedule(uptime, later, || {
            let (runner, settings) = (runner.clone(), settings.borrow().clone());
            async move {
                if let Some(settings) = settings {
                    run_reconcile_stages(&runner, &settings).await;
                }
            }
        });
        tokio::select! {
            () = stop.cancelled() => Ok(()),
            never = work => never,
        }
    });
}

/// Returns a number from 0 to 1 that stays until the next boot, and that two hosts hardly ever share. The machine ID does
/// not serve: hosts that were cloned have the same one.
fn host_fraction(root: &HostRoot) -> f64 {
    match root.read(Utf8Path::new("/proc/sys/kernel/random/boot_id")) {
        Ok(Some(boot)) => fraction_of(&boot),
        Ok(None) | Err(_) => random_fraction(),
    }
}

/// Calls `run` on schedule. Never returns.
async fn run_on_schedule<T, F: Future<Output = ()>>(
    uptime_at_start: Duration,
    later: Duration,
    run: impl Fn() -> F,
) -> T {
    let start = Instant::now();
    loop {
        tokio::time::sleep(until_reconcile_stages(uptime_at_start + start.elapsed(), later)).await;
        run().await;
    }
}

async fn run_reconcile_stages(host: &Host, settings: &Settings) {
    for part in parts_of(STAGE) {
        let Some(steps) = settings.stages.get(&part).filter(|steps| !steps.is_empty()) else {
            continue;
        };
        let report = run_stage(steps, &host.root, &StageOptions::default()).await;
        for event in stage_events(&part, &report) {
            let (kind, reason, subject, message) = event;
            host.events.record(kind, reason, &subject, message).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn stages_run_five_minutes_after_boot_and_hourly_also_when_a_run_takes_long() {
        let start = Instant::now();
        let runs = RefCell::new(Vec::new());
        let schedule = run_on_schedule::<(), _>(Duration::from_secs(60), Duration::from_secs(30), || {
            runs.borrow_mut().push(start.elapsed().as_secs() + 60);
            tokio::time::sleep(Duration::from_secs(600))
        });
        let three_hours = tokio::time::timeout(Duration::from_secs(3 * 3600), schedule);
        assert!(three_hours.await.is_err(), "it never ends by itself");
        let half_past = |minutes: u64| minutes * 60 + 30;
        assert_eq!(runs.into_inner(), [5, 65, 125].map(half_past), "seconds after boot");
    }
}
