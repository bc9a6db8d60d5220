//! The pure core of Landfall: facts in, decision out.
//!
//! Start reading at [`mod@reference`], then [`config`] (what the user wrote), [`resolve`] (where an image comes from and
//! why) and [`plan`] (what is to be done about it).
//!
//! Invariants: nothing here does I/O, reads a clock, the environment or a file, or knows async. Every question "where
//! does this image come from?" is answered by [`resolve::Resolver`] and nowhere else. No value of this crate prints a
//! secret.

pub mod admission;
pub mod cluster;
pub mod config;
pub mod credential;
pub mod credential_file;
pub mod diagnostic;
pub mod failure;
pub mod hostconf;
pub mod no_proxy;
pub mod oci_types;
pub mod opt_out;
pub mod plan;
pub mod pod_image;
pub mod reference;
pub mod registry_path;
pub mod report;
pub mod resolve;
pub mod settings;
pub mod stage;
pub mod status;
pub mod sync;
pub mod wording;
pub mod yaml_out;
