//! Archives that cannot be used.

use camino::Utf8PathBuf;
use landfall_core::oci_types::ManifestError;
use landfall_core::reference::Digest;

/// Why an archive cannot be used. Each is about one file, which the caller names.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The file cannot be read, or is no tar.
    #[error("cannot read the archive `{archive}`")]
    Read {
        /// The file.
        archive: Utf8PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// An entry is of a kind that no image archive has.
    #[error("the archive has the entry `{entry}`, {problem}")]
    Entry {
        /// The entry's path, as far as it is text.
        entry: String,
        /// What is wrong with it.
        problem: EntryProblem,
    },
    /// Neither kind of archive.
    #[error(
        "the archive has neither `index.json` nor `manifest.json`: it was not made by `docker save`, `ctr images export` or `skopeo`"
    )]
    NoImages,
    /// A part that another one names is missing.
    #[error("the archive has no entry `{entry}`, which `{named_by}` names")]
    Missing {
        /// The part.
        entry: String,
        /// Who names it.
        named_by: String,
    },
    /// A document is not what it must be.
    #[error("the archive's `{entry}` cannot be read as JSON of its kind")]
    Document {
        /// The document.
        entry: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// A manifest is not what it must be.
    #[error("the archive's manifest `{digest}` cannot be read")]
    Manifest {
        /// The manifest.
        digest: Digest,
        /// Why.
        #[source]
        source: ManifestError,
    },
    /// Bytes are not those that their digest names.
    #[error("the archive's `{entry}` has the digest `{found}` where `{expected}` is asked for: the archive is damaged")]
    Damaged {
        /// The part.
        entry: String,
        /// What it should have.
        expected: Digest,
        /// What it has.
        found: Digest,
    },
    /// A configuration and its layers do not fit.
    #[error("the archive's image `{config}` has {layers} layers where its configuration lists {listed}")]
    LayerCount {
        /// The configuration.
        config: String,
        /// How many layers the image has.
        layers: usize,
        /// How many the configuration lists.
        listed: usize,
    },
}

/// What is wrong with an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EntryProblem {
    /// Absolute, or with `..`, or not text.
    #[error("whose path leads out of the archive or is not text")]
    Path,
    /// A device, a pipe, …
    #[error("which is neither a file, a directory nor a link")]
    Kind,
    /// A second one of this path.
    #[error("which is there twice")]
    Duplicate,
    /// A link that leads out of the archive, nowhere, or in a circle.
    #[error("a link that leads to no file in the archive")]
    Link,
    /// Larger than a document may be.
    #[error("which is larger than such a document may be")]
    Size,
    /// There are more entries than an image archive has.
    #[error("and more entries before it than an image archive has")]
    Count,
}
