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
const KEPT_FOR: Duration = Duration::from_secs(15 * 60);
/// How many are remembered; the oldest go first.
const KEPT_MAX: usize = 8192;

#[derive(Debug, Default)]
pub(crate) struct Promises {
    given: Mutex<VecDeque<Promise>>,
}

#[derive(Debug)]
struct Promise {
    until: Instant,
    _lease: Lease,
}

impl Promises {
    /// Keeps a blob from collection for as long as a push takes. Comes before the look whether it is here.
    pub(crate) fn give(&self, store: &ContentStore, digest: &Digest) {
        let lease = store.lease();
        lease.add(digest);
        let now = Instant::now();
        let mut given = lock(&self.given);
        while given.len() >= KEPT_MAX || given.front().is_some_and(|oldest| oldest.until <= now) {
            given.pop_front();
        }
        given.push_back(Promise {
            until: now + KEPT_FOR,
            _lease: lease,
        });
    }

    /// Forgets those that are over.
    pub(crate) fn expire(&self) {
        let now = Instant::now();
        let mut given = lock(&self.given);
        while given.front().is_some_and(|oldest| oldest.until <= now) {
            given.pop_front();
        }
    }
}
