//! Files that Landfall owns as a whole, in directories with files of other owners. Our files are replaced and removed;
//! files of other owners are left unchanged and reported.
//!
//! Two things identify our files: the mark in the file ([`landfall_core::hostconf::is_ours`]), which a user removes to
//! take over the file, and a manifest of the written files, by group, which finds files that are no longer wanted. The
//! manifest names a file before the file exists, so that after a power failure every file of ours is known.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;

use camino::{Utf8Path, Utf8PathBuf};
use landfall_core::failure::Hint;
use landfall_core::hostconf::containerd_config::{CERTS_DIRECTORY, DROP_INS};
use landfall_core::hostconf::kubelet::{CONFIG_DIRECTORY, LOGIN_DIRECTORY};
use landfall_core::hostconf::registries::registries_directory;
use landfall_core::hostconf::{HostFile, is_ours};
use landfall_core::settings::Dialect;
use landfall_net::state_file::{SetAside, StateFile, Unusable, load_state_file, parse_versioned};
use serde::{Deserialize, Serialize};

use crate::files::{
    FileChange, FileError, FileSpec, ensure_file, inspect_file, preview_file, remove_file, write_atomic,
};
use crate::node_facts::list;
use crate::root::{HostRoot, RootError};

/// The manifest's name in the state directory.
pub const MANIFEST: &str = "managed-files.json";
const VERSION: u32 = 1;

/// Changes to the files of one group; in a preview, changes that would be made.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ManagedChanges {
    /// Files that were written because they were missing or differed.
    pub written: Vec<Utf8PathBuf>,
    /// Files that were removed because they are no longer wanted.
    pub removed: Vec<Utf8PathBuf>,
    /// Wanted paths with a file of another owner, which was left unchanged.
    pub kept: Vec<Utf8PathBuf>,
    /// The manifest, if it was damaged and a new one was begun.
    pub aside: Option<SetAside>,
}

impl ManagedChanges {
    /// Returns true if none of our files changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.written.is_empty() && self.removed.is_empty()
    }
}

/// The files of ours on a host.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OwnedFiles {
    /// Files with the mark.
    pub ours: BTreeSet<Utf8PathBuf>,
    /// Files that we wrote and the user took over, by removing the mark.
    pub taken_over: BTreeSet<Utf8PathBuf>,
}

/// Failure to bring the files into their state.
#[derive(Debug, thiserror::Error)]
pub enum ManagedError {
    /// A file cannot be written or removed.
    #[error(transparent)]
    File(#[from] FileError),
    /// A file cannot be read.
    #[error(transparent)]
    Read(#[from] RootError),
    /// The state directory cannot be used.
    #[error("cannot use the list of the files that Landfall wrote")]
    State(#[source] io::Error),
    /// The manifest is not valid.
    #[error("cannot use `{path}`, which lists the files that Landfall wrote")]
    Manifest {
        path: Utf8PathBuf,
        #[source]
        source: serde_json::Error,
    },
}

impl Hint for ManagedError {
    fn hint(&self) -> Option<Cow<'_, str>> {
        match self {
            ManagedError::Manifest { .. } => Some(Cow::Borrowed("remove it, files with the mark are found again")),
            ManagedError::File(_) | ManagedError::Read(_) | ManagedError::State(_) => None,
        }
    }
}

/// The groups of files of one host.
#[derive(Debug, Clone)]
pub struct ManagedFiles {
    root: HostRoot,
    manifest: Utf8PathBuf,
}

#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct FileGroups {
    version: u32,
    groups: BTreeMap<String, BTreeSet<Utf8PathBuf>>,
}

impl ManagedFiles {
    /// Makes the manager for files below a root. The manifest is in `state_dir`, which is a path of this process and
    /// not below the root.
    #[must_use]
    pub fn new(root: HostRoot, state_dir: &Utf8Path) -> ManagedFiles {
        ManagedFiles {
            root,
            manifest: state_dir.join(MANIFEST),
        }
    }

    /// Makes a group consist of exactly these files. A second call changes nothing. A manifest that is damaged or of a
    /// later version is set aside: files with the mark are still ours. Blocks.
    ///
    /// # Errors
    /// If a file or the manifest cannot be read or written. Completed changes stay and are listed in the manifest.
    pub fn apply(&self, group: &str, files: &[HostFile]) -> Result<ManagedChanges, ManagedError> {
        let (mut manifest, aside) = match load_state_file(&self.manifest, parse_manifest) {
            StateFile::Loaded(manifest) => (manifest, None),
            StateFile::Missing => (FileGroups::default(), None),
            StateFile::SetAside(aside) => (FileGroups::default(), Some(aside)),
        };
        let (writes, mut changes) = self.compare(&manifest, group, files)?;
        changes.aside = aside;
        let before = manifest.groups.get(group).cloned().unwrap_or_default();
        let after: BTreeSet<_> = files
            .iter()
            .map(|file| file.path.clone())
            .filter(|path| !changes.kept.contains(path))
            .collect();
        self.write_manifest(&mut manifest, group, before.union(&after).cloned().collect())?;
        for file in &writes {
            ensure_file(&self.root, file)?;
        }
        for path in &changes.removed {
            remove_file(&self.root, path)?;
        }
        self.write_manifest(&mut manifest, group, after)?;
        Ok(changes)
    }

