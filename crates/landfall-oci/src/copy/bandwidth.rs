//! A limit of bytes a second that all transfers share.

use std::num::NonZeroU64;
use std::sync::Mutex;
use std::time::Duration;

use landfall_core::sync::lock;
use tokio::time::{Instant, sleep_until};

/// How much may pass at once after a pause.
const BURST: Duration = Duration::from_millis(100);

/// So many bytes a second, for everybody who holds it, first come, first served.
#[derive(Debug)]
pub struct BandwidthLimit {
    bytes_per_second: NonZeroU64,
    /// When the bytes that were let through so far have had their time.
    paid_until: Mutex<Instant>,
}

impl BandwidthLimit {
    /// A limit in bytes a second.
    #[must_use]
    pub fn new(bytes_per_second: NonZeroU64) -> BandwidthLimit {
        BandwidthLimit {
            bytes_per_second,
            paid_until: Mutex::new(Instant::now()),
        }
    }

    /// Waits until so many bytes may pass. They have arrived by then: the wait keeps the next ones from coming too soon.
    pub async fn pass(&self, bytes: usize) {
        let rate = self.bytes_per_second.get();
        let cost =
            Duration::from_nanos(u64::try_from(bytes as u128 * 1_000_000_000 / u128::from(rate)).unwrap_or(u64::MAX));
        let paid_until = {
            let mut paid_until = lock(&self.paid_until);
            *paid_until = (*paid_until).max(Instant::now()) + cost;
            *paid_until
        };
        if let Some(due) = paid_until.checked_sub(BURST) {
            sleep_until(due).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn bytes_take_their_time_however_many_ask() {
        let limit = BandwidthLimit::new(NonZeroU64::new(1000).unwrap());
        let begin = Instant::now();
        let one = async {
            for _ in 0..10 {
                limit.pass(100).await;
            }
        };
        let other = async {
            for _ in 0..20 {
                limit.pass(100).await;
            }
        };
        tokio::join!(one, other);
        let taken = begin.elapsed();
        assert!(
            taken >= Duration::from_millis(2_900) && taken <= Duration::from_millis(3_000),
            "{taken:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_saves_nothing_up() {
        let limit = BandwidthLimit::new(NonZeroU64::new(1000).unwrap());
        tokio::time::advance(Duration::from_secs(60)).await;
        let begin = Instant::now();
        limit.pass(1000).await;
        assert_eq!(begin.elapsed().as_millis(), 900);
    }
}
