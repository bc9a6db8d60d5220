//! Blobs, on their way up: one POST to open, one PUT with all the bytes (OCI distribution specification, "POST then PUT").
//! The POST asks at the same time whether the blob is there already, or can be mounted from another repository, so that
//! a new blob costs two requests and any other one.
//!
//! An upload that broke off goes on where the registry says it stopped. Some registries lose an upload whose request broke
//! off, and some proxies take no large request; for them [`RegistryClient::append_to_upload`] sends pieces on connections of
//! their own.

pub(super) mod habit;
mod journal;
mod pieces;
mod resume;
mod session;
mod watch;

use std::time::Duration;

use http::header::{CONNECTION, CONTENT_RANGE, CONTENT_TYPE, RANGE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use landfall_core::oci_types::Descriptor;
use landfall_core::reference::{Digest, Repository};
use reqwest::{Response, Url};

pub use self::journal::UploadJournal;
pub(super) use self::resume::Uploads;
pub use self::session::{Opened, Upload};
use self::watch::{Watch, WatchedStream};
use super::auth::need::Need;
use super::call::{Call, CallBody, Target};
use super::error::{Action, Fault, RegistryError};
use super::problem::ProtocolProblem;
use super::transport::location;
use crate::client::registry_client::RegistryClient;
use crate::header_names::UPLOAD_ID;
use crate::image::BlobStream;

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
        let pushed = async {
            let upload = self.start_upload(repository).await?;
            self.finish(repository, blob, upload, stream).await
        };
        pushed
            .await
            .map_err(|fault| self.push_error(repository, &blob.digest, fault))
    }

    /// Opens an upload, and asks at the same time whether the registry can take the blob over from the repository `from`.
    /// That may be the repository itself: so a blob that is there is found with the request that is needed anyway.
    ///
    /// # Errors
    /// When the registry takes no upload.
    pub async fn open_upload(
        &self,
        repository: &Repository,
        digest: &Digest,
        from: &Repository,
    ) -> Result<Opened, RegistryError> {
        let opened = match self.request_mount(repository, digest, from).await {
            // Not everybody knows how to mount; everybody knows how to be uploaded to.
            Err(Fault::Answer { status, .. }) if is_refusal_of_mount(status) => {
                self.start_upload(repository).await.map(Opened::Wanted)
            }
            asked => asked,
        };
        opened.map_err(|fault| self.push_error(repository, digest, fault))
    }

    /// Asks how much of an upload has arrived; `None` when the registry does not know it any more.
    ///
    /// # Errors
    /// When the registry cannot be asked.
    pub async fn find_upload(
        &self,
        repository: &Repository,
        digest: &Digest,
        upload: &Upload,
    ) -> Result<Option<Upload>, RegistryError> {
        let mut call = Call::new(Method::GET, "", Need::Push(repository.clone()));
        call.target = Target::Url(upload.url.clone());
        let known = [StatusCode::NO_CONTENT, StatusCode::ACCEPTED, StatusCode::OK];
        let lost = [StatusCode::NOT_FOUND, StatusCode::BAD_REQUEST, StatusCode::GONE];
        let answer = self.transport.send_expecting(call, &[known, lost].concat()).await;
        let answer = answer.map_err(|fault| self.push_error(repository, digest, fault))?;
        let is_known = known.contains(&answer.status());
        let Some(offset) = received_bytes(answer.headers()).filter(|_| is_known) else {
            return Ok(None);
        };
        let url = upload_url(&answer).unwrap_or_else(|_| upload.url.clone());
        Ok(Some(Upload { url, offset }))
    }

    /// Sends the rest of a blob, all of it, and has the registry verify the whole.
    ///
    /// # Errors
    /// When the registry does not take it, the transfer stalls or breaks, or `stream` fails.
    pub async fn finish_upload(
        &self,
        repository: &Repository,
        blob: &Descriptor,
        upload: Upload,
        stream: BlobStream,
    ) -> Result<(), RegistryError> {
        let finished = self.finish(repository, blob, upload, stream).await;
        finished.map_err(|fault| self.push_error(repository, &blob.digest, fault))
    }

    /// Sends the next piece of a blob, of so many bytes, on a connection of its own, so that no connection grows old enough
    /// to be cut.
    ///
    /// # Errors
    /// When the registry does not take it, the transfer stalls or breaks, or `piece` fails.
    pub async fn append_to_upload(
        &self,
        repository: &Repository,
        digest: &Digest,
        upload: &Upload,
        piece: BlobStream,
        length: u64,
    ) -> Result<Upload, RegistryError> {
        let appended = self.append(repository, upload, piece, length).await;
        appended.map_err(|fault| self.push_error(repository, digest, fault))
    }

    /// Gives an upload up that nobody needs. That it fails does not matter: registries clean up by themselves.
    pub(super) async fn cancel_upload(&self, repository: &Repository, upload: Upload) {
        let mut cancel = Call::new(Method::DELETE, "", Need::Push(repository.clone()));
        cancel.target = Target::Url(upload.url);
        if let Err(fault) = self.transport.send(cancel).await {
            tracing::debug!(%repository, error = %fault, "an abandoned upload session could not be cancelled");
        }
    }

    async fn start_upload(&self, repository: &Repository) -> Result<Upload, Fault> {
        let path = format!("/v2/{repository}/blobs/uploads/");
        let call = Call::new(Method::POST, path, Need::Push(repository.clone()));
        let answer = self.transport.send_expecting(call, &[StatusCode::ACCEPTED]).await?;
        self.opened(&answer)
    }

    async fn request_mount(&self, to: &Repository, digest: &Digest, from: &Repository) -> Result<Opened, Fault> {
        let path = format!("/v2/{to}/blobs/uploads/?mount={digest}&from={from}");
        let need = if to == from {
            Need::Push(to.clone())
        } else {
            Need::Mount {
                to: to.clone(),
                from: from.clone(),
            }
        };
        let expected = [StatusCode::CREATED, StatusCode::ACCEPTED];
        let call = Call::new(Method::POST, path, need);
        let answer = self.transport.send_expecting(call, &expected).await?;
        if answer.status() == StatusCode::CREATED {
            return Ok(Opened::Present);
        }
        self.opened(&answer).map(Opened::Wanted)
    }

    fn opened(&self, answer: &Response) -> Result<Upload, Fault> {
        if let Some(name) = answer.headers().get(UPLOAD_ID).and_then(|name| name.to_str().ok()) {
            self.habit.calls_an_upload(name);
        }
        let url = upload_url(answer)?;
        Ok(Upload { url, offset: 0 })
    }

    async fn append(
        &self,
        repository: &Repository,
        upload: &Upload,
        piece: BlobStream,
        length: u64,
    ) -> Result<Upload, Fault> {
        let call = upload_call(Method::PATCH, repository, upload.url.clone())
            .header(CONTENT_RANGE, byte_range(upload.offset, length))
            .header(CONNECTION, HeaderValue::from_static("close"));
        let expected = [StatusCode::ACCEPTED, StatusCode::NO_CONTENT, StatusCode::CREATED];
        // There is nothing to verify yet that could take long.
        let answer_within = self.transport.endpoint().timeouts.answer;
        let answer = self.stream_body(call, piece, length, &expected, answer_within).await?;
        Ok(Upload {
            url: upload_url(&answer)?,
            offset: upload.offset + length,
        })
    }

    async fn finish(
        &self,
        repository: &Repository,
        blob: &Descriptor,
        upload: Upload,
        stream: BlobStream,
    ) -> Result<(), Fault> {
        let mut url = upload.url;
        url.query_pairs_mut().append_pair("digest", blob.digest.as_str());
        let mut call = upload_call(Method::PUT, repository, url);
        let length = blob.size.saturating_sub(upload.offset);
        if upload.offset > 0 && length > 0 {
            call = call.header(CONTENT_RANGE, byte_range(upload.offset, length));
        }
        let expected = [StatusCode::CREATED, StatusCode::OK, StatusCode::NO_CONTENT];
        let answer_within = self.transport.endpoint().timeouts.commit_of(blob.size);
        let sent = self.stream_body(call, stream, length, &expected, answer_within);
        sent.await.map(drop)
    }

    /// Sends a request whose body is a stream, for as long as bytes move; the answer has to come soon after the last one.
    async fn stream_body(
        &self,
        mut call: Call,
        stream: BlobStream,
        length: u64,
        expected: &[StatusCode],
        answer_within: Duration,
    ) -> Result<Response, Fault> {
        let timeouts = &self.transport.endpoint().timeouts;
        let watch = Watch::new(timeouts);
        let body = WatchedStream::new(stream, length, watch.clone());
        call.body = CallBody::Stream(reqwest::Body::wrap_stream(body), length);
        let sent = tokio::select! {
            sent = self.transport.send_expecting(call, expected) => sent,
            fault = watch.guard(timeouts.stall, answer_within) => Err(fault),
        };
        match watch.take_failure() {
            Some(failure) if sent.is_err() => Err(Fault::Body(failure)),
            _ => sent,
        }
    }

    fn push_error(&self, repository: &Repository, digest: &Digest, fault: Fault) -> RegistryError {
        let action = Action::PushBlob {
            repository: repository.clone(),
            digest: digest.clone(),
        };
        self.error(action, fault)
    }
}

