//! Limit of the blobs in flight. A large blob takes bandwidth, and buffers at both ends. A small one mostly waits for
//! responses, and others can use that time.

use std::sync::Arc;

use tokio::sync::{Semaphore, SemaphorePermit};

/// Largest size of a small blob in bytes: it fits into one response of a registry, and into one of our buffers.
const SMALL_BLOB_MAX: u64 = 128 * 1024;
/// Small blobs in place of one large one. Measured with 1200 blobs of 1 to 64 KiB: 32 at once cost both registries and
/// us a quarter less processor time than 8, and 48 cost the same as 32.
const SMALL_PER_LARGE: u32 = 4;

/// Permits for the blobs of all images. Clones share them.
#[derive(Debug, Clone)]
pub struct InFlightLimit {
    permits: Arc<Semaphore>,
    permits_per_large_blob: u32,
}

impl InFlightLimit {
    /// Returns a limit of `concurrency` large blobs (at least one), or several small ones in place of each. With a
    /// concurrency of 1, all blobs go one by one.
    #[must_use]
    pub fn new(concurrency: usize) -> InFlightLimit {
        let permits_per_large_blob = if concurrency > 1 { SMALL_PER_LARGE } else { 1 };
        let permits = concurrency.max(1).saturating_mul(permits_per_large_blob as usize);
        InFlightLimit {
            permits: Arc::new(Semaphore::new(permits.min(Semaphore::MAX_PERMITS))),
            permits_per_large_blob,
        }
    }

    /// Waits for the permit of a blob of `size` bytes. Dropping the permit ends it.
    pub(super) async fn acquire(&self, size: u64) -> SemaphorePermit<'_> {
        let permits = if size <= SMALL_BLOB_MAX {
            1
        } else {
            self.permits_per_large_blob
        };
        let permit = self.permits.acquire_many(permits).await;
        permit.expect("nobody closes this semaphore, which nobody else has")
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn count(limit: &InFlightLimit, size: u64) -> usize {
        let taken: Vec<_> = std::iter::from_fn(|| limit.acquire(size).now_or_never()).collect();
        taken.len()
    }

    #[test]
    fn several_small_blobs_go_in_the_place_of_a_large_one_but_for_who_wants_them_one_by_one() {
        for (concurrency, large, small) in [(0, 1, 1), (1, 1, 1), (2, 2, 8), (8, 8, 32)] {
            let limit = InFlightLimit::new(concurrency);
            assert_eq!(count(&limit, SMALL_BLOB_MAX + 1), large, "{concurrency}");
            assert_eq!(count(&limit, SMALL_BLOB_MAX), small, "{concurrency}");
        }
        let limit = InFlightLimit::new(2);
        let _small = limit.acquire(1).now_or_never().unwrap();
        assert_eq!(count(&limit, u64::MAX), 1);
    }
}
