//! The two traits of the product: sources that images are read from, and sinks that images are written to. Registries,
//! the content store, archives and containerd implement them. [`crate::copy`] is the only code that walks an image's
//! graph.

use std::fmt;
use std::pin::Pin;

use bytes::Bytes;
use futures_util::Stream;
use futures_util::future::BoxFuture;
use landfall_core::failure::{FailureKind, error_chain};
use landfall_core::oci_types::Descriptor;
use landfall_core::reference::{Digest, ImageReference, RegistryHost, Repository, Tag};

use crate::keychain::KeychainError;

/// The exact bytes of a manifest or index, with their media type and digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawManifest {
    pub bytes: Bytes,
    pub media_type: String,
    /// The digest of the bytes, verified by the code that made this value.
    pub digest: Digest,
}

/// The bytes of a blob, in order, from the requested offset on.
pub type BlobStream = Pin<Box<dyn Stream<Item = Result<Bytes, TransferError>> + Send>>;

/// A repository of a registry: blobs can be mounted from one to another of the same registry.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RepositoryAddress {
    pub registry: RegistryHost,
    pub repository: Repository,
}

/// A manifest that refers to an image: a signature, an attestation, a bill of materials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Referrer {
    /// The tag or digest in the source.
    pub selector: String,
    /// The tag that the copy must have, if clients find the referrer by its tag.
    pub tag: Option<Tag>,
}

/// A repository, archive or store that images are read from.
pub trait ImageSource: Send + Sync + fmt::Debug {
    /// Returns the source's name in messages, e.g. `registry.example.com/a/b`.
    fn describe(&self) -> String;

    /// Returns the address of the repository; `None` if the source is not a registry.
    fn repository_address(&self) -> Option<RepositoryAddress> {
        None
    }

    /// Returns true if the source deliberately omits this index entry. It is skipped and reported; a missing entry in
    /// any other source is an error.
    fn lacks(&self, _entry: &Descriptor) -> bool {
        false
    }

    /// Fetches a manifest by tag or digest. A digest is verified.
    fn fetch_manifest<'a>(&'a self, selector: &'a str) -> BoxFuture<'a, Result<RawManifest, TransferError>>;

    /// Opens a blob at a byte offset. A source that cannot seek fails with `Protocol`.
    fn open_blob<'a>(&'a self, blob: &'a Descriptor, offset: u64) -> BoxFuture<'a, Result<BlobStream, TransferError>>;

    /// Returns the referrers of a manifest. A source that cannot know them returns none.
    fn find_referrers<'a>(&'a self, _subject: &'a Digest) -> BoxFuture<'a, Result<Vec<Referrer>, TransferError>> {
        Box::pin(async { Ok(Vec::new()) })
    }
}

/// State of a blob in a sink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlobState {
    /// Complete and verified.
    Complete,
    /// The first bytes are present: a transfer resumes at this offset.
    Partial(u64),
    Missing,
}

/// Response of a sink to the start of a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlobStart {
    /// The sink has the blob already.
    Present,
    /// The sink mounted the blob from the named repository.
    Mounted,
    /// The sink wants the bytes from this offset on.
    Wanted(u64),
}

/// A repository, archive or store that images are written to.
pub trait ImageSink: Send + Sync + fmt::Debug {
    /// Returns the sink's name in messages.
    fn describe(&self) -> String;

    /// Returns true if the sink has this manifest and all content that it names.
    ///
    /// The entries of an index may be missing if [`ImageSink::has_manifest`] returns false for them.
    fn has_image<'a>(&'a self, manifest: &'a RawManifest) -> BoxFuture<'a, Result<bool, TransferError>>;

    /// Returns true if the sink has the manifest of an index entry. A sink that accepts an index only with all entries
    /// keeps the default.
    fn has_manifest<'a>(&'a self, _entry: &'a Descriptor) -> BoxFuture<'a, Result<bool, TransferError>> {
        Box::pin(async { Ok(true) })
    }

    /// Checks the manifests of an image, its top one and those below, before anything is written.
    ///
    /// # Errors
    /// If the destination cannot hold such content.
    fn check_content(&self, _root: &RawManifest, _below: &[RawManifest]) -> Result<(), TransferError> {
        Ok(())
    }

    /// Returns a sink for a referrer in the same destination, under this tag or by digest alone. Returns `None` if the
    /// destination takes images only.
    fn referrer_sink(&self, _tag: Option<&Tag>) -> Option<Box<dyn ImageSink>> {
        None
    }

    /// Returns the state of a blob in the sink.
    fn blob_state<'a>(&'a self, blob: &'a Descriptor) -> BoxFuture<'a, Result<BlobState, TransferError>>;

    /// Returns the address of the repository; `None` if the sink is not a registry.
    fn repository_address(&self) -> Option<RepositoryAddress> {
        None
    }

    /// Returns true if the sink is a registry that has proven, in this process, that it refuses bytes with a wrong
    /// digest. The first call may cost two requests.
    fn verifies_uploads(&self) -> BoxFuture<'_, bool> {
        Box::pin(async { false })
    }

    /// Starts a blob; its bytes follow if the sink wants them. `from` names another repository of the same registry
    /// that probably has the blob: the sink may mount it from there.
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

    /// Writes a blob from `offset` on. The blob is visible only after its digest and size are verified. If the stream
    /// fails, the sink keeps the received bytes for a later [`ImageSink::blob_state`] if it can.
    fn write_blob<'a>(
        &'a self,
        blob: &'a Descriptor,
        offset: u64,
        stream: BlobStream,
    ) -> BoxFuture<'a, Result<(), TransferError>>;

    /// Writes a manifest whose children are all present. The last call for an image names it; earlier calls pass
    /// `None`.
    fn write_manifest<'a>(
        &'a self,
        manifest: &'a RawManifest,
        name: Option<&'a ImageReference>,
    ) -> BoxFuture<'a, Result<(), TransferError>>;

    /// Makes the image visible after all its content is written.
    fn finish_image<'a>(&'a self, _root: &'a RawManifest) -> BoxFuture<'a, Result<(), TransferError>> {
        Box::pin(async { Ok(()) })
    }
}

/// A failed transfer. The text names the attempt; the kind decides about retries.
#[derive(Debug, thiserror::Error)]
#[error("{attempt}")]
pub struct TransferError {
    /// The failed attempt, e.g. ``cannot fetch manifest `a/b:1` from `mirror.local:5000` ``.
    pub attempt: String,
    pub kind: FailureKind,
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl TransferError {
    /// Returns the attempt and all causes in one line.
    #[must_use]
    pub fn chain(&self) -> String {
        error_chain(self)
    }

    /// Returns the reason in one line: attempt and all causes. A login that cannot be looked up is a reason without the
    /// attempt, because it is one for all images, and is told once.
    #[must_use]
    pub fn reason(&self) -> String {
        KeychainError::of(self).map_or_else(|| self.chain(), |problem| error_chain(problem))
    }
}
