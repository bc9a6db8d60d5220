//! Jitter of timers and waits [spec:agent.jitter]: after a common cause, such as a power cut, 10,000 hosts must not act
//! at the same moment. The caller draws the random number.

use std::time::Duration;

/// The share of a period by which [`spread`] moves it at most.
const SHARE: f64 = 0.1;
/// The share of a delay by which [`spread_widely`] moves it at most.
const WIDE_SHARE: f64 = 0.5;
/// The largest addition to a wait is the wait divided by this number.
const WAIT_SHARE: u32 = 5;

/// Returns a period moved by at most a tenth to either side. `random` is from 0 to 1.
#[must_use]
pub fn spread(period: Duration, random: f64) -> Duration {
    moved(period, SHARE, random)
}

/// Returns a delay moved by at most half of it to either side, for the delay after a failure that many hosts share.
/// `random` is from 0 to 1.
#[must_use]
pub fn spread_widely(delay: Duration, random: f64) -> Duration {
    moved(delay, WIDE_SHARE, random)
}

fn moved(period: Duration, share: f64, random: f64) -> Duration {
    // A period of years, such as one that stands for "never", is not moved beyond the range of the type.
    Duration::try_from_secs_f64(period.as_secs_f64() * (1.0 + share * (2.0 * unit(random) - 1.0))).unwrap_or(period)
}

/// Returns a part of `longest`, for a timer that must not fire early. `random` is from 0 to 1.
#[must_use]
pub fn offset(longest: Duration, random: f64) -> Duration {
    longest.mul_f64(unit(random))
}

/// Returns a wait with up to a fifth of it added, never shorter than the wait ([spec:agent.retry]). `random` is from 0
/// to 1.
#[must_use]
pub fn with_jitter(wait: Duration, random: f64) -> Duration {
    let share = wait / WAIT_SHARE;
    // A float rounds: the product may be a little larger than the share.
    wait.saturating_add(share.mul_f64(unit(random)).min(share))
}

/// Returns a number from 0 to 1 that is the same for the same bytes: for a spread that has to survive a restart.
#[must_use]
pub fn fraction_of(bytes: &[u8]) -> f64 {
    // FNV-1a with 32 bits; nothing depends on its strength. The last steps mix the low bits into the high ones.
    let hash = bytes.iter().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
    });
    let hash = (hash ^ (hash >> 16)).wrapping_mul(0x85eb_ca6b);
    let hash = (hash ^ (hash >> 13)).wrapping_mul(0xc2b2_ae35);
    f64::from(hash ^ (hash >> 16)) / f64::from(u32::MAX)
}

/// Returns a number from 0 to 1: NaN passes through `clamp`, and a Duration panics on it.
pub(crate) fn unit(random: f64) -> f64 {
    if random.is_nan() { 0.0 } else { random.clamp(0.0, 1.0) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn period_is_moved_by_a_tenth_at_most() {
        let period = Duration::from_secs(300);
        for (random, seconds) in [
            (0.0, 270),
            (0.5, 300),
            (1.0, 330),
            (-1.0, 270),
            (7.0, 330),
            (f64::NAN, 270),
        ] {
            assert_eq!(spread(period, random).as_secs(), seconds, "{random}");
        }
        assert_eq!(spread(Duration::MAX, 1.0), Duration::MAX);
        assert_eq!(spread(Duration::ZERO, 1.0), Duration::ZERO);
    }

    #[test]
    fn delay_after_a_failure_is_moved_by_half_at_most() {
        let delay = Duration::from_secs(40);
        for (random, seconds) in [(0.0, 20), (0.5, 40), (1.0, 60), (f64::NAN, 20)] {
            assert_eq!(spread_widely(delay, random).as_secs(), seconds, "{random}");
        }
        assert_eq!(spread_widely(Duration::MAX, 1.0), Duration::MAX);
    }

    #[test]
    fn offset_is_a_part_of_the_longest() {
        let longest = Duration::from_secs(120);
        for (random, seconds) in [(0.0, 0), (0.5, 60), (1.0, 120), (f64::NAN, 0)] {
            assert_eq!(offset(longest, random).as_secs(), seconds, "{random}");
        }
    }

    #[test]
    fn names_of_many_hosts_are_spread_over_the_whole_range() {
        let mut tenths = [0; 10];
        for host in 0..10_000 {
            let fraction = fraction_of(format!("store-{host:05}").as_bytes());
            let tenth = (0..9_u32)
                .find(|tenth| fraction * 10.0 < f64::from(*tenth) + 1.0)
                .unwrap_or(9);
            tenths[usize::try_from(tenth).unwrap()] += 1;
        }
        for (tenth, hosts) in tenths.into_iter().enumerate() {
            assert!((850..1150).contains(&hosts), "{hosts} hosts in tenth {tenth}");
        }
        assert_eq!(fraction_of(b"a").to_bits(), fraction_of(b"a").to_bits());
    }

    proptest! {
        #[test]
        fn any_number_gives_a_duration(seconds in any::<u64>(), random in any::<f64>()) {
            let period = Duration::from_secs(seconds);
            let moved = spread(period, random);
            prop_assert!(moved >= period.mul_f64(0.89) && moved.as_secs_f64() <= period.as_secs_f64() * 1.11);
            prop_assert!(offset(Duration::from_secs(120), random) <= Duration::from_secs(120));
        }

        #[test]
        fn a_wait_is_never_shortened_and_grows_by_a_fifth_at_most(seconds in any::<u64>(), jitter in prop_oneof![any::<f64>(), 0.0..1.0, Just(f64::NAN)]) {
            let wait = Duration::from_secs(seconds);
            let spread = with_jitter(wait, jitter);
            prop_assert!(spread >= wait);
            prop_assert!(spread <= wait.saturating_add(wait / WAIT_SHARE));
        }

        #[test]
        fn two_hosts_that_draw_different_numbers_wait_differently(seconds in 1..1_000_000_u64, one in 0.0..0.5, more in 0.01..0.5) {
            let wait = Duration::from_secs(seconds);
            prop_assert!(with_jitter(wait, one) < with_jitter(wait, one + more));
        }
    }
}
