//! The client of the status API for uploads.

use std::io::SeekFrom;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context as _;
use camino::Utf8Path;
use fs_err as fs;
use futures_util::StreamExt as _;
use landfall_core::bundle::upload::{UploadRequest, UploadStatus};
use landfall_core::failure::{Explanation, RetryPolicy};
use landfall_core::status::{ProgressEvent, ProgressSink};
use landfall_core::sync::lock;
use landfall_net::random::random_fraction;
use reqwest::header::{AUTHORIZATION, CONTENT_LENGTH, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use tokio::time::{Instant, sleep};
use tokio_util::io::ReaderStream;
use zeroize::Zeroizing;

use super::local_file::LocalFile;
use crate::host_api::{ApiAddress, ApiTrustArgs, HostApi, SHORT_TIMEOUT, read_body, read_refusal};

/// Time in which something of a range has to move. The host syncs a range to its disk before it answers.
const STALL: Duration = Duration::from_secs(120);
/// Interval of the look at a range that is being sent.
const STALL_CHECKED_EVERY: Duration = Duration::from_secs(5);
/// Attempts at a request: a host that restarts is back within their time.
const RETRIES: RetryPolicy = RetryPolicy {
    attempts: 10,
    first_delay: Duration::from_secs(1),
    longest_delay: Duration::from_secs(20),
    longest_wait: Duration::from_secs(120),
};
/// Bytes of one read of the file.
const READ_SIZE: usize = 256 * 1024;
/// A client of one host.
#[derive(Debug)]
pub(super) struct UploadClient {
    api: HostApi,
}

/// End of a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RangeEnd {
    /// The host took it from this run.
    Taken,
    /// The host had it by then.
    There,
    /// Another client sends it.
    Left,
}

/// Failure of a request.
enum Failure {
    /// The same request may succeed later, after this wait if the host named one.
    Passing(anyhow::Error, Option<Duration>),
    /// Somebody else sends the range.
    InFlight(anyhow::Error),
    Lasting(anyhow::Error),
}

impl UploadClient {
    /// # Errors
    /// If others on the network could read the token, or if it or the certificate cannot be read.
    pub(super) fn new(to: &ApiAddress, token: &Utf8Path, trust: &ApiTrustArgs) -> anyhow::Result<UploadClient> {
        to.require_encryption()?;
        let text = Zeroizing::new(fs::read_to_string(token)?);
        let bearer = Zeroizing::new(format!("Bearer {}", text.trim()));
        let usable = HeaderValue::from_str(&bearer).ok().filter(|_| !text.trim().is_empty());
        let mut authorization = usable.with_context(|| {
            Explanation::new(
                format!("`{token}` holds no token"),
                "copy the file `upload-token` out of the agent's state directory",
            )
        })?;
        authorization.set_sensitive(true);
        let headers = HeaderMap::from_iter([(AUTHORIZATION, authorization)]);
        let api = HostApi::new(to, trust, headers)?;
        Ok(UploadClient { api })
    }

    pub(super) async fn begin(&self, request: &UploadRequest) -> anyhow::Result<UploadStatus> {
        let send = || self.request(Method::POST, "").json(request).timeout(SHORT_TIMEOUT);
        self.ask(&send).await
    }

    pub(super) async fn show(&self, id: &str) -> anyhow::Result<UploadStatus> {
        let send = || self.request(Method::GET, &format!("/{id}")).timeout(SHORT_TIMEOUT);
        self.ask(&send).await
    }

    /// Ends an upload. One that is gone is as good.
    pub(super) async fn end(&self, id: &str) -> anyhow::Result<()> {
        let request = self.request(Method::DELETE, &format!("/{id}")).timeout(SHORT_TIMEOUT);
        let response = request.send().await.map_err(|error| self.api.unreachable(error))?;
        match response.status() {
            StatusCode::NO_CONTENT | StatusCode::NOT_FOUND => Ok(()),
            _ => Err(read_failure(response).await.into_error()),
        }
    }

