//! Uploads over the status API [spec:bundles.upload]: `/api/v1/uploads`, for clients that have the token.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{FromRequestParts as _, Path, Query, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, put};
use axum::{Json, Router};
use camino::Utf8Path;
use futures_util::StreamExt as _;
use landfall_core::bundle::adoption::BundlePhase;
use landfall_core::bundle::pieces::parse_piece_name;
use landfall_core::bundle::upload::{UploadRequest, UploadState, UploadStatus};
use landfall_core::reference::Digest;
use landfall_core::status::BundleStatus;
use landfall_net::serve::budget::ClientAddress;
use landfall_net::serve::stall::is_slow_client;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::problem::Problem;
use crate::metrics::Metrics;
use crate::status::StatusStore;
use crate::uploads::{Offer, Receiving, UploadError, UploadToken, Uploads};

/// Time limit of a range. On a link of 19 kB/s the largest one takes as long; smaller ones can be asked for.
const RANGE_TIMEOUT: Duration = Duration::from_secs(3600);
/// Bytes that are collected before they are written.
const WRITE_SIZE: usize = 1024 * 1024;
/// Time for the rest of a body that is not taken: a client that is still sending would not read the answer.
const LINGER: Duration = Duration::from_secs(5);

/// The parts of the agent that uploads need.
#[derive(Debug, Clone)]
pub(crate) struct UploadApi {
    pub(crate) uploads: Uploads,
    token: Arc<UploadToken>,
    status: StatusStore,
    metrics: Metrics,
}

impl UploadApi {
    /// Finds the uploads in a directory of bundles, and the token. The receiver is told of complete files. Blocks.
    pub(crate) fn open(
        bundles: &Utf8Path,
        state_dir: &Utf8Path,
        status: StatusStore,
        metrics: Metrics,
    ) -> (UploadApi, mpsc::Receiver<UploadStatus>) {
        let (uploads, published) = Uploads::open(bundles);
        let api = UploadApi {
            uploads,
            token: Arc::new(UploadToken::new(state_dir)),
            status,
            metrics,
        };
        (api, published)
    }
}

/// Returns the routes with short requests. The caller limits their bodies and their time.
pub(super) fn short_routes(state: UploadApi) -> Router {
    Router::new()
        .route("/api/v1/uploads", get(list).post(begin))
        .route("/api/v1/uploads/{id}", get(show).delete(end))
        .route_layer(from_fn_with_state(state.clone(), require_token))
        .with_state(state)
}

/// Returns the route of ranges.
pub(super) fn range_routes(state: UploadApi) -> Router {
    Router::new()
        .route("/api/v1/uploads/{id}/ranges/{number}", put(receive))
        .route_layer(from_fn_with_state(state.clone(), require_token))
        .with_state(state)
}

async fn require_token(State(state): State<UploadApi>, request: Request, next: Next) -> Response {
    let presented = request.headers().get(header::AUTHORIZATION).and_then(parse_bearer);
    let client = ClientAddress::of(request.extensions());
    match check_token(&state, client, presented).await {
        Ok(()) => next.run(request).await,
        Err(response) => {
            let (parts, body) = request.into_parts();
            linger(&parts.headers, body).await;
            response
        }
    }
}

async fn check_token(
    state: &UploadApi,
    client: ClientAddress,
    presented: Option<SecretString>,
) -> Result<(), Response> {
    let token = state.token.clone();
    let admitted = match presented {
        None => Ok(false),
        Some(presented) => {
            let check = move || token.admits(client, &presented);
            tokio::task::spawn_blocking(check).await.unwrap_or(Ok(false))
        }
    };
    match admitted {
        Ok(true) => Ok(()),
        Ok(false) => {
            let hint = format!(
                "send it as `Authorization: Bearer TOKEN`: on the host, root finds it in `{}`",
                state.token.path()
            );
            let problem = Problem::new(
                StatusCode::UNAUTHORIZED,
                "uploads need the token of this host",
                Some(&hint),
            );
            let mut response = problem.into_response();
            let challenge = HeaderValue::from_static("Bearer realm=\"landfall\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
            Err(response)
        }
        Err(wait) => {
            let message = "too many wrong tokens came from your address";
            let problem = Problem::new(
                StatusCode::TOO_MANY_REQUESTS,
                message,
                Some("wait, and send the right one"),
            );
            Err(problem.retry_after(wait).into_response())
        }
    }
}

/// Parses the token of an `Authorization` header (RFC 6750).
fn parse_bearer(value: &HeaderValue) -> Option<SecretString> {
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().into())
}

