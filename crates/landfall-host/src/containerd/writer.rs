//! One blob's write stream. Requests and answers alternate, so that containerd's own pace holds the source back and every
//! acknowledged byte is one that a later attempt need not send.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::BytesMut;
use landfall_core::oci_types::Descriptor;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::import::{Import, ingest_name, unsigned};
use super::proto::services::content::v1::{WriteAction, WriteContentRequest, WriteContentResponse};
use super::{CALL_LIMIT, ContainerdError, wire_size};

/// Opening a partial write makes containerd hash what is there, and a commit syncs it to disk.
const WHOLE_BLOB_LIMIT: Duration = Duration::from_secs(600);
/// How often it is asked whether another writer of the same blob is done.
const LOCK_POLL: Duration = Duration::from_millis(200);
const CHUNK_LIMIT: Duration = Duration::from_secs(60);
/// Large enough that waiting for the answer does not show, well below the 4 MiB that any gRPC server takes.
const CHUNK_BYTES: usize = 1 << 20;

/// A blob while it is written.
pub(super) struct BlobWriter<'a> {
    import: &'a Import,
    blob: &'a Descriptor,
    requests: mpsc::Sender<WriteContentRequest>,
    answers: Streaming<WriteContentResponse>,
    /// Bytes that containerd has acknowledged.
    acknowledged: u64,
    /// Bytes that are not sent yet.
    pending: BytesMut,
}

impl<'a> BlobWriter<'a> {
    /// Opens a new write, or the one that an earlier attempt left. containerd lets in one writer of a blob at a time: while
    /// there is another, of ours or not, this waits, mostly to hear that the blob is there.
    pub(super) async fn open(import: &'a Import, blob: &'a Descriptor) -> Result<Self, ContainerdError> {
        let begun = Instant::now();
        loop {
            match Self::try_open(import, blob).await {
                Err(error) if error.is_locked() && begun.elapsed() < WHOLE_BLOB_LIMIT => sleep(LOCK_POLL).await,
                other => return other,
            }
        }
    }

    async fn try_open(import: &'a Import, blob: &'a Descriptor) -> Result<Self, ContainerdError> {
        let (requests, outgoing) = mpsc::channel(1);
        let mut client = import.content_client();
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
        let opening = client.write(import.request(ReceiverStream::new(outgoing)));
        let answers = import
            .call(WHOLE_BLOB_LIMIT, "open a write of", &blob.digest, opening)
            .await?;
        let mut writer = BlobWriter {
            import,
            blob,
            requests,
            answers,
            acknowledged: 0,
            pending: BytesMut::new(),
        };
        writer.acknowledged = writer.answer(WHOLE_BLOB_LIMIT).await?;
        Ok(writer)
    }

    /// Bytes of the blob that are here or in containerd.
    pub(super) fn received(&self) -> u64 {
        self.acknowledged + self.pending.len() as u64
    }

    /// Takes the blob's next bytes.
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

    /// Sends the rest and makes the blob count. containerd verifies its size and digest.
    pub(super) async fn commit(mut self, labels: BTreeMap<String, String>) -> Result<(), ContainerdError> {
        self.flush().await?;
        let commit = WriteContentRequest {
            labels,
            ..self.request(WriteAction::Commit)
        };
        self.exchange(commit, WHOLE_BLOB_LIMIT).await.map(drop)
    }

    /// Sends the rest and leaves the write to a later attempt. Returns when containerd has let go of it.
    pub(super) async fn pause(mut self) -> Result<(), ContainerdError> {
        self.flush().await?;
        let BlobWriter {
            import,
            blob,
            requests,
            mut answers,
            ..
        } = self;
        drop(requests);
        let closing = async { answers.message().await.map(tonic::Response::new) };
        import
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

    /// A request at the current offset. containerd takes an offset of 0 on a write that has bytes as "begin again".
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
        // When containerd has ended the stream, its answer says why and this cannot be sent.
        let _ended = self.requests.send(request).await;
        self.answer(limit).await
    }

    /// The offset in containerd's next answer.
    fn answer(&mut self, limit: Duration) -> impl Future<Output = Result<u64, ContainerdError>> + Send {
        let (import, digest) = (self.import, &self.blob.digest);
        let answers = &mut self.answers;
        async move {
            let next = async {
                match answers.message().await? {
                    Some(answer) => Ok(tonic::Response::new(unsigned(answer.offset))),
                    None => Err(tonic::Status::unavailable("the stream ended before its answer")),
                }
            };
            import.call(limit, "write", digest, next).await
        }
    }
}
