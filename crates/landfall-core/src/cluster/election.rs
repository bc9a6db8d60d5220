//! Election of the agent that writes: one agent holds a Lease (`coordination.k8s.io/v1`), the others follow and take
//! over when it is not renewed.
//!
//! The clocks of hosts differ, so the holder's time is never compared with ours. A Lease has expired if its record
//! stays the same for longer than its duration, by our monotonic clock: a step of the system's clock changes nothing.

use std::time::Duration;

use jiff::Timestamp;

/// Fields of a Lease that an election needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseRecord {
    /// The holder; empty if the Lease was released.
    pub holder: String,
    /// The time after which an unrenewed Lease expires.
    pub duration: Duration,
    /// The time of the last renewal, by the holder's clock: only compared with itself.
    pub renewed: Option<Timestamp>,
    /// The number of changes of the holder.
    pub transitions: i32,
}

/// Next action on the Lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Move {
    /// No Lease exists: create it.
    Create,
    /// The holder stopped renewing or released the Lease: write ourselves into it.
    TakeOver,
    /// We hold the Lease: renew it.
    Renew,
    /// Another agent holds the Lease.
    Follow,
}

/// One candidate's view of the election.
#[derive(Debug, Clone)]
pub struct Election {
    me: String,
    /// The record as it was read last, and the time since when it is the same.
    seen: Option<(LeaseRecord, Duration)>,
}

impl Election {
    /// Creates a candidate. No other candidate may have the same name.
    #[must_use]
    pub fn new(me: String) -> Election {
        Election { me, seen: None }
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.me
    }

    /// Decides what to do about a Lease that was read at `now`, a time on a clock that never steps.
    pub fn decide(&mut self, lease: Option<&LeaseRecord>, now: Duration) -> Move {
        let Some(lease) = lease else {
            self.seen = None;
            return Move::Create;
        };
        if lease.holder == self.me {
            return Move::Renew;
        }
        if lease.holder.is_empty() {
            return Move::TakeOver;
        }
        match &self.seen {
            Some((seen, since)) if seen == lease => {
                if now.saturating_sub(*since) > lease.duration {
                    Move::TakeOver
                } else {
                    Move::Follow
                }
            }
            _ => {
                self.seen = Some((lease.clone(), now));
                Move::Follow
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mk_lease(holder: &str, renewed: i64) -> LeaseRecord {
        LeaseRecord {
            holder: holder.to_owned(),
            duration: Duration::from_secs(15),
            renewed: Timestamp::from_second(renewed).ok(),
            transitions: 0,
        }
    }

    fn at(second: u64) -> Duration {
        Duration::from_secs(second)
    }

    #[test]
    fn free_lease_is_taken_and_own_one_is_renewed() {
        let mut election = Election::new("a".to_owned());
        assert_eq!(election.decide(None, at(0)), Move::Create);
        assert_eq!(election.decide(Some(&mk_lease("", 0)), at(0)), Move::TakeOver);
        assert_eq!(election.decide(Some(&mk_lease("a", 0)), at(1_000)), Move::Renew);
    }

    #[test]
    fn holder_that_renews_is_followed_whatever_its_clock_says() {
        let mut election = Election::new("a".to_owned());
        for second in 0..100 {
            // The holder's clock is years behind.
            assert_eq!(
                election.decide(Some(&mk_lease("b", second)), at(1_000_000 + second.unsigned_abs())),
                Move::Follow
            );
        }
    }

    #[test]
    fn silent_holder_is_replaced_after_its_time_by_our_clock() {
        let mut election = Election::new("a".to_owned());
        // The holder's clock is years ahead.
        let lease = mk_lease("b", 2_000_000_000);
        for (second, expected) in [(0, Move::Follow), (15, Move::Follow), (16, Move::TakeOver)] {
            assert_eq!(election.decide(Some(&lease), at(second)), expected, "{second}");
        }
    }

    #[test]
    fn lease_that_was_deleted_and_made_anew_is_watched_from_the_start() {
        let mut election = Election::new("a".to_owned());
        let lease = mk_lease("b", 0);
        assert_eq!(election.decide(Some(&lease), at(0)), Move::Follow);
        assert_eq!(election.decide(None, at(10)), Move::Create);
        assert_eq!(election.decide(Some(&lease), at(20)), Move::Follow);
    }
}
