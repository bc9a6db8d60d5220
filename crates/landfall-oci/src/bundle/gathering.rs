//! The first copy of the images of a bundle: manifests and small blobs are kept in memory, large blobs are only listed.

use std::sync::{Arc, Mutex};

use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt};
use landfall_core::bundle::document::Companion;
use landfall_core::failure::FailureKind;
use landfall_core::oci_types::{Descriptor, parse_manifest};
use landfall_core::reference::{Digest, ImageReference, Tag};
use landfall_core::sync::lock;

use super::content::{BundleContent, ContentImage};
use super::error::BundleError;
use crate::digest::matches_digest;
use crate::image::{BlobState, BlobStream, ImageSink, RawManifest, TransferError};
use crate::referrers::subject_of_tag;
use crate::store::error::StoreError;

/// Size in bytes from which on a blob is stored, so that it is read in place.
pub(crate) const STORED_MIN: u64 = 64 * 1024;
/// Largest sum of the small blobs in the head, in bytes. If there are more, all of them are stored: the head is read
/// into memory.
pub(crate) const SMALL_SUM_MAX: u64 = 8 * 1024 * 1024;
/// Largest sum of the manifests, in bytes. K3s takes frames of up to 32 MiB.
pub(crate) const MANIFESTS_SUM_MAX: u64 = 16 * 1024 * 1024;

/// Collects the content of a bundle from copies.
#[derive(Debug, Clone, Default)]
pub struct BundleGathering(Arc<Mutex<Gathered>>);

#[derive(Debug, Default)]
struct Gathered {
    content: BundleContent,
    small_sum: u64,
    manifests_sum: u64,
}

impl Gathered {
    fn lists(&self, blob: &Descriptor) -> bool {
        self.content.small.contains_key(&blob.digest) || self.content.large.contains_key(&blob.digest)
    }

    fn add_small(&mut self, digest: &Digest, bytes: Bytes) {
        let size = bytes.len() as u64;
        if self.small_sum > SMALL_SUM_MAX {
            self.content.large.insert(digest.clone(), size);
            return;
        }
        self.small_sum += size;
        self.content.small.insert(digest.clone(), bytes);
        if self.small_sum > SMALL_SUM_MAX {
            let small = std::mem::take(&mut self.content.small).into_iter();
            self.content
                .large
                .extend(small.map(|(digest, bytes)| (digest, bytes.len() as u64)));
        }
    }
}

impl BundleGathering {
    /// Returns a sink for an image under this name.
    #[must_use]
    pub fn sink(&self, name: &ImageReference) -> impl ImageSink + use<> {
        GatheringSink {
            gathered: self.0.clone(),
            name: name.canonical(),
            referrer: None,
        }
    }

    /// Returns everything that arrived.
    ///
    /// # Errors
    /// If one bundle cannot hold the manifests.
    pub fn finish(self) -> Result<BundleContent, BundleError> {
        let mut gathered = lock(&self.0);
        if gathered.manifests_sum > MANIFESTS_SUM_MAX {
            return Err(BundleError::TooManyManifests {
                size: gathered.manifests_sum,
                limit: MANIFESTS_SUM_MAX,
            });
        }
        let mut content = std::mem::take(&mut gathered.content);
        // An artifact may have a manifest as a layer: the bytes are in the bundle once.
        let BundleContent {
            manifests,
            small,
            large,
            ..
        } = &mut content;
        small.retain(|digest, _| !manifests.contains_key(digest));
        large.retain(|digest, _| !manifests.contains_key(digest));
        for image in content.images.values_mut() {
            image
                .companions
                .sort_by(|a, b| (&a.digest, &a.tag).cmp(&(&b.digest, &b.tag)));
            image.companions.dedup();
        }
        Ok(content)
    }
}

/// Sink of one image, or of a referrer of it.
#[derive(Debug, Clone)]
struct GatheringSink {
    gathered: Arc<Mutex<Gathered>>,
    name: ImageReference,
    /// The tag, if this is the sink of a referrer.
    referrer: Option<Option<Tag>>,
}

