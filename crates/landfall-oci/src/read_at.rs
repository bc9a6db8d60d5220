//! Bytes that are read at any position, by several readers at the same time.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// A file, several files, or the content of a compressed one.
pub(crate) trait ReadAt {
    /// Reads bytes at a position. May return fewer than asked for; returns none at the end.
    ///
    /// # Errors
    /// If they cannot be read.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Returns the number of bytes.
    ///
    /// # Errors
    /// If it is unknown.
    fn length(&self) -> io::Result<u64>;
}

/// Returns `length`, or `most` if that is less.
pub(crate) fn limit(length: usize, most: u64) -> usize {
    usize::try_from(most).map_or(length, |most| most.min(length))
}

impl ReadAt for File {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(self, buffer, offset)
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }
}
