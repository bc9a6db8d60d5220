//! Locks of the writers of partial blobs.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};

use landfall_core::reference::Digest;
use landfall_core::sync::lock;

/// The blobs whose partial file has a writer, and a counter for the names of private files.
#[derive(Debug, Default)]
pub(super) struct WriterLocks {
    locked: Mutex<HashSet<Digest>>,
    counter: AtomicU64,
}

impl WriterLocks {
    fn lock(&self) -> MutexGuard<'_, HashSet<Digest>> {
        lock(&self.locked)
    }

    pub(super) fn is_locked(&self, digest: &Digest) -> bool {
        self.lock().contains(digest)
    }

    pub(super) fn try_lock(&self, digest: &Digest) -> bool {
        self.lock().insert(digest.clone())
    }

    pub(super) fn unlock(&self, digest: &Digest) {
        self.lock().remove(digest);
    }

    pub(super) fn next_number(&self) -> u64 {
        self.counter.fetch_add(1, Ordering::Relaxed)
    }
}