    /// Sends a range until the host has it, or somebody else sends it.
    pub(super) async fn send_range(
        &self,
        id: &str,
        number: u64,
        file: &LocalFile,
        range_size: u64,
        sink: &dyn ProgressSink,
    ) -> anyhow::Result<RangeEnd> {
        let sha256 = file.hash_range(number, range_size).await?;
        let path = format!("/{id}/ranges/{number}?sha256={}", sha256.hex());
        let (start, length) = file.span(number, range_size);
        let mut failed = 0;
        loop {
            match self.try_range(&path, file, start, length).await {
                Ok(end) => return Ok(end),
                Err(Failure::InFlight(error)) => {
                    // The caller asks again for what is missing.
                    tracing::debug!(%error, "a range is left to another client");
                    sleep(Duration::from_secs(1)).await;
                    return Ok(RangeEnd::Left);
                }
                Err(Failure::Lasting(error)) => return Err(error),
                Err(Failure::Passing(error, wait)) => {
                    failed += 1;
                    self.wait(failed, &error, wait, &file.progress_name(), sink)
                        .await
                        .ok_or(error)?;
                }
            }
        }
    }

    async fn try_range(&self, path: &str, file: &LocalFile, start: u64, length: u64) -> Result<RangeEnd, Failure> {
        let lasting = |error: std::io::Error| Failure::Lasting(anyhow::Error::from(error).context(file.path.clone()));
        let mut content = tokio::fs::File::open(&file.path).await.map_err(lasting)?;
        content.seek(SeekFrom::Start(start)).await.map_err(lasting)?;
        let moved = Arc::new(Mutex::new(Instant::now()));
        let moves = moved.clone();
        let chunks = ReaderStream::with_capacity(content.take(length), READ_SIZE);
        let chunks = chunks.inspect(move |_| *lock(&moves) = Instant::now());
        let request = self
            .request(Method::PUT, path)
            .header(CONTENT_LENGTH, length)
            .body(reqwest::Body::wrap_stream(chunks));
        let stalled = async {
            loop {
                sleep(STALL_CHECKED_EVERY).await;
                if lock(&moved).elapsed() >= STALL {
                    return;
                }
            }
        };
        let response = tokio::select! {
            response = request.send() => response.map_err(|error| self.not_sent(error))?,
            () = stalled => {
                let error = anyhow::anyhow!("nothing moved for {} s", STALL.as_secs());
                return Err(Failure::Passing(error, None));
            }
        };
        match response.status() {
            StatusCode::CREATED => Ok(RangeEnd::Taken),
            StatusCode::OK => Ok(RangeEnd::There),
            _ => Err(read_failure(response).await),
        }
    }

    /// Sends a short request until it is answered.
    async fn ask(&self, send: &dyn Fn() -> RequestBuilder) -> anyhow::Result<UploadStatus> {
        let mut failed = 0;
        loop {
            let failure = match send().send().await {
                Err(error) => self.not_sent(error),
                Ok(response) if response.status() == StatusCode::OK => {
                    let bytes = read_body(response).await?;
                    return self.api.parse(&bytes);
                }
                Ok(response) => read_failure(response).await,
            };
            match failure {
                Failure::Passing(error, wait) => {
                    failed += 1;
                    let name = self.api.address.to_string();
                    let sink = landfall_core::status::NoProgress;
                    self.wait(failed, &error, wait, &name, &sink).await.ok_or(error)?;
                }
                failure => return Err(failure.into_error()),
            }
        }
    }

