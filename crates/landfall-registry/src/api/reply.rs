//! Helpers for responses.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, header};
use landfall_core::oci_types::{is_manifest_like_type, known_manifest_type};

pub(crate) fn json_response(body: Vec<u8>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], Body::from(body)).into_response()
}

/// Returns the `Content-Type` of a manifest. A type that is none for a manifest is not passed on: an older release took
/// any text, and other registries do.
pub(crate) fn manifest_content_type(media_type: &str) -> HeaderValue {
    if let Some(known) = known_manifest_type(media_type) {
        return HeaderValue::from_static(known);
    }
    let served = Some(media_type).filter(|media_type| is_manifest_like_type(media_type));
    served
        .and_then(|media_type| HeaderValue::from_str(media_type).ok())
        .unwrap_or(HeaderValue::from_static("application/octet-stream"))
}

/// Returns a header value. The text must be a reference, a digest or a number, which are visible ASCII.
pub(crate) fn header_value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("names, digests and numbers are visible ASCII")
}
