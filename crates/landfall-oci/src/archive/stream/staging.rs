//! The place that the blobs of an archive are written to while it is read once, and read from afterwards.

use std::sync::Arc;

use bytes::Bytes;
use camino::{Utf8Path, Utf8PathBuf};
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, stream};
use landfall_core::failure::FailureKind;
use landfall_core::oci_types::Descriptor;
use tokio::sync::mpsc;

use crate::copy::BandwidthLimit;
use crate::image::{BlobStart, BlobStream, ImageSink, ImageSource, RawManifest, RepositoryAddress, TransferError};
use crate::store::ContentStore;
use crate::store::source_and_sink::StoreSink;

/// Place of the blobs of an archive that is read once.
#[derive(Debug, Clone)]
pub struct Staging {
    sink: Arc<dyn ImageSink>,
    source: Arc<dyn ImageSource>,
    unnamed: UnnamedBlobs,
    bandwidth: Option<Arc<BandwidthLimit>>,
}

/// Place of content whose digest is known only at its end, as that of a layer of `docker save`.
#[derive(Debug, Clone)]
pub(super) enum UnnamedBlobs {
    /// The store takes it under the digest that it turns out to have.
    Store(ContentStore),
    /// An unnamed file in this directory, one at a time.
    Spool(Utf8PathBuf),
}

impl Staging {
    /// Writes blobs to the content store. They are protected from garbage collection as long as this value or one of the
    /// images exists.
    #[must_use]
    pub fn in_store(store: &ContentStore) -> Staging {
        let sink = Arc::new(StoreSink::new(store.clone()));
        Staging {
            source: Arc::new(StagedInStore {
                store: store.clone(),
                _lease: sink.clone(),
            }),
            sink,
            unnamed: UnnamedBlobs::Store(store.clone()),
            bandwidth: None,
        }
    }

    /// Writes blobs to any sink, e.g. a repository of a registry; `source` reads from the same place. The registry mounts
    /// them into other repositories when the images are copied. `spool` takes layers of `docker save`, one at a time.
    #[must_use]
    pub fn in_sink(sink: Arc<dyn ImageSink>, source: Arc<dyn ImageSource>, spool: &Utf8Path) -> Staging {
        Staging {
            sink,
            source,
            unnamed: UnnamedBlobs::Spool(spool.to_owned()),
            bandwidth: None,
        }
    }

    /// Limits the bytes that are written, together with all other transfers that share the limit.
    #[must_use]
    pub fn with_bandwidth(self, bandwidth: Option<Arc<BandwidthLimit>>) -> Staging {
        Staging { bandwidth, ..self }
    }

    /// Waits until these bytes may be written.
    pub(super) async fn pass(&self, bytes: usize) {
        if let Some(limit) = &self.bandwidth {
            limit.pass(bytes).await;
        }
    }

    pub(super) fn source(&self) -> Arc<dyn ImageSource> {
        self.source.clone()
    }

    pub(super) fn unnamed(&self) -> UnnamedBlobs {
        self.unnamed.clone()
    }

    /// Returns true if the reader verifies the bytes: sinks that are no registry do that themselves.
    pub(super) fn needs_verification(&self) -> bool {
        self.sink.repository_address().is_some()
    }

    /// Protects a blob from garbage collection before it becomes visible.
    pub(super) async fn protect(&self, blob: &Descriptor) -> Result<(), TransferError> {
        self.sink.blob_state(blob).await.map(drop)
    }

    /// Returns the offset from which on the sink wants a blob; `None` if it has it.
    pub(super) async fn start(&self, blob: &Descriptor) -> Result<Option<u64>, TransferError> {
        Ok(match self.sink.start_blob(blob, None).await? {
            BlobStart::Present | BlobStart::Mounted => None,
            BlobStart::Wanted(offset) => Some(offset),
        })
    }

    /// Writes a blob from an offset on; `chunks` are its bytes from there.
    pub(super) async fn write(&self, blob: &Descriptor, offset: u64, chunks: Chunks) -> Result<(), TransferError> {
        let next = async |mut chunks: Chunks| Some((chunks.recv().await?, chunks));
        let stream = Box::pin(stream::unfold(chunks, next));
        self.sink.write_blob(blob, offset, stream).await
    }
}

/// Bytes of a blob in order, or the error that ends them.
pub(super) type Chunks = mpsc::Receiver<Result<Bytes, TransferError>>;

/// Reads staged blobs of a store. Manifests are not there yet.
#[derive(Debug)]
struct StagedInStore {
    store: ContentStore,
    /// Its lease protects the blobs.
    _lease: Arc<StoreSink>,
}

impl ImageSource for StagedInStore {
    fn describe(&self) -> String {
        "the content store".to_owned()
    }

    fn repository_address(&self) -> Option<RepositoryAddress> {
        None
    }

    fn fetch_manifest<'a>(&'a self, selector: &'a str) -> BoxFuture<'a, Result<RawManifest, TransferError>> {
        let error = TransferError {
            attempt: format!("cannot read manifest `{selector}` from staged blobs"),
            kind: FailureKind::NotFound,
            source: None,
        };
        async move { Err(error) }.boxed()
    }

    fn open_blob<'a>(&'a self, blob: &'a Descriptor, offset: u64) -> BoxFuture<'a, Result<BlobStream, TransferError>> {
        let opened = self
            .store
            .stream_blob(&blob.digest, offset, blob.size.saturating_sub(offset));
        async move {
            opened
                .await
                .map_err(|error| error.during(format!("cannot read blob `{}` from the content store", blob.digest)))
        }
        .boxed()
    }
}
