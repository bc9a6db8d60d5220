//! Helpers for responses.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, header};

pub(crate) fn json_response(body: Vec<u8>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], Body::from(body)).into_response()
}

/// Returns a header value. The text must be a reference, a digest or a number, which are visible ASCII.
pub(crate) fn header_value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("names, digests and numbers are visible ASCII")
}
