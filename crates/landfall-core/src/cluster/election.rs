//! Who writes: one agent holds a Lease (`coordination.k8s.io/v1`), the others follow and take over when it is not renewed.
//!
//! Clocks of hosts differ, so the time that a holder wrote is never compared with ours: what counts is how long we have
//! seen the same record.

use jiff::{SignedDuration, Timestamp};

/// What a Lease says, as far as an election goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseRecord {
    /// Who holds it; empty when it was given up.
    pub holder: String,
    /// How long the holder may be silent.
    pub duration: SignedDuration,
    /// When it was renewed, by the holder's clock: only compared with itself.
    pub renewed: Option<Timestamp>,
    /// How often it changed hands.
    pub transitions: i32,
}

/// What to do about the Lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Move {
    /// There is none: make it.
    Create,
    /// Its holder is silent, or gave it up: write ourselves into it.
    TakeOver,
    /// It is ours: write that we are still there.
    Renew,
    /// Somebody else holds it.
    Follow,
}

/// One candidate's view of the election.
#[derive(Debug, Clone)]
pub struct Election {
    me: String,
    seen: Option<(LeaseRecord, Timestamp)>,
}

impl Election {
    /// A candidate of this name, which must be its alone.
    #[must_use]
    pub fn new(me: String) -> Election {
        Election { me, seen: None }
    }

    /// The candidate's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.me
    }

    /// What to do about a Lease that was read just now.
    pub fn decide(&mut self, lease: Option<&LeaseRecord>, now: Timestamp) -> Move {
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
                if now.duration_since(*since) > lease.duration {
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
            duration: SignedDuration::from_secs(15),
            renewed: Some(at(renewed)),
            transitions: 0,
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
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
                election.decide(Some(&mk_lease("b", second)), at(1_000_000 + second)),
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
