//! The options of an agent's run, and its outcome.

use std::sync::Arc;
use std::time::Duration;

use camino::Utf8PathBuf;
use landfall_core::config::TemplateValues;
use landfall_core::failure::RetryPolicy;
use landfall_core::settings::Compat;
use landfall_core::status::{FailedPhase, Phase};
use landfall_oci::client::AmbientAccess;
use tokio::net::TcpListener;
use tokio::sync::Notify;

/// The options of [`crate::run_agent`], which no input file contains.
#[derive(Debug)]
pub struct AgentOptions {
    /// The user-data files, site data last.
    pub user_data: Vec<Utf8PathBuf>,
    /// The cluster profiles, infrastructure profile first.
    pub profiles: Vec<Utf8PathBuf>,
    /// Values for the templates in the profiles.
    pub values: TemplateValues,
    /// The product whose limitations are reproduced.
    pub compat: Compat,
    /// The state directory; `landfall.stateDir` if `None`.
    pub state_dir: Option<Utf8PathBuf>,
    /// The root of the host's file system: `/`, or a directory in tests and demonstrations.
    pub root: Utf8PathBuf,
    /// True to end when `Running` is reached, or when a phase failed after its retries.
    pub once: bool,
    pub role: Role,
    /// Logins, certificates and proxies of this machine, beside those of the settings.
    pub ambient: AmbientAccess,
    /// Sockets that the caller bound. For each `None` the agent binds the address in the settings.
    pub listeners: Listeners,
    pub timing: Timing,
    /// Wakes the agent: it reads its input files and makes a pass at once, or after the pass that it makes.
    pub reload: Arc<Notify>,
}

impl AgentOptions {
    /// Returns the options of an agent on this machine: root `/`, no overrides, no end.
    #[must_use]
    pub fn new(user_data: Vec<Utf8PathBuf>, profiles: Vec<Utf8PathBuf>) -> AgentOptions {
        AgentOptions {
            user_data,
            profiles,
            values: TemplateValues::default(),
            compat: Compat::None,
            state_dir: None,
            root: Utf8PathBuf::from("/"),
            once: false,
            role: Role::Host,
            ambient: AmbientAccess::default(),
            listeners: Listeners::default(),
            timing: Timing::default(),
            reload: Arc::default(),
        }
    }
}

/// The role of an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Role {
    /// Everything: images, primary registry, redirection, stages.
    #[default]
    Host,
    /// The webhook alone, in a pod. It fetches no image, and asks the primary registry which images it holds.
    Webhook,
}

impl Role {
    /// Returns the phases of work, in order. A webhook redirects before it knows what the primary registry holds: no
    /// pod waits for a registry.
    #[must_use]
    pub fn phases(self) -> &'static [Phase] {
        match self {
            Role::Host => &Phase::WORK,
            Role::Webhook => &[Phase::Validating, Phase::Redirect, Phase::PrimaryRegistry],
        }
    }
}

/// Sockets that the caller bound, so that tests and the demonstration use free ports. Each is used once. A
/// configuration change that moves a listener binds anew.
#[derive(Debug, Default)]
pub struct Listeners {
    /// The socket for the status API: `/healthz`, `/readyz` and `/metrics`.
    pub status: Option<TcpListener>,
    pub webhook: Option<TcpListener>,
    /// The socket for the embedded primary registry.
    pub primary: Option<TcpListener>,
    /// The socket for the node-local mirror.
    pub mirror: Option<TcpListener>,
}

/// Intervals and limits that tests shorten.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// The interval at which the input files are read again and compared by content hash.
    pub file_poll: Duration,
    /// The delay before a degraded agent tries again, on average. It doubles with each failure, up to two thirds of the
    /// reconcile interval.
    pub degraded_retry: Duration,
    /// The retry policy of transfers, loads and the wait for the primary registry. The phase fails after the last
    /// attempt.
    pub retry: RetryPolicy,
    /// The time limit of a graceful stop.
    pub shutdown_deadline: Duration,
}

impl Default for Timing {
    fn default() -> Timing {
        Timing {
            file_poll: Duration::from_secs(5),
            degraded_retry: Duration::from_secs(10),
            retry: RetryPolicy::default(),
            shutdown_deadline: Duration::from_secs(20),
        }
    }
}

/// The outcome of an agent's run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AgentOutcome {
    /// The agent ran once and reached `Running`.
    Running,
    /// The agent ran once, and these phases failed after their retries. There is at least one.
    Failed { failures: Vec<FailedPhase> },
    /// The shutdown token was cancelled, and all tasks ended in time.
    Drained,
    /// The shutdown token was cancelled, and a task was still running when the deadline passed.
    GaveUp,
}
