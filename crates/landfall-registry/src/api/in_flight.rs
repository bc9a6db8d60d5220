//! Requests in flight: how many there may be, in all and of one client. Every request counts, so this takes no lock.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use landfall_net::serve::budget::ClientAddress;

/// Counts of clients. Clients whose hash is the same share one; a client cannot choose with whom.
const COUNTS: usize = 1024;

#[derive(Debug)]
pub(crate) struct InFlight {
    total_max: usize,
    share_max: usize,
    total: AtomicUsize,
    by_client: Box<[AtomicUsize]>,
    hasher: RandomState,
    refusals: AtomicU64,
}

/// A request in flight. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct RequestInFlight<'a> {
    counts: [&'a AtomicUsize; 2],
}

impl InFlight {
    /// Allows `total_max` requests, and half of them to one client.
    pub(crate) fn new(total_max: usize) -> InFlight {
        InFlight {
            total_max,
            share_max: total_max.div_ceil(2),
            total: AtomicUsize::new(0),
            by_client: (0..COUNTS).map(|_| AtomicUsize::new(0)).collect(),
            hasher: RandomState::new(),
            refusals: AtomicU64::new(0),
        }
    }

    /// Begins a request, or returns `None` if there are too many.
    pub(crate) fn begin(&self, client: ClientAddress) -> Option<RequestInFlight<'_>> {
        let hash = usize::try_from(self.hasher.hash_one(client) % COUNTS as u64).unwrap_or_default();
        let own = &self.by_client[hash];
        // Counts first: of two requests that come at the same time for the last place, none gets it rather than both.
        let request = RequestInFlight {
            counts: [own, &self.total],
        };
        let own_before = own.fetch_add(1, Ordering::Relaxed);
        let total_before = self.total.fetch_add(1, Ordering::Relaxed);
        if own_before < self.share_max && total_before < self.total_max {
            return Some(request);
        }
        self.refusals.fetch_add(1, Ordering::Relaxed);
        None
    }

    /// Returns the number of requests in flight.
    pub(crate) fn count(&self) -> usize {
        self.total.load(Ordering::Relaxed)
    }

    /// Returns the number of refusals so far.
    pub(crate) fn refusals(&self) -> u64 {
        self.refusals.load(Ordering::Relaxed)
    }
}

impl Drop for RequestInFlight<'_> {
    fn drop(&mut self) {
        for count in self.counts {
            count.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;

    #[test]
    fn a_client_has_half_of_the_requests() {
        let in_flight = InFlight::new(5);
        let client = |last| ClientAddress::from(IpAddr::V4(Ipv4Addr::new(10, 0, 0, last)));
        let own: Vec<_> = (0..4).filter_map(|_| in_flight.begin(client(1))).collect();
        assert_eq!((own.len(), in_flight.count(), in_flight.refusals()), (3, 3, 1));
        // Another client whose count is another one, which is so for nearly all.
        let other = (2..=255).find(|last| in_flight.begin(client(*last)).is_some()).unwrap();
        let others: Vec<_> = (0..4).filter_map(|_| in_flight.begin(client(other))).collect();
        assert_eq!((others.len(), in_flight.count()), (2, 5));
        drop((own, others));
        assert_eq!(in_flight.count(), 0);
        assert!(InFlight::new(0).begin(client(1)).is_none());
    }
}
