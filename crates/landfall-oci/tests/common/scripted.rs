//! A source and a sink in memory whose answers are scripted: no byte crosses a network.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{StreamExt, stream};
use landfall_core::failure::FailureKind;
use landfall_core::oci_types::Descriptor;
use landfall_core::reference::{Digest, ImageReference, Repository, Tag};
use landfall_core::status::NoProgress;
use landfall_oci::copy::{CopyOptions, CopyReport, copy_image};
use landfall_oci::image::{
    BlobStart, BlobState, BlobStream, ImageSink, ImageSource, RawManifest, Referrer, RepositoryAddress, TransferError,
};
use landfall_testkit::image_builder::{FixtureBuilder, ImageFixture};

use super::{MemorySink, mk_bytes};

/// Length in bytes of the chunks of the source.
pub(crate) const CHUNK: usize = 1000;
/// The text of the sink's error for wrong bytes.
pub(crate) const WRONG_BYTES: &str = "the bytes are not the right ones";

/// Returns an image with one layer of about this length.
pub(crate) fn mk_layer_image(length: u32) -> ImageFixture {
    FixtureBuilder::new()
        .plain_layer(&[("data", &mk_bytes(length))])
        .build()
}

pub(crate) fn layer_of(image: &ImageFixture) -> Descriptor {
    let blobs = image.described_blobs().map(|(blob, _)| blob);
    blobs.max_by_key(|blob| blob.size).unwrap()
}

pub(crate) fn address(text: &str) -> Option<RepositoryAddress> {
    let (registry, repository) = text.split_once('/').unwrap();
    Some(RepositoryAddress {
        registry: registry.parse().unwrap(),
        repository: repository.parse().unwrap(),
    })
}

/// Copies the image of a source into a sink.
pub(crate) async fn copy(
    source: &MemorySource,
    sink: &ScriptedSink,
    options: &CopyOptions,
) -> Result<CopyReport, TransferError> {
    copy_image(source, "1", sink, None, options, &NoProgress).await
}

fn failure(kind: FailureKind, attempt: &str) -> TransferError {
    TransferError {
        attempt: attempt.to_owned(),
        kind,
        source: None,
    }
}

/// A source that has one image in memory.
#[derive(Debug)]
pub(crate) struct MemorySource {
    pub(crate) image: ImageFixture,
    pub(crate) address: Option<RepositoryAddress>,
    /// The number of the next reads of the layer whose first chunk has a wrong byte.
    pub(crate) wrong_reads: Mutex<u32>,
    /// The number of chunks after which each of the next reads of the layer breaks, the next one last.
    pub(crate) breaks_after: Mutex<Vec<usize>>,
    /// Manifests that cannot be fetched.
    pub(crate) failing: HashMap<Digest, FailureKind>,
    /// The number of referrers of the image: each of them is the image under another tag.
    pub(crate) referrers: usize,
    /// The number of bytes that were taken, of all blobs.
    pub(crate) taken: Arc<AtomicUsize>,
}

impl MemorySource {
    pub(crate) fn new(image: &ImageFixture) -> MemorySource {
        MemorySource {
            image: image.clone(),
            address: None,
            wrong_reads: Mutex::default(),
            breaks_after: Mutex::default(),
            failing: HashMap::new(),
            referrers: 0,
            taken: Arc::default(),
        }
    }

    pub(crate) fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }
}

impl ImageSource for MemorySource {
    fn describe(&self) -> String {
        "the source".to_owned()
    }

    fn repository_address(&self) -> Option<RepositoryAddress> {
        self.address.clone()
    }

    fn fetch_manifest<'a>(&'a self, selector: &'a str) -> BoxFuture<'a, Result<RawManifest, TransferError>> {
        Box::pin(async move {
            let manifests = self.image.manifests.iter();
            let (found, bytes) = manifests
                .rev()
                .find(|(manifest, _)| !selector.contains(':') || manifest.digest.as_str() == selector)
                .unwrap();
            if let Some(kind) = self.failing.get(&found.digest) {
                return Err(failure(*kind, "the source does not have it"));
            }
            Ok(RawManifest {
                bytes: bytes.clone(),
                media_type: found.media_type.clone(),
                digest: found.digest.clone(),
            })
        })
    }

    fn open_blob<'a>(&'a self, blob: &'a Descriptor, offset: u64) -> BoxFuture<'a, Result<BlobStream, TransferError>> {
        Box::pin(async move {
            let mut bytes = self.image.blobs[&blob.digest].to_vec();
            let start = usize::try_from(offset).unwrap();
            let mut breaks_after = None;
            if blob.digest == layer_of(&self.image).digest {
                let mut wrong_reads = self.wrong_reads.lock().unwrap();
                if *wrong_reads > 0 && offset == 0 {
                    *wrong_reads -= 1;
                    bytes[10] ^= 1;
                }
                breaks_after = self.breaks_after.lock().unwrap().pop();
            }
            let taken = self.taken.clone();
            let chunks: Vec<_> = bytes[start..].chunks(CHUNK).map(Bytes::copy_from_slice).collect();
            let counted = stream::iter(chunks).inspect(move |chunk| {
                taken.fetch_add(chunk.len(), Ordering::Relaxed);
            });
            let broken = breaks_after.map(|_| Err(failure(FailureKind::Unreachable, "the source broke")));
            let counted = counted.map(Ok).take(breaks_after.unwrap_or(usize::MAX));
            Ok(counted.chain(stream::iter(broken)).boxed() as BlobStream)
        })
    }

