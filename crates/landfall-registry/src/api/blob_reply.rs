//! Response with a blob or a part of it, from wherever its bytes come.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use landfall_core::reference::Digest;
use landfall_oci::header_names::CONTENT_DIGEST;

use crate::api::conditional::{effective_range, entity_tag, not_modified};
use crate::api::error::{ApiError, ErrorCode};
use crate::api::range::{ByteRange, parse_range};
use crate::api::reply::header_value;

/// Answer to a request for a blob that is here.
#[derive(Debug)]
pub(crate) enum BlobPlan<'a> {
    /// The client has it already.
    NotModified(Response),
    Send(BlobPart<'a>),
}

/// Part of a blob that is sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BlobPart<'a> {
    digest: &'a Digest,
    /// Size of the whole blob in bytes.
    size: u64,
    status: StatusCode,
    pub(crate) offset: u64,
    pub(crate) length: u64,
}

/// Decides about the answer by the headers of the request and the size of the blob in bytes.
pub(crate) fn plan_blob<'a>(headers: &HeaderMap, digest: &'a Digest, size: u64) -> Result<BlobPlan<'a>, ApiError> {
    if let Some(response) = not_modified(headers, digest) {
        return Ok(BlobPlan::NotModified(response));
    }
    let (status, offset, length) = match parse_range(effective_range(headers, digest), size) {
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
    Ok(BlobPlan::Send(BlobPart {
        digest,
        size,
        status,
        offset,
        length,
    }))
}

impl BlobPart<'_> {
    pub(crate) fn respond(self, body: Body) -> Response {
        let headers = [
            (
                header::CONTENT_TYPE,
                HeaderValue::from_static("application/octet-stream"),
            ),
            (header::CONTENT_LENGTH, self.length.into()),
            (header::ACCEPT_RANGES, HeaderValue::from_static("bytes")),
            (header::ETAG, entity_tag(self.digest)),
            (CONTENT_DIGEST, header_value(self.digest.as_str())),
        ];
        let mut response = (self.status, headers, body).into_response();
        if self.status == StatusCode::PARTIAL_CONTENT {
            let last = self.offset + self.length - 1;
            let range = header_value(&format!("bytes {}-{last}/{}", self.offset, self.size));
            response.headers_mut().insert(header::CONTENT_RANGE, range);
        }
        response
    }
}
