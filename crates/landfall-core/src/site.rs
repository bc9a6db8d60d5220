//! A site of several hosts [spec:site]: it behaves as one host with several disks. These are its decisions and its
//! documents; sockets, certificates and files are left to the agent.
//!
//! [`lock`] fixes the digest of each image for all hosts, [`claims`] lets one host fetch each blob, [`leader`] decides
//! the role of a host, [`token`] and [`invitation`] let a host in, [`peers`] lists the hosts.

pub mod claims;
pub mod invitation;
pub mod leader;
pub mod lock;
pub mod peers;
pub mod token;