/// Takes what a client is still sending, for a moment. One that waits for leave to send is not told to.
async fn linger(headers: &HeaderMap, body: Body) {
    if headers.contains_key(header::EXPECT) {
        return;
    }
    let mut chunks = body.into_data_stream();
    let drain = async { while let Some(Ok(_)) = chunks.next().await {} };
    drop(timeout(LINGER, drain).await);
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct UploadList {
    api_version: &'static str,
    uploads: Vec<UploadStatus>,
}

async fn list(State(state): State<UploadApi>) -> Result<Json<UploadList>, Problem> {
    let uploads = state.uploads.clone();
    let mut listed = blocking(move || Ok(uploads.list())).await?;
    listed.iter_mut().for_each(|upload| upload.ranges.clear());
    Ok(Json(UploadList {
        api_version: landfall_core::status::API_VERSION,
        uploads: listed,
    }))
}

async fn begin(
    State(state): State<UploadApi>,
    request: Result<Json<UploadRequest>, JsonRejection>,
) -> Result<Json<UploadStatus>, Problem> {
    let Json(request) = request.map_err(|rejection| {
        let hint = "send JSON: {\"name\": \"site.tar.zst\", \"size\": BYTES}";
        Problem::new(rejection.status(), &rejection.body_text(), Some(hint))
    })?;
    if let Some(known) = find_known(&request, &state.status.get().bundles) {
        return Ok(Json(known));
    }
    let uploads = state.uploads.clone();
    Ok(Json(blocking(move || uploads.begin(&request)).await?))
}

/// Returns the answer for a bundle that came to this host before, by whatever way.
fn find_known(request: &UploadRequest, bundles: &[BundleStatus]) -> Option<UploadStatus> {
    let id = request.bundle.as_ref()?;
    if parse_piece_name(request.name.as_str()).is_some() {
        return None;
    }
    let is_here = |bundle: &&BundleStatus| match bundle.phase {
        BundlePhase::Incomplete | BundlePhase::Refused | BundlePhase::Vanished => false,
        _ => bundle.id.as_deref() == Some(id.as_str()) && bundle.adopted == bundle.images,
    };
    let known = bundles.iter().find(is_here)?;
    Some(UploadStatus {
        id: None,
        name: request.name.to_string(),
        state: UploadState::Complete,
        size: request.size,
        range_size: request.size,
        received_bytes: request.size,
        ranges: Vec::new(),
        missing: 0,
        path: Some(known.path.clone()),
    })
}

async fn show(State(state): State<UploadApi>, Path(id): Path<String>) -> Result<Json<UploadStatus>, Problem> {
    Ok(Json(blocking(move || state.uploads.get(&id)).await?))
}

async fn end(State(state): State<UploadApi>, Path(id): Path<String>) -> Result<StatusCode, Problem> {
    blocking(move || state.uploads.remove(&id)).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Debug, Deserialize)]
struct RangeQuery {
    /// SHA-256 of the bytes, in hexadecimal digits.
    sha256: String,
}

