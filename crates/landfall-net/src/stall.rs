//! When a transfer has stalled: not when it is slow, and not while somebody else is to blame, but when next to nothing came
//! of so much waiting. A byte now and then must not keep a dead transfer alive for ever.

use std::time::Duration;

/// The waiting of one transfer for one side, and what came of it. Only time in which that side had to move counts.
#[derive(Debug, Clone, Copy)]
pub struct StallTimer {
    limit: Duration,
    bytes_min: u64,
    waited: Duration,
    moved: u64,
}

impl StallTimer {
    /// Fewer than `bytes_min` bytes within `limit` of waiting are a stall; of none at all, any limits make one.
    pub fn new(limit: Duration, bytes_min: u64) -> StallTimer {
        StallTimer {
            limit,
            bytes_min: bytes_min.max(1),
            waited: Duration::ZERO,
            moved: 0,
        }
    }

    /// How much longer may be waited.
    pub fn remaining(&self) -> Duration {
        self.limit.saturating_sub(self.waited)
    }

    /// So long was waited.
    pub fn add_wait(&mut self, time: Duration) {
        self.waited += time;
    }

    /// So many bytes moved after that.
    pub fn add_bytes(&mut self, bytes: usize) {
        self.moved += bytes as u64;
        if self.moved >= self.bytes_min {
            self.waited = Duration::ZERO;
            self.moved = 0;
        }
    }
}
