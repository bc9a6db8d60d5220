//! The state and services that everything in one run shares.

use std::sync::Arc;

use anyhow::Context as _;
use camino::Utf8PathBuf;
use landfall_core::status::{EventKind, EventReason, ProgressEvent, ProgressSink};
use landfall_host::root::HostRoot;
use landfall_oci::client::UploadJournal;
use landfall_oci::store::ContentStore;
use landfall_registry::directories::RegistryDirs;

use crate::events::EventLog;
use crate::failure::explain_state_dir;
use crate::metrics::Metrics;
use crate::options::AgentOptions;
use crate::progress::Meter;
use crate::status::StatusStore;
use crate::supervisor::Supervisor;

/// The state and services that everything in one run shares.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) state_dir: Utf8PathBuf,
    pub(crate) root: HostRoot,
    pub(crate) store: ContentStore,
    /// The journal of upload sessions at the primary registry. It outlives a power cut.
    pub(crate) uploads: Option<UploadJournal>,
    pub(crate) events: EventLog,
    pub(crate) status: StatusStore,
    pub(crate) metrics: Metrics,
    pub(crate) meter: Arc<Meter>,
    pub(crate) supervisor: Supervisor,
}

impl Host {
    pub(crate) async fn open(
        options: &AgentOptions,
        state_dir: Utf8PathBuf,
        progress: Arc<dyn ProgressSink>,
        supervisor: Supervisor,
    ) -> anyhow::Result<Host> {
        let opened = {
            let state_dir = state_dir.clone();
            tokio::task::spawn_blocking(move || {
                let store = ContentStore::open(&RegistryDirs::of_agent(&state_dir).store)
                    .context("cannot open the content store")?;
                let uploads =
                    UploadJournal::open(&state_dir.join("uploads")).context("cannot open the upload journal")?;
                Ok::<_, anyhow::Error>((store, uploads, EventLog::open(&state_dir)?))
            })
        };
        let (store, uploads, events) = opened.await?.with_context(|| explain_state_dir(&state_dir))?;
        for repair in store.repairs() {
            tracing::warn!(repair, "content store mended");
        }
        let metrics = Metrics::new();
        Ok(Host {
            root: HostRoot::new(options.root.clone()),
            store,
            uploads,
            events,
            status: StatusStore::new(&state_dir),
            meter: Arc::new(Meter::new(progress, metrics.clone())),
            metrics,
            supervisor,
            state_dir,
        })
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
