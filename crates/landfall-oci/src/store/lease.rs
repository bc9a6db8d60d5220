//! Blobs that a transfer keeps from garbage collection.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use landfall_core::reference::Digest;
use landfall_core::sync::lock;

use crate::store::ContentStore;

impl ContentStore {
    /// Keeps blobs from [`ContentStore::gc`] as long as the value lives: for transfers whose image has no name yet.
    #[must_use]
    pub fn lease(&self) -> Lease {
        Lease::new(self.clone())
    }
}

/// Keeps blobs from garbage collection until it is dropped.
#[derive(Debug)]
pub struct Lease {
    store: ContentStore,
    leased: Mutex<HashSet<Digest>>,
}

impl Lease {
    fn new(store: ContentStore) -> Lease {
        Lease {
            store,
            leased: Mutex::new(HashSet::new()),
        }
    }

    /// Keeps this blob, whether it is here already or not.
    pub fn add(&self, digest: &Digest) {
        let mut leased = lock(&self.leased);
        if leased.insert(digest.clone()) {
            self.store.inner.leased_blobs.add(digest);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let leased = self.leased.get_mut().unwrap_or_else(PoisonError::into_inner);
        for digest in leased.iter() {
            self.store.inner.leased_blobs.release(digest);
        }
    }
}
