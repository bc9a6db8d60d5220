//! The image source and the image sink over the store.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, TryStreamExt};
use landfall_core::oci_types::{Descriptor, Platform};
use landfall_core::reference::{Digest, ImageReference};
use tokio::io::AsyncReadExt;
use tokio_util::io::ReaderStream;

use crate::digest::Algorithm;
use crate::image::{BlobState, BlobStream, ImageSink, ImageSource, RawManifest, TransferError};
use crate::store::ContentStore;
use crate::store::blocking::blocking;
use crate::store::error::StoreError;
use crate::store::lease::BlobLease;
use crate::store::receive::receive_stream;

/// Size of one read from the disk, in bytes.
const READ_SIZE: usize = 256 * 1024;

impl ContentStore {
    /// Streams at most `length` bytes of a blob from a byte offset on.
    ///
    /// # Errors
    /// If the store lacks the blob.
    pub async fn stream_blob(&self, digest: &Digest, offset: u64, length: u64) -> Result<BlobStream, StoreError> {
        let store = self.clone();
        let wanted = digest.clone();
        let file = blocking(move || store.open_blob(&wanted, offset)).await?;
        let (file, _path) = file.into_parts();
        let mut file = tokio::fs::File::from_std(file);
        file.set_max_buf_size(READ_SIZE);
        let digest = digest.clone();
        let stream = ReaderStream::with_capacity(file.take(length), READ_SIZE).map_err(move |error| {
            StoreError::Disk(error).during(format!("cannot read blob `{digest}` from the content store"))
        });
        Ok(stream.boxed())
    }

    /// Receives a blob from `offset` on and makes it visible after verification. If the stream fails, the received
    /// bytes stay. A blocking thread hashes and writes while the next bytes arrive.
    ///
    /// # Errors
    /// The stream's own error, or the error of the verification or the disk.
    pub async fn receive_blob(&self, blob: &Descriptor, offset: u64, stream: BlobStream) -> Result<(), TransferError> {
        let failed = |error: StoreError| error.during(format!("cannot store blob `{}`", blob.digest));
        let store = self.clone();
        let wanted = blob.clone();
        let (writer, received) = receive_stream(move || store.writer(&wanted, offset), stream)
            .await
            .map_err(failed)?;
        received?;
        blocking(move || writer.commit()).await.map_err(failed)
    }
}

/// Source of the images of one repository in the store.
#[derive(Debug, Clone)]
pub struct StoreSource {
    store: ContentStore,
    image: ImageReference,
}

impl StoreSource {
    /// Returns the source of this image's repository.
    #[must_use]
    pub fn new(store: ContentStore, image: ImageReference) -> StoreSource {
        StoreSource { store, image }
    }

    fn select(&self, selector: &str) -> Result<Digest, StoreError> {
        if let Ok(digest) = selector.parse::<Digest>() {
            return Ok(digest);
        }
        let images = self.store.images();
        let named = images.iter().find(|(name, _)| {
            name.host == self.image.host
                && name.repository == self.image.repository
                && name.tag.as_ref().is_some_and(|tag| tag.as_str() == selector)
        });
        match named {
            Some((_, descriptor)) => Ok(descriptor.digest.clone()),
            None => Err(StoreError::NoImage {
                image: format!("{}/{}:{selector}", self.image.host, self.image.repository),
            }),
        }
    }
}

impl ImageSource for StoreSource {
    fn describe(&self) -> String {
        "the content store".to_owned()
    }

    fn lacks(&self, entry: &Descriptor) -> bool {
        self.store.inner.left_out.omits_anywhere(&entry.digest)
            && !matches!(self.store.blob_state(entry), Ok(BlobState::Complete))
    }

    fn fetch_manifest<'a>(&'a self, selector: &'a str) -> BoxFuture<'a, Result<RawManifest, TransferError>> {
        let source = self.clone();
        let wanted = selector.to_owned();
        async move {
            blocking(move || source.store.read_manifest(&source.select(&wanted)?))
                .await
                .map_err(|error| error.during(format!("cannot read manifest `{selector}` from the content store")))
        }
        .boxed()
    }

    fn open_blob<'a>(&'a self, blob: &'a Descriptor, offset: u64) -> BoxFuture<'a, Result<BlobStream, TransferError>> {
        async move {
            self.store
                .stream_blob(&blob.digest, offset, blob.size.saturating_sub(offset))
                .await
                .map_err(|error| error.during(format!("cannot read blob `{}` from the content store", blob.digest)))
        }
        .boxed()
    }
}

/// Sink into the store. Its lease protects all content that it found or wrote from garbage collection, until it is
/// dropped.
#[derive(Debug)]
pub struct StoreSink {
    store: ContentStore,
    lease: Arc<BlobLease>,
    omission: Option<Arc<Omission>>,
}

/// Index entries that a sink may leave out.
#[derive(Debug)]
struct Omission {
    /// The platform that must be there all the same.
    platform: Platform,
    source: Arc<dyn ImageSource>,
}

