//! The long-running roles: the agent that brings a host to its planned state and keeps it there, the admission webhook,
//! and the status API.
//!
//! Start reading at [`run_agent`], then [`options::AgentOptions`].
//!
//! Invariants: every decision is one of `landfall_core`, this crate only carries it out; tasks are spawned by
//! [`supervisor`] alone; the provider image is complete before any other transfer begins; no secret is in any event,
//! status, metric or log line.

pub mod events;
pub mod options;
pub mod status;
pub mod supervisor;

mod agent;
mod persist;

pub use agent::run_agent;
pub use options::{AgentOptions, AgentOutcome, Listeners, Timing};