async fn receive(
    State(state): State<UploadApi>,
    Path((id, number)): Path<(String, u64)>,
    request: Request,
) -> Response {
    let (mut parts, body) = request.into_parts();
    let query = Query::<RangeQuery>::from_request_parts(&mut parts, &()).await;
    let mut unread = Some(body);
    let received = take_range(&state, id, number, query, &parts.headers, &mut unread).await;
    if let Some(body) = unread {
        linger(&parts.headers, body).await;
    }
    match received {
        Ok((status, mut upload)) => {
            upload.ranges.clear();
            (status, Json(upload)).into_response()
        }
        Err(problem) => problem.into_response(),
    }
}

/// Takes a range: 201 if it was missing, 200 if it was here. The body stays where it is if nothing of it is read.
async fn take_range(
    state: &UploadApi,
    id: String,
    number: u64,
    query: Result<Query<RangeQuery>, QueryRejection>,
    headers: &HeaderMap,
    body: &mut Option<Body>,
) -> Result<(StatusCode, UploadStatus), Problem> {
    let sha256 = query.ok().and_then(|Query(query)| parse_sha256(&query.sha256));
    let sha256 = sha256.ok_or_else(|| {
        let hint = "add `?sha256=` with the 64 hexadecimal digits that `sha256sum` prints";
        Problem::new(StatusCode::BAD_REQUEST, "a range is sent with its SHA-256", Some(hint))
    })?;
    let length = headers.get(header::CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    let uploads = state.uploads.clone();
    let receiving = match blocking(move || uploads.offer(&id, number, length, &sha256)).await? {
        Offer::Here(upload) => return Ok((StatusCode::OK, upload)),
        Offer::Take(receiving) => receiving,
    };
    let Some(body) = body.take() else {
        return Err(Problem::internal("cannot read the range", "the body is gone"));
    };
    let (gives_way, gave_way, bytes) = (receiving.gives_way(), receiving.gave_way(), receiving.length());
    let transfer = timeout(RANGE_TIMEOUT, transfer(receiving, body));
    tokio::select! {
        // A write that is under way ends by itself, and frees the place of the range.
        () = gives_way.cancelled() => Err(gave_way.into()),
        transferred = transfer => {
            let upload = transferred.unwrap_or_else(|_| Err(too_slow()))?;
            state.metrics.uploaded.inc_by(bytes);
            Ok((StatusCode::CREATED, upload))
        }
    }
}

fn parse_sha256(text: &str) -> Option<Digest> {
    let digest: Digest = format!("sha256:{}", text.to_ascii_lowercase()).parse().ok()?;
    (digest.algorithm() == "sha256").then_some(digest)
}

/// Writes the bytes of a range as they come, and acknowledges it.
async fn transfer(mut receiving: Box<Receiving>, body: Body) -> Result<UploadStatus, Problem> {
    let mut chunks = body.into_data_stream();
    let mut collected = Vec::new();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|error| match is_slow_client(&error) {
            true => too_slow(),
            false => {
                let hint = Some("send the range again");
                Problem::new(StatusCode::BAD_REQUEST, "the range did not arrive whole", hint)
            }
        })?;
        collected.extend_from_slice(&chunk);
        if collected.len() >= WRITE_SIZE {
            (receiving, collected) = write(receiving, collected).await?;
        }
    }
    (receiving, _) = write(receiving, collected).await?;
    blocking(move || (*receiving).finish()).await
}

/// Writes bytes. Gives back the empty buffer.
async fn write(mut receiving: Box<Receiving>, mut bytes: Vec<u8>) -> Result<(Box<Receiving>, Vec<u8>), Problem> {
    blocking(move || {
        receiving.write(&bytes)?;
        bytes.clear();
        Ok((receiving, bytes))
    })
    .await
}

fn too_slow() -> Problem {
    let hint = Some("send the range again, or end the upload with `DELETE` and begin it with a smaller `rangeSize`");
    Problem::new(StatusCode::REQUEST_TIMEOUT, "the range came too slowly", hint)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, UploadError> + Send + 'static,
) -> Result<T, Problem> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => Ok(done?),
        Err(error) => Err(Problem::internal("the upload failed", &error.to_string())),
    }
}

#[cfg(test)]
mod tests;