    /// Returns the changes that [`ManagedFiles::apply`] would make, and makes none.
    ///
    /// # Errors
    /// If a file or the manifest cannot be read.
    pub fn preview(&self, group: &str, files: &[HostFile]) -> Result<ManagedChanges, ManagedError> {
        Ok(self.compare(&self.read_manifest()?, group, files)?.1)
    }

    /// Returns the files of all groups that are on the host: those in the manifest, and those with the mark in the places
    /// of our files, which are found when the manifest is lost. Changes nothing.
    ///
    /// # Errors
    /// If a file or the manifest cannot be read.
    pub fn find_all(&self) -> Result<OwnedFiles, ManagedError> {
        let listed = self.read_manifest()?.groups.into_values().flatten();
        let listed: BTreeSet<Utf8PathBuf> = listed.collect();
        let mut found = OwnedFiles::default();
        for path in &listed {
            match self.root.read(path)? {
                Some(content) if is_ours(&content) => found.ours.insert(path.clone()),
                Some(_) => found.taken_over.insert(path.clone()),
                None => false,
            };
        }
        for path in files_beside_ours(&self.root) {
            if self.root.read(&path)?.is_some_and(|content| is_ours(&content)) {
                found.ours.insert(path);
            }
        }
        Ok(found)
    }

    fn compare(
        &self,
        manifest: &FileGroups,
        group: &str,
        files: &[HostFile],
    ) -> Result<(Vec<FileSpec>, ManagedChanges), ManagedError> {
        let mut changes = ManagedChanges::default();
        let mut writes = Vec::new();
        for file in files {
            if self.is_foreign(&file.path)? {
                changes.kept.push(file.path.clone());
                continue;
            }
            let spec = FileSpec {
                path: file.path.clone(),
                mode: file.mode,
                owner: None,
                group: None,
                content: file.content.as_bytes().to_vec(),
            };
            if preview_file(&self.root, &spec)? != FileChange::Unchanged {
                changes.written.push(file.path.clone());
                writes.push(spec);
            }
        }
        for path in manifest.groups.get(group).into_iter().flatten() {
            let is_wanted = files.iter().any(|file| file.path == *path);
            if !is_wanted && self.root.read(path)?.is_some() && !self.is_foreign(path)? {
                changes.removed.push(path.clone());
            }
        }
        Ok((writes, changes))
    }

    fn is_foreign(&self, path: &Utf8Path) -> Result<bool, ManagedError> {
        Ok(self.root.read(path)?.is_some_and(|content| !is_ours(&content)))
    }

    fn read_manifest(&self) -> Result<FileGroups, ManagedError> {
        match fs_err::read(&self.manifest) {
            Ok(text) => serde_json::from_slice(&text).map_err(|source| ManagedError::Manifest {
                path: self.manifest.clone(),
                source,
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(FileGroups::default()),
            Err(error) => Err(ManagedError::State(error)),
        }
    }

    fn write_manifest(
        &self,
        manifest: &mut FileGroups,
        group: &str,
        paths: BTreeSet<Utf8PathBuf>,
    ) -> Result<(), ManagedError> {
        manifest.version = VERSION;
        if paths.is_empty() {
            manifest.groups.remove(group);
        } else {
            manifest.groups.insert(group.to_owned(), paths);
        }
        let mut content = serde_json::to_vec_pretty(manifest).expect("maps of strings to lists of strings are JSON");
        content.push(b'\n');
        // A host that never had a file of ours gets no manifest either.
        if manifest.groups.is_empty() && !self.manifest.exists() {
            return Ok(());
        }
        if let Some(directory) = self.manifest.parent() {
            // The state directory is private, because it holds copies of the user-data.
            let mut private = DirBuilder::new();
            private.recursive(true).mode(0o700);
            private.create(directory).map_err(ManagedError::State)?;
        }
        write_atomic(&self.manifest, 0o600, &content)?;
        Ok(())
    }
}

/// Returns the files in the directories to which Landfall writes, of any owner.
fn files_beside_ours(root: &HostRoot) -> Vec<Utf8PathBuf> {
    let listed = |directory: &Utf8Path| list(root, directory).unwrap_or_default();
    let flat = [LOGIN_DIRECTORY, CONFIG_DIRECTORY, DROP_INS].map(Utf8Path::new);
    let registries = [Dialect::K3s, Dialect::Rke2].map(registries_directory);
    let mirrors = listed(Utf8Path::new(CERTS_DIRECTORY));
    let directories = flat.into_iter().chain(registries.iter().map(AsRef::as_ref));
    let found = directories.chain(mirrors.iter().map(AsRef::as_ref)).flat_map(listed);
    // Other directories are not read, and neither is a file that is no file of ours: it may be a pipe.
    found
        .filter(|path| matches!(inspect_file(root, path), Ok(Some(_))))
        .collect()
}

fn parse_manifest(bytes: &[u8]) -> Result<FileGroups, Unusable> {
    parse_versioned(bytes, VERSION, "a list of files")
}

#[cfg(test)]
mod tests;
