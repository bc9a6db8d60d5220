//! The files of an archive that was read once.

use bytes::Bytes;
use camino::Utf8PathBuf;
use landfall_core::oci_types::Descriptor;

use crate::archive::contents::ContentLocation;
use crate::archive::error::{ArchiveError, EntryProblem};
use crate::archive::files::{ArchiveFiles, DOCUMENT_SIZE_MAX, LocatedLayer, layer_media_type, too_large};
use crate::archive::table::{EntryTable, shortened};
use crate::decode::{Compression, SNIFF_LENGTH, sniff_compression};
use crate::digest::digest_of;
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
        }
    }

    fn location(&self, file: &StreamedFile, path: &str) -> Result<ContentLocation, ArchiveError> {
        match file {
            StreamedFile::Document(bytes) => Ok(ContentLocation::Memory(bytes.clone())),
            StreamedFile::Blob(_) => Ok(ContentLocation::Staged),
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
        };
        let media_type = layer_media_type(compression).ok_or_else(|| passed(path))?;
        Ok((Descriptor::new(media_type, digest, size), self.location(file, path)?))
    }
}
