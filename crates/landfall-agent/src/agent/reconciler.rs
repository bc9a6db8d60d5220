//! The agent's loop: a pass through the phases, then a wait for a reason to make another one.

use std::collections::BTreeSet;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use camino::Utf8PathBuf;
use landfall_core::config::{ImageRole, Settings};
use landfall_core::plan::{PlannedImage, plan_images};
use landfall_core::resolve::Resolver;
use landfall_core::status::{EventReason, Phase, ProgressEvent};
use landfall_host::notify::ServiceState;
use landfall_oci::client::MachineAccess;
use landfall_oci::copy::{BandwidthLimit, CopyOptions};
use landfall_registry::Registry;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::agent::Host;
use crate::agent::baseline::{compare_baseline, gather_baseline};
use crate::agent::clients::Clients;
use crate::agent::configuration::{Good, Origin, Reading};
use crate::agent::inputs::{load_last_good, write_last_good};
use crate::agent::ledger::LedgerFile;
use crate::agent::listeners::Server;
use crate::agent::mirror::MirrorService;
use crate::agent::phases::ImagesFailed;
use crate::agent::primary::PrimaryService;
use crate::agent::redirect::WebhookService;
use crate::agent::service_manager::tell;
use crate::agent::stages::supervise_stages;
use crate::cluster::Withdrawal;
use crate::options::{AgentOptions, AgentOutcome, Listeners, Role, Timing};

/// The agent's state between passes. One task owns it.
pub(crate) struct Reconciler {
    pub(super) host: Arc<Host>,
    pub(super) timing: Timing,
    machine: MachineAccess,
    pub(super) listeners: Listeners,
    pub(super) ledger: LedgerFile,
    pub(super) in_force: Option<Arc<InForce>>,
    pub(super) api: Option<Server>,
    pub(super) primary: Option<PrimaryService>,
    pub(super) registry: Option<Arc<Registry>>,
    /// When garbage was collected last, or the agent began.
    pub(super) collected: Instant,
    pub(super) webhook: Option<WebhookService>,
    pub(super) mirror: Option<MirrorService>,
    /// While redirection is off: the registration at the API server being taken back.
    pub(super) withdrawal: Option<Withdrawal>,
    /// Files of the user's in the place of ours that were told of.
    pub(super) kept_files: BTreeSet<Utf8PathBuf>,
    origin: Origin,
    pub(super) once: bool,
    pub(super) role: Role,
    /// What the files said when they were last looked at, in force or not.
    seen: Option<String>,
    first: Option<Reading>,
    stages: watch::Sender<Option<Arc<Settings>>>,
}

/// The configuration in force and what follows from it.
#[derive(Debug)]
pub(crate) struct InForce {
    pub(crate) settings: Arc<Settings>,
    pub(crate) planned: Vec<PlannedImage>,
    pub(crate) clients: Clients,
    /// Index into [`Settings::registries`] of the credentials for the primary registry.
    pub(crate) primary_registry: Option<usize>,
    /// For what crosses the network.
    pub(crate) downloads: CopyOptions,
    /// For what stays on this host or goes to the primary registry: the limit of bandwidth is one of downloads.
    pub(crate) local: CopyOptions,
}

impl InForce {
    fn new(settings: Arc<Settings>, timing: &Timing, machine: &MachineAccess) -> InForce {
        let resolver = Resolver::new(&settings);
        let planned = plan_images(&settings, &resolver);
        let primary_registry = (settings.primary.as_ref())
            .and_then(|primary| format!("{}/{}/image", primary.endpoint, primary.project).parse().ok())
            .and_then(|reference| resolver.registry_for(&reference, ImageRole::Application));
        let limit = settings.landfall.bandwidth_limit.and_then(NonZeroU64::new);
        let local = CopyOptions {
            retry: timing.retry,
            ..CopyOptions::new(settings.landfall.concurrency)
        };
        let downloads = CopyOptions {
            bandwidth: limit.map(|limit| Arc::new(BandwidthLimit::new(limit))),
            ..local.clone()
        };
        InForce {
            clients: Clients::new(settings.clone(), machine.clone()),
            planned,
            primary_registry,
            downloads,
            local,
            settings,
        }
    }
}

/// A pass that did not get through.
#[derive(Debug, Clone, PartialEq, Eq)]
struct PhaseFailure {
    phase: Phase,
    message: String,
}

/// An input file changed while a phase was at work: what it does may not be wanted any more.
#[derive(Debug, thiserror::Error)]
#[error("the input files changed")]
pub(super) struct FilesChanged;

/// Why a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wake {
    /// It is time to look again.
    Time,
    /// An input file is another than before.
    FilesChanged,
}

