//! The content that a manifest names, as a server needs it to say whether the image can be pulled. Pure.

use std::sync::Arc;

use landfall_core::oci_types::ManifestContent;
use landfall_core::reference::Digest;

/// Content that a manifest names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ManifestParts {
    /// Content without which an image cannot be pulled, with its sizes in bytes. Empty for an index: a client chooses
    /// among its entries.
    pub needed: Arc<[(Digest, u64)]>,
    /// Entries of an index. Empty for an image.
    pub entries: Arc<[Digest]>,
}

impl ManifestParts {
    #[must_use]
    pub fn of(content: &ManifestContent) -> ManifestParts {
        let children = content.children();
        match content {
            ManifestContent::Image(_) => ManifestParts {
                needed: children
                    .filter(|child| !child.is_foreign())
                    .map(|child| (child.digest.clone(), child.size))
                    .collect(),
                entries: Arc::default(),
            },
            ManifestContent::Index(_) => ManifestParts {
                needed: Arc::default(),
                entries: children.map(|child| child.digest.clone()).collect(),
            },
        }
    }
}
