//! Blobs: reading them, whole or in part.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use landfall_core::reference::{Digest, Repository};

use crate::server::error::{ApiError, Code};
use crate::server::range::{Wanted, parse_range};
use crate::server::{CONTENT_DIGEST, Registry, header_value};

impl Registry {
    pub(super) async fn get_blob(
        &self,
        name: &Repository,
        digest: &Digest,
        headers: &HeaderMap,
        with_body: bool,
    ) -> Result<Response, ApiError> {
        let size = match self.store.blob_size(digest)? {
            Some(size) if self.has_blob(name, digest) => size,
            _ => return Err(unknown_blob(name, digest)),
        };
        let range = headers.get(header::RANGE).and_then(|value| value.to_str().ok());
        let (status, offset, length) = match parse_range(range, size) {
            Wanted::All => (StatusCode::OK, 0, size),
            Wanted::Part { offset, length } => (StatusCode::PARTIAL_CONTENT, offset, length),
            Wanted::Unsatisfiable => {
                return Err(ApiError::new(
                    StatusCode::RANGE_NOT_SATISFIABLE,
                    Code::SizeInvalid,
                    format!("the blob has {size} bytes"),
                )
                .with_header(header::CONTENT_RANGE, header_value(&format!("bytes */{size}"))));
            }
        };
        let body = if with_body {
            Body::from_stream(self.store.stream_blob(digest, offset, length).await?)
        } else {
            Body::empty()
        };
        let headers = [
            (
                header::CONTENT_TYPE,
                HeaderValue::from_static("application/octet-stream"),
            ),
            (header::CONTENT_LENGTH, length.into()),
            (header::ACCEPT_RANGES, HeaderValue::from_static("bytes")),
            (header::ETAG, header_value(&format!("\"{digest}\""))),
            (CONTENT_DIGEST, header_value(digest.as_str())),
        ];
        let mut response = (status, headers, body).into_response();
        if status == StatusCode::PARTIAL_CONTENT {
            let last = offset + length - 1;
            let range = header_value(&format!("bytes {offset}-{last}/{size}"));
            response.headers_mut().insert(header::CONTENT_RANGE, range);
        }
        Ok(response)
    }

    /// Unlinks a blob that no manifest of the repository names; the bytes go with the next garbage collection.
    pub(super) fn delete_blob(&self, name: &Repository, digest: &Digest) -> Result<Response, ApiError> {
        let named = self.records.get(name).is_some_and(|record| record.names_blob(digest));
        if named {
            return Err(ApiError::new(
                StatusCode::METHOD_NOT_ALLOWED,
                Code::Unsupported,
                format!("a manifest of `{name}` needs the blob; delete that one first"),
            ));
        }
        match self.links().remove(&(name.clone(), digest.clone())) {
            Some(_) => Ok(StatusCode::ACCEPTED.into_response()),
            None => Err(unknown_blob(name, digest)),
        }
    }
}

fn unknown_blob(name: &Repository, digest: &Digest) -> ApiError {
    ApiError::new(
        StatusCode::NOT_FOUND,
        Code::BlobUnknown,
        format!("the repository `{name}` has no blob `{digest}`"),
    )
}
