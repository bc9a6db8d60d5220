//! Headers that docker's registries brought along, and that both sides of a connection have to know.

use http::HeaderName;

/// The digest of a manifest or blob.
pub const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
/// What a registry calls an upload.
pub const UPLOAD_ID: HeaderName = HeaderName::from_static("docker-upload-uuid");
