//! Fixtures that run real programs: Debian's `docker-registry`, `skopeo`, `containerd` and our own binary.
//!
//! Start reading at [`world`] and [`site`]: they put the others together.
//!
//! Invariants: every child is ended by its process id when its owner goes away, on panic too; no port is fixed; nothing is
//! written outside a temporary directory; waiting is polling on a condition with a deadline, never a bare sleep.

pub mod admission;
pub mod agent;
pub mod canary;
pub mod cluster;
pub mod docker_registry;
pub mod https;
pub mod images;
pub mod landfall_registry;
pub mod olareg;
pub mod poll;
pub mod port;
pub mod program;
pub mod runtime;
pub mod site;
pub mod skopeo;
pub mod source;
pub mod tls;
pub mod tool;
pub mod user_data;
pub mod wire;
pub mod world;
