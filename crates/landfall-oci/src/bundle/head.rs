//! The head of a bundle: its metadata as entries of a tar.

use std::collections::HashMap;
use std::io::{self, Read};

use bytes::Bytes;
use camino::Utf8Path;
use landfall_core::bundle::document::{
    BundleDocument, CARRIED_PREFIX, DOCUMENT_PATH, DOCUMENT_SIZE_MAX, SIGNATURES_PATH,
};
use landfall_core::reference::Digest;

use super::error::BundleError;
use crate::digest::digest_of;
use crate::inner_path::path_text;
use crate::layout::{LAYOUT_FILE, blob_path};
use crate::tar_header::{BLOCK, header_length, render_header};
use crate::tar_reader::{EntryKind, Skipping, TarEntry, TarError, TarReader};

/// Largest file of the head in bytes, but for the document.
const FILE_SIZE_MAX: u64 = 32 * 1024 * 1024;
/// Largest number of files beside blobs.
const FILES_MAX: usize = 1000;

/// Files of the head, in order.
#[derive(Debug, Default)]
pub(crate) struct HeadWriter(Vec<u8>);

impl HeadWriter {
    /// Adds a file.
    ///
    /// # Errors
    /// If the path cannot be in a tar.
    pub(crate) fn add(&mut self, path: &str, bytes: &[u8]) -> io::Result<()> {
        self.0.extend(render_header(path, bytes.len() as u64)?);
        self.0.extend(bytes);
        let padded = (self.0.len() as u64).next_multiple_of(BLOCK);
        self.0.resize(usize::try_from(padded).map_err(io::Error::other)?, 0);
        Ok(())
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        self.0
    }
}

/// The beginning of a head: all that a decision about trust needs.
#[derive(Debug, Clone)]
pub(crate) struct HeadBeginning {
    pub(crate) document: BundleDocument,
    /// SHA-256 of the document.
    pub(crate) id: Digest,
    /// The bytes that are signed.
    pub(crate) document_bytes: Bytes,
    pub(crate) signatures: Option<Bytes>,
    /// Length of the entries so far in bytes.
    length: u64,
    /// The entry behind them.
    next: Option<(String, Bytes)>,
}

/// The head of a bundle, read.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) beginning: HeadBeginning,
    /// Content of the entries behind the signatures, by path. Not verified yet.
    pub(crate) entries: HashMap<String, Bytes>,
    /// Length of the head's tar entries in bytes.
    pub(crate) length: u64,
}

/// Reads tar entries one by one.
pub(crate) struct HeadReader<'a, R> {
    tar: TarReader<Skipping<R>>,
    path: &'a Utf8Path,
}

