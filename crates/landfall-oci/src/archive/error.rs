//! Errors of unusable archives.

use std::io;

use camino::Utf8PathBuf;
use landfall_core::oci_types::ManifestError;
use landfall_core::reference::Digest;
use landfall_core::wording::quoted;

use crate::tar_reader::TarError;

/// Error of an unusable archive. Each is about one file, which the caller names.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The file cannot be read, or is not a tar.
    #[error("cannot read the archive `{archive}`")]
    Read {
        archive: Utf8PathBuf,
        #[source]
        source: TarError,
    },
    /// An entry cannot belong to an image archive.
    #[error("the archive has the entry `{entry}`, {problem}")]
    Entry {
        /// The entry's path, lossily decoded.
        entry: String,
        problem: EntryProblem,
    },
    /// The archive has neither `index.json` nor `manifest.json`.
    #[error(
        "the archive has neither `index.json` nor `manifest.json`: it was not made by `docker save`, `ctr images export` or `skopeo`"
    )]
    NoImages,
    /// An entry that another entry names is missing.
    #[error("the archive has no entry `{entry}`, which `{named_by}` names")]
    Missing { entry: String, named_by: String },
    /// A JSON document does not have the expected form.
    #[error("the archive's `{entry}` cannot be read as JSON of its kind")]
    Document {
        entry: String,
        #[source]
        source: serde_json::Error,
    },
    /// A manifest does not have the expected form.
    #[error("the archive's manifest `{digest}` cannot be read")]
    Manifest {
        digest: Digest,
        #[source]
        source: ManifestError,
    },
    /// The content of an entry does not have its digest.
    #[error("the archive's `{entry}` has the digest `{found}` where `{expected}` is asked for: the archive is damaged")]
    Damaged {
        entry: String,
        expected: Digest,
        found: Digest,
    },
    /// The archive cannot be read to its end, because a part of it is damaged.
    #[error("{}", describe_damage(.entry, .images))]
    Part {
        /// The entry that was being read.
        entry: String,
        /// The names of the images with damaged parts, as far as they are known.
        images: Vec<String>,
        #[source]
        source: Box<ArchiveError>,
    },
    /// A layer cannot be decompressed.
    #[error("the archive's layer `{entry}` cannot be decompressed")]
    Layer {
        entry: String,
        #[source]
        source: std::io::Error,
    },
    /// A configuration lists another number of layers than the image has.
    #[error("the archive's image `{config}` has {layers} layers where its configuration lists {listed}")]
    LayerCount {
        config: String,
        layers: usize,
        listed: usize,
    },
}

impl ArchiveError {
    /// Returns true if the file ends too early: it was cut short, or is still being copied.
    #[must_use]
    pub fn is_cut_short(&self) -> bool {
        match self {
            ArchiveError::Read {
                source: TarError::CutShort,
                ..
            } => true,
            ArchiveError::Read {
                source: TarError::Read(error),
                ..
            } => error.kind() == io::ErrorKind::UnexpectedEof,
            _ => false,
        }
    }

    /// Returns true if the file is whole as far as it was read, and no archive of images.
    #[must_use]
    pub fn is_other_file(&self) -> bool {
        matches!(
            self,
            ArchiveError::NoImages
                | ArchiveError::Read {
                    source: TarError::NotTar | TarError::Empty,
                    ..
                }
        )
    }
}

fn describe_damage(entry: &str, images: &[String]) -> String {
    match images {
        [] => format!("the archive is damaged in `{entry}`"),
        images => format!(
            "the archive is damaged in `{entry}`, with content of {}",
            quoted(images)
        ),
    }
}

/// Problem of an archive entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EntryProblem {
    /// The path is absolute or has `..`.
    #[error("whose path leads out of the archive")]
    Path,
    /// The entry is a device, a pipe or the like.
    #[error("which is neither a file, a directory nor a link")]
    Kind,
    /// The link leaves the archive, has no target, or is part of a cycle.
    #[error("a link that leads to no file in the archive")]
    Link,
    /// The document is larger than the limit.
    #[error("which is larger than such a document may be")]
    Size,
    /// A file that was passed over when the archive was read once: it did not look like a part of an image.
    #[error("which is not kept when the archive is read once")]
    Passed,
    /// The archive has more entries than the limit, or longer names.
    #[error("and more or longer names before it than an image archive has")]
    Count,
}
