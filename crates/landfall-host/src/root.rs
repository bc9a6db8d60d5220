//! Root directory of all paths of the host: `/` in production, a temporary directory in tests and with `--root`.
//!
//! Paths are walked one component at a time on open directories, so that neither `..` nor a symbolic link leaves the
//! root, not even a link that is swapped in during the walk. A link inside the root is followed as the host itself
//! would, with the root as its `/`. (`openat2` with `RESOLVE_IN_ROOT` does the same in one call, but returns no handle
//! on the parent of a file that does not exist yet, and some sandboxes refuse it.)

use std::io;
use std::os::fd::OwnedFd;

use camino::{Utf8Component, Utf8Path, Utf8PathBuf};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};

/// The maximum number of links in one path, as in the kernel.
const LINKS_MAX: usize = 40;
/// The mode of a parent directory that is created.
const PARENT_MODE: u32 = 0o755;

/// The directory that is used as `/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostRoot(Utf8PathBuf);

/// Reason why a path could not be reached below the root.
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    /// The path contains `..`.
    #[error("cannot use path `{path}`: it holds `..`")]
    Parent { path: Utf8PathBuf },
    /// The path names no file.
    #[error("cannot use path `{path}` as a file: it names a directory")]
    NoFile { path: Utf8PathBuf },
    /// The path has more links than allowed: a loop.
    #[error("cannot reach `{path}`: too many symbolic links")]
    Links { path: Utf8PathBuf },
    /// A system call failed.
    #[error("cannot reach `{path}` at `{at}`")]
    Io {
        path: Utf8PathBuf,
        /// The component that failed.
        at: String,
        #[source]
        source: io::Error,
    },
}

/// Treatment of missing parent directories.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MissingParents {
    /// Create them, with mode 0755.
    Create,
    /// Fail with an error of kind `NotFound`.
    Fail,
}

/// An open directory and the name of an entry in it. The entry is no symbolic link and may not exist.
#[derive(Debug)]
pub(crate) struct DirectoryEntry {
    pub(crate) directory: OwnedFd,
    pub(crate) name: String,
}

impl HostRoot {
    /// Makes a root at this directory; `/` for the host itself.
    pub fn new(directory: impl Into<Utf8PathBuf>) -> Self {
        HostRoot(directory.into())
    }

    /// Returns true if paths are those of the running host. Only then do the host's commands, services and facts belong
    /// to them.
    #[must_use]
    pub fn is_running_host(&self) -> bool {
        self.0 == "/"
    }

    #[must_use]
    pub fn as_path(&self) -> &Utf8Path {
        &self.0
    }

    /// Returns the path outside of the root, for messages and other programs. Opening it follows links as the running
    /// host sees them: use this crate's functions to read or write below the root.
    ///
    /// # Errors
    /// [`RootError::Parent`] when the path contains `..`.
    pub fn join(&self, path: &Utf8Path) -> Result<Utf8PathBuf, RootError> {
        let inside: Utf8PathBuf = components(path, path)?.into_iter().collect();
        Ok(self.0.join(inside))
    }

    /// Returns a root at a directory below this one. Changes that other users make below the directory, links included,
    /// then cannot lead out of it. The second value must live as long as the root is used.
    ///
    /// # Errors
    /// If the directory cannot be reached or opened.
    pub(crate) fn confine(&self, directory: &Utf8Path) -> Result<(HostRoot, OwnedFd), RootError> {
        let entry = self.find(directory, MissingParents::Fail)?;
        let opened = rustix::fs::openat(&entry.directory, entry.name.as_str(), directory_flags(), Mode::empty())
            .map_err(|error| RootError::Io {
                path: directory.to_owned(),
                at: entry.name.clone(),
                source: error.into(),
            })?;
        let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&opened));
        Ok((HostRoot::new(path), opened))
    }

    /// Reads a file; `None` if it does not exist.
    ///
    /// # Errors
    /// If the path leaves the root, or the file cannot be read.
    pub fn read(&self, path: &Utf8Path) -> Result<Option<Vec<u8>>, RootError> {
        let failed = |source: io::Error| RootError::Io {
            path: path.to_owned(),
            at: path.to_string(),
            source,
        };
        let entry = match self.find(path, MissingParents::Fail) {
            Ok(entry) => entry,
            Err(RootError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = match rustix::fs::openat(&entry.directory, entry.name.as_str(), flags, Mode::empty()) {
            Ok(file) => file,
            Err(rustix::io::Errno::NOENT) => return Ok(None),
            Err(error) => return Err(failed(error.into())),
        };
        let mut content = Vec::new();
        io::Read::read_to_end(&mut std::fs::File::from(file), &mut content).map_err(failed)?;
        Ok(Some(content))
    }

    /// Walks to a file's parent. If the file is a symbolic link, walks to its target.
    pub(crate) fn find(&self, path: &Utf8Path, missing: MissingParents) -> Result<DirectoryEntry, RootError> {
        let mut walk = Walk::begin(self, path)?;
        let mut waiting = components(path, path)?;
        waiting.reverse();
        loop {
            let Some(name) = waiting.pop() else {
                return Err(RootError::NoFile { path: path.to_owned() });
            };
            if name == ".." {
                walk.leave();
                continue;
            }
            match walk.link_at(&name)? {
                Some(target) => walk.follow(&target, &mut waiting)?,
                None if waiting.is_empty() => {
                    let directory = walk.into_directory()?;
                    return Ok(DirectoryEntry { directory, name });
                }
                None => walk.enter(&name, missing)?,
            }
        }
    }
}

/// Splits a caller's path into components. It is relative to the root, with or without a leading `/`.
fn components(part: &Utf8Path, path: &Utf8Path) -> Result<Vec<String>, RootError> {
    let mut names = Vec::new();
    for component in part.components() {
        match component {
            Utf8Component::Normal(name) => names.push(name.to_owned()),
            Utf8Component::ParentDir => return Err(RootError::Parent { path: path.to_owned() }),
            Utf8Component::RootDir | Utf8Component::CurDir | Utf8Component::Prefix(_) => {}
        }
    }
    Ok(names)
}

/// A walk through open directories.
struct Walk<'a> {
    path: &'a Utf8Path,
    /// The directories from the root down; the root is never popped.
    directories: Vec<OwnedFd>,
    links: usize,
}

