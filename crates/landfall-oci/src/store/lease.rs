//! Leases: protection of a transfer's blobs from garbage collection, as in containerd.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use landfall_core::reference::Digest;
use landfall_core::sync::lock;

use crate::store::ContentStore;

impl ContentStore {
    /// Returns an empty lease. It protects blobs from [`ContentStore::gc`] until it is dropped: for transfers whose
    /// image has no name yet.
    #[must_use]
    pub fn lease(&self) -> BlobLease {
        BlobLease::new(self.clone())
    }
}

/// Protection of blobs from garbage collection, until it is dropped.
#[derive(Debug)]
pub struct BlobLease {
    store: ContentStore,
    leased: Mutex<HashSet<Digest>>,
}

impl BlobLease {
    fn new(store: ContentStore) -> BlobLease {
        BlobLease {
            store,
            leased: Mutex::new(HashSet::new()),
        }
    }

    /// Adds a blob to the lease, present or not.
    pub fn add(&self, digest: &Digest) {
        let mut leased = lock(&self.leased);
        if leased.insert(digest.clone()) {
            self.store.inner.leased_blobs.add(digest);
        }
    }
}

impl Drop for BlobLease {
    fn drop(&mut self) {
        let leased = self.leased.get_mut().unwrap_or_else(PoisonError::into_inner);
        for digest in leased.iter() {
            self.store.inner.leased_blobs.release(digest);
        }
    }
}
