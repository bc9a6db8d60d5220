//! Which blobs a transfer counts on. Garbage collection must not take a blob that was found or written for an image that
//! has no name yet.
//!
//! The order that makes it safe: a collection first begins to remember every pin, then reads the roots, then deletes each
//! blob under the lock, if no pin was ever on it meanwhile. A pin is taken before the blob is looked for. So whoever
//! found a blob has a pin on it, and whoever gave an image a name after the roots were read had pins on its blobs.

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
    /// While a collection runs: every blob that had a pin at any time since it began.
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

    /// Begins to remember. `false` when a collection runs already.
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

    /// Deletes a blob by `delete`, unless it is pinned. No pin can be taken meanwhile.
    pub(super) fn delete_unleased<T>(&self, digest: &Digest, delete: impl FnOnce() -> T) -> Option<T> {
        let state = self.lock();
        let leased = state
            .remembered
            .as_ref()
            .is_some_and(|remembered| remembered.contains(digest));
        (!leased).then(delete)
    }
}
