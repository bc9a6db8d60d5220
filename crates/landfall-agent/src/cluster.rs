//! The webhook's place in the cluster: who writes, the authority, the registration at the API server, what namespaces
//! chose, and the pods that slipped through. Carries out what `landfall_core::cluster` decides.
//!
//! Nothing here is on the path of an admission, and nothing here ends the agent: a cluster that does not answer is tried
//! again, and said in the status.

mod access;
mod certificate_authority;
mod context;
mod election;
mod namespaces;
mod pod_events;
mod service;
mod serving;
mod sweeper;
mod withdrawal;
mod writer;

pub(crate) use context::{ClusterContext, Registration};
pub use namespaces::fetch_namespace_choice;
pub(crate) use service::ClusterService;
pub(crate) use serving::ServingCertificate;
pub(crate) use withdrawal::Withdrawal;
