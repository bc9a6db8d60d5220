//! This machine: files, containerd, stages and facts. Everything that changes the host outside of the content store goes
//! through here.
//!
//! Start reading at [`root`]: every path is one below a [`root::HostRoot`], `/` in production and a temporary directory in
//! tests.
//!
//! Invariants: no path leaves the root, neither by `..` nor by a symbolic link; a file is either the old one or the new
//! one, never between, and has its final mode before it has content; every call to containerd and every command has a limit
//! in time.

pub mod containerd;
pub mod facts;
pub mod files;
pub mod managed;
pub mod notify;
pub mod root;
pub mod stages;
