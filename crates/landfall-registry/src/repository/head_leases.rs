//! Blobs that a client was told of. One that pushes an image asks what is here, sends the rest, and then the manifest:
//! nothing that it was told of may be collected before that.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::Duration;

use landfall_core::reference::Digest;
use landfall_core::sync::lock;
use landfall_oci::store::ContentStore;
use landfall_oci::store::lease::Lease;
use tokio::time::Instant;

/// How long a push may take from its question to its manifest.
const LEASE_DURATION: Duration = Duration::from_secs(15 * 60);
/// How many are remembered; the oldest go first.
const LEASES_MAX: usize = 8192;

#[derive(Debug, Default)]
pub(crate) struct HeadLeases {
    leases: Mutex<VecDeque<HeadLease>>,
}

#[derive(Debug)]
struct HeadLease {
    expires_at: Instant,
    _lease: Lease,
}

impl HeadLeases {
    /// Keeps a blob from collection for as long as a push takes. Comes before the look whether it is here.
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

    /// Forgets those that are over.
    pub(crate) fn expire(&self) {
        let now = Instant::now();
        let mut leases = lock(&self.leases);
        while leases.front().is_some_and(|oldest| oldest.expires_at <= now) {
            leases.pop_front();
        }
    }
}
