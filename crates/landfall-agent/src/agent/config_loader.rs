//! Decides which configuration is active: the one in the files if it has no errors, otherwise the last good one.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use landfall_core::settings::Settings;
use landfall_core::status::EventReason;
use landfall_net::state_file::StateFile;
use landfall_oci::client::AmbientAccess;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::agent::active_config::ActiveConfig;
use crate::agent::bundles::OfferedBundles;
use crate::agent::config_source::{ConfigSource, Reading, ValidConfig};
use crate::agent::host::Host;
use crate::agent::inputs::{ConfigTexts, load_last_good, write_last_good};
use crate::agent::ledger::LedgerFile;
use crate::options::{AgentOptions, Timing};

/// An input file changed during a phase, whose work may be obsolete now.
#[derive(Debug, thiserror::Error)]
#[error("the input files changed")]
pub(crate) struct FilesChanged;

/// The reason why a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wake {
    /// The time limit has passed, or a pass is asked for.
    Time,
    FilesChanged,
}

/// Loads the configuration and keeps the active one.
#[derive(Debug)]
pub(crate) struct ConfigLoader {
    source: ConfigSource,
    timing: Timing,
    ambient: AmbientAccess,
    once: bool,
    reload: Arc<Notify>,
    /// Inputs that could not be kept as the last good ones yet.
    unkept: Option<ConfigTexts>,
    /// The fingerprint of the files when the agent last read them, whether that configuration is active or not.
    seen: Option<String>,
    /// The first reading of the run, until it is used.
    first: Option<Reading>,
    active: Option<Arc<ActiveConfig>>,
    /// The settings for the task that runs the stages.
    stages: watch::Sender<Option<Arc<Settings>>>,
}

impl ConfigLoader {
    pub(crate) fn new(options: &AgentOptions, first: Reading) -> ConfigLoader {
        let (stages, _) = watch::channel(None);
        ConfigLoader {
            source: ConfigSource::new(options),
            timing: options.timing,
            ambient: options.ambient.clone(),
            once: options.once,
            reload: options.reload.clone(),
            unkept: None,
            seen: None,
            first: Some(first),
            active: None,
            stages,
        }
    }

    pub(crate) fn active(&self) -> Option<&Arc<ActiveConfig>> {
        self.active.as_ref()
    }

