//! How many blobs are under way at once. A large one takes bandwidth, and buffers at both ends; a small one takes next to
//! nothing but the wait for answers, in which others can go on.

use std::sync::Arc;

use tokio::sync::{Semaphore, SemaphorePermit};

/// A blob of so many bytes is small: as much fits into one answer of a registry, and into one buffer of ours.
const SMALL_BLOB_MAX: u64 = 128 * 1024;
/// So many small blobs go where one large one would. Measured with 1200 blobs of 1 to 64 KiB: 32 at once cost both
/// registries and us a quarter less processor time than 8 did, and 48 cost what 32 do.
const SMALL_PER_LARGE: u32 = 4;

/// Turns for blobs, whatever images they belong to. Clones share them.
#[derive(Debug, Clone)]
pub struct InFlightLimit {
    permits: Arc<Semaphore>,
    permits_per_large_blob: u32,
}

impl InFlightLimit {
    /// So many large blobs at once (at least one), and several small ones in the place of each; but where one is asked
    /// for, all go one by one.
    #[must_use]
    pub fn new(concurrency: usize) -> InFlightLimit {
        let permits_per_large_blob = if concurrency > 1 { SMALL_PER_LARGE } else { 1 };
        let permits = concurrency.max(1).saturating_mul(permits_per_large_blob as usize);
        InFlightLimit {
            permits: Arc::new(Semaphore::new(permits.min(Semaphore::MAX_PERMITS))),
            permits_per_large_blob,
        }
    }

    /// Waits for the turn of a blob of so many bytes, which lasts until the answer is dropped.
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
