//! The image source over an archive.

use std::collections::HashSet;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, stream};
use landfall_core::failure::FailureKind;
use landfall_core::oci_types::{Descriptor, parse_manifest};
use landfall_core::reference::Digest;

use crate::archive::bytes::ArchiveBytes;
use crate::archive::contents::{ArchiveContents, ArchivedImage, ContentLocation, ContentLocations};
use crate::archive::files::DOCUMENT_SIZE_MAX;
use crate::digest::matches_digest;
use crate::image::{BlobStream, ImageSource, RawManifest, Referrer, RepositoryAddress, TransferError};
use crate::referrers::ReferrerMap;

/// Size of one read from the archive, in bytes.
const READ_SIZE: u64 = 256 * 1024;

/// Reads one image of an archive.
#[derive(Debug, Clone)]
pub(super) struct ArchiveSource {
    shared: Arc<IndexedArchive>,
    /// Manifest of every selector that is not a digest.
    root: Option<Digest>,
}

/// Holder of the content that is not in memory.
#[derive(Debug, Clone)]
pub(super) enum ContentHolder {
    /// The archive itself.
    Archive(Arc<ArchiveBytes>),
    /// The place that the blobs of an archive were written to while it was read once.
    Staged {
        source: Arc<dyn ImageSource>,
        /// Blobs whose bytes in the archive are wrong.
        wrong: Arc<HashSet<Digest>>,
    },
}

#[derive(Debug)]
struct IndexedArchive {
    archive: String,
    holder: ContentHolder,
    locations: ContentLocations,
    referrers: ReferrerMap,
    /// Manifests that indexes of the archive name and the archive lacks.
    absent: HashSet<Digest>,
}

impl ArchiveSource {
    /// Returns the source of all images, and the images.
    pub(super) fn new(
        archive: String,
        holder: ContentHolder,
        found: ArchiveContents,
    ) -> (ArchiveSource, Vec<ArchivedImage>) {
        let visited = found.visited.into_iter();
        let shared = IndexedArchive {
            archive,
            holder,
            locations: found.locations,
            referrers: found.referrers,
            absent: visited
                .filter_map(|(digest, content)| content.is_none().then_some(digest))
                .collect(),
        };
        let source = ArchiveSource {
            shared: Arc::new(shared),
            root: None,
        };
        (source, found.images)
    }

    pub(super) fn for_image(&self, root: &Descriptor) -> ArchiveSource {
        ArchiveSource {
            shared: self.shared.clone(),
            root: Some(root.digest.clone()),
        }
    }

    fn fail(&self, what: &str, kind: FailureKind, source: Option<io::Error>) -> TransferError {
        TransferError {
            attempt: format!("cannot read `{what}` from the archive `{}`", self.shared.archive),
            kind,
            source: source.map(Into::into),
        }
    }

    fn location(&self, digest: &Digest) -> Result<&ContentLocation, TransferError> {
        self.shared
            .locations
            .get(digest)
            .ok_or_else(|| self.fail(digest.as_str(), FailureKind::NotFound, None))
    }

    /// Reads at most `length` bytes of content from `offset` on.
    async fn read(&self, location: &ContentLocation, offset: u64, length: u64) -> io::Result<Bytes> {
        match location {
            ContentLocation::Memory(bytes) => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
                let end = usize::try_from(offset.saturating_add(length)).unwrap_or(usize::MAX);
                Ok(bytes.slice(start..end.min(bytes.len())))
            }
            ContentLocation::Spooled(file) => {
                let file = file.clone();
                let read = tokio::task::spawn_blocking(move || {
                    let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
                    let read = file.read_at(&mut bytes, offset)?;
                    bytes.truncate(read);
                    Ok(Bytes::from(bytes))
                });
                read.await.map_err(io::Error::other)?
            }
            ContentLocation::Archive(extent) => {
                let ContentHolder::Archive(archive) = self.shared.holder.clone() else {
                    return Err(io::ErrorKind::NotSeekable.into());
                };
                let extent = extent.clone();
                let read = tokio::task::spawn_blocking(move || {
                    let mut bytes = Vec::new();
                    let mut reader = extent.reader_from(&archive, offset, length);
                    reader.read_to_end(&mut bytes)?;
                    Ok(Bytes::from(bytes))
                });
                read.await.map_err(io::Error::other)?
            }
            // Blobs only: `open_blob` asks their holder, and manifests stay in memory.
            ContentLocation::Staged => Err(io::ErrorKind::NotSeekable.into()),
        }
    }
}

impl ImageSource for ArchiveSource {
    fn describe(&self) -> String {
        format!("the archive `{}`", self.shared.archive)
    }

    /// Returns the address of the repository that holds the blobs, if one does: they can be mounted from there.
    fn repository_address(&self) -> Option<RepositoryAddress> {
        match &self.shared.holder {
            ContentHolder::Archive(_) => None,
            ContentHolder::Staged { source, .. } => source.repository_address(),
        }
    }

    fn lacks(&self, entry: &Descriptor) -> bool {
        self.shared.absent.contains(&entry.digest)
    }

    fn fetch_manifest<'a>(&'a self, selector: &'a str) -> BoxFuture<'a, Result<RawManifest, TransferError>> {
        async move {
            let digest = match (selector.parse::<Digest>(), &self.root) {
                (Ok(digest), _) => digest,
                (Err(_is_a_tag), Some(root)) => root.clone(),
                (Err(_is_a_tag), None) => return Err(self.fail(selector, FailureKind::NotFound, None)),
            };
            let location = self.location(&digest)?;
            let bytes = self
                .read(location, 0, DOCUMENT_SIZE_MAX + 1)
                .await
                .map_err(|error| self.fail(selector, FailureKind::Local, Some(error)))?;
            if !matches_digest(&bytes, &digest) {
                return Err(self.fail(selector, FailureKind::Corrupt, None));
            }
            let content = parse_manifest(&bytes)
                .map_err(|error| self.fail(selector, FailureKind::Protocol, Some(io::Error::other(error))))?;
            Ok(RawManifest {
                media_type: content.media_type().to_owned(),
                digest,
                bytes,
            })
        }
        .boxed()
    }

    fn find_referrers<'a>(&'a self, subject: &'a Digest) -> BoxFuture<'a, Result<Vec<Referrer>, TransferError>> {
        async move { Ok(self.shared.referrers.of(subject)) }.boxed()
    }

    fn open_blob<'a>(&'a self, blob: &'a Descriptor, offset: u64) -> BoxFuture<'a, Result<BlobStream, TransferError>> {
        async move {
            let location = self.location(&blob.digest)?.clone();
            if let (ContentLocation::Staged, ContentHolder::Staged { source, wrong }) = (&location, &self.shared.holder)
            {
                if wrong.contains(&blob.digest) {
                    let why = io::Error::new(io::ErrorKind::InvalidData, "its bytes there have another digest");
                    return Err(self.fail(blob.digest.as_str(), FailureKind::Corrupt, Some(why)));
                }
                return source.open_blob(blob, offset).await;
            }
            let source = self.clone();
            let digest = blob.digest.clone();
            let chunks = stream::try_unfold(offset, move |at| {
                let (source, location, digest) = (source.clone(), location.clone(), digest.clone());
                async move {
                    let bytes = source
                        .read(&location, at, READ_SIZE)
                        .await
                        .map_err(|error| source.fail(digest.as_str(), FailureKind::Local, Some(error)))?;
                    let next = at + bytes.len() as u64;
                    Ok((!bytes.is_empty()).then_some((bytes, next)))
                }
            });
            Ok(chunks.boxed())
        }
        .boxed()
    }
}
