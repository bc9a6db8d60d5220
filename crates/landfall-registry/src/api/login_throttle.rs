//! Throttle for wrong logins per network address, against password guessing.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Mutex;
use std::time::Duration;

use landfall_core::sync::lock;
use tokio::time::Instant;

/// Different wrong logins that an address may try within [`WINDOW`].
const FAILURES_MAX: u32 = 20;
const WINDOW: Duration = Duration::from_secs(60);
/// Addresses that are tracked at most. At the limit all counts start at zero.
const ADDRESSES_MAX: usize = 4096;

#[derive(Debug, Default)]
pub(crate) struct LoginThrottle {
    failures: Mutex<HashMap<IpAddr, LoginFailures>>,
}

#[derive(Debug, Clone, Copy)]
struct LoginFailures {
    since: Instant,
    count: u32,
}

impl LoginThrottle {
    /// Returns the time after which an address may try its next login.
    pub(crate) fn retry_after(&self, peer: IpAddr, now: Instant) -> Option<Duration> {
        let failures = lock(&self.failures);
        let LoginFailures { since, count } = *failures.get(&network(peer))?;
        let left = WINDOW.checked_sub(now.saturating_duration_since(since))?;
        (count >= FAILURES_MAX).then_some(left)
    }

    /// Counts a wrong login.
    pub(crate) fn record_failure(&self, peer: IpAddr, now: Instant) {
        let mut failures = lock(&self.failures);
        if failures.len() >= ADDRESSES_MAX {
            failures.clear();
        }
        let entry = failures
            .entry(network(peer))
            .or_insert(LoginFailures { since: now, count: 0 });
        if now.saturating_duration_since(entry.since) >= WINDOW {
            *entry = LoginFailures { since: now, count: 0 };
        }
        entry.count += 1;
    }
}

/// Returns the network that is throttled. A host with IPv6 owns at least a /64.
fn network(peer: IpAddr) -> IpAddr {
    match peer {
        IpAddr::V4(_) => peer,
        IpAddr::V6(address) => match address.to_ipv4_mapped() {
            Some(address) => address.into(),
            None => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn whoever_tries_many_logins_waits_and_others_do_not() {
        let throttle = LoginThrottle::default();
        let now = Instant::now();
        let guesser: IpAddr = "2001:db8::1".parse().unwrap();
        for _ in 0..FAILURES_MAX {
            assert_eq!(throttle.retry_after(guesser, now), None);
            throttle.record_failure(guesser, now);
        }
        let later = now + Duration::from_secs(20);
        let neighbour: IpAddr = "2001:db8::2".parse().unwrap();
        assert_eq!(throttle.retry_after(neighbour, later), Some(Duration::from_secs(40)));
        assert_eq!(throttle.retry_after("10.0.0.1".parse().unwrap(), later), None);
        assert_eq!(
            throttle.retry_after(guesser, now + WINDOW + Duration::from_secs(1)),
            None
        );
        throttle.record_failure(guesser, now + WINDOW);
        assert_eq!(throttle.retry_after(guesser, now + WINDOW), None, "counted anew");
    }
}
