//! Uploads: in one request, in two, in chunks, or by mounting a blob that the registry already has.

use std::sync::Arc;

use axum::body::{Body, BodyDataStream};
use axum::extract::{Query, Request};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use landfall_core::reference::{Digest, Repository};
use landfall_net::serve::budget::{BudgetPart, ClientAddress};
use landfall_net::serve::slots::Slot;
use landfall_net::serve::stall::{client_stall_timer, is_slow_client};
use landfall_net::stall::StallTimer;
use landfall_oci::digest::Algorithm;
use landfall_oci::header_names::{CONTENT_DIGEST, PREFER, UPLOAD_ID};
use landfall_oci::store::blocking::blocking;
use landfall_oci::store::error::StoreError;
use landfall_oci::store::receive::{ByteReceiver as _, receive_stream};
use serde::Deserialize;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::api::error::{ApiError, ErrorCode, too_many, too_slow};
use crate::api::range::parse_content_range;
use crate::api::reply::header_value;
use crate::api::route::parse_digest;
use crate::budget_limits::{COME_AGAIN, UPLOADS};
use crate::fast_path::body::RequestBody;
use crate::repository::Registry;
use crate::repository::upload_sessions::AcquiredUpload;

/// Bytes of a body after which the upload checks the free disk space again, because other uploads fill the disk too.
const SPACE_CHECK_INTERVAL: u64 = 4 * 1024 * 1024;

#[derive(Debug, Deserialize)]
struct UploadQuery {
    digest: Option<String>,
    mount: Option<String>,
    from: Option<String>,
    #[serde(rename = "digest-algorithm")]
    algorithm: Option<String>,
}

impl Registry {
    pub(crate) async fn start_upload(
        self: &Arc<Registry>,
        name: &Repository,
        request: Request,
        client: ClientAddress,
    ) -> Result<Response, ApiError> {
        let query = parse_query(request.uri())?;
        let _in_flight = self.begin_upload(name)?;
        if let Some(mounted) = self.mount(name, &query).await? {
            return Ok(mounted);
        }
        let digest = query.digest.as_deref().map(parse_digest).transpose()?;
        let announced = content_length(request.headers());
        self.check_space(announced.unwrap_or_default())?;
        let algorithm = match (&digest, query.algorithm.as_deref()) {
            (Some(digest), _) => Algorithm::of(digest),
            (None, Some("sha512")) => Algorithm::Sha512,
            (None, _) => Algorithm::Sha256,
        };
        let upload = self.store.upload(algorithm);
        match digest {
            None => {
                let id = self.upload_sessions.open(name, upload, client)?;
                Ok(upload_response(StatusCode::ACCEPTED, name, &id, 0))
            }
            Some(digest) => {
                let upload = AcquiredUpload::without_session(upload).await;
                let (upload, received) = self.append_body(upload, request, announced, client).await?;
                received?;
                self.commit(name, upload, digest).await
            }
        }
    }

    /// Mounts a blob from the repository that the client names, or from any repository if it names none. The store may
    /// hold blobs of others, such as the agent's images, which no client of the registry may see.
    async fn mount(self: &Arc<Registry>, name: &Repository, query: &UploadQuery) -> Result<Option<Response>, ApiError> {
        let Some(digest) = &query.mount else {
            return Ok(None);
        };
        let digest = parse_digest(digest)?;
        let lease = self.store.lease();
        lease.add(&digest);
        let allowed = match query.from.as_deref().map(str::parse::<Repository>) {
            None if self.store.blob_size(&digest)?.is_none() => false,
            None => {
                let (registry, blob) = (self.clone(), digest.clone());
                blocking(move || registry.is_linked_anywhere(&blob)).await?
            }
            Some(Ok(from)) => self.has_blob(&from, &digest)?,
            Some(Err(_no_such_name)) => false,
        };
        if !allowed || self.store.blob_size(&digest)?.is_none() {
            return Ok(None);
        }
        let (registry, repository, blob) = (self.clone(), name.clone(), digest.clone());
        blocking(move || registry.link(&repository, &blob)).await?;
        Ok(Some(created(name, &digest)))
    }

    /// Returns the length of an upload. `Prefer: wait=0` (RFC 7240 section 4.3) gets the length so far: a client asks
    /// with it while its own request is under way.
    pub(crate) async fn upload_status(
        &self,
        name: &Repository,
        id: &str,
        headers: &HeaderMap,
    ) -> Result<Response, ApiError> {
        let length = match prefers_no_wait(headers) {
            true => self.upload_sessions.length_so_far(name, id)?,
            false => self.upload_sessions.wait_for_length(name, id).await?,
        };
        Ok(upload_response(StatusCode::NO_CONTENT, name, id, length))
    }

