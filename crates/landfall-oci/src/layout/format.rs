//! Entries of a layout's index.

use landfall_core::oci_types::Descriptor;
use landfall_core::reference::ImageReference;

use crate::image::RawManifest;
use crate::store::index::{CONTAINERD_NAME, REF_NAME};

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
