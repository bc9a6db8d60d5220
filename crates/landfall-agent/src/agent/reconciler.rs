//! The agent's loop: a pass through the phases, then a wait for a reason to make another one.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use landfall_core::plan::phases::{PassFacts, blocked_by};
use landfall_core::reference::ImageReference;
use landfall_core::schedule::{PassResult, PassTiming, count_failed_passes, next_pass_in, shortest_wait};
use landfall_core::settings::ImageRole;
use landfall_core::status::{EventReason, FailedPhase, Phase, ProgressEvent};
use landfall_core::wording::counted;
use landfall_host::notify::ServiceState;
use landfall_net::random::random_fraction;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::agent::active_config::ActiveConfig;
use crate::agent::apply::Causes;
use crate::agent::baseline::record_baseline;
use crate::agent::bundles::{Bundles, watch_bundles};
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
    bundles: Bundles,
    /// Changes of the bundles since the last look.
    bundle_changes: watch::Receiver<u64>,
    /// The causes of this pass.
    causes: Causes,
    /// The causes of failures that are events already.
    reported: HashMap<Phase, Vec<String>>,
    /// The reason why the state cannot be written, if it is an event already.
    unwritable: Option<String>,
}

/// The result of a pass through the phases.
#[derive(Debug, Default)]
struct PassEnd {
    /// The phases that failed, in order.
    failures: Vec<FailedPhase>,
    /// The phases that failed, or waited for one that did.
    unfinished: HashSet<Phase>,
    /// True if a file changed and the pass ended early: the next one begins at once, with the new files.
    is_interrupted: bool,
    /// The times until which the failed phases wait for registries; `None` for a failure of another kind.
    waits: Vec<Option<Instant>>,
}

/// The phases of a pass that are events. A pass that finds everything in place is not worth an event every few minutes.
#[derive(Debug)]
enum Shown {
    All,
    /// Phases that are tried again. Their end is an event, if they succeed.
    Retried(HashSet<Phase>),
}

impl Reconciler {
    /// Returns a reconciler that has done nothing yet.
    pub(crate) async fn new(host: Arc<Host>, options: AgentOptions, first: Reading) -> Reconciler {
        let (ledger, aside) = LedgerFile::load(&host.state_dir, host.health.clone());
        host.report_aside(&aside).await;
        Reconciler {
            timing: options.timing,
            role: options.role,
            once: options.once,
            config: ConfigLoader::new(&options, first),
            ledger,
            services: Services::new(options.listeners, options.once, options.role),
            bundles: Bundles::new(&host),
            bundle_changes: host.bundle_changes.subscribe(),
            causes: Causes::default(),
            reported: HashMap::new(),
            unwritable: None,
            host,
        }
    }

    /// Makes one pass if the agent runs once, otherwise passes until the future is dropped.
    pub(crate) async fn run(mut self) -> anyhow::Result<AgentOutcome> {
        if self.role == Role::Host {
            supervise_stages(&self.host, self.config.subscribe());
            if !self.once {
                watch_bundles(&self.host, self.config.subscribe(), self.timing.file_poll);
            }
        }
        let mut shown = Shown::All;
        let mut failed_passes = 0;
        loop {
            let begins_in_wait = self.config.active().is_some_and(|active| active.clients.any_waits());
            let end = self.pass(&shown).await?;
            self.report_unwritable().await;
            if self.once {
                return Ok(match end.failures.is_empty() {
                    true => AgentOutcome::Running,
                    false => AgentOutcome::Failed { failures: end.failures },
                });
            }
            let limit = match end.is_interrupted {
                true => Duration::ZERO,
                false => {
                    let wait = shortest_wait(end.waits.iter().copied());
                    let pass = PassResult {
                        has_failures: !end.failures.is_empty(),
                        waits_for_registry: wait.is_some(),
                        began_in_wait: begins_in_wait,
                    };
                    failed_passes = count_failed_passes(failed_passes, pass);
                    let wait = wait.map(|until| until.saturating_duration_since(Instant::now()));
                    let timing = PassTiming {
                        first_retry: self.timing.degraded_retry,
                        interval: self.config.interval(),
                    };
                    next_pass_in(failed_passes, wait, timing, random_fraction())
                }
            };
            let wake = self.config.wait(limit).await;
            shown = match wake {
                Wake::FilesChanged if self.config.reload(&self.host, &mut self.ledger).await => Shown::All,
                Wake::FilesChanged | Wake::Time => Shown::Retried(end.unfinished),
            };
        }
    }

