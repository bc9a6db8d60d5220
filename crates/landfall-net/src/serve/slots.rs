//! Slots of a server, for connections, uploads and upload sessions [spec:security.budgets]: how many there may be, in
//! all and of one client, and which one gives way.
//!
//! A slot is busy, or it waits for its client: a connection for the head of a request, an upload for its next bytes, a
//! session for its first ones. At the limit, the slot that has waited longest gives way to a new one. So clients that
//! open many and send nothing, or send slowly, delay no other client. A busy slot never gives way.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use landfall_core::sync::lock;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::serve::budget::ClientAddress;

/// Values of [`Slot::state`] besides the time since which the slot waits.
const BUSY: u64 = u64::MAX;
const GIVES_WAY: u64 = u64::MAX - 1;

/// A slot of a client.
#[derive(Debug)]
pub struct Slot {
    client: ClientAddress,
    origin: Instant,
    /// [`BUSY`], [`GIVES_WAY`], or the time since which the slot waits, in milliseconds after `origin`.
    state: AtomicU64,
    gives_way: CancellationToken,
}

impl Slot {
    fn new(client: ClientAddress, origin: Instant) -> Slot {
        let slot = Slot {
            client,
            origin,
            state: AtomicU64::new(BUSY),
            gives_way: CancellationToken::new(),
        };
        slot.state.store(slot.now(), Ordering::Relaxed);
        slot
    }

    fn now(&self) -> u64 {
        let elapsed = self.origin.elapsed().as_millis();
        u64::try_from(elapsed).unwrap_or(u64::MAX).min(GIVES_WAY - 1)
    }

    /// Makes the slot busy. Returns false if it gives way already.
    pub fn begin(&self) -> bool {
        let busy = |state| (state != GIVES_WAY).then_some(BUSY);
        self.state
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, busy)
            .is_ok()
    }

    /// Notes that the slot waits for its client from now on.
    pub fn wait(&self) {
        self.wait_on(Duration::ZERO);
    }

    /// Notes that the slot waits for its client again, which has sent too little in the time that it waited already.
    pub fn wait_on(&self, waited: Duration) {
        let waited = u64::try_from(waited.as_millis()).unwrap_or(u64::MAX);
        // One that gives way stays so.
        let _ = self.state.compare_exchange(
            BUSY,
            self.now().saturating_sub(waited),
            Ordering::AcqRel,
            Ordering::Acquire,
        );
    }

    /// Waits until the slot has to give way.
    pub async fn gives_way(&self) {
        self.gives_way.cancelled().await;
    }

    /// Returns true if the slot has given way.
    pub fn has_given_way(&self) -> bool {
        self.gives_way.is_cancelled()
    }

    fn waiting_since(&self) -> Option<u64> {
        let state = self.state.load(Ordering::Acquire);
        (state < GIVES_WAY).then_some(state)
    }

    /// Makes the slot give way, unless it has been busy since `waiting_since`.
    fn give_way(&self, waiting_since: u64) -> bool {
        let changed = self
            .state
            .compare_exchange(waiting_since, GIVES_WAY, Ordering::AcqRel, Ordering::Acquire)
            .is_ok();
        if changed {
            self.gives_way.cancel();
        }
        changed
    }
}

/// Reason why a client gets no slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoSlot {
    /// The client has its share, all of them busy.
    OverShare,
    /// All slots of all clients are busy.
    AllBusy,
}

/// Limits of slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotLimits {
    /// Slots of all clients together.
    pub total: usize,
    /// Slots of one client.
    pub share: usize,
    /// Time that a slot waits at least before it gives way.
    pub grace: Duration,
}

/// Slots of a server. Clones share them.
#[derive(Debug, Clone)]
pub struct Slots {
    limits: SlotLimits,
    origin: Instant,
    taken: Arc<Mutex<TakenSlots>>,
    refusals: Arc<AtomicU64>,
}

#[derive(Debug, Default)]
struct TakenSlots {
    next: u64,
    by_number: HashMap<u64, Arc<Slot>>,
}

impl TakenSlots {
    /// Returns the number of slots of a client.
    fn of(&self, client: ClientAddress) -> usize {
        self.by_number.values().filter(|slot| slot.client == client).count()
    }
}

/// A slot in use. Dropping it makes room.
#[derive(Debug)]
pub struct TakenSlot {
    slot: Arc<Slot>,
    number: u64,
    slots: Slots,
}

impl TakenSlot {
    #[must_use]
    pub fn slot(&self) -> &Arc<Slot> {
        &self.slot
    }
}

impl Slots {
    #[must_use]
    pub fn new(limits: SlotLimits) -> Slots {
        Slots {
            limits,
            origin: Instant::now(),
            taken: Arc::default(),
            refusals: Arc::default(),
        }
    }

    /// Returns true if a client can get a slot now: there is room, or one gives way.
    #[must_use]
    pub fn has_room(&self) -> bool {
        let taken = lock(&self.taken);
        taken.by_number.len() < self.limits.total || self.oldest(&taken, |_| true).is_some()
    }

