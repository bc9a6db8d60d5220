//! Removal of images from a registry, for `landfall registry rm`.

use landfall_core::reference::Repository;
use landfall_oci::store::error::StoreError;

use crate::repository::Registry;
use crate::repository::record::{Record, RecordChange};

/// Counts of what was removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RemovedImages {
    pub tags: usize,
    /// Manifests. The next garbage collection deletes the blobs that they named.
    pub manifests: usize,
}

impl Registry {
    /// Removes a tag, a manifest with all its tags, or, without a selector, everything in a repository. Blocks.
    ///
    /// # Errors
    /// Returns an error if the record cannot be read or written.
    pub fn remove(&self, repository: &Repository, selector: Option<&str>) -> Result<RemovedImages, StoreError> {
        if self.records.get(repository)?.is_none() {
            return Ok(RemovedImages::default());
        }
        let removed = self.records.change(repository, |record| {
            let changes = plan_removal(record, selector);
            let mut after = record.clone();
            changes.iter().cloned().for_each(|change| after.apply(change));
            let removed = RemovedImages {
                tags: record.tags.len() - after.tags.len(),
                manifests: record.manifests.len() - after.manifests.len(),
            };
            (changes, removed)
        })?;
        if removed != RemovedImages::default() {
            self.note_loss();
        }
        Ok(removed)
    }
}

fn plan_removal(record: &Record, selector: Option<&str>) -> Vec<RecordChange> {
    let Some(selector) = selector else {
        let manifests = record
            .manifests
            .keys()
            .map(|digest| RecordChange::DropManifest { digest: digest.clone() });
        let blobs = record
            .blobs
            .keys()
            .map(|digest| RecordChange::DropBlob { digest: digest.clone() });
        return manifests.chain(blobs).collect();
    };
    if let Some((tag, _)) = selector.parse().ok().and_then(|tag| record.tags.get_key_value(&tag)) {
        return vec![RecordChange::DropTag { tag: tag.clone() }];
    }
    let found = record.select(selector);
    found
        .map(|(digest, _)| RecordChange::DropManifest { digest: digest.clone() })
        .into_iter()
        .collect()
}
