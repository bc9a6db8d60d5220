//! The content of the current entry of a tar that is read once, with the holes of a sparse file.

use std::io::{self, Read};

use crate::read_at::limit;
use crate::tar_reader::{Part, Segment, TarEntry, TarInput, TarReader, part_at};

/// Reader of an entry's content.
pub(super) struct EntryContent<'a, R> {
    tar: &'a mut TarReader<R>,
    segments: &'a [Segment],
    size: u64,
    offset: u64,
}

impl<'a, R: TarInput> EntryContent<'a, R> {
    pub(super) fn new(tar: &'a mut TarReader<R>, entry: &'a TarEntry) -> EntryContent<'a, R> {
        EntryContent {
            tar,
            segments: &entry.segments,
            size: entry.size,
            offset: 0,
        }
    }
}

impl<R: TarInput> Read for EntryContent<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = match part_at(self.segments, self.offset, self.size) {
            None => 0,
            Some(Part::Stored { length, .. }) => {
                let wanted = limit(buffer.len(), length);
                self.tar.read_data(&mut buffer[..wanted])?
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