    pub(crate) async fn cancel_upload(&self, name: &Repository, id: &str) -> Result<Response, ApiError> {
        self.upload_sessions.acquire(name, id).await?.end_session();
        Ok(StatusCode::NO_CONTENT.into_response())
    }

    pub(crate) async fn append_upload(
        self: &Arc<Registry>,
        name: &Repository,
        id: &str,
        request: Request,
        client: ClientAddress,
    ) -> Result<Response, ApiError> {
        let _in_flight = self.begin_upload(name)?;
        let upload = self.receive(name, id, request, None, client).await?;
        Ok(upload_response(StatusCode::ACCEPTED, name, id, upload.length()))
    }

    pub(crate) async fn finish_upload(
        self: &Arc<Registry>,
        name: &Repository,
        id: &str,
        request: Request,
        client: ClientAddress,
    ) -> Result<Response, ApiError> {
        let _in_flight = self.begin_upload(name)?;
        let digest = match parse_query(request.uri())?.digest {
            Some(digest) => parse_digest(&digest)?,
            None => {
                return Err(ApiError::new(
                    StatusCode::BAD_REQUEST,
                    ErrorCode::DigestInvalid,
                    "the last request of an upload names its `digest`",
                ));
            }
        };
        let upload = self.receive(name, id, request, Some(&digest), client).await?;
        self.commit(name, upload, digest).await
    }

    /// Appends a request's body to an upload. If the client disconnects, or a newer request acquires the upload, the
    /// session keeps the bytes that arrived, and the upload's status tells the client where to continue. If the disk is
    /// full, the session ends and its bytes are deleted.
    async fn receive(
        self: &Arc<Registry>,
        name: &Repository,
        id: &str,
        request: Request,
        digest: Option<&Digest>,
        client: ClientAddress,
    ) -> Result<AcquiredUpload, ApiError> {
        let mut upload = self.upload_sessions.acquire(name, id).await?;
        check_chunk(request.headers(), name, id, &upload)?;
        let announced = content_length(request.headers());
        self.check_space(announced.unwrap_or_default())
            .inspect_err(|_full| upload.end_session())?;
        if let Some(digest) = digest {
            upload.expect_algorithm(Algorithm::of(digest));
        }
        let (mut upload, received) = self.append_body(upload, request, announced, client).await?;
        if received.as_ref().is_err_and(ApiError::is_out_of_space) {
            upload.end_session();
        }
        received?;
        Ok(upload)
    }

    /// Appends a request's body to an upload. Bytes that stay in memory need no blocking thread, and no slot of the
    /// budget.
    async fn append_body(
        self: &Arc<Registry>,
        mut upload: AcquiredUpload,
        mut request: Request,
        announced: Option<u64>,
        client: ClientAddress,
    ) -> Result<(AcquiredUpload, Result<(), ApiError>), StoreError> {
        let needs_disk = !announced.is_some_and(|announced| upload.keeps_in_memory(announced));
        let direct = request.extensions_mut().remove::<RequestBody>();
        if !needs_disk {
            let mut chunks = self.body_stream(request.into_body(), announced, upload.superseded.clone(), None);
            while let Some(chunk) = chunks.next().await {
                match chunk {
                    Ok(bytes) => upload.append(&bytes)?,
                    Err(error) => return Ok((upload, Err(error))),
                }
            }
            return Ok((upload, Ok(())));
        }
        let taken = match self.budgets.take_upload(client) {
            Ok(taken) => taken,
            Err(error) => return Ok((upload, Err(error))),
        };
        let slot = taken.slot().clone();
        let mut left = announced;
        if let Some(body) = direct
            && let Some(thread) = self.budgets.take_direct_read(client)
        {
            slot.begin();
            let (returned, ended) = self.append_directly(upload, body.clone(), announced, thread).await?;
            match ended {
                DirectEnd::Done(received) => return Ok((returned, received)),
                DirectEnd::Slow => {
                    upload = returned;
                    left = Some(body.left());
                }
            }
        }
        let chunks = self.body_stream(request.into_body(), left, upload.superseded.clone(), Some(slot));
        receive_stream(move || Ok(upload), chunks).await
    }

