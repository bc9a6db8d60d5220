//! Images in tar archives [spec:bundles.sources], as `docker save`, `ctr images export`, `skopeo copy … oci-archive:` and
//! `docker-archive:`, Palette, hauler and zarf write them. Nothing is unpacked: an archive is indexed once, and its
//! entries are read in place. A compressed one without a seek table is read in one pass by [`stream`].
//!
//! Finds the images of an archive and verifies them. Does not decide where images go.

mod bytes;
pub(crate) mod choice;
mod contents;
mod docker;
mod entries;
mod error;
mod extent;
mod files;
mod oci;
mod source;
pub mod stream;
mod table;

use std::io::{self, Read as _};
use std::sync::Arc;

use camino::Utf8Path;
use landfall_core::oci_types::Descriptor;
use landfall_core::reference::Digest;

use crate::archive::bytes::{ArchiveBytes, ArchiveInput};
use crate::archive::contents::{ArchiveContents, PartialIndex};
use crate::archive::entries::ArchiveEntries;
use crate::archive::files::ArchiveFiles;
use crate::archive::source::{ArchiveSource, ContentHolder};
use crate::decode::{Compression, SNIFF_LENGTH, sniff_compression};
use crate::image::ImageSource;
use crate::pieces::FileSet;
use crate::tar_header::BLOCK;

pub use crate::archive::choice::{ChoiceError, choose_image};
pub use crate::archive::error::{ArchiveError, EntryProblem};

/// Mark in the header of a tar, and its position.
const TAR_MAGIC: &[u8] = b"ustar";
const TAR_MAGIC_AT: usize = 257;

/// One image of an archive.
#[derive(Debug, Clone)]
pub struct ArchiveImage {
    /// The image's names, exactly as the archive writes them; empty for an image without a name.
    pub names: Vec<String>,
    /// All texts by which [`choose_image`] finds the image: its names, and tags that are no names.
    pub ref_names: Vec<String>,
    /// The image's manifest or index.
    pub root: Descriptor,
    /// The original digest of an index that [`open_whole_images`] narrowed to the available entries.
    pub narrowed_from: Option<Digest>,
    /// Kind of thing in a bundle of Palette, e.g. `stylus` for the host agent and `spc` for a cluster definition.
    pub kind: Option<String>,
    /// Source of [`ArchiveImage::root`], by its digest, and of all content that it names.
    pub source: Arc<dyn ImageSource>,
}

/// Returns true if a file may be an archive of images, by its first bytes: it is a tar, or compressed. Any piece stands
/// for the whole file. Blocks.
///
/// # Errors
/// If the file cannot be read.
pub fn may_be_archive(path: &Utf8Path) -> io::Result<bool> {
    let mut first = Vec::new();
    FileSet::open_read(path)?.reader().take(BLOCK).read_to_end(&mut first)?;
    let is_tar = first
        .get(TAR_MAGIC_AT..)
        .is_some_and(|rest| rest.starts_with(TAR_MAGIC));
    let beginning = &first[..first.len().min(SNIFF_LENGTH)];
    Ok(is_tar || sniff_compression(beginning) != Compression::None)
}

/// Returns the size of the file of an archive of which [`open_archive`] makes a decompressed copy: one that is compressed,
/// and has no seek table. `None` for others, also for pipes, whose size is not known. Blocks.
///
/// # Errors
/// If the file cannot be read.
pub fn size_to_copy(archive: &Utf8Path) -> io::Result<Option<u64>> {
    match ArchiveInput::open(archive)? {
        ArchiveInput::OnePass(_) if archive.is_file() || archive != "-" && !archive.exists() => {
            FileSet::open_read(archive).map(|file| Some(file.len()))
        }
        ArchiveInput::OnePass(_) | ArchiveInput::InPlace(_) => Ok(None),
    }
}

/// Lists the images of an archive, plain or compressed in any form of [`crate::decode`]; `-` is stdin, and any piece stands
/// for the whole file [spec:bundles.pieces]. A compressed archive without a seek table, or one from a pipe, is first
/// written to an unnamed file in `spool`; [`stream`] reads it without one. Layers of a `docker save` archive are read
/// once, for their digests. Blocks: call it on a blocking thread.
///
/// An index stays unchanged if the archive has only some of its entries: its digest and its signatures stay valid. The
/// image's source knows the missing entries ([`ImageSource::lacks`]).
///
/// # Errors
/// If the file cannot be read, is not an archive of images, or has no complete manifest for one of them.
pub fn open_archive(archive: &Utf8Path, spool: &Utf8Path) -> Result<Vec<ArchiveImage>, ArchiveError> {
    open(archive, spool, PartialIndex::Kept)
}

