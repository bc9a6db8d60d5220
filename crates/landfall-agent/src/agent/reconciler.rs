//! The agent's loop: a pass through the phases, then a wait for a reason to make another one.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use landfall_core::reference::ImageReference;
use landfall_core::status::{EventReason, Phase, ProgressEvent};
use landfall_core::wording::counted;
use landfall_host::notify::ServiceState;

use crate::agent::active_config::ActiveConfig;
use crate::agent::baseline::record_baseline;
use crate::agent::config_loader::{ConfigLoader, FilesChanged, Wake};
use crate::agent::config_source::Reading;
use crate::agent::host::Host;
use crate::agent::image_phases::{ImagesFailed, apply_phase};
use crate::agent::ledger::LedgerFile;
use crate::agent::service_manager::notify_service_manager;
use crate::agent::services::{PrimaryState, Services, Survey, survey_images};
use crate::agent::stages::supervise_stages;
use crate::failure::error_line;
use crate::options::{AgentOptions, AgentOutcome, Role, Timing};

/// The agent's state between passes. One task owns it.
pub(crate) struct Reconciler {
    host: Arc<Host>,
    timing: Timing,
    role: Role,
    once: bool,
    config: ConfigLoader,
    ledger: LedgerFile,
    services: Services,
}

/// A pass that ended at a phase.
#[derive(Debug, Clone, PartialEq, Eq)]
struct PhaseFailure {
    phase: Phase,
    message: String,
}

impl Reconciler {
    /// Returns a reconciler that has done nothing yet.
    ///
    /// # Errors
    ///
    /// If the ledger cannot be read.
    pub(crate) fn new(host: Arc<Host>, options: AgentOptions, first: Reading) -> anyhow::Result<Reconciler> {
        Ok(Reconciler {
            timing: options.timing,
            role: options.role,
            once: options.once,
            config: ConfigLoader::new(&options, first),
            ledger: LedgerFile::load(&host.state_dir)?,
            services: Services::new(options.listeners, options.once),
            host,
        })
    }

    /// Makes one pass if the agent runs once, otherwise passes until the future is dropped.
    pub(crate) async fn run(mut self) -> anyhow::Result<AgentOutcome> {
        if self.role == Role::Host {
            supervise_stages(&self.host, self.config.subscribe());
        }
        // Phases from here on are shown. A pass that finds everything in place is not worth an event every few minutes.
        let mut show_from = Some(Phase::Validating);
        let mut failures = 0;
        loop {
            let failure = self.pass(show_from).await?;
            if self.once {
                return Ok(match failure {
                    None => AgentOutcome::Running,
                    Some(PhaseFailure { phase, message }) => AgentOutcome::Failed { phase, message },
                });
            }
            failures = if failure.is_some() { failures + 1 } else { 0 };
            let limit = next_pass_in(failures, &self.timing, self.config.interval());
            let wake = self.config.wait(limit).await;
            show_from = match wake {
                Wake::FilesChanged if self.config.reload(&self.host, &mut self.ledger).await => Some(Phase::Validating),
                Wake::FilesChanged | Wake::Time => failure.map(|failure| failure.phase),
            };
        }
    }

    /// Goes through the phases in order, up to the first that fails.
    async fn pass(&mut self, show_from: Option<Phase>) -> anyhow::Result<Option<PhaseFailure>> {
        for &phase in self.role.phases() {
            let show = show_from.is_some_and(|from| phase >= from);
            if show {
                self.enter(phase).await;
            }
            let result = self.run_phase(phase).await;
            if phase == Phase::Validating {
                // Listeners of an earlier run are bound by now. An agent with broken input is up as well, and reports
                // it.
                notify_service_manager(ServiceState::Ready);
            }
            match result {
                Ok(summary) if show => self.host.note(EventReason::PhaseFinished, phase.name(), summary).await,
                Ok(_) => {}
                Err(error) => return Ok(Some(self.report_failure(phase, &error).await)),
            }
        }
        if self.role == Role::Host {
            self.services.primary.collect_garbage(&self.host).await;
            let settings = self.active()?.settings.clone();
            record_baseline(&self.host, settings, &mut self.ledger).await?;
        }
        if self.host.status.get().phase != Phase::Running {
            self.enter(Phase::Running).await;
        }
        Ok(None)
    }

    async fn enter(&self, phase: Phase) {
        notify_service_manager(ServiceState::Status(phase.name()));
        // The event comes first: a reader that sees the phase in the status finds its event as well.
        self.host.note(EventReason::PhaseStarted, phase.name(), "").await;
        self.host.status.enter(phase).await;
        self.host.progress(ProgressEvent::Phase { phase });
    }