    async fn commit(
        self: &Arc<Registry>,
        name: &Repository,
        upload: AcquiredUpload,
        digest: Digest,
    ) -> Result<Response, ApiError> {
        let lease = self.store.lease();
        lease.add(&digest);
        let (registry, repository, wanted) = (self.clone(), name.clone(), digest.clone());
        blocking(move || {
            upload.commit(&wanted)?;
            registry.link(&repository, &wanted)?;
            drop(lease);
            Ok(())
        })
        .await?;
        Ok(created(name, &digest))
    }

    /// Appends a body to an upload, read from the connection itself on the thread that hashes and writes it. Ends early
    /// if the client is slow: nobody waits for a client on a thread.
    async fn append_directly(
        self: &Arc<Registry>,
        mut upload: AcquiredUpload,
        body: RequestBody,
        announced: Option<u64>,
        thread: BudgetPart,
    ) -> Result<(AcquiredUpload, DirectEnd), StoreError> {
        let cancelled = upload.superseded.child_token();
        // The guard cancels the thread's work when this request ends for any reason.
        let _guard = cancelled.clone().drop_guard();
        let registry = self.clone();
        blocking(move || {
            let _thread = thread;
            let mut space_check = SpaceCheck::new(announced);
            let mut reader = body.blocking_reader(cancelled).map_err(StoreError::Disk)?;
            let ended = loop {
                match reader.next() {
                    Ok(None) => break DirectEnd::Done(Ok(())),
                    Ok(Some(bytes)) => {
                        if let Err(full) = space_check.add(bytes.len(), &registry) {
                            break DirectEnd::Done(Err(full));
                        }
                        upload.append(bytes)?;
                    }
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break DirectEnd::Slow,
                    Err(_) => break DirectEnd::Done(Err(incomplete_body())),
                }
            };
            Ok((upload, ended))
        })
        .await
    }

    /// Streams the body, and checks the free disk space at intervals. Ends with an error if another request takes the
    /// upload over, or if the slot gives way to another upload while the client sends nothing.
    fn body_stream(
        &self,
        body: Body,
        announced: Option<u64>,
        superseded: CancellationToken,
        slot: Option<Arc<Slot>>,
    ) -> impl Stream<Item = Result<Bytes, ApiError>> + Send + Unpin + use<'_> {
        let begin = UploadBody {
            data: body.into_data_stream(),
            space_check: SpaceCheck::new(announced),
            superseded,
            slot,
            pace: client_stall_timer(UPLOADS.grace),
        };
        stream::unfold(begin, move |mut state| async move {
            let UploadBody {
                data,
                space_check,
                superseded,
                slot,
                pace,
            } = &mut state;
            if let Some(slot) = slot {
                slot.wait_on(pace.waited());
            }
            let begun = Instant::now();
            let item = tokio::select! {
                chunk = data.next() => match chunk? {
                    Ok(bytes) => space_check.add(bytes.len(), self).map(|()| bytes),
                    Err(error) if is_slow_client(&error) => Err(too_slow(ErrorCode::BlobUploadInvalid)),
                    Err(_) => Err(incomplete_body()),
                },
                () = superseded.cancelled() => Err(incomplete_body()),
                () = gives_way(slot.as_deref()) => Err(gave_way()),
            };
            pace.add_wait(begun.elapsed());
            pace.add_bytes(item.as_ref().map_or(0, Bytes::len));
            if slot.as_ref().is_some_and(|slot| !slot.begin()) {
                return Some((Err(gave_way()), state));
            }
            Some((item, state))
        })
        .boxed()
    }
}

/// State of a body stream.
struct UploadBody {
    data: BodyDataStream,
    space_check: SpaceCheck,
    superseded: CancellationToken,
    slot: Option<Arc<Slot>>,
    /// Waiting time for the client. A byte now and then is too little to keep a slot that another upload needs.
    pace: StallTimer,
}

/// End of an upload that was read from the connection itself.
enum DirectEnd {
    Done(Result<(), ApiError>),
    /// The client is slow. The rest of the body is still to be read.
    Slow,
}

/// Waits until the slot gives way, or for ever without one.
async fn gives_way(slot: Option<&Slot>) {
    match slot {
        Some(slot) => slot.gives_way().await,
        None => std::future::pending().await,
    }
}

fn gave_way() -> ApiError {
    too_many(
        "another upload needs the place of this one, which sent nothing or little",
        COME_AGAIN,
    )
}

