//! The registry server: the distribution API over the content store, the node-local mirror, and maintenance.
//!
//! Start reading at [`api`](registry_service). Among the servers, only this crate names `/v2/`.
//!
//! Invariants: a blob that a HEAD request reported is not collected before the client can push its manifest. A manifest
//! is visible only once the registry has everything that the manifest names. The registry acknowledges nothing before
//! it is on disk.

pub mod admin_socket;
mod api;
mod budget_limits;
pub mod fast_path;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod hints;
pub mod mirror;
mod repository;

pub use crate::api::policy::{DEFAULT_REQUESTS_MAX, Policy};
pub use crate::api::users::{Users, UsersError};
pub use crate::api::{place_service, registry_service, sample_exposition};
pub use crate::repository::age_clock::GRACE;
pub use crate::repository::remove::RemovedImages;
pub use crate::repository::{Registry, directories, inspect};
pub use landfall_oci::store::disk_space::MinFreeSpace;
