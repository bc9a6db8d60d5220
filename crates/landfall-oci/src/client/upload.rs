//! Blobs, on their way up: one POST to open, one PUT with all the bytes (OCI distribution specification, "POST then PUT").
//! Chunks are not used: they cost a round trip each and gain nothing where the source can be read again.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, StatusCode};
use landfall_core::oci_types::Descriptor;
use landfall_core::reference::{Digest, Repository};
use reqwest::{Response, Url};
use tokio::time::{Instant, sleep_until};

use super::auth::Need;
use super::call::{Call, CallBody, Target};
use super::error::{Action, Fault, RegistryError};
use super::problem::{ConnectionProblem, ProtocolProblem};
use super::transport::{location, stalled};
use super::{RegistryClient, Timeouts};
use crate::image::{BlobStream, TransferError};

impl RegistryClient {
    /// Pushes a blob; the registry verifies it against its digest.
    ///
    /// # Errors
    /// When the registry does not take it, the transfer stalls or breaks, or `stream` fails.
    pub async fn push_blob(
        &self,
        repository: &Repository,
        blob: &Descriptor,
        stream: BlobStream,
    ) -> Result<(), RegistryError> {
        let pushed = self.push_blob_inner(repository, blob, stream).await;
        pushed.map_err(|fault| self.error(push_action(repository, &blob.digest), fault))
    }

    async fn push_blob_inner(
        &self,
        repository: &Repository,
        blob: &Descriptor,
        stream: BlobStream,
    ) -> Result<(), Fault> {
        let path = format!("/v2/{repository}/blobs/uploads/");
        let need = Need::Push(repository.clone());
        let opened = Call::new(Method::POST, path, need.clone());
        let opened = self.transport.send_expecting(opened, &[StatusCode::ACCEPTED]).await?;
        let mut url = upload_url(&opened)?;
        url.query_pairs_mut().append_pair("digest", blob.digest.as_str());

        let watch = Watch::default();
        let body = WatchedStream {
            inner: stream,
            left: blob.size,
            watch: watch.clone(),
        };
        let mut put =
            Call::new(Method::PUT, "", need).header(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        put.target = Target::Url(url);
        put.body = CallBody::Stream(reqwest::Body::wrap_stream(body), blob.size);
        let expected = [StatusCode::CREATED, StatusCode::OK, StatusCode::NO_CONTENT];
        let sent = tokio::select! {
            sent = self.transport.send_expecting(put, &expected) => sent,
            fault = watch.guard(&self.transport.endpoint().timeouts) => Err(fault),
        };
        match watch.take_failure() {
            Some(failure) if sent.is_err() => Err(Fault::Body(failure)),
            _ => sent.map(drop),
        }
    }

    /// Asks the registry to take a blob over from another of its repositories. `false` when it does not: then the blob
    /// has to be pushed.
    ///
    /// # Errors
    /// When the registry cannot be asked.
    pub async fn mount_blob(
        &self,
        repository: &Repository,
        digest: &Digest,
        from: &Repository,
    ) -> Result<bool, RegistryError> {
        let mounted = self.mount_blob_inner(repository, digest, from).await;
        mounted.map_err(|fault| self.error(push_action(repository, digest), fault))
    }

    async fn mount_blob_inner(&self, to: &Repository, digest: &Digest, from: &Repository) -> Result<bool, Fault> {
        let path = format!("/v2/{to}/blobs/uploads/?mount={digest}&from={from}");
        let need = Need::Mount {
            to: to.clone(),
            from: from.clone(),
        };
        let expected = [StatusCode::CREATED, StatusCode::ACCEPTED];
        let answer = self
            .transport
            .send_expecting(Call::new(Method::POST, path, need), &expected)
            .await?;
        if answer.status() == StatusCode::CREATED {
            return Ok(true);
        }
        // It opened an upload instead, which nobody needs.
        let mut cancel = Call::new(Method::DELETE, "", Need::Push(to.clone()));
        cancel.target = Target::Url(upload_url(&answer)?);
        if let Err(fault) = self.transport.send(cancel).await {
            tracing::debug!(%digest, error = %fault, "an upload that was not asked for could not be cancelled");
        }
        Ok(false)
    }
}

fn push_action(repository: &Repository, digest: &Digest) -> Action {
    Action::PushBlob {
        repository: repository.clone(),
        digest: digest.clone(),
    }
}

fn upload_url(answer: &Response) -> Result<Url, Fault> {
    let to = location(answer.url(), answer.headers()).ok_or(Fault::from(ProtocolProblem::NoLocation))?;
    super::origin::judge_redirect(answer.url(), &to).map_err(|reason| Fault::RedirectRefused {
        to: super::origin::authority(&to),
        reason,
    })?;
    Ok(to)
}

/// Where an upload is. Time that is spent waiting for the source does not count as a stall of the registry: the source
/// has limits of its own.
#[derive(Debug, Clone, Copy)]
enum Turn {
    /// The source has to give bytes.
    Source,
    /// The registry has to take bytes, since then.
    Registry(Instant),
    /// The registry has all bytes and has to answer, since then.
    Answer(Instant),
}

/// Watches an upload from outside of its body.
#[derive(Clone)]
struct Watch {
    shared: Arc<Mutex<(Turn, Option<TransferError>)>>,
}

impl Default for Watch {
    fn default() -> Watch {
        let begin = (Turn::Registry(Instant::now()), None);
        Watch {
            shared: Arc::new(Mutex::new(begin)),
        }
    }
}

impl Watch {
    fn set(&self, turn: Turn) {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner).0 = turn;
    }

