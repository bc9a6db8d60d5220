//! OCI image layouts in directories, as skopeo's `oci:DIR[:NAME]` reads and writes them, and archives of such layouts.
//! Unlike the content store, a layout belongs to the user: other programs write to it too, and unknown entries stay
//! unchanged.

mod archive;
mod directory;
mod format;

use std::borrow::Cow;
use std::io;

use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, TryStreamExt};
use landfall_core::failure::{FailureKind, Hint};
use landfall_core::lenient;
use landfall_core::oci_types::{Descriptor, ManifestContent, parse_manifest};
use landfall_core::reference::Digest;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio_util::io::ReaderStream;

use crate::archive::ArchiveImage;
use crate::archive::choice::{EntryNames, entry_names};
use crate::digest::matches_digest;
use crate::image::{BlobStream, ImageSource, RawManifest, Referrer, TransferError};
use crate::referrers::{ReferrerMap, is_referrer, name_of};
use crate::store::MANIFEST_SIZE_MAX;
use crate::store::index::IndexFile;

pub(crate) use crate::layout_files::{DOCKER_MANIFEST, INDEX, LAYOUT, LAYOUT_FILE, blob_path};
pub(crate) use archive::parse_image;
pub use archive::{ArchiveForm, ArchiveSink, DockerArchiveRefused};
pub use directory::LayoutSink;

/// Size of one read from the disk, in bytes.
const READ_SIZE: usize = 256 * 1024;

/// Lists the images of a layout. Blocks while it reads the index.
///
/// # Errors
/// If the layout has no readable index.
pub fn open_layout(root: &Utf8Path) -> io::Result<Vec<ArchiveImage>> {
    use std::io::Read as _;
    let mut text = Vec::new();
    let file = fs::File::open(root.join(INDEX))?;
    file.take(MANIFEST_SIZE_MAX).read_to_end(&mut text)?;
    let index: IndexFile = lenient::from_slice(&text)?;
    let contents: Vec<_> = index.manifests.iter().map(|entry| read_manifest(root, entry)).collect();
    let listed = Arc::new(ReferrerMap::new(index.manifests.iter().zip(&contents)));
    let entries = index.manifests.into_iter().zip(contents);
    let images = entries.filter(|(entry, content)| !is_referrer(name_of(entry), content.as_ref()));
    let mut found: Vec<ArchiveImage> = Vec::new();
    for (entry, _) in images {
        let EntryNames { full, all } = entry_names(&entry);
        // Entries with the same digest are one image with several names.
        if let Some(known) = found.iter_mut().find(|known| known.root.digest == entry.digest) {
            known.names.extend(full);
            known.ref_names.extend(all);
            continue;
        }
        found.push(ArchiveImage {
            names: full,
            ref_names: all,
            source: Arc::new(LayoutSource {
                root: root.to_owned(),
                image: entry.digest.clone(),
                referrers: listed.clone(),
            }),
            root: entry,
            narrowed_from: None,
            kind: None,
        });
    }
    Ok(found)
}

/// Returns the manifest of an index entry. Returns `None` if it cannot be read; the copy reports the error.
fn read_manifest(root: &Utf8Path, entry: &Descriptor) -> Option<ManifestContent> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    let file = fs::File::open(root.join(blob_path(&entry.digest))).ok()?;
    file.take(MANIFEST_SIZE_MAX).read_to_end(&mut bytes).ok()?;
    parse_manifest(&bytes)
        .ok()
        .filter(|_| matches_digest(&bytes, &entry.digest))
}

/// Reads one image of a layout.
#[derive(Debug, Clone)]
struct LayoutSource {
    root: Utf8PathBuf,
    /// Manifest of every selector that is not a digest.
    image: Digest,
    referrers: Arc<ReferrerMap>,
}

/// A layout lacks content that its index or one of its manifests names, or that was asked for by digest.
#[derive(Debug, thiserror::Error)]
#[error("it has no file `{path}`")]
pub struct LayoutContentMissing {
    /// The path from the layout's root.
    pub path: String,
}

impl Hint for LayoutContentMissing {
    fn hint(&self) -> Option<Cow<'_, str>> {
        Some(Cow::Borrowed(
            "copy the image into the layout again: it is not complete, or check the digest if you named one",
        ))
    }
}

impl LayoutSource {
    fn fail(&self, digest: &Digest, kind: FailureKind, source: Option<io::Error>) -> TransferError {
        TransferError {
            attempt: format!("cannot read `{digest}` from the layout `{}`", self.root),
            kind,
            source: source.map(Into::into),
        }
    }

    async fn open(&self, digest: &Digest) -> Result<tokio::fs::File, TransferError> {
        let opened = tokio::fs::File::open(self.root.join(blob_path(digest))).await;
        opened.map_err(|error| {
            if error.kind() != io::ErrorKind::NotFound {
                return self.fail(digest, FailureKind::Local, Some(error));
            }
            TransferError {
                source: Some(Box::new(LayoutContentMissing {
                    path: blob_path(digest),
                })),
                ..self.fail(digest, FailureKind::NotFound, None)
            }
        })
    }
}

impl ImageSource for LayoutSource {
    fn describe(&self) -> String {
        format!("the layout `{}`", self.root)
    }

    fn fetch_manifest<'a>(&'a self, selector: &'a str) -> BoxFuture<'a, Result<RawManifest, TransferError>> {
        async move {
            let digest = selector.parse().unwrap_or_else(|_is_a_tag| self.image.clone());
            let file = self.open(&digest).await?;
            let mut bytes = Vec::new();
            let read = file.take(MANIFEST_SIZE_MAX).read_to_end(&mut bytes).await;
            read.map_err(|error| self.fail(&digest, FailureKind::Local, Some(error)))?;
            if !matches_digest(&bytes, &digest) {
                return Err(self.fail(&digest, FailureKind::Corrupt, None));
            }
            let content = parse_manifest(&bytes)
                .map_err(|error| self.fail(&digest, FailureKind::Protocol, Some(io::Error::other(error))))?;
            Ok(RawManifest {
                media_type: content.media_type().to_owned(),
                digest,
                bytes: bytes.into(),
            })
        }
        .boxed()
    }

    fn find_referrers<'a>(&'a self, subject: &'a Digest) -> BoxFuture<'a, Result<Vec<Referrer>, TransferError>> {
        async move { Ok(self.referrers.of(subject)) }.boxed()
    }

    fn open_blob<'a>(&'a self, blob: &'a Descriptor, offset: u64) -> BoxFuture<'a, Result<BlobStream, TransferError>> {
        async move {
            let source = self.clone();
            let digest = blob.digest.clone();
            let mut file = self.open(&digest).await?;
            let sought = file.seek(io::SeekFrom::Start(offset)).await;
            sought.map_err(|error| self.fail(&digest, FailureKind::Local, Some(error)))?;
            file.set_max_buf_size(READ_SIZE);
            let chunks = ReaderStream::with_capacity(file.take(blob.size.saturating_sub(offset)), READ_SIZE);
            Ok(chunks
                .map_err(move |error| source.fail(&digest, FailureKind::Local, Some(error)))
                .boxed())
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests;
