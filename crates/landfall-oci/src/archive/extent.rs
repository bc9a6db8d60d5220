//! Sections of an archive that hold the content of one file.

use std::io::{self, Read};
use std::sync::Arc;

use crate::archive::bytes::ArchiveBytes;
use crate::read_at::{ReadAt, limit};
use crate::tar_reader::{Part, Segment, TarEntry, part_at};

/// A file's content in the archive: one section of it, or several in a sparse file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Extent {
    /// Size in bytes, with the holes of a sparse file.
    pub(super) size: u64,
    segments: Arc<[Segment]>,
}

impl Extent {
    /// Returns the content of an entry.
    pub(super) fn of(entry: &TarEntry) -> Extent {
        Extent {
            size: entry.size,
            segments: entry.segments.as_slice().into(),
        }
    }

    /// Returns a reader of at most `length` bytes from `offset` on.
    pub(super) fn reader_from<'a>(&'a self, bytes: &'a ArchiveBytes, offset: u64, length: u64) -> ExtentReader<'a> {
        let offset = offset.min(self.size);
        ExtentReader {
            bytes,
            extent: self,
            offset,
            end: offset.saturating_add(length).min(self.size),
        }
    }
}

/// Reader of a file's content, which other readers read at the same time. An archive that ends inside the content is an
/// error.
#[derive(Debug)]
pub(super) struct ExtentReader<'a> {
    bytes: &'a ArchiveBytes,
    extent: &'a Extent,
    offset: u64,
    end: u64,
}

impl Read for ExtentReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = match part_at(&self.extent.segments, self.offset, self.end) {
            None => 0,
            Some(Part::Stored { position, length }) => {
                let wanted = limit(buffer.len(), length);
                let read = self.bytes.read_at(&mut buffer[..wanted], position)?;
                if read == 0 && wanted > 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                read
            }
            Some(Part::Hole { length }) => {
                let zeros = limit(buffer.len(), length);
                buffer[..zeros].fill(0);
                zeros
            }
        };
        self.offset += read as u64;
        Ok(read)
    }
}
