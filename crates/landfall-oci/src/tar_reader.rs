//! Reads tar archives: old, ustar, GNU and pax headers, sparse files. The one reader of layers and of archives. Bounds
//! the memory that headers take, whatever sizes they announce. Holds no content.
//!
//! Leaves the meaning of paths, links and duplicates to its callers.

mod input;
mod pax;
mod sparse;

use std::io;

use tar::{EntryType, Header};

use self::input::EntryData;
use self::pax::PaxRecords;
use crate::decode::name_unread_compression;

pub(crate) use self::input::{FileInput, Skipping, TarInput};
pub(crate) use self::sparse::{Part, Segment, part_at};

/// Unit of tar, in bytes.
const BLOCK_LENGTH: usize = 512;
const BLOCK: u64 = BLOCK_LENGTH as u64;
/// Limit of one entry's extension headers and sparse map together, in bytes. A longest path of Linux has 4 KiB, a
/// longest extended attribute 64 KiB.
pub(crate) const EXTENSIONS_MAX: u64 = 1024 * 1024;

/// Error of an archive that is not a readable tar. Never repeats bytes of the archive.
#[derive(Debug, thiserror::Error)]
pub enum TarError {
    #[error("failed to read")]
    Read(#[source] io::Error),
    #[error("it ends in the middle: it was cut short")]
    CutShort,
    #[error("it is empty")]
    Empty,
    #[error("it is not a tar archive")]
    NotTar,
    /// A compression that is recognised and not supported.
    #[error("it is compressed by {0}, which is not supported")]
    Compressed(&'static str),
    #[error("the tar header at byte {at} is damaged")]
    Header {
        /// Position in the uncompressed archive.
        at: u64,
    },
    #[error("the tar header at byte {at} has {size} bytes of names and attributes; at most {EXTENSIONS_MAX} are read")]
    Extensions {
        /// Position in the uncompressed archive.
        at: u64,
        /// The announced size in bytes.
        size: u64,
    },
    #[error("the map of the sparse file at byte {at} is damaged")]
    SparseMap {
        /// Position of the entry's header in the uncompressed archive.
        at: u64,
    },
}

impl From<TarError> for io::Error {
    fn from(error: TarError) -> io::Error {
        match error {
            TarError::CutShort => io::ErrorKind::UnexpectedEof.into(),
            TarError::Read(error) => error,
            error => io::Error::new(io::ErrorKind::InvalidData, error),
        }
    }
}

impl From<io::Error> for TarError {
    fn from(error: io::Error) -> TarError {
        match error.kind() {
            // A decoder at the end of a compressed stream that is not complete.
            io::ErrorKind::UnexpectedEof => TarError::CutShort,
            _ => TarError::Read(error),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EntryKind {
    File,
    Directory,
    Symlink,
    HardLink,
    /// A device, a pipe, or a kind of another vendor.
    Other,
}

/// An entry of a tar, without its content.
#[derive(Debug, Clone)]
pub(crate) struct TarEntry {
    pub(crate) kind: EntryKind,
    pub(crate) path: Vec<u8>,
    /// Target of a link.
    pub(crate) target: Vec<u8>,
    /// Size of a file's content in bytes, with the holes of a sparse file.
    pub(crate) size: u64,
    /// Stored parts of a file's content in ascending order. Everything between them is zeros.
    pub(crate) segments: Vec<Segment>,
}

/// Iterator over the entries of a tar.
#[derive(Debug)]
pub(crate) struct TarReader<R> {
    input: R,
    /// Bytes of the current entry's data and padding that were not read yet.
    data: EntryData,
    /// Position of the next byte.
    position: u64,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Start,
    Inside,
    /// The input ended without an end mark.
    Unmarked,
    Ended,
}

/// Extension headers that describe the next entry.
#[derive(Debug, Default)]
struct Extensions {
    long_path: Option<Vec<u8>>,
    long_target: Option<Vec<u8>>,
    pax: PaxRecords,
    /// Sum of the headers' sizes in bytes.
    size: u64,
}

impl<R: TarInput> TarReader<R> {
    pub(crate) fn new(input: R) -> TarReader<R> {
        TarReader {
            input,
            data: EntryData::default(),
            position: 0,
            state: State::Start,
        }
    }

    /// Returns true if the input ended without the blocks of zeros that end a tar. Some writers leave them out; else the
    /// archive was cut between two entries.
    pub(crate) fn lacks_end_mark(&self) -> bool {
        self.state == State::Unmarked
    }

    /// Returns the input, which is read up to the end of the archive.
    pub(crate) fn into_input(self) -> R {
        self.input
    }

    /// Returns the next entry; its content can then be read by [`TarReader::read_data`].
    ///
    /// # Errors
    /// If the input is not a tar, is cut short, or has headers beyond the limits.
    pub(crate) fn next_entry(&mut self) -> Result<Option<TarEntry>, TarError> {
        let mut extensions = Extensions::default();
        let mut is_described = false;
        loop {
            self.skip_data()?;
            let at = self.position;
            let Some(header) = self.read_header()? else {
                return match is_described {
                    true => Err(TarError::CutShort),
                    false => Ok(None),
                };
            };
            let damaged = || TarError::Header { at };
            let kind = header.entry_type();
            let size = header.entry_size().map_err(|_repeats_bytes| damaged())?;
            match kind {
                EntryType::GNULongName => {
                    extensions.long_path = Some(self.read_extension(at, size, &mut extensions.size)?)
                }
                EntryType::GNULongLink => {
                    extensions.long_target = Some(self.read_extension(at, size, &mut extensions.size)?);
                }
                // Solaris writes `X` for `x`.
                kind if kind == EntryType::XHeader || kind.as_byte() == b'X' => {
                    let records = self.read_extension(at, size, &mut extensions.size)?;
                    extensions.pax.add(&records).ok_or_else(damaged)?;
                }
                EntryType::XGlobalHeader => {
                    // Describes all entries, and so no name or size: comments, times.
                    self.data = EntryData::new(size).ok_or_else(damaged)?;
                    continue;
                }
                _ => return self.describe(at, &header, size, extensions).map(Some),
            }
            is_described = true;
        }
    }

    /// Reads content of the current entry, as it is stored: without the holes of a sparse file.
    pub(crate) fn read_data(&mut self, buffer: &mut [u8]) -> Result<usize, TarError> {
        let wanted = self.data.limit(buffer.len());
        if wanted == 0 {
            return Ok(0);
        }
        let read = retry(|| self.input.read(&mut buffer[..wanted]))?;
        if read == 0 {
            return Err(TarError::CutShort);
        }
        self.data.take(read as u64);
        self.position += read as u64;
        Ok(read)
    }

    fn skip_data(&mut self) -> Result<(), TarError> {
        let left = self.data.left_with_padding();
        if left == 0 {
            return Ok(());
        }
        let skipped = self.input.skip(left)?;
        self.position += skipped;
        // A writer that is careless at the end of the archive leaves out the padding.
        let is_missing_content = skipped < self.data.left();
        self.data = EntryData::default();
        match is_missing_content {
            true => Err(TarError::CutShort),
            false => Ok(()),
        }
    }

    /// Reads a block, or a part of it if the input ends.
    fn read_block(&mut self) -> Result<([u8; BLOCK_LENGTH], usize), TarError> {
        let mut block = [0; BLOCK_LENGTH];
        let mut length = 0;
        while length < block.len() {
            match retry(|| self.input.read(&mut block[length..]))? {
                0 => break,
                read => length += read,
            }
        }
        self.position += length as u64;
        Ok((block, length))
    }

    fn read_header(&mut self) -> Result<Option<Header>, TarError> {
        if matches!(self.state, State::Ended | State::Unmarked) {
            return Ok(None);
        }
        let at = self.position;
        let (block, length) = self.read_block()?;
        let is_first = std::mem::replace(&mut self.state, State::Inside) == State::Start;
        let header = Header::from_byte_slice(&block);
        if length == 0 {
            self.state = State::Unmarked;
            return match is_first {
                true => Err(TarError::Empty),
                false => Ok(None),
            };
        }
        let no_tar = || match name_unread_compression(&block[..length]) {
            Some(compression) => TarError::Compressed(compression),
            None => TarError::NotTar,
        };
        if length < block.len() {
            let has_magic = header.as_ustar().is_some() || header.as_gnu().is_some();
            return Err(match is_first && !has_magic {
                true => no_tar(),
                false => TarError::CutShort,
            });
        }
        if block.iter().all(|byte| *byte == 0) {
            self.state = State::Ended;
            return Ok(None);
        }
        if !has_right_sum(header) {
            return Err(match is_first {
                true => no_tar(),
                false => TarError::Header { at },
            });
        }
        Ok(Some(header.clone()))
    }

    /// Reads the data of an extension header, within the limit of all headers of an entry.
    fn read_extension(&mut self, at: u64, size: u64, total: &mut u64) -> Result<Vec<u8>, TarError> {
        *total = total.saturating_add(size);
        if *total > EXTENSIONS_MAX {
            return Err(TarError::Extensions { at, size: *total });
        }
        self.data = EntryData::new(size).ok_or(TarError::Header { at })?;
        let mut bytes = Vec::new();
        let mut chunk = [0; 4096];
        loop {
            match self.read_data(&mut chunk)? {
                0 => return Ok(bytes),
                length => bytes.extend_from_slice(&chunk[..length]),
            }
        }
    }

    fn describe(
        &mut self,
        at: u64,
        header: &Header,
        header_size: u64,
        extensions: Extensions,
    ) -> Result<TarEntry, TarError> {
        let damaged = || TarError::Header { at };
        let Extensions {
            long_path,
            long_target,
            pax,
            ..
        } = extensions;
        let long = |name: Option<Vec<u8>>| name.map(until_nul);
        let path = pax
            .sparse_name()
            .or(pax.path())
            .map(<[u8]>::to_vec)
            .or_else(|| long(long_path))
            .unwrap_or_else(|| header.path_bytes().into_owned());
        let target = pax
            .target()
            .map(<[u8]>::to_vec)
            .or_else(|| long(long_target))
            .or_else(|| header.link_name_bytes().map(std::borrow::Cow::into_owned))
            .unwrap_or_default();
        let kind = match header.entry_type() {
            EntryType::Regular | EntryType::Continuous if path.ends_with(b"/") => EntryKind::Directory,
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => EntryKind::File,
            // `D`: a directory of GNU tar's incremental archives, with a list as its data.
            kind if kind == EntryType::Directory || kind.as_byte() == b'D' => EntryKind::Directory,
            EntryType::Symlink => EntryKind::Symlink,
            EntryType::Link => EntryKind::HardLink,
            _ => EntryKind::Other,
        };
        // The size of an entry that has only a header means nothing, as in Go's archive/tar.
        let has_data = !matches!(
            header.entry_type(),
            EntryType::Link
                | EntryType::Symlink
                | EntryType::Char
                | EntryType::Block
                | EntryType::Directory
                | EntryType::Fifo
        );
        let stored = match pax.size() {
            _ if !has_data => 0,
            Some(size) => size.ok_or_else(damaged)?,
            None => header_size,
        };
        let mut content = sparse::SparseContent::whole(stored);
        let map_damaged = || TarError::SparseMap { at };
        if header.entry_type() == EntryType::GNUSparse {
            content = self.read_old_map(at, header)?;
            self.data = EntryData::new(stored).ok_or_else(damaged)?;
        } else {
            self.data = EntryData::new(stored).ok_or_else(damaged)?;
            if pax.has_stored_map() {
                content = self.read_stored_map(at, &pax)?;
            } else if let Some(map) = pax.sparse_map() {
                content = map.ok_or_else(map_damaged)?;
            }
        }
        let segments = content
            .locate(self.position, self.data.left())
            .ok_or_else(map_damaged)?;
        Ok(TarEntry {
            kind,
            path,
            target,
            size: content.size,
            segments,
        })
    }

    /// Reads the map of a sparse file in GNU tar's old form: in the header, and in blocks that follow it.
    fn read_old_map(&mut self, at: u64, header: &Header) -> Result<sparse::SparseContent, TarError> {
        let damaged = || TarError::SparseMap { at };
        let gnu = header.as_gnu().ok_or_else(damaged)?;
        let mut content = sparse::SparseContent::holes(gnu.real_size().map_err(|_repeats_bytes| damaged())?);
        content.add_headers(&gnu.sparse).ok_or_else(damaged)?;
        let mut is_extended = gnu.is_extended();
        let mut size = 0;
        while is_extended {
            size += BLOCK;
            if size > EXTENSIONS_MAX {
                return Err(TarError::Extensions { at, size });
            }
            let (block, length) = self.read_block()?;
            if length < block.len() {
                return Err(TarError::CutShort);
            }
            let mut more = tar::GnuExtSparseHeader::new();
            more.as_mut_bytes().copy_from_slice(&block);
            content.add_headers(more.sparse()).ok_or_else(damaged)?;
            is_extended = more.is_extended();
        }
        Ok(content)
    }

    /// Reads the map of a sparse file in pax form 1.0: decimal numbers on lines of their own before the content.
    fn read_stored_map(&mut self, at: u64, pax: &PaxRecords) -> Result<sparse::SparseContent, TarError> {
        let damaged = || TarError::SparseMap { at };
        let mut content = sparse::SparseContent::holes(pax.sparse_size().ok_or_else(damaged)?);
        let mut lines = sparse::MapLines::default();
        let mut size = 0;
        while !lines.is_complete() {
            size += BLOCK;
            if size > EXTENSIONS_MAX {
                return Err(TarError::Extensions { at, size });
            }
            let mut block = [0; BLOCK_LENGTH];
            let mut length = 0;
            while length < block.len() {
                match self.read_data(&mut block[length..])? {
                    0 => return Err(damaged()),
                    read => length += read,
                }
            }
            lines.add(&block).ok_or_else(damaged)?;
        }
        lines.add_to(&mut content).ok_or_else(damaged)?;
        Ok(content)
    }
}

/// Calls a read again that a signal interrupted.
fn retry(mut read: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match read() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

fn until_nul(mut name: Vec<u8>) -> Vec<u8> {
    if let Some(end) = name.iter().position(|byte| *byte == 0) {
        name.truncate(end);
    }
    name
}

/// Returns true if the header has the sum that it states. Old tars add the bytes as signed numbers.
fn has_right_sum(header: &Header) -> bool {
    let Ok(stated) = header.cksum() else { return false };
    let bytes = header.as_bytes();
    let counted = || bytes[..148].iter().chain(&[b' '; 8]).chain(&bytes[156..]);
    let sum: u32 = counted().map(|byte| u32::from(*byte)).sum();
    let signed_sum: i64 = counted().map(|byte| i64::from(byte.cast_signed())).sum();
    sum == stated || signed_sum == i64::from(stated)
}

/// Totals of a tar.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TarSummary {
    pub entries: usize,
    /// Bytes of all paths and of all targets of links.
    pub names: usize,
}

/// Reads a tar to its end, without its content.
///
/// # Errors
/// If it is not a tar, is cut short, or has headers beyond the limits.
pub fn summarize(input: impl io::Read) -> Result<TarSummary, TarError> {
    let mut reader = TarReader::new(Skipping(input));
    let mut summary = TarSummary::default();
    while let Some(entry) = reader.next_entry()? {
        summary.entries += 1;
        summary.names += entry.path.len() + entry.target.len();
    }
    Ok(summary)
}

#[cfg(test)]
mod tests;