impl GatheringSink {
    fn finish_now(&self, root: &RawManifest) {
        let described = Descriptor::new(&root.media_type, root.digest.clone(), root.bytes.len() as u64);
        let mut gathered = lock(&self.gathered);
        let images = &mut gathered.content.images;
        let image = images.entry(self.name.clone());
        let Some(tag) = &self.referrer else {
            image
                .and_modify(|image| image.root = described.clone())
                .or_insert_with(|| ContentImage {
                    root: described.clone(),
                    companions: Vec::new(),
                });
            return;
        };
        let by_tag = tag.as_ref().and_then(|tag| subject_of_tag(tag.as_str()));
        let content = parse_manifest(&root.bytes).ok();
        let named = content.as_ref().and_then(|content| content.subject());
        let Some(subject) = by_tag.or_else(|| named.map(|subject| subject.digest.clone())) else {
            return;
        };
        // Referrers are copied before their image is finished.
        let image = image.or_insert_with(|| ContentImage {
            root: described.clone(),
            companions: Vec::new(),
        });
        image.companions.push(Companion {
            digest: described.digest,
            media_type: described.media_type,
            size: described.size,
            subject,
            tag: tag.clone(),
        });
    }

    fn attempt(&self, what: &Digest) -> String {
        format!("cannot gather `{what}` of `{}`", self.name)
    }
}

impl ImageSink for GatheringSink {
    fn describe(&self) -> String {
        "the bundle".to_owned()
    }

    fn has_image<'a>(&'a self, _manifest: &'a RawManifest) -> BoxFuture<'a, Result<bool, TransferError>> {
        async { Ok(false) }.boxed()
    }

    fn referrer_sink(&self, tag: Option<&Tag>) -> Option<Box<dyn ImageSink>> {
        Some(Box::new(GatheringSink {
            referrer: Some(tag.cloned()),
            ..self.clone()
        }))
    }

    /// Says of a large blob that it is here: it is only listed.
    fn blob_state<'a>(&'a self, blob: &'a Descriptor) -> BoxFuture<'a, Result<BlobState, TransferError>> {
        let mut gathered = lock(&self.gathered);
        let is_large = blob.size >= STORED_MIN || gathered.small_sum > SMALL_SUM_MAX;
        if is_large {
            gathered.content.large.insert(blob.digest.clone(), blob.size);
        }
        let state = match gathered.lists(blob) {
            true => BlobState::Complete,
            false => BlobState::Missing,
        };
        async move { Ok(state) }.boxed()
    }

    fn write_blob<'a>(
        &'a self,
        blob: &'a Descriptor,
        _offset: u64,
        mut stream: BlobStream,
    ) -> BoxFuture<'a, Result<(), TransferError>> {
        async move {
            let failed = |error: StoreError| error.during(self.attempt(&blob.digest));
            let (digest, size) = (blob.digest.clone(), blob.size);
            let mut bytes = BytesMut::new();
            while let Some(chunk) = stream.next().await {
                bytes.extend_from_slice(&chunk?);
                if bytes.len() as u64 > size {
                    return Err(failed(StoreError::TooLong { digest, size }));
                }
            }
            let found = bytes.len() as u64;
            if found < size {
                return Err(failed(StoreError::Short { digest, size, found }));
            }
            if !matches_digest(&bytes, &digest) {
                return Err(TransferError {
                    attempt: self.attempt(&digest),
                    kind: FailureKind::Corrupt,
                    source: None,
                });
            }
            lock(&self.gathered).add_small(&digest, bytes.freeze());
            Ok(())
        }
        .boxed()
    }

    fn write_manifest<'a>(
        &'a self,
        manifest: &'a RawManifest,
        _name: Option<&'a ImageReference>,
    ) -> BoxFuture<'a, Result<(), TransferError>> {
        let mut gathered = lock(&self.gathered);
        let size = manifest.bytes.len() as u64;
        let known = gathered
            .content
            .manifests
            .insert(manifest.digest.clone(), manifest.clone());
        if known.is_none() {
            gathered.manifests_sum += size;
        }
        async { Ok(()) }.boxed()
    }

    fn finish_image<'a>(&'a self, root: &'a RawManifest) -> BoxFuture<'a, Result<(), TransferError>> {
        self.finish_now(root);
        async { Ok(()) }.boxed()
    }
}
