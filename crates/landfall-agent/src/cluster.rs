//! The webhook's side in the cluster: election of a writer, certificate authority, registration at the API server, the
//! choices of namespaces, and the pods that were admitted without redirection. `landfall_core::cluster` decides, this
//! module carries out.
//!
//! No admission waits for this module, and no failure here ends the agent: a cluster that does not answer is tried
//! again, and reported in the status.

mod access;
mod certificate_authority;
mod context;
mod election;
mod namespaces;
mod pod_events;
mod removal;
mod service;
mod serving;
mod sweeper;
mod withdrawal;
mod writer;

pub(crate) use context::{ClusterContext, Registration};
pub(crate) use election::host_name;
pub use namespaces::fetch_namespace_choice;
pub(crate) use removal::{find_cluster, remove_from_cluster};
pub(crate) use service::ClusterService;
pub(crate) use serving::ServingCertificate;
pub(crate) use withdrawal::Withdrawal;
