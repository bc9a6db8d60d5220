//! Images that can be served whole. A client that asks for the manifest of an image which lost a blob is told that it is
//! not there: it pulls from another registry, or pushes the image again and so repairs it [spec:primary.repair].

use landfall_core::reference::{Digest, Repository};
use landfall_oci::store::error::StoreError;

use crate::repository::Registry;
use crate::repository::manifest_cache::{CachedManifest, MANIFEST_SIZE_MAX};
use crate::repository::records::CachedRecord;
use crate::repository::whole_images::Seen;

/// Nesting of indexes that is followed.
const DEPTH_MAX: usize = 8;

/// Content that a repository must have for an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Completeness {
    /// All content that the manifest names.
    Complete,
    /// The content that was pushed: clients may push sparse images.
    AsPushed,
}

impl Registry {
    /// Returns a manifest from the cache or from the disk. Blocks.
    pub(crate) fn load_manifest(&self, digest: &Digest) -> Result<CachedManifest, StoreError> {
        if let Some(manifest) = self.manifest_cache.get(digest) {
            return Ok(manifest);
        }
        let manifest = CachedManifest::new(self.store.read_blob(digest, MANIFEST_SIZE_MAX as u64)?);
        self.manifest_cache.insert(digest, &manifest);
        Ok(manifest)
    }

    /// Returns the first content that a manifest needs and the repository cannot serve.
    fn find_lost(
        &self,
        cached: &CachedRecord,
        digest: &Digest,
        manifest: &CachedManifest,
        completeness: Completeness,
    ) -> Result<Option<Digest>, StoreError> {
        if self.store.blob_size(digest)?.is_none() {
            return Ok(Some(digest.clone()));
        }
        for (needed, size) in manifest.needed.iter() {
            let is_linked = cached.read().has_blob(needed);
            let may_lack = completeness == Completeness::AsPushed && !is_linked;
            let is_here = is_linked && self.store.blob_size(needed)? == Some(*size);
            if !is_here && !may_lack {
                return Ok(Some(needed.clone()));
            }
        }
        Ok(None)
    }

    /// Returns what [`Registry::find_lost`] does, and looks at no file for an image that was found whole a moment ago.
    pub(crate) fn find_lost_to_serve(
        &self,
        cached: &CachedRecord,
        digest: &Digest,
        manifest: &CachedManifest,
        completeness: Completeness,
    ) -> Result<Option<Digest>, StoreError> {
        let seen = Seen {
            changes: cached.read().changes,
            losses: self.losses(),
        };
        if cached.whole.has(digest, completeness, seen) {
            return Ok(None);
        }
        let lost = self.find_lost(cached, digest, manifest, completeness)?;
        if lost.is_none() {
            cached.whole.add(digest, completeness, seen);
        }
        Ok(lost)
    }

    /// Returns true if a repository can serve an image whole: a manifest with all its content, or an index with all its
    /// entries that were pushed. A file that another process deletes is missed within a second. Blocks.
    ///
    /// # Errors
    /// Returns an error if the disk fails.
    pub fn can_serve(&self, repository: &Repository, selector: &str) -> Result<bool, StoreError> {
        let Some(cached) = self.records.get(repository)? else {
            return Ok(false);
        };
        let selected = cached.read().select(selector).map(|(digest, _)| digest.clone());
        match selected {
            Some(digest) => self.is_whole(&cached, &digest, 0),
            None => Ok(false),
        }
    }

    fn is_whole(&self, cached: &CachedRecord, digest: &Digest, depth: usize) -> Result<bool, StoreError> {
        let manifest = match self.load_manifest(digest) {
            Ok(manifest) => manifest,
            Err(StoreError::Disk(error)) => return Err(StoreError::Disk(error)),
            Err(_missing_or_damaged) => return Ok(false),
        };
        let lost = self.find_lost_to_serve(cached, digest, &manifest, Completeness::Complete)?;
        if lost.is_some() {
            return Ok(false);
        }
        for entry in manifest.entries.iter() {
            let was_pushed = cached.read().manifests.contains_key(entry);
            if was_pushed && depth < DEPTH_MAX && !self.is_whole(cached, entry, depth + 1)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
