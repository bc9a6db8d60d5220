//! Generates the client of containerd's API from the trimmed `.proto` files in `landfall-host`. The result is checked
//! in, so a build needs no protobuf compiler. The generator uses `protox`, which is Rust, so it needs none either.

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

/// Writes `crates/landfall-host/src/containerd/proto/*.rs` below the workspace's root.
///
/// # Errors
/// Fails if a `.proto` file has a fault, or if the folder cannot be written.
pub(crate) fn generate(workspace: &Path) -> anyhow::Result<()> {
    let folder = workspace.join(FOLDER);
    generate_into(&folder, &folder)
}

fn generate_into(folder: &Path, out: &Path) -> anyhow::Result<()> {
    let descriptors = protox::compile(SERVICES.map(|file| folder.join(file)), [folder])
        .with_context(|| format!("cannot compile the .proto files in `{}`", folder.display()))?;
    tonic_prost_build::configure()
        .build_server(false)
        .build_transport(false)
        .bytes(".containerd.services.content.v1.WriteContentRequest.data")
        .btree_map(".")
        .out_dir(out)
        .compile_fds(descriptors)
        .with_context(|| format!("cannot generate Rust in `{}`", out.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_checked_in_is_what_the_proto_files_say() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(FOLDER);
        let fresh = tempfile::tempdir().unwrap();
        generate_into(&folder, fresh.path()).unwrap();
        let mut compared = 0;
        for entry in fs_err::read_dir(fresh.path()).unwrap() {
            let path = entry.unwrap().path();
            let checked_in = folder.join(path.file_name().unwrap());
            assert_eq!(
                fs_err::read_to_string(&path).unwrap(),
                fs_err::read_to_string(checked_in).unwrap()
            );
            compared += 1;
        }
        assert_eq!(
            compared,
            SERVICES.len() + 1,
            "one file for each service and one for the types"
        );
    }
}
