//! Blobs that a client was told of. One that pushes an image asks what is here, sends the rest, and then the manifest:
//! nothing that it was told of may be collected before that.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use landfall_core::reference::Digest;
use landfall_oci::store::ContentStore;
use landfall_oci::store::hold::Hold;
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
    _hold: Hold,
}

impl HeadLeases {
    /// Keeps a blob from collection for as long as a push takes. Comes before the look whether it is here.
    pub(crate) fn grant(&self, store: &ContentStore, digest: &Digest) {
        let hold = store.hold();
        hold.keep(digest);
        let now = Instant::now();
        // Insertions and removals are single steps: a panic cannot leave half of one.
        let mut leases = self.leases.lock().unwrap_or_else(PoisonError::into_inner);
        while leases.len() >= LEASES_MAX || leases.front().is_some_and(|oldest| oldest.expires_at <= now) {
            leases.pop_front();
        }
        leases.push_back(HeadLease {
            expires_at: now + LEASE_DURATION,
            _hold: hold,
        });
    }

    /// Forgets those that are over.
    pub(crate) fn expire(&self) {
        let now = Instant::now();
        let mut leases = self.leases.lock().unwrap_or_else(PoisonError::into_inner);
        while leases.front().is_some_and(|oldest| oldest.expires_at <= now) {
            leases.pop_front();
        }
    }
}