impl StoreSink {
    #[must_use]
    pub fn new(store: ContentStore) -> StoreSink {
        let lease = Arc::new(store.lease());
        StoreSink {
            store,
            lease,
            omission: None,
        }
    }

    /// Returns a sink that takes an index without the entries that `source` lacks by construction, if an entry for
    /// `platform` is there [spec:agent.sparse]. The index keeps its digest.
    #[must_use]
    pub fn omitting(store: ContentStore, source: Arc<dyn ImageSource>, platform: Platform) -> StoreSink {
        StoreSink {
            omission: Some(Arc::new(Omission { platform, source })),
            ..StoreSink::new(store)
        }
    }
}

impl ImageSink for StoreSink {
    fn describe(&self) -> String {
        "the content store".to_owned()
    }

    fn has_image<'a>(&'a self, manifest: &'a RawManifest) -> BoxFuture<'a, Result<bool, TransferError>> {
        let store = self.store.clone();
        let lease = self.lease.clone();
        let digest = manifest.digest.clone();
        async move {
            blocking(move || store.has_complete_image(&digest, &lease))
                .await
                .map_err(|error| {
                    error.during(format!(
                        "cannot look for image `{}` in the content store",
                        manifest.digest
                    ))
                })
        }
        .boxed()
    }

    /// An index may be complete without entries that were left out on purpose.
    fn has_manifest<'a>(&'a self, entry: &'a Descriptor) -> BoxFuture<'a, Result<bool, TransferError>> {
        let is_omitted = self.store.inner.left_out.omits_anywhere(&entry.digest);
        async move { Ok(!is_omitted || self.blob_state(entry).await? == BlobState::Complete) }.boxed()
    }

    fn blob_state<'a>(&'a self, blob: &'a Descriptor) -> BoxFuture<'a, Result<BlobState, TransferError>> {
        self.lease.add(&blob.digest);
        let store = self.store.clone();
        let wanted = blob.clone();
        async move {
            blocking(move || store.blob_state(&wanted))
                .await
                .map_err(|error| error.during(format!("cannot look for blob `{}` in the content store", blob.digest)))
        }
        .boxed()
    }

    fn write_blob<'a>(
        &'a self,
        blob: &'a Descriptor,
        offset: u64,
        stream: BlobStream,
    ) -> BoxFuture<'a, Result<(), TransferError>> {
        self.lease.add(&blob.digest);
        self.store.receive_blob(blob, offset, stream).boxed()
    }

    fn write_manifest<'a>(
        &'a self,
        manifest: &'a RawManifest,
        name: Option<&'a ImageReference>,
    ) -> BoxFuture<'a, Result<(), TransferError>> {
        let store = self.store.clone();
        let lease = self.lease.clone();
        let omission = self.omission.clone();
        let owned = manifest.clone();
        let name = name.cloned();
        async move {
            let write = move || {
                if let Some(omission) = omission {
                    store.omit_entries(&owned, &omission.platform, |entry| omission.source.lacks(entry))?;
                }
                store.write_manifest(&owned, name.as_ref(), &lease)
            };
            blocking(write)
                .await
                .map_err(|error| error.during(format!("cannot store manifest `{}`", manifest.digest)))
        }
        .boxed()
    }
}

impl ContentStore {
    fn has_complete_image(&self, manifest: &Digest, lease: &BlobLease) -> Result<bool, StoreError> {
        match self.first_missing(manifest, |digest| lease.add(digest)) {
            Ok(missing) => Ok(missing.is_none()),
            Err(error) if error.is_repaired_by_copying() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Writes a manifest whose children are all present, and names it.
    ///
    /// # Errors
    /// [`StoreError::Incomplete`] if a child is missing; also if the digest is wrong or the disk fails.
    pub fn write_manifest(
        &self,
        manifest: &RawManifest,
        name: Option<&ImageReference>,
        lease: &BlobLease,
    ) -> Result<(), StoreError> {
        self.check_children(manifest, |digest| lease.add(digest))?;
        let descriptor = self.write_manifest_alone(manifest, lease)?;
        match name {
            Some(name) => self.name_image(name, &descriptor),
            None => Ok(()),
        }
    }

    /// Writes a manifest, even if its children are missing.
    ///
    /// # Errors
    /// If the digest is wrong or the disk fails.
    pub fn write_manifest_alone(&self, manifest: &RawManifest, lease: &BlobLease) -> Result<Descriptor, StoreError> {
        lease.add(&manifest.digest);
        let size = manifest.bytes.len() as u64;
        let descriptor = Descriptor::new(&manifest.media_type, manifest.digest.clone(), size);
        // A manifest damaged on disk is written again.
        if self.read_manifest(&manifest.digest).is_err() {
            let mut upload = self.upload(Algorithm::of(&manifest.digest));
            upload.append(&manifest.bytes)?;
            upload.commit(&manifest.digest)?;
        }
        Ok(descriptor)
    }
}

#[cfg(test)]
mod tests;