/// Statuses by which a registry may say that it does not understand a mount, and not that we may not push.
fn is_refusal_of_mount(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED
    )
}

fn upload_call(method: Method, repository: &Repository, url: Url) -> Call {
    let mut call = Call::new(method, "", Need::Push(repository.clone()))
        .header(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    call.target = Target::Url(url);
    call
}

/// `FIRST-LAST`, as the distribution specification writes it for uploads.
fn byte_range(first: u64, length: u64) -> HeaderValue {
    let last = (first + length).saturating_sub(1);
    HeaderValue::from_str(&format!("{first}-{last}")).expect("digits are visible ASCII")
}

/// How many bytes the `Range` of an upload's status means. `0-0` is what registries say of an upload without any.
fn received_bytes(headers: &HeaderMap) -> Option<u64> {
    let text = headers.get(RANGE)?.to_str().ok()?.trim();
    let (first, last) = text.strip_prefix("bytes=").unwrap_or(text).split_once('-')?;
    match (first, last.parse::<u64>().ok()?) {
        ("0", 0) => Some(0),
        ("0", last) => last.checked_add(1),
        _ => None,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_range_of_an_upload_says_how_much_has_arrived() {
        for (text, expected) in [
            ("0-0", Some(0)),
            ("0-41", Some(42)),
            ("bytes=0-41", Some(42)),
            ("5-41", None),
            ("0-18446744073709551615", None),
            ("", None),
            ("x", None),
        ] {
            let headers = HeaderMap::from_iter([(RANGE, HeaderValue::from_static(text))]);
            assert_eq!(received_bytes(&headers), expected, "{text}");
        }
        assert_eq!(received_bytes(&HeaderMap::new()), None);
    }
}
