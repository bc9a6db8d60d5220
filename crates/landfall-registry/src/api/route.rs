//! What a path asks for. Repository names have slashes, so paths are read from their end.

use http::StatusCode;
use landfall_core::reference::{Digest, Repository};

use crate::api::error::{ApiError, Code};

/// The addresses of the distribution API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Route {
    Ping,
    Catalog,
    Tags { name: Repository },
    Manifest { name: Repository, selector: String },
    Blob { name: Repository, digest: Digest },
    Uploads { name: Repository },
    Upload { name: Repository, id: String },
    Referrers { name: Repository, digest: Digest },
}

impl Route {
    pub(crate) fn parse(path: &str) -> Result<Route, ApiError> {
        let decoded = percent_decode(path).ok_or_else(not_found)?;
        let rest = match decoded.strip_prefix("/v2") {
            Some("" | "/") => return Ok(Route::Ping),
            Some("/_catalog") => return Ok(Route::Catalog),
            Some(rest) => rest.strip_prefix('/').ok_or_else(not_found)?,
            None => return Err(not_found()),
        };
        let mut parts = rest.rsplitn(3, '/');
        let (Some(last), Some(before), Some(name)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(not_found());
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
            _ => Err(not_found()),
        }
    }
}

fn not_found() -> ApiError {
    ApiError::new(
        StatusCode::NOT_FOUND,
        Code::Unsupported,
        "this is no address of the distribution API",
    )
}

fn parse_name(name: &str) -> Result<Repository, ApiError> {
    name.parse()
        .map_err(|error| ApiError::new(StatusCode::BAD_REQUEST, Code::NameInvalid, format!("{error}")))
}

/// A digest from a path or a query.
pub(crate) fn parse_digest(digest: &str) -> Result<Digest, ApiError> {
    digest
        .parse()
        .map_err(|error| ApiError::new(StatusCode::BAD_REQUEST, Code::DigestInvalid, format!("{error}")))
}

/// Undoes `%3A` and the like, which some clients write in digests.
fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        if first == b'%' {
            let (&[high, low], after) = after.split_first_chunk()?;
            bytes.push(hex_digit(high)? << 4 | hex_digit(low)?);
            rest = after;
        } else {
            bytes.push(first);
            rest = after;
        }
    }
    String::from_utf8(bytes).ok()
}

fn hex_digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
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
        for (path, status, code) in [
            ("/", 404, Code::Unsupported),
            ("/v1/", 404, Code::Unsupported),
            ("/v2x", 404, Code::Unsupported),
            ("/v2/a/b/c", 404, Code::Unsupported),
            ("/v2/manifests/v1", 404, Code::Unsupported),
            ("/v2/%zz/manifests/v1", 404, Code::Unsupported),
            ("/v2/%+f/manifests/v1", 404, Code::Unsupported),
            ("/v2/a/manifests/%a", 404, Code::Unsupported),
            ("/v2/UPPER/manifests/v1", 400, Code::NameInvalid),
            ("/v2/../../etc/manifests/v1", 400, Code::NameInvalid),
            ("/v2/a%2f..%2fb/manifests/v1", 400, Code::NameInvalid),
            ("/v2/a/blobs/sha256:short", 400, Code::DigestInvalid),
            ("/v2/a/referrers/x", 400, Code::DigestInvalid),
        ] {
            let error = Route::parse(path).unwrap_err();
            assert_eq!((error.status().as_u16(), error.code()), (status, code), "{path}");
        }
    }

    proptest! {
        #[test]
        fn no_path_panics(path in "(/v2)?(/(blobs|uploads|manifests|tags|list|[a-z%.A-F0-9]{0,4}|\\PC{0,3})){0,6}") {
            let _: Result<Route, ApiError> = Route::parse(&path);
        }
    }
}
