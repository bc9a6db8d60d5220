//! Writers of partial blobs.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};

use landfall_core::reference::Digest;
use landfall_core::sync::lock;

/// Which partial files have a writer, and the numbers that private files are told apart by.
#[derive(Debug, Default)]
pub(super) struct Claims {
    claimed: Mutex<HashSet<Digest>>,
    counter: AtomicU64,
}

impl Claims {
    fn lock(&self) -> MutexGuard<'_, HashSet<Digest>> {
        lock(&self.claimed)
    }

    pub(super) fn is_claimed(&self, digest: &Digest) -> bool {
        self.lock().contains(digest)
    }

    pub(super) fn claim(&self, digest: &Digest) -> bool {
        self.lock().insert(digest.clone())
    }

    pub(super) fn release(&self, digest: &Digest) {
        self.lock().remove(digest);
    }

    pub(super) fn next_number(&self) -> u64 {
        self.counter.fetch_add(1, Ordering::Relaxed)
    }
}
