//! Serving and trust, whatever is served: the listener, TLS, certificates, random bytes and durable files.
//!
//! Start reading at [`serve`](serve::serve). The crate knows no registry: the caller passes a router, and may take plain
//! connections itself before the router does ([`serve::FastPath`]).

pub mod certificate;
pub mod durable;
pub mod random;
pub mod serve;
pub mod stall;
pub mod tls;
