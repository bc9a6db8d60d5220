//! An agent that runs beside the test.

use std::sync::Arc;
use std::time::Duration;

use landfall_agent::{AgentOptions, AgentOutcome, run_agent};
use landfall_core::status::{AgentStatus, NoProgress, Phase};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::Site;

/// The time limit for an expected event.
const PATIENCE: Duration = Duration::from_secs(20);

pub struct Agent {
    task: JoinHandle<anyhow::Result<AgentOutcome>>,
    shutdown: CancellationToken,
}

impl Agent {
    pub async fn start(site: &Site) -> Agent {
        Agent::start_with(site.options().await)
    }

    pub fn start_with(mut options: AgentOptions) -> Agent {
        options.once = false;
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(run_agent(options, Arc::new(NoProgress), shutdown.clone()));
        Agent { task, shutdown }
    }

    pub async fn stop(self) -> AgentOutcome {
        self.shutdown.cancel();
        tokio::time::timeout(PATIENCE, self.task)
            .await
            .unwrap()
            .unwrap()
            .unwrap()
    }
}

pub async fn wait_for(site: &Site, what: &str, mut is: impl FnMut(&AgentStatus) -> bool) -> AgentStatus {
    let seen = tokio::time::timeout(PATIENCE, async {
        loop {
            if let Ok(Some(status)) = landfall_agent::status::read_status(&site.state_dir())
                && is(&status)
            {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    seen.await
        .unwrap_or_else(|_| panic!("it never came: {what}; {:#?}", site.status()))
}

pub async fn wait_for_running(site: &Site) {
    wait_for(site, "running", |status| status.phase == Phase::Running).await;
}
