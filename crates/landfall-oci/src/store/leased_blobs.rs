//! Blobs with a lease. Garbage collection must not delete a blob that a transfer found or wrote for an image without a
//! name yet.
//!
//! Safety depends on the order. A collection first starts to remember all leased blobs, then reads the roots, and then
//! deletes each blob under the lock if it had no lease since the start. A transfer takes the lease before it looks for
//! the blob. So a transfer that found a blob has a lease on it. A transfer that named an image after the roots were
//! read had leases on its blobs.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard};

use landfall_core::reference::Digest;
use landfall_core::sync::lock;

#[derive(Debug, Default)]
pub(super) struct LeasedBlobs {
    state: Mutex<LeaseState>,
}

#[derive(Debug, Default)]
struct LeaseState {
    counts: HashMap<Digest, usize>,
    /// Blobs that had a lease at any time since the running collection started; `None` without a collection.
    remembered: Option<HashSet<Digest>>,
}

impl LeasedBlobs {
    fn lock(&self) -> MutexGuard<'_, LeaseState> {
        lock(&self.state)
    }

    pub(super) fn add(&self, digest: &Digest) {
        let mut state = self.lock();
        *state.counts.entry(digest.clone()).or_insert(0) += 1;
        if let Some(remembered) = &mut state.remembered {
            remembered.insert(digest.clone());
        }
    }

    pub(super) fn release(&self, digest: &Digest) {
        let mut state = self.lock();
        if let Some(count) = state.counts.get_mut(digest) {
            *count -= 1;
            if *count == 0 {
                state.counts.remove(digest);
            }
        }
    }

    /// Starts to remember leased blobs. Returns false if a collection is running already.
    pub(super) fn begin_collection(&self) -> bool {
        let mut state = self.lock();
        if state.remembered.is_some() {
            return false;
        }
        state.remembered = Some(state.counts.keys().cloned().collect());
        true
    }

    pub(super) fn end_collection(&self) {
        self.lock().remembered = None;
    }

    /// Deletes a blob by `delete` unless it is leased. New leases wait for `delete`.
    pub(super) fn delete_unleased<T>(&self, digest: &Digest, delete: impl FnOnce() -> T) -> Option<T> {
        let state = self.lock();
        let leased = state
            .remembered
            .as_ref()
            .is_some_and(|remembered| remembered.contains(digest));
        (!leased).then(delete)
    }
}
