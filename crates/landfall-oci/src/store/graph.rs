//! Walks of an image's graph inside the store. A digest may be named in several roles: walked manifests and reached
//! content are two sets, so that a manifest that is also kept as a blob never hides what it names.

use std::collections::{BTreeSet, HashMap, HashSet};

use landfall_core::oci_types::{ContentRole, Descriptor, ManifestContent, Platform, parse_manifest};
use landfall_core::reference::Digest;

use crate::digest::matches_digest;
use crate::image::{BlobState, RawManifest};
use crate::store::error::StoreError;
use crate::store::{ContentStore, MANIFEST_SIZE_MAX};

/// Content that manifests reach.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reachable {
    /// All digests, including those of the manifests.
    pub content: HashSet<Digest>,
    /// Manifests that are damaged, and roots that are missing or no manifests: the content that they name is not known.
    pub unreadable: BTreeSet<Digest>,
}

/// Way in which a walk came to a digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Naming {
    Root,
    Child(ContentRole),
}

/// Result of reading a digest as a manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    Intact,
    Damaged,
    Missing,
    NoManifest,
}

impl ContentStore {
    /// Returns true if the store has a manifest and all content that it names, each with the size of its descriptor.
    /// Foreign layers may be missing, and index entries that were left out on purpose [spec:agent.sparse].
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
        let mut walked = HashSet::from([manifest.clone()]);
        let mut pending = vec![(manifest.clone(), ContentRole::Manifest)];
        while let Some((digest, role)) = pending.pop() {
            let children = match self.children(&digest) {
                Err(StoreError::Manifest { .. } | StoreError::TooLarge { .. }) if role == ContentRole::Entry => {
                    continue;
                }
                children => children?,
            };
            for (child, role) in children {
                visit(&child.digest);
                if self.blob_state(&child)? != BlobState::Complete {
                    if child.is_foreign() || self.omits(&digest, &child, role) {
                        continue;
                    }
                    return Ok(Some(child.digest));
                }
                if role.may_be_manifest() && walked.insert(child.digest.clone()) {
                    pending.push((child.digest, role));
                }
            }
        }
        Ok(None)
    }

    /// Returns all content that these manifests reach, including themselves. The one rule of every collection: an entry
    /// of an index with a missing or unknown media type is read as a manifest, and is one if its bytes are. A manifest
    /// that is damaged on disk still protects what its bytes name.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn reachable(&self, roots: impl IntoIterator<Item = Digest>) -> Result<Reachable, StoreError> {
        let mut reachable = Reachable::default();
        let mut walked: HashMap<Digest, Reading> = HashMap::new();
        let mut pending: Vec<_> = roots.into_iter().map(|digest| (digest, Naming::Root)).collect();
        while let Some((digest, naming)) = pending.pop() {
            reachable.content.insert(digest.clone());
            if naming == Naming::Child(ContentRole::Blob) {
                continue;
            }
            let reading = match walked.get(&digest) {
                Some(reading) => *reading,
                None => {
                    let (reading, children) = self.read_for_collection(&digest)?;
                    pending.extend(
                        children
                            .into_iter()
                            .map(|(child, role)| (child.digest, Naming::Child(role))),
                    );
                    walked.insert(digest.clone(), reading);
                    reading
                }
            };
            let is_unreadable = match reading {
                Reading::Intact => false,
                Reading::Missing => naming == Naming::Root,
                Reading::Damaged => true,
                Reading::NoManifest => naming != Naming::Child(ContentRole::Entry),
            };
            if is_unreadable {
                reachable.unreadable.insert(digest);
            }
        }
        Ok(reachable)
    }

    /// Reads what a manifest names. Bytes that are damaged count as far as they can be parsed.
    fn read_for_collection(&self, manifest: &Digest) -> Result<(Reading, Vec<(Descriptor, ContentRole)>), StoreError> {
        let bytes = match self.read_unverified(manifest, MANIFEST_SIZE_MAX) {
            Ok(bytes) => bytes,
            Err(StoreError::Missing { .. }) => return Ok((Reading::Missing, Vec::new())),
            Err(StoreError::Disk(error)) => return Err(StoreError::Disk(error)),
            Err(_too_large_or_no_file) => return Ok((Reading::NoManifest, Vec::new())),
        };
        let intact = matches_digest(&bytes, manifest);
        Ok(match children_of(manifest.clone(), &bytes) {
            Ok(children) if intact => (Reading::Intact, children),
            Ok(children) => (Reading::Damaged, children),
            Err(_) if intact => (Reading::NoManifest, Vec::new()),
            Err(_) => (Reading::Damaged, Vec::new()),
        })
    }

    /// Verifies that the store has all children of a manifest in memory. `visit` leases each child before the check.
    pub(super) fn check_children(
        &self,
        manifest: &RawManifest,
        mut visit: impl FnMut(&Digest),
    ) -> Result<(), StoreError> {
        let mut missing = Vec::new();
        for (child, role) in children_of(manifest.digest.clone(), &manifest.bytes)? {
            visit(&child.digest);
            let may_lack = child.is_foreign() || self.omits(&manifest.digest, &child, role);
            if self.blob_state(&child)? != BlobState::Complete && !may_lack {
                missing.push(child.digest);
            }
        }
        StoreError::unless_complete(&manifest.digest, missing)
    }

    /// Returns true if an index is stored without an entry on purpose. This is the one rule about it.
    fn omits(&self, index: &Digest, entry: &Descriptor, role: ContentRole) -> bool {
        role != ContentRole::Blob && self.inner.left_out.omits(index, &entry.digest)
    }

    /// Records that an index is stored without the entries that are missing and that its source lacks by construction.
    /// A manifest that is no index is left as it is.
    ///
    /// # Errors
    /// [`StoreError::PlatformLeftOut`] if no entry for this platform is present; also if the disk fails.
    pub(super) fn omit_entries(
        &self,
        index: &RawManifest,
        platform: &Platform,
        lacks: impl Fn(&Descriptor) -> bool,
    ) -> Result<(), StoreError> {
        let Ok(ManifestContent::Index(content)) = parse_manifest(&index.bytes) else {
            return Ok(());
        };
        let mut omitted = HashSet::new();
        let mut is_usable = false;
        for entry in &content.manifests {
            if self.blob_state(entry)? == BlobState::Complete {
                is_usable |= entry.image_platform().is_none_or(|offered| platform.accepts(offered));
            } else if lacks(entry) {
                omitted.insert(entry.digest.clone());
            }
        }
        if omitted.is_empty() {
            return Ok(());
        }
        if !is_usable {
            let (index, platform) = (index.digest.clone(), platform.clone());
            return Err(StoreError::PlatformLeftOut { index, platform });
        }
        self.inner.left_out.record(&index.digest, omitted)
    }

    fn children(&self, manifest: &Digest) -> Result<Vec<(Descriptor, ContentRole)>, StoreError> {
        let bytes = self.read_blob(manifest, MANIFEST_SIZE_MAX)?;
        children_of(manifest.clone(), &bytes)
    }
}

fn children_of(digest: Digest, bytes: &[u8]) -> Result<Vec<(Descriptor, ContentRole)>, StoreError> {
    let content = parse_manifest(bytes).map_err(|source| StoreError::Manifest { digest, source })?;
    Ok(content
        .children()
        .map(|child| (child.clone(), content.role_of(child)))
        .collect())
}

#[cfg(test)]
mod tests;
