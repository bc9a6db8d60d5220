//! OCI images on the wire and on disk: registry client, content store, archives and the copy engine.
//!
//! Start reading at [`image`] (the two traits that everything that holds images implements).
//!
//! Invariants: a blob is visible only under a digest that it has; a manifest is visible only when all that it names is
//! there; no credential is sent to a host other than the one it was given for, and none is ever printed.

pub mod archive;
pub mod bundle;
pub mod client;
pub mod content;
pub mod copy;
pub mod cosign;
pub mod decode;
pub mod digest;
pub mod fixtures;
pub mod header_names;
pub mod hints;
pub mod image;
mod inner_path;
pub mod keychain;
pub mod layers;
pub mod layout;
mod layout_files;
pub mod narrowing;
pub mod pieces;
mod read_at;
mod referrers;
pub mod store;
mod tar_header;
pub mod tar_reader;
