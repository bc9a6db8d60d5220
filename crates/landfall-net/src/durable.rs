//! Durable files: after a crash a file has its old content or its new one, never a mixture. Each write goes to a
//! temporary file, then fsync, rename, and fsync of the directory.

use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use camino::Utf8Path;
use fs_err as fs;
use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

const NEW_FILE: OFlags = OFlags::WRONLY
    .union(OFlags::CREATE)
    .union(OFlags::EXCL)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// Replaces a file's content. The caller ensures that only one thread at a time replaces a file.
///
/// # Errors
/// Returns an error if the system refuses. The old file is then still there.
pub fn replace_file(path: &Utf8Path, bytes: &[u8]) -> io::Result<()> {
    replace_file_with_mode(path, bytes, 0o644)
}

/// Replaces a file's content like [`replace_file`]. Only the owner can read the new file, from its creation.
///
/// # Errors
/// See [`replace_file`].
pub fn replace_private_file(path: &Utf8Path, bytes: &[u8]) -> io::Result<()> {
    replace_file_with_mode(path, bytes, 0o600)
}

fn replace_file_with_mode(path: &Utf8Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let failed = |error: io::Error| io::Error::new(error.kind(), format!("cannot replace file `{path}`: {error}"));
    let name = path
        .file_name()
        .ok_or_else(|| failed(io::ErrorKind::InvalidInput.into()))?;
    let directory = fs::File::open(directory_of(path))?;
    let aside = format!("{name}.new");
    match rustix::fs::unlinkat(&directory, aside.as_str(), AtFlags::empty()) {
        Err(error) if error != Errno::NOENT => return Err(failed(error.into())),
        _ => {}
    }
    let file = rustix::fs::openat(&directory, aside.as_str(), NEW_FILE, Mode::from_raw_mode(mode))
        .map_err(|error| failed(error.into()))?;
    write_and_rename(directory.as_fd(), &aside, file, name, bytes).map_err(failed)
}

/// Creates a file that only the owner can read, from its creation. A file that is there is not replaced.
///
/// # Errors
/// Returns an error if the system refuses, `AlreadyExists` if the name is taken.
pub fn create_private_file(path: &Utf8Path, bytes: &[u8]) -> io::Result<()> {
    create_file_with_mode(path, bytes, Mode::RUSR | Mode::WUSR)
}

/// Creates a file. One that is there is not replaced.
///
/// # Errors
/// See [`create_private_file`].
pub fn create_file(path: &Utf8Path, bytes: &[u8]) -> io::Result<()> {
    create_file_with_mode(path, bytes, Mode::from_raw_mode(0o644))
}

fn create_file_with_mode(path: &Utf8Path, bytes: &[u8], mode: Mode) -> io::Result<()> {
    let failed = |error: io::Error| io::Error::new(error.kind(), format!("cannot create file `{path}`: {error}"));
    let name = path
        .file_name()
        .ok_or_else(|| failed(io::ErrorKind::InvalidInput.into()))?;
    let directory = fs::File::open(directory_of(path))?;
    let (temporary, file) = create_temporary(directory.as_fd(), name).map_err(failed)?;
    let mut file = std::fs::File::from(file);
    let written = file.write_all(bytes).and_then(|()| {
        rustix::fs::fchmod(&file, mode)?;
        file.sync_all()?;
        Ok(rename_to_new(directory.as_fd(), &temporary, name)?)
    });
    if written.is_err() {
        remove_temporary(directory.as_fd(), &temporary);
    }
    written.map_err(failed)?;
    Ok(rustix::fs::fsync(&directory)?)
}

/// Renames a file of a directory, unless the new name is taken.
fn rename_to_new(directory: BorrowedFd<'_>, from: &str, to: &str) -> rustix::io::Result<()> {
    match rustix::fs::renameat_with(directory, from, directory, to, RenameFlags::NOREPLACE) {
        // NFS knows no such rename, and FAT no link.
        Err(Errno::INVAL | Errno::NOSYS) => {
            rustix::fs::linkat(directory, from, directory, to, AtFlags::empty())?;
            remove_temporary(directory, from);
            Ok(())
        }
        renamed => renamed,
    }
}

/// Replaces a file of an open directory. Only the owner can open the new file until `prepare` has set its mode and
/// owner, which happens before the file has content. Several processes may replace the file at once, because each
/// writes a temporary file of its own.
///
/// # Errors
/// Returns an error if the system refuses. The old file is then still there.
pub fn replace_at(
    directory: BorrowedFd<'_>,
    name: &str,
    content: &[u8],
    prepare: impl FnOnce(BorrowedFd<'_>) -> io::Result<()>,
) -> io::Result<()> {
    let (temporary, file) = create_temporary(directory, name)?;
    if let Err(error) = prepare(file.as_fd()) {
        remove_temporary(directory, &temporary);
        return Err(error);
    }
    write_and_rename(directory, &temporary, file, name, content)
}

/// Creates a temporary file in the same directory that only the owner can open.
fn create_temporary(directory: BorrowedFd<'_>, name: &str) -> io::Result<(String, OwnedFd)> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    loop {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let temporary = format!(".{name}.{}-{number}.landfall", std::process::id());
        match rustix::fs::openat(directory, temporary.as_str(), NEW_FILE, Mode::RUSR | Mode::WUSR) {
            // A killed process with the same id left this file.
            Err(Errno::EXIST) => {}
            other => return Ok((temporary, other?)),
        }
    }
}

fn write_and_rename(
    directory: BorrowedFd<'_>,
    temporary: &str,
    file: OwnedFd,
    name: &str,
    content: &[u8],
) -> io::Result<()> {
    let mut file = std::fs::File::from(file);
    let written = file.write_all(content).and_then(|()| {
        file.sync_all()?;
        Ok(rustix::fs::renameat(directory, temporary, directory, name)?)
    });
    if written.is_err() {
        remove_temporary(directory, temporary);
    }
    written?;
    Ok(rustix::fs::fsync(directory)?)
}

/// Ignores a failure: the caller reports the first error, and a temporary file that stays does no harm.
fn remove_temporary(directory: BorrowedFd<'_>, temporary: &str) {
    let _stays = rustix::fs::unlinkat(directory, temporary, AtFlags::empty());
}

/// Renames a file that is already on disk to its final name, durably.
///
/// # Errors
/// Returns an error if the system refuses.
pub fn publish(from: &Utf8Path, to: &Utf8Path) -> io::Result<()> {
    fs::rename(from, to)?;
    sync_directory(directory_of(to))
}

/// Returns the directory of a path. A bare file name has an empty parent, which means the current directory.
#[must_use]
pub fn directory_of(path: &Utf8Path) -> &Utf8Path {
    match path.parent() {
        Some(directory) if !directory.as_str().is_empty() => directory,
        _ => Utf8Path::new("."),
    }
}

/// Makes the names in a directory durable.
///
/// # Errors
/// Returns an error if the system refuses.
pub fn sync_directory(directory: &Utf8Path) -> io::Result<()> {
    fs::File::open(directory)?.sync_all()
}
