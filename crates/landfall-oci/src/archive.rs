//! Images in tar archives, as `docker save`, `ctr images export`, `skopeo copy … oci-archive:` and `docker-archive:`
//! write them. Nothing is ever unpacked: an archive is indexed once, and its parts are read in place.
//!
//! Decides what an archive holds and whether it can be trusted to be what it says. Does not decide where images go.

mod docker;
mod entries;
mod oci;
mod source;

use std::collections::HashMap;
use std::sync::Arc;

use camino::{Utf8Path, Utf8PathBuf};
use landfall_core::oci_types::{Descriptor, ManifestError};
use landfall_core::reference::Digest;

use crate::archive::entries::Entries;
use crate::archive::source::ArchiveSource;
use crate::companions::Companions;
use crate::image::ImageSource;

/// The largest JSON document that is read from an archive, in bytes.
const DOCUMENT_SIZE_MAX: u64 = 8 * 1024 * 1024;
/// What a compressed archive may grow to, in bytes.
const ARCHIVE_SIZE_MAX: u64 = 64 * 1024 * 1024 * 1024;

/// One image of an archive.
#[derive(Debug, Clone)]
pub struct ArchiveImage {
    /// The names that the archive gives it, as they are written there; none for an image without a name.
    pub names: Vec<String>,
    /// Its manifest or index.
    pub root: Descriptor,
    /// The digest that the archive gives it, where [`open_whole_images`] narrowed it to what is there.
    pub narrowed_from: Option<Digest>,
    /// Where it is read from: by the digest of [`ArchiveImage::root`], and everything that it names.
    pub source: Arc<dyn ImageSource>,
}

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

/// What becomes of an index that the archive holds a part of: an export of one platform has the whole index, and the
/// content of that platform only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum PartialIndex {
    /// It stays what it is.
    #[default]
    Kept,
    /// It names what is there only. Its digest changes with that.
    Narrowed,
}

/// Lists the images of an archive, plain, gzip or zstd. A compressed one is decompressed into a file without a name in
/// `spool` first. Layers of a `docker save` archive are read once, for their digests. Blocks: call it on a blocking
/// thread.
///
/// An index of which the archive holds a part stays what it is, so that its digest and what was signed stay valid; what is
/// not there is known to the image's source ([`ImageSource::lacks`]).
///
/// # Errors
/// When the file cannot be read, or is not an archive of images, or one of them has no whole manifest in it.
pub fn open_archive(archive: &Utf8Path, spool: &Utf8Path) -> Result<Vec<ArchiveImage>, ArchiveError> {
    open(archive, spool, PartialIndex::Kept)
}

/// Lists the images of an archive as [`open_archive`] does, for places that hold whole images only: an index of which the
/// archive holds a part is narrowed to that part, and [`ArchiveImage::narrowed_from`] is for the caller to tell.
///
/// # Errors
/// Those of [`open_archive`].
pub fn open_whole_images(archive: &Utf8Path, spool: &Utf8Path) -> Result<Vec<ArchiveImage>, ArchiveError> {
    open(archive, spool, PartialIndex::Narrowed)
}

fn open(archive: &Utf8Path, spool: &Utf8Path, partial: PartialIndex) -> Result<Vec<ArchiveImage>, ArchiveError> {
    let read = |source| ArchiveError::Read {
        archive: archive.to_owned(),
        source,
    };
    let file = entries::open_plain(archive, spool).map_err(read)?;
    let entries = Entries::index(file, archive)?;
    let names = docker::list_images(&entries)?;
    let has_layout = entries.contains(oci::INDEX);
    let found = match (has_layout, names) {
        (true, names) => oci::read_images(&entries, &names.unwrap_or_default(), partial)?,
        (false, Some(listed)) => docker::read_images(&entries, &listed)?,
        (false, None) => return Err(ArchiveError::NoImages),
    };
    let described = archive.file_name().unwrap_or(archive.as_str()).to_owned();
    let (source, images) = ArchiveSource::new(described, entries, found);
    Ok(images
        .into_iter()
        .map(|image| ArchiveImage {
            names: image.names,
            source: Arc::new(source.for_image(&image.root)),
            root: image.root,
            narrowed_from: image.narrowed_from,
        })
        .collect())
}

/// What an archive was found to hold.
#[derive(Debug, Default)]
struct Found {
    partial: PartialIndex,
    images: Vec<FoundImage>,
    contents: source::Contents,
    companions: Companions,
    /// Manifests that were looked for, and what they became.
    placed: HashMap<Digest, Option<oci::Content>>,
}

/// One image, as far as it is known without a source to read it from.
#[derive(Debug)]
struct FoundImage {
    names: Vec<String>,
    root: Descriptor,
    narrowed_from: Option<Digest>,
}

#[cfg(test)]
mod tests;
