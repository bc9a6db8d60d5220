//! The paths of the OCI distribution API, `/v2/…`, and the `ns` that containerd adds when it asks a mirror.
//!
//! The embedded registry and the node's mirror both parse with [`Route`]. Repository names have slashes, so a path is
//! read from its end: the last `/manifests/` or `/blobs/` counts.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use percent_encoding::percent_decode_str;

use crate::reference::{Digest, ReferenceError, RegistryHost, Repository, Tag};

/// The root of the distribution API.
pub const API_ROOT: &str = "/v2/";

/// An endpoint of the distribution API (distribution-spec, "Endpoints").
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    Ping,
    Catalog,
    Tags { name: Repository },
    Manifest { name: Repository, selector: String },
    Blob { name: Repository, digest: Digest },
    Uploads { name: Repository },
    Upload { name: Repository, id: String },
    Referrers { name: Repository, digest: Digest },
}

/// A tag or a digest: the last part of a manifest's path. [`Route::Manifest`] keeps the text that the client sent, because
/// a registry without such a manifest answers 404. A caller that puts it into another URL parses it first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ManifestSelector {
    Tag(Tag),
    Digest(Digest),
}

impl FromStr for ManifestSelector {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<ManifestSelector, ReferenceError> {
        // No tag has a colon, and every digest has one.
        if text.contains(':') {
            text.parse().map(ManifestSelector::Digest)
        } else {
            text.parse().map(ManifestSelector::Tag)
        }
    }
}

impl fmt::Display for ManifestSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ManifestSelector::Tag(tag) => tag.fmt(f),
            ManifestSelector::Digest(digest) => digest.fmt(f),
        }
    }
}

/// Error of a path that belongs to no endpoint, or names no repository or digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegistryPathError {
    #[error("this is no address of the distribution API")]
    NotAnEndpoint,
    #[error(transparent)]
    Name(ReferenceError),
    #[error(transparent)]
    Digest(ReferenceError),
}

impl Route {
    /// Parses the path of a request, without its query.
    ///
    /// # Errors
    /// If the path belongs to no endpoint, or its repository or digest breaks the grammar.
    pub fn parse(path: &str) -> Result<Route, RegistryPathError> {
        let decoded = percent_decode(path).ok_or(RegistryPathError::NotAnEndpoint)?;
        let rest = match decoded.strip_prefix("/v2") {
            Some("" | "/") => return Ok(Route::Ping),
            Some("/_catalog") => return Ok(Route::Catalog),
            Some(rest) => rest.strip_prefix('/').ok_or(RegistryPathError::NotAnEndpoint)?,
            None => return Err(RegistryPathError::NotAnEndpoint),
        };
        let mut parts = rest.rsplitn(3, '/');
        let (Some(last), Some(before), Some(name)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(RegistryPathError::NotAnEndpoint);
        };
        match (before, last) {
            ("blobs", "uploads") => Ok(Route::Uploads {
                name: parse_name(name)?,
            }),
            ("uploads", id) if let Some(name) = name.strip_suffix("/blobs") => {
                let name = parse_name(name)?;
                Ok(match id {
                    "" => Route::Uploads { name },
                    id => Route::Upload {
                        name,
                        id: id.to_owned(),
                    },
                })
            }
            ("tags", "list") => Ok(Route::Tags {
                name: parse_name(name)?,
            }),
            ("manifests", selector) => Ok(Route::Manifest {
                name: parse_name(name)?,
                selector: selector.to_owned(),
            }),
            ("blobs", digest) => Ok(Route::Blob {
                name: parse_name(name)?,
                digest: parse_digest(digest)?,
            }),
            ("referrers", digest) => Ok(Route::Referrers {
                name: parse_name(name)?,
                digest: parse_digest(digest)?,
            }),
            _ => Err(RegistryPathError::NotAnEndpoint),
        }
    }
}

fn parse_name(name: &str) -> Result<Repository, RegistryPathError> {
    name.parse().map_err(RegistryPathError::Name)
}

fn parse_digest(digest: &str) -> Result<Digest, RegistryPathError> {
    digest.parse().map_err(RegistryPathError::Digest)
}

/// Parses the registry that the query of a request names with `ns`: the one that the mirror stands in for. `None` if
/// there is no `ns`.
///
/// # Errors
/// If `ns` is not a registry's host.
pub fn parse_namespace(query: &str) -> Result<Option<RegistryHost>, ReferenceError> {
    let namespace = query.split('&').find_map(|pair| pair.strip_prefix("ns="));
    let namespace = namespace.filter(|host| !host.is_empty());
    namespace
        .map(|host| percent_decode_str(host).decode_utf8_lossy().parse())
        .transpose()
}

