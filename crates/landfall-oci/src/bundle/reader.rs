//! An open bundle: its document, its head, and every blob in place. The seek table is not needed to find anything: it
//! shows that the file is complete.

use std::collections::HashMap;
use std::io::{self, BufReader};
use std::sync::Arc;

use bytes::Bytes;
use camino::{Utf8Path, Utf8PathBuf};
use landfall_core::bundle::document::{BundleDocument, DOCUMENT_PATH, NeededBlob};
use landfall_core::bundle::frame::{CHECKSUM_LENGTH, MAGIC};
use landfall_core::bundle::seek_table::SeekEntry;
use landfall_core::oci_types::Descriptor;
use landfall_core::reference::{Digest, ImageReference};

use super::error::BundleError;
use super::head::{Head, HeadBeginning, HeadReader};
use super::placement::{BundleForm, PlacedBlob, Placement};
use crate::decode::SingleFrame;
use crate::layout::blob_path;
use crate::pieces::FileSet;
use crate::read_at::limit;
use crate::tar_header::BLOCK;

/// Largest head of a bundle in bytes, unpacked.
const HEAD_SIZE_MAX: u64 = 128 * 1024 * 1024;
/// Bytes of one read of the head.
const HEAD_READ_SIZE: usize = 64 * 1024;

/// An open bundle.
#[derive(Debug)]
pub struct BundleFile {
    pub(super) path: Utf8PathBuf,
    pub(super) files: FileSet,
    pub(super) beginning: HeadBeginning,
    /// Files and small blobs of the head, by path. Not verified.
    pub(super) entries: HashMap<String, Bytes>,
    pub(super) placement: Placement,
    /// Length of the head's content in bytes.
    pub(super) head_content: u64,
    needs: HashMap<Digest, usize>,
}

