//! Files that are either the old one or the new one, whatever happens: write aside, fsync, rename, fsync the directory.

use std::io::{self, Write};

use camino::Utf8Path;
use fs_err as fs;

/// Replaces a file with these bytes. Callers see to it that one file is replaced by one thread at a time.
pub(crate) fn replace_file(path: &Utf8Path, bytes: &[u8]) -> io::Result<()> {
    let aside = path.with_extension("new");
    let mut file = fs::File::create(&aside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    publish(&aside, path)
}

/// Makes a file that is on disk already visible under its final name.
pub(crate) fn publish(from: &Utf8Path, to: &Utf8Path) -> io::Result<()> {
    fs::rename(from, to)?;
    match to.parent() {
        Some(directory) => sync_directory(directory),
        None => Ok(()),
    }
}

/// Makes the names in a directory durable.
pub(crate) fn sync_directory(directory: &Utf8Path) -> io::Result<()> {
    fs::File::open(directory)?.sync_all()
}
