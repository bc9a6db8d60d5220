//! Generates the client of containerd's API from the trimmed `.proto` files in `landfall-host`. The result is checked in,
//! so that a build needs no protobuf compiler; this one is `protox`, in Rust, so that generating needs none either.

use std::path::Path;

use anyhow::Context as _;

const FOLDER: &str = "crates/landfall-host/src/containerd/proto";
const SERVICES: [&str; 5] = [
    "content.proto",
    "images.proto",
    "leases.proto",
    "namespaces.proto",
    "version.proto",
];

/// Writes `crates/landfall-host/src/containerd/proto/*.rs` anew, below the workspace's root.
///
/// # Errors
/// When a `.proto` file has a fault, or the folder cannot be written.
pub(crate) fn generate(workspace: &Path) -> anyhow::Result<()> {
    let folder = workspace.join(FOLDER);
    let descriptors = protox::compile(SERVICES.map(|file| folder.join(file)), [&folder])
        .with_context(|| format!("cannot compile the .proto files in `{}`", folder.display()))?;
    tonic_prost_build::configure()
        .build_server(false)
        .build_transport(false)
        .bytes(".containerd.services.content.v1.WriteContentRequest.data")
        .btree_map(".")
        .out_dir(&folder)
        .compile_fds(descriptors)
        .with_context(|| format!("cannot generate Rust in `{}`", folder.display()))
}
