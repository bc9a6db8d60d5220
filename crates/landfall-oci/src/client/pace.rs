//! When a transfer has stalled: not when it is slow, and not when it is paused by the other end of the copy, but when next
//! to nothing came of so much waiting. A byte now and then must not keep a dead transfer alive for ever.

use std::time::Duration;

use super::Timeouts;

/// The waiting of one transfer for one side, and what came of it. Only time in which that side had to move counts.
#[derive(Debug, Clone)]
pub(super) struct Pace {
    limit: Duration,
    /// Fewer bytes than these within the limit are a stall.
    enough: u64,
    waited: Duration,
    /// The bytes that passed in that time.
    passed: u64,
}

impl Pace {
    pub(super) fn new(timeouts: &Timeouts) -> Pace {
        let milliseconds = u64::try_from(timeouts.stall.as_millis()).unwrap_or(u64::MAX);
        Pace {
            limit: timeouts.stall,
            // At least one: a transfer of nothing at all has stalled under any limits.
            enough: (timeouts.slowest.saturating_mul(milliseconds) / 1000).max(1),
            waited: Duration::ZERO,
            passed: 0,
        }
    }

    /// How long may be waited now.
    pub(super) fn patience(&self) -> Duration {
        self.limit.saturating_sub(self.waited)
    }

    /// So many bytes passed after so long a wait.
    pub(super) fn passed(&mut self, bytes: usize, waited: Duration) {
        self.waited += waited;
        self.passed += bytes as u64;
        if self.passed >= self.enough {
            self.waited = Duration::ZERO;
            self.passed = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(slowest: u64) -> Pace {
        Pace::new(&Timeouts {
            stall: Duration::from_secs(10),
            slowest,
            ..Timeouts::default()
        })
    }

    #[test]
    fn a_trickle_below_the_limit_uses_the_patience_up() {
        let mut pace = pace(100);
        for second in 1..=10 {
            pace.passed(99, Duration::from_secs(1));
            assert_eq!(pace.patience(), Duration::from_secs(10 - second));
        }
    }

    #[test]
    fn a_slow_transfer_above_the_limit_goes_on_for_ever() {
        let mut pace = pace(100);
        for _ in 0..1000 {
            pace.passed(101, Duration::from_secs(1));
            assert!(!pace.patience().is_zero());
        }
    }

    #[test]
    fn without_a_limit_a_single_byte_is_enough_and_none_is_not() {
        let mut pace = pace(0);
        pace.passed(0, Duration::from_secs(9));
        assert_eq!(pace.patience(), Duration::from_secs(1));
        pace.passed(1, Duration::from_millis(500));
        assert_eq!(pace.patience(), Duration::from_secs(10));
    }
}
