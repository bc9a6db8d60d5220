//! Access to this machine: files, containerd, stages and facts. Every change of the host outside of the content store
//! goes through this crate.
//!
//! The entry point is [`root`]: every path is below a [`root::HostRoot`], which is `/` in production and a temporary
//! directory in tests.
//!
//! Invariants:
//! - No path leaves the root, neither by `..` nor by a symbolic link.
//! - A file always has either its old or its new content. It has its final mode before it has content.
//! - Every call to containerd and every command has a timeout.

pub mod addresses;
pub mod containerd;
pub mod facts;
pub mod files;
pub mod hints;
pub mod inputs;
pub mod managed;
pub mod node_facts;
pub mod notify;
pub mod removal;
pub mod root;
pub mod stages;
