//! The files of an archive that was read once.

use std::collections::HashSet;

use bytes::Bytes;
use camino::Utf8PathBuf;
use landfall_core::oci_types::{Descriptor, parse_manifest};
use landfall_core::reference::Digest;

use crate::archive::choice::entry_names;
use crate::archive::contents::ContentLocation;
use crate::archive::error::{ArchiveError, EntryProblem};
use crate::archive::files::{ArchiveFiles, DOCUMENT_SIZE_MAX, LocatedLayer, layer_media_type, too_large};
use crate::archive::table::{EntryTable, shortened};
use crate::decode::{Compression, SNIFF_LENGTH, sniff_compression};
use crate::digest::digest_of;
use crate::layout_files::{INDEX, blob_path};
use crate::store::index::IndexFile;
use crate::tar_reader::TarError;

/// A file of the archive.
#[derive(Debug, Clone)]
pub(super) enum StreamedFile {
    /// A manifest or another document, in memory only.
    Document(Bytes),
    /// Content that was staged.
    Blob(StagedBlob),
    /// A file that does not look like a part of an image.
    Passed {
        /// In bytes.
        size: u64,
    },
    /// A small blob whose bytes are wrong.
    Damaged { expected: Digest, found: Digest },
}

/// Content that was staged.
#[derive(Debug, Clone)]
pub(super) struct StagedBlob {
    pub(super) blob: Descriptor,
    pub(super) compression: Compression,
    /// The same bytes in memory: a configuration in a directory of blobs may be one of `docker save`.
    pub(super) document: Option<Bytes>,
}

/// The files of an archive that was read once.
#[derive(Debug)]
pub(super) struct StreamedFiles {
    pub(super) archive: Utf8PathBuf,
    pub(super) table: EntryTable<StreamedFile>,
    pub(super) lacks_end_mark: bool,
}

fn passed(path: &str) -> ArchiveError {
    ArchiveError::Entry {
        entry: shortened(path),
        problem: EntryProblem::Passed,
    }
}

fn damaged(path: &str, expected: &Digest, found: &Digest) -> ArchiveError {
    ArchiveError::Damaged {
        entry: shortened(path),
        expected: expected.clone(),
        found: found.clone(),
    }
}

impl StreamedFiles {
    /// Returns the names of the images with one of these blobs, as far as the archive's documents have been read.
    pub(super) fn images_with(&self, blobs: &HashSet<Digest>) -> Vec<String> {
        let root = self.table.layout_root().unwrap_or_default();
        let Ok(index) = self.parse_document::<IndexFile>(&format!("{root}{INDEX}")) else {
            return Vec::new();
        };
        let mut names = Vec::new();
        for image in &index.manifests {
            let (mut pending, mut seen) = (vec![image.digest.clone()], HashSet::new());
            while let Some(digest) = pending.pop() {
                if blobs.contains(&digest) {
                    names.extend(entry_names(image).all.into_iter().next());
                    break;
                }
                let path = format!("{root}{}", blob_path(&digest));
                if let Ok(bytes) = self.read_document(&path, &path)
                    && let Ok(content) = parse_manifest(&bytes)
                {
                    let below = content.children().map(|child| child.digest.clone());
                    pending.extend(below.filter(|digest| seen.insert(digest.clone())));
                }
            }
        }
        names
    }
}

impl ArchiveFiles for StreamedFiles {
    type File = StreamedFile;

    fn table(&self) -> &EntryTable<StreamedFile> {
        &self.table
    }

    fn or_cut_short(&self, missing: ArchiveError) -> ArchiveError {
        match self.lacks_end_mark {
            true => ArchiveError::Read {
                archive: self.archive.clone(),
                source: TarError::CutShort,
            },
            false => missing,
        }
    }

    fn read_file(&self, file: &StreamedFile, path: &str) -> Result<Bytes, ArchiveError> {
        match file {
            StreamedFile::Document(bytes) => Ok(bytes.clone()),
            StreamedFile::Blob(staged) if staged.blob.size > DOCUMENT_SIZE_MAX => Err(too_large(path)),
            StreamedFile::Passed { size } if *size > DOCUMENT_SIZE_MAX => Err(too_large(path)),
            StreamedFile::Blob(staged) => staged.document.clone().ok_or_else(|| passed(path)),
            StreamedFile::Passed { .. } => Err(passed(path)),
            StreamedFile::Damaged { expected, found } => Err(damaged(path, expected, found)),
        }
    }

    fn location(&self, file: &StreamedFile, path: &str) -> Result<ContentLocation, ArchiveError> {
        match file {
            StreamedFile::Document(bytes) => Ok(ContentLocation::Memory(bytes.clone())),
            // Of a damaged blob, the source tells so when it is asked for it.
            StreamedFile::Blob(_) | StreamedFile::Damaged { .. } => Ok(ContentLocation::Staged),
            StreamedFile::Passed { .. } => Err(passed(path)),
        }
    }

    fn describe_layer(&self, file: &StreamedFile, path: &str) -> Result<LocatedLayer, ArchiveError> {
        let (digest, size, compression) = match file {
            StreamedFile::Document(bytes) => {
                let first = &bytes[..bytes.len().min(SNIFF_LENGTH)];
                (digest_of(bytes), bytes.len() as u64, sniff_compression(first))
            }
            StreamedFile::Blob(staged) => (staged.blob.digest.clone(), staged.blob.size, staged.compression),
            StreamedFile::Passed { .. } => return Err(passed(path)),
            StreamedFile::Damaged { expected, found } => return Err(damaged(path, expected, found)),
        };
        let media_type = layer_media_type(compression).ok_or_else(|| passed(path))?;
        Ok((Descriptor::new(media_type, digest, size), self.location(file, path)?))
    }
}
