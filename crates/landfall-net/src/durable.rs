//! Files that are either the old one or the new one, whatever happens: write aside, fsync, rename, fsync the directory.

use std::io::{self, Write};

use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use fs_err::os::unix::fs::OpenOptionsExt;

/// Replaces a file with these bytes. Callers see to it that one file is replaced by one thread at a time.
pub fn replace_file(path: &Utf8Path, bytes: &[u8]) -> io::Result<()> {
    replace_file_with_mode(path, bytes, 0o644)
}

/// As [`replace_file`], readable by its owner only from the first instant.
pub fn replace_private_file(path: &Utf8Path, bytes: &[u8]) -> io::Result<()> {
    replace_file_with_mode(path, bytes, 0o600)
}

fn replace_file_with_mode(path: &Utf8Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let aside = Utf8PathBuf::from(format!("{path}.new"));
    match fs::remove_file(&aside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&aside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    publish(&aside, path)
}

/// Makes a file that is on disk already visible under its final name.
pub fn publish(from: &Utf8Path, to: &Utf8Path) -> io::Result<()> {
    fs::rename(from, to)?;
    match to.parent() {
        // What a bare file name has for a parent.
        Some(directory) if directory.as_str().is_empty() => sync_directory(Utf8Path::new(".")),
        Some(directory) => sync_directory(directory),
        None => Ok(()),
    }
}

/// Makes the names in a directory durable.
pub fn sync_directory(directory: &Utf8Path) -> io::Result<()> {
    fs::File::open(directory)?.sync_all()
}
