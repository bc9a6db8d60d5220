//! The image source and the image sink over the store.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, TryStreamExt};
use landfall_core::oci_types::{Descriptor, Platform, parse_manifest};
use landfall_core::reference::{Digest, ImageReference, Tag};
use tokio::io::AsyncReadExt;
use tokio_util::io::ReaderStream;

use crate::digest::Algorithm;
use crate::image::{BlobState, BlobStream, ImageSink, ImageSource, RawManifest, Referrer, TransferError};
use crate::referrers::subject_of_tag;
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

impl StoreSource {
    /// Returns the referrers of a manifest that are named in this repository. One that cannot be read is none.
    fn referrers_of(&self, subject: &Digest) -> Vec<Referrer> {
        let named = self.store.named_referrers(&self.image).into_iter();
        let referrers = named.filter_map(|(name, digest)| {
            let is_of_subject = match &name.tag {
                Some(tag) => subject_of_tag(tag.as_str()).as_ref() == Some(subject),
                None => {
                    let manifest = self.store.read_manifest(&digest).ok()?;
                    let content = parse_manifest(&manifest.bytes).ok()?;
                    content.subject().is_some_and(|named| named.digest == *subject)
                }
            };
            is_of_subject.then(|| Referrer {
                selector: digest.to_string(),
                tag: name.tag,
            })
        });
        referrers.collect()
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

    fn find_referrers<'a>(&'a self, subject: &'a Digest) -> BoxFuture<'a, Result<Vec<Referrer>, TransferError>> {
        let (source, wanted) = (self.clone(), subject.clone());
        async move {
            let found = blocking(move || Ok(source.referrers_of(&wanted))).await;
            found
                .map_err(|error| error.during(format!("cannot find the referrers of `{subject}` in the content store")))
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
    role: SinkRole,
}

/// Content that a sink takes.
#[derive(Debug)]
enum SinkRole {
    Images,
    /// An image with its referrers, which are named beside it.
    ImageWithReferrers(ImageReference),
    /// A referrer of this image.
    Referrer {
        image: ImageReference,
        tag: Option<Tag>,
    },
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
            role: SinkRole::Images,
        }
    }

    /// Returns a sink that takes the referrers of its one image too: signatures, attestations, bills of materials. Each is
    /// named in the image's repository, by its tag or its digest.
    #[must_use]
    pub fn with_referrers_of(self, image: &ImageReference) -> StoreSink {
        StoreSink {
            role: SinkRole::ImageWithReferrers(image.clone()),
            ..self
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

    fn referrer_sink(&self, tag: Option<&Tag>) -> Option<Box<dyn ImageSink>> {
        let SinkRole::ImageWithReferrers(image) = &self.role else {
            return None;
        };
        Some(Box::new(StoreSink {
            store: self.store.clone(),
            lease: self.lease.clone(),
            omission: None,
            role: SinkRole::Referrer {
                image: image.clone(),
                tag: tag.cloned(),
            },
        }))
    }

    fn finish_image<'a>(&'a self, root: &'a RawManifest) -> BoxFuture<'a, Result<(), TransferError>> {
        let SinkRole::Referrer { image, tag } = &self.role else {
            return Box::pin(async { Ok(()) });
        };
        let (store, name) = (self.store.clone(), image.beside(tag.as_ref(), &root.digest));
        let described = Descriptor::new(&root.media_type, root.digest.clone(), root.bytes.len() as u64);
        async move {
            blocking(move || store.name_image(&name, &described))
                .await
                .map_err(|error| error.during(format!("cannot name `{}` in the content store", root.digest)))
        }
        .boxed()
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
    /// Returns what is named in an image's repository as a referrer: by a tag of referrers, or by its digest alone.
    #[must_use]
    pub fn named_referrers(&self, image: &ImageReference) -> BTreeMap<ImageReference, Digest> {
        let is_named = |name: &ImageReference| match &name.tag {
            Some(tag) => subject_of_tag(tag.as_str()).is_some(),
            None => true,
        };
        let images = self.images().into_iter();
        images
            .filter(|(name, _)| name.host == image.host && name.repository == image.repository && is_named(name))
            .map(|(name, descriptor)| (name, descriptor.digest))
            .collect()
    }

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
