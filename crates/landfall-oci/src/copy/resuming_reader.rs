//! The bytes of a blob on their way from the source: opened again where they broke off, as often as it takes, so that the
//! sink sees one stream without a gap. A registry that takes an upload in one piece needs that most.

use bytes::Bytes;
use futures_util::StreamExt;
use landfall_core::failure::FailureKind;
use landfall_core::oci_types::Descriptor;
use landfall_core::status::ProgressEvent;
use tokio::sync::mpsc;

use super::job::Job;
use super::upload_digest::UploadDigest;
use crate::image::TransferError;

/// Progress after which earlier failures are forgotten: a link that breaks now and then still gets the blob through,
/// while one that never gets this far is given up.
const RETRY_RESET_BYTES: u64 = 1024 * 1024;

impl Job<'_> {
    /// Sends the bytes of a blob from `offset` on. Ends when all are sent, when nobody listens any more, or when the source
    /// has failed for good; then the listener hears it too.
    pub(super) async fn read_resuming(
        &self,
        blob: &Descriptor,
        offset: u64,
        sender: mpsc::Sender<Result<Bytes, TransferError>>,
        bytes_moved: &mut u64,
        mut upload_digest: Option<&mut UploadDigest>,
    ) -> Result<(), TransferError> {
        let mut position = offset;
        let mut failed = 0;
        loop {
            let begin = position;
            let outcome = self.read_once(blob, &mut position, &sender, bytes_moved, upload_digest.as_deref_mut());
            let Err(error) = outcome.await else {
                return Ok(());
            };
            if position - begin >= RETRY_RESET_BYTES {
                failed = 0;
                // The link is cut now and then, and nobody asked us to wait: a pause at each cut would only add up.
                if error.kind == FailureKind::Unreachable && !self.options.cancel.is_cancelled() {
                    tracing::debug!(digest = %blob.digest, position, error = %error.chain(), "resumed at once");
                    continue;
                }
            }
            // Bytes that are wrong are with the sink already: no more of them.
            let is_wrong = upload_digest.is_some() && error.kind == FailureKind::Corrupt;
            let wait = async {
                match is_wrong {
                    true => Err(error),
                    false => self.wait_to_retry(blob.digest.as_str(), &mut failed, error).await,
                }
            };
            if let Err(error) = wait.await {
                let copy = TransferError {
                    attempt: error.attempt.clone(),
                    kind: error.kind,
                    source: None,
                };
                // Nobody listening is no failure of the source's.
                drop(sender.send(Err(copy)).await);
                return Err(error);
            }
        }
    }

    async fn read_once(
        &self,
        blob: &Descriptor,
        position: &mut u64,
        sender: &mpsc::Sender<Result<Bytes, TransferError>>,
        bytes_moved: &mut u64,
        mut upload_digest: Option<&mut UploadDigest>,
    ) -> Result<(), TransferError> {
        let mut stream = self.unless_stopped(self.source.open_blob(blob, *position)).await??;
        while let Some(chunk) = self.unless_stopped(stream.next()).await? {
            let chunk = chunk?;
            let length = chunk.len();
            *bytes_moved += length as u64;
            if let Some(upload_digest) = &mut upload_digest {
                upload_digest.update(blob, *position, &chunk)?;
            }
            if let Some(limit) = &self.options.bandwidth {
                self.unless_stopped(limit.pass(length)).await?;
            }
            if sender.send(Ok(chunk)).await.is_err() {
                return Ok(());
            }
            *position += length as u64;
            self.progress.progress(ProgressEvent::BlobAdvanced {
                digest: blob.digest.to_string(),
                bytes: length as u64,
            });
        }
        Ok(())
    }
}
