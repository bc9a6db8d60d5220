//! Runs the `reconcile` stages when they are due. A task of its own: a download of hours must not delay them.

use std::sync::Arc;
use std::time::Duration;

use landfall_core::config::{Settings, Stage};
use landfall_core::status::EventReason;
use landfall_host::facts::gather_facts;
use landfall_host::stages::{StageOptions, run_stage};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::agent::Host;
use crate::agent::failure::chain;
use crate::agent::schedule::until_reconcile_stages;

/// The stages that run again and again, in order.
const STAGES: [&str; 3] = ["reconcile.before", "reconcile", "reconcile.after"];

/// Runs the stages of the configuration in force, from now on.
pub(crate) fn supervise_stages(host: &Arc<Host>, settings: watch::Receiver<Option<Arc<Settings>>>) {
    let runner = host.clone();
    let uptime = gather_facts(&host.root).uptime;
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

/// Calls `run` whenever the schedule says so, for ever.
async fn run_on_schedule<T, F: Future<Output = ()>>(uptime_at_start: Duration, run: impl Fn() -> F) -> T {
    let start = Instant::now();
    loop {
        tokio::time::sleep(until_reconcile_stages(uptime_at_start + start.elapsed())).await;
        run().await;
    }
}

async fn run_reconcile_stages(host: &Host, settings: &Settings) {
    for stage in STAGES {
        if let Some(steps) = settings.stages.get(stage).filter(|steps| !steps.is_empty()) {
            run_one(host, stage, steps).await;
        }
    }
}

async fn run_one(host: &Host, stage: &str, steps: &[Stage]) {
    let report = run_stage(steps, &host.root, &StageOptions::default()).await;
    for step in report.failed_steps() {
        let place = format!("{}:{}:{}", step.location.file, step.location.line, step.location.column);
        // A step goes on after a failure, so that there may be several.
        for failure in step.failures() {
            let message = format!("step `{}` at {place}: {}", step.name, chain(failure));
            host.warn(EventReason::StageFailed, stage, message).await;
        }
    }
    let failed = report.failed_steps().count();
    let message = match failed {
        0 => format!("{} steps", report.steps.len()),
        failed => format!("{failed} of {} steps failed", report.steps.len()),
    };
    host.note(EventReason::StageFinished, stage, message).await;
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
