//! Runs the `reconcile` stages when they are due, in a task of their own: a download of hours must not delay them.

use std::sync::Arc;
use std::time::Duration;

use landfall_core::settings::Settings;
use landfall_core::stage::parts_of;
use landfall_host::facts;
use landfall_host::stages::{StageOptions, run_stage};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::agent::host::Host;
use crate::agent::schedule::until_reconcile_stages;
use crate::stage_events::stage_events;

const STAGE: &str = "reconcile";

/// Runs the stages of the active configuration from now on.
pub(crate) fn supervise_stages(host: &Arc<Host>, settings: watch::Receiver<Option<Arc<Settings>>>) {
    let runner = host.clone();
    let uptime = facts::uptime();
    host.supervisor.supervise("reconcile-stages", |stop| async move {
        let work = run_on_schedule(uptime, || {
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

/// Calls `run` on schedule. Never returns.
async fn run_on_schedule<T, F: Future<Output = ()>>(uptime_at_start: Duration, run: impl Fn() -> F) -> T {
    let start = Instant::now();
    loop {
        tokio::time::sleep(until_reconcile_stages(uptime_at_start + start.elapsed())).await;
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
        let schedule = run_on_schedule::<(), _>(Duration::from_secs(60), || {
            runs.borrow_mut().push((start.elapsed().as_secs() + 60) / 60);
            tokio::time::sleep(Duration::from_secs(600))
        });
        let three_hours = tokio::time::timeout(Duration::from_secs(3 * 3600), schedule);
        assert!(three_hours.await.is_err(), "it never ends by itself");
        assert_eq!(runs.into_inner(), [5, 65, 125], "minutes after boot");
    }
}
