//! Stall detection for transfers. A slow transfer is not stalled, nor is one that waits for its other side. It has
//! stalled when it waited for a side and too few bytes came of it. A single byte now and then does not keep a dead
//! transfer alive.

use std::time::Duration;

/// Waiting time of a transfer for one of its sides, and the bytes that moved. Only time in which that side had to move
/// bytes counts.
#[derive(Debug, Clone, Copy)]
pub struct StallTimer {
    limit: Duration,
    bytes_min: u64,
    waited: Duration,
    moved: u64,
}

impl StallTimer {
    /// Stalled after `limit` of waiting with fewer than `bytes_min` bytes (at least 1).
    pub fn new(limit: Duration, bytes_min: u64) -> StallTimer {
        StallTimer {
            limit,
            bytes_min: bytes_min.max(1),
            waited: Duration::ZERO,
            moved: 0,
        }
    }

    /// Returns the waiting time that is left before the transfer has stalled.
    pub fn remaining(&self) -> Duration {
        self.limit.saturating_sub(self.waited)
    }

    /// Returns the waiting time since enough bytes moved.
    pub fn waited(&self) -> Duration {
        self.waited
    }

    /// Adds time that the transfer waited for the side.
    pub fn add_wait(&mut self, time: Duration) {
        self.waited += time;
    }

    /// Adds bytes that moved after the waiting time. Once they reach the minimum, the waiting time starts at zero.
    pub fn add_bytes(&mut self, bytes: usize) {
        self.moved += bytes as u64;
        if self.moved >= self.bytes_min {
            self.waited = Duration::ZERO;
            self.moved = 0;
        }
    }
}
