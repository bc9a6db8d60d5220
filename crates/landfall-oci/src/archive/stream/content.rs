//! The content of the current entry of a tar that is read once, with the holes of a sparse file.

use std::io::{self, Read};

use crate::tar_reader::{Segment, TarEntry, TarInput, TarReader};

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
        let limit = |length: u64| usize::try_from(length).unwrap_or(usize::MAX).min(buffer.len());
        let next = self
            .segments
            .partition_point(|segment| segment.offset + segment.length <= self.offset);
        let read = match self.segments.get(next) {
            _ if self.offset == self.size => 0,
            Some(stored) if stored.offset <= self.offset => {
                let wanted = limit(stored.offset + stored.length - self.offset);
                self.tar.read_data(&mut buffer[..wanted])?
            }
            hole => {
                let zeros = limit(hole.map_or(self.size, |next| next.offset) - self.offset);
                buffer[..zeros].fill(0);
                zeros
            }
        };
        self.offset += read as u64;
        Ok(read)
    }
}
