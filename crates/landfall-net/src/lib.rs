//! Connections, trust and durable files: an HTTP server, TLS, certificates, random bytes, state files,
//! stall detection.
//!
//! Start reading at `serve`, which needs the feature of this name: axum and hyper's server come with it. The crate
//! knows no registry: the caller passes a router, and may handle plain connections before the router does (`FastPath`).

pub mod certificate;
pub mod durable;
pub mod output_path;
pub mod random;
#[cfg(feature = "serve")]
pub mod serve;
pub mod stall;
pub mod state_file;
pub mod tls;
