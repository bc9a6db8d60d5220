//! Headers of docker's registries for both sides of a connection.

use http::HeaderName;

/// Digest of a manifest or blob.
pub const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
/// Marks content that Landfall's registry serves out of a bundle, and does not hold: it may be gone at any instant. A
/// client that pushes takes it for missing.
pub const IN_PLACE: HeaderName = HeaderName::from_static("landfall-in-place");
/// Preferences of a request (RFC 7240). `wait=0` asks for the status of an upload at once.
pub const PREFER: HeaderName = HeaderName::from_static("prefer");
/// Digest of the subject, in the answer to the push of a referrer that the registry lists.
pub const SUBJECT: HeaderName = HeaderName::from_static("oci-subject");
/// The registry's ID of an upload session.
pub const UPLOAD_ID: HeaderName = HeaderName::from_static("docker-upload-uuid");
