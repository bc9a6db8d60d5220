//! Files of the host that are either the old one or the new one, never between.
//!
//! By [`durable`]: a temporary file in the same directory has its final mode and owner before it has content, is synced,
//! renamed into place, and the directory is synced. Nothing is touched where everything is as it should be.

use std::io::{self, Read as _};
use std::os::fd::{AsFd, BorrowedFd};

use camino::{Utf8Path, Utf8PathBuf};
use landfall_net::durable;
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Stat, Uid};

use crate::root::{HostRoot, Missing, Place, RootError};

/// Permission bits, set-user-ID and the like included.
const MODE_BITS: u32 = 0o7777;

/// A file as it should be.
#[derive(Clone, PartialEq, Eq)]
pub struct FileSpec {
    /// Absolute, below the root.
    pub path: Utf8PathBuf,
    /// Mode bits, e.g. `0o600`.
    pub mode: u32,
    /// The owner's number; `None`: whoever runs us.
    pub owner: Option<u32>,
    /// The group's number; `None`: that of whoever runs us.
    pub group: Option<u32>,
    /// The content; may hold a secret, so that it is not printed.
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
    /// Whether a file is as it should be.
    #[must_use]
    pub fn fits(&self, found: &FoundFile) -> bool {
        found.mode == self.mode & MODE_BITS
            && self.owner.is_none_or(|owner| owner == found.owner)
            && self.group.is_none_or(|group| group == found.group)
            && found.content == self.content
    }
}

/// A directory as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectorySpec {
    /// Absolute, below the root.
    pub path: Utf8PathBuf,
    /// Mode bits, e.g. `0o755`.
    pub mode: u32,
    /// The owner's number; `None`: whoever runs us.
    pub owner: Option<u32>,
    /// The group's number; `None`: that of whoever runs us.
    pub group: Option<u32>,
}

/// What an `ensure_…` did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It was not there.
    Created,
    /// It was there and differed.
    Updated,
    /// It was as it should be and was not touched.
    Unchanged,
}

/// A file or directory could not be brought into its state.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The path cannot be reached.
    #[error("cannot write `{path}`")]
    Path {
        /// The file.
        path: Utf8PathBuf,
        /// The cause.
        #[source]
        source: RootError,
    },
    /// The system refused.
    #[error("cannot {verb} `{path}`")]
    Io {
        /// What we were trying to do, e.g. `write`.
        verb: &'static str,
        /// The file.
        path: Utf8PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// Something else has the name.
    #[error("cannot write `{path}`: it is there and is no {wanted}")]
    Kind {
        /// The file.
        path: Utf8PathBuf,
        /// `regular file` or `directory`.
        wanted: &'static str,
    },
}

/// Brings a file into its state. Missing parents are made with mode 0755; a symbolic link stays and its target is written,
/// inside the root. Blocks: it reads, writes and syncs.
///
/// # Errors
/// When the path leaves the root, something else has the name, or the system refuses.
pub fn ensure_file(root: &HostRoot, file: &FileSpec) -> Result<Change, FileError> {
    let place = find(root, &file.path, Missing::Make)?;
    let existing = read_existing(&place, &file.path)?;
    let attributes = Attributes {
        mode: file.mode & MODE_BITS,
        owner: file.owner,
        group: file.group,
    };
    let change = match &existing {
        None => Change::Created,
        Some((stat, content)) if attributes.fit(stat) && *content == file.content => return Ok(Change::Unchanged),
        Some(_) => Change::Updated,
    };
    replace(&place, &attributes, &file.content).map_err(io_error("write", &file.path))?;
    Ok(change)
}

/// A file as it was found.
#[derive(Clone, PartialEq, Eq)]
pub struct FoundFile {
    /// Permission bits.
    pub mode: u32,
    /// The owner's number.
    pub owner: u32,
    /// The group's number.
    pub group: u32,
    /// The content; may hold a secret, so that it is not printed.
    pub content: Vec<u8>,
}

impl std::fmt::Debug for FoundFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FoundFile({:04o}, {} bytes)", self.mode, self.content.len())
    }
}

/// The file of that path as it is; `None` when there is none. Touches nothing.
///
/// # Errors
/// When the path leaves the root, something else has the name, or the system refuses.
pub fn inspect_file(root: &HostRoot, path: &Utf8Path) -> Result<Option<FoundFile>, FileError> {
    let Some(place) = find_present(root, path)? else {
        return Ok(None);
    };
    let found = read_existing(&place, path)?;
    Ok(found.map(|(stat, content)| FoundFile {
        mode: stat.st_mode & MODE_BITS,
        owner: stat.st_uid,
        group: stat.st_gid,
        content,
    }))
}

