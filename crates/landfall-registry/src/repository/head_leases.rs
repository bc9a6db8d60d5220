//! Protects blobs reported by HEAD from garbage collection for 15 minutes: a client that pushes an image asks for its
//! blobs, uploads the missing ones, and relies on the answers until it pushes the manifest.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::Duration;

use landfall_core::reference::Digest;
use landfall_core::sync::lock;
use landfall_oci::store::ContentStore;
use landfall_oci::store::lease::BlobLease;
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
    _lease: BlobLease,
}

impl HeadLeases {
    /// Leases a blob. The caller checks afterwards that the blob exists, so that no collection comes in between.
    pub(crate) fn grant(&self, store: &ContentStore, digest: &Digest) {
        let lease = store.lease();
        lease.add(digest);
        let now = Instant::now();
        let mut leases = lock(&self.leases);
        while leases.len() >= LEASES_MAX || leases.front().is_some_and(|oldest| oldest.expires_at <= now) {
            leases.pop_front();
        }
        leases.push_back(HeadLease {
            expires_at: now + LEASE_DURATION,
            _lease: lease,
        });
    }

    /// Drops expired leases.
    pub(crate) fn expire(&self) {
        let now = Instant::now();
        let mut leases = lock(&self.leases);
        while leases.front().is_some_and(|oldest| oldest.expires_at <= now) {
            leases.pop_front();
        }
    }
}
