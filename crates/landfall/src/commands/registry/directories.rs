//! The directories of a registry that the command line names.

use anyhow::ensure;
use camino::Utf8Path;
use landfall_registry::directories::RegistryDirs;

/// Finds the directories of a registry, or of an agent's registry.
///
/// # Errors
/// If there is none.
pub(crate) fn find_registry(root: &Utf8Path) -> anyhow::Result<RegistryDirs> {
    let directories = RegistryDirs::find(root);
    ensure!(
        directories.store.join("blobs").is_dir(),
        "there is no registry in `{root}`: give the directory that `landfall registry serve --root` was given, or an agent's \
         state directory"
    );
    Ok(directories)
}
