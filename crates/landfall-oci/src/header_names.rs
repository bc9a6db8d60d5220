//! Headers of docker's registries for both sides of a connection.

use http::HeaderName;

/// Digest of a manifest or blob.
pub const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
/// The registry's ID of an upload session.
pub const UPLOAD_ID: HeaderName = HeaderName::from_static("docker-upload-uuid");
