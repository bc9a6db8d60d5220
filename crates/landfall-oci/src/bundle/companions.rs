//! The companions of a bundle's images by the manifest that they refer to.

use std::collections::HashMap;

use landfall_core::bundle::document::BundleDocument;
use landfall_core::reference::Digest;

use crate::image::Referrer;

/// Companions by subject, each once.
#[derive(Debug, Default)]
pub(super) struct CompanionMap(HashMap<Digest, Vec<Referrer>>);

impl CompanionMap {
    pub(super) fn new(document: &BundleDocument) -> CompanionMap {
        let mut map: HashMap<Digest, Vec<Referrer>> = HashMap::new();
        for companion in document.images.iter().flat_map(|image| &image.companions) {
            map.entry(companion.subject.clone()).or_default().push(Referrer {
                selector: companion.digest.to_string(),
                tag: companion.tag.clone(),
            });
        }
        for found in map.values_mut() {
            found.sort_by(|a, b| (&a.selector, &a.tag).cmp(&(&b.selector, &b.tag)));
            found.dedup();
        }
        CompanionMap(map)
    }

    pub(super) fn of(&self, subject: &Digest) -> Vec<Referrer> {
        self.0.get(subject).cloned().unwrap_or_default()
    }
}
