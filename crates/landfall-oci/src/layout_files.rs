//! Files of an OCI image layout (OCI image specification, "Image Layout Specification"), in a directory or in a tar, and
//! the list that `docker save` has beside it. Pure.

use landfall_core::reference::Digest;

/// The list of a layout's images.
pub(crate) const INDEX: &str = "index.json";
/// The file that marks a layout.
pub(crate) const LAYOUT_FILE: &str = "oci-layout";
pub(crate) const LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;
/// The list of images of a `docker save` archive.
pub(crate) const DOCKER_MANIFEST: &str = "manifest.json";

/// Returns the path of content from the layout's root.
pub(crate) fn blob_path(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm(), digest.hex())
}
