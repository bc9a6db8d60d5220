//! zstd files with a seek table: the content is read at any position, without a decompressed copy on disk. Frames are
//! decompressed one at a time and kept in a bounded cache; stored frames are read in place.
//!
//! A table may lie. Then the bytes of a blob do not have its digest, and a tar header does not have its sum.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex};

use landfall_core::bundle::frame;
use landfall_core::bundle::seek_table::{FOOTER_LENGTH, SeekEntry, SeekFooter, SeekTableError, parse_seek_table};
use landfall_core::sync::lock;

use crate::pieces::FileSet;
use crate::read_at::{ReadAt, limit};

/// Largest content of a frame that is decompressed in memory, in bytes. Frames of the usual writers have 2 to 8 MiB.
const FRAME_MAX: u32 = 64 * 1024 * 1024;
/// Limit of the decompressed frames that are kept, in bytes. A copy reads several blobs at the same time.
const CACHE_MAX: usize = 2 * FRAME_MAX as usize;
/// Limit of a table in bytes: the frames of 2 TiB in frames of 1 MiB.
const TABLE_MAX: u64 = 24 * 1024 * 1024;

/// A zstd file whose content is read at any position.
#[derive(Debug)]
pub(crate) struct SeekableZstd {
    file: FileSet,
    /// Frames with content, in order.
    frames: Vec<Frame>,
    length: u64,
    cache: Mutex<FrameCache>,
}

#[derive(Debug, Clone, Copy)]
struct Frame {
    /// Position in the file.
    position: u64,
    compressed: u32,
    /// Position of its first byte in the content.
    start: u64,
    content: u32,
}

impl Frame {
    fn end(&self) -> u64 {
        self.start + u64::from(self.content)
    }

    /// Returns true if the frame has the length of a stored one. Its header tells for sure.
    fn may_be_stored(&self) -> bool {
        u64::from(self.compressed) == frame::frame_length(u64::from(self.content))
    }

    /// Returns true if the frame can be decompressed in memory. zstd makes nothing longer by more than its
    /// `ZSTD_compressBound`.
    fn fits_in_memory(&self) -> bool {
        const OVERHEAD: u32 = 64 * 1024;
        self.content <= FRAME_MAX && self.compressed <= self.content + self.content / 128 + OVERHEAD
    }
}

/// Decompressed frames by number, the last used one last.
#[derive(Debug, Default)]
struct FrameCache {
    frames: VecDeque<(usize, Arc<[u8]>)>,
    size: usize,
}

/// Result of the look at the end of a zstd file.
#[derive(Debug)]
pub(crate) enum Seekable {
    Yes(SeekableZstd),
    /// No table, or frames that are too large: the file can be decompressed in order only.
    No(FileSet),
}

impl SeekableZstd {
    /// Reads the table at the end of a zstd file.
    ///
    /// # Errors
    /// If the table is damaged or describes another file, or the file cannot be read.
    pub(crate) fn open(file: FileSet) -> io::Result<Seekable> {
        let damaged = |error: SeekTableError| io::Error::new(io::ErrorKind::InvalidData, error);
        let Some(footer_at) = file.len().checked_sub(FOOTER_LENGTH as u64) else {
            return Ok(Seekable::No(file));
        };
        let mut footer = [0; FOOTER_LENGTH];
        file.read_exact_at(&mut footer, footer_at)?;
        let length = match SeekFooter::parse(footer) {
            Ok(footer) => footer.table_length(),
            Err(SeekTableError::None) => return Ok(Seekable::No(file)),
            Err(error) => return Err(damaged(error)),
        };
        let before = file.len().checked_sub(length);
        let before = before.ok_or_else(|| damaged(SeekTableError::Damaged))?;
        if length > TABLE_MAX {
            return Ok(Seekable::No(file));
        }
        let mut table = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
        file.read_exact_at(&mut table, before)?;
        let entries = parse_seek_table(&table, before).map_err(damaged)?;
        let (frames, length) = place_frames(&entries);
        let found = SeekableZstd {
            file,
            frames,
            length,
            cache: Mutex::default(),
        };
        for frame in &found.frames {
            if !frame.fits_in_memory() && !found.is_stored(frame)? {
                return Ok(Seekable::No(found.file));
            }
        }
        Ok(Seekable::Yes(found))
    }

