//! The long-running roles: the agent that brings a host to its planned state and keeps it there, the admission webhook,
//! and the status API.
//!
//! Start reading at [`run_agent`], then [`options::AgentOptions`].
//!
//! Invariants: `landfall_core` makes every decision, and this crate only carries it out. [`supervisor`] alone spawns
//! tasks. The provider image is tried before any other transfer begins. No event, status, metric or log line
//! contains a secret.

pub mod api;
pub mod events;
pub mod failure;
pub mod metrics;
pub mod options;
pub mod progress;
pub mod stage_events;
pub mod status;
pub mod supervisor;
pub mod webhook;
pub mod write_health;

mod certificates;
mod cluster;
mod host_key;
mod kube;
mod reload;
mod run_lock;
mod state_dir;
mod uploads;

mod agent;

pub use agent::{
    ClusterSide, Offer, OfferedBundles, UninstallOptions, configured_keys, preference_of, refuse_image, run_agent,
    trust_of, uninstall,
};
pub use cluster::fetch_namespace_choice;
pub use options::{AgentOptions, AgentOutcome, Listeners, Role, Timing};
pub use reload::reload;

#[cfg(test)]
mod tests {
    #[test]
    fn agent_run_can_be_sent_to_another_thread() {
        fn assert_send<T: Send>(_: impl FnOnce() -> T) {}
        assert_send(|| {
            super::run_agent(
                super::AgentOptions::new(Vec::new(), Vec::new()),
                std::sync::Arc::new(landfall_core::status::NoProgress),
                tokio_util::sync::CancellationToken::new(),
            )
        });
    }
}
