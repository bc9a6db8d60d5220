//! Blobs: download, whole or by range, and deletion.

use std::sync::Arc;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use landfall_core::reference::{Digest, Repository};
use landfall_oci::header_names::CONTENT_DIGEST;
use landfall_oci::store::blocking::blocking;
use landfall_oci::store::error::StoreError;

use crate::api::conditional::{effective_range, entity_tag, not_modified};
use crate::api::error::{ApiError, ErrorCode};
use crate::api::range::{ByteRange, parse_range};
use crate::api::reply::header_value;
use crate::fast_path::body::FileBody;
use crate::repository::record::RecordChange;
use crate::repository::{BlobAnswer, BlobAsker, Registry};

impl Registry {
    pub(crate) async fn get_blob(
        self: &Arc<Registry>,
        name: &Repository,
        digest: &Digest,
        headers: &HeaderMap,
        blob_body: BlobBody,
    ) -> Result<Response, ApiError> {
        // A HEAD request usually precedes a push: the client uploads the missing blobs and relies on the others.
        let asker = match blob_body {
            BlobBody::Omitted => BlobAsker::Pusher,
            BlobBody::Stream | BlobBody::File => BlobAsker::Puller,
        };
        let answer = self.answer_blob(name, digest, asker)?;
        let BlobAnswer { size, renew } = answer.ok_or_else(|| unknown_blob(name, digest))?;
        if renew {
            let (registry, repository, blob) = (self.clone(), name.clone(), digest.clone());
            blocking(move || registry.link(&repository, &blob)).await?;
        }
        if let Some(response) = not_modified(headers, digest) {
            return Ok(response);
        }
        let range = effective_range(headers, digest);
        let (status, offset, length) = match parse_range(range, size) {
            ByteRange::Full => (StatusCode::OK, 0, size),
            ByteRange::Part { offset, length } => (StatusCode::PARTIAL_CONTENT, offset, length),
            ByteRange::Unsatisfiable => {
                return Err(ApiError::new(
                    StatusCode::RANGE_NOT_SATISFIABLE,
                    ErrorCode::SizeInvalid,
                    format!("the blob has {size} bytes"),
                )
                .with_header(header::CONTENT_RANGE, header_value(&format!("bytes */{size}"))));
            }
        };
        let mut file = None;
        let body = match blob_body {
            BlobBody::Omitted => Body::empty(),
            BlobBody::Stream => Body::from_stream(self.store.stream_blob(digest, offset, length).await?),
            BlobBody::File => {
                let (opened, _path) = self.store.open_blob(digest, 0)?.into_parts();
                file = Some(FileBody {
                    file: Arc::new(opened),
                    offset,
                    length,
                });
                Body::empty()
            }
        };
        let headers = [
            (
                header::CONTENT_TYPE,
                HeaderValue::from_static("application/octet-stream"),
            ),
            (header::CONTENT_LENGTH, length.into()),
            (header::ACCEPT_RANGES, HeaderValue::from_static("bytes")),
            (header::ETAG, entity_tag(digest)),
            (CONTENT_DIGEST, header_value(digest.as_str())),
        ];
        let mut response = (status, headers, body).into_response();
        if status == StatusCode::PARTIAL_CONTENT {
            let last = offset + length - 1;
            let range = header_value(&format!("bytes {offset}-{last}/{size}"));
            response.headers_mut().insert(header::CONTENT_RANGE, range);
        }
        if let Some(file) = file {
            response.extensions_mut().insert(file);
        }
        Ok(response)
    }

    /// Unlinks a blob that no manifest of the repository references. The next garbage collection deletes the bytes.
    pub(crate) async fn delete_blob(
        self: &Arc<Registry>,
        name: &Repository,
        digest: &Digest,
    ) -> Result<Response, ApiError> {
        let (registry, repository, blob) = (self.clone(), name.clone(), digest.clone());
        let deletion = blocking(move || registry.unlink(&repository, &blob));
        match deletion.await? {
            UnlinkOutcome::Unlinked => Ok(StatusCode::ACCEPTED.into_response()),
            UnlinkOutcome::Unknown => Err(unknown_blob(name, digest)),
            UnlinkOutcome::InUse => Err(ApiError::new(
                StatusCode::METHOD_NOT_ALLOWED,
                ErrorCode::Unsupported,
                format!("a manifest of `{name}` needs the blob; delete that one first"),
            )),
        }
    }

    fn unlink(&self, name: &Repository, digest: &Digest) -> Result<UnlinkOutcome, StoreError> {
        let manifests: Option<Vec<Digest>> = self
            .records
            .peek(name, |record| record.manifests.keys().cloned().collect())?;
        let Some(manifests) = manifests else {
            return Ok(UnlinkOutcome::Unknown);
        };
        let reachable = self.store.reachable(manifests)?;
        // What a damaged manifest names is not known.
        if reachable.content.contains(digest) || !reachable.unreadable.is_empty() {
            return Ok(UnlinkOutcome::InUse);
        }
        self.records.change(name, |record| {
            let known = record.blobs.contains_key(digest);
            let change = known.then(|| RecordChange::DropBlob { digest: digest.clone() });
            let deletion = if known {
                UnlinkOutcome::Unlinked
            } else {
                UnlinkOutcome::Unknown
            };
            (change.into_iter().collect(), deletion)
        })
    }
}

/// Form in which a response carries a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BlobBody {
    /// Headers only.
    Omitted,
    /// As a body that is streamed.
    Stream,
    /// As a file that the fast path sends.
    File,
}

enum UnlinkOutcome {
    Unlinked,
    Unknown,
    InUse,
}

fn unknown_blob(name: &Repository, digest: &Digest) -> ApiError {
    ApiError::new(
        StatusCode::NOT_FOUND,
        ErrorCode::BlobUnknown,
        format!("the repository `{name}` has no blob `{digest}`"),
    )
}