    /// Goes through the phases in order. A phase that fails stops only those that need it.
    async fn pass(&mut self, shown: &Shown) -> anyhow::Result<PassEnd> {
        let mut end = PassEnd::default();
        let mut failed = Vec::new();
        self.causes = Causes::default();
        for &phase in self.role.phases() {
            let facts = PassFacts {
                is_configured: self.config.active().is_some(),
                failed: &failed,
            };
            if end.is_interrupted || blocked_by(phase, facts).is_some() {
                end.unfinished.insert(phase);
                continue;
            }
            if matches!(shown, Shown::All) {
                self.enter(phase).await;
            }
            let result = self.run_phase(phase).await;
            if phase == Phase::Validating {
                // Listeners of an earlier run are bound by now. An agent with broken input is up as well, and reports
                // it.
                notify_service_manager(ServiceState::Ready);
            }
            match result {
                Ok(summary) => {
                    self.reported.remove(&phase);
                    if shown.is_event(phase) {
                        self.host.note(EventReason::PhaseFinished, phase.name(), summary).await;
                    }
                }
                Err(error) => {
                    end.unfinished.insert(phase);
                    if error.is::<FilesChanged>() {
                        // The phase did not fail: the next pass begins at once, and reads the files.
                        end.is_interrupted = true;
                        continue;
                    }
                    failed.push(phase);
                    let images = error.downcast_ref::<ImagesFailed>();
                    end.waits.push(images.and_then(|images| images.waits_until));
                    // A registry that refuses every image is one failure.
                    if !images.is_some_and(|images| images.is_consequence) || end.failures.is_empty() {
                        let failure = self.report_failure(phase, &error).await;
                        end.failures.push(failure);
                    }
                }
            }
        }
        self.finish(&end).await?;
        // Nothing that the host needs waits for the rest of a bundle.
        if self.role == Role::Host && !end.is_interrupted {
            end.is_interrupted = self.adopt_bundles().await?;
        }
        Ok(end)
    }

    /// Copies the rest of the bundles into the content store. Returns true if the next pass is to begin at once, because
    /// a file changed or a pass was asked for meanwhile.
    async fn adopt_bundles(&mut self) -> anyhow::Result<bool> {
        let Some(active) = self.config.active().cloned() else {
            return Ok(false);
        };
        let changed = self.config.files_changed();
        tokio::select! {
            adopted = self.bundles.adopt(&self.host, &active, &mut self.ledger) => adopted?,
            _changed = changed => return Ok(true),
            // E.g. a stick came or went. What has arrived is kept, and the next pass goes on with the rest.
            () = self.host.wake.notified() => return Ok(true),
        }
        drop(active);
        self.config.offer(&self.host, self.bundles.offered());
        self.bundles.release_sticks().await;
        Ok(false)
    }

    /// Does the work at the end of a pass, and shows its result.
    async fn finish(&mut self, end: &PassEnd) -> anyhow::Result<()> {
        if let (Role::Host, Some(active)) = (self.role, self.config.active().cloned()) {
            // While images are missing, the blobs of those that are half here are no garbage. A full disk cannot wait.
            if end.unfinished.is_empty() || self.host.store.check_space(0).is_err() {
                self.services.primary.collect_garbage(&self.host).await;
            }
            // From now on a restart serves at once what is served now.
            if !end.unfinished.contains(&Phase::Redirect) {
                record_baseline(&self.host, active.settings.clone(), &mut self.ledger).await?;
            }
        }
        if !end.failures.is_empty() {
            self.host.status.degrade(end.failures.clone()).await;
            let message = &end.failures[0].message;
            notify_service_manager(ServiceState::Status(&format!("Degraded: {message}")));
        } else if !end.is_interrupted && self.host.status.get().phase != Phase::Running {
            self.enter(Phase::Running).await;
        }
        Ok(())
    }

    async fn enter(&self, phase: Phase) {
        notify_service_manager(ServiceState::Status(phase.name()));
        // The event comes first: a reader that sees the phase in the status finds its event as well.
        self.host.note(EventReason::PhaseStarted, phase.name(), "").await;
        self.host.status.enter(phase).await;
        self.host.progress(ProgressEvent::Phase { phase });
    }

    /// Records a failure, as an event unless it is the same as in the last pass.
    async fn report_failure(&mut self, phase: Phase, error: &anyhow::Error) -> FailedPhase {
        let message = error_line(error);
        let images = error.downcast_ref::<ImagesFailed>();
        let causes = images.map_or_else(|| vec![message.clone()], |images| images.causes.clone());
        if self.reported.get(&phase) != Some(&causes) {
            let (events, reason) = (&self.host.events, EventReason::PhaseFailed);
            match images.is_some() {
                true => events.record_summary(reason, phase.name(), message.clone()).await,
                false => self.host.warn(reason, phase.name(), message.clone()).await,
            }
            self.reported.insert(phase, causes);
        }
        let failure = FailedPhase { phase, message };
        self.host.status.add_failure(failure.clone());
        failure
    }

