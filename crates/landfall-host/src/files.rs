//! Atomic writes of the host's files: a file always has either its old or its new content.
//!
//! [`durable`] writes them: a temporary file in the same directory gets its final mode and owner before it has content.
//! It is synced, renamed into place, and the directory is synced. No other module renames files. Files that already
//! have the wanted state are not touched.

use std::io::{self, Read as _};
use std::os::fd::{AsFd, BorrowedFd};

use camino::{Utf8Path, Utf8PathBuf};
use landfall_net::durable;
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Stat, Uid};

use crate::root::{DirectoryEntry, HostRoot, MissingParents, RootError};

/// Permission bits, including set-user-ID and the like.
const MODE_BITS: u32 = 0o7777;

/// The wanted state of a file.
#[derive(Clone, PartialEq, Eq)]
pub struct FileSpec {
    /// The absolute path, below the root.
    pub path: Utf8PathBuf,
    /// The mode bits, e.g. `0o600`.
    pub mode: u32,
    /// The numeric owner; `None` means the user of this process.
    pub owner: Option<u32>,
    /// The numeric group; `None` means the group of this process.
    pub group: Option<u32>,
    /// The content. It may hold a secret, so `Debug` does not print it.
    pub content: Vec<u8>,
}

impl std::fmt::Debug for FileSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileSpec")
            .field("path", &self.path)
            .field("mode", &format_args!("{:04o}", self.mode))
            .field("owner", &self.owner)
            .field("group", &self.group)
            .field("bytes", &self.content.len())
            .finish()
    }
}

impl FileSpec {
    /// Returns true if a file has the wanted state.
    #[must_use]
    pub fn fits(&self, found: &FoundFile) -> bool {
        found.mode == self.mode & MODE_BITS
            && self.owner.is_none_or(|owner| owner == found.owner)
            && self.group.is_none_or(|group| group == found.group)
            && found.content == self.content
    }
}

/// The wanted state of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectorySpec {
    /// The absolute path, below the root.
    pub path: Utf8PathBuf,
    /// The mode bits, e.g. `0o755`.
    pub mode: u32,
    /// The numeric owner; `None` means the user of this process.
    pub owner: Option<u32>,
    /// The numeric group; `None` means the group of this process.
    pub group: Option<u32>,
}

/// Result of an `ensure_…` function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileChange {
    /// The file or directory did not exist.
    Created,
    /// The file or directory differed from the wanted state.
    Updated,
    /// The file or directory had the wanted state and was not touched.
    Unchanged,
}

/// Failure to bring a file or directory into its state.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The path cannot be reached.
    #[error("cannot write `{path}`")]
    Path {
        path: Utf8PathBuf,
        #[source]
        source: RootError,
    },
    /// A system call failed.
    #[error("cannot {verb} `{path}`")]
    Io {
        /// The operation, e.g. `write`.
        verb: &'static str,
        path: Utf8PathBuf,
        #[source]
        source: io::Error,
    },
    /// The path has another file type.
    #[error("cannot write `{path}`: it is there and is no {wanted}")]
    Kind {
        path: Utf8PathBuf,
        /// Either `regular file` or `directory`.
        wanted: &'static str,
    },
}

/// Brings a file into its state. Missing parents are created with mode 0755. If the file is a symbolic link, its target
/// inside the root is written. Blocks: it reads, writes and syncs.
///
/// # Errors
/// If the path leaves the root, has another file type, or a system call fails.
pub fn ensure_file(root: &HostRoot, file: &FileSpec) -> Result<FileChange, FileError> {
    let entry = find(root, &file.path, MissingParents::Create)?;
    let existing = read_existing(&entry, &file.path)?;
    let attributes = Attributes {
        mode: file.mode & MODE_BITS,
        owner: file.owner,
        group: file.group,
    };
    let change = match &existing {
        None => FileChange::Created,
        Some((stat, content)) if attributes.fit(stat) && *content == file.content => return Ok(FileChange::Unchanged),
        Some(_) => FileChange::Updated,
    };
    replace(&entry, &attributes, &file.content).map_err(io_error("write", &file.path))?;
    Ok(change)
}

/// The present state of a file.
#[derive(Clone, PartialEq, Eq)]
pub struct FoundFile {
    pub mode: u32,
    /// The numeric owner.
    pub owner: u32,
    /// The numeric group.
    pub group: u32,
    /// The content. It may hold a secret, so `Debug` does not print it.
    pub content: Vec<u8>,
}

