//! Random additions to waits, so that many hosts with one cause do not act at one moment. The caller draws the number.

use std::time::Duration;

/// The largest addition is the wait divided by this number.
const SHARE: u32 = 5;

/// Returns a wait with up to a fifth of it added. The caller draws `jitter`, from 0 to 1. The result is never shorter
/// than the wait ([spec:agent.retry]).
#[must_use]
pub fn with_jitter(wait: Duration, jitter: f64) -> Duration {
    let share = wait / SHARE;
    // A float rounds: the product may be a little larger than the share.
    wait.saturating_add(share.mul_f64(unit(jitter)).min(share))
}

/// Returns a number from 0 to 1: NaN passes through `clamp`, and a Duration panics on it.
pub(super) fn unit(jitter: f64) -> f64 {
    if jitter.is_nan() { 0.0 } else { jitter.clamp(0.0, 1.0) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_wait_is_never_shortened_and_grows_by_a_fifth_at_most(seconds in any::<u64>(), jitter in prop_oneof![any::<f64>(), 0.0..1.0, Just(f64::NAN)]) {
            let wait = Duration::from_secs(seconds);
            let spread = with_jitter(wait, jitter);
            prop_assert!(spread >= wait);
            prop_assert!(spread <= wait.saturating_add(wait / SHARE));
        }

        #[test]
        fn two_hosts_that_draw_different_numbers_wait_differently(seconds in 1..1_000_000_u64, one in 0.0..0.5, more in 0.01..0.5) {
            let wait = Duration::from_secs(seconds);
            prop_assert!(with_jitter(wait, one) < with_jitter(wait, one + more));
        }
    }
}
