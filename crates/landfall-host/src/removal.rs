//! Removal of what Landfall left beside its managed files: symbolic links with a known name, and trees below the state
//! directory. A link is removed by its own name, and no file that it leads to.

use std::io;
use std::os::unix::fs::MetadataExt as _;

use camino::{Utf8Path, Utf8PathBuf};
use rustix::fs::{AtFlags, FileType, Mode, OFlags};

use crate::node_facts::list;
use crate::root::{HostRoot, RootError};

/// Returns the target of a symbolic link below the root; `None` if there is no link of that name.
///
/// # Errors
/// If the directory or the link cannot be read.
pub fn read_link(root: &HostRoot, path: &Utf8Path) -> Result<Option<Utf8PathBuf>, RootError> {
    let Some((parent, name)) = path.parent().zip(path.file_name()) else {
        return Ok(None);
    };
    let (_, directory) = match root.confine(parent) {
        Ok(opened) => opened,
        Err(RootError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let failed = |source: io::Error| failed_at(path, source);
    match rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink => {}
        Ok(_) | Err(rustix::io::Errno::NOENT) => return Ok(None),
        Err(error) => return Err(failed(error.into())),
    }
    let target = rustix::fs::readlinkat(&directory, name, Vec::new()).map_err(|error| failed(error.into()))?;
    let target = target
        .into_string()
        .map_err(|_| failed(io::ErrorKind::InvalidData.into()))?;
    Ok(Some(target.into()))
}

/// Removes a symbolic link. Its target stays. Blocks.
///
/// # Errors
/// If the directory cannot be reached, or the link cannot be removed.
pub fn remove_link(root: &HostRoot, path: &Utf8Path) -> Result<(), RootError> {
    let Some((parent, name)) = path.parent().zip(path.file_name()) else {
        return Err(RootError::NoFile { path: path.to_owned() });
    };
    let (_, directory) = root.confine(parent)?;
    let failed = |error: rustix::io::Errno| failed_at(path, error.into());
    match rustix::fs::unlinkat(&directory, name, AtFlags::empty()) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => {}
        Err(error) => return Err(failed(error)),
    }
    // The handle of `confine` is for walking: it cannot be synced.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let synced = rustix::fs::openat(&directory, ".", flags, Mode::empty()).and_then(rustix::fs::fsync);
    synced.map_err(failed)
}

/// Lists the paths below a directory of the host; empty if it does not exist or cannot be listed.
#[must_use]
pub fn list_directory(root: &HostRoot, directory: &Utf8Path) -> Vec<Utf8PathBuf> {
    let mut paths = list(root, directory).unwrap_or_default();
    paths.sort();
    paths
}

/// Removes a file, or a directory with all that is in it. Links are not followed, and another file system that is
/// mounted below is not entered: its directory then stays, as an error. The path is one of this process. Blocks.
///
/// # Errors
/// The first failure. The rest of the tree is removed all the same.
pub fn remove_tree(path: &Utf8Path) -> io::Result<()> {
    let metadata = match fs_err::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !metadata.is_dir() {
        return fs_err::remove_file(path);
    }
    let parent = path.parent().filter(|parent| !parent.as_str().is_empty());
    let device = fs_err::metadata(parent.unwrap_or(Utf8Path::new(".")))?.dev();
    remove_directory(path, device)
}

fn remove_directory(path: &Utf8Path, device: u64) -> io::Result<()> {
    if fs_err::symlink_metadata(path)?.dev() != device {
        return Err(io::Error::other(format!(
            "a file system is mounted at `{path}`, and its content is not touched"
        )));
    }
    let mut first = None;
    for entry in path.read_dir_utf8()? {
        let entry = entry?;
        let removed = match entry.file_type()?.is_dir() {
            true => remove_directory(entry.path(), device),
            false => fs_err::remove_file(entry.path()),
        };
        if let Err(error) = removed {
            first.get_or_insert(error);
        }
    }
    match first {
        Some(error) => Err(error),
        None => fs_err::remove_dir(path),
    }
}

/// Returns true if another file system is mounted at a directory: it cannot be removed, and is the administrator's.
///
/// # Errors
/// If it, or the directory above it, cannot be read.
pub fn is_mount_point(directory: &Utf8Path) -> io::Result<bool> {
    let above = fs_err::metadata(directory.join(".."))?;
    Ok(fs_err::metadata(directory)?.dev() != above.dev())
}

fn failed_at(path: &Utf8Path, source: io::Error) -> RootError {
    RootError::Io {
        path: path.to_owned(),
        at: path.file_name().unwrap_or_default().to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests;
