//! Writing of content into containerd under a lease: blobs with resume, and manifests with the labels that keep their
//! children.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::pin::pin;
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use futures_util::{Stream, StreamExt as _};
use landfall_core::failure::FailureKind;
use landfall_core::oci_types::{Descriptor, is_manifest_type};
use landfall_core::reference::Digest;
use tonic::Code;

use super::children::child_labels;
use super::connection::{CALL_LIMIT, Namespace, unsigned};
use super::error::ContainerdError;
use super::lease::ContainerdLease;
use super::proto::services::content::v1 as content;
use super::proto::types;
use super::writer::{BlobWriter, ingest_name};

/// Presence of a blob in containerd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlobPresence {
    /// All bytes, verified.
    Complete,
    /// The first bytes, from an earlier [`Import::write_blob`].
    Partial(u64),
    Missing,
}

#[derive(Debug, thiserror::Error)]
pub enum WriteBlobError<E> {
    /// The stream of bytes failed. The bytes before the failure are kept. The error is the stream's own.
    #[error(transparent)]
    Source(E),
    #[error(transparent)]
    Containerd(#[from] ContainerdError),
}

/// A running import into one namespace. Call [`Import::finish`] once images refer to the content that must stay.
#[derive(Debug)]
pub struct Import {
    lease: ContainerdLease,
}

impl Namespace {
    /// Starts to write content. containerd's garbage collection spares everything that the import wrote or found until
    /// the import is finished. After a crash, the lease ends after `lifetime`.
    ///
    /// # Errors
    /// If the call to containerd fails.
    pub async fn begin_import(&self, lifetime: Duration) -> Result<Import, ContainerdError> {
        let lease = ContainerdLease::create(self.clone(), lifetime).await?;
        Ok(Import { lease })
    }
}

impl Import {
    #[must_use]
    pub fn namespace(&self) -> &Namespace {
        self.lease.namespace()
    }

    /// Returns the presence of a blob. Existing content stays at least until the import is finished.
    ///
    /// # Errors
    /// If the call to containerd fails.
    pub async fn blob_presence(&self, digest: &Digest) -> Result<BlobPresence, ContainerdError> {
        self.lease.add_content(digest).await?;
        if self.has_content(digest).await? {
            return Ok(BlobPresence::Complete);
        }
        let request = self.lease.request(content::StatusRequest {
            r#ref: ingest_name(digest),
        });
        let mut client = self.lease.content_client();
        match self
            .lease
            .call(
                CALL_LIMIT,
                "look for a partial write of",
                digest,
                client.status(request),
            )
            .await
        {
            Ok(answer) => Ok(match answer.status.map_or(0, |status| unsigned(status.offset)) {
                0 => BlobPresence::Missing,
                offset => BlobPresence::Partial(offset),
            }),
            Err(error) if error.is(Code::NotFound) => Ok(BlobPresence::Missing),
            Err(error) => Err(error),
        }
    }

    /// Writes a blob from a stream whose first byte is byte `offset` of the blob. The blob exists once containerd has
    /// verified digest and size. If the blob exists already, this succeeds and does not read the stream. While another
    /// writer holds the blob, this waits. If the stream fails, the bytes so far are kept for another attempt
    /// ([`Import::blob_presence`]).
    ///
    /// # Errors
    /// The stream's own error, or containerd's. Wrong bytes are [`FailureKind::Corrupt`] and are deleted.
    ///
    /// [`FailureKind::Corrupt`]: landfall_core::failure::FailureKind::Corrupt
    pub async fn write_blob<E>(
        &self,
        blob: &Descriptor,
        offset: u64,
        stream: impl Stream<Item = Result<Bytes, E>> + Send,
    ) -> Result<(), WriteBlobError<E>> {
        let written = self.write(blob, BTreeMap::new(), offset, stream).await;
        self.settle(&blob.digest, written).await
    }

    /// Writes a manifest or an index whose children all exist, with the labels that keep them. `manifest` holds the
    /// exact bytes of `digest`.
    ///
    /// # Errors
    /// If `manifest` is no manifest, or the call to containerd fails.
    pub async fn write_manifest(
        &self,
        media_type: &str,
        digest: &Digest,
        manifest: Bytes,
    ) -> Result<(), ContainerdError> {
        let labels = if is_manifest_type(media_type) {
            labels_of(digest, &manifest)?
        } else {
            BTreeMap::new()
        };
        if self.blob_presence(digest).await? == BlobPresence::Complete {
            return self.update_labels(digest, labels).await;
        }
        let blob = Descriptor::new(media_type, digest.clone(), manifest.len() as u64);
        let stream = futures_util::stream::iter([Ok::<_, Infallible>(manifest)]);
        let written = self.write(&blob, labels.clone(), 0, stream).await;
        match self.settle(digest, written).await {
            // Another writer may have written the manifest meanwhile, without our labels.
            Ok(()) => self.update_labels(digest, labels).await,
            Err(WriteBlobError::Source(never)) => match never {},
            Err(WriteBlobError::Containerd(error)) => Err(error),
        }
    }

