//! A request to a running agent of this host: read the input files again [spec:agent.reload]. The agent is found by its
//! lock, is asked by SIGHUP, and answers by its status.

use std::time::Duration;

use anyhow::Context as _;
use camino::Utf8Path;
use jiff::Timestamp;
use landfall_core::failure::Explanation;
use landfall_core::report::ReloadReport;
use landfall_core::status::AgentStatus;
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::Instant;

use crate::run_lock;
use crate::status::{FoundStatus, find_status, read_status};

/// The interval between two looks at the status.
const INTERVAL: Duration = Duration::from_millis(100);

/// Asks the agent with this state directory to read its input files, and waits until it has done so.
///
/// # Errors
///
/// If no agent runs with this state directory, it cannot be signalled, or it has not read the files within `limit`.
pub async fn reload(state_dir: &Utf8Path, limit: Duration) -> anyhow::Result<ReloadReport> {
    let not_running = || {
        Explanation::new(
            format!("no agent runs with the state directory `{state_dir}`"),
            "start it (`systemctl start landfall-agent`), or name its directory with `--state-dir`",
        )
    };
    if !run_lock::is_running(state_dir)? {
        anyhow::bail!(not_running());
    }
    let before = read_status(state_dir).ok().flatten();
    let of_status = before.as_ref().and_then(|status| status.pid);
    let pid = run_lock::find_agent(state_dir).or(of_status).with_context(|| {
        format!("the agent with the state directory `{state_dir}` is a process that cannot be seen from here")
    })?;
    let asked = Timestamp::now();
    signal(pid)?;
    let end = Instant::now() + limit;
    loop {
        let directory = state_dir.to_owned();
        let found = tokio::task::spawn_blocking(move || find_status(&directory)).await??;
        match found {
            FoundStatus::Current(status) | FoundStatus::Doubtful(status, _)
                if status.configuration_read.is_some_and(|read| read >= asked) =>
            {
                return Ok(ReloadReport::new(pid, before.as_ref(), &status));
            }
            FoundStatus::Current(status) if !status.running => anyhow::bail!(not_running()),
            FoundStatus::None => anyhow::bail!(not_running()),
            FoundStatus::Current(status) | FoundStatus::Doubtful(status, _) if Instant::now() >= end => {
                anyhow::bail!(still_busy(pid, limit, Some(&status)))
            }
            FoundStatus::Unknown(_) if Instant::now() >= end => anyhow::bail!(still_busy(pid, limit, None)),
            FoundStatus::Current(_) | FoundStatus::Doubtful(..) | FoundStatus::Unknown(_) => {}
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

fn signal(pid: u32) -> anyhow::Result<()> {
    let process = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let process = process.with_context(|| format!("{pid} is no process"))?;
    kill_process(process, Signal::HUP).with_context(|| format!("cannot send SIGHUP to process {pid}"))
}

fn still_busy(pid: u32, limit: Duration, status: Option<&AgentStatus>) -> anyhow::Error {
    let phase = status.map_or_else(String::new, |status| format!(" is in the phase {} and", status.phase));
    anyhow::anyhow!(
        "the agent (process {pid}){phase} has not read its files within {} s: it does so after the pass under way",
        limit.as_secs()
    )
}
