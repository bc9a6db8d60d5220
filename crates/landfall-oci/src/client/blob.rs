//! Downloads of blobs: opened at an offset, monitored for stalls, never longer than their descriptor says. The sink
//! verifies the digest: it alone sees all bytes of a resumed transfer.

use std::pin::Pin;
use std::time::Duration;

use bytes::{Buf, Bytes};
use futures_util::stream;
use http::header::{CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, RANGE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use landfall_core::failure::Shortcut;
use landfall_core::oci_types::Descriptor;
use landfall_core::reference::{Digest, Repository};
use landfall_net::stall::StallTimer;
use reqwest::Response;
use tokio::time::{Instant, timeout};

use super::auth::scope::Scope;
use super::connect::classify;
use super::content_coding::{BodyDecoder, content_coding};
use super::error::stalled;
use super::error::{Fault, RegistryAction, RegistryError};
use super::problem::{ConnectionProblem, ProtocolProblem};
use super::request::RegistryRequest;
use crate::client::registry_client::RegistryClient;
use crate::header_names::IN_PLACE;
use crate::image::{BlobStream, TransferError};

impl RegistryClient {
    /// Opens a blob at a byte offset. If a registry ignores the range and sends the whole blob, the client skips the
    /// bytes before the offset. The stream ends with an error if it stalls, breaks, or has the wrong length.
    ///
    /// # Errors
    /// Fails if the blob is missing, cannot be fetched, or has another size.
    pub async fn open_blob(
        &self,
        repository: &Repository,
        blob: &Descriptor,
        offset: u64,
    ) -> Result<BlobStream, RegistryError> {
        if offset >= blob.size && offset > 0 {
            return Ok(Box::pin(stream::empty()));
        }
        let mut reader = BlobReader {
            client: self.clone(),
            repository: repository.clone(),
            blob: blob.clone(),
            position: offset,
            body: None,
        };
        reader.open().await?;
        let chunks = stream::unfold(Some(reader), async |reader| {
            let mut reader = reader?;
            match reader.next_chunk().await {
                Ok(Some(chunk)) => Some((Ok(chunk), Some(reader))),
                Ok(None) => None,
                Err(error) => Some((Err(TransferError::from(error)), None)),
            }
        });
        Ok(Box::pin(chunks) as Pin<Box<_>>)
    }

    /// Requests the bytes from `offset` on: by a range, or the whole blob where the registry gives no ranges.
    async fn open_body(&self, repository: &Repository, blob: &Descriptor, offset: u64) -> Result<ResponseBody, Fault> {
        let left = blob.size.saturating_sub(offset);
        let requested = self.ranges.range_size(left);
        if offset > 0 || requested < left {
            let subject = format!("{repository} {}", blob.digest);
            let range = self.request_body(repository, blob, offset, requested);
            if let Some(body) = self.try_shortcut(Shortcut::BlobRange, subject, range).await? {
                return Ok(body);
            }
        }
        let mut body = self.request_body(repository, blob, 0, blob.size).await?;
        body.skip = offset;
        body.left = left;
        Ok(body)
    }

    /// Requests `requested` bytes of a blob from `offset` on. The registry may send all of it in place of a range.
    async fn request_body(
        &self,
        repository: &Repository,
        blob: &Descriptor,
        offset: u64,
        requested: u64,
    ) -> Result<ResponseBody, Fault> {
        let mut request = blob_request(Method::GET, repository, blob);
        let left = blob.size.saturating_sub(offset);
        let range = match requested < left {
            // A range gets a connection of its own, so that no connection gets old enough to be cut.
            true => Some(format!("bytes={offset}-{}", offset + requested - 1)),
            false if offset > 0 => Some(format!("bytes={offset}-")),
            false => None,
        };
        if requested < left {
            request = request.header(CONNECTION, HeaderValue::from_static("close"));
        }
        if let Some(range) = range {
            request = request.header(RANGE, HeaderValue::from_str(&range).expect("digits are visible ASCII"));
        }
        let expected = [StatusCode::OK, StatusCode::PARTIAL_CONTENT];
        let response = self.transport.send_expecting(request, &expected).await?;
        let timeouts = &self.transport.endpoint().timeouts;
        let body = |response, skip, left| ResponseBody {
            response,
            decoder: None,
            skip,
            left,
            received: 0,
            size: blob.size,
            stall_timer: timeouts.stall_timer(),
            stall: timeouts.stall,
        };
        let stated = header_number(response.headers(), CONTENT_LENGTH.as_str());
        let coding = content_coding(response.headers())?;
        if response.status() == StatusCode::OK {
            return match coding {
                // A blob of the right length is the blob: the server takes the layer's own compression for a coding.
                Some(coding) if stated != Some(blob.size) => Ok(ResponseBody {
                    decoder: Some(BodyDecoder::new(coding, blob.size).map_err(|_| not_decoded(&response))?),
                    ..body(response, offset, left)
                }),
                _ => {
                    check_size(stated, blob.size)?;
                    Ok(body(response, offset, left))
                }
            };
        }
        // A range of a coded body is one of the coded bytes (RFC 9110 section 14.1).
        if coding.is_some() && stated != Some(requested) {
            return Err(not_decoded(&response));
        }
        let range = response
            .headers()
            .get(CONTENT_RANGE)
            .and_then(|value| parse_content_range(value.to_str().ok()?));
        match range {
            Some((first, total)) if first == offset => {
                check_size(total, blob.size)?;
                Ok(body(response, 0, requested))
            }
            _ => Err(Fault::from(ProtocolProblem::WrongRange { offset })),
        }
    }

    /// Returns the size of a blob that is known by its digest only; `None` if it is missing.
    ///
    /// # Errors
    /// Fails if the registry cannot be asked or does not say.
    pub async fn blob_size(&self, repository: &Repository, digest: &Digest) -> Result<Option<u64>, RegistryError> {
        let blob = Descriptor::new("application/octet-stream", digest.clone(), 0);
        let fail = |fault| self.error(fetch_action(repository, &blob), fault);
        let ask = async |method| {
            let request = blob_request(method, repository, &blob);
            let expected = [StatusCode::OK, StatusCode::NOT_FOUND];
            let response = self.transport.send_expecting(request, &expected).await?;
            if response.status() == StatusCode::NOT_FOUND {
                return Ok(None);
            }
            refuse_page(response.headers())?;
            let size = header_number(response.headers(), CONTENT_LENGTH.as_str());
            size.map(Some).ok_or(Fault::from(ProtocolProblem::NoSize))
        };
        let subject = format!("{repository} {digest}");
        let head = self.try_shortcut(Shortcut::BlobHead, subject, ask(Method::HEAD));
        match head.await.map_err(fail)? {
            Some(size) => Ok(size),
            // The bytes of the answer are not read.
            None => ask(Method::GET).await.map_err(fail),
        }
    }

    /// Returns true if the repository has the blob with the size of its descriptor. False means that it is to be
    /// uploaded: it is missing, the registry does not hold it ([`IN_PLACE`]), or does not say.
    ///
    /// # Errors
    /// Fails if the registry cannot be reached, or is to be asked again.
    pub async fn find_pushed_blob(&self, repository: &Repository, blob: &Descriptor) -> Result<bool, RegistryError> {
        let head = async {
            let request = blob_request(Method::HEAD, repository, blob);
            let response = self.transport.send_expecting(request, &[StatusCode::OK]).await?;
            refuse_page(response.headers())?;
            let headers = response.headers();
            let size = header_number(headers, CONTENT_LENGTH.as_str());
            Ok(!headers.contains_key(IN_PLACE) && size.is_none_or(|size| size == blob.size))
        };
        let subject = format!("{repository} {}", blob.digest);
        let found = self.try_shortcut(Shortcut::BlobBeforeUpload, subject, head).await;
        let found = found.map_err(|fault| self.error(fetch_action(repository, blob), fault))?;
        Ok(found.unwrap_or(false))
    }
}

fn fetch_action(repository: &Repository, blob: &Descriptor) -> RegistryAction {
    RegistryAction::FetchBlob {
        repository: repository.clone(),
        digest: blob.digest.clone(),
    }
}

fn blob_request(method: Method, repository: &Repository, blob: &Descriptor) -> RegistryRequest {
    let path = format!("/v2/{repository}/blobs/{}", blob.digest);
    RegistryRequest::new(method, path, Scope::Pull(repository.clone()))
}

/// Refuses a web page: proxies and login pages answer so with 200.
fn refuse_page(headers: &HeaderMap) -> Result<(), Fault> {
    let media_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let is_page = media_type.is_some_and(|text| text.trim_start().to_ascii_lowercase().starts_with("text/html"));
    if is_page {
        return Err(Fault::from(ProtocolProblem::WebPage));
    }
    Ok(())
}

fn header_number(headers: &HeaderMap, name: &str) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.trim().parse().ok()
}

