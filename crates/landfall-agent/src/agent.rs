//! One run of the agent, from the first reading of its inputs to its end.

mod api_server;
mod apply;
mod attempts;
mod baseline;
pub(crate) mod certificates;
mod clients;
mod configuration;
mod core_images;
mod failure;
mod host_files;
mod inputs;
mod ledger;
mod listeners;
mod mirror;
mod phases;
mod primary;
mod reconciler;
mod redirect;
mod runtime;
mod schedule;
mod service_manager;
mod stages;
mod survey;
mod transfer;

use std::sync::Arc;

use anyhow::Context as _;
use camino::{Utf8Path, Utf8PathBuf};
use landfall_core::status::{EventKind, EventReason, ProgressEvent, ProgressSink};
use landfall_host::notify::ServiceState;
use landfall_host::root::HostRoot;
use landfall_net::certificate::warm_key_generator;
use landfall_oci::client::UploadJournal;
use landfall_oci::store::ContentStore;
use landfall_registry::places::Places;
use tokio_util::sync::CancellationToken;

use crate::agent::reconciler::Reconciler;
use crate::agent::service_manager::{supervise_watchdog, tell};
use crate::events::EventLog;
use crate::metrics::Metrics;
use crate::options::{AgentOptions, AgentOutcome};
use crate::progress::Meter;
use crate::run_lock::RunLock;
use crate::status::StatusStore;
use crate::supervisor::Supervisor;

pub use crate::agent::failure::{Explanation, explain_fetch, explain_no_place};

/// Where the agent keeps everything when neither an option nor the configuration says otherwise.
const DEFAULT_STATE_DIR: &str = "/var/lib/landfall";

/// Brings the host to the state that its user-data and profiles ask for, and keeps it there until `shutdown` is
/// cancelled, or, with [`AgentOptions::once`], until `Running` is reached (SPEC section 7).
///
/// # Errors
///
/// When the state directory cannot be used or a supervised task ends unexpectedly. A phase that fails is not an error of
/// the run: the agent is degraded and tries again, or ends with [`AgentOutcome::Failed`] when it runs once.
pub async fn run_agent(
    options: AgentOptions,
    progress: Arc<dyn ProgressSink>,
    shutdown: CancellationToken,
) -> anyhow::Result<AgentOutcome> {
    // Beside what is read and written until the first certificate or handshake; nobody waits for its end.
    drop(tokio::task::spawn_blocking(warm_key_generator));
    // A token of our own: tasks end as well when the run ends by itself.
    let stop = shutdown.child_token();
    let (supervisor, mut failures) = Supervisor::new(stop.clone());
    let first = configuration::read_first(&options).await;
    let state_dir = choose_state_dir(&options, first.state_dir())?;
    create_private_dir(&state_dir)
        .with_context(|| format!("cannot use `{state_dir}`; hint: set `landfall.stateDir` in the user-data"))?;
    let _one_at_a_time = RunLock::acquire(&state_dir).await?;
    let host = Arc::new(Host::open(&options, state_dir, progress, supervisor.clone()).await?);
    host.supervise();
    supervise_watchdog(&supervisor);
    host.events
        .record(
            EventKind::Normal,
            EventReason::AgentStarted,
            "agent",
            format!("state is in `{}`", host.state_dir),
        )
        .await;
    let deadline = options.timing.shutdown_deadline;
    let run = Reconciler::new(host.clone(), options, first)?.run();
    let end = tokio::select! {
        end = Box::pin(run) => end.map(Some),
        error = failures.first() => Err(error),
        () = shutdown.cancelled() => Ok(None),
    };
    // The run's future is gone here, and with it every transfer under way; what had arrived is kept by the store.
    if !matches!(end, Ok(Some(_))) {
        let message = "transfers are stopped; what arrived is kept".to_owned();
        host.events
            .record(EventKind::Normal, EventReason::AgentStopping, "agent", message)
            .await;
    }
    tell(ServiceState::Stopping);
    stop.cancel();
    let drained = supervisor.drain(deadline).await;
    Ok(match end? {
        Some(outcome) => outcome,
        None if drained => AgentOutcome::Drained,
        None => AgentOutcome::GaveUp,
    })
}

fn choose_state_dir(options: &AgentOptions, configured: Option<&Utf8Path>) -> anyhow::Result<Utf8PathBuf> {
    match &options.state_dir {
        Some(state_dir) => Ok(state_dir.clone()),
        None => {
            let path = configured.unwrap_or(Utf8Path::new(DEFAULT_STATE_DIR));
            Ok(HostRoot::new(options.root.clone()).join(path)?)
        }
    }
}

/// What everything in one run shares.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) state_dir: Utf8PathBuf,
    pub(crate) root: HostRoot,
    pub(crate) store: ContentStore,
    /// The uploads to the primary registry that outlive a power cut.
    pub(crate) uploads: Option<UploadJournal>,
    pub(crate) events: EventLog,
    pub(crate) status: StatusStore,
    pub(crate) metrics: Metrics,
    pub(crate) meter: Arc<Meter>,
    pub(crate) supervisor: Supervisor,
}

impl Host {
    async fn open(
        options: &AgentOptions,
        state_dir: Utf8PathBuf,
        progress: Arc<dyn ProgressSink>,
        supervisor: Supervisor,
    ) -> anyhow::Result<Host> {
        let opened = {
            let state_dir = state_dir.clone();
            tokio::task::spawn_blocking(move || {
                let store =
                    ContentStore::open(&Places::of_agent(&state_dir).store).context("cannot open the content store")?;
                let uploads =
                    UploadJournal::open(&state_dir.join("uploads")).context("cannot open the upload journal")?;
                Ok::<_, anyhow::Error>((store, uploads, EventLog::open(&state_dir)?))
            })
        };
        let (store, uploads, events) = opened
            .await?
            .with_context(|| format!("cannot use `{state_dir}`; hint: set `landfall.stateDir` in the user-data"))?;
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

    fn supervise(&self) {
        let status = self.status.clone();
        self.supervisor
            .supervise("status-file", |stop| status.keep_written(stop));
        let (meter, status) = (Arc::clone(&self.meter), self.status.clone());
        self.supervisor.supervise("progress", |stop| meter.report(status, stop));
    }

    /// Records that something is as it should be.
    pub(crate) async fn note(&self, reason: EventReason, subject: &str, message: impl Into<String>) {
        self.events
            .record(EventKind::Normal, reason, subject, message.into())
            .await;
    }

    /// Records that an operator may have to act.
    pub(crate) async fn warn(&self, reason: EventReason, subject: &str, message: impl Into<String>) {
        self.events
            .record(EventKind::Warning, reason, subject, message.into())
            .await;
    }

    /// Tells whoever watches of progress.
    pub(crate) fn progress(&self, event: ProgressEvent) {
        self.meter.progress(event);
    }
}

/// Only we read what is in the state directory: it holds what the user-data holds.
fn create_private_dir(path: &Utf8Path) -> anyhow::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true).mode(0o700);
    builder.create(path).with_context(|| format!("cannot make `{path}`"))
}