    /// Returns a receiver of the settings of each configuration that becomes active.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Option<Arc<Settings>>> {
        self.stages.subscribe()
    }

    /// Waits until `limit` has passed, the content of a file changed, or a pass is asked for: by the operator, or by the
    /// embedded registry that lost images.
    pub(crate) async fn wait(&self, limit: Duration) -> Wake {
        let end = Instant::now() + limit;
        loop {
            let is_time = tokio::select! {
                () = tokio::time::sleep_until(end) => true,
                () = self.reload.notified() => true,
                () = tokio::time::sleep(self.timing.file_poll) => false,
            };
            if self.source.fingerprint().await != self.seen {
                return Wake::FilesChanged;
            }
            if is_time {
                return Wake::Time;
            }
        }
    }

    /// Waits until the content of a file changed. A wish for a pass stays for the end of this one. Never returns if the
    /// agent runs once: it does not read the files again.
    pub(crate) async fn files_changed(&self) -> FilesChanged {
        if self.once {
            return std::future::pending().await;
        }
        loop {
            tokio::time::sleep(self.timing.file_poll).await;
            if self.source.fingerprint().await != self.seen {
                return FilesChanged;
            }
        }
    }

    /// Returns the time between two passes that succeed.
    pub(crate) fn interval(&self) -> Duration {
        let seconds = self
            .active
            .as_ref()
            .map(|active| active.settings.landfall.reconcile_interval_seconds);
        Duration::from_secs(seconds.unwrap_or(300).max(1))
    }

    /// Plans the images anew, if other bundles are here than before.
    pub(crate) fn offer(&mut self, host: &Host, bundles: &Arc<OfferedBundles>) {
        let Some(active) = self.active.as_ref().filter(|active| active.bundles != *bundles) else {
            return;
        };
        let active = Arc::new(active.with_bundles(bundles.clone()));
        host.status.update(|status| {
            for image in &active.planned {
                if let Some(shown) = status.images.get_mut(&image.canonical.to_string()) {
                    shown.pull_reference = image.pull.first().map(|candidate| candidate.reference.to_string());
                }
            }
        });
        self.active = Some(active);
    }

    /// Loads the changed files. Returns true if another configuration is active now, or none.
    pub(crate) async fn reload(&mut self, host: &Host, ledger: &mut LedgerFile) -> bool {
        let before = self.active.clone();
        let Ok(now) = self.load(host, ledger).await else {
            return true;
        };
        !before.is_some_and(|before| Arc::ptr_eq(&before, &now))
    }

    /// Reads the files and decides which configuration is active.
    ///
    /// # Errors
    ///
    /// If the files have errors and there is no last good configuration.
    pub(crate) async fn load(&mut self, host: &Host, ledger: &mut LedgerFile) -> anyhow::Result<Arc<ActiveConfig>> {
        let began = Timestamp::now();
        let loaded = self.decide(host, ledger).await;
        let generation = loaded.is_ok().then(|| ledger.get().generation);
        host.status.update(|status| {
            status.generation = generation;
            status.configuration_read = Some(began);
        });
        loaded
    }

    async fn decide(&mut self, host: &Host, ledger: &mut LedgerFile) -> anyhow::Result<Arc<ActiveConfig>> {
        if let Some(inputs) = self.unkept.take() {
            self.keep(host, inputs).await;
        }
        let reading = match self.first.take() {
            Some(first) => first,
            None => {
                // The agent parses only files that changed.
                let unchanged = self.source.fingerprint().await == self.seen;
                if let (Some(active), true) = (&self.active, unchanged) {
                    return Ok(active.clone());
                }
                self.source.read().await
            }
        };
        self.seen.clone_from(&reading.fingerprint);
        match reading.result {
            Ok(valid) => self.use_valid(host, ledger, valid, reading.fingerprint).await,
            Err(problem) => self.keep_last_good(host, problem).await,
        }
    }

    async fn use_valid(
        &mut self,
        host: &Host,
        ledger: &mut LedgerFile,
        valid: ValidConfig,
        fingerprint: Option<String>,
    ) -> anyhow::Result<Arc<ActiveConfig>> {
        let changed = ledger.get().configuration != fingerprint;
        if changed {
            self.keep(host, valid.inputs).await;
            ledger.update(|ledger| {
                ledger.generation += 1;
                ledger.configuration.clone_from(&fingerprint);
            })?;
            let message = format!("configuration {} is active", ledger.get().generation);
            host.note(EventReason::ConfigurationChanged, "configuration", message)
                .await;
        }
        host.status.update(|status| status.configuration_error = None);
        Ok(self.activate(host, valid.settings, fingerprint))
    }

    /// Keeps the inputs as the last good ones. On a disk that cannot be written, they are in use all the same, and a later
    /// pass keeps them.
    async fn keep(&mut self, host: &Host, inputs: ConfigTexts) {
        let (state_dir, texts) = (host.state_dir.clone(), inputs.clone());
        let written = tokio::task::spawn_blocking(move || write_last_good(&state_dir, &texts)).await;
        let written = written.map_err(anyhow::Error::from).flatten();
        self.unkept = written.is_err().then_some(inputs);
        host.health.note("the last good configuration", written);
    }

    async fn keep_last_good(&mut self, host: &Host, problem: String) -> anyhow::Result<Arc<ActiveConfig>> {
        host.status
            .update(|status| status.configuration_error = Some(problem.clone()));
        if self.active.is_none() {
            self.restore_last_good(host).await;
        }
        let Some(active) = self.active.clone() else {
            anyhow::bail!(problem);
        };
        let message = format!("{problem}; the last good configuration stays active");
        host.warn(EventReason::ConfigurationInvalid, "configuration", message)
            .await;
        Ok(active)
    }

    async fn restore_last_good(&mut self, host: &Host) {
        let state_dir = host.state_dir.clone();
        let kept = match tokio::task::spawn_blocking(move || load_last_good(&state_dir)).await {
            Ok(StateFile::Loaded(kept)) => kept,
            Ok(StateFile::SetAside(aside)) => return host.report_aside([&aside]).await,
            Ok(StateFile::Missing) | Err(_) => return,
        };
        let reading = self.source.check(kept);
        // An older version of the program may have accepted a configuration that this one rejects: then there is none.
        if let Ok(valid) = reading.result {
            self.activate(host, valid.settings, reading.fingerprint);
        }
    }

    fn activate(&mut self, host: &Host, settings: Arc<Settings>, fingerprint: Option<String>) -> Arc<ActiveConfig> {
        let active = Arc::new(ActiveConfig::new(settings.clone(), &self.timing, &self.ambient));
        let planned = &active.planned;
        host.status.update(|status| {
            status.configuration = fingerprint;
            let mut before = std::mem::take(&mut status.images);
            status.images = planned
                .iter()
                .map(|image| {
                    let name = image.canonical.to_string();
                    let mut shown = before.remove(&name).unwrap_or_default();
                    shown.pull_reference = image.pull.first().map(|candidate| candidate.reference.to_string());
                    (name, shown)
                })
                .collect();
        });
        self.stages.send_replace(Some(settings));
        self.active = Some(active.clone());
        active
    }
}
