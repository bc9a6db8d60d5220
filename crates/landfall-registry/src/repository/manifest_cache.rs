//! Cache of recently pulled manifests in memory: most pulls ask for the same few.

use std::collections::HashMap;
use std::sync::Mutex;

use bytes::Bytes;
use landfall_core::reference::Digest;
use landfall_core::sync::lock;

/// Size of a generation, in bytes. The cache holds at most two generations.
const GENERATION_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Size limit of a cached manifest, in bytes. Larger ones are read from the disk each time.
const ENTRY_BYTES_MAX: usize = 256 * 1024;

/// A cache of two generations. When the young one is full, it becomes the old one, and the entries of the former old
/// one that were not used meanwhile are dropped.
#[derive(Debug, Default)]
pub(crate) struct ManifestCache {
    generations: Mutex<Generations>,
}

#[derive(Debug, Default)]
struct Generations {
    young: HashMap<Digest, Bytes>,
    young_bytes: usize,
    old: HashMap<Digest, Bytes>,
}

impl ManifestCache {
    /// Returns the bytes of a manifest, if they are cached.
    pub(crate) fn get(&self, digest: &Digest) -> Option<Bytes> {
        let mut generations = lock(&self.generations);
        if let Some(bytes) = generations.young.get(digest) {
            return Some(bytes.clone());
        }
        let bytes = generations.old.remove(digest)?;
        generations.insert(digest, &bytes);
        Some(bytes)
    }

    /// Caches the bytes of a manifest, which the caller has verified.
    pub(crate) fn insert(&self, digest: &Digest, bytes: &Bytes) {
        if bytes.len() <= ENTRY_BYTES_MAX {
            let mut generations = lock(&self.generations);
            generations.insert(digest, bytes);
        }
    }
}

impl Generations {
    fn insert(&mut self, digest: &Digest, bytes: &Bytes) {
        if self.young_bytes + bytes.len() > GENERATION_BYTES_MAX {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
        if self.young.insert(digest.clone(), bytes.clone()).is_none() {
            self.young_bytes += bytes.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use landfall_oci::digest::digest_of;

    fn mk_manifest(number: u32) -> (Digest, Bytes) {
        let mut bytes = vec![b' '; ENTRY_BYTES_MAX];
        bytes[..4].copy_from_slice(&number.to_le_bytes());
        (digest_of(&bytes), bytes.into())
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
            .map(Bytes::len)
            .sum();
        assert!(kept <= 2 * GENERATION_BYTES_MAX, "{kept}");
    }

    fn bytes_of(digest: &Digest, number: u32) -> Bytes {
        let (same, bytes) = mk_manifest(number);
        assert_eq!(same, *digest);
        bytes
    }

    #[test]
    fn one_that_is_large_is_not_kept() {
        let cache = ManifestCache::default();
        let bytes = Bytes::from(vec![b' '; ENTRY_BYTES_MAX + 1]);
        let digest = digest_of(&bytes);
        cache.insert(&digest, &bytes);
        assert_eq!(cache.get(&digest), None);
    }
}
