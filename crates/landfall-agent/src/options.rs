//! What an agent is started with, and how its run ended.

use std::time::Duration;

use camino::Utf8PathBuf;
use landfall_core::config::TemplateValues;
use landfall_core::failure::RetryPolicy;
use landfall_core::settings::Compat;
use landfall_core::status::Phase;
use landfall_oci::client::MachineAccess;
use tokio::net::TcpListener;

/// What [`crate::run_agent`] needs to know that stands in no input file.
#[derive(Debug)]
pub struct AgentOptions {
    /// The user-data files, site data last.
    pub user_data: Vec<Utf8PathBuf>,
    /// The cluster profiles, infrastructure profile first.
    pub profiles: Vec<Utf8PathBuf>,
    /// Values for the templates in the profiles.
    pub values: TemplateValues,
    /// Whose limitations are reproduced.
    pub compat: Compat,
    /// Where the agent keeps everything; `landfall.stateDir` when `None`.
    pub state_dir: Option<Utf8PathBuf>,
    /// The root of the host's file system: `/`, or a directory in tests and demonstrations.
    pub root: Utf8PathBuf,
    /// End when `Running` is reached, or when a phase failed for good.
    pub once: bool,
    /// What the agent does.
    pub role: Role,
    /// What this machine knows of registries beside the settings.
    pub machine: MachineAccess,
    /// Sockets that are bound already; where `None`, the settings say where to bind.
    pub listeners: Listeners,
    /// How long things take.
    pub timing: Timing,
}

impl AgentOptions {
    /// An agent on this machine with the defaults: root `/`, no override, no end.
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
            machine: MachineAccess::default(),
            listeners: Listeners::default(),
            timing: Timing::default(),
        }
    }
}

/// What an agent does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Role {
    /// Everything: images, primary registry, redirection, stages.
    #[default]
    Host,
    /// The webhook alone, in a pod: it fetches nothing, and asks the primary registry what it holds.
    Webhook,
}

impl Role {
    /// The phases of work, in order. A webhook redirects before it knows what the primary registry holds: nobody waits
    /// for a registry.
    #[must_use]
    pub fn phases(self) -> &'static [Phase] {
        match self {
            Role::Host => &Phase::WORK,
            Role::Webhook => &[Phase::Validating, Phase::Redirect, Phase::PrimaryRegistry],
        }
    }
}

/// Sockets that the caller bound, so that tests and the demonstration use free ports. Each is used once; a
/// configuration change that moves a listener binds anew.
#[derive(Debug, Default)]
pub struct Listeners {
    /// For the status API, `/healthz`, `/readyz` and `/metrics`.
    pub status: Option<TcpListener>,
    /// For the webhook.
    pub webhook: Option<TcpListener>,
    /// For the embedded primary registry.
    pub primary: Option<TcpListener>,
    /// For the node-local mirror.
    pub mirror: Option<TcpListener>,
}

/// Intervals and limits that a test wants shorter than a host.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// How often the input files are read again and compared by content hash.
    pub file_poll: Duration,
    /// Delay before a degraded agent tries again; it doubles with each failure, up to the reconcile interval.
    pub degraded_retry: Duration,
    /// How often and how long a transfer, a load or a wait for the primary registry is tried before its phase fails.
    pub retry: RetryPolicy,
    /// How long a graceful stop may take.
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

/// How a run of the agent ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AgentOutcome {
    /// `once`: `Running` was reached.
    Running,
    /// `once`: this phase failed after its retries; the message is what the status says, hint included.
    Failed {
        /// The phase.
        phase: Phase,
        /// Why, and what to mend.
        message: String,
    },
    /// The shutdown token was cancelled, and everything ended in time.
    Drained,
    /// The shutdown token was cancelled, and something was still busy when the deadline passed.
    GaveUp,
}