    fn is_stored(&self, frame: &Frame) -> io::Result<bool> {
        if !frame.may_be_stored() {
            return Ok(false);
        }
        let expected = frame::render_header(frame.content);
        let mut header = expected;
        self.file.read_exact_at(&mut header, frame.position)?;
        Ok(header == expected)
    }

    /// Reads from a stored frame, up to the end of a block.
    fn read_stored(&self, frame: &Frame, buffer: &mut [u8], inside: u64) -> io::Result<usize> {
        let wanted = limit(buffer.len(), frame::contiguous_from(u64::from(frame.content), inside));
        let position = frame.position + frame::position_in_frame(inside);
        self.file.read_at(&mut buffer[..wanted], position)
    }

    /// Returns the content of a frame. One frame is decompressed at a time, which bounds the memory.
    fn content_of(&self, number: usize, frame: &Frame) -> io::Result<Arc<[u8]>> {
        let mut cache = lock(&self.cache);
        if let Some(content) = cache.get(number) {
            return Ok(content);
        }
        let mut compressed = vec![0; frame.compressed as usize];
        self.file.read_exact_at(&mut compressed, frame.position)?;
        let content: Arc<[u8]> = decompress(&compressed, frame.content as usize)?.into();
        cache.put(number, content.clone());
        Ok(content)
    }
}

impl ReadAt for SeekableZstd {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let number = self.frames.partition_point(|frame| frame.end() <= offset);
        let Some(frame) = self.frames.get(number) else {
            return Ok(0);
        };
        let inside = offset - frame.start;
        if self.is_stored(frame)? {
            return self.read_stored(frame, buffer, inside);
        }
        let content = self.content_of(number, frame)?;
        let read = limit(buffer.len(), u64::from(frame.content) - inside);
        let from = usize::try_from(inside).unwrap_or(usize::MAX);
        buffer[..read].copy_from_slice(&content[from..from + read]);
        Ok(read)
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.length)
    }
}

impl FrameCache {
    fn get(&mut self, number: usize) -> Option<Arc<[u8]>> {
        let at = self.frames.iter().position(|(known, _)| *known == number)?;
        let found = self.frames.remove(at)?;
        let content = found.1.clone();
        self.frames.push_back(found);
        Some(content)
    }

    fn put(&mut self, number: usize, content: Arc<[u8]>) {
        self.size += content.len();
        self.frames.push_back((number, content));
        while self.size > CACHE_MAX
            && let Some((_, oldest)) = self.frames.pop_front()
        {
            self.size -= oldest.len();
        }
    }
}

/// Returns the frames that have content, and the length of all content.
fn place_frames(entries: &[SeekEntry]) -> (Vec<Frame>, u64) {
    let (mut position, mut start) = (0, 0);
    let mut frames = Vec::with_capacity(entries.len());
    for entry in entries {
        if entry.content > 0 {
            frames.push(Frame {
                position,
                compressed: entry.compressed,
                start,
                content: entry.content,
            });
        }
        position += u64::from(entry.compressed);
        start += u64::from(entry.content);
    }
    (frames, start)
}

/// Decompresses a frame that has exactly `length` bytes. Its window takes no further memory.
fn decompress(compressed: &[u8], length: usize) -> io::Result<Vec<u8>> {
    let content = zstd::bulk::decompress(compressed, length)?;
    match content.len() == length {
        true => Ok(content),
        false => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "a frame has another size than the seek table states",
        )),
    }
}

#[cfg(test)]
mod tests;
