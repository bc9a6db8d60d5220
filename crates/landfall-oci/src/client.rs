//! Client for one registry (OCI distribution specification 1.1). It decides which requests are sent and reads the
//! responses. `transport` carries a request. [`crate::copy`] decides about retries.

mod ambient;
mod auth;
mod blob;
mod challenge;
mod chunking;
mod connect;
mod content_coding;
mod endpoint;
mod error;
pub mod explain;
mod foreign_dns;
mod harbor;
mod http_date;
mod listing;
mod login;
mod manifest;
mod problem;
mod redirect_policy;
mod referrers;
mod registry_client;
mod repository;
mod request;
mod server_message;
mod settings_endpoint;
mod shortcut;
mod shortcut_counts;
mod transport;
mod upload;

pub use crate::client::ambient::AmbientAccess;
pub use crate::client::challenge::{Challenge, parse_challenges};
pub use crate::client::endpoint::{Endpoint, Proxies, Timeouts};
pub use crate::client::error::{Fault, RegistryAction, RegistryError};
pub use crate::client::login::Login;
pub use crate::client::manifest::{MANIFEST_SIZE_MAX, PushedManifest};
pub use crate::client::problem::{ConnectionProblem, ProtocolProblem, TlsProblem};
pub use crate::client::registry_client::RegistryClient;
pub use crate::client::repository::{RegistrySink, RegistrySource};
pub use crate::client::server_message::ServerMessage;
pub use crate::client::upload::{UploadJournal, UploadSession, UploadStart};