/// Check of the free disk space while a body is written.
struct SpaceCheck {
    /// Bytes that are still to come, if the client announced a length.
    left: Option<u64>,
    /// Bytes since the last check.
    unchecked: u64,
}

impl SpaceCheck {
    fn new(announced: Option<u64>) -> SpaceCheck {
        SpaceCheck {
            left: announced,
            unchecked: 0,
        }
    }

    fn add(&mut self, bytes: usize, registry: &Registry) -> Result<(), ApiError> {
        self.unchecked += bytes as u64;
        self.left = self.left.map(|left| left.saturating_sub(bytes as u64));
        if self.unchecked >= SPACE_CHECK_INTERVAL {
            self.unchecked = 0;
            let next = self.left.unwrap_or(SPACE_CHECK_INTERVAL).min(SPACE_CHECK_INTERVAL);
            registry.check_space(next)?;
        }
        Ok(())
    }
}

fn incomplete_body() -> ApiError {
    ApiError::new(
        StatusCode::BAD_REQUEST,
        ErrorCode::BlobUploadInvalid,
        "the body did not arrive whole",
    )
}

/// Returns true if the client asks for a response at once.
fn prefers_no_wait(headers: &HeaderMap) -> bool {
    let preferences = headers.get_all(PREFER).iter().filter_map(|value| value.to_str().ok());
    let mut preferences = preferences.flat_map(|value| value.split(','));
    preferences.any(|preference| preference.trim() == "wait=0")
}

/// Returns the announced length of a request's body.
fn content_length(headers: &HeaderMap) -> Option<u64> {
    let length = headers.get(header::CONTENT_LENGTH)?;
    length.to_str().ok()?.parse().ok()
}

fn parse_query(uri: &Uri) -> Result<UploadQuery, ApiError> {
    Query::try_from_uri(uri).map(|Query(query)| query).map_err(|_| {
        ApiError::new(
            StatusCode::BAD_REQUEST,
            ErrorCode::BlobUploadInvalid,
            "the query cannot be understood",
        )
    })
}

/// Checks that a chunk begins where the upload ends, and that its length is the announced one.
///
/// A chunk without `Content-Range` begins at the length that the client was told. That may be out of date if the client
/// took over an upload from its own earlier request.
fn check_chunk(headers: &HeaderMap, name: &Repository, id: &str, upload: &AcquiredUpload) -> Result<(), ApiError> {
    let length = upload.length();
    let wrong_offset = || {
        ApiError::new(
            StatusCode::RANGE_NOT_SATISFIABLE,
            ErrorCode::BlobUploadInvalid,
            format!("the upload `{id}` of `{name}` goes on at byte {length}"),
        )
        .with_header(header::LOCATION, location(name, id))
        .with_header(header::RANGE, range_header(length))
    };
    let range = headers.get(header::CONTENT_RANGE).and_then(|range| range.to_str().ok());
    let Some(range) = range else {
        return match upload.reported_length {
            Some(reported) if reported != length => Err(wrong_offset()),
            _ => Ok(()),
        };
    };
    let stated = content_length(headers);
    match parse_content_range(range) {
        Some((first, chunk)) if first == length && stated.is_none_or(|stated| stated == chunk) => Ok(()),
        Some((first, _)) if first == length => Err(ApiError::new(
            StatusCode::BAD_REQUEST,
            ErrorCode::SizeInvalid,
            "`Content-Range` and `Content-Length` disagree",
        )),
        _ => Err(wrong_offset()),
    }
}

fn created(name: &Repository, digest: &Digest) -> Response {
    (
        StatusCode::CREATED,
        [
            (header::LOCATION, header_value(&format!("/v2/{name}/blobs/{digest}"))),
            (CONTENT_DIGEST, header_value(digest.as_str())),
        ],
    )
        .into_response()
}

fn upload_response(status: StatusCode, name: &Repository, id: &str, length: u64) -> Response {
    (
        status,
        [
            (header::LOCATION, location(name, id)),
            (header::RANGE, range_header(length)),
            (UPLOAD_ID, header_value(id)),
        ],
    )
        .into_response()
}

fn location(name: &Repository, id: &str) -> HeaderValue {
    header_value(&format!("/v2/{name}/blobs/uploads/{id}"))
}

/// Returns the `Range` of an upload: up to its last byte. An empty upload says `0-0`, as all registries do.
fn range_header(length: u64) -> HeaderValue {
    header_value(&format!("0-{}", length.saturating_sub(1)))
}
