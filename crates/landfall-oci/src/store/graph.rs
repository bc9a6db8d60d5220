//! Walks of an image's graph inside the store.

use std::collections::HashSet;

use landfall_core::oci_types::{Descriptor, parse_manifest};
use landfall_core::reference::Digest;

use crate::image::{BlobState, RawManifest};
use crate::store::error::StoreError;
use crate::store::{ContentStore, MANIFEST_SIZE_MAX};

impl ContentStore {
    /// Returns true if the store has a manifest and all content that it names, each with the size of its descriptor.
    /// Foreign layers may be missing.
    ///
    /// # Errors
    /// If the disk fails. A damaged or unreadable manifest is incomplete and not an error: a new copy repairs it.
    pub fn is_complete(&self, manifest: &Digest) -> Result<bool, StoreError> {
        match self.first_missing(manifest, |_| ()) {
            Ok(missing) => Ok(missing.is_none()),
            Err(error) if error.is_repaired_by_copying() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Returns the first missing content of a manifest. `visit` is called with each digest before the store looks for
    /// it.
    pub(super) fn first_missing(
        &self,
        manifest: &Digest,
        mut visit: impl FnMut(&Digest),
    ) -> Result<Option<Digest>, StoreError> {
        visit(manifest);
        let mut seen = HashSet::from([manifest.clone()]);
        let mut pending = vec![manifest.clone()];
        while let Some(digest) = pending.pop() {
            for child in self.children(&digest)? {
                visit(&child.digest);
                if self.blob_state(&child)? != BlobState::Complete {
                    if child.is_foreign() {
                        continue;
                    }
                    return Ok(Some(child.digest));
                }
                if child.is_manifest() && seen.insert(child.digest.clone()) {
                    pending.push(child.digest);
                }
            }
        }
        Ok(None)
    }

    /// Returns all content that these manifests reach, including themselves. A missing or damaged manifest reaches
    /// nothing.
    pub fn reachable(&self, roots: impl IntoIterator<Item = Digest>) -> Result<HashSet<Digest>, StoreError> {
        let mut reached = HashSet::new();
        let mut pending: Vec<Digest> = roots.into_iter().collect();
        while let Some(digest) = pending.pop() {
            if !reached.insert(digest.clone()) {
                continue;
            }
            let children = match self.children(&digest) {
                Ok(children) => children,
                Err(StoreError::Disk(error)) => return Err(StoreError::Disk(error)),
                Err(_not_a_manifest_that_can_be_read) => continue,
            };
            for child in children {
                if child.is_manifest() {
                    pending.push(child.digest);
                } else {
                    reached.insert(child.digest);
                }
            }
        }
        Ok(reached)
    }

    /// Verifies that the store has all children of a manifest in memory. `visit` leases each child before the check.
    pub(super) fn check_children(
        &self,
        manifest: &RawManifest,
        mut visit: impl FnMut(&Digest),
    ) -> Result<(), StoreError> {
        for child in children_of(manifest.digest.clone(), &manifest.bytes)? {
            visit(&child.digest);
            if self.blob_state(&child)? != BlobState::Complete && !child.is_foreign() {
                return Err(StoreError::Incomplete {
                    manifest: manifest.digest.clone(),
                    child: child.digest,
                });
            }
        }
        Ok(())
    }

    fn children(&self, manifest: &Digest) -> Result<Vec<Descriptor>, StoreError> {
        let bytes = self.read_blob(manifest, MANIFEST_SIZE_MAX)?;
        children_of(manifest.clone(), &bytes)
    }
}

fn children_of(digest: Digest, bytes: &[u8]) -> Result<Vec<Descriptor>, StoreError> {
    let content = parse_manifest(bytes).map_err(|source| StoreError::Manifest { digest, source })?;
    Ok(content.children().cloned().collect())
}
