//! The state and services that everything in one run shares.

use std::sync::Arc;

use anyhow::Context as _;
use camino::Utf8PathBuf;
use landfall_core::status::{EventKind, EventReason, HostKeyStatus, ProgressEvent, ProgressSink};
use landfall_host::root::HostRoot;
use landfall_net::state_file::SetAside;
use landfall_oci::client::UploadJournal;
use landfall_oci::content::places::Places;
use landfall_oci::store::ContentStore;
use landfall_registry::directories::RegistryDirs;
use tokio::sync::{Notify, watch};

use crate::agent::bundles::Asked;
use crate::events::EventLog;
use crate::failure::{error_line, explain_unusable_state_dir};
use crate::host_key::HostKey;
use crate::metrics::Metrics;
use crate::options::AgentOptions;
use crate::progress::Meter;
use crate::state_dir::UPLOAD_JOURNAL;
use crate::status::StatusStore;
use crate::supervisor::Supervisor;
use crate::write_health::WriteHealth;

/// The state and services that everything in one run shares.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) state_dir: Utf8PathBuf,
    pub(crate) root: HostRoot,
    pub(crate) store: ContentStore,
    /// The bundles that the embedded registry and the node-local mirror look into.
    pub(crate) places: Arc<Places>,
    /// The content that pods pull out of them.
    pub(crate) asked: Asked,
    /// The journal of upload sessions at the primary registry. It outlives a power cut.
    pub(crate) uploads: Option<UploadJournal>,
    /// The key that signs receipts; `None` if the state directory cannot be written.
    pub(crate) key: Option<Arc<HostKey>>,
    pub(crate) events: EventLog,
    pub(crate) status: StatusStore,
    pub(crate) health: WriteHealth,
    pub(crate) metrics: Metrics,
    pub(crate) meter: Arc<Meter>,
    pub(crate) supervisor: Supervisor,
    /// Asks the reconciler for a pass.
    pub(crate) wake: Arc<Notify>,
    /// Number of times that bundles came or went. A phase that fetches images ends for it.
    pub(crate) bundle_changes: watch::Sender<u64>,
}

impl Host {
    pub(crate) async fn open(
        options: &AgentOptions,
        state_dir: Utf8PathBuf,
        progress: Arc<dyn ProgressSink>,
        supervisor: Supervisor,
    ) -> anyhow::Result<Host> {
        let health = WriteHealth::new(&state_dir);
        let opened = {
            let (state_dir, health) = (state_dir.clone(), health.clone());
            tokio::task::spawn_blocking(move || {
                let store = ContentStore::open(&RegistryDirs::of_agent(&state_dir).store)
                    .context("cannot open the content store")?;
                // Without a journal, an upload that was interrupted begins anew.
                let uploads = UploadJournal::open(&state_dir.join(UPLOAD_JOURNAL)).unwrap_or_else(|error| {
                    tracing::warn!(%error, "cannot open the upload journal");
                    None
                });
                // Without a key, receipts are not signed.
                let key = HostKey::load_or_make(&state_dir).inspect_err(|error| {
                    tracing::warn!(error = error_line(error), "this host has no key");
                });
                let (key, key_aside) = key.map_or((None, None), |(key, aside)| (Some(Arc::new(key)), aside));
                let (events, aside) = EventLog::open_or_keep_in_memory(&state_dir, health);
                let aside: Vec<SetAside> = aside.into_iter().chain(key_aside).collect();
                Ok::<_, anyhow::Error>((store, uploads, key, events, aside))
            })
        };
        let (store, uploads, key, events, aside) = opened
            .await?
            .map_err(|error| explain_unusable_state_dir(&state_dir, error))?;
        let status = StatusStore::new(&state_dir, health.clone());
        let metrics = Metrics::new();
        let places = Arc::<Places>::default();
        let host = Host {
            root: HostRoot::new(options.root.clone()),
            store,
            asked: Asked::of(&places),
            places,
            uploads,
            key,
            events,
            status,
            health,
            meter: Arc::new(Meter::new(progress, metrics.clone())),
            metrics,
            supervisor,
            wake: options.reload.clone(),
            bundle_changes: watch::Sender::new(0),
            state_dir,
        };
        for repair in host.store.repairs() {
            host.warn(EventReason::StateDamaged, "content store", repair.clone())
                .await;
        }
        host.report_aside(&aside).await;
        let key = host.key.as_ref().map(|key| HostKeyStatus {
            id: key.id().to_string(),
            file: key.public_file().to_string(),
        });
        host.status.update(|status| status.host_key = key);
        Ok(host)
    }

    /// Records an event for each state file that was set aside.
    pub(crate) async fn report_aside(&self, aside: impl IntoIterator<Item = &SetAside>) {
        for file in aside {
            let subject = file.path.file_name().unwrap_or("state");
            self.warn(EventReason::StateDamaged, subject, file.to_string()).await;
        }
    }

    pub(crate) fn supervise(&self) {
        let status = self.status.clone();
        self.supervisor
            .supervise("status-file", |stop| status.keep_written(stop));
        let (meter, status) = (Arc::clone(&self.meter), self.status.clone());
        self.supervisor.supervise("progress", |stop| meter.report(status, stop));
    }

    /// Records an event of normal operation.
    pub(crate) async fn note(&self, reason: EventReason, subject: &str, message: impl Into<String>) {
        self.events
            .record(EventKind::Normal, reason, subject, message.into())
            .await;
    }

    /// Records an event on which an operator may have to act.
    pub(crate) async fn warn(&self, reason: EventReason, subject: &str, message: impl Into<String>) {
        self.events
            .record(EventKind::Warning, reason, subject, message.into())
            .await;
    }

    /// Reports progress.
    pub(crate) fn progress(&self, event: ProgressEvent) {
        self.meter.progress(event);
    }
}
