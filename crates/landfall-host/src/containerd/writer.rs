//! Write stream of one blob. Requests and answers alternate, so that containerd's speed limits the source, and a later
//! attempt need not send any acknowledged byte again.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::BytesMut;
use landfall_core::oci_types::Descriptor;
use landfall_core::reference::Digest;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::connection::{CALL_LIMIT, unsigned, wire_size};
use super::error::ContainerdError;
use super::lease::ContainerdLease;
use super::proto::services::content::v1::{WriteAction, WriteContentRequest, WriteContentResponse};

/// The timeout for opening and committing. When it opens a partial write, containerd hashes the existing bytes; a
/// commit syncs the blob to disk.
const WHOLE_BLOB_LIMIT: Duration = Duration::from_secs(600);
/// The interval between attempts to open a blob that another writer holds.
const LOCK_POLL: Duration = Duration::from_millis(200);
const CHUNK_LIMIT: Duration = Duration::from_secs(60);
/// The size of a chunk: large enough that the wait for the answer has no visible cost, and well below the 4 MiB that
/// any gRPC server accepts.
const CHUNK_BYTES: usize = 1 << 20;

/// The writer of one blob.
pub(super) struct BlobWriter<'a> {
    lease: &'a ContainerdLease,
    blob: &'a Descriptor,
    requests: mpsc::Sender<WriteContentRequest>,
    answers: Streaming<WriteContentResponse>,
    /// The number of bytes that containerd has acknowledged.
    acknowledged: u64,
    /// Bytes that are not sent yet.
    pending: BytesMut,
}

impl<'a> BlobWriter<'a> {
    /// Opens a new write, or the one that an earlier attempt left. containerd admits one writer of a blob at a time. If
    /// another process or task holds the write, this function waits; in most cases it then learns that the blob exists.
    pub(super) async fn open(lease: &'a ContainerdLease, blob: &'a Descriptor) -> Result<Self, ContainerdError> {
        let begun = Instant::now();
        loop {
            match Self::try_open(lease, blob).await {
                Err(error) if error.is_locked() && begun.elapsed() < WHOLE_BLOB_LIMIT => sleep(LOCK_POLL).await,
                other => return other,
            }
        }
    }

    async fn try_open(lease: &'a ContainerdLease, blob: &'a Descriptor) -> Result<Self, ContainerdError> {
        let (requests, outgoing) = mpsc::channel(1);
        let mut client = lease.content_client();
        let stat = WriteContentRequest {
            action: WriteAction::Stat.into(),
            r#ref: ingest_name(&blob.digest),
            total: wire_size(blob.size),
            expected: blob.digest.to_string(),
            ..WriteContentRequest::default()
        };
        requests
            .try_send(stat)
            .expect("the channel has room for one request, and its receiver is held here");
        let opening = client.write(lease.request(ReceiverStream::new(outgoing)));
        let answers = lease
            .call(WHOLE_BLOB_LIMIT, "open a write of", &blob.digest, opening)
            .await?;
        let mut writer = BlobWriter {
            lease,
            blob,
            requests,
            answers,
            acknowledged: 0,
            pending: BytesMut::new(),
        };
        writer.acknowledged = writer.answer(WHOLE_BLOB_LIMIT).await?;
        Ok(writer)
    }

    /// Returns the number of bytes of the blob that are in this buffer or in containerd.
    pub(super) fn received(&self) -> u64 {
        self.acknowledged + self.pending.len() as u64
    }

    /// Appends the blob's next bytes.
    pub(super) async fn append(&mut self, bytes: &[u8]) -> Result<(), ContainerdError> {
        if bytes.len() as u64 > self.blob.size - self.received() {
            let (digest, size) = (self.blob.digest.clone(), self.blob.size);
            return Err(ContainerdError::SourceTooLong { digest, size });
        }
        self.pending.extend_from_slice(bytes);
        while self.pending.len() >= CHUNK_BYTES {
            self.send_chunk().await?;
        }
        Ok(())
    }

    /// Sends the rest and commits the blob. containerd verifies its size and digest.
    pub(super) async fn commit(mut self, labels: BTreeMap<String, String>) -> Result<(), ContainerdError> {
        self.flush().await?;
        let commit = WriteContentRequest {
            labels,
            ..self.request(WriteAction::Commit)
        };
        self.exchange(commit, WHOLE_BLOB_LIMIT).await.map(drop)
    }

    /// Sends the rest and leaves the write to a later attempt. Returns when containerd has released the write.
    pub(super) async fn pause(mut self) -> Result<(), ContainerdError> {
        self.flush().await?;
        let BlobWriter {
            lease,
            blob,
            requests,
            mut answers,
            ..
        } = self;
        drop(requests);
        let closing = async { answers.message().await.map(tonic::Response::new) };
        lease
            .call(CALL_LIMIT, "pause the write of", &blob.digest, closing)
            .await
            .map(drop)
    }

    async fn flush(&mut self) -> Result<(), ContainerdError> {
        while !self.pending.is_empty() {
            self.send_chunk().await?;
        }
        Ok(())
    }

    async fn send_chunk(&mut self) -> Result<(), ContainerdError> {
        let length = self.pending.len().min(CHUNK_BYTES);
        let data = self.pending.split_to(length).freeze();
        let write = WriteContentRequest {
            data,
            ..self.request(WriteAction::Write)
        };
        self.acknowledged = self.exchange(write, CHUNK_LIMIT).await?;
        Ok(())
    }

    /// Makes a request at the current offset. containerd takes an offset of 0 on a write with bytes as "start again".
    fn request(&self, action: WriteAction) -> WriteContentRequest {
        WriteContentRequest {
            action: action.into(),
            r#ref: ingest_name(&self.blob.digest),
            total: wire_size(self.blob.size),
            expected: self.blob.digest.to_string(),
            offset: wire_size(self.acknowledged),
            ..WriteContentRequest::default()
        }
    }

    async fn exchange(&mut self, request: WriteContentRequest, limit: Duration) -> Result<u64, ContainerdError> {
        // If containerd has ended the stream, this request cannot be sent, and containerd's last answer has the reason.
        let _ended = self.requests.send(request).await;
        self.answer(limit).await
    }

    /// Returns the offset in containerd's next answer.
    fn answer(&mut self, limit: Duration) -> impl Future<Output = Result<u64, ContainerdError>> + Send {
        let (lease, digest) = (self.lease, &self.blob.digest);
        let answers = &mut self.answers;
        async move {
            let next = async {
                match answers.message().await? {
                    Some(answer) => Ok(tonic::Response::new(unsigned(answer.offset))),
                    None => Err(tonic::Status::unavailable("the stream ended before its answer")),
                }
            };
            lease.call(limit, "write", digest, next).await
        }
    }
}

/// Returns the name of a blob's partial write. It is the same in every attempt, so that an attempt continues where
/// another stopped.
pub(super) fn ingest_name(digest: &Digest) -> String {
    format!("landfall-{digest}")
}