/// Lists the images of an archive like [`open_archive`], for destinations that require complete images. An index is
/// narrowed to the entries that the archive has. The caller reports [`ArchiveImage::narrowed_from`].
///
/// # Errors
/// Those of [`open_archive`].
pub fn open_whole_images(archive: &Utf8Path, spool: &Utf8Path) -> Result<Vec<ArchiveImage>, ArchiveError> {
    open(archive, spool, PartialIndex::Narrowed)
}

fn open(archive: &Utf8Path, spool: &Utf8Path, partial: PartialIndex) -> Result<Vec<ArchiveImage>, ArchiveError> {
    let opened = ArchiveInput::open(archive).and_then(|input| input.into_bytes(spool));
    let bytes = opened.map_err(|error| ArchiveError::Read {
        archive: archive.to_owned(),
        source: error.into(),
    })?;
    list_in_place(bytes, archive, spool, partial)
}

/// Lists the images of an archive like [`open_archive`], if that takes no look at their content: of an image layout in a
/// plain tar, or in one with a seek table. `None` for others, and for pieces whose SHA-256 is stated: all of them has to be
/// read. Nothing of a layout goes to `spool`. Blocks.
///
/// # Errors
/// Those of [`open_archive`].
pub fn open_layout_in_place(archive: &Utf8Path, spool: &Utf8Path) -> Result<Option<Vec<ArchiveImage>>, ArchiveError> {
    let bytes = match ArchiveInput::open(archive) {
        Ok(ArchiveInput::InPlace(ArchiveBytes::Plain(file))) if file.has_stated_sha256() => return Ok(None),
        Ok(ArchiveInput::InPlace(bytes)) => bytes,
        Ok(ArchiveInput::OnePass(_)) => return Ok(None),
        Err(error) => {
            return Err(ArchiveError::Read {
                archive: archive.to_owned(),
                source: error.into(),
            });
        }
    };
    let entries = ArchiveEntries::index(bytes, archive, spool)?;
    let Some(root) = entries.table().layout_root() else {
        return Ok(None);
    };
    if !root.is_empty() && docker::list_images(&entries)?.is_some() {
        return Ok(None);
    }
    let found = read_images(&entries, PartialIndex::Kept)?;
    Ok(Some(images_of(archive, ContentHolder::Archive(entries.bytes), found)))
}

/// Lists the images of an archive that is read in place.
fn list_in_place(
    bytes: ArchiveBytes,
    archive: &Utf8Path,
    spool: &Utf8Path,
    partial: PartialIndex,
) -> Result<Vec<ArchiveImage>, ArchiveError> {
    let entries = ArchiveEntries::index(bytes, archive, spool)?;
    let found = read_images(&entries, partial)?;
    Ok(images_of(archive, ContentHolder::Archive(entries.bytes), found))
}

/// Reads the lists of images and the manifests.
fn read_images(entries: &impl ArchiveFiles, partial: PartialIndex) -> Result<ArchiveContents, ArchiveError> {
    let names = docker::list_images(entries)?;
    match (entries.table().layout_root(), names) {
        (Some(root), names) if root.is_empty() || names.is_none() => {
            oci::read_images(entries, &root, &names.unwrap_or_default(), partial)
        }
        (_, Some(listed)) => docker::read_images(entries, &listed),
        _ => Err(entries.or_cut_short(ArchiveError::NoImages)),
    }
}

/// Returns the images with their source.
fn images_of(archive: &Utf8Path, holder: ContentHolder, found: ArchiveContents) -> Vec<ArchiveImage> {
    let described = archive.file_name().unwrap_or(archive.as_str()).to_owned();
    let (source, images) = ArchiveSource::new(described, holder, found);
    images
        .into_iter()
        .map(|image| ArchiveImage {
            names: image.names,
            ref_names: image.ref_names,
            source: Arc::new(source.for_image(&image.root)),
            root: image.root,
            narrowed_from: image.narrowed_from,
            kind: image.kind,
        })
        .collect()
}

#[cfg(test)]
mod tests;
