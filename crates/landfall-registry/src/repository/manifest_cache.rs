//! Cache of recently pulled manifests in memory: most pulls ask for the same few.

use std::collections::HashMap;
use std::sync::Mutex;

use bytes::Bytes;
use landfall_core::oci_types::parse_manifest;
use landfall_core::reference::Digest;
use landfall_core::sync::lock;
use landfall_oci::content::parts::ManifestParts;

/// Size limit of a manifest, in bytes. The specification allows a registry to reject larger ones ("Pushing Manifests").
pub(crate) const MANIFEST_SIZE_MAX: usize = 4 * 1024 * 1024;
/// Size of a generation, in bytes. The cache holds at most two generations.
const GENERATION_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Size limit of a cached manifest, in bytes. Larger ones are read from the disk each time.
const ENTRY_BYTES_MAX: usize = 256 * 1024;

/// A manifest in memory, verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CachedManifest {
    pub(crate) bytes: Bytes,
    pub(crate) parts: ManifestParts,
}

impl CachedManifest {
    pub(crate) fn new(bytes: Bytes) -> CachedManifest {
        // What is no manifest names nothing.
        let parts =
            parse_manifest(&bytes).map_or_else(|_| ManifestParts::default(), |content| ManifestParts::of(&content));
        CachedManifest { bytes, parts }
    }
}

/// A cache of two generations. When the young one is full, it becomes the old one, and the entries of the former old
/// one that were not used meanwhile are dropped.
#[derive(Debug, Default)]
pub(crate) struct ManifestCache {
    generations: Mutex<Generations>,
}

#[derive(Debug, Default)]
struct Generations {
    young: HashMap<Digest, CachedManifest>,
    young_bytes: usize,
    old: HashMap<Digest, CachedManifest>,
}

impl ManifestCache {
    /// Returns a manifest, if it is cached.
    pub(crate) fn get(&self, digest: &Digest) -> Option<CachedManifest> {
        let mut generations = lock(&self.generations);
        if let Some(manifest) = generations.young.get(digest) {
            return Some(manifest.clone());
        }
        let manifest = generations.old.remove(digest)?;
        generations.insert(digest, &manifest);
        Some(manifest)
    }

    pub(crate) fn remove(&self, digest: &Digest) {
        let mut generations = lock(&self.generations);
        let removed = generations.young.remove(digest);
        generations.young_bytes -= removed.map_or(0, |manifest| manifest.bytes.len());
        generations.old.remove(digest);
    }

    /// Caches a manifest, which the caller has verified.
    pub(crate) fn insert(&self, digest: &Digest, manifest: &CachedManifest) {
        if manifest.bytes.len() <= ENTRY_BYTES_MAX {
            let mut generations = lock(&self.generations);
            generations.insert(digest, manifest);
        }
    }
}

impl Generations {
    fn insert(&mut self, digest: &Digest, manifest: &CachedManifest) {
        let length = manifest.bytes.len();
        if self.young_bytes + length > GENERATION_BYTES_MAX {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
        if self.young.insert(digest.clone(), manifest.clone()).is_none() {
            self.young_bytes += length;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use landfall_oci::digest::digest_of;

    fn mk_manifest(number: u32) -> (Digest, CachedManifest) {
        let mut bytes = vec![b' '; ENTRY_BYTES_MAX];
        bytes[..4].copy_from_slice(&number.to_le_bytes());
        (digest_of(&bytes), CachedManifest::new(bytes.into()))
    }

    #[test]
    fn what_is_asked_for_stays_and_the_rest_goes() {
        let cache = ManifestCache::default();
        let (wanted, bytes) = mk_manifest(0);
        cache.insert(&wanted, &bytes);
        let others: Vec<_> = (1..40).map(mk_manifest).collect();
        for (digest, bytes) in &others {
            cache.insert(digest, bytes);
            assert_eq!(cache.get(&wanted).as_ref(), Some(&bytes_of(&wanted, 0)));
        }
        assert_eq!(cache.get(&others[0].0), None);
        let generations = cache.generations.lock().unwrap();
        let kept: usize = [&generations.young, &generations.old]
            .iter()
            .flat_map(|generation| generation.values())
            .map(|manifest| manifest.bytes.len())
            .sum();
        assert!(kept <= 2 * GENERATION_BYTES_MAX, "{kept}");
    }

    fn bytes_of(digest: &Digest, number: u32) -> CachedManifest {
        let (same, bytes) = mk_manifest(number);
        assert_eq!(same, *digest);
        bytes
    }

    #[test]
    fn one_that_is_large_is_not_kept() {
        let cache = ManifestCache::default();
        let bytes = Bytes::from(vec![b' '; ENTRY_BYTES_MAX + 1]);
        let digest = digest_of(&bytes);
        cache.insert(&digest, &CachedManifest::new(bytes));
        assert_eq!(cache.get(&digest), None);
    }
}
