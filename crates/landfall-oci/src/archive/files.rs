//! The files of an archive, as the readers of layouts and of `docker save` need them: indexed in place, or seen in one
//! pass.

use bytes::Bytes;
use landfall_core::lenient;
use landfall_core::oci_types::{Descriptor, media_type};
use serde::de::DeserializeOwned;

use crate::archive::contents::ContentLocation;
use crate::archive::error::{ArchiveError, EntryProblem};
use crate::archive::table::{EntryTable, shortened};
use crate::decode::Compression;

/// The largest JSON document that is read from an archive, in bytes.
pub(super) const DOCUMENT_SIZE_MAX: u64 = 8 * 1024 * 1024;

/// A layer, and the location of its content.
pub(super) type LocatedLayer = (Descriptor, ContentLocation);

/// An archive whose entries are known.
pub(super) trait ArchiveFiles {
    /// Location of a file.
    type File;

    fn table(&self) -> &EntryTable<Self::File>;

    /// Returns the error of content that is not there: an archive without an end mark was cut short.
    fn or_cut_short(&self, missing: ArchiveError) -> ArchiveError;

    /// Reads a file of at most [`DOCUMENT_SIZE_MAX`] bytes; `path` is for messages.
    fn read_file(&self, file: &Self::File, path: &str) -> Result<Bytes, ArchiveError>;

    fn location(&self, file: &Self::File, path: &str) -> Result<ContentLocation, ArchiveError>;

    /// Describes a layer of a `docker save` archive, where names say nothing about the content. Layers should be plain
    /// tars. Some tools write layers that are compressed by gzip or zstd, which stay unchanged. A compression that no
    /// image may have is undone, as `docker load` does.
    fn describe_layer(&self, file: &Self::File, path: &str) -> Result<LocatedLayer, ArchiveError>;

    fn contains(&self, path: &str) -> bool {
        self.table().contains(path)
    }

    /// Returns a file and the path that links lead to.
    fn find<'a>(&'a self, path: &str, named_by: &str) -> Result<(&'a str, &'a Self::File), ArchiveError> {
        self.table().file(path)?.ok_or_else(|| {
            self.or_cut_short(ArchiveError::Missing {
                entry: shortened(path),
                named_by: shortened(named_by),
            })
        })
    }

    /// Returns the bytes of a JSON document.
    fn read_document(&self, path: &str, named_by: &str) -> Result<Bytes, ArchiveError> {
        let (_, file) = self.find(path, named_by)?;
        self.read_file(file, path)
    }

    fn parse_document<T: DeserializeOwned>(&self, path: &str) -> Result<T, ArchiveError> {
        let bytes = self.read_document(path, path)?;
        lenient::from_slice(&bytes).map_err(|source| ArchiveError::Document {
            entry: shortened(path),
            source,
        })
    }
}

/// Returns the error of a document above [`DOCUMENT_SIZE_MAX`].
pub(super) fn too_large(path: &str) -> ArchiveError {
    ArchiveError::Entry {
        entry: shortened(path),
        problem: EntryProblem::Size,
    }
}

/// Returns the media type of a layer that keeps its compression; `None` if it has to be undone.
pub(super) fn layer_media_type(compression: Compression) -> Option<&'static str> {
    match compression {
        Compression::None => Some(media_type::OCI_LAYER),
        Compression::Gzip => Some(media_type::OCI_LAYER_GZIP),
        Compression::Zstd => Some(media_type::OCI_LAYER_ZSTD),
        Compression::Xz | Compression::Bzip2 | Compression::Lz4 => None,
    }
}