impl<'a> Walk<'a> {
    fn begin(root: &HostRoot, path: &'a Utf8Path) -> Result<Self, RootError> {
        let top = rustix::fs::openat(
            CWD,
            root.0.as_str(),
            directory_flags() & !OFlags::NOFOLLOW,
            Mode::empty(),
        )
        .map_err(|error| RootError::Io {
            path: path.to_owned(),
            at: root.0.to_string(),
            source: error.into(),
        })?;
        Ok(Walk {
            path,
            directories: vec![top],
            links: 0,
        })
    }

    fn here(&self) -> &OwnedFd {
        self.directories.last().expect("the root is never popped")
    }

    fn failed(&self, at: &str, source: rustix::io::Errno) -> RootError {
        RootError::Io {
            path: self.path.to_owned(),
            at: at.to_owned(),
            source: source.into(),
        }
    }

    /// Returns the target of a symbolic link; `None` if `name` is of another type or does not exist.
    fn link_at(&self, name: &str) -> Result<Option<Utf8PathBuf>, RootError> {
        let kind = match rustix::fs::statat(self.here(), name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => FileType::from_raw_mode(stat.st_mode),
            Err(rustix::io::Errno::NOENT) => return Ok(None),
            Err(error) => return Err(self.failed(name, error)),
        };
        if kind != FileType::Symlink {
            return Ok(None);
        }
        let target = rustix::fs::readlinkat(self.here(), name, Vec::new()).map_err(|error| self.failed(name, error))?;
        let target = target
            .into_string()
            .map_err(|_| self.failed(name, rustix::io::Errno::ILSEQ))?;
        Ok(Some(Utf8PathBuf::from(target)))
    }

    /// Puts a link's target before the rest of the path.
    fn follow(&mut self, target: &Utf8Path, waiting: &mut Vec<String>) -> Result<(), RootError> {
        self.links += 1;
        if self.links > LINKS_MAX {
            return Err(RootError::Links {
                path: self.path.to_owned(),
            });
        }
        if target.is_absolute() {
            self.directories.truncate(1);
        }
        // A link may contain `..`, as on the host; `leave` stops at the root.
        let names = target.components().filter_map(|component| match component {
            Utf8Component::Normal(name) => Some(name.to_owned()),
            Utf8Component::ParentDir => Some("..".to_owned()),
            Utf8Component::RootDir | Utf8Component::CurDir | Utf8Component::Prefix(_) => None,
        });
        waiting.extend(names.collect::<Vec<_>>().into_iter().rev());
        Ok(())
    }

    fn leave(&mut self) {
        if self.directories.len() > 1 {
            self.directories.pop();
        }
    }

    fn enter(&mut self, name: &str, missing: MissingParents) -> Result<(), RootError> {
        let opened = match rustix::fs::openat(self.here(), name, directory_flags(), Mode::empty()) {
            Err(rustix::io::Errno::NOENT) if missing == MissingParents::Create => {
                match rustix::fs::mkdirat(self.here(), name, Mode::from_raw_mode(PARENT_MODE)) {
                    Ok(()) | Err(rustix::io::Errno::EXIST) => {}
                    Err(error) => return Err(self.failed(name, error)),
                }
                let made = rustix::fs::openat(self.here(), name, directory_flags(), Mode::empty())
                    .map_err(|error| self.failed(name, error))?;
                // The mode must not depend on the process's umask.
                rustix::fs::chmodat(self.here(), name, Mode::from_raw_mode(PARENT_MODE), AtFlags::empty())
                    .map_err(|error| self.failed(name, error))?;
                Ok(made)
            }
            other => other,
        };
        self.directories.push(opened.map_err(|error| self.failed(name, error))?);
        Ok(())
    }

    /// Returns the reached directory, opened for reading so that it can be synced.
    fn into_directory(self) -> Result<OwnedFd, RootError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::openat(self.here(), ".", flags, Mode::empty()).map_err(|error| self.failed(".", error))
    }
}

/// Returns the flags for directories: `O_PATH` needs only search permission, as walking a path does.
fn directory_flags() -> OFlags {
    OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC
}

#[cfg(test)]
mod tests;
