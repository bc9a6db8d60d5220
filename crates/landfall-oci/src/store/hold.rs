//! Blobs that a transfer keeps from garbage collection.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use landfall_core::reference::Digest;
use landfall_core::sync::lock;

use crate::store::ContentStore;

impl ContentStore {
    /// Keeps blobs from [`ContentStore::gc`] as long as the value lives: for transfers whose image has no name yet.
    #[must_use]
    pub fn hold(&self) -> Hold {
        Hold::new(self.clone())
    }
}

/// Keeps blobs from garbage collection until it is dropped.
#[derive(Debug)]
pub struct Hold {
    store: ContentStore,
    held: Mutex<HashSet<Digest>>,
}

impl Hold {
    fn new(store: ContentStore) -> Hold {
        Hold {
            store,
            held: Mutex::new(HashSet::new()),
        }
    }

    /// Keeps this blob, whether it is here already or not.
    pub fn keep(&self, digest: &Digest) {
        let mut held = lock(&self.held);
        if held.insert(digest.clone()) {
            self.store.inner.pins.add(digest);
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let held = self.held.get_mut().unwrap_or_else(PoisonError::into_inner);
        for digest in held.iter() {
            self.store.inner.pins.release(digest);
        }
    }
}