impl<'a, R: Read> HeadReader<'a, R> {
    /// Returns a reader; `path` is for messages.
    pub(crate) fn new(path: &'a Utf8Path, input: R) -> HeadReader<'a, R> {
        HeadReader {
            tar: TarReader::new(Skipping(input)),
            path,
        }
    }

    fn failed(&self, error: TarError) -> BundleError {
        let source = match error {
            TarError::Read(error) => error,
            TarError::CutShort => io::Error::new(io::ErrorKind::UnexpectedEof, TarError::CutShort),
            other => io::Error::new(io::ErrorKind::InvalidData, other),
        };
        BundleError::Read {
            path: self.path.to_owned(),
            source,
        }
    }

    fn next(&mut self, size_max: u64) -> Result<Option<(String, Bytes)>, BundleError> {
        let Some(TarEntry { kind, path, size, .. }) = self.tar.next_entry().map_err(|error| self.failed(error))? else {
            return Ok(None);
        };
        let path = path_text(&path);
        if kind != EntryKind::File || size > size_max {
            return Err(self.damaged(&path));
        }
        let mut bytes = Vec::new();
        let mut chunk = vec![0; 64 * 1024];
        loop {
            match self.tar.read_data(&mut chunk).map_err(|error| self.failed(error))? {
                0 => return Ok(Some((path, bytes.into()))),
                length => bytes.extend_from_slice(&chunk[..length]),
            }
        }
    }

    fn damaged(&self, part: &str) -> BundleError {
        BundleError::Head {
            path: self.path.to_owned(),
            part: part.chars().take(200).collect(),
        }
    }

    /// Reads the head.
    ///
    /// # Errors
    /// If the file is no bundle or one of a newer format, or an entry is not the one that the document names.
    pub(crate) fn read(mut self) -> Result<Head, BundleError> {
        let beginning = self.read_beginning()?;
        self.read_rest(beginning)
    }

    /// Reads the document and its signatures.
    fn read_beginning(&mut self) -> Result<HeadBeginning, BundleError> {
        let foreign = || BundleError::Foreign {
            path: self.path.to_owned(),
        };
        let mut length = 0;
        let mut count = |path: &str, bytes: &Bytes| length += entry_length(path, bytes.len() as u64);
        // A file that is no tar at all is as foreign as one with other entries.
        let layout = match self.tar.next_entry() {
            Ok(Some(entry)) if path_text(&entry.path) == LAYOUT_FILE && entry.size < BLOCK => {
                Bytes::from(vec![0; usize::try_from(entry.size).unwrap_or(0)])
            }
            Ok(_) | Err(TarError::NotTar | TarError::Empty | TarError::Compressed(_)) => return Err(foreign()),
            Err(error) => return Err(self.failed(error)),
        };
        count(LAYOUT_FILE, &layout);
        let foreign = || BundleError::Foreign {
            path: self.path.to_owned(),
        };
        let document_bytes = match self.next(DOCUMENT_SIZE_MAX) {
            Ok(Some((path, bytes))) if path == DOCUMENT_PATH => bytes,
            Ok(_) | Err(BundleError::Head { .. }) => return Err(foreign()),
            Err(error) => return Err(error),
        };
        count(DOCUMENT_PATH, &document_bytes);
        let document = BundleDocument::parse(&document_bytes).map_err(|source| BundleError::Document {
            path: self.path.to_owned(),
            source,
        })?;
        let mut next = self.next(FILE_SIZE_MAX)?;
        let signatures = next
            .take_if(|(path, _)| path == SIGNATURES_PATH)
            .map(|(_, bytes)| bytes);
        signatures.iter().for_each(|bytes| count(SIGNATURES_PATH, bytes));
        Ok(HeadBeginning {
            id: digest_of(&document_bytes),
            document,
            document_bytes,
            signatures,
            length,
            next,
        })
    }

    /// Reads the rest of the head.
    fn read_rest(&mut self, mut beginning: HeadBeginning) -> Result<Head, BundleError> {
        let document = &beginning.document;
        if document.files.len() > FILES_MAX {
            return Err(self.damaged(DOCUMENT_PATH));
        }
        let files = document.files.iter().map(|file| (file.path.clone(), file.size));
        let blobs = document.head().map(|blob| (blob_path(&blob.digest), blob.size));
        let mut length = beginning.length;
        let mut entries = HashMap::new();
        let mut next = beginning.next.take();
        for (path, size) in files.chain(blobs) {
            let entry = match next.take() {
                Some(entry) => Some(entry),
                None => self.next(FILE_SIZE_MAX)?,
            };
            match entry {
                Some((found, bytes)) if found == path && bytes.len() as u64 == size => {
                    length += entry_length(&path, size);
                    entries.insert(path, bytes);
                }
                _ => return Err(self.damaged(&path)),
            }
        }
        Ok(Head {
            beginning,
            entries,
            length,
        })
    }
}

/// Returns the length of an entry in bytes, with its headers and its padding.
fn entry_length(path: &str, size: u64) -> u64 {
    header_length(path) + size.next_multiple_of(BLOCK)
}

/// Returns the path of a carried file.
pub(crate) fn carried_path(name: &str) -> String {
    format!("{CARRIED_PREFIX}{name}")
}
