//! Error responses to requests whose path or digest cannot be parsed.

use http::StatusCode;
use landfall_core::reference::Digest;
use landfall_core::registry_path::RegistryPathError;

use crate::api::error::{ApiError, ErrorCode};

impl From<RegistryPathError> for ApiError {
    fn from(error: RegistryPathError) -> ApiError {
        let (status, code) = match &error {
            RegistryPathError::NotAnEndpoint => (StatusCode::NOT_FOUND, ErrorCode::Unsupported),
            RegistryPathError::Name(_) => (StatusCode::BAD_REQUEST, ErrorCode::NameInvalid),
            RegistryPathError::Digest(_) => (StatusCode::BAD_REQUEST, ErrorCode::DigestInvalid),
        };
        ApiError::new(status, code, error.to_string())
    }
}

/// Parses a digest from a path or a query.
pub(super) fn parse_digest(digest: &str) -> Result<Digest, ApiError> {
    digest.parse().map_err(|error| RegistryPathError::Digest(error).into())
}

#[cfg(test)]
mod tests {
    use landfall_core::registry_path::Route;

    use super::*;

    #[test]
    fn what_is_no_address_says_what_is_wrong_with_it() {
        for (path, status, code) in [
            ("/v1/", 404, ErrorCode::Unsupported),
            ("/v2/%zz/manifests/v1", 404, ErrorCode::Unsupported),
            ("/v2/UPPER/manifests/v1", 400, ErrorCode::NameInvalid),
            ("/v2/a/blobs/sha256:short", 400, ErrorCode::DigestInvalid),
        ] {
            let error = ApiError::from(Route::parse(path).unwrap_err());
            assert_eq!((error.status().as_u16(), error.code()), (status, code), "{path}");
        }
    }
}
