//! Fixtures that run real programs: Debian's `docker-registry`, `skopeo`, `containerd`, and `landfall`.
//!
//! Start reading at [`topology`] and [`site`]: they put the others together.
//!
//! Invariants: the owner of a child ends it by its process id, on panic too. No port is fixed. Nothing is
//! written outside of a temporary directory. Waiting is polling on a condition with a deadline, never a bare
//! sleep.

pub mod admission;
pub mod agent;
pub mod bundle;
pub mod canary_secrets;
pub mod cluster;
pub mod cri_runtime;
pub mod docker_registry;
pub mod go_tool;
pub mod https;
pub mod images;
pub mod landfall_registry;
pub mod offline_host;
pub mod olareg;
pub mod poll;
pub mod port;
pub mod program;
pub mod raw_http;
pub mod site;
pub mod skopeo;
pub mod small_disk;
pub mod source_registry;
pub mod stick;
pub mod tls;
pub mod topology;
pub mod upload_host;
pub mod user_data;
