//! Paths that a user names for output. What is there is looked at before anything is written: a file is replaced, a
//! link is followed, a device or a pipe is written through, and everything else is refused [spec:copies.outputs].

use std::borrow::Cow;
use std::io::{self, Write};
use std::os::unix::fs::FileTypeExt as _;

use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use landfall_core::failure::Hint;
use rustix::fs::Access;

use crate::durable::directory_of;

/// Limit of a chain of links, as in Linux (path_resolution(7)).
const LINKS_MAX: usize = 40;
/// The text that stands for stdout.
const STDOUT: &str = "-";

/// Place of an output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OutputPath {
    /// A regular file, or none yet, with all links followed. It is written aside and renamed.
    File(Utf8PathBuf),
    /// A character device or a pipe. It is written in order, and never replaced.
    Stream(Utf8PathBuf),
    /// `-`, or a path that leads to this process's stdout.
    Stdout,
}

/// A path that cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum OutputPathError {
    #[error("`{path}` is {kind}, which is never replaced")]
    Kind { path: Utf8PathBuf, kind: &'static str },
    #[error("`{path}` is no directory")]
    NoDirectory { path: Utf8PathBuf },
    #[error("the directory `{path}` does not exist")]
    DirectoryMissing { path: Utf8PathBuf },
    #[error("the directory `{path}` cannot be written")]
    DirectoryClosed {
        path: Utf8PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("`{path}` leads in a circle of links")]
    Circle { path: Utf8PathBuf },
    #[error("failed to look at `{path}`")]
    Look {
        path: Utf8PathBuf,
        #[source]
        source: io::Error,
    },
}

impl Hint for OutputPathError {
    fn hint(&self) -> Option<Cow<'_, str>> {
        Some(match self {
            OutputPathError::Kind {
                kind: "a directory",
                path,
            } => Cow::Owned(format!("name a file in it: `{path}/NAME`")),
            OutputPathError::Kind { .. } | OutputPathError::NoDirectory { .. } | OutputPathError::Circle { .. } => {
                Cow::Borrowed("name another path")
            }
            OutputPathError::DirectoryMissing { path } => Cow::Owned(format!("make it first: `mkdir -p {path}`")),
            OutputPathError::DirectoryClosed { .. } => {
                Cow::Borrowed("name a path in a directory that this user may write")
            }
            OutputPathError::Look { .. } => return None,
        })
    }
}

/// Looks at the path of a file to be written, and follows its links. Writes nothing.
///
/// # Errors
/// If it is neither a file, a character device nor a pipe, or its directory cannot be written.
pub fn look_at_file(path: &Utf8Path) -> Result<OutputPath, OutputPathError> {
    if path == STDOUT {
        return Ok(OutputPath::Stdout);
    }
    let mut at = path.to_owned();
    for _ in 0..LINKS_MAX {
        if let Some(stream) = descriptor_of(&at) {
            return Ok(stream);
        }
        let metadata = match fs::symlink_metadata(&at) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                check_directory(directory_of(&at))?;
                return Ok(OutputPath::File(at));
            }
            Err(source) => {
                check_directory(directory_of(&at))?;
                return Err(OutputPathError::Look { path: at, source });
            }
        };
        let kind = metadata.file_type();
        if kind.is_symlink() {
            let target = fs::read_link(&at).map_err(|source| OutputPathError::Look {
                path: at.clone(),
                source,
            })?;
            let target = Utf8PathBuf::try_from(target).map_err(|error| OutputPathError::Look {
                path: at.clone(),
                source: error.into_io_error(),
            })?;
            at = directory_of(&at).join(target);
            continue;
        }
        let refused = |kind| OutputPathError::Kind {
            path: path.to_owned(),
            kind,
        };
        return match kind {
            kind if kind.is_char_device() || kind.is_fifo() => Ok(OutputPath::Stream(at)),
            kind if kind.is_dir() => Err(refused("a directory")),
            kind if kind.is_block_device() => Err(refused("a block device")),
            kind if kind.is_socket() => Err(refused("a socket")),
            _ => {
                check_directory(directory_of(&at))?;
                Ok(OutputPath::File(at))
            }
        };
    }
    Err(OutputPathError::Circle { path: path.to_owned() })
}

/// Looks at the path of a directory that is made if it is missing. Writes nothing.
///
/// # Errors
/// If it is no directory, or it or the nearest directory above it cannot be written.
pub fn look_at_directory(path: &Utf8Path) -> Result<(), OutputPathError> {
    let above = path.ancestors().map(|above| match above.as_str() {
        "" => Utf8Path::new("."),
        _ => above,
    });
    for directory in above {
        // A link to nothing is there, but leads to no directory.
        if fs::symlink_metadata(directory).is_ok() {
            return check_directory(directory);
        }
    }
    Ok(())
}

