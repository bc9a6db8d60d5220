//! The plain bytes of an archive: in place if any of them can be read at once, or else in one pass.

use std::io::{self, Read, Seek};

use camino::Utf8Path;
use fs_err as fs;

use crate::decode::seekable::{Seekable, SeekableZstd};
use crate::decode::{CappedDecoder, Compression, SNIFF_LENGTH, sniff_compression};
use crate::pieces::FileSet;
use crate::read_at::ReadAt;

/// Limit of the decompressed size of an archive that is written to a file, in bytes.
const SPOOLED_MAX: u64 = 64 * 1024 * 1024 * 1024;

/// An archive whose bytes can be read at any position.
#[derive(Debug)]
pub(super) enum ArchiveBytes {
    Plain(FileSet),
    Seekable(SeekableZstd),
}

/// An archive, opened.
pub(super) enum ArchiveInput {
    InPlace(ArchiveBytes),
    /// Compressed, or a pipe.
    OnePass(Box<dyn Read + Send>),
}

impl ReadAt for ArchiveBytes {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        match self {
            ArchiveBytes::Plain(file) => file.read_at(buffer, offset),
            ArchiveBytes::Seekable(file) => file.read_at(buffer, offset),
        }
    }

    fn length(&self) -> io::Result<u64> {
        match self {
            ArchiveBytes::Plain(file) => file.length(),
            ArchiveBytes::Seekable(file) => file.length(),
        }
    }
}

impl ArchiveInput {
    /// Opens a file, pieces of a file, or a pipe; `-` is stdin.
    pub(super) fn open(archive: &Utf8Path) -> io::Result<ArchiveInput> {
        if archive == "-" {
            return Ok(ArchiveInput::OnePass(Box::new(io::stdin())));
        }
        if fs::metadata(archive).is_ok_and(|found| !found.is_file() && !found.is_dir()) {
            return Ok(ArchiveInput::OnePass(Box::new(fs::File::open(archive)?)));
        }
        let file = FileSet::open_read(archive)?;
        let mut first = Vec::new();
        file.reader().take(SNIFF_LENGTH as u64).read_to_end(&mut first)?;
        let file = match sniff_compression(&first) {
            Compression::None => return Ok(ArchiveInput::InPlace(ArchiveBytes::Plain(file))),
            Compression::Zstd => match SeekableZstd::open(file)? {
                Seekable::Yes(file) => return Ok(ArchiveInput::InPlace(ArchiveBytes::Seekable(file))),
                Seekable::No(file) => file,
            },
            _ => file,
        };
        Ok(ArchiveInput::OnePass(Box::new(file.into_checked_reader())))
    }

    /// Returns the bytes for random access. Those of a pipe or a compressed archive are written to an unnamed file in
    /// `spool`.
    pub(super) fn into_bytes(self, spool: &Utf8Path) -> io::Result<ArchiveBytes> {
        match self {
            ArchiveInput::InPlace(bytes) => Ok(bytes),
            ArchiveInput::OnePass(reader) => {
                let file = fs::File::from_parts(spool_plain(reader, spool)?, spool);
                Ok(ArchiveBytes::Plain(FileSet::from_file(file)?))
            }
        }
    }
}

/// Decompresses into an unnamed file.
pub(super) fn spool_plain(from: impl Read + Send, spool: &Utf8Path) -> io::Result<std::fs::File> {
    let mut plain = tempfile::tempfile_in(spool).map_err(|error| {
        let why = format!("cannot make a temporary file in `{spool}`: {error}");
        io::Error::new(error.kind(), why)
    })?;
    io::copy(&mut CappedDecoder::new(from, SPOOLED_MAX)?, &mut plain)?;
    plain.rewind()?;
    Ok(plain)
}