/// Place of a blob in an open bundle.
#[derive(Debug, Clone)]
pub(super) enum BlobLocation<'a> {
    Head(&'a Bytes),
    Stored(&'a PlacedBlob),
}

impl BundleFile {
    /// Opens a bundle by the path of its file, or of any of its pieces. Blocks while it reads the head, not more.
    ///
    /// # Errors
    /// If the file is no bundle, not complete, or its head is damaged.
    pub fn open(path: &Utf8Path) -> Result<Arc<BundleFile>, BundleError> {
        Ok(Arc::new(BundleFile::from_files(path, open_files(path)?)?))
    }

    /// Reads the head of an open file; `path` is for messages.
    pub(super) fn from_files(path: &Utf8Path, files: FileSet) -> Result<BundleFile, BundleError> {
        let (form, head, head_length) = read_head(path, &files)?;
        let Head {
            beginning,
            entries,
            length: head_content,
        } = head;
        let head_length = match (form, head_length) {
            (BundleForm::Plain, _) => head_content,
            (BundleForm::Frames, Some(length)) => length,
            (BundleForm::Frames, None) => {
                let (path, part) = (path.to_owned(), DOCUMENT_PATH.to_owned());
                return Err(BundleError::Head { path, part });
            }
        };
        let failed = |source| read_error(path, source);
        let placement = Placement::new(form, head_length, beginning.document.stored()).map_err(failed)?;
        let (expected, found) = (placement.total, files.len());
        let path = path.to_owned();
        match found.cmp(&expected) {
            std::cmp::Ordering::Less => return Err(BundleError::Incomplete { path, expected, found }),
            std::cmp::Ordering::Greater => return Err(BundleError::TooLong { path, expected, found }),
            std::cmp::Ordering::Equal => {}
        }
        let needs = beginning.document.needs.iter().enumerate();
        Ok(BundleFile {
            needs: needs.map(|(number, need)| (need.digest.clone(), number)).collect(),
            path,
            files,
            beginning,
            entries,
            placement,
            head_content,
        })
    }

    #[must_use]
    pub fn path(&self) -> &Utf8Path {
        &self.path
    }

    #[must_use]
    pub fn document(&self) -> &BundleDocument {
        &self.beginning.document
    }

    /// Returns the bundle's id: the SHA-256 of its document.
    #[must_use]
    pub fn id(&self) -> &Digest {
        &self.beginning.id
    }

    /// Returns the bytes that are signed.
    #[must_use]
    pub fn document_bytes(&self) -> &Bytes {
        &self.beginning.document_bytes
    }

    /// Returns the document with the signatures.
    #[must_use]
    pub fn signatures(&self) -> Option<&Bytes> {
        self.beginning.signatures.as_ref()
    }

    /// Returns the length of the file in bytes, with all pieces.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.placement.total
    }

    /// Returns the number of files.
    #[must_use]
    pub fn piece_count(&self) -> usize {
        self.files.piece_count()
    }

    /// Returns the need for a blob that the bundle leaves to the site.
    #[must_use]
    pub fn need(&self, digest: &Digest) -> Option<&NeededBlob> {
        self.document().needs.get(*self.needs.get(digest)?)
    }

    /// Returns the size of a blob in the bundle, in bytes.
    #[must_use]
    pub fn blob_size(&self, digest: &Digest) -> Option<u64> {
        Some(match self.locate(digest)? {
            BlobLocation::Head(bytes) => bytes.len() as u64,
            BlobLocation::Stored(blob) => blob.size,
        })
    }

    pub(super) fn locate(&self, digest: &Digest) -> Option<BlobLocation<'_>> {
        if let Some((_, blob)) = self.placement.find(digest) {
            return Some(BlobLocation::Stored(blob));
        }
        Some(BlobLocation::Head(self.entries.get(&blob_path(digest))?))
    }

    /// Reads at most `length` bytes of a blob from a byte on. They are not verified. Blocks.
    ///
    /// # Errors
    /// If the bundle lacks the blob, or the disk fails.
    pub fn read_blob(&self, digest: &Digest, offset: u64, length: u64) -> io::Result<Bytes> {
        self.read_blob_into(Vec::new(), digest, offset, length)
    }

    /// Reads bytes of a blob as [`BundleFile::read_blob`] does, into an empty buffer where they are on the disk.
    pub(super) fn read_blob_into(
        &self,
        mut buffer: Vec<u8>,
        digest: &Digest,
        offset: u64,
        length: u64,
    ) -> io::Result<Bytes> {
        match self.locate(digest).ok_or(io::ErrorKind::NotFound)? {
            BlobLocation::Head(bytes) => {
                let end = offset.saturating_add(length).min(bytes.len() as u64);
                let place = |at: u64| usize::try_from(at.min(end)).map_err(io::Error::other);
                Ok(bytes.slice(place(offset)?..place(end)?))
            }
            BlobLocation::Stored(blob) => {
                let end = offset.saturating_add(length).min(blob.size);
                let wanted = usize::try_from(end.saturating_sub(offset)).map_err(io::Error::other)?;
                buffer.resize(wanted, 0);
                self.read_stored(blob, offset, &mut buffer)?;
                Ok(buffer.into())
            }
        }
    }

    /// Fills a buffer with bytes of a stored blob from a byte on. The blob has as many.
    pub(super) fn read_stored(&self, blob: &PlacedBlob, offset: u64, mut buffer: &mut [u8]) -> io::Result<()> {
        let mut at = offset;
        // A read for each block leaves its header out, and costs less than to move the bytes together afterwards.
        while !buffer.is_empty() {
            let (position, contiguous) = self.placement.locate(blob, at);
            let (block, rest) = buffer.split_at_mut(limit(buffer.len(), contiguous));
            self.files.read_exact_at(block, position)?;
            at += block.len() as u64;
            buffer = rest;
        }
        Ok(())
    }

    /// Returns the entry of the head in the seek table. Its checksum is at the end of its frame.
    pub(super) fn head_entry(&self) -> io::Result<SeekEntry> {
        let mut sum = [0; 4];
        self.files
            .read_exact_at(&mut sum, self.placement.head - CHECKSUM_LENGTH)?;
        Ok(SeekEntry {
            compressed: u32::try_from(self.placement.head).map_err(io::Error::other)?,
            content: u32::try_from(self.head_content).map_err(io::Error::other)?,
            checksum: Some(u32::from_le_bytes(sum)),
        })
    }

    /// Returns an error of this bundle.
    pub(super) fn read_error(&self, source: io::Error) -> BundleError {
        read_error(&self.path, source)
    }

    /// Returns the descriptors of the images' manifests with their names.
    pub fn roots(&self) -> impl Iterator<Item = (&ImageReference, Descriptor)> {
        self.document()
            .images
            .iter()
            .map(|image| (&image.name, image.descriptor()))
    }
}

fn read_error(path: &Utf8Path, source: io::Error) -> BundleError {
    BundleError::Read {
        path: path.to_owned(),
        source,
    }
}

fn open_files(path: &Utf8Path) -> Result<FileSet, BundleError> {
    FileSet::open_read(path).map_err(|source| read_error(path, source))
}

/// Reads the head. Returns its length in the file too, if it is compressed and nothing follows it in its frame.
fn read_head(path: &Utf8Path, files: &FileSet) -> Result<(BundleForm, Head, Option<u64>), BundleError> {
    let failed = |source| read_error(path, source);
    let mut first = [0; MAGIC.len()];
    let length = files.read_at(&mut first, 0).map_err(failed)?;
    if first[..length] != MAGIC {
        let input = BufReader::with_capacity(HEAD_READ_SIZE, files.reader());
        let head = HeadReader::new(path, input).read()?;
        return Ok((BundleForm::Plain, head, None));
    }
    let mut frame = SingleFrame::new(files.reader(), HEAD_SIZE_MAX).map_err(failed)?;
    let head = HeadReader::new(path, &mut frame).read()?;
    let length = frame.end_of_frame(BLOCK).map_err(failed)?;
    Ok((BundleForm::Frames, head, length))
}
