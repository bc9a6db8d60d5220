//! Parts of answers.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, header};

pub(crate) fn json_response(body: Vec<u8>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], Body::from(body)).into_response()
}

/// A header value of text that we made: references, digests and numbers.
pub(crate) fn header_value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("names, digests and numbers are visible ASCII")
}
