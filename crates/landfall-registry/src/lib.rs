//! The registry server: the distribution API over the content store, the node-local mirror, and the care of what they hold.
//!
//! Start reading at [`api`](registry_service). The only crate that names `/v2/` on the server's side.
//!
//! Invariants: a blob that a client was told of is not collected before the client can push its manifest; a manifest is
//! visible only when all that it names is there; nothing is acknowledged before it is on disk.

pub mod admin_socket;
mod api;
pub mod fast_path;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod mirror;
mod repository;

pub use crate::api::policy::{DEFAULT_REQUESTS_MAX, Policy};
pub use crate::api::registry_service;
pub use crate::api::users::{Users, UsersError};
pub use crate::repository::disk_space::MinFreeSpace;
pub use crate::repository::gc::GRACE;
pub use crate::repository::remove::RemovedImages;
pub use crate::repository::{Registry, directories, inspect};
