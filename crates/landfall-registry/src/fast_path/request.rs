//! Parser of request heads. It recognizes the ordinary requests that the fast path answers.

use axum::body::Body;
use http::{HeaderName, HeaderValue, Method, Request, Uri, Version, header};
use landfall_net::serve::host::violation;

/// Size limit of a head, in bytes. hyper handles longer ones.
pub(crate) const HEAD_MAX: usize = 8 * 1024;
const HEADERS_MAX: usize = 32;
const PATHS: &str = "/v2/";

pub(crate) enum ParsedHead {
    /// A request for the fast path.
    Fast {
        request: Box<FastRequest>,
        /// Length of the head, in bytes.
        head: usize,
    },
    /// The head is incomplete.
    Partial,
    /// A request for hyper.
    Other,
}

/// A request that the fast path answers.
pub(crate) struct FastRequest {
    pub(crate) request: Request<Body>,
    pub(crate) body_length: u64,
    /// True if the client asks to close the connection after the response.
    pub(crate) wants_close: bool,
}

pub(crate) fn parse_head(input: &[u8]) -> ParsedHead {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut head = httparse::Request::new(&mut headers);
    match head.parse(input) {
        Ok(httparse::Status::Complete(length)) => {
            to_fast_request(&head).map_or(ParsedHead::Other, |request| ParsedHead::Fast {
                request: Box::new(request),
                head: length,
            })
        }
        Ok(httparse::Status::Partial) if input.len() < HEAD_MAX => ParsedHead::Partial,
        Ok(httparse::Status::Partial) | Err(_) => ParsedHead::Other,
    }
}

/// Checks the property of [`parse_head`] for [`crate::fuzzing`]: a request is recognized exactly when its head is
/// complete, and the bytes after the head change nothing.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn check_head(input: &[u8]) {
    let ParsedHead::Fast { request, head: length } = parse_head(input) else {
        return;
    };
    let FastRequest {
        request, body_length, ..
    } = *request;
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    assert!(!reads || body_length == 0);
    assert!(request.uri().path().starts_with(PATHS) && request.headers().contains_key(header::HOST));
    for end in [0, length / 2, length - 1] {
        assert!(matches!(parse_head(&input[..end]), ParsedHead::Partial), "cut at {end}");
    }
    let ParsedHead::Fast {
        request: alone,
        head: same_length,
    } = parse_head(&input[..length])
    else {
        panic!("the head alone is no request");
    };
    let alone = alone.request;
    assert_eq!(
        (alone.uri(), alone.headers(), same_length),
        (request.uri(), request.headers(), length)
    );
}

/// Converts an ordinary request. Returns `None` for anything else.
fn to_fast_request(head: &httparse::Request<'_, '_>) -> Option<FastRequest> {
    let (method, may_have_body) = match head.method? {
        "GET" => (Method::GET, false),
        "HEAD" => (Method::HEAD, false),
        "POST" => (Method::POST, true),
        "PUT" => (Method::PUT, true),
        "PATCH" => (Method::PATCH, true),
        "DELETE" => (Method::DELETE, true),
        _ => return None,
    };
    let path = head.path.filter(|path| path.starts_with(PATHS))?;
    if head.version != Some(1) {
        return None;
    }
    let mut request = Request::new(Body::empty());
    *request.method_mut() = method;
    *request.uri_mut() = Uri::try_from(path).ok()?;
    let (mut length, mut wants_close) = (None, false);
    for found in head.headers.iter() {
        let name = HeaderName::from_bytes(found.name.as_bytes()).ok()?;
        let value = HeaderValue::from_bytes(found.value).ok()?;
        let is_usual = match name {
            // hyper handles a list of options.
            header::CONNECTION => {
                let closes = value.as_bytes().eq_ignore_ascii_case(b"close");
                wants_close |= closes;
                closes || value.as_bytes().eq_ignore_ascii_case(b"keep-alive")
            }
            header::CONTENT_LENGTH => {
                let told = parse_length(value.as_bytes()).filter(|length| may_have_body || *length == 0);
                told.is_some() && length.replace(told).is_none()
            }
            header::TRANSFER_ENCODING | header::UPGRADE | header::EXPECT | header::TE | header::TRAILER => false,
            _ => true,
        };
        if !is_usual {
            return None;
        }
        request.headers_mut().append(name, value);
    }
    // hyper's service refuses the requests that HTTP forbids.
    let is_allowed = violation(Version::HTTP_11, request.headers()).is_none();
    is_allowed.then_some(FastRequest {
        request,
        body_length: length.flatten().unwrap_or_default(),
        wants_close,
    })
}

/// Parses a `Content-Length`: digits and nothing else (RFC 9110 section 8.6).
fn parse_length(text: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?;
    text.parse()
        .ok()
        .filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()))
}
