//! The two traits of the product: what images are read from and written to. Registries, the content store, archives and
//! containerd implement them; [`crate::copy`] is the only code that walks an image's graph.

use std::fmt;
use std::pin::Pin;

use bytes::Bytes;
use futures_util::Stream;
use futures_util::future::BoxFuture;
use landfall_core::failure::{FailureKind, error_chain};
use landfall_core::oci_types::Descriptor;
use landfall_core::reference::{Digest, ImageReference, RegistryHost, Repository, Tag};

/// A manifest or index as the bytes that its digest names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawManifest {
    /// The exact bytes.
    pub bytes: Bytes,
    /// Its media type.
    pub media_type: String,
    /// The digest of the bytes: verified by whoever made this value.
    pub digest: Digest,
}

/// The bytes of a blob, in order, from the offset that was asked for.
pub type BlobStream = Pin<Box<dyn Stream<Item = Result<Bytes, TransferError>> + Send>>;

/// A repository of a registry: blobs can be mounted from one to another of the same registry.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RepositoryAddress {
    /// The registry.
    pub registry: RegistryHost,
    /// The repository.
    pub repository: Repository,
}

/// Something that belongs to an image without being part of it: a signature, an attestation, a bill of materials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Referrer {
    /// What to ask the source for.
    pub selector: String,
    /// The tag that it has to have, when it is found by its tag.
    pub tag: Option<Tag>,
}

/// One repository (or archive, or store) that images are read from.
pub trait ImageSource: Send + Sync + fmt::Debug {
    /// What messages call it, e.g. `registry.example.com/a/b`.
    fn describe(&self) -> String;

    /// The repository that this is, if it is one.
    fn repository_address(&self) -> Option<RepositoryAddress> {
        None
    }

    /// Whether it was made without this part of an index. Such a part is left out of a copy, which says so; that one is
    /// missing from any other source is a failure.
    fn lacks(&self, _part: &Descriptor) -> bool {
        false
    }

    /// Fetches a manifest by tag or digest, verified against the digest where one was asked for.
    fn fetch_manifest<'a>(&'a self, selector: &'a str) -> BoxFuture<'a, Result<RawManifest, TransferError>>;

    /// Opens a blob at a byte offset. A source that cannot seek answers from 0 by failing with `Protocol`.
    fn open_blob<'a>(&'a self, blob: &'a Descriptor, offset: u64) -> BoxFuture<'a, Result<BlobStream, TransferError>>;

    /// What belongs to a manifest. A source that cannot know has nothing.
    fn find_referrers<'a>(&'a self, _subject: &'a Digest) -> BoxFuture<'a, Result<Vec<Referrer>, TransferError>> {
        Box::pin(async { Ok(Vec::new()) })
    }
}

/// How much of a blob a sink has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlobState {
    /// All of it, verified.
    Complete,
    /// The first bytes of it: a transfer goes on from this offset.
    Partial(u64),
    /// Nothing.
    Missing,
}

/// What there is to do for a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlobStart {
    /// Nothing: it was there.
    Present,
    /// Nothing any more: the sink took it over from the place that was named.
    Mounted,
    /// Its bytes are wanted, from this offset on.
    Wanted(u64),
}

/// Something that images are written to.
pub trait ImageSink: Send + Sync + fmt::Debug {
    /// What messages call it.
    fn describe(&self) -> String;

    /// Whether this manifest and everything that it names is there.
    ///
    /// The parts of an index may be missing where [`ImageSink::has_manifest`] says so.
    fn has_image<'a>(&'a self, manifest: &'a RawManifest) -> BoxFuture<'a, Result<bool, TransferError>>;

    /// Whether a manifest that an index names is there. A sink that takes an index only with all of its parts need not
    /// look again.
    fn has_manifest<'a>(&'a self, _part: &'a Descriptor) -> BoxFuture<'a, Result<bool, TransferError>> {
        Box::pin(async { Ok(true) })
    }

    /// The same place for something that belongs to the image, under this tag or by its digest alone; `None` when this
    /// takes images only.
    fn referrer_sink(&self, _tag: Option<&Tag>) -> Option<Box<dyn ImageSink>> {
        None
    }

    /// How much of a blob is there already.
    fn blob_state<'a>(&'a self, blob: &'a Descriptor) -> BoxFuture<'a, Result<BlobState, TransferError>>;

    /// The repository that this is, if it is one.
    fn repository_address(&self) -> Option<RepositoryAddress> {
        None
    }

    /// Gets ready for a blob, whose bytes follow when they are wanted. Where `from` names another repository of the same
    /// registry that is said to have it, the sink may take it over from there.
    fn start_blob<'a>(
        &'a self,
        blob: &'a Descriptor,
        _from: Option<&'a Repository>,
    ) -> BoxFuture<'a, Result<BlobStart, TransferError>> {
        Box::pin(async move {
            Ok(match self.blob_state(blob).await? {
                BlobState::Complete => BlobStart::Present,
                BlobState::Partial(offset) => BlobStart::Wanted(offset),
                BlobState::Missing => BlobStart::Wanted(0),
            })
        })
    }

    /// Writes a blob from `offset` on; it counts only once its digest and size are verified. When the stream fails, what
    /// arrived is kept for a later [`ImageSink::blob_state`] where the sink can do that.
    fn write_blob<'a>(
        &'a self,
        blob: &'a Descriptor,
        offset: u64,
        stream: BlobStream,
    ) -> BoxFuture<'a, Result<(), TransferError>>;

    /// Writes a manifest whose children are all there. The last call of an image names it, earlier ones pass `None`.
    fn write_manifest<'a>(
        &'a self,
        manifest: &'a RawManifest,
        name: Option<&'a ImageReference>,
    ) -> BoxFuture<'a, Result<(), TransferError>>;

    /// Everything of the image is written: what the sink has still to do to make it visible.
    fn finish_image<'a>(&'a self, _root: &'a RawManifest) -> BoxFuture<'a, Result<(), TransferError>> {
        Box::pin(async { Ok(()) })
    }
}

/// A transfer failed. The text says what was tried; the kind decides what happens next.
#[derive(Debug, thiserror::Error)]
#[error("{attempt}")]
pub struct TransferError {
    /// What we were trying to do, to what, e.g. ``cannot fetch manifest `a/b:1` from `mirror.local:5000` ``.
    pub attempt: String,
    /// What follows from it.
    pub kind: FailureKind,
    /// The cause.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl TransferError {
    /// What was tried and every cause below it, in one line.
    #[must_use]
    pub fn chain(&self) -> String {
        error_chain(self)
    }
}