    /// Waits before the next attempt. Returns `None` if there is none.
    async fn wait(
        &self,
        failed: u32,
        error: &anyhow::Error,
        asked: Option<Duration>,
        subject: &str,
        sink: &dyn ProgressSink,
    ) -> Option<()> {
        if failed >= RETRIES.attempts || asked.is_some_and(|asked| asked > RETRIES.longest_wait) {
            return None;
        }
        let delay = RETRIES.delay(failed, random_fraction()).max(asked.unwrap_or_default());
        sink.progress(ProgressEvent::Retrying {
            subject: subject.to_owned(),
            attempt: failed + 1,
            delay_ms: u64::try_from(delay.as_millis()).unwrap_or(u64::MAX),
            error: format!("{error:#}"),
        });
        sleep(delay).await;
        Some(())
    }

    fn not_sent(&self, error: reqwest::Error) -> Failure {
        match self.api.refused_certificate(&error) {
            true => Failure::Lasting(self.api.unreachable(error)),
            false => Failure::Passing(self.api.unreachable(error), None),
        }
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let url = format!("{}/api/v1/uploads{path}", self.api.address);
        self.api.http.request(method, url)
    }
}

impl Failure {
    fn into_error(self) -> anyhow::Error {
        match self {
            Failure::Passing(error, _) | Failure::InFlight(error) | Failure::Lasting(error) => error,
        }
    }
}

/// Reads the answer to a request that failed.
async fn read_failure(response: Response) -> Failure {
    let status = response.status();
    let wait = response.headers().get(RETRY_AFTER);
    let wait = wait
        .and_then(|wait| wait.to_str().ok()?.parse().ok())
        .map(Duration::from_secs);
    let error = read_refusal(response).await;
    match status {
        StatusCode::CONFLICT if wait.is_some() => Failure::InFlight(error),
        StatusCode::REQUEST_TIMEOUT | StatusCode::UNPROCESSABLE_ENTITY => Failure::Passing(error, wait),
        StatusCode::TOO_MANY_REQUESTS if wait.is_some() => Failure::Passing(error, wait),
        // What was sent may have been cut short on the way.
        StatusCode::BAD_REQUEST => Failure::Passing(error, wait),
        status if status.is_server_error() && status != StatusCode::INSUFFICIENT_STORAGE => {
            Failure::Passing(error, wait)
        }
        _ => Failure::Lasting(error),
    }
}

#[cfg(test)]
mod tests {
    use landfall_testkit::closed_port::ClosedPort;
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::TcpListener;

    use super::*;

    /// Answers one request as a host does that has all of the file.
    async fn serve_one(listener: TcpListener) {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = vec![0; 4096];
        let _read = stream.read(&mut request).await.unwrap();
        let body =
            r#"{"name": "a.tar", "state": "complete", "size": 1, "rangeSize": 1, "receivedBytes": 1, "missing": 0}"#;
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        stream.write_all(answer.as_bytes()).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_followed_hint_about_an_agent_that_does_not_run_ends_its_message() {
        let directory = tempfile::tempdir().unwrap();
        let token = Utf8Path::from_path(directory.path()).unwrap().join("upload-token");
        fs::write(&token, "0123456789abcdef0123456789abcdef\n").unwrap();
        let port = ClosedPort::bind();
        let to: ApiAddress = format!("http://{}", port.address()).parse().unwrap();
        let client = UploadClient::new(&to, &token, &ApiTrustArgs::default()).unwrap();
        let request = UploadRequest {
            name: "a.tar".parse().unwrap(),
            size: 1,
            range_size: None,
            bundle: None,
            replace: false,
            dry_run: false,
        };
        let error = client.begin(&request).await.unwrap_err();
        let text = crate::error_chain(&error);
        let hint = "hint: check the address, and that the agent runs there; it listens beyond the host itself only with \
                    `landfall.listen`";
        assert!(text.ends_with(hint), "{text}");
        // The agent is started.
        tokio::time::resume();
        let listener = port.listen();
        listener.set_nonblocking(true).unwrap();
        let serving = serve_one(TcpListener::from_std(listener).unwrap());
        let (begun, ()) = tokio::join!(client.begin(&request), serving);
        assert_eq!(begun.unwrap().missing, 0);
    }
}