/// Decodes `%3A` and the like, which some clients send in digests. `None` if a `%` begins no escape (RFC 3986, section
/// 2.1).
fn percent_decode(text: &str) -> Option<Cow<'_, str>> {
    let is_hex = |digits: &[u8]| digits.iter().all(u8::is_ascii_hexdigit);
    let mut escapes = text.split('%').skip(1);
    if !escapes.all(|escape| escape.as_bytes().get(..2).is_some_and(is_hex)) {
        return None;
    }
    percent_decode_str(text).decode_utf8().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DIGEST: &str = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";

    #[test]
    fn a_path_is_read_from_its_end() {
        let name = |text: &str| text.parse::<Repository>().unwrap();
        let digest = || DIGEST.parse::<Digest>().unwrap();
        let manifest = |of: &str, selector: &str| Route::Manifest {
            name: name(of),
            selector: selector.to_owned(),
        };
        for (path, expected) in [
            ("/v2".to_owned(), Route::Ping),
            ("/v2/".to_owned(), Route::Ping),
            ("/v2/_catalog".to_owned(), Route::Catalog),
            ("/v2/a/b/tags/list".to_owned(), Route::Tags { name: name("a/b") }),
            ("/v2/a/manifests/v1".to_owned(), manifest("a", "v1")),
            (
                "/v2/a/manifests/manifests/manifests".to_owned(),
                manifest("a/manifests", "manifests"),
            ),
            (
                format!("/v2/a/blobs/{DIGEST}"),
                Route::Blob {
                    name: name("a"),
                    digest: digest(),
                },
            ),
            (
                format!("/v2/a/blobs/{}", DIGEST.replace(':', "%3a")),
                Route::Blob {
                    name: name("a"),
                    digest: digest(),
                },
            ),
            (
                "/v2/a/b/blobs/uploads/".to_owned(),
                Route::Uploads { name: name("a/b") },
            ),
            ("/v2/a/b/blobs/uploads".to_owned(), Route::Uploads { name: name("a/b") }),
            (
                "/v2/a/blobs/uploads/7-x".to_owned(),
                Route::Upload {
                    name: name("a"),
                    id: "7-x".to_owned(),
                },
            ),
            (
                "/v2/a/blobs/blobs/uploads/7-x".to_owned(),
                Route::Upload {
                    name: name("a/blobs"),
                    id: "7-x".to_owned(),
                },
            ),
            (
                format!("/v2/a/referrers/{DIGEST}"),
                Route::Referrers {
                    name: name("a"),
                    digest: digest(),
                },
            ),
        ] {
            assert_eq!(Route::parse(&path).unwrap(), expected, "{path}");
        }
    }

    #[test]
    fn what_is_no_address_says_what_is_wrong_with_it() {
        let kind = |error: RegistryPathError| match error {
            RegistryPathError::NotAnEndpoint => "endpoint",
            RegistryPathError::Name(_) => "name",
            RegistryPathError::Digest(_) => "digest",
        };
        for (path, expected) in [
            ("/", "endpoint"),
            ("/v1/", "endpoint"),
            ("/v2x", "endpoint"),
            ("/v2/a/b/c", "endpoint"),
            ("/v2/manifests/v1", "endpoint"),
            ("/v2/%zz/manifests/v1", "endpoint"),
            ("/v2/%+f/manifests/v1", "endpoint"),
            ("/v2/a/manifests/%a", "endpoint"),
            ("/v2/UPPER/manifests/v1", "name"),
            ("/v2/../../etc/manifests/v1", "name"),
            ("/v2/a%2f..%2fb/manifests/v1", "name"),
            ("/v2/a/blobs/sha256:short", "digest"),
            ("/v2/a/referrers/x", "digest"),
        ] {
            assert_eq!(kind(Route::parse(path).unwrap_err()), expected, "{path}");
        }
    }

    #[test]
    fn the_namespace_may_have_a_port_and_be_encoded() {
        for query in ["ns=reg.example%3A5000", "other=1&ns=reg.example:5000"] {
            let namespace = parse_namespace(query).unwrap().unwrap();
            assert_eq!(namespace.as_str(), "reg.example:5000");
        }
        for query in ["", "ns=", "other=1"] {
            assert_eq!(parse_namespace(query), Ok(None), "{query}");
        }
        assert!(parse_namespace("ns=a/b").is_err());
    }

    #[test]
    fn a_selector_is_a_tag_or_a_digest_and_nothing_that_a_url_gives_a_meaning() {
        for (text, valid) in [
            ("v1", true),
            ("_a.b-C", true),
            (DIGEST, true),
            ("", false),
            ("..", false),
            (".", false),
            ("..\\..\\priv", false),
            ("v1?q=1", false),
            ("v1#x", false),
            ("v1%2f..", false),
            ("v1/..", false),
            ("v1 ", false),
            ("v1\n", false),
            ("é", false),
            ("sha256:..", false),
            ("sha256:short", false),
            ("a:b@c", false),
        ] {
            let parsed = text.parse::<ManifestSelector>();
            assert_eq!(parsed.is_ok(), valid, "{text}");
            if let Ok(selector) = parsed {
                assert_eq!(selector.to_string(), text);
            }
        }
    }

    #[test]
    fn a_namespace_is_a_host_and_nothing_more() {
        for namespace in [
            "a/b", "a%2fb", "a%3fb", "a%23b", "user@a", "a%5cb", "..", "a%20b", "a:b", "%00", "http://a",
        ] {
            assert!(parse_namespace(&format!("ns={namespace}")).is_err(), "{namespace}");
        }
    }

    proptest! {
        #[test]
        fn a_selector_means_nothing_else_in_a_url(text in "[a-z0-9._:%?#/\\\\+-]{0,12}|sha256:[0-9a-f.]{62,66}") {
            if let Ok(selector) = text.parse::<ManifestSelector>() {
                let path = format!("/v2/a/manifests/{selector}");
                prop_assert!(!path.contains(['%', '?', '#', '\\']) && !path.split('/').any(|part| part == ".."));
                prop_assert_eq!(
                    Route::parse(&path).unwrap(),
                    Route::Manifest { name: "a".parse().unwrap(), selector: text }
                );
            }
        }

        #[test]
        fn no_path_panics(path in "(/v2)?(/(blobs|uploads|manifests|tags|list|[a-z%.A-F0-9]{0,4}|\\PC{0,3})){0,6}") {
            let _: Result<Route, RegistryPathError> = Route::parse(&path);
        }
    }
}
