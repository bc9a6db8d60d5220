//! Images that can be served whole. A client that asks for the manifest of an image which lost a blob is told that it is
//! not there: it pulls from another registry, or pushes the image again and so repairs it [spec:primary.repair].

use std::sync::Arc;

use landfall_core::reference::{Digest, Repository};
use landfall_oci::content::parts::ManifestParts;
use landfall_oci::store::error::StoreError;

use crate::repository::Registry;
use crate::repository::manifest_cache::{CachedManifest, MANIFEST_SIZE_MAX};
use crate::repository::records::CachedRecord;
use crate::repository::whole_images::{Completeness, Seen};

/// Nesting of indexes that is followed.
const DEPTH_MAX: usize = 8;

/// Result of a look for all content of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wholeness {
    /// The store has all of it.
    Stored,
    /// A place has what the store lacks, for as long as it is there.
    WithPlaces,
    /// This content is missing.
    Lost(Digest),
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

    /// Looks for the content that a manifest needs. `cached` is the record of the repository, if it has one.
    fn check_whole(
        &self,
        name: &Repository,
        cached: Option<&CachedRecord>,
        manifest: (&Digest, &ManifestParts),
        completeness: Completeness,
    ) -> Result<Wholeness, StoreError> {
        let (digest, parts) = manifest;
        let mut wholeness = Wholeness::Stored;
        if self.store.blob_size(digest)?.is_none() {
            if !self.has_manifest_in_place(name, digest) {
                return Ok(Wholeness::Lost(digest.clone()));
            }
            wholeness = Wholeness::WithPlaces;
        }
        for (needed, size) in parts.needed.iter() {
            let is_linked = cached.is_some_and(|cached| cached.read().has_blob(needed));
            if is_linked && self.store.blob_size(needed)? == Some(*size) {
                continue;
            }
            if self.size_in_place(name, needed)? == Some(*size) {
                wholeness = Wholeness::WithPlaces;
            } else if completeness == Completeness::Complete || is_linked {
                return Ok(Wholeness::Lost(needed.clone()));
            }
        }
        Ok(wholeness)
    }

    /// Returns what [`Registry::check_whole`] does, and looks at no file for an image that was found whole a moment ago.
    pub(crate) fn check_whole_to_serve(
        &self,
        name: &Repository,
        cached: &CachedRecord,
        manifest: (&Digest, &ManifestParts),
        completeness: Completeness,
    ) -> Result<Wholeness, StoreError> {
        let seen = Seen {
            changes: cached.read().changes,
            losses: self.losses(),
        };
        if cached.whole.has(manifest.0, completeness, seen) {
            return Ok(Wholeness::Stored);
        }
        let wholeness = self.check_whole(name, Some(cached), manifest, completeness)?;
        if wholeness == Wholeness::Stored {
            cached.whole.add(manifest.0, completeness, seen);
        }
        Ok(wholeness)
    }

    /// Returns the first content that an image of a place needs and that is neither in a place nor in the store.
    pub(crate) fn find_lacking_in_place(
        &self,
        name: &Repository,
        parts: &ManifestParts,
    ) -> Result<Option<Digest>, StoreError> {
        for (needed, size) in parts.needed.iter() {
            if self.size_in_place(name, needed)? != Some(*size) {
                return Ok(Some(needed.clone()));
            }
        }
        Ok(None)
    }

    /// Returns true if a repository can serve an image whole: a manifest with all its content, or an index with all its
    /// entries that were pushed. A place counts while it is there. A file that another process deletes is missed within
    /// a second. Blocks.
    ///
    /// # Errors
    /// Returns an error if the disk fails.
    pub fn can_serve(&self, repository: &Repository, selector: &str) -> Result<bool, StoreError> {
        let cached = self.records.get(repository)?;
        let select = |cached: &Arc<CachedRecord>| cached.read().select(selector).map(|(digest, _)| digest.clone());
        let recorded = cached.as_ref().and_then(select);
        let selected = recorded.or_else(|| self.find_in_place(repository, selector).map(|(digest, _)| digest));
        match selected {
            Some(digest) => self.is_whole(repository, cached.as_deref(), &digest, 0),
            None => Ok(false),
        }
    }

    fn is_whole(
        &self,
        name: &Repository,
        cached: Option<&CachedRecord>,
        digest: &Digest,
        depth: usize,
    ) -> Result<bool, StoreError> {
        let parts = match self.load_manifest(digest) {
            Ok(manifest) => manifest.parts,
            Err(StoreError::Disk(error)) => return Err(StoreError::Disk(error)),
            Err(_missing_or_damaged) => match self.find_in_place(name, digest.as_str()) {
                Some((_, manifest)) => manifest.parts.clone(),
                None => return Ok(false),
            },
        };
        let manifest = (digest, &parts);
        let wholeness = match cached {
            Some(cached) => self.check_whole_to_serve(name, cached, manifest, Completeness::Complete)?,
            None => self.check_whole(name, None, manifest, Completeness::Complete)?,
        };
        if matches!(wholeness, Wholeness::Lost(_)) {
            return Ok(false);
        }
        for entry in parts.entries.iter() {
            let was_pushed = cached.is_some_and(|cached| cached.read().manifests.contains_key(entry));
            let is_known = was_pushed || self.has_manifest_in_place(name, entry);
            if is_known && depth < DEPTH_MAX && !self.is_whole(name, cached, entry, depth + 1)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