    /// Records an event when the state can no longer be written, and when it can be written again.
    async fn report_unwritable(&mut self) {
        if self.host.health.problem().is_some() {
            self.host.events.flush().await;
            self.host.status.flush().await;
        }
        if let Err(error) = self.ledger.update(|_| {}) {
            tracing::error!(error = error_line(&error), "cannot write the ledger");
        }
        let problem = self.host.health.problem();
        let reason = EventReason::StateUnwritable;
        match (&self.unwritable, &problem) {
            (None, Some(problem)) => self.host.warn(reason, "state", problem.clone()).await,
            (Some(_), None) => self.host.note(reason, "state", "the state is written again").await,
            (Some(_), Some(_)) | (None, None) => {}
        }
        if self.unwritable != problem {
            self.host.status.flush().await;
        }
        self.unwritable = problem;
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
                let active = self.active()?;
                let held = self.held_images();
                let preloaded = self.preloaded_images(&active);
                self.services.redirect(&self.host, &active, held, preloaded).await
            }
            Phase::Running | Phase::Degraded => Ok(String::new()),
        }
    }

    async fn validate(&mut self) -> anyhow::Result<String> {
        let active = self.config.load(&self.host, &mut self.ledger).await?;
        if self.role == Role::Host {
            self.bundle_changes.mark_unchanged();
            let bundles = self.bundles.look(&self.host, &active, &mut self.ledger).await?;
            self.config.offer(&self.host, &bundles);
        }
        let active = self.active()?;
        // A host that was up before serves at once what it served then, and any host what its bundles have: pods do not
        // wait until they are copied.
        let has_bundles = !active.bundles.is_empty() || self.bundles.has_unread();
        if self.ledger.get().baseline.is_some() || has_bundles {
            let known = self.known_images();
            self.services.resume(&self.host, &active, known).await;
        }
        self.serve_bundles(&active).await;
        let api = &mut self.services.status_api;
        api.ensure(&self.host, &active.settings, self.role).await?;
        if self.role == Role::Host && lacks_images(&self.host, &active) {
            self.read_foreign_bundles(&active).await?;
        }
        Ok(counted(active.planned.len(), "image"))
    }

    /// Reads files of other formats before the phases that may find their images there. Otherwise that is done after
    /// all phases.
    async fn read_foreign_bundles(&mut self, active: &ActiveConfig) -> anyhow::Result<()> {
        let changed = self.config.files_changed();
        let offered = tokio::select! {
            offered = self.bundles.read_foreign(&self.host, active, &mut self.ledger) => offered?,
            changed = changed => return Err(changed.into()),
        };
        self.config.offer(&self.host, &offered);
        Ok(())
    }

    async fn serve_bundles(&mut self, active: &ActiveConfig) {
        let registry = self.services.primary.embedded_registry();
        self.bundles.serve(&self.host, registry.as_ref(), active).await;
    }

    /// Brings up the primary registry and pushes the images that it lacks.
    async fn fill_primary(&mut self) -> anyhow::Result<String> {
        let active = self.active()?;
        match self.services.primary.ensure(&self.host, &active).await? {
            PrimaryState::NotConfigured => Ok("no primary registry is configured".to_owned()),
            PrimaryState::Ready => {
                self.serve_bundles(&active).await;
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
        let mut bundles = self.bundle_changes.clone();
        // A bundle with the images is worth more than the wait for a registry that does not answer.
        let changed = async {
            tokio::select! {
                changed = self.config.files_changed() => changed,
                Ok(()) = bundles.changed() => FilesChanged,
            }
        };
        apply_phase(&self.host, &active, &mut self.ledger, phase, &self.causes, changed).await
    }

    /// Returns the names of the images that the container runtime has before a pod asks for them.
    fn preloaded_images(&self, active: &ActiveConfig) -> Vec<String> {
        let core = self.ledger.get().core_images.iter().flat_map(|core| core.names.clone());
        let planned = active.planned.iter();
        let infrastructure = planned.filter(|image| image.role == ImageRole::Infrastructure);
        core.chain(infrastructure.map(|image| image.canonical.runtime_name()))
            .collect()
    }

    fn active(&self) -> anyhow::Result<Arc<ActiveConfig>> {
        let active = self.config.active().context("no configuration is active")?;
        Ok(active.clone())
    }

    /// Returns the images that the primary registry is known to hold.
    fn known_images(&self) -> HashSet<ImageReference> {
        self.ledger.get().primary.keys().cloned().collect()
    }

    /// Returns the images that pods can pull from the primary registry.
    fn held_images(&self) -> HashSet<ImageReference> {
        match self.config.active() {
            Some(active) => self.services.held(active, self.known_images()),
            None => HashSet::new(),
        }
    }
}

/// Returns true if an image of the profiles is not in the content store.
fn lacks_images(host: &Host, active: &ActiveConfig) -> bool {
    let mut planned = active.planned.iter();
    planned.any(|image| host.store.image(&image.canonical).is_none())
}

impl Shown {
    /// Returns true if the end of a phase is an event.
    fn is_event(&self, phase: Phase) -> bool {
        match self {
            Shown::All => true,
            Shown::Retried(phases) => phases.contains(&phase),
        }
    }
}
