//! The manifests that were asked for lately, in memory: most pulls want the same few.

use std::collections::HashMap;
use std::sync::Mutex;

use bytes::Bytes;
use landfall_core::reference::Digest;
use landfall_core::sync::lock;

/// How much of them is kept, in bytes; twice as much for a moment.
const KEPT_MAX: usize = 2 * 1024 * 1024;
/// Larger ones are read from the disk each time.
const SIZE_MAX: usize = 256 * 1024;

/// A cache of two generations: when the young one is full it becomes the old one, and what nobody wanted meanwhile goes.
#[derive(Debug, Default)]
pub(crate) struct HotManifests {
    generations: Mutex<Generations>,
}

#[derive(Debug, Default)]
struct Generations {
    young: HashMap<Digest, Bytes>,
    young_bytes: usize,
    old: HashMap<Digest, Bytes>,
}

impl HotManifests {
    /// The bytes of a manifest, when they are here.
    pub(crate) fn get(&self, digest: &Digest) -> Option<Bytes> {
        let mut generations = lock(&self.generations);
        if let Some(bytes) = generations.young.get(digest) {
            return Some(bytes.clone());
        }
        let bytes = generations.old.remove(digest)?;
        generations.keep(digest, &bytes);
        Some(bytes)
    }

    /// Keeps the bytes of a manifest, which were verified.
    pub(crate) fn keep(&self, digest: &Digest, bytes: &Bytes) {
        if bytes.len() <= SIZE_MAX {
            let mut generations = lock(&self.generations);
            generations.keep(digest, bytes);
        }
    }
}

impl Generations {
    fn keep(&mut self, digest: &Digest, bytes: &Bytes) {
        if self.young_bytes + bytes.len() > KEPT_MAX {
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
        let mut bytes = vec![b' '; SIZE_MAX];
        bytes[..4].copy_from_slice(&number.to_le_bytes());
        (digest_of(&bytes), bytes.into())
    }

    #[test]
    fn what_is_asked_for_stays_and_the_rest_goes() {
        let hot = HotManifests::default();
        let (wanted, bytes) = mk_manifest(0);
        hot.keep(&wanted, &bytes);
        let others: Vec<_> = (1..40).map(mk_manifest).collect();
        for (digest, bytes) in &others {
            hot.keep(digest, bytes);
            assert_eq!(hot.get(&wanted).as_ref(), Some(&bytes_of(&wanted, 0)));
        }
        assert_eq!(hot.get(&others[0].0), None);
        let generations = hot.generations.lock().unwrap();
        let kept: usize = [&generations.young, &generations.old]
            .iter()
            .flat_map(|generation| generation.values())
            .map(Bytes::len)
            .sum();
        assert!(kept <= 2 * KEPT_MAX, "{kept}");
    }

    fn bytes_of(digest: &Digest, number: u32) -> Bytes {
        let (same, bytes) = mk_manifest(number);
        assert_eq!(same, *digest);
        bytes
    }

    #[test]
    fn one_that_is_large_is_not_kept() {
        let hot = HotManifests::default();
        let bytes = Bytes::from(vec![b' '; SIZE_MAX + 1]);
        let digest = digest_of(&bytes);
        hot.keep(&digest, &bytes);
        assert_eq!(hot.get(&digest), None);
    }
}
