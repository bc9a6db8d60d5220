//! Host of a request and the framing of its body: what HTTP/1.1 demands of both, and the names by which a server may be
//! asked.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use http::header::{HOST, TRANSFER_ENCODING};
use http::{HeaderMap, StatusCode, Uri, Version};

/// Names by which a server may be asked. A web page can make its own name resolve to this machine (DNS rebinding), but
/// the browser then sends that name as `Host`. So addresses are always allowed, and names only if they are listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostNames {
    names: Vec<String>,
    addresses: bool,
}

impl HostNames {
    /// Allows loopback only: `localhost` and the addresses of loopback.
    #[must_use]
    pub fn loopback() -> HostNames {
        HostNames {
            names: Vec::new(),
            addresses: false,
        }
    }

    /// Allows loopback, every address and these names. Case and a trailing dot make no difference.
    #[must_use]
    pub fn addresses_and(names: impl IntoIterator<Item = String>) -> HostNames {
        let names = names.into_iter().map(|name| canonical(&name)).collect();
        HostNames { names, addresses: true }
    }

    /// Returns true if a request by this URI and these headers is for the server.
    #[must_use]
    pub fn admit(&self, uri: &Uri, headers: &HeaderMap) -> bool {
        let Some(name) = requested_host(uri, headers).and_then(host_name) else {
            return false;
        };
        match name.trim_matches(['[', ']']).parse::<IpAddr>() {
            Ok(address) => self.addresses || address.is_loopback(),
            Err(_) => {
                let name = canonical(name);
                name == "localhost" || self.names.contains(&name)
            }
        }
    }
}

/// Returns the router behind a check of the host: a request for another host gets 421 (Misdirected Request).
pub fn require_host(router: Router, names: HostNames) -> Router {
    async fn check(State(names): State<Arc<HostNames>>, request: Request, next: Next) -> Response {
        if names.admit(request.uri(), request.headers()) {
            return next.run(request).await;
        }
        let message = "this server is not asked by that name: use its address or its own name\n";
        (StatusCode::MISDIRECTED_REQUEST, message).into_response()
    }
    router.layer(from_fn_with_state(Arc::new(names), check))
}

fn canonical(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

/// Returns the host that a request is for: of the URI (HTTP/2, absolute form), else of `Host`.
fn requested_host<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> Option<&'a str> {
    match uri.authority() {
        Some(authority) => Some(authority.as_str()),
        None => headers.get(HOST)?.to_str().ok(),
    }
}

/// Returns the name or address of a `host[:port]`, an IPv6 address with its brackets. `None` if the text is none (RFC
/// 9110 section 7.2). Names have the characters that DNS and operating systems allow; an empty port is valid.
fn host_name(text: &str) -> Option<&str> {
    let length = match text.strip_prefix('[') {
        Some(rest) => {
            let length = rest.find(']')?;
            rest[..length].parse::<Ipv6Addr>().ok()?;
            length + 2
        }
        None => {
            let is_usual = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b'~');
            text.bytes().position(|byte| !is_usual(byte)).unwrap_or(text.len())
        }
    };
    let (name, port) = text.split_at(length);
    let port_is_valid = match port.strip_prefix(':') {
        None => port.is_empty(),
        Some("") => true,
        Some(port) => port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok(),
    };
    (!name.is_empty() && port_is_valid).then_some(name)
}

/// Returns true if a value is one that `Host` may have.
#[must_use]
pub fn is_host(value: &[u8]) -> bool {
    std::str::from_utf8(value).is_ok_and(|text| host_name(text).is_some())
}

