//! The pure core of Landfall: facts in, decision out.
//!
//! Start reading at [`mod@reference`], then [`settings`] (the user's input, checked), [`config`] (its parser),
//! [`resolve`] (the sources of an image and the reason for each) and [`plan`] (the steps that the agent carries out).
//!
//! Invariants: this crate does no I/O, reads no clock, environment or file, and has no async code. Only
//! [`resolve::Resolver`] decides the sources of an image. No value of this crate prints a secret. No two modules import
//! each other in a circle.

pub mod admission;
pub mod bundle;
pub mod certificate;
pub mod cluster;
pub mod config;
pub mod cosign;
pub mod credential;
pub mod credential_file;
pub mod diagnostic;
pub mod failure;
pub mod host_name;
pub mod hostconf;
pub mod jitter;
pub mod lenient;
pub mod listen;
pub mod maintenance;
pub mod no_proxy;
pub mod oci_types;
pub mod opt_out;
pub mod plan;
pub mod pod_image;
pub mod quantity;
pub mod reference;
pub mod registry_path;
pub mod repave;
pub mod report;
pub mod resolve;
pub mod schedule;
pub mod settings;
pub mod site;
pub mod stage;
pub mod status;
pub mod sync;
pub mod wording;
pub mod yaml_out;
