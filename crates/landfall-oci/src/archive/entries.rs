//! A tar's table of contents: the location of each file. Links are resolved inside the table only.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use camino::Utf8Path;
use fs_err as fs;
use serde::de::DeserializeOwned;

use crate::archive::error::{ArchiveError, EntryProblem};
use crate::decode::{CappedDecoder, Compression, sniff_compression};
use crate::inner_path::{entry_path, parent_of, resolve_inside};

/// The largest JSON document that is read from an archive, in bytes.
pub(super) const DOCUMENT_SIZE_MAX: u64 = 8 * 1024 * 1024;
/// Limit of a compressed archive's decompressed size, in bytes.
const ARCHIVE_SIZE_MAX: u64 = 64 * 1024 * 1024 * 1024;
/// Limit of the entries: no archive of images has more.
const ENTRIES_MAX: usize = 100_000;
/// Limit of a chain of links: no archive of images has a longer one.
const LINKS_MAX: usize = 8;

/// A section of the archive's file, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Extent {
    pub(super) offset: u64,
    pub(super) size: u64,
}

#[derive(Debug)]
enum ArchiveEntry {
    File(Extent),
    /// The target's path from the archive's root.
    Link(String),
}

/// The table of contents of a file.
#[derive(Debug)]
pub(super) struct ArchiveEntries {
    pub(super) file: Arc<File>,
    entries: HashMap<String, ArchiveEntry>,
    archive: camino::Utf8PathBuf,
}

/// Opens an archive for random access. A compressed archive is decompressed into an unnamed file.
pub(super) fn open_plain(archive: &Utf8Path, spool: &Utf8Path) -> io::Result<File> {
    let (mut file, _path) = fs::File::open(archive)?.into_parts();
    let mut first = [0; 4];
    let length = file.metadata()?.len().min(4);
    let first = &mut first[..usize::try_from(length).expect("at most 4")];
    file.read_exact_at(first, 0)?;
    if sniff_compression(first) == Compression::None {
        return Ok(file);
    }
    let mut plain = tempfile::tempfile_in(spool)?;
    io::copy(&mut CappedDecoder::new(&mut file, ARCHIVE_SIZE_MAX)?, &mut plain)?;
    plain.rewind()?;
    Ok(plain)
}

impl ArchiveEntries {
    pub(super) fn index(file: File, archive: &Utf8Path) -> Result<ArchiveEntries, ArchiveError> {
        let read = |source| ArchiveError::Read {
            archive: archive.to_owned(),
            source,
        };
        let mut entries = HashMap::new();
        for entry in tar::Archive::new(&file).entries_with_seek().map_err(read)? {
            let entry = entry.map_err(read)?;
            let raw_path = entry.path_bytes();
            let shown = || String::from_utf8_lossy(&raw_path).into_owned();
            let refuse = |problem| ArchiveError::Entry {
                entry: shown(),
                problem,
            };
            if entries.len() >= ENTRIES_MAX {
                return Err(refuse(EntryProblem::Count));
            }
            let path = std::str::from_utf8(&raw_path)
                .ok()
                .filter(|path| !path.starts_with('/'))
                .and_then(entry_path)
                .ok_or_else(|| refuse(EntryProblem::Path))?;
            let kind = entry.header().entry_type();
            let target = || {
                let target = entry.link_name_bytes()?;
                let target = std::str::from_utf8(&target).ok()?.to_owned();
                let base = if kind.is_symlink() { parent_of(&path) } else { "" };
                (!target.starts_with('/'))
                    .then(|| resolve_inside(base, &target))
                    .flatten()
            };
            let found = match kind {
                tar::EntryType::Directory => continue,
                tar::EntryType::XGlobalHeader => continue,
                tar::EntryType::Regular | tar::EntryType::Continuous => ArchiveEntry::File(Extent {
                    offset: entry.raw_file_position(),
                    size: entry.size(),
                }),
                tar::EntryType::Symlink | tar::EntryType::Link => {
                    ArchiveEntry::Link(target().ok_or_else(|| refuse(EntryProblem::Link))?)
                }
                _ => return Err(refuse(EntryProblem::Kind)),
            };
            if entries.insert(path, found).is_some() {
                return Err(refuse(EntryProblem::Duplicate));
            }
        }
        Ok(ArchiveEntries {
            file: Arc::new(file),
            entries,
            archive: archive.to_owned(),
        })
    }

    pub(super) fn contains(&self, path: &str) -> bool {
        self.entries.contains_key(path)
    }

    /// Returns the location of a file; links are followed.
    pub(super) fn extent(&self, path: &str, named_by: &str) -> Result<Extent, ArchiveError> {
        let missing = || ArchiveError::Missing {
            entry: path.to_owned(),
            named_by: named_by.to_owned(),
        };
        let mut at = entry_path(path).ok_or_else(missing)?;
        for _ in 0..LINKS_MAX {
            match self.entries.get(&at) {
                Some(ArchiveEntry::File(extent)) => return Ok(*extent),
                Some(ArchiveEntry::Link(target)) => at.clone_from(target),
                None if at == path => return Err(missing()),
                None => break,
            }
        }
        Err(ArchiveError::Entry {
            entry: path.to_owned(),
            problem: EntryProblem::Link,
        })
    }

    /// Returns the bytes of a JSON document.
    pub(super) fn read_document(&self, path: &str, named_by: &str) -> Result<Bytes, ArchiveError> {
        let extent = self.extent(path, named_by)?;
        if extent.size > DOCUMENT_SIZE_MAX {
            return Err(ArchiveError::Entry {
                entry: path.to_owned(),
                problem: EntryProblem::Size,
            });
        }
        let mut bytes = Vec::new();
        self.reader(extent)
            .read_to_end(&mut bytes)
            .map_err(|source| self.read_error(source))?;
        Ok(bytes.into())
    }

    pub(super) fn parse_document<T: DeserializeOwned>(&self, path: &str) -> Result<T, ArchiveError> {
        let bytes = self.read_document(path, path)?;
        serde_json::from_slice(&bytes).map_err(|source| ArchiveError::Document {
            entry: path.to_owned(),
            source,
        })
    }

    pub(super) fn reader(&self, extent: Extent) -> ExtentReader<'_> {
        ExtentReader {
            file: &self.file,
            extent,
        }
    }

    pub(super) fn read_error(&self, source: io::Error) -> ArchiveError {
        ArchiveError::Read {
            archive: self.archive.clone(),
            source,
        }
    }
}

/// Reader of a section of a file, which other readers use at the same time. A file that ends inside the section is an
/// error.
#[derive(Debug)]
pub(super) struct ExtentReader<'a> {
    file: &'a File,
    extent: Extent,
}

impl Read for ExtentReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = buffer
            .len()
            .min(usize::try_from(self.extent.size).unwrap_or(usize::MAX));
        if wanted == 0 {
            return Ok(0);
        }
        let read = self.file.read_at(&mut buffer[..wanted], self.extent.offset)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.extent.offset += read as u64;
        self.extent.size -= read as u64;
        Ok(read)
    }
}
