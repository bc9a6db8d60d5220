//! One run of the agent, from the first reading of its inputs to its end.

use std::sync::Arc;

use anyhow::Context as _;
use camino::{Utf8Path, Utf8PathBuf};
use landfall_core::status::{EventKind, EventReason, FailedPhase, Phase, ProgressSink};
use landfall_host::notify::ServiceState;
use landfall_host::root::HostRoot;
use landfall_net::certificate::warm_key_generator;
use tokio_util::sync::CancellationToken;

use crate::agent::config_source::read_first;
use crate::agent::host::Host;
use crate::agent::reconciler::Reconciler;
use crate::agent::service_manager::{notify_service_manager, supervise_watchdog};
use crate::events::EventLog;
use crate::failure::{error_line, explain_unusable_state_dir};
use crate::options::{AgentOptions, AgentOutcome};
use crate::run_lock::RunLock;
use crate::status::{StatusStore, read_status};
use crate::supervisor::Supervisor;
use crate::write_health::WriteHealth;

/// The state directory when neither an option nor the configuration sets one.
const DEFAULT_STATE_DIR: &str = "/var/lib/landfall";

/// Brings the host to the state that its user-data and profiles ask for. Keeps it there until `shutdown` is cancelled,
/// or, with [`AgentOptions::once`], until `Running` is reached [spec:agent].
///
/// # Errors
///
/// If the state directory cannot be used or a supervised task ends unexpectedly. A phase that fails is not an error
/// of the run: the agent is degraded and tries again, or ends with [`AgentOutcome::Failed`] when it runs once.
pub async fn run_agent(
    options: AgentOptions,
    progress: Arc<dyn ProgressSink>,
    shutdown: CancellationToken,
) -> anyhow::Result<AgentOutcome> {
    // Warms up the key generator (25 ms of CPU) in the background, before the first certificate or TLS handshake needs
    // it.
    drop(tokio::task::spawn_blocking(warm_key_generator));
    // The run has a token of its own: its tasks end also when the run ends by itself.
    let stop = shutdown.child_token();
    let (supervisor, mut failures) = Supervisor::new(stop.clone());
    let first = read_first(&options).await;
    let state_dir = choose_state_dir(&options, first.state_dir())?;
    create_private_dir(&state_dir).map_err(|error| explain_unusable_state_dir(&state_dir, error))?;
    let _one_at_a_time = RunLock::acquire(&state_dir).await?;
    let host = match Host::open(&options, state_dir.clone(), progress, supervisor.clone()).await {
        Ok(host) => Arc::new(host),
        Err(error) => {
            record_failed_start(&state_dir, &error_line(&error)).await;
            return Err(error);
        }
    };
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
    let run = Reconciler::new(host.clone(), options, first).await.run();
    let end = tokio::select! {
        end = Box::pin(run) => end.map(Some),
        error = failures.first() => Err(error),
        () = shutdown.cancelled() => Ok(None),
    };
    // The future of the run was dropped, and with it every transfer under way. The store keeps what arrived.
    if !matches!(end, Ok(Some(_))) {
        let message = "transfers are stopped; what arrived is kept".to_owned();
        host.events
            .record(EventKind::Normal, EventReason::AgentStopping, "agent", message)
            .await;
    }
    notify_service_manager(ServiceState::Stopping);
    stop.cancel();
    let drained = supervisor.drain(deadline).await;
    Ok(match end? {
        Some(outcome) => outcome,
        None if drained => AgentOutcome::Drained,
        None => AgentOutcome::GaveUp,
    })
}

/// Shows in the status and the events, as far as they can be written, that the agent could not start.
async fn record_failed_start(state_dir: &Utf8Path, problem: &str) {
    let message = format!("the agent cannot start: {problem}");
    let last = read_status(state_dir).ok().flatten();
    let store = StatusStore::new(state_dir, WriteHealth::new(state_dir));
    store.update(|status| {
        // The images are where they were.
        if let Some(last) = last {
            (status.images, status.configuration) = (last.images, last.configuration);
        }
    });
    store
        .degrade(vec![FailedPhase {
            phase: Phase::Validating,
            message: message.clone(),
        }])
        .await;
    if let Ok(events) = EventLog::open(state_dir) {
        events
            .record(EventKind::Warning, EventReason::PhaseFailed, "agent", message)
            .await;
    }
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

/// Creates a directory that only its owner can read: the state directory holds the content of the user-data.
fn create_private_dir(path: &Utf8Path) -> anyhow::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true).mode(0o700);
    builder.create(path).with_context(|| format!("cannot make `{path}`"))
}
