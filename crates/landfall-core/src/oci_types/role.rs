//! Roles in which manifests name content. One digest may have several: an index lists a manifest, and an artifact keeps
//! the same bytes as a layer.

use super::{Descriptor, ManifestContent};

/// Role in which a manifest names content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ContentRole {
    /// A manifest or an index, by its media type.
    Manifest,
    /// An index entry whose media type is missing or unknown. Its bytes tell what it is.
    Entry,
    /// A configuration or a layer.
    Blob,
}

impl ContentRole {
    /// Returns true if the content may name further content.
    #[must_use]
    pub fn may_be_manifest(self) -> bool {
        self != ContentRole::Blob
    }
}

impl ManifestContent {
    /// Returns the role of one of the [children](ManifestContent::children).
    #[must_use]
    pub fn role_of(&self, child: &Descriptor) -> ContentRole {
        match self {
            _ if child.is_manifest() => ContentRole::Manifest,
            ManifestContent::Index(_) => ContentRole::Entry,
            ManifestContent::Image(_) => ContentRole::Blob,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci_types::{media_type, parse_manifest};

    #[test]
    fn an_entry_of_an_index_may_be_a_manifest_whatever_its_type_says() {
        let digest = format!("sha256:{}", "a".repeat(64));
        for (kind, media_type, expected) in [
            ("index", media_type::OCI_MANIFEST, ContentRole::Manifest),
            ("index", "", ContentRole::Entry),
            ("index", "application/vnd.example.v1+json", ContentRole::Entry),
            ("image", "", ContentRole::Blob),
            ("image", media_type::OCI_LAYER, ContentRole::Blob),
            ("image", media_type::DOCKER_INDEX, ContentRole::Manifest),
        ] {
            let child = format!(r#"{{"mediaType":"{media_type}","digest":"{digest}","size":1}}"#);
            let text = match kind {
                "index" => format!(r#"{{"manifests":[{child}]}}"#),
                _ => format!(r#"{{"config":{child}}}"#),
            };
            let content = parse_manifest(text.as_bytes()).unwrap();
            let child = content.children().next().unwrap();
            assert_eq!(content.role_of(child), expected, "{kind} `{media_type}`");
        }
    }
}