/// What [`ensure_file`] would do; touches nothing.
///
/// # Errors
/// As [`ensure_file`], as far as they show beforehand.
pub fn preview_file(root: &HostRoot, file: &FileSpec) -> Result<Change, FileError> {
    Ok(match inspect_file(root, &file.path)? {
        None => Change::Created,
        Some(found) if file.fits(&found) => Change::Unchanged,
        Some(_) => Change::Updated,
    })
}

/// What [`ensure_directory`] would do; touches nothing.
///
/// # Errors
/// As [`ensure_directory`], as far as they show beforehand.
pub fn preview_directory(root: &HostRoot, directory: &DirectorySpec) -> Result<Change, FileError> {
    let path = &directory.path;
    let Some(place) = find_present(root, path)? else {
        return Ok(Change::Created);
    };
    let stat = match rustix::fs::statat(&place.directory, place.name.as_str(), AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => stat,
        Err(rustix::io::Errno::NOENT) => return Ok(Change::Created),
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
        Change::Unchanged
    } else {
        Change::Updated
    })
}

/// `None` where a directory on the way is missing.
fn find_present(root: &HostRoot, path: &Utf8Path) -> Result<Option<Place>, FileError> {
    match find(root, path, Missing::Refuse) {
        Err(FileError::Path {
            source: RootError::Io { source, .. },
            ..
        }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}

/// Removes a file, and its directory where that is empty then. Whether there was one. Blocks.
///
/// # Errors
/// When the path leaves the root, a directory has the name, or the system refuses.
pub fn remove_file(root: &HostRoot, path: &Utf8Path) -> Result<bool, FileError> {
    let place = match find(root, path, Missing::Refuse) {
        Err(FileError::Path {
            source: RootError::Io { source, .. },
            ..
        }) if source.kind() == io::ErrorKind::NotFound => return Ok(false),
        other => other?,
    };
    let failed = |error: rustix::io::Errno| io_error("remove", path)(error.into());
    match rustix::fs::unlinkat(&place.directory, place.name.as_str(), AtFlags::empty()) {
        Err(rustix::io::Errno::NOENT) => return Ok(false),
        other => other.map_err(failed)?,
    }
    rustix::fs::fsync(&place.directory).map_err(failed)?;
    if let Some(parent) = path.parent()
        && let Ok(above) = find(root, parent, Missing::Refuse)
    {
        // Refused as long as anything is in it, which is what is wanted.
        let _stays = rustix::fs::unlinkat(&above.directory, above.name.as_str(), AtFlags::REMOVEDIR);
    }
    Ok(true)
}

/// Brings a directory into its state; missing parents are made with mode 0755.
///
/// # Errors
/// When the path leaves the root, something else has the name, or the system refuses.
pub fn ensure_directory(root: &HostRoot, directory: &DirectorySpec) -> Result<Change, FileError> {
    let path = &directory.path;
    let place = find(root, path, Missing::Make)?;
    let attributes = Attributes {
        mode: directory.mode & MODE_BITS,
        owner: directory.owner,
        group: directory.group,
    };
    let made = match rustix::fs::mkdirat(&place.directory, place.name.as_str(), Mode::RWXU) {
        Ok(()) => true,
        Err(rustix::io::Errno::EXIST) => false,
        Err(error) => return Err(io_error("make directory", path)(error.into())),
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = match rustix::fs::openat(&place.directory, place.name.as_str(), flags, Mode::empty()) {
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
        return Ok(if made { Change::Created } else { Change::Unchanged });
    }
    attributes
        .apply(opened.as_fd())
        .map_err(io_error("set mode and owner of", path))?;
    Ok(if made { Change::Created } else { Change::Updated })
}

/// Writes a file of our own state whole: mode from the start, synced, renamed into place. Its directory has to exist.
/// Blocks.
///
/// # Errors
/// When the system refuses; the old file is then still there.
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
    replace(&Place { directory, name }, &attributes, content).map_err(failed())
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

    /// Owner first: changing it clears set-user-ID bits.
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

fn find(root: &HostRoot, path: &Utf8Path, missing: Missing) -> Result<Place, FileError> {
    root.find(path, missing).map_err(|source| FileError::Path {
        path: path.to_owned(),
        source,
    })
}

fn read_existing(place: &Place, path: &Utf8Path) -> Result<Option<(Stat, Vec<u8>)>, FileError> {
    let failed = |error: io::Error| io_error("read", path)(error);
    // Without NONBLOCK a FIFO of that name would keep us waiting.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match rustix::fs::openat(&place.directory, place.name.as_str(), flags, Mode::empty()) {
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

fn replace(place: &Place, attributes: &Attributes, content: &[u8]) -> io::Result<()> {
    durable::replace_at(place.directory.as_fd(), &place.name, content, |file| {
        attributes.apply(file)
    })
}

#[cfg(test)]
mod tests;
