//! Inputs of the tar reader: streams, which are read to be skipped, and files, where a position is set.

use std::io::{self, Read};

use super::BLOCK;
use crate::read_at::{ReadAt, limit};

/// A source of bytes that the reader can skip.
pub(crate) trait TarInput: Read {
    /// Skips bytes. Returns fewer if the input ends before.
    ///
    /// # Errors
    /// If the input cannot be read.
    fn skip(&mut self, bytes: u64) -> io::Result<u64>;
}

/// A stream. Skipped bytes are read.
#[derive(Debug)]
pub(crate) struct Skipping<R>(pub(crate) R);

impl<R: Read> Read for Skipping<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl<R: Read> TarInput for Skipping<R> {
    fn skip(&mut self, bytes: u64) -> io::Result<u64> {
        io::copy(&mut self.0.by_ref().take(bytes), &mut io::sink())
    }
}

/// A file, read from its beginning. The file's own position stays.
#[derive(Debug)]
pub(crate) struct FileInput<'a, F> {
    file: &'a F,
    position: u64,
    length: u64,
}

impl<F: ReadAt> FileInput<'_, F> {
    /// # Errors
    /// If the file's length is unknown.
    pub(crate) fn new(file: &F) -> io::Result<FileInput<'_, F>> {
        Ok(FileInput {
            file,
            position: 0,
            length: file.length()?,
        })
    }
}

impl<F: ReadAt> Read for FileInput<'_, F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buffer, self.position)?;
        self.position += read as u64;
        Ok(read)
    }
}

impl<F: ReadAt> TarInput for FileInput<'_, F> {
    fn skip(&mut self, bytes: u64) -> io::Result<u64> {
        let skipped = bytes.min(self.length.saturating_sub(self.position));
        self.position += skipped;
        Ok(skipped)
    }
}

/// Data of an entry that was not read yet, and the padding after it, in bytes.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct EntryData {
    left: u64,
    padding: u64,
}

impl EntryData {
    /// Returns `None` if the size cannot be that of an entry.
    pub(super) fn new(size: u64) -> Option<EntryData> {
        let padded = size.checked_next_multiple_of(BLOCK)?;
        // Positions are signed numbers in every system call.
        i64::try_from(padded).ok()?;
        Some(EntryData {
            left: size,
            padding: padded - size,
        })
    }

    pub(super) fn left(self) -> u64 {
        self.left
    }

    pub(super) fn left_with_padding(self) -> u64 {
        self.left + self.padding
    }

    pub(super) fn limit(self, wanted: usize) -> usize {
        limit(wanted, self.left)
    }

    pub(super) fn take(&mut self, bytes: u64) {
        self.left -= bytes;
    }
}
