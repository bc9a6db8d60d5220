//! Conditional requests (RFC 9110 section 13). An entity tag is the digest in quotes, because a digest identifies the
//! bytes.

use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use landfall_core::reference::Digest;
use landfall_oci::header_names::CONTENT_DIGEST;

use crate::api::reply::header_value;

/// Returns the entity tag of content.
pub(crate) fn entity_tag(digest: &Digest) -> HeaderValue {
    header_value(&format!("\"{digest}\""))
}

/// Returns 304 (Not Modified) if `If-None-Match` names the content.
pub(crate) fn not_modified(headers: &HeaderMap, digest: &Digest) -> Option<Response> {
    names(headers, &header::IF_NONE_MATCH, digest).then(|| {
        (
            StatusCode::NOT_MODIFIED,
            [
                (header::ETAG, entity_tag(digest)),
                (CONTENT_DIGEST, header_value(digest.as_str())),
            ],
        )
            .into_response()
    })
}

/// Returns the `Range` header to apply. `If-Range` with another entity tag disables it (RFC 9110 section 13.1.5).
pub(crate) fn effective_range<'a>(headers: &'a HeaderMap, digest: &Digest) -> Option<&'a str> {
    if headers.contains_key(header::IF_RANGE) && !names(headers, &header::IF_RANGE, digest) {
        return None;
    }
    headers.get(header::RANGE).and_then(|value| value.to_str().ok())
}

/// Returns true if a header's list of entity tags contains the content's.
fn names(headers: &HeaderMap, name: &HeaderName, digest: &Digest) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|list| list.split(','))
        .map(|tag| tag.trim().trim_start_matches("W/"))
        .any(|tag| tag == "*" || tag.trim_matches('"') == digest.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use landfall_oci::digest::digest_of;

    fn mk_headers(name: HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([
            (name, HeaderValue::from_str(value).unwrap()),
            (header::RANGE, HeaderValue::from_static("bytes=1-")),
        ])
    }

    #[test]
    fn content_that_the_client_has_is_not_sent_again() {
        let digest = digest_of(b"x");
        for (value, same) in [
            (format!("\"{digest}\""), true),
            (format!("\"sha256:0\", W/\"{digest}\""), true),
            ("*".to_owned(), true),
            (digest.to_string(), true),
            ("\"sha256:0\"".to_owned(), false),
        ] {
            let headers = mk_headers(header::IF_NONE_MATCH, &value);
            assert_eq!(not_modified(&headers, &digest).is_some(), same, "{value}");
        }
        assert!(not_modified(&HeaderMap::new(), &digest).is_none());
    }

    #[test]
    fn a_part_of_other_content_is_the_whole_of_this() {
        let digest = digest_of(b"x");
        for (value, range) in [
            (format!("\"{digest}\""), Some("bytes=1-")),
            ("\"other\"".to_owned(), None),
            ("Sat, 21 Nov 2026 05:00:00 GMT".to_owned(), None),
        ] {
            let headers = mk_headers(header::IF_RANGE, &value);
            assert_eq!(effective_range(&headers, &digest), range, "{value}");
        }
    }
}