    /// Ends the lease: containerd may collect everything that no image refers to.
    ///
    /// # Errors
    /// If the call to containerd fails; the lease then ends by its expiry.
    pub async fn finish(self) -> Result<(), ContainerdError> {
        self.lease.end().await
    }

    async fn has_content(&self, digest: &Digest) -> Result<bool, ContainerdError> {
        let request = self.lease.request(content::InfoRequest {
            digest: digest.to_string(),
        });
        let mut client = self.lease.content_client();
        match self
            .lease
            .call(CALL_LIMIT, "look for", digest, client.info(request))
            .await
        {
            Ok(_) => Ok(true),
            Err(error) if error.is(Code::NotFound) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn update_labels(&self, digest: &Digest, labels: BTreeMap<String, String>) -> Result<(), ContainerdError> {
        if labels.is_empty() {
            return Ok(());
        }
        let paths = labels.keys().map(|key| format!("labels.{key}")).collect();
        let request = self.lease.request(content::UpdateRequest {
            info: Some(content::Info {
                digest: digest.to_string(),
                labels,
            }),
            update_mask: Some(types::FieldMask { paths }),
        });
        let mut client = self.lease.content_client();
        self.lease
            .call(CALL_LIMIT, "label", digest, client.update(request))
            .await
            .map(drop)
    }

    /// Turns "already exists" into success, and deletes wrong bytes, so that the next attempt does not continue from
    /// them.
    async fn settle<E>(
        &self,
        digest: &Digest,
        written: Result<(), WriteBlobError<E>>,
    ) -> Result<(), WriteBlobError<E>> {
        match &written {
            Err(WriteBlobError::Containerd(error)) if error.is(Code::AlreadyExists) => return Ok(()),
            Err(WriteBlobError::Containerd(error)) if error.kind() == FailureKind::Corrupt => {
                let request = self.lease.request(content::AbortRequest {
                    r#ref: ingest_name(digest),
                });
                let mut client = self.lease.content_client();
                let aborted = self
                    .lease
                    .call(CALL_LIMIT, "drop the wrong bytes of", digest, client.abort(request))
                    .await;
                if let Err(error) = aborted {
                    // The error about the wrong bytes matters to the caller. If they stay, the next attempt detects
                    // them again.
                    tracing::debug!(%digest, %error, "wrong bytes were not dropped");
                }
            }
            _ => {}
        }
        written
    }

    async fn write<E>(
        &self,
        blob: &Descriptor,
        labels: BTreeMap<String, String>,
        offset: u64,
        stream: impl Stream<Item = Result<Bytes, E>> + Send,
    ) -> Result<(), WriteBlobError<E>> {
        let mut stream = pin!(stream);
        let mut writer = BlobWriter::open(&self.lease, blob).await?;
        let held = writer.received();
        if held < offset {
            return Err(ContainerdError::OffsetLost {
                digest: blob.digest.clone(),
                offset,
                held,
            }
            .into());
        }
        // containerd may have more bytes than the caller knows of: a blob of another namespace is complete at once.
        let mut skip = held - offset;
        while writer.received() < blob.size {
            match stream.next().await {
                Some(Ok(mut bytes)) => {
                    let skipped = bytes.len().min(usize::try_from(skip).unwrap_or(usize::MAX));
                    bytes.advance(skipped);
                    skip -= skipped as u64;
                    writer.append(&bytes).await?;
                }
                Some(Err(error)) => {
                    writer.pause().await?;
                    return Err(WriteBlobError::Source(error));
                }
                None => {
                    let received = writer.received();
                    writer.pause().await?;
                    let (digest, size) = (blob.digest.clone(), blob.size);
                    return Err(ContainerdError::SourceEnded { digest, received, size }.into());
                }
            }
        }
        Ok(writer.commit(labels).await?)
    }
}

fn labels_of(digest: &Digest, manifest: &[u8]) -> Result<BTreeMap<String, String>, ContainerdError> {
    child_labels(manifest).map_err(|source| ContainerdError::Manifest {
        digest: digest.clone(),
        source,
    })
}