/// Returns the status of a request that HTTP/1.1 forbids (RFC 9112): 400 without exactly one valid `Host` (section
/// 3.2) or for a transfer coding in HTTP/1.0, 501 for a transfer coding other than `chunked` (section 6.1).
///
/// HTTP/2 has neither header: hyper checks its pseudo-headers.
#[must_use]
pub fn violation(version: Version, headers: &HeaderMap) -> Option<StatusCode> {
    if version >= Version::HTTP_2 {
        return None;
    }
    let mut hosts = headers.get_all(HOST).iter();
    let host_is_right = match (hosts.next(), hosts.next()) {
        (Some(host), None) => is_host(host.as_bytes()),
        (None, _) => version == Version::HTTP_10,
        (Some(_), Some(_)) => false,
    };
    if !host_is_right {
        return Some(StatusCode::BAD_REQUEST);
    }
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => None,
        (Some(_), _) if version == Version::HTTP_10 => Some(StatusCode::BAD_REQUEST),
        (Some(coding), None) if coding.as_bytes().eq_ignore_ascii_case(b"chunked") => None,
        _ => Some(StatusCode::NOT_IMPLEMENTED),
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_request_has_one_valid_host_and_no_coding_but_chunked() {
        for (version, lines, expected) in [
            (Version::HTTP_11, "host: a.example:5000", None),
            (Version::HTTP_11, "host: [::1]:80", None),
            (Version::HTTP_11, "host: 127.0.0.1", None),
            (Version::HTTP_11, "host: under_score.example", None),
            (Version::HTTP_11, "", Some(400)),
            (Version::HTTP_10, "", None),
            (Version::HTTP_2, "", None),
            (Version::HTTP_11, "host: ", Some(400)),
            (Version::HTTP_11, "host: x y", Some(400)),
            (Version::HTTP_11, "host: a/b", Some(400)),
            (Version::HTTP_11, "host: a?b", Some(400)),
            (Version::HTTP_11, "host: a#b", Some(400)),
            (Version::HTTP_11, "host: user@a", Some(400)),
            (Version::HTTP_11, "host: a,b", Some(400)),
            (Version::HTTP_11, "host: a:b", Some(400)),
            (Version::HTTP_11, "host: a:70000", Some(400)),
            (Version::HTTP_11, "host: a:80:80", Some(400)),
            (Version::HTTP_11, "host: :80", Some(400)),
            (Version::HTTP_11, "host: [::1", Some(400)),
            (Version::HTTP_11, "host: a\\b", Some(400)),
            (Version::HTTP_11, "host: <a>", Some(400)),
            (Version::HTTP_11, "host: a\nhost: a", Some(400)),
            (Version::HTTP_10, "host: a\nhost: a", Some(400)),
            (Version::HTTP_11, "host: a\ntransfer-encoding: chunked", None),
            (Version::HTTP_11, "host: a\ntransfer-encoding: Chunked", None),
            (Version::HTTP_11, "host: a\ntransfer-encoding: gzip, chunked", Some(501)),
            (
                Version::HTTP_11,
                "host: a\ntransfer-encoding: chunked, chunked",
                Some(501),
            ),
            (Version::HTTP_11, "host: a\ntransfer-encoding: identity", Some(501)),
            (Version::HTTP_11, "host: a\ntransfer-encoding: ", Some(501)),
            (
                Version::HTTP_11,
                "host: a\ntransfer-encoding: gzip\ntransfer-encoding: chunked",
                Some(501),
            ),
            (Version::HTTP_10, "host: a\ntransfer-encoding: chunked", Some(400)),
        ] {
            let mut headers = HeaderMap::new();
            for line in lines.lines() {
                let (name, value) = line.split_once(": ").unwrap();
                let name = http::HeaderName::try_from(name).unwrap();
                headers.append(name, HeaderValue::from_str(value).unwrap());
            }
            let found = violation(version, &headers).map(|status| status.as_u16());
            assert_eq!(found, expected, "{version:?} {lines:?}");
        }
    }

    #[test]
    fn a_name_of_others_is_not_for_this_server() {
        let own = HostNames::addresses_and(["Edge-1.example.".to_owned()]);
        for (host, loopback, mine) in [
            ("localhost:5080", true, true),
            ("127.0.0.1", true, true),
            ("[::1]:5080", true, true),
            ("10.0.0.7:5080", false, true),
            ("[fd00::7]", false, true),
            ("edge-1.example:5080", false, true),
            ("EDGE-1.example.", false, true),
            ("evil.example", false, false),
            ("localhost.evil.example", false, false),
            ("127.0.0.1.evil.example", false, false),
            ("evil.example@127.0.0.1", false, false),
            ("x y", false, false),
            ("", false, false),
        ] {
            let headers = HeaderMap::from_iter([(HOST, HeaderValue::from_str(host).unwrap())]);
            let uri = Uri::from_static("/x");
            assert_eq!(HostNames::loopback().admit(&uri, &headers), loopback, "{host}");
            assert_eq!(own.admit(&uri, &headers), mine, "{host}");
        }
        let headers = HeaderMap::from_iter([(HOST, HeaderValue::from_static("localhost"))]);
        assert!(
            !HostNames::loopback().admit(&Uri::from_static("http://evil.example/x"), &headers),
            "the URI counts where it names a host"
        );
        assert!(!own.admit(&Uri::from_static("/x"), &HeaderMap::new()));
    }
}
