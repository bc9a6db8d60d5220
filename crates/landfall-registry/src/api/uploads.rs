//! Uploads: in one request, in two, in chunks, or by mounting what is here already.

use std::sync::Arc;

use axum::body::{Body, BodyDataStream};
use axum::extract::{Query, Request};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use landfall_core::reference::{Digest, Repository};
use landfall_oci::digest::Algorithm;
use landfall_oci::header_names::{CONTENT_DIGEST, UPLOAD_ID};
use landfall_oci::store::blocking::blocking;
use landfall_oci::store::error::StoreError;
use landfall_oci::store::receive::{Receiver as _, fill};
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use crate::api::error::{ApiError, ErrorCode};
use crate::api::range::parse_content_range;
use crate::api::reply::header_value;
use crate::api::route::parse_digest;
use crate::fast_path::body::RequestBody;
use crate::repository::Registry;
use crate::repository::upload_sessions::AcquiredUpload;

/// After so many bytes of a body the disk is looked at again: other uploads fill it as well.
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
    ) -> Result<Response, ApiError> {
        let query = parse_query(request.uri())?;
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
                let id = self.upload_sessions.open(name, upload)?;
                Ok(under_way(StatusCode::ACCEPTED, name, &id, 0))
            }
            Some(digest) => {
                let upload = AcquiredUpload::without_session(upload).await;
                let (upload, received) = self.take_in(upload, request, announced).await?;
                received?;
                self.commit(name, upload, digest).await
            }
        }
    }

    /// Mounts a blob: from the repository that is named, or, when none is, from anywhere in the store.
    async fn mount(self: &Arc<Registry>, name: &Repository, query: &UploadQuery) -> Result<Option<Response>, ApiError> {
        let Some(digest) = &query.mount else {
            return Ok(None);
        };
        let digest = parse_digest(digest)?;
        let lease = self.store.lease();
        lease.add(&digest);
        let allowed = match query.from.as_deref().map(str::parse::<Repository>) {
            None => true,
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

    pub(crate) async fn upload_status(&self, name: &Repository, id: &str) -> Result<Response, ApiError> {
        let length = self.upload_sessions.wait_for_length(name, id).await?;
        Ok(under_way(StatusCode::NO_CONTENT, name, id, length))
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
    ) -> Result<Response, ApiError> {
        let upload = self.receive(name, id, request, None).await?;
        Ok(under_way(StatusCode::ACCEPTED, name, id, upload.length()))
    }

    pub(crate) async fn finish_upload(
        self: &Arc<Registry>,
        name: &Repository,
        id: &str,
        request: Request,
    ) -> Result<Response, ApiError> {
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
        let upload = self.receive(name, id, request, Some(&digest)).await?;
        self.commit(name, upload, digest).await
    }

    /// Adds a request's body to an upload. When the client hangs up in the middle, or another request takes the upload over,
    /// what arrived stays in the session, and the client learns by its status where to go on. When the disk is full, the
    /// upload goes, and gives its room back.
    async fn receive(
        self: &Arc<Registry>,
        name: &Repository,
        id: &str,
        request: Request,
        digest: Option<&Digest>,
    ) -> Result<AcquiredUpload, ApiError> {
        let mut upload = self.upload_sessions.acquire(name, id).await?;
        check_chunk(request.headers(), name, id, &upload)?;
        let announced = content_length(request.headers());
        self.check_space(announced.unwrap_or_default())
            .inspect_err(|_full| upload.end_session())?;
        if let Some(digest) = digest {
            upload.expect_algorithm(Algorithm::of(digest));
        }
        let (mut upload, received) = self.take_in(upload, request, announced).await?;
        if received.as_ref().is_err_and(ApiError::is_out_of_space) {
            upload.end_session();
        }
        received?;
        Ok(upload)
    }

    /// Adds a request's body to an upload; what needs no disk needs no thread that waits for it.
    async fn take_in(
        self: &Arc<Registry>,
        mut upload: AcquiredUpload,
        mut request: Request,
        announced: Option<u64>,
    ) -> Result<(AcquiredUpload, Result<(), ApiError>), StoreError> {
        let direct = request.extensions_mut().remove::<RequestBody>();
        let needs_disk = !announced.is_some_and(|announced| upload.keeps_in_memory(announced));
        if let Some(body) = direct.filter(|_| needs_disk) {
            return self.take_in_directly(upload, body, announced).await;
        }
        let mut pieces = self.body_stream(request.into_body(), announced, upload.superseded.clone());
        if needs_disk {
            return fill(move || Ok(upload), pieces).await;
        }
        while let Some(piece) = pieces.next().await {
            match piece {
                Ok(bytes) => upload.append(&bytes)?,
                Err(error) => return Ok((upload, Err(error))),
            }
        }
        Ok((upload, Ok(())))
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

    /// Adds a body to an upload from the connection itself, on the thread that hashes and writes it.
    async fn take_in_directly(
        self: &Arc<Registry>,
        mut upload: AcquiredUpload,
        body: RequestBody,
        announced: Option<u64>,
    ) -> Result<(AcquiredUpload, Result<(), ApiError>), StoreError> {
        let cancelled = upload.superseded.child_token();
        // Whatever ends this request ends the thread's work for it.
        let _guard = cancelled.clone().drop_guard();
        let registry = self.clone();
        blocking(move || {
            let mut space_check = SpaceCheck::new(announced);
            let mut reader = body.blocking_reader(cancelled).map_err(StoreError::Disk)?;
            let received = loop {
                match reader.next() {
                    Ok(None) => break Ok(()),
                    Ok(Some(bytes)) => {
                        if let Err(full) = space_check.add(bytes.len(), &registry) {
                            break Err(full);
                        }
                        upload.append(bytes)?;
                    }
                    Err(_) => break Err(not_whole()),
                }
            };
            Ok((upload, received))
        })
        .await
    }

    /// The body's bytes. The disk is looked at now and then.
    fn body_stream(
        &self,
        body: Body,
        announced: Option<u64>,
        superseded: CancellationToken,
    ) -> impl Stream<Item = Result<Bytes, ApiError>> + Send + Unpin + use<'_> {
        let begin = Receiving {
            data: body.into_data_stream(),
            space_check: SpaceCheck::new(announced),
            superseded,
        };
        stream::unfold(begin, move |mut receiving| async move {
            let Receiving {
                data,
                space_check,
                superseded,
            } = &mut receiving;
            let item = match superseded.run_until_cancelled(data.next()).await {
                Some(piece) => match piece? {
                    Ok(bytes) => space_check.add(bytes.len(), self).map(|()| bytes),
                    Err(_) => Err(not_whole()),
                },
                None => Err(not_whole()),
            };
            Some((item, receiving))
        })
        .boxed()
    }
}

/// A body that is being received.
struct Receiving {
    data: BodyDataStream,
    space_check: SpaceCheck,
    superseded: CancellationToken,
}

/// Looks at the disk now and then, while a body is written to it.
struct SpaceCheck {
    /// What is still to come, where the client said how much there is.
    left: Option<u64>,
    /// Bytes since the disk was looked at.
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

fn not_whole() -> ApiError {
    ApiError::new(
        StatusCode::BAD_REQUEST,
        ErrorCode::BlobUploadInvalid,
        "the body did not arrive whole",
    )
}

/// How many bytes a request announces.
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

/// A chunk begins where the last one ended, and is as long as it says.
///
/// One that does not say where it begins means where the client was told to go on, which may be out of date after it took
/// the upload over.
fn check_chunk(headers: &HeaderMap, name: &Repository, id: &str, upload: &AcquiredUpload) -> Result<(), ApiError> {
    let length = upload.length();
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let elsewhere = || {
        ApiError::new(
            StatusCode::RANGE_NOT_SATISFIABLE,
            ErrorCode::BlobUploadInvalid,
            format!("the upload `{id}` of `{name}` goes on at byte {length}"),
        )
        .with_header(header::LOCATION, location(name, id))
        .with_header(header::RANGE, range_header(length))
    };
    let Some(range) = text(header::CONTENT_RANGE) else {
        return match upload.reported_length {
            Some(reported) if reported != length => Err(elsewhere()),
            _ => Ok(()),
        };
    };
    let stated = text(header::CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok());
    match parse_content_range(range) {
        Some((first, chunk)) if first == length && stated.is_none_or(|stated| stated == chunk) => Ok(()),
        Some((first, _)) if first == length => Err(ApiError::new(
            StatusCode::BAD_REQUEST,
            ErrorCode::SizeInvalid,
            "`Content-Range` and `Content-Length` disagree",
        )),
        _ => Err(elsewhere()),
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

fn under_way(status: StatusCode, name: &Repository, id: &str, length: u64) -> Response {
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

/// The last byte that is here; an upload without any says `0-0`, as all registries do.
fn range_header(length: u64) -> HeaderValue {
    header_value(&format!("0-{}", length.saturating_sub(1)))
}
