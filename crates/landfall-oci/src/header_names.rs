//! Headers of docker's registries for both sides of a connection.

use http::HeaderName;

/// Digest of a manifest or blob.
pub const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
/// Preferences of a request (RFC 7240). `wait=0` asks for the status of an upload at once.
pub const PREFER: HeaderName = HeaderName::from_static("prefer");
/// Digest of the subject, in the answer to the push of a referrer that the registry lists.
pub const SUBJECT: HeaderName = HeaderName::from_static("oci-subject");
/// The registry's ID of an upload session.
pub const UPLOAD_ID: HeaderName = HeaderName::from_static("docker-upload-uuid");
