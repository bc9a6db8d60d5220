//! Files of an image layout and the entries of its index.

use landfall_core::oci_types::Descriptor;
use landfall_core::reference::{Digest, ImageReference};

use crate::image::RawManifest;
use crate::store::index::{CONTAINERD_NAME, REF_NAME};

pub(crate) const INDEX: &str = "index.json";
pub(crate) const LAYOUT_FILE: &str = "oci-layout";
pub(crate) const LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// Returns the path of content from the layout's root.
pub(crate) fn blob_path(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm(), digest.hex())
}

/// Returns the index entry of an image, with the names by which other programs find it: skopeo by the name as given,
/// containerd by the full reference.
pub(crate) fn named_entry(manifest: &RawManifest, name: Option<&str>) -> Descriptor {
    let size = manifest.bytes.len() as u64;
    let mut entry = Descriptor::new(&manifest.media_type, manifest.digest.clone(), size);
    let Some(name) = name else { return entry };
    entry.annotations.insert(REF_NAME.to_owned(), name.to_owned());
    if name.contains(['/', ':'])
        && let Ok(reference) = name.parse::<ImageReference>()
    {
        let reference = reference.canonical().to_string();
        entry.annotations.insert(CONTAINERD_NAME.to_owned(), reference);
    }
    entry
}
