//! A tar's table of contents: the location of each file. Links are resolved inside the table only.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use landfall_core::lenient;
use serde::de::DeserializeOwned;

use crate::archive::error::{ArchiveError, EntryProblem};
use crate::decode::{CappedDecoder, Compression, SNIFF_LENGTH, sniff_compression};
use crate::inner_path::{entry_path, parent_of, path_text, resolve_inside};
use crate::tar_reader::{EntryKind, FileInput, Segment, TarEntry, TarError, TarReader};

/// The largest JSON document that is read from an archive, in bytes.
pub(super) const DOCUMENT_SIZE_MAX: u64 = 8 * 1024 * 1024;
/// Limit of a compressed archive's decompressed size, in bytes.
const ARCHIVE_SIZE_MAX: u64 = 64 * 1024 * 1024 * 1024;
/// Limit of the entries: no archive of images has more.
const ENTRIES_MAX: usize = 100_000;
/// Limit of the memory that the table takes, in bytes: paths, targets of links, and maps of sparse files.
const TABLE_SIZE_MAX: usize = 32 * 1024 * 1024;
/// Limit of a chain of links: no archive of images has a longer one.
const LINKS_MAX: usize = 8;

/// A file's content in the archive: one section of it, or several in a sparse file.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Extent {
    /// Size in bytes, with the holes of a sparse file.
    pub(super) size: u64,
    segments: Arc<[Segment]>,
}

#[derive(Debug)]
enum ArchiveEntry {
    File(Extent),
    /// The target's path from the archive's root; `None` if it leads out of the archive.
    Link(Option<String>),
    /// A device, a pipe or the like.
    Other,
}

/// The table of contents of a file.
#[derive(Debug)]
pub(super) struct ArchiveEntries {
    pub(super) file: Arc<File>,
    entries: HashMap<String, ArchiveEntry>,
    archive: Utf8PathBuf,
    /// Directory of unnamed files.
    spool: Utf8PathBuf,
    /// True if the archive ends without an end mark.
    lacks_end_mark: bool,
}

/// Opens an archive for random access. A compressed archive, or one from a pipe, is written to an unnamed file in
/// `spool` as plain bytes. `-` is stdin.
pub(super) fn open_plain(archive: &Utf8Path, spool: &Utf8Path) -> io::Result<File> {
    if archive == "-" {
        return spool_plain(io::stdin(), spool);
    }
    let (mut file, _path) = fs::File::open(archive)?.into_parts();
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        return Err(io::Error::new(io::ErrorKind::IsADirectory, "it is a directory"));
    }
    if !metadata.is_file() {
        return spool_plain(file, spool);
    }
    let mut first = [0; SNIFF_LENGTH];
    let length = usize::try_from(metadata.len()).map_or(SNIFF_LENGTH, |length| length.min(SNIFF_LENGTH));
    let first = &mut first[..length];
    file.read_exact_at(first, 0)?;
    if sniff_compression(first) == Compression::None {
        return Ok(file);
    }
    spool_plain(&mut file, spool)
}

fn spool_plain(from: impl Read + Send, spool: &Utf8Path) -> io::Result<File> {
    let mut plain = tempfile::tempfile_in(spool)?;
    io::copy(&mut CappedDecoder::new(from, ARCHIVE_SIZE_MAX)?, &mut plain)?;
    plain.rewind()?;
    Ok(plain)
}

impl ArchiveEntries {
    pub(super) fn index(file: File, archive: &Utf8Path, spool: &Utf8Path) -> Result<ArchiveEntries, ArchiveError> {
        let read = |source| ArchiveError::Read {
            archive: archive.to_owned(),
            source,
        };
        let mut entries = HashMap::new();
        let mut reader = TarReader::new(FileInput::new(&file).map_err(|error| read(error.into()))?);
        let mut table_size = 0_usize;
        while let Some(entry) = reader.next_entry().map_err(read)? {
            if entry.kind == EntryKind::Directory {
                continue;
            }
            let path = path_text(&entry.path);
            let refuse = |problem| ArchiveError::Entry {
                entry: shortened(&path),
                problem,
            };
            table_size = table_size.saturating_add(memory_of(&entry));
            if entries.len() >= ENTRIES_MAX || table_size > TABLE_SIZE_MAX {
                return Err(refuse(EntryProblem::Count));
            }
            let path = (!path.starts_with('/'))
                .then(|| entry_path(&path))
                .flatten()
                .ok_or_else(|| refuse(EntryProblem::Path))?;
            let found = match entry.kind {
                EntryKind::File => ArchiveEntry::File(Extent {
                    size: entry.size,
                    segments: entry.segments.into(),
                }),
                EntryKind::Symlink => ArchiveEntry::Link(target_inside(parent_of(&path), &entry.target)),
                EntryKind::HardLink => ArchiveEntry::Link(target_inside("", &entry.target)),
                EntryKind::Directory | EntryKind::Other => ArchiveEntry::Other,
            };
            // A path may be there twice: the later entry replaces the earlier one, as when tar unpacks. GNU tar writes
            // a file that it is given twice as a link to itself.
            let is_itself = matches!(&found, ArchiveEntry::Link(Some(target)) if *target == path);
            if !is_itself || !entries.contains_key(&path) {
                entries.insert(path, found);
            }
        }
        let lacks_end_mark = reader.lacks_end_mark();
        Ok(ArchiveEntries {
            file: Arc::new(file),
            entries,
            archive: archive.to_owned(),
            spool: spool.to_owned(),
            lacks_end_mark,
        })
    }

