//! Pushes of blobs: one POST that opens an upload session and one PUT with all bytes (OCI distribution specification,
//! "POST then PUT"). The POST also asks for a mount, so that a blob that the registry has costs one request and a new
//! blob two.
//!
//! After a broken request the client continues at the offset that the registry reports. Some registries lose an upload
//! session whose request broke off, and some proxies reject large requests. For them [`RegistryClient::upload_chunk`]
//! sends chunks, each on a connection of its own.

mod chunks;
mod journal;
mod resume;
mod session;
mod stall;
mod verification;
mod window;

use std::time::Duration;

use http::header::{CONNECTION, CONTENT_RANGE, CONTENT_TYPE, RANGE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use landfall_core::failure::Shortcut;
use landfall_core::oci_types::Descriptor;
use landfall_core::reference::{Digest, Repository};
use reqwest::{Response, Url};

pub use self::journal::UploadJournal;
pub(super) use self::resume::UploadSessions;
pub use self::session::{UploadSession, UploadStart};
use self::stall::{MonitoredBody, StallMonitor};
use self::window::UploadWindow;
use super::auth::scope::Scope;
use super::error::{Fault, RegistryAction, RegistryError};
use super::problem::{ConnectionProblem, ProtocolProblem};
use super::request::{RegistryRequest, RequestBody, RequestTarget};
use super::transport::{location, redirect_target};
use crate::client::registry_client::RegistryClient;
use crate::header_names::UPLOAD_ID;
use crate::image::BlobStream;

impl RegistryClient {
    /// Pushes a blob; the registry verifies it against its digest.
    ///
    /// # Errors
    /// Fails if the registry rejects the blob, the transfer stalls or breaks, or `stream` fails.
    pub async fn push_blob(
        &self,
        repository: &Repository,
        blob: &Descriptor,
        stream: BlobStream,
    ) -> Result<(), RegistryError> {
        let pushed = async {
            let session = self.post_upload(repository).await?;
            self.finish(repository, blob, session, stream).await
        };
        pushed
            .await
            .map_err(|fault| self.push_error(repository, &blob.digest, fault))
    }

    /// Opens an upload session and asks to mount the blob from the repository `from` in the same request. `from` may be
    /// the repository itself: this finds a blob that is present without another request.
    ///
    /// # Errors
    /// Fails if the registry accepts no upload.
    pub async fn start_upload(
        &self,
        repository: &Repository,
        digest: &Digest,
        from: &Repository,
    ) -> Result<UploadStart, RegistryError> {
        let started = async {
            let subject = format!("{repository} {digest} {from}");
            if from != repository {
                let mount = self.request_mount(repository, digest, from);
                if let Some(started) = self.try_shortcut(Shortcut::MountFromOther, &subject, mount).await? {
                    return Ok(started);
                }
            }
            let mount = self.request_mount(repository, digest, repository);
            match self.try_shortcut(Shortcut::MountFromSelf, &subject, mount).await? {
                Some(started) => Ok(started),
                None => self.post_upload(repository).await.map(UploadStart::Accepted),
            }
        };
        started
            .await
            .map_err(|fault| self.push_error(repository, digest, fault))
    }

    /// Asks how many bytes of an upload session arrived; `None` if the registry no longer knows the session.
    ///
    /// # Errors
    /// Fails if the registry cannot be asked.
    pub async fn fetch_upload_status(
        &self,
        repository: &Repository,
        digest: &Digest,
        session: &UploadSession,
    ) -> Result<Option<UploadSession>, RegistryError> {
        let request = status_request(repository, session);
        let status = self.transport.send_expecting(request, &STATUS_ANSWERS);
        let subject = format!("{repository} {digest}");
        let response = self.try_shortcut(Shortcut::UploadStatus, subject, status).await;
        let response = response.map_err(|fault| self.push_error(repository, digest, fault))?;
        let Some((response, offset)) = response.and_then(|response| {
            let offset = received_bytes(response.headers())?;
            Some((response, offset))
        }) else {
            return Ok(None);
        };
        let location = session_location(&response).unwrap_or_else(|_| session.location.clone());
        Ok(Some(UploadSession { location, offset }))
    }

    /// Sends all remaining bytes of a blob and lets the registry verify the blob.
    ///
    /// # Errors
    /// Fails if the registry rejects the blob, the transfer stalls or breaks, or `stream` fails.
    pub async fn finish_upload(
        &self,
        repository: &Repository,
        blob: &Descriptor,
        session: UploadSession,
        stream: BlobStream,
    ) -> Result<(), RegistryError> {
        let finished = self.finish(repository, blob, session, stream).await;
        finished.map_err(|fault| self.push_error(repository, &blob.digest, fault))
    }

    /// Sends the next `length` bytes of a blob on a connection of its own, so that no connection gets old enough to be
    /// cut.
    ///
    /// # Errors
    /// Fails if the registry rejects the chunk, the transfer stalls or breaks, or `chunk` fails.
    pub async fn upload_chunk(
        &self,
        repository: &Repository,
        digest: &Digest,
        session: &UploadSession,
        chunk: BlobStream,
        length: u64,
    ) -> Result<UploadSession, RegistryError> {
        let appended = self.append(repository, session, chunk, length).await;
        appended.map_err(|fault| self.push_error(repository, digest, fault))
    }

    /// Cancels an upload session that is not needed. Failures are only logged: registries expire sessions themselves.
    pub(super) async fn cancel_upload(&self, repository: &Repository, session: UploadSession) {
        let mut cancel = RegistryRequest::new(Method::DELETE, "", Scope::Push(repository.clone()));
        cancel.target = RequestTarget::Url(session.location);
        if let Err(fault) = self.transport.send(cancel).await {
            tracing::debug!(%repository, error = %fault, "an abandoned upload session could not be cancelled");
        }
    }

    async fn post_upload(&self, repository: &Repository) -> Result<UploadSession, Fault> {
        let path = format!("/v2/{repository}/blobs/uploads/");
        let request = RegistryRequest::new(Method::POST, path, Scope::Push(repository.clone()));
        let response = self.transport.send_expecting(request, &[StatusCode::ACCEPTED]).await?;
        self.accepted_session(&response)
    }

    async fn request_mount(&self, to: &Repository, digest: &Digest, from: &Repository) -> Result<UploadStart, Fault> {
        let path = format!("/v2/{to}/blobs/uploads/?mount={digest}&from={from}");
        let scope = if to == from {
            Scope::Push(to.clone())
        } else {
            Scope::Mount {
                to: to.clone(),
                from: from.clone(),
            }
        };
        let expected = [StatusCode::CREATED, StatusCode::ACCEPTED];
        let request = RegistryRequest::new(Method::POST, path, scope);
        let response = self.transport.send_expecting(request, &expected).await?;
        if response.status() == StatusCode::CREATED {
            return Ok(UploadStart::Present);
        }
        self.accepted_session(&response).map(UploadStart::Accepted)
    }

    fn accepted_session(&self, response: &Response) -> Result<UploadSession, Fault> {
        if let Some(id) = response.headers().get(UPLOAD_ID).and_then(|id| id.to_str().ok()) {
            self.chunks.saw_upload_id(id);
        }
        let location = session_location(response)?;
        Ok(UploadSession { location, offset: 0 })
    }

    async fn append(
        &self,
        repository: &Repository,
        session: &UploadSession,
        chunk: BlobStream,
        length: u64,
    ) -> Result<UploadSession, Fault> {
        let request = upload_request(Method::PATCH, repository, session.location.clone())
            .header(CONTENT_RANGE, byte_range(session.offset, length))
            .header(CONNECTION, HeaderValue::from_static("close"));
        let expected = [StatusCode::ACCEPTED, StatusCode::NO_CONTENT, StatusCode::CREATED];
        // The registry verifies nothing at this point, so that the response takes no extra time.
        let response_timeout = self.transport.endpoint().timeouts.response;
        let response = self
            .stream_watched(
                repository,
                session,
                request,
                (chunk, length),
                &expected,
                response_timeout,
            )
            .await?;
        Ok(UploadSession {
            location: session_location(&response)?,
            offset: session.offset + length,
        })
    }

    async fn finish(
        &self,
        repository: &Repository,
        blob: &Descriptor,
        session: UploadSession,
        stream: BlobStream,
    ) -> Result<(), Fault> {
        let mut location = session.location.clone();
        // The target of a redirect may have it already.
        if !location.query_pairs().any(|(name, _)| name == "digest") {
            location.query_pairs_mut().append_pair("digest", blob.digest.as_str());
        }
        let mut request = upload_request(Method::PUT, repository, location);
        let length = blob.size.saturating_sub(session.offset);
        if session.offset > 0 && length > 0 {
            request = request.header(CONTENT_RANGE, byte_range(session.offset, length));
        }
        let expected = [StatusCode::CREATED, StatusCode::OK, StatusCode::NO_CONTENT];
        let response_timeout = self.transport.endpoint().timeouts.commit_of(blob.size);
        let body = (stream, length);
        let sent = self.stream_watched(repository, &session, request, body, &expected, response_timeout);
        sent.await.map(drop)
    }

    /// Sends a request with a streamed body, and asks meanwhile how far the registry got, if it may be asked.
    async fn stream_watched(
        &self,
        repository: &Repository,
        session: &UploadSession,
        request: RegistryRequest,
        (stream, length): (BlobStream, u64),
        expected: &[StatusCode],
        response_timeout: Duration,
    ) -> Result<Response, Fault> {
        let Some(window) = self.chunks.window(length).map(UploadWindow::new) else {
            return self
                .stream_body(request, stream, length, expected, response_timeout)
                .await;
        };
        let stall = self.transport.endpoint().timeouts.stall;
        let stream = window.limit(stream);
        let sent = tokio::select! {
            sent = self.stream_body(request, stream, length, expected, response_timeout) => sent,
            fault = self.watch_arrival(repository, session, &window, stall) => Err(fault),
        };
        if let Err(Fault::Connection { problem, .. }) = &sent
            && matches!(
                problem,
                ConnectionProblem::Stalled(_) | ConnectionProblem::ResponseTimeout(_)
            )
        {
            self.chunks.went_silent();
        }
        sent
    }

    /// Sends a request with a streamed body. There is no limit while bytes move; the response must follow the last byte
    /// within `response_timeout`.
    async fn stream_body(
        &self,
        mut request: RegistryRequest,
        stream: BlobStream,
        length: u64,
        expected: &[StatusCode],
        response_timeout: Duration,
    ) -> Result<Response, Fault> {
        let timeouts = &self.transport.endpoint().timeouts;
        let monitor = StallMonitor::new(timeouts);
        let body = MonitoredBody::new(stream, length, monitor.clone());
        request.body = RequestBody::Stream(reqwest::Body::wrap_stream(body), length);
        let send = async {
            let response = self.transport.send(request).await?;
            match response.status() {
                status if expected.contains(&status) => Ok(response),
                // The body is consumed: the next attempt sends it there.
                StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT => Err(Fault::UploadRedirected {
                    to: Box::new(redirect_target(response.url(), response.headers())?),
                }),
                _ => Err(self.transport.status_fault(response).await),
            }
        };
        let sent = tokio::select! {
            sent = send => sent,
            fault = monitor.run(timeouts.stall, response_timeout) => Err(fault),
        };
        match monitor.take_failure() {
            Some(failure) if sent.is_err() => Err(Fault::Body(failure)),
            _ => sent,
        }
    }

    fn push_error(&self, repository: &Repository, digest: &Digest, fault: Fault) -> RegistryError {
        let action = RegistryAction::PushBlob {
            repository: repository.clone(),
            digest: digest.clone(),
        };
        self.error(action, fault)
    }
}

fn upload_request(method: Method, repository: &Repository, url: Url) -> RegistryRequest {
    let mut request = RegistryRequest::new(method, "", Scope::Push(repository.clone()))
        .header(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    request.target = RequestTarget::Url(url);
    request
}

/// Renders `FIRST-LAST`, the form of the distribution specification for uploads.
fn byte_range(first: u64, length: u64) -> HeaderValue {
    let last = (first + length).saturating_sub(1);
    HeaderValue::from_str(&format!("{first}-{last}")).expect("digits are visible ASCII")
}

/// Statuses of an answer about an upload session.
const STATUS_ANSWERS: [StatusCode; 3] = [StatusCode::NO_CONTENT, StatusCode::ACCEPTED, StatusCode::OK];

/// Returns the request for the status of an upload session.
fn status_request(repository: &Repository, session: &UploadSession) -> RegistryRequest {
    let mut request = RegistryRequest::new(Method::GET, "", Scope::Push(repository.clone()));
    request.target = RequestTarget::Url(session.location.clone());
    request
}

/// Returns the number of received bytes from the `Range` of an upload session's status. Registries report `0-0` for a
/// session without any byte.
fn received_bytes(headers: &HeaderMap) -> Option<u64> {
    let text = headers.get(RANGE)?.to_str().ok()?.trim();
    let (first, last) = text.strip_prefix("bytes=").unwrap_or(text).split_once('-')?;
    match (first, last.parse::<u64>().ok()?) {
        ("0", 0) => Some(0),
        ("0", last) => last.checked_add(1),
        _ => None,
    }
}

fn session_location(response: &Response) -> Result<Url, Fault> {
    let to = location(response.url(), response.headers()).ok_or(Fault::from(ProtocolProblem::NoLocation))?;
    super::redirect_policy::check_redirect(response.url(), &to).map_err(|reason| Fault::RedirectRefused {
        to: super::redirect_policy::shown_host(&to),
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
