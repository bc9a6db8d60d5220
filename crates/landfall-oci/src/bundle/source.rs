//! The image source over an open bundle: any image of it, several at once, nothing unpacked.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, stream};
use landfall_core::failure::FailureKind;
use landfall_core::oci_types::{Descriptor, parse_manifest};
use landfall_core::reference::Digest;

use super::companions::CompanionMap;
use super::error::BundleError;
use super::reader::BundleFile;
use crate::archive::ArchiveImage;
use crate::archive::choice::entry_names;
use crate::digest::matches_digest;
use crate::image::{BlobStream, ImageSource, RawManifest, Referrer, TransferError};
use crate::read_at::limit;
use crate::store::MANIFEST_SIZE_MAX;
use crate::store::blocking::blocking;
use crate::store::error::StoreError;
use crate::store::index::named_descriptor;

/// Bytes of one read. Several blobs are read at once.
const READ_SIZE: usize = 256 * 1024;

/// Source of all images of a bundle.
#[derive(Debug, Clone)]
pub struct BundleSource {
    pub(super) file: Arc<BundleFile>,
    left_out: Arc<HashSet<Digest>>,
    companions: Arc<CompanionMap>,
}

impl BundleSource {
    #[must_use]
    pub fn new(file: Arc<BundleFile>) -> BundleSource {
        let left_out = file.document().images.iter().flat_map(|image| &image.left_out);
        BundleSource {
            companions: Arc::new(CompanionMap::new(file.document())),
            left_out: Arc::new(left_out.map(|entry| entry.digest.clone()).collect()),
            file,
        }
    }

    /// Returns the images of the bundle with this source.
    #[must_use]
    pub fn images(&self) -> Vec<ArchiveImage> {
        let source: Arc<dyn ImageSource> = Arc::new(self.clone());
        let images = self.file.document().images.iter();
        images
            .map(|image| {
                let root = named_descriptor(&image.descriptor(), &image.name.to_string());
                let names = entry_names(&root);
                ArchiveImage {
                    names: names.full,
                    ref_names: names.all,
                    root,
                    narrowed_from: None,
                    kind: None,
                    source: source.clone(),
                }
            })
            .collect()
    }

    fn fail(
        &self,
        what: &str,
        kind: FailureKind,
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    ) -> TransferError {
        TransferError {
            attempt: format!("cannot read `{what}` from the bundle `{}`", self.file.path()),
            kind,
            source,
        }
    }

    /// Returns the error of content that the bundle lacks.
    fn missing(&self, digest: &Digest) -> TransferError {
        let needed = self.file.need(digest).map(|need| BundleError::Needed {
            digest: digest.clone(),
            image: need.image.clone(),
        });
        self.fail(
            digest.as_str(),
            FailureKind::NotFound,
            needed.map(|error| Box::new(error) as _),
        )
    }

    async fn read(&self, digest: &Digest, offset: u64, length: u64) -> Result<Bytes, TransferError> {
        let (file, wanted) = (self.file.clone(), digest.clone());
        // The allocator has memory for each thread. That of one thread serves all buffers of a copy.
        let buffer = Vec::with_capacity(limit(READ_SIZE, length));
        let read = blocking(move || Ok(file.read_blob_into(buffer, &wanted, offset, length)?)).await;
        read.map_err(|error| match error {
            StoreError::Disk(error) => self.fail(
                digest.as_str(),
                FailureKind::Local,
                Some(Box::new(self.file.read_error(error))),
            ),
            other => self.fail(digest.as_str(), other.kind(), Some(Box::new(other))),
        })
    }

    /// Streams at most `length` bytes of a blob from a byte on, in reads of `chunk` bytes.
    pub(super) fn stream(
        &self,
        digest: &Digest,
        offset: u64,
        length: u64,
        chunk: u64,
    ) -> Result<BlobStream, TransferError> {
        let size = self.file.blob_size(digest).ok_or_else(|| self.missing(digest))?;
        let length = length.min(size.saturating_sub(offset));
        let (source, digest) = (self.clone(), digest.clone());
        let chunks = stream::try_unfold((offset, length), move |(at, left)| {
            let (source, digest) = (source.clone(), digest.clone());
            async move {
                if left == 0 {
                    return Ok(None);
                }
                let bytes = source.read(&digest, at, left.min(chunk)).await?;
                let read = bytes.len() as u64;
                let next = (at + read, left.saturating_sub(read));
                Ok((!bytes.is_empty()).then_some((bytes, next)))
            }
        });
        Ok(chunks.boxed())
    }

    fn select(&self, selector: &str) -> Result<Digest, TransferError> {
        if let Ok(digest) = selector.parse() {
            return Ok(digest);
        }
        let mut tagged = self.file.document().images.iter().filter(|image| {
            let tag = image.name.tag.as_ref();
            tag.is_some_and(|tag| tag.as_str() == selector)
        });
        match (tagged.next(), tagged.next()) {
            (Some(image), None) => Ok(image.digest.clone()),
            _ => Err(self.fail(selector, FailureKind::NotFound, None)),
        }
    }
}

impl ImageSource for BundleSource {
    fn describe(&self) -> String {
        format!("the bundle `{}`", self.file.path())
    }

    fn lacks(&self, entry: &Descriptor) -> bool {
        self.left_out.contains(&entry.digest) && self.file.blob_size(&entry.digest).is_none()
    }

    /// Fetches a manifest by its digest, or by a tag that one image has.
    fn fetch_manifest<'a>(&'a self, selector: &'a str) -> BoxFuture<'a, Result<RawManifest, TransferError>> {
        async move {
            let digest = self.select(selector)?;
            let size = self.file.blob_size(&digest).ok_or_else(|| self.missing(&digest))?;
            let problem = |error| self.fail(selector, FailureKind::Protocol, Some(error));
            if size > MANIFEST_SIZE_MAX {
                let limit = MANIFEST_SIZE_MAX;
                return Err(problem(Box::new(StoreError::TooLarge { digest, limit })));
            }
            let bytes = self.read(&digest, 0, size).await?;
            if !matches_digest(&bytes, &digest) {
                let damaged = Box::new(StoreError::Damaged { digest });
                return Err(self.fail(selector, FailureKind::Corrupt, Some(damaged)));
            }
            let content = parse_manifest(&bytes).map_err(|error| problem(Box::new(error)))?;
            Ok(RawManifest {
                media_type: content.media_type().to_owned(),
                digest,
                bytes,
            })
        }
        .boxed()
    }

    fn open_blob<'a>(&'a self, blob: &'a Descriptor, offset: u64) -> BoxFuture<'a, Result<BlobStream, TransferError>> {
        async move { self.stream(&blob.digest, offset, u64::MAX, READ_SIZE as u64) }.boxed()
    }

    fn find_referrers<'a>(&'a self, subject: &'a Digest) -> BoxFuture<'a, Result<Vec<Referrer>, TransferError>> {
        let found = self.companions.of(subject);
        async move { Ok(found) }.boxed()
    }
}
