//! Indexes that are made again without some of their entries. Their digests change.

use serde_json::Value;

use super::Descriptor;

/// Makes an index again, with some of its entries. `kept` has a value for each entry in order: its descriptor, which may
/// have another digest and size, or `None` for an entry that is left out. Annotations and fields that this program does
/// not read stay. The same input gives the same bytes.
///
/// # Errors
/// If the index is not JSON.
pub fn narrow_index(index: &[u8], kept: impl IntoIterator<Item = Option<Descriptor>>) -> serde_json::Result<Vec<u8>> {
    let mut document: Value = serde_json::from_slice(index)?;
    let all = document["manifests"].as_array().cloned().unwrap_or_default();
    let entries = all.into_iter().zip(kept).filter_map(|(mut entry, kept)| {
        let kept = kept?;
        entry["digest"] = kept.digest.as_str().into();
        entry["size"] = kept.size.into();
        Some(entry)
    });
    document["manifests"] = entries.collect();
    serde_json::to_vec(&document)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::oci_types::{ManifestContent, parse_manifest};

    #[test]
    fn kept_entries_keep_their_fields_and_the_index_its_annotations() {
        let digest = |digit: &str| format!("sha256:{}", digit.repeat(64));
        let entry = |digit: &str| {
            json!({"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest(digit), "size": 7,
                "annotations": {"a": "b"}, "platform": {"os": "linux", "architecture": "arm64", "os.features": ["x"]}})
        };
        let index = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": [entry("a"), entry("b"), entry("c")], "annotations": {"c": "d"}, "unheard": [1]});
        let index = index.to_string();
        let ManifestContent::Index(parsed) = parse_manifest(index.as_bytes()).unwrap() else {
            panic!("an index");
        };
        let mut changed = parsed.manifests[2].clone();
        changed.digest = digest("f").parse().unwrap();
        changed.size = 9;
        let kept = [Some(parsed.manifests[0].clone()), None, Some(changed)];
        let narrowed = narrow_index(index.as_bytes(), kept.clone()).unwrap();
        let mut last = entry("f");
        last["size"] = 9.into();
        let expected = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": [entry("a"), last], "annotations": {"c": "d"}, "unheard": [1]});
        assert_eq!(serde_json::from_slice::<Value>(&narrowed).unwrap(), expected);
        assert_eq!(narrow_index(index.as_bytes(), kept).unwrap(), narrowed);
        assert!(narrow_index(b"no JSON", []).is_err());
    }
}
