//! Handles a request: authentication, then the distribution protocol, then the fault.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_RANGE, CONTENT_TYPE, LINK, LOCATION, RANGE,
    WWW_AUTHENTICATE,
};
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use serde_json::json;

use super::content::Content;
use super::fault::{Effect, take_fault};
use super::{LoggedRequest, State, access, harbor};
use crate::image_builder::{digest_of, gzip};

const DIGEST_HEADER: HeaderName = HeaderName::from_static("docker-content-digest");

/// Returns the response, or `None` if the connection has to close without one.
pub(super) async fn handle(state: &State, request: Request<Incoming>) -> Option<Response<FakeBody>> {
    let (parts, body) = request.into_parts();
    let is_range = parts.headers.contains_key(RANGE);
    let effect = take_fault(
        &mut state.lock().faults,
        parts.method.as_str(),
        &path_of(&parts),
        is_range,
    );
    state.lock().faults_met += u64::from(effect.is_some());
    let answer = answer_with_fault(state, &parts, body, effect).await;
    let header = |name: HeaderName| parts.headers.get(name).and_then(|value| value.to_str().ok());
    state.lock().log.push(LoggedRequest {
        method: parts.method.to_string(),
        path: path_of(&parts),
        status: answer.as_ref().map(|answer| answer.status().as_u16()),
        authorization: header(AUTHORIZATION)
            .and_then(|value| value.split(' ').next())
            .map(str::to_owned),
        range: header(RANGE).map(str::to_owned),
    });
    answer
}

fn path_of(parts: &Parts) -> String {
    parts.uri.path_and_query().map(ToString::to_string).unwrap_or_default()
}

async fn answer_with_fault(
    state: &State,
    parts: &Parts,
    body: Incoming,
    effect: Option<Effect>,
) -> Option<Response<FakeBody>> {
    match &effect {
        Some(Effect::NeverRead) => std::future::pending().await,
        Some(Effect::CloseAfterReading(limit)) => {
            read_at_most(body, *limit).await;
            return None;
        }
        Some(Effect::Delay(delay)) => tokio::time::sleep(*delay).await,
        Some(Effect::Status(status, headers, text)) => {
            let mut answer = Response::new(FakeBody::whole(text.clone().into()));
            *answer.status_mut() = StatusCode::from_u16(*status).expect("the test names a valid status");
            for (name, value) in headers {
                answer.headers_mut().insert(*name, header_value(value));
            }
            return Some(answer);
        }
        Some(Effect::Redirect(to)) => {
            return Some(mk_answer(StatusCode::TEMPORARY_REDIRECT, "").with(LOCATION, to).build());
        }
        _ => {}
    }
    let ranged = !matches!(effect, Some(Effect::IgnoreRange));
    let body = read_at_most(body, usize::MAX).await?;
    let mut answer = match gate(state, parts, &body) {
        Some(refused) => refused.build(),
        None => match &state.upstream {
            Some(upstream) => upstream.forward(parts, body, ranged).await?,
            None => answer(state, parts, body, ranged).build(),
        },
    };
    match effect {
        Some(Effect::CutBodyAfter(kept)) => answer.body_mut().end = End::Cut(kept),
        Some(Effect::StallBodyAfter(kept)) => answer.body_mut().end = End::Stall(kept),
        Some(Effect::Truncate(kept)) => {
            let bytes = &mut answer.body_mut().bytes;
            bytes.truncate(kept);
            // hyper sets `Content-Length` from the body.
            answer.body_mut().length = kept;
        }
        Some(Effect::FlipBit) => {
            let mut bytes = answer.body().bytes.to_vec();
            if let Some(last) = bytes.last_mut() {
                *last ^= 1;
            }
            answer.body_mut().bytes = bytes.into();
        }
        Some(Effect::ShiftRange) => {
            answer
                .headers_mut()
                .insert(CONTENT_RANGE, HeaderValue::from_static("bytes 0-0/1"));
        }
        Some(Effect::Location(to)) => {
            answer.headers_mut().insert(LOCATION, header_value(&to));
        }
        Some(Effect::Gzip | Effect::ForcedGzip | Effect::SaysGzip) => {
            let asks_identity = parts
                .headers
                .get(ACCEPT_ENCODING)
                .is_some_and(|value| value == "identity");
            if !asks_identity || !matches!(effect, Some(Effect::Gzip)) {
                if !matches!(effect, Some(Effect::SaysGzip)) {
                    let bytes: Bytes = gzip(&answer.body().bytes).into();
                    answer.body_mut().length = bytes.len();
                    answer.body_mut().bytes = bytes;
                }
                answer
                    .headers_mut()
                    .insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            }
        }
        Some(Effect::UploadId) => {
            let id = HeaderName::from_static("docker-upload-uuid");
            answer.headers_mut().insert(id, HeaderValue::from_static("upload-1"));
        }
        Some(Effect::ListsSubject) => {
            let subject = HeaderName::from_static("oci-subject");
            answer
                .headers_mut()
                .insert(subject, HeaderValue::from_static("sha256:0"));
        }
        Some(Effect::NoDigestHeader) => {
            answer.headers_mut().remove(DIGEST_HEADER);
        }
        _ => {}
    }
    Some(answer)
}