impl Reconciler {
    /// A reconciler that has done nothing yet.
    pub(crate) fn new(host: Arc<Host>, options: AgentOptions, first: Reading) -> anyhow::Result<Reconciler> {
        let ledger = LedgerFile::load(&host.state_dir)?;
        let (stages, _) = watch::channel(None);
        Ok(Reconciler {
            origin: Origin::of(&options),
            timing: options.timing,
            machine: options.machine,
            listeners: options.listeners,
            once: options.once,
            role: options.role,
            host,
            ledger,
            in_force: None,
            api: None,
            primary: None,
            registry: None,
            collected: Instant::now(),
            webhook: None,
            mirror: None,
            withdrawal: None,
            kept_files: BTreeSet::new(),
            seen: None,
            first: Some(first),
            stages,
        })
    }

    /// Makes passes until `once` ends it; otherwise until the future is dropped.
    pub(crate) async fn run(mut self) -> anyhow::Result<AgentOutcome> {
        if self.role == Role::Host {
            supervise_stages(&self.host, self.stages.subscribe());
        }
        // Phases from here on are shown; a look at what is in place already is not worth an event every few minutes.
        let mut show_from = Some(Phase::Validating);
        let mut failures = 0;
        loop {
            let failure = self.pass(show_from).await?;
            if self.once {
                return Ok(match &failure {
                    None => AgentOutcome::Running,
                    Some(PhaseFailure { phase, message }) => AgentOutcome::Failed {
                        phase: *phase,
                        message: message.clone(),
                    },
                });
            }
            failures = if failure.is_some() { failures + 1 } else { 0 };
            let wake = self.wait(next_pass_in(failures, &self.timing, self.interval())).await;
            show_from = match wake {
                Wake::FilesChanged if self.is_reconfigured().await => Some(Phase::Validating),
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
                // Listeners of an earlier run are bound by now; an agent with broken input is up as well, and says so.
                tell(ServiceState::Ready);
            }
            match result {
                Err(error) if error.is::<FilesChanged>() => {
                    // No failure of the phase: the wait that follows ends at once, and the next pass looks at the files.
                    let message = error.to_string();
                    return Ok(Some(PhaseFailure { phase, message }));
                }
                Ok(summary) if show => self.host.note(EventReason::PhaseFinished, phase.name(), summary).await,
                Ok(_) => {}
                Err(error) => {
                    let message = format!("{error:#}");
                    let (events, reason) = (&self.host.events, EventReason::PhaseFailed);
                    match error.is::<ImagesFailed>() {
                        true => events.record_summary(reason, phase.name(), message.clone()).await,
                        false => self.host.warn(reason, phase.name(), message.clone()).await,
                    }
                    self.host.status.degrade(phase, &message).await;
                    tell(ServiceState::Status(&format!("Degraded: {message}")));
                    return Ok(Some(PhaseFailure { phase, message }));
                }
            }
        }
        if self.role == Role::Host {
            self.collect_garbage().await;
            self.settle().await?;
        }
        if self.host.status.get().phase != Phase::Running {
            self.enter(Phase::Running).await;
        }
        Ok(None)
    }

    async fn enter(&self, phase: Phase) {
        tell(ServiceState::Status(phase.name()));
        // Whoever sees the phase in the status finds its event as well.
        self.host.note(EventReason::PhaseStarted, phase.name(), "").await;
        self.host.status.enter(phase).await;
        self.host.progress(ProgressEvent::Phase { phase });
    }