    fn turn(&self) -> Turn {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner).0
    }

    fn fail(&self, failure: TransferError) {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner).1 = Some(failure);
    }

    fn take_failure(&self) -> Option<TransferError> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner).1.take()
    }

    /// Ends when the registry has let us wait for too long.
    async fn guard(&self, timeouts: &Timeouts) -> Fault {
        loop {
            let (deadline, fault): (_, fn(Duration) -> Fault) = match self.turn() {
                Turn::Source => (Instant::now() + timeouts.stall, stalled),
                Turn::Registry(since) => (since + timeouts.stall, stalled),
                Turn::Answer(since) => (since + timeouts.commit, no_answer),
            };
            if deadline <= Instant::now() {
                return fault(match self.turn() {
                    Turn::Answer(_) => timeouts.commit,
                    Turn::Source | Turn::Registry(_) => timeouts.stall,
                });
            }
            sleep_until(deadline).await;
        }
    }
}

fn no_answer(limit: Duration) -> Fault {
    Fault::from(ConnectionProblem::AnswerTimeout(limit))
}

/// The body of an upload: tells the watch whose turn it is, and keeps the source's failure, which the HTTP client would
/// wrap beyond recognition.
struct WatchedStream {
    inner: BlobStream,
    left: u64,
    watch: Watch,
}

impl Stream for WatchedStream {
    type Item = Result<Bytes, std::io::Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match self.inner.as_mut().poll_next(cx) {
            Poll::Pending => {
                self.watch.set(Turn::Source);
                Poll::Pending
            }
            Poll::Ready(Some(Ok(chunk))) => {
                self.left = self.left.saturating_sub(chunk.len() as u64);
                let now = Instant::now();
                // The HTTP client may not ask again once it has as many bytes as it announced.
                self.watch.set(if self.left == 0 {
                    Turn::Answer(now)
                } else {
                    Turn::Registry(now)
                });
                Poll::Ready(Some(Ok(chunk)))
            }
            Poll::Ready(Some(Err(failure))) => {
                self.watch.fail(failure);
                Poll::Ready(Some(Err(std::io::Error::other("the source failed"))))
            }
            Poll::Ready(None) => {
                self.watch.set(Turn::Answer(Instant::now()));
                Poll::Ready(None)
            }
        }
    }
}