impl std::fmt::Debug for FoundFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FoundFile({:04o}, {} bytes)", self.mode, self.content.len())
    }
}

/// Returns the present state of a file; `None` if it does not exist. Changes nothing.
///
/// # Errors
/// If the path leaves the root, has another file type, or a system call fails.
pub fn inspect_file(root: &HostRoot, path: &Utf8Path) -> Result<Option<FoundFile>, FileError> {
    let Some(entry) = find_present(root, path)? else {
        return Ok(None);
    };
    let found = read_existing(&entry, path)?;
    Ok(found.map(|(stat, content)| FoundFile {
        mode: stat.st_mode & MODE_BITS,
        owner: stat.st_uid,
        group: stat.st_gid,
        content,
    }))
}

/// Returns the change that [`ensure_file`] would make, and makes none.
///
/// # Errors
/// The errors of [`ensure_file`] that can be detected beforehand.
pub fn preview_file(root: &HostRoot, file: &FileSpec) -> Result<FileChange, FileError> {
    Ok(match inspect_file(root, &file.path)? {
        None => FileChange::Created,
        Some(found) if file.fits(&found) => FileChange::Unchanged,
        Some(_) => FileChange::Updated,
    })
}

/// Returns the change that [`ensure_directory`] would make, and makes none.
///
/// # Errors
/// The errors of [`ensure_directory`] that can be detected beforehand.
pub fn preview_directory(root: &HostRoot, directory: &DirectorySpec) -> Result<FileChange, FileError> {
    let path = &directory.path;
    let Some(entry) = find_present(root, path)? else {
        return Ok(FileChange::Created);
    };
    let stat = match rustix::fs::statat(&entry.directory, entry.name.as_str(), AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => stat,
        Err(rustix::io::Errno::NOENT) => return Ok(FileChange::Created),
        Err(error) => return Err(io_error("read", path)(error.into())),
    };
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        return Err(FileError::Kind {
            path: path.clone(),
            wanted: "directory",
        });
    }
    let attributes = Attributes {
        mode: directory.mode & MODE_BITS,
        owner: directory.owner,
        group: directory.group,
    };
    Ok(if attributes.fit(&stat) {
        FileChange::Unchanged
    } else {
        FileChange::Updated
    })
}

