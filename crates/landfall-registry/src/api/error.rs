//! Error responses in the envelope of the distribution specification ("Error Codes"). Details of internal errors go to
//! the log only.

use std::borrow::Cow;
use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, StatusCode, header};
use landfall_core::failure::{Hint as _, error_chain, line_with_hint};
use landfall_oci::store::error::StoreError;
use serde_json::json;

use crate::budget_limits::SESSIONS;
use crate::repository::upload_sessions::UploadSessionError;

/// Error codes that clients know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ErrorCode {
    BlobUnknown,
    BlobUploadInvalid,
    BlobUploadUnknown,
    Denied,
    DigestInvalid,
    ManifestBlobUnknown,
    ManifestInvalid,
    ManifestUnknown,
    NameInvalid,
    NameUnknown,
    PaginationNumberInvalid,
    SizeInvalid,
    TagInvalid,
    TooManyRequests,
    Unauthorized,
    Unknown,
    Unsupported,
}

impl ErrorCode {
    fn text(self) -> &'static str {
        match self {
            ErrorCode::BlobUnknown => "BLOB_UNKNOWN",
            ErrorCode::BlobUploadInvalid => "BLOB_UPLOAD_INVALID",
            ErrorCode::BlobUploadUnknown => "BLOB_UPLOAD_UNKNOWN",
            ErrorCode::Denied => "DENIED",
            ErrorCode::DigestInvalid => "DIGEST_INVALID",
            ErrorCode::ManifestBlobUnknown => "MANIFEST_BLOB_UNKNOWN",
            ErrorCode::ManifestInvalid => "MANIFEST_INVALID",
            ErrorCode::ManifestUnknown => "MANIFEST_UNKNOWN",
            ErrorCode::NameInvalid => "NAME_INVALID",
            ErrorCode::NameUnknown => "NAME_UNKNOWN",
            ErrorCode::PaginationNumberInvalid => "PAGINATION_NUMBER_INVALID",
            ErrorCode::SizeInvalid => "SIZE_INVALID",
            ErrorCode::TagInvalid => "TAG_INVALID",
            ErrorCode::TooManyRequests => "TOOMANYREQUESTS",
            ErrorCode::Unauthorized => "UNAUTHORIZED",
            ErrorCode::Unknown => "UNKNOWN",
            ErrorCode::Unsupported => "UNSUPPORTED",
        }
    }
}

/// Returns 429 (Too Many Requests) with the time after which the client may come again, in whole seconds and at least
/// one.
pub(crate) fn too_many(message: &'static str, wait: Duration) -> ApiError {
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    ApiError::new(StatusCode::TOO_MANY_REQUESTS, ErrorCode::TooManyRequests, message)
        .with_header(header::RETRY_AFTER, seconds.max(1).into())
}

/// Returns 408 for a body that arrived too slowly. The client may send it again, or the rest of it.
pub(crate) fn too_slow(code: ErrorCode) -> ApiError {
    ApiError::new(StatusCode::REQUEST_TIMEOUT, code, "the body arrived too slowly")
}

#[derive(Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    code: ErrorCode,
    message: Cow<'static, str>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl ApiError {
    pub(crate) fn new(status: StatusCode, code: ErrorCode, message: impl Into<Cow<'static, str>>) -> ApiError {
        ApiError {
            status,
            code,
            message: message.into(),
            headers: Vec::new(),
        }
    }

    pub(crate) fn with_header(mut self, name: HeaderName, value: HeaderValue) -> ApiError {
        self.headers.push((name, value));
        self
    }

    /// Returns true if the disk is full.
    pub(crate) fn is_out_of_space(&self) -> bool {
        self.status == StatusCode::INSUFFICIENT_STORAGE
    }

    #[cfg(test)]
    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    #[cfg(test)]
    pub(crate) fn code(&self) -> ErrorCode {
        self.code
    }
}

impl From<UploadSessionError> for ApiError {
    fn from(error: UploadSessionError) -> ApiError {
        match error {
            UploadSessionError::TooMany => too_many("too many upload sessions are open", SESSIONS.grace),
            UploadSessionError::Busy => ApiError::new(
                StatusCode::CONFLICT,
                ErrorCode::BlobUploadInvalid,
                "another request holds this upload session",
            ),
            UploadSessionError::Unknown => ApiError::new(
                StatusCode::NOT_FOUND,
                ErrorCode::BlobUploadUnknown,
                "there is no such upload: it is over, was cancelled, or the registry was restarted",
            ),
        }
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> ApiError {
        let chain = error_chain(&error);
        match &error {
            StoreError::Missing { .. } => {
                ApiError::new(StatusCode::NOT_FOUND, ErrorCode::BlobUnknown, error.to_string())
            }
            StoreError::WrongDigest { .. } => {
                ApiError::new(StatusCode::BAD_REQUEST, ErrorCode::DigestInvalid, error.to_string())
            }
            StoreError::TooLong { .. } | StoreError::Short { .. } => {
                ApiError::new(StatusCode::BAD_REQUEST, ErrorCode::SizeInvalid, error.to_string())
            }
            StoreError::Incomplete { .. } => ApiError::new(
                StatusCode::BAD_REQUEST,
                ErrorCode::ManifestBlobUnknown,
                error.to_string(),
            ),
            StoreError::Manifest { .. } => ApiError::new(StatusCode::BAD_REQUEST, ErrorCode::ManifestInvalid, chain),
            StoreError::Disk(source)
                if matches!(
                    source.kind(),
                    std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded
                ) =>
            {
                tracing::error!(error = chain, "the registry's disk is full");
                ApiError::new(
                    StatusCode::INSUFFICIENT_STORAGE,
                    ErrorCode::Unknown,
                    "the registry's disk is full: delete images and run `landfall registry gc`, or give it a larger disk; \
                     what it holds can still be pulled",
                )
            }
            StoreError::NoSpace { .. } => {
                let line = line_with_hint(chain, error.hint());
                tracing::error!(error = line, "an upload is refused");
                ApiError::new(
                    StatusCode::INSUFFICIENT_STORAGE,
                    ErrorCode::Unknown,
                    format!("{line}; what the registry holds can still be pulled"),
                )
            }
            _ => {
                tracing::error!(error = chain, "the registry's store failed");
                ApiError::new(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    ErrorCode::Unknown,
                    "the registry failed; its log has the reason",
                )
            }
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = json!({"errors": [{"code": self.code.text(), "message": self.message}]});
        let mut response = (
            self.status,
            [(header::CONTENT_TYPE, "application/json")],
            body.to_string(),
        )
            .into_response();
        for (name, value) in self.headers {
            response.headers_mut().insert(name, value);
        }
        response
    }
}
