//! Protects blobs reported by HEAD from garbage collection for 15 minutes: a client that pushes an image asks for its
//! blobs, uploads the missing ones, and relies on the answers until it pushes the manifest.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use landfall_core::reference::Digest;
use landfall_oci::store::ContentStore;
use landfall_oci::store::hold::Hold;
use tokio::time::Instant;

/// Time that a push may take from the HEAD request to its manifest.
const LEASE_DURATION: Duration = Duration::from_secs(15 * 60);
/// Leases at most. The oldest are dropped first.
const LEASES_MAX: usize = 8192;

#[derive(Debug, Default)]
pub(crate) struct HeadLeases {
    leases: Mutex<VecDeque<HeadLease>>,
}

#[derive(Debug)]
struct HeadLease {
    expires_at: Instant,
    _hold: Hold,
}

impl HeadLeases {
    /// Leases a blob. The caller checks afterwards that the blob exists, so that no collection comes in between.
    pub(crate) fn grant(&self, store: &ContentStore, digest: &Digest) {
        let hold = store.hold();
        hold.keep(digest);
        let now = Instant::now();
        // Each insertion and removal is a single step, so a panic cannot leave a partial one.
        let mut leases = self.leases.lock().unwrap_or_else(PoisonError::into_inner);
        while leases.len() >= LEASES_MAX || leases.front().is_some_and(|oldest| oldest.expires_at <= now) {
            leases.pop_front();
        }
        leases.push_back(HeadLease {
            expires_at: now + LEASE_DURATION,
            _hold: hold,
        });
    }

    /// Drops expired leases.
    pub(crate) fn expire(&self) {
        let now = Instant::now();
        let mut leases = self.leases.lock().unwrap_or_else(PoisonError::into_inner);
        while leases.front().is_some_and(|oldest| oldest.expires_at <= now) {
            leases.pop_front();
        }
    }
}
