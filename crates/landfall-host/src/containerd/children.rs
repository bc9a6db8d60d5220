//! Children of a manifest, and the labels by which containerd's garbage collector finds them. The functions are pure.
//!
//! containerd keeps content only while a root refers to it: an image, a lease, or a label of other content. The labels
//! are those that `ctr images import` and the CRI plug-in set (containerd, `images/handlers.go`, `ChildGCLabels`), so
//! that content has the same labels whichever program wrote it.

use std::collections::BTreeMap;

use landfall_core::oci_types::{ManifestContent, ManifestError, parse_manifest};

/// The prefix of every label that keeps content alive.
const REFERENCE_PREFIX: &str = "containerd.io/gc.ref.content";

/// Returns the children of a manifest or an index by the label that keeps each alive. Foreign layers get no label,
/// because this host may not hold them.
pub(super) fn child_labels(manifest: &[u8]) -> Result<BTreeMap<String, String>, ManifestError> {
    let content = parse_manifest(manifest)?;
    let (config, children, letter) = match &content {
        ManifestContent::Image(manifest) => (Some(&manifest.config), &manifest.layers, 'l'),
        ManifestContent::Index(index) => (None, &index.manifests, 'm'),
    };
    let config = config.map(|config| (format!("{REFERENCE_PREFIX}.config"), config.digest.to_string()));
    let children = children
        .iter()
        .enumerate()
        .filter(|(_, child)| !child.is_foreign())
        .map(|(at, child)| (format!("{REFERENCE_PREFIX}.{letter}.{at}"), child.digest.to_string()));
    Ok(config.into_iter().chain(children).collect())
}

#[cfg(test)]
mod tests {
    use landfall_core::oci_types::media_type;

    use super::*;

    fn descriptor(kind: &str, fill: char) -> serde_json::Value {
        serde_json::json!({ "mediaType": kind, "digest": format!("sha256:{}", fill.to_string().repeat(64)), "size": 1 })
    }

    #[test]
    fn a_manifest_labels_its_config_and_those_layers_that_may_be_kept() {
        let manifest = serde_json::json!({
            "schemaVersion": 2,
            "config": descriptor(media_type::OCI_CONFIG, 'a'),
            "layers": [descriptor(media_type::OCI_LAYER, 'b'), descriptor(media_type::OCI_LAYER_GZIP, 'c'),
                descriptor("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", 'd')],
        });
        let labels = child_labels(manifest.to_string().as_bytes()).unwrap();
        let keys: Vec<_> = labels
            .iter()
            .map(|(key, digest)| format!("{key} {}", &digest[7..8]))
            .collect();
        insta::assert_snapshot!(keys.join("\n"), @"
        containerd.io/gc.ref.content.config a
        containerd.io/gc.ref.content.l.0 b
        containerd.io/gc.ref.content.l.1 c
        ");
    }

    #[test]
    fn an_index_labels_its_manifests() {
        let index = serde_json::json!({
            "schemaVersion": 2,
            "manifests": [descriptor(media_type::OCI_MANIFEST, 'a'), descriptor(media_type::OCI_MANIFEST, 'b')],
        });
        let labels = child_labels(index.to_string().as_bytes()).unwrap();
        let keys: Vec<_> = labels.keys().map(String::as_str).collect();
        assert_eq!(
            keys,
            ["containerd.io/gc.ref.content.m.0", "containerd.io/gc.ref.content.m.1"]
        );
    }
}
