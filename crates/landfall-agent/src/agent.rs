//! One run of the agent, from the first reading of its inputs to its end.

use std::sync::Arc;

use landfall_core::status::ProgressSink;
use tokio_util::sync::CancellationToken;

use crate::options::{AgentOptions, AgentOutcome};

/// Brings the host to the state that its user-data and profiles ask for, and keeps it there until `shutdown` is
/// cancelled, or, with [`AgentOptions::once`], until `Running` is reached (SPEC section 7).
///
/// # Errors
///
/// When the state directory cannot be used, a port cannot be bound, the very first configuration has errors, or a
/// supervised task ends unexpectedly. A phase that fails is not an error of the run: the agent is degraded and tries
/// again, or ends with [`AgentOutcome::Failed`] when it runs once.
pub async fn run_agent(
    options: AgentOptions,
    progress: Arc<dyn ProgressSink>,
    shutdown: CancellationToken,
) -> anyhow::Result<AgentOutcome> {
    let _ = (options, progress, shutdown);
    anyhow::bail!("the agent's phases are in work")
}
