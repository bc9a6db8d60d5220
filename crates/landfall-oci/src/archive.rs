//! Images in tar archives, as `docker save`, `ctr images export`, `skopeo copy … oci-archive:` and `docker-archive:`
//! write them. Nothing is ever unpacked: an archive is indexed once, and its parts are read in place.
//!
//! Decides what an archive holds and whether it can be trusted to be what it says. Does not decide where images go.

mod contents;
mod docker;
mod entries;
mod error;
mod oci;
mod source;

use std::sync::Arc;

use camino::Utf8Path;
use landfall_core::oci_types::Descriptor;
use landfall_core::reference::Digest;

use crate::archive::contents::PartialIndex;
use crate::archive::entries::Entries;
use crate::archive::source::ArchiveSource;
use crate::image::ImageSource;

pub use crate::archive::error::{ArchiveError, EntryProblem};

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

#[cfg(test)]
mod tests;