fn check_size(found: Option<u64>, expected: u64) -> Result<(), Fault> {
    match found {
        Some(found) if found != expected => Err(Fault::WrongSize { expected, found }),
        _ => Ok(()),
    }
}

/// Parses `bytes FIRST-LAST/TOTAL` (RFC 9110 section 14.4) into first byte and total; the total may be `*`.
fn parse_content_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
    let first = range.split_once('-')?.0.trim().parse().ok()?;
    match total.trim() {
        "*" => Some((first, None)),
        total => Some((first, Some(total.parse().ok()?))),
    }
}

fn not_decoded(response: &Response) -> Fault {
    let coding = response.headers().get(CONTENT_ENCODING);
    let coding = coding.and_then(|coding| coding.to_str().ok()).unwrap_or_default();
    Fault::from(ProtocolProblem::ContentCoding(coding.to_owned()))
}

/// A blob that is read from one or more responses.
struct BlobReader {
    client: RegistryClient,
    repository: Repository,
    blob: Descriptor,
    position: u64,
    body: Option<ResponseBody>,
}

impl BlobReader {
    async fn open(&mut self) -> Result<(), RegistryError> {
        let opened = self.client.open_body(&self.repository, &self.blob, self.position);
        let body = opened.await.map_err(|fault| self.error(fault))?;
        self.body = Some(body);
        Ok(())
    }