    fn find_referrers<'a>(&'a self, subject: &'a Digest) -> BoxFuture<'a, Result<Vec<Referrer>, TransferError>> {
        let number = match *subject == self.image.root.digest {
            true => self.referrers,
            false => 0,
        };
        let referrers = (0..number).map(|number| Referrer {
            selector: format!("referrer-{number}"),
            tag: None,
        });
        let referrers = referrers.collect();
        Box::pin(async { Ok(referrers) })
    }
}

/// A sink in memory whose answers are scripted.
#[derive(Debug, Default)]
pub(crate) struct ScriptedSink {
    pub(crate) memory: MemorySink,
    pub(crate) address: Option<RepositoryAddress>,
    /// True if no content is accepted.
    pub(crate) refuses_content: bool,
    /// The kind of the failure of each manifest.
    pub(crate) refuses_manifests: Option<FailureKind>,
    /// True if no blob is taken.
    pub(crate) refuses_blobs: bool,
    /// True if the mount of a blob fails.
    pub(crate) refuses_mounts: bool,
    /// The number of chunks after which each of the next uploads of the layer breaks, the next one last.
    pub(crate) breaks_after: Mutex<Vec<usize>>,
    /// The number of streams that ended with wrong bytes.
    pub(crate) wrong_ends: Mutex<u32>,
    /// The repositories that blobs were to be mounted from.
    pub(crate) mounts: Mutex<Vec<Option<Repository>>>,
}

impl ScriptedSink {
    pub(crate) fn assert_complete(&self, image: &ImageFixture) {
        let blobs: BTreeMap<_, _> = self.memory.lock().blobs.clone().into_iter().collect();
        assert_eq!(blobs.keys().collect::<Vec<_>>(), image.blobs.keys().collect::<Vec<_>>());
    }

    /// Keeps the first bytes of a blob, as an earlier process sent them.
    pub(crate) fn keep_partial(&self, blob: &Digest, bytes: Bytes) {
        self.memory.lock().partial.insert(blob.clone(), bytes);
    }
}

impl ImageSink for ScriptedSink {
    fn describe(&self) -> String {
        "the sink".to_owned()
    }

    fn has_image<'a>(&'a self, manifest: &'a RawManifest) -> BoxFuture<'a, Result<bool, TransferError>> {
        self.memory.has_image(manifest)
    }

    fn check_content(&self, _: &RawManifest, _: &[RawManifest]) -> Result<(), TransferError> {
        match self.refuses_content {
            true => Err(failure(FailureKind::Local, "the sink holds no such content")),
            false => Ok(()),
        }
    }

    fn referrer_sink(&self, _: Option<&Tag>) -> Option<Box<dyn ImageSink>> {
        Some(Box::new(ScriptedSink::default()))
    }

    fn blob_state<'a>(&'a self, blob: &'a Descriptor) -> BoxFuture<'a, Result<BlobState, TransferError>> {
        self.memory.blob_state(blob)
    }

    fn repository_address(&self) -> Option<RepositoryAddress> {
        self.address.clone()
    }

    fn start_blob<'a>(
        &'a self,
        blob: &'a Descriptor,
        from: Option<&'a Repository>,
    ) -> BoxFuture<'a, Result<BlobStart, TransferError>> {
        Box::pin(async move {
            let asked = {
                let mut mounts = self.mounts.lock().unwrap();
                mounts.push(from.cloned());
                mounts.len()
            };
            assert!(asked < 100, "the sink is asked for ever");
            if self.refuses_blobs {
                return Err(failure(FailureKind::Forbidden, "the sink takes no blobs"));
            }
            if self.refuses_mounts && from.is_some() {
                return Err(failure(FailureKind::Forbidden, "the sink mounts nothing"));
            }
            self.memory.start_blob(blob, from).await
        })
    }

    fn write_blob<'a>(
        &'a self,
        blob: &'a Descriptor,
        offset: u64,
        stream: BlobStream,
    ) -> BoxFuture<'a, Result<(), TransferError>> {
        Box::pin(async move {
            let is_layer = blob.size > CHUNK as u64;
            let breaks_after = self.breaks_after.lock().unwrap().pop_if(|_| is_layer);
            let broken = breaks_after.map(|_| Err(failure(FailureKind::Unreachable, "the link broke")));
            let taken = stream
                .take(breaks_after.unwrap_or(usize::MAX))
                .chain(stream::iter(broken));
            let written = self.memory.write_blob(blob, offset, taken.boxed()).await;
            if let Err(error) = &written
                && error.kind == FailureKind::Corrupt
            {
                // As the sink of a registry does: the next upload starts at the first byte.
                self.memory.lock().partial.remove(&blob.digest);
                *self.wrong_ends.lock().unwrap() += u32::from(error.attempt == WRONG_BYTES);
            }
            written
        })
    }

    fn write_manifest<'a>(
        &'a self,
        manifest: &'a RawManifest,
        name: Option<&'a ImageReference>,
    ) -> BoxFuture<'a, Result<(), TransferError>> {
        match self.refuses_manifests {
            Some(kind) => Box::pin(async move { Err(failure(kind, "the sink refuses the manifest")) }),
            None => self.memory.write_manifest(manifest, name),
        }
    }
}