fn check_directory(directory: &Utf8Path) -> Result<(), OutputPathError> {
    let path = directory.to_owned();
    match fs::metadata(directory) {
        Ok(metadata) if !metadata.is_dir() => return Err(OutputPathError::NoDirectory { path }),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(OutputPathError::DirectoryMissing { path });
        }
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            return Err(OutputPathError::NoDirectory { path });
        }
        Err(source) => return Err(OutputPathError::Look { path, source }),
    }
    rustix::fs::access(directory.as_str(), Access::WRITE_OK | Access::EXEC_OK).map_err(|error| {
        OutputPathError::DirectoryClosed {
            path,
            source: error.into(),
        }
    })
}

/// Returns the stream of a path of an open file, as `/dev/stdout` leads to.
fn descriptor_of(path: &Utf8Path) -> Option<OutputPath> {
    let number: u32 = path.file_name()?.parse().ok()?;
    let directory = directory_of(path).canonicalize_utf8().ok()?;
    let own = Utf8PathBuf::from(format!("/proc/{}/fd", std::process::id()));
    let is_descriptor = directory == own || (directory.starts_with("/proc") && directory.ends_with("fd"));
    is_descriptor.then(|| match number {
        1 if directory == own => OutputPath::Stdout,
        _ => OutputPath::Stream(path.to_owned()),
    })
}

impl OutputPath {
    /// Opens a device, a pipe or stdout for writing in order. Blocks until a pipe has a reader.
    ///
    /// # Errors
    /// If the system refuses, or this is a file.
    pub fn open_stream(&self) -> io::Result<Box<dyn Write>> {
        match self {
            OutputPath::Stdout => Ok(Box::new(io::stdout().lock())),
            // Appending matters if the path is that of an open file, whose content stays.
            OutputPath::Stream(path) => Ok(Box::new(fs::OpenOptions::new().append(true).open(path)?)),
            OutputPath::File(path) => Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("`{path}` is a file, which is replaced as a whole"),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_methods, reason = "test set-up")]

    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;

    #[test]
    fn files_and_links_are_replaced_streams_are_written_through_and_the_rest_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let root = Utf8Path::from_path(directory.path()).unwrap();
        std::fs::write(root.join("file"), "x").unwrap();
        std::fs::create_dir(root.join("inner")).unwrap();
        symlink("../file", root.join("inner/link")).unwrap();
        symlink("inner/link", root.join("chain")).unwrap();
        symlink("inner/new", root.join("to-nothing")).unwrap();
        symlink("missing/new", root.join("to-nowhere")).unwrap();
        symlink("circle", root.join("circle")).unwrap();
        let fifo = root.join("fifo");
        mknodat(CWD, fifo.as_str(), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let _socket = UnixListener::bind(root.join("socket")).unwrap();
        let look = |name: &str| look_at_file(&root.join(name));
        for (name, expected) in [
            ("file", "file"),
            ("new", "new"),
            ("chain", "inner/../file"),
            ("to-nothing", "inner/new"),
        ] {
            assert_eq!(look(name).unwrap(), OutputPath::File(root.join(expected)), "{name}");
        }
        assert_eq!(look("fifo").unwrap(), OutputPath::Stream(fifo));
        assert_eq!(
            look_at_file("/dev/null".into()).unwrap(),
            OutputPath::Stream("/dev/null".into())
        );
        for stdout in ["-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"] {
            assert_eq!(look_at_file(stdout.into()).unwrap(), OutputPath::Stdout, "{stdout}");
        }
        for (name, expected) in [
            ("inner", "`ROOT/inner` is a directory, which is never replaced"),
            ("socket", "`ROOT/socket` is a socket, which is never replaced"),
            ("circle", "`ROOT/circle` leads in a circle of links"),
            ("missing/new", "the directory `ROOT/missing` does not exist"),
            ("to-nowhere", "the directory `ROOT/missing` does not exist"),
            ("file/new", "`ROOT/file` is no directory"),
        ] {
            let error = look(name).unwrap_err();
            assert_eq!(error.to_string().replace(root.as_str(), "ROOT"), expected);
            assert!(error.hint().is_some(), "{name}");
        }
        assert!(look_at_directory(&root.join("a/b/c")).is_ok());
        assert!(look_at_directory(&root.join("inner")).is_ok());
        for name in ["file", "file/a", "to-nothing/a", "fifo"] {
            assert!(look_at_directory(&root.join(name)).is_err(), "{name}");
        }
    }
}