    /// Gives a slot to a client. The slot that has waited longest gives way if there is no room: one of this client
    /// where its share is used, else one of the client with the most slots. The new slot waits.
    ///
    /// # Errors
    /// If none gives way.
    pub fn take(&self, client: ClientAddress) -> Result<TakenSlot, NoSlot> {
        let mut taken = lock(&self.taken);
        let made = if taken.of(client) >= self.limits.share {
            match self.make_room(&mut taken, |other| other.client == client) {
                true => Ok(()),
                false => Err(NoSlot::OverShare),
            }
        } else if taken.by_number.len() >= self.limits.total {
            self.make_fair_room(&mut taken)
        } else {
            Ok(())
        };
        made.inspect_err(|_| {
            self.refusals.fetch_add(1, Ordering::Relaxed);
        })?;
        Ok(self.insert(&mut taken, client))
    }

    /// Gives a slot to a client if there is room and no other slot has to give way.
    #[must_use]
    pub fn take_free(&self, client: ClientAddress) -> Option<TakenSlot> {
        let mut taken = lock(&self.taken);
        let is_free = taken.by_number.len() < self.limits.total && taken.of(client) < self.limits.share;
        is_free.then(|| self.insert(&mut taken, client))
    }

    fn insert(&self, taken: &mut TakenSlots, client: ClientAddress) -> TakenSlot {
        let slot = Arc::new(Slot::new(client, self.origin));
        let number = taken.next;
        taken.next += 1;
        taken.by_number.insert(number, slot.clone());
        TakenSlot {
            slot,
            number,
            slots: self.clone(),
        }
    }

    /// Returns the number of refusals so far.
    #[must_use]
    pub fn refusals(&self) -> u64 {
        self.refusals.load(Ordering::Relaxed)
    }

    /// Makes a slot of the client with the most slots give way, or of the next one if all of its are busy.
    fn make_fair_room(&self, taken: &mut TakenSlots) -> Result<(), NoSlot> {
        let mut counts: HashMap<ClientAddress, usize> = HashMap::new();
        for other in taken.by_number.values() {
            *counts.entry(other.client).or_default() += 1;
        }
        let mut clients: Vec<_> = counts.into_iter().collect();
        clients.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        clients
            .into_iter()
            .any(|(client, _)| self.make_room(taken, |other| other.client == client))
            .then_some(())
            .ok_or(NoSlot::AllBusy)
    }

    /// Makes the oldest of the waiting slots that match give way. Returns false if none does.
    fn make_room(&self, taken: &mut TakenSlots, matches: impl Fn(&Slot) -> bool) -> bool {
        while let Some((number, since)) = self.oldest(taken, &matches) {
            if taken.by_number[&number].give_way(since) {
                taken.by_number.remove(&number);
                return true;
            }
        }
        false
    }

    /// Returns the matching slot that has waited longest, and since when, if that is longer than [`SlotLimits::grace`].
    fn oldest(&self, taken: &TakenSlots, matches: impl Fn(&Slot) -> bool) -> Option<(u64, u64)> {
        let waiting = taken.by_number.iter().filter(|(_, slot)| matches(slot));
        waiting
            .filter_map(|(number, slot)| {
                let since = slot.waiting_since()?;
                let waited = slot.now().saturating_sub(since);
                (u128::from(waited) >= self.limits.grace.as_millis()).then_some((*number, since))
            })
            .min_by_key(|(_, since)| *since)
    }
}

impl Drop for TakenSlot {
    fn drop(&mut self) {
        lock(&self.slots.taken).by_number.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;

    fn client(number: u8) -> ClientAddress {
        IpAddr::V4(Ipv4Addr::new(10, 0, 0, number)).into()
    }

    const GRACE: Duration = Duration::from_millis(250);

    fn mk_slots(total: usize, share: usize) -> Slots {
        Slots::new(SlotLimits {
            total,
            share,
            grace: GRACE,
        })
    }

    #[tokio::test(start_paused = true)]
    async fn the_slot_that_has_waited_longest_gives_way_to_a_new_one() {
        let slots = mk_slots(4, 2);
        let first = slots.take(client(1)).unwrap();
        tokio::time::advance(Duration::from_secs(1)).await;
        let second = slots.take(client(1)).unwrap();
        tokio::time::advance(Duration::from_secs(1)).await;
        let third = slots.take(client(1)).unwrap();
        assert!(first.slot.has_given_way() && !second.slot.has_given_way());
        assert!(!first.slot.begin(), "it is too late for a request");
        assert!(second.slot.begin() && third.slot.begin());
        assert_eq!(slots.take(client(1)).err(), Some(NoSlot::OverShare));
        let others = [slots.take(client(2)).unwrap(), slots.take(client(3)).unwrap()];
        assert!(!slots.has_room());
        assert_eq!(
            slots.take(client(4)).err(),
            Some(NoSlot::AllBusy),
            "the others have just come"
        );
        assert_eq!(slots.refusals(), 2);
        second.slot.wait();
        tokio::time::advance(GRACE).await;
        assert!(slots.has_room());
        let last = slots.take(client(4)).unwrap();
        assert!(second.slot.has_given_way(), "its client has the most");
        drop((third, others, last, first, second));
        assert!(lock(&slots.taken).by_number.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_busy_slot_never_gives_way() {
        let slots = mk_slots(1, 1);
        let busy = slots.take(client(1)).unwrap();
        assert!(busy.slot.begin());
        tokio::time::advance(Duration::from_secs(3600)).await;
        assert!(!slots.has_room());
        busy.slot.wait();
        assert!(!slots.has_room(), "the next request may come at once");
        tokio::time::advance(GRACE).await;
        assert!(slots.has_room());
        drop(busy);
        assert!(slots.has_room());
    }
}