    /// Waits until it is time, or until a file's content changed.
    async fn wait(&self, limit: Duration) -> Wake {
        let end = Instant::now() + limit;
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(end) => return Wake::Time,
                () = tokio::time::sleep(self.timing.file_poll) => {}
            }
            if self.origin.fingerprint().await != self.seen {
                return Wake::FilesChanged;
            }
        }
    }

    /// Waits until a file's content changed; for ever where nobody would look at it again.
    pub(super) async fn files_changed(&self) -> FilesChanged {
        if self.once {
            return std::future::pending().await;
        }
        while self.wait(self.interval()).await == Wake::Time {}
        FilesChanged
    }

    fn interval(&self) -> Duration {
        let seconds = self
            .in_force
            .as_ref()
            .map(|force| force.settings.landfall.reconcile_interval_seconds);
        Duration::from_secs(seconds.unwrap_or(300).max(1))
    }

    /// Whether the changed files put another configuration in force, or left none.
    async fn is_reconfigured(&mut self) -> bool {
        let before = self.in_force.clone();
        let Ok(now) = self.take_configuration().await else {
            return true;
        };
        !before.is_some_and(|before| Arc::ptr_eq(&before, &now))
    }

    /// Looks at the files and decides which configuration is in force.
    ///
    /// # Errors
    ///
    /// When the files have errors and there is no last good configuration, or the state cannot be written.
    pub(super) async fn take_configuration(&mut self) -> anyhow::Result<Arc<InForce>> {
        let reading = match self.first.take() {
            Some(first) => first,
            None => {
                // Parsing is for changed files only.
                let unchanged = self.origin.fingerprint().await == self.seen;
                if let (Some(force), true) = (&self.in_force, unchanged) {
                    return Ok(force.clone());
                }
                self.origin.read().await
            }
        };
        self.seen.clone_from(&reading.fingerprint);
        match reading.result {
            Ok(good) => self.put_in_force(good, reading.fingerprint).await,
            Err(problem) => self.keep_last_good(problem).await,
        }
    }

    async fn put_in_force(&mut self, good: Good, fingerprint: Option<String>) -> anyhow::Result<Arc<InForce>> {
        let changed = self.ledger.get().configuration != fingerprint;
        if changed {
            let state_dir = self.host.state_dir.clone();
            let inputs = good.inputs;
            tokio::task::spawn_blocking(move || write_last_good(&state_dir, &inputs)).await??;
            self.ledger.update(|ledger| {
                ledger.generation += 1;
                ledger.configuration.clone_from(&fingerprint);
            })?;
            let message = format!("configuration {} is in force", self.ledger.get().generation);
            self.host
                .note(EventReason::ConfigurationChanged, "configuration", message)
                .await;
        }
        self.host.status.update(|status| status.configuration_error = None);
        self.force(good.settings, fingerprint)
    }

    async fn keep_last_good(&mut self, problem: String) -> anyhow::Result<Arc<InForce>> {
        self.host
            .status
            .update(|status| status.configuration_error = Some(problem.clone()));
        if self.in_force.is_none() {
            self.restore_last_good().await?;
        }
        let Some(force) = self.in_force.clone() else {
            anyhow::bail!(problem);
        };
        let message = format!("{problem}; the last good configuration stays in force");
        self.host
            .warn(EventReason::ConfigurationInvalid, "configuration", message)
            .await;
        Ok(force)
    }

    async fn restore_last_good(&mut self) -> anyhow::Result<()> {
        let state_dir = self.host.state_dir.clone();
        let kept = tokio::task::spawn_blocking(move || load_last_good(&state_dir)).await??;
        let Some(kept) = kept else { return Ok(()) };
        let reading = self.origin.check(kept);
        // What was good for an older version of the program may not be for this one: then there is none.
        if let Ok(good) = reading.result {
            self.force(good.settings, reading.fingerprint)?;
        }
        Ok(())
    }

    fn force(&mut self, settings: Arc<Settings>, fingerprint: Option<String>) -> anyhow::Result<Arc<InForce>> {
        let force = Arc::new(InForce::new(settings.clone(), &self.timing, &self.machine));
        let planned = &force.planned;
        self.host.status.update(|status| {
            status.configuration = fingerprint;
            let mut before = std::mem::take(&mut status.images);
            status.images = (planned.iter())
                .map(|image| {
                    let name = image.canonical.to_string();
                    let mut shown = before.remove(&name).unwrap_or_default();
                    shown.pull_reference = image.pull.first().map(|candidate| candidate.reference.to_string());
                    (name, shown)
                })
                .collect();
        });
        self.stages.send_replace(Some(settings));
        self.in_force = Some(force.clone());
        Ok(force)
    }

    /// Everything is in place: remembers what the host came up with, and says whether it has to be repaved or rebooted.
    async fn settle(&mut self) -> anyhow::Result<()> {
        let force = self
            .in_force
            .clone()
            .context("a pass that got through has a configuration")?;
        let host = self.host.clone();
        let now = tokio::task::spawn_blocking(move || gather_baseline(&force.settings, &host.root)).await?;
        let before = self.ledger.get().baseline.clone().unwrap_or_else(|| now.clone());
        let (baseline, conditions) = compare_baseline(&before, &now);
        self.ledger.update(|ledger| ledger.baseline = Some(baseline))?;
        let shown = self.host.status.get().host;
        if let Some(why) = conditions
            .repave_required
            .as_ref()
            .filter(|_| shown.repave_required.is_none())
        {
            self.host.warn(EventReason::RepaveRequired, "host", why.clone()).await;
        }
        if let Some(why) = conditions
            .reboot_required
            .as_ref()
            .filter(|_| shown.reboot_required.is_none())
        {
            self.host.warn(EventReason::RebootRequired, "host", why.clone()).await;
        }
        if shown != conditions {
            self.host.status.update(|status| status.host = conditions);
        }
        Ok(())
    }
}

/// When the next pass is due: after the reconcile interval, or sooner after failures, with a delay that doubles.
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