    pub(super) fn contains(&self, path: &str) -> bool {
        self.entries.contains_key(path)
    }

    /// Returns the location of a file; links are followed.
    pub(super) fn extent(&self, path: &str, named_by: &str) -> Result<Extent, ArchiveError> {
        let missing = || {
            self.or_cut_short(ArchiveError::Missing {
                entry: shortened(path),
                named_by: shortened(named_by),
            })
        };
        let refuse = |problem| ArchiveError::Entry {
            entry: shortened(path),
            problem,
        };
        let mut at = &entry_path(path).ok_or_else(missing)?;
        let mut is_linked = false;
        for _ in 0..LINKS_MAX {
            match self.entries.get(at) {
                Some(ArchiveEntry::File(extent)) => return Ok(extent.clone()),
                Some(ArchiveEntry::Link(Some(target))) => at = target,
                Some(ArchiveEntry::Other) => return Err(refuse(EntryProblem::Kind)),
                None if !is_linked => return Err(missing()),
                Some(ArchiveEntry::Link(None)) | None => break,
            }
            is_linked = true;
        }
        Err(refuse(EntryProblem::Link))
    }

    /// Decompresses a file into an unnamed one.
    pub(super) fn spool_plain(&self, extent: &Extent) -> io::Result<File> {
        spool_plain(self.reader(extent), &self.spool)
    }

    /// Returns the error of content that is not there: an archive without an end mark was cut short.
    pub(super) fn or_cut_short(&self, missing: ArchiveError) -> ArchiveError {
        match self.lacks_end_mark {
            true => self.tar_error(TarError::CutShort),
            false => missing,
        }
    }

    /// Returns the bytes of a JSON document.
    pub(super) fn read_document(&self, path: &str, named_by: &str) -> Result<Bytes, ArchiveError> {
        let extent = self.extent(path, named_by)?;
        if extent.size > DOCUMENT_SIZE_MAX {
            return Err(ArchiveError::Entry {
                entry: shortened(path),
                problem: EntryProblem::Size,
            });
        }
        let mut bytes = Vec::new();
        self.reader(&extent)
            .read_to_end(&mut bytes)
            .map_err(|source| self.read_error(source))?;
        Ok(bytes.into())
    }

    pub(super) fn parse_document<T: DeserializeOwned>(&self, path: &str) -> Result<T, ArchiveError> {
        let bytes = self.read_document(path, path)?;
        lenient::from_slice(&bytes).map_err(|source| ArchiveError::Document {
            entry: shortened(path),
            source,
        })
    }

    pub(super) fn reader<'a>(&'a self, extent: &'a Extent) -> ExtentReader<'a> {
        self.reader_from(extent, 0, extent.size)
    }

    /// Returns a reader of at most `length` bytes from `offset` on.
    pub(super) fn reader_from<'a>(&'a self, extent: &'a Extent, offset: u64, length: u64) -> ExtentReader<'a> {
        let offset = offset.min(extent.size);
        ExtentReader {
            file: &self.file,
            extent,
            offset,
            end: offset.saturating_add(length).min(extent.size),
        }
    }

    pub(super) fn read_error(&self, source: io::Error) -> ArchiveError {
        self.tar_error(source.into())
    }

    fn tar_error(&self, source: TarError) -> ArchiveError {
        ArchiveError::Read {
            archive: self.archive.clone(),
            source,
        }
    }
}

/// Returns the memory that an entry takes in the table, in bytes.
fn memory_of(entry: &TarEntry) -> usize {
    entry.path.len() + entry.target.len() + entry.segments.len() * size_of::<Segment>()
}

fn target_inside(base: &str, target: &[u8]) -> Option<String> {
    let target = path_text(target);
    (!target.starts_with('/'))
        .then(|| resolve_inside(base, &target))
        .flatten()
}

/// Returns a path for a message.
fn shortened(path: &str) -> String {
    const SHOWN_MAX: usize = 200;
    match path.char_indices().nth(SHOWN_MAX) {
        None => path.to_owned(),
        Some((end, _)) => format!("{}…", &path[..end]),
    }
}

/// Reader of a file's content, which other readers read at the same time. An archive that ends inside the content is an
/// error.
#[derive(Debug)]
pub(super) struct ExtentReader<'a> {
    file: &'a File,
    extent: &'a Extent,
    offset: u64,
    end: u64,
}

impl Read for ExtentReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let limit = |length: u64| usize::try_from(length).unwrap_or(usize::MAX).min(buffer.len());
        let segments = &self.extent.segments;
        let next = segments.partition_point(|segment| segment.offset + segment.length <= self.offset);
        let read = match segments.get(next) {
            _ if self.offset == self.end => 0,
            Some(stored) if stored.offset <= self.offset => {
                let inside = self.offset - stored.offset;
                let wanted = limit((stored.length - inside).min(self.end - self.offset));
                let read = self.file.read_at(&mut buffer[..wanted], stored.position + inside)?;
                if read == 0 && wanted > 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                read
            }
            hole => {
                let hole_end = hole.map_or(self.end, |next| next.offset.min(self.end));
                let zeros = limit(hole_end - self.offset);
                buffer[..zeros].fill(0);
                zeros
            }
        };
        self.offset += read as u64;
        Ok(read)
    }
}
