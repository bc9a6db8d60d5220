//! Throttle for wrong logins, against password guessing: for each user from a client's address, and for the address in
//! all.
//!
//! An attempt counts when it begins, so that a burst is no way around the limit. A right login gives its count back. A
//! user who has logged in from an address before is not locked out by others who guess from there.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Mutex;
use std::time::Duration;

use landfall_core::sync::lock;
use tokio::time::Instant;

use crate::serve::budget::ClientAddress;

/// Different wrong logins of one user that an address may try within [`WINDOW`].
const FAILURES_OF_USER_MAX: u32 = 20;
/// Different wrong logins of all users that an address may try within [`WINDOW`].
const FAILURES_OF_ADDRESS_MAX: u32 = 60;
const WINDOW: Duration = Duration::from_secs(60);
/// Counts that are kept at most, of each kind. Further addresses share one count.
const COUNTS_MAX: usize = 4096;
/// Users with an address that are remembered for their right login.
const FAMILIAR_MAX: usize = 1024;

/// Hash of a user's name.
pub type UserKey = u64;

#[derive(Debug, Default)]
pub struct LoginThrottle {
    attempts: Mutex<Attempts>,
}

#[derive(Debug, Default)]
struct Attempts {
    of_address: HashMap<Option<ClientAddress>, Window>,
    of_user: HashMap<Option<(ClientAddress, UserKey)>, Window>,
    /// Users who logged in from an address before, with the time.
    familiar: HashMap<(ClientAddress, UserKey), Instant>,
}

#[derive(Debug, Clone, Copy)]
struct Window {
    since: Instant,
    count: u32,
}

/// A login that is being checked. It counts as wrong unless [`LoginAttempt::succeed`] is called.
#[derive(Debug)]
pub struct LoginAttempt<'a> {
    throttle: &'a LoginThrottle,
    client: ClientAddress,
    user: UserKey,
}

impl LoginThrottle {
    /// Counts an attempt.
    ///
    /// # Errors
    /// Returns the time after which the client may try its next login.
    pub fn begin(&self, client: ClientAddress, user: UserKey, now: Instant) -> Result<LoginAttempt<'_>, Duration> {
        let Attempts {
            of_address,
            of_user,
            familiar,
        } = &mut *lock(&self.attempts);
        let own = window(of_user, (client, user), now);
        let all = window(of_address, client, now);
        let wait = |window: &Window| WINDOW.saturating_sub(now.saturating_duration_since(window.since));
        if own.count >= FAILURES_OF_USER_MAX {
            return Err(wait(own));
        }
        if all.count >= FAILURES_OF_ADDRESS_MAX && !familiar.contains_key(&(client, user)) {
            return Err(wait(all));
        }
        own.count += 1;
        all.count += 1;
        Ok(LoginAttempt {
            throttle: self,
            client,
            user,
        })
    }
}

impl LoginAttempt<'_> {
    /// Takes the attempt back: the login was right.
    pub fn succeed(self, now: Instant) {
        let LoginAttempt { throttle, client, user } = self;
        let Attempts {
            of_address,
            of_user,
            familiar,
        } = &mut *lock(&throttle.attempts);
        let own = window(of_user, (client, user), now);
        own.count = own.count.saturating_sub(1);
        let all = window(of_address, client, now);
        all.count = all.count.saturating_sub(1);
        if familiar.len() >= FAMILIAR_MAX
            && let Some(oldest) = familiar.iter().min_by_key(|(_, at)| **at).map(|(key, _)| *key)
        {
            familiar.remove(&oldest);
        }
        familiar.insert((client, user), now);
    }
}

/// Returns the count of a key. It begins anew after [`WINDOW`].
fn window<K: Hash + Eq>(windows: &mut HashMap<Option<K>, Window>, key: K, now: Instant) -> &mut Window {
    let is_over = |window: &Window| now.saturating_duration_since(window.since) >= WINDOW;
    let mut key = Some(key);
    if windows.len() >= COUNTS_MAX && !windows.contains_key(&key) {
        windows.retain(|_, window| !is_over(window));
        if windows.len() >= COUNTS_MAX {
            key = None;
        }
    }
    let begun = Window { since: now, count: 0 };
    let window = windows.entry(key).or_insert(begun);
    if is_over(window) {
        *window = begun;
    }
    window
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;

    fn client(address: &str) -> ClientAddress {
        address.parse::<IpAddr>().unwrap().into()
    }

    #[tokio::test]
    async fn a_guesser_waits_and_others_do_not() {
        let throttle = LoginThrottle::default();
        let now = Instant::now();
        let guesser = client("2001:db8::1");
        for _ in 0..FAILURES_OF_USER_MAX {
            throttle.begin(guesser, 1, now).unwrap();
        }
        let later = now + Duration::from_secs(20);
        let neighbour = client("2001:db8::2");
        let wait = |client, user, at| throttle.begin(client, user, at).err();
        assert_eq!(wait(neighbour, 1, later), Some(Duration::from_secs(40)));
        assert_eq!(wait(client("10.0.0.1"), 1, later), None, "another address");
        assert_eq!(wait(neighbour, 2, later), None, "another user of the same address");
        assert_eq!(wait(guesser, 1, now + WINDOW), None, "counted anew");
    }

    #[tokio::test]
    async fn attempts_under_way_count_and_a_right_one_counts_no_more() {
        let throttle = LoginThrottle::default();
        let (now, here) = (Instant::now(), client("10.0.0.1"));
        throttle.begin(here, 7, now).unwrap().succeed(now);
        let under_way: Vec<_> = (0..500).filter_map(|_| throttle.begin(here, 7, now).ok()).collect();
        assert_eq!(under_way.len(), 20);
        for attempt in under_way {
            attempt.succeed(now);
        }
        assert!(throttle.begin(here, 7, now).is_ok());
    }

    #[tokio::test]
    async fn guesses_at_many_users_lock_out_no_user_who_is_familiar() {
        let throttle = LoginThrottle::default();
        let (now, here) = (Instant::now(), client("10.0.0.1"));
        throttle.begin(here, 7, now).unwrap().succeed(now);
        let checked = (1000..1500)
            .filter(|user| throttle.begin(here, *user, now).is_ok())
            .count();
        assert_eq!(checked, 60);
        assert!(throttle.begin(here, 7, now).is_ok());
        assert!(throttle.begin(here, 8, now).is_err());
    }

    #[tokio::test]
    async fn memory_is_bounded_and_no_count_is_forgotten_for_it() {
        let throttle = LoginThrottle::default();
        let (now, guesser) = (Instant::now(), client("10.0.0.1"));
        for _ in 0..FAILURES_OF_USER_MAX {
            throttle.begin(guesser, 1, now).unwrap();
        }
        for number in 0..10_000 {
            let other = IpAddr::V4(Ipv4Addr::from_bits(0x0b00_0000 + number)).into();
            drop(throttle.begin(other, 1, now));
        }
        let attempts = lock(&throttle.attempts);
        assert!(attempts.of_user.len() <= COUNTS_MAX + 1 && attempts.of_address.len() <= COUNTS_MAX + 1);
        drop(attempts);
        assert!(throttle.begin(guesser, 1, now).is_err());
    }
}