async fn read_at_most(mut body: Incoming, limit: usize) -> Option<Bytes> {
    let mut read = BytesMut::new();
    while read.len() < limit
        && let Some(frame) = body.frame().await
    {
        if let Ok(data) = frame.ok()?.into_data() {
            read.extend_from_slice(&data);
        }
    }
    Some(read.freeze())
}

/// A response under construction.
struct Answer(Response<FakeBody>);

fn mk_answer(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(FakeBody::whole(body.into()));
    *answer.status_mut() = status;
    Answer(answer)
}

fn mk_error(status: StatusCode, code: &str, message: &str) -> Answer {
    let body = json!({"errors": [{"code": code, "message": message}]}).to_string();
    mk_answer(status, body).with(CONTENT_TYPE, "application/json")
}

fn header_value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("the test names a valid header")
}

impl Answer {
    fn with(mut self, name: HeaderName, value: &str) -> Answer {
        self.0.headers_mut().insert(name, header_value(value));
        self
    }

    fn build(self) -> Response<FakeBody> {
        self.0
    }
}

/// Authenticates a request: issues tokens, and returns the response to a refused request.
fn gate(state: &State, parts: &Parts, body: &Bytes) -> Option<Answer> {
    let path = parts.uri.path();
    let authorization = parts.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let mut inner = state.lock();
    if path == "/token" {
        let form = String::from_utf8_lossy(body);
        let (pairs, may_have) = if parts.method == Method::POST {
            let sent = values(&form, "refresh_token").pop();
            let known = &state.options.identity_token;
            (&*form, known.is_some() && sent == *known)
        } else {
            let query = parts.uri.query().unwrap_or("");
            (query, access::may_have_token(&state.options.access, authorization))
        };
        if !may_have {
            return Some(mk_error(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", "wrong login"));
        }
        let scopes = values(pairs, "scope");
        let token = inner.tokens.give(scopes);
        let text = json!({"token": token, "expires_in": 300}).to_string();
        return Some(mk_answer(StatusCode::OK, text));
    }
    if let Some(harbor) = &state.options.harbor
        && path.starts_with(harbor::PROJECTS)
    {
        let is_known =
            access::challenge(&state.options.access, &inner.tokens, &state.base, authorization, None).is_none();
        let (status, code) = harbor.answer(&mut inner.projects, is_known, parts, body);
        return Some(mk_error(status, code, "an answer of the project API"));
    }
    let path = path.strip_prefix("/v2/")?;
    let writes = parts.method != Method::GET && parts.method != Method::HEAD;
    let needed = repository_of(path).map(|name| (name.to_owned(), if writes { "push" } else { "pull" }));
    let challenge = access::challenge(&state.options.access, &inner.tokens, &state.base, authorization, needed);
    let refused = mk_error(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", "authentication required");
    challenge.map(|challenge| refused.with(WWW_AUTHENTICATE, &challenge))
}

fn answer(state: &State, parts: &Parts, body: Bytes, ranged: bool) -> Answer {
    let Some(path) = parts.uri.path().strip_prefix("/v2/") else {
        return mk_error(StatusCode::NOT_FOUND, "UNKNOWN", "no such page");
    };
    let mut inner = state.lock();
    if path.is_empty() {
        return mk_answer(StatusCode::OK, "{}");
    }
    if let Some(harbor) = &state.options.harbor
        && let Some(name) = repository_of(path)
        && !harbor.has_project_of(&inner.projects, name)
    {
        return mk_error(StatusCode::NOT_FOUND, "NOT_FOUND", "project not found");
    }
    if path == "_catalog" {
        let repositories = inner.content.repositories();
        return page(parts, "repositories", &repositories);
    }
    if let Some(repository) = path.strip_suffix("/tags/list") {
        let tags = inner.content.tags(repository);
        return page(parts, "tags", &tags);
    }
    let content = &mut inner.content;
    if let Some((repository, selector)) = path.split_once("/manifests/") {
        return manifest(content, parts, repository, selector, body);
    }
    match path.split_once("/blobs/") {
        Some((repository, upload)) if upload.starts_with("uploads/") => blob_upload(content, parts, repository, body),
        Some((repository, digest)) => blob(content, parts, repository, digest, ranged),
        None => mk_error(StatusCode::NOT_FOUND, "UNKNOWN", "no such page"),
    }
}

fn repository_of(path: &str) -> Option<&str> {
    let middles = ["/blobs/", "/manifests/", "/tags/"];
    middles.iter().find_map(|middle| Some(path.split_once(middle)?.0))
}

fn query(parts: &Parts, name: &str) -> Vec<String> {
    values(parts.uri.query().unwrap_or(""), name)
}

/// Returns the values of one name in a query or a form.
fn values(pairs: &str, name: &str) -> Vec<String> {
    let pairs = pairs.split('&').filter_map(|pair| pair.split_once('='));
    // Decodes only the characters that scopes and digests need.
    let decode = |text: &str| text.replace("%3A", ":").replace("%2F", "/").replace("%2C", ",");
    pairs
        .filter(|(found, _)| *found == name)
        .map(|(_, value)| decode(value))
        .collect()
}

/// Returns a page of two entries, so that a list of three has a second page.
fn page(parts: &Parts, key: &str, all: &[String]) -> Answer {
    const PAGE: usize = 2;
    let last = query(parts, "last").pop();
    let start = last
        .and_then(|last| all.iter().position(|entry| *entry == last))
        .map_or(0, |found| found + 1);
    let entries: Vec<_> = all.iter().skip(start).take(PAGE).collect();
    let answer = mk_answer(StatusCode::OK, json!({ (key): entries }).to_string());
    match entries.last() {
        Some(last) if start + PAGE < all.len() => {
            let link = format!("<{}?last={last}>; rel=\"next\"", parts.uri.path());
            answer.with(LINK, &link)
        }
        _ => answer,
    }
}

fn manifest(content: &mut Content, parts: &Parts, repository: &str, selector: &str, body: Bytes) -> Answer {
    if parts.method == Method::PUT {
        if let Some(missing) = content.missing_part(repository, &body) {
            return mk_error(StatusCode::BAD_REQUEST, "MANIFEST_BLOB_UNKNOWN", &missing);
        }
        let media_type = parts
            .headers
            .get(CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .unwrap_or("");
        let digest = content.put_manifest(repository, selector, media_type, body);
        return mk_answer(StatusCode::CREATED, "").with(DIGEST_HEADER, digest.as_str());
    }
    match content.manifest(repository, selector) {
        Some((media_type, bytes)) => {
            let digest = digest_of(&bytes);
            mk_answer(StatusCode::OK, bytes)
                .with(CONTENT_TYPE, &media_type)
                .with(DIGEST_HEADER, digest.as_str())
        }
        None => mk_error(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN", "manifest unknown"),
    }
}

fn blob(content: &Content, parts: &Parts, repository: &str, digest: &str, ranged: bool) -> Answer {
    let Some(bytes) = content.blob_in(repository, digest) else {
        return mk_error(StatusCode::NOT_FOUND, "BLOB_UNKNOWN", "blob unknown to registry");
    };
    let range = parts
        .headers
        .get(RANGE)
        .and_then(|value| value.to_str().ok())
        .filter(|_| ranged);
    let ends = range.and_then(|range| {
        let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
        Some((first.parse::<usize>().ok()?, last.parse().unwrap_or(usize::MAX)))
    });
    match ends {
        None => mk_answer(StatusCode::OK, bytes),
        Some((first, last)) if first < bytes.len() && first <= last => {
            let end = last.min(bytes.len() - 1) + 1;
            let range = format!("bytes {first}-{}/{}", end - 1, bytes.len());
            mk_answer(StatusCode::PARTIAL_CONTENT, bytes.slice(first..end)).with(CONTENT_RANGE, &range)
        }
        Some(_) => mk_error(StatusCode::RANGE_NOT_SATISFIABLE, "SIZE_INVALID", "range"),
    }
}

fn blob_upload(content: &mut Content, parts: &Parts, repository: &str, body: Bytes) -> Answer {
    match parts.method {
        Method::POST => {
            let from = query(parts, "from").pop().unwrap_or_default();
            let mounted = query(parts, "mount")
                .pop()
                .filter(|digest| content.blob_in(&from, digest).is_some());
            if let Some(digest) = mounted {
                content.link_blob(repository, &digest);
                return mk_answer(StatusCode::CREATED, "");
            }
            let location = format!("/v2/{repository}/blobs/uploads/{}?state=s", content.next_upload());
            mk_answer(StatusCode::ACCEPTED, "").with(LOCATION, &location)
        }
        Method::PATCH => {
            let path = parts.uri.path();
            let length = content.append(path, &body);
            let range = format!("0-{}", length.saturating_sub(1));
            mk_answer(StatusCode::ACCEPTED, "")
                .with(LOCATION, path)
                .with(RANGE, &range)
        }
        Method::PUT => {
            let expected = query(parts, "digest").pop().unwrap_or_default();
            content.append(parts.uri.path(), &body);
            let body = content.take_upload(parts.uri.path());
            if digest_of(&body).as_str() != expected {
                return mk_error(
                    StatusCode::BAD_REQUEST,
                    "DIGEST_INVALID",
                    "provided digest did not match",
                );
            }
            content.put_blob(body);
            content.link_blob(repository, &expected);
            mk_answer(StatusCode::CREATED, "").with(DIGEST_HEADER, &expected)
        }
        _ => mk_answer(StatusCode::NO_CONTENT, ""),
    }
}

/// A body that can be cut or stalled.
pub(super) struct FakeBody {
    bytes: Bytes,
    length: usize,
    sent: usize,
    waited: bool,
    end: End,
}

#[derive(Clone, Copy)]
enum End {
    Whole,
    Cut(usize),
    Stall(usize),
}

impl FakeBody {
    pub(super) fn whole(bytes: Bytes) -> FakeBody {
        FakeBody {
            length: bytes.len(),
            bytes,
            sent: 0,
            waited: false,
            end: End::Whole,
        }
    }
}

impl Body for FakeBody {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let limit = match self.end {
            End::Whole => self.bytes.len(),
            End::Cut(kept) | End::Stall(kept) => kept.min(self.bytes.len()),
        };
        if self.sent < limit {
            let chunk = self.bytes.slice(self.sent..limit);
            self.sent = limit;
            return Poll::Ready(Some(Ok(Frame::data(chunk))));
        }
        match self.end {
            End::Whole => Poll::Ready(None),
            End::Cut(kept) if kept >= self.bytes.len() => Poll::Ready(None),
            End::Stall(_) => Poll::Pending,
            // The server flushes while it waits for this body: the bytes sent so far must arrive before the
            // cut.
            End::Cut(_) if !self.waited => {
                self.waited = true;
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            End::Cut(_) => Poll::Ready(Some(Err("an injected fault".into()))),
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact((self.length - self.sent.min(self.length)) as u64)
    }
}