    async fn next_chunk(&mut self) -> Result<Option<Bytes>, RegistryError> {
        loop {
            let Some(body) = &mut self.body else {
                self.open().await?;
                continue;
            };
            match body.next_chunk().await {
                Ok(Some(chunk)) => {
                    self.position += chunk.len() as u64;
                    return Ok(Some(chunk));
                }
                Ok(None) => {
                    self.client.ranges.completed(body.received);
                    if self.position >= self.blob.size {
                        return Ok(None);
                    }
                    self.body = None;
                }
                Err(fault) => {
                    if matches!(fault, Fault::Connection { .. }) {
                        self.client.ranges.connection_broke(body.received);
                    }
                    return Err(self.error(fault));
                }
            }
        }
    }

    fn error(&self, fault: Fault) -> RegistryError {
        self.client.error(fetch_action(&self.repository, &self.blob), fault)
    }
}

/// The body of a response while it is read.
struct ResponseBody {
    response: Response,
    /// Undoes the content coding of the response.
    decoder: Option<BodyDecoder>,
    /// Bytes before the requested offset.
    skip: u64,
    /// Remaining bytes after the skipped ones.
    left: u64,
    received: u64,
    size: u64,
    /// Detects a stall of the response. Time that the sink takes does not count.
    stall_timer: StallTimer,
    stall: Duration,
}

impl ResponseBody {
    async fn next_chunk(&mut self) -> Result<Option<Bytes>, Fault> {
        loop {
            let begin = Instant::now();
            let chunk = timeout(self.stall_timer.remaining(), self.response.chunk())
                .await
                .map_err(|_| stalled(self.stall))?;
            let Some(mut chunk) = chunk.map_err(classify)? else {
                return self.end();
            };
            self.stall_timer.add_wait(begin.elapsed());
            self.stall_timer.add_bytes(chunk.len());
            self.received += chunk.len() as u64;
            if let Some(decoder) = &mut self.decoder {
                chunk = decoder.decode(&chunk).map_err(|_| not_decoded(&self.response))?.into();
            }
            let skipped = chunk.len().min(usize::try_from(self.skip).unwrap_or(usize::MAX));
            chunk.advance(skipped);
            self.skip -= skipped as u64;
            let length = chunk.len() as u64;
            if length > self.left {
                return Err(Fault::WrongSize {
                    expected: self.size,
                    found: self.size - self.left + length,
                });
            }
            self.left -= length;
            if length > 0 {
                return Ok(Some(chunk));
            }
        }
    }

    /// Ends the body. A body that is too short without a transport error has no stated length: an old proxy sends one
    /// after it lost its upstream.
    fn end(&self) -> Result<Option<Bytes>, Fault> {
        if self.left == 0 {
            return Ok(None);
        }
        Err(Fault::from(ConnectionProblem::Broken))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_its_first_byte_and_the_total() {
        let cases = [
            ("bytes 5-9/10", Some((5, Some(10)))),
            ("bytes 5-9/*", Some((5, None))),
            ("bytes */10", None),
            ("items 5-9/10", None),
            ("bytes 5-9", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_content_range(text), expected, "{text}");
        }
    }
}