/// Finds an entry; `None` if a parent directory is missing.
fn find_present(root: &HostRoot, path: &Utf8Path) -> Result<Option<DirectoryEntry>, FileError> {
    match find(root, path, MissingParents::Fail) {
        Err(FileError::Path {
            source: RootError::Io { source, .. },
            ..
        }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}

/// Removes a file, and its directory if that is then empty. Returns true if the file existed. Blocks.
///
/// # Errors
/// If the path leaves the root, a directory has the name, or a system call fails.
pub fn remove_file(root: &HostRoot, path: &Utf8Path) -> Result<bool, FileError> {
    let entry = match find(root, path, MissingParents::Fail) {
        Err(FileError::Path {
            source: RootError::Io { source, .. },
            ..
        }) if source.kind() == io::ErrorKind::NotFound => return Ok(false),
        other => other?,
    };
    let failed = |error: rustix::io::Errno| io_error("remove", path)(error.into());
    match rustix::fs::unlinkat(&entry.directory, entry.name.as_str(), AtFlags::empty()) {
        Err(rustix::io::Errno::NOENT) => return Ok(false),
        other => other.map_err(failed)?,
    }
    rustix::fs::fsync(&entry.directory).map_err(failed)?;
    if let Some(parent) = path.parent()
        && let Ok(above) = find(root, parent, MissingParents::Fail)
    {
        // The system refuses to remove a directory that is not empty, as intended.
        let _stays = rustix::fs::unlinkat(&above.directory, above.name.as_str(), AtFlags::REMOVEDIR);
    }
    Ok(true)
}

/// Brings a directory into its state. Missing parents are created with mode 0755.
///
/// # Errors
/// If the path leaves the root, has another file type, or a system call fails.
pub fn ensure_directory(root: &HostRoot, directory: &DirectorySpec) -> Result<FileChange, FileError> {
    let path = &directory.path;
    let entry = find(root, path, MissingParents::Create)?;
    let attributes = Attributes {
        mode: directory.mode & MODE_BITS,
        owner: directory.owner,
        group: directory.group,
    };
    let made = match rustix::fs::mkdirat(&entry.directory, entry.name.as_str(), Mode::RWXU) {
        Ok(()) => true,
        Err(rustix::io::Errno::EXIST) => false,
        Err(error) => return Err(io_error("make directory", path)(error.into())),
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = match rustix::fs::openat(&entry.directory, entry.name.as_str(), flags, Mode::empty()) {
        Ok(opened) => opened,
        Err(rustix::io::Errno::NOTDIR) => {
            return Err(FileError::Kind {
                path: path.clone(),
                wanted: "directory",
            });
        }
        Err(error) => return Err(io_error("open directory", path)(error.into())),
    };
    let stat = rustix::fs::fstat(&opened).map_err(|error| io_error("read", path)(error.into()))?;
    if attributes.fit(&stat) {
        return Ok(if made {
            FileChange::Created
        } else {
            FileChange::Unchanged
        });
    }
    attributes
        .apply(opened.as_fd())
        .map_err(io_error("set mode and owner of", path))?;
    Ok(if made { FileChange::Created } else { FileChange::Updated })
}

/// Replaces a complete file of our own state: it has its mode from the start, is synced, and renamed into place. Its
/// directory must exist. Blocks.
///
/// # Errors
/// If a system call fails; the old file then still exists.
pub fn write_atomic(path: &Utf8Path, mode: u32, content: &[u8]) -> Result<(), FileError> {
    let failed = || io_error("write", path);
    let name = path
        .file_name()
        .ok_or_else(|| failed()(io::ErrorKind::InvalidInput.into()))?
        .to_owned();
    let parent = path
        .parent()
        .filter(|parent| !parent.as_str().is_empty())
        .unwrap_or(Utf8Path::new("."));
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(parent.as_str(), flags, Mode::empty()).map_err(|error| failed()(error.into()))?;
    let attributes = Attributes {
        mode: mode & MODE_BITS,
        owner: None,
        group: None,
    };
    replace(&DirectoryEntry { directory, name }, &attributes, content).map_err(failed())
}

#[derive(Debug, Clone, Copy)]
struct Attributes {
    mode: u32,
    owner: Option<u32>,
    group: Option<u32>,
}

impl Attributes {
    fn fit(&self, stat: &Stat) -> bool {
        stat.st_mode & MODE_BITS == self.mode
            && self.owner.is_none_or(|owner| owner == stat.st_uid)
            && self.group.is_none_or(|group| group == stat.st_gid)
    }

    /// Sets owner and mode. The owner comes first, because changing it clears set-user-ID bits.
    fn apply(&self, file: BorrowedFd<'_>) -> io::Result<()> {
        let stat = rustix::fs::fstat(file)?;
        let owner = self.owner.filter(|owner| *owner != stat.st_uid);
        let group = self.group.filter(|group| *group != stat.st_gid);
        if owner.is_some() || group.is_some() {
            rustix::fs::fchown(file, owner.map(Uid::from_raw), group.map(Gid::from_raw))?;
        }
        Ok(rustix::fs::fchmod(file, Mode::from_raw_mode(self.mode))?)
    }
}

fn io_error(verb: &'static str, path: &Utf8Path) -> impl FnOnce(io::Error) -> FileError {
    move |source| FileError::Io {
        verb,
        path: path.to_owned(),
        source,
    }
}

fn find(root: &HostRoot, path: &Utf8Path, missing: MissingParents) -> Result<DirectoryEntry, FileError> {
    root.find(path, missing).map_err(|source| FileError::Path {
        path: path.to_owned(),
        source,
    })
}

fn read_existing(entry: &DirectoryEntry, path: &Utf8Path) -> Result<Option<(Stat, Vec<u8>)>, FileError> {
    let failed = |error: io::Error| io_error("read", path)(error);
    // Without NONBLOCK a FIFO of that name would block this call.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match rustix::fs::openat(&entry.directory, entry.name.as_str(), flags, Mode::empty()) {
        Ok(file) => file,
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        Err(error) => return Err(failed(error.into())),
    };
    let stat = rustix::fs::fstat(&file).map_err(|error| failed(error.into()))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(FileError::Kind {
            path: path.to_owned(),
            wanted: "regular file",
        });
    }
    let mut content = Vec::new();
    std::fs::File::from(file).read_to_end(&mut content).map_err(failed)?;
    Ok(Some((stat, content)))
}

fn replace(entry: &DirectoryEntry, attributes: &Attributes, content: &[u8]) -> io::Result<()> {
    durable::replace_at(entry.directory.as_fd(), &entry.name, content, |file| {
        attributes.apply(file)
    })
}

#[cfg(test)]
mod tests;