    async fn report_failure(&self, phase: Phase, error: &anyhow::Error) -> PhaseFailure {
        let message = error_line(error);
        if error.is::<FilesChanged>() {
            // The phase did not fail: the wait that follows ends at once, and the next pass reads the files.
            return PhaseFailure { phase, message };
        }
        let (events, reason) = (&self.host.events, EventReason::PhaseFailed);
        match error.is::<ImagesFailed>() {
            true => events.record_summary(reason, phase.name(), message.clone()).await,
            false => self.host.warn(reason, phase.name(), message.clone()).await,
        }
        self.host.status.degrade(phase, &message).await;
        notify_service_manager(ServiceState::Status(&format!("Degraded: {message}")));
        PhaseFailure { phase, message }
    }

    /// Runs one phase and returns a sentence for its event.
    ///
    /// # Errors
    ///
    /// If the phase could not be completed. The error says what failed, where, and what to repair.
    async fn run_phase(&mut self, phase: Phase) -> anyhow::Result<String> {
        match phase {
            Phase::Validating => self.validate().await,
            Phase::ProviderImage | Phase::CoreImages | Phase::Images => self.apply(phase).await,
            Phase::PrimaryRegistry => match self.role {
                Role::Host => self.fill_primary().await,
                Role::Webhook => self.survey_primary().await,
            },
            Phase::Redirect => {
                let (active, held) = (self.active()?, self.held_images());
                self.services.redirect(&self.host, &active, self.role, held).await
            }
            Phase::Running | Phase::Degraded => Ok(String::new()),
        }
    }

    async fn validate(&mut self) -> anyhow::Result<String> {
        let active = self.config.load(&self.host, &mut self.ledger).await?;
        self.services.status_api.ensure(&self.host, &active.settings).await?;
        // A host that was up before serves at once what it served then.
        if self.ledger.get().baseline.is_some() {
            let held = self.held_images();
            self.services.resume(&self.host, &active, held).await;
        }
        Ok(counted(active.planned.len(), "image"))
    }

    /// Brings up the primary registry and pushes the images that it lacks.
    async fn fill_primary(&mut self) -> anyhow::Result<String> {
        let active = self.active()?;
        match self.services.primary.ensure(&self.host, &active).await? {
            PrimaryState::NotConfigured => Ok("no primary registry is configured".to_owned()),
            PrimaryState::Ready => {
                let primary = &self.services.primary;
                primary
                    .forget_lost_images(&self.host, &active, &mut self.ledger)
                    .await?;
                self.apply(Phase::PrimaryRegistry).await
            }
        }
    }

    /// Asks the primary registry which images it holds, for the webhook.
    async fn survey_primary(&mut self) -> anyhow::Result<String> {
        let active = self.active()?;
        match survey_images(&active, &mut self.ledger).await? {
            Survey::Skipped(summary) => Ok(summary),
            Survey::Done(summary) => {
                let held = self.held_images();
                self.services
                    .refresh_webhook(&self.host, &active.settings, held)
                    .await?;
                Ok(summary)
            }
        }
    }

    async fn apply(&mut self, phase: Phase) -> anyhow::Result<String> {
        let active = self.active()?;
        let changed = self.config.files_changed();
        apply_phase(&self.host, &active, &mut self.ledger, phase, changed).await
    }

    fn active(&self) -> anyhow::Result<Arc<ActiveConfig>> {
        let active = self.config.active().context("no configuration is active")?;
        Ok(active.clone())
    }

    /// Returns the images that the primary registry is known to hold.
    fn held_images(&self) -> HashSet<ImageReference> {
        self.ledger.get().primary.keys().cloned().collect()
    }
}

/// Returns the wait until the next pass: the reconcile interval, or less after failures, with a delay that doubles.
fn next_pass_in(failures: u32, timing: &Timing, interval: Duration) -> Duration {
    match failures {
        0 => interval,
        n => timing.degraded_retry.saturating_mul(1 << (n - 1).min(16)).min(interval),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_passes_are_repeated_ever_later_up_to_the_interval() {
        let timing = Timing {
            degraded_retry: Duration::from_secs(10),
            ..Timing::default()
        };
        let seconds: Vec<_> = (0..7)
            .chain([1_000])
            .map(|n| next_pass_in(n, &timing, Duration::from_secs(300)).as_secs())
            .collect();
        assert_eq!(seconds, [300, 10, 20, 40, 80, 160, 300, 300]);
    }
}
