//! Slots of connections [spec:security.budgets], and connections that wait for one.
//!
//! A client that has its share of slots may open as many further connections. These wait until they have sent
//! something: a connection that has sent nothing displaces none of which the request may be on its way.

use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::serve::budget::ClientAddress;
use crate::serve::limits::ServeLimits;
use crate::serve::slots::{NoSlot, SlotLimits, Slots, TakenSlot};

/// Time that a connection has for its first request, and for the next one, before it may give way to a new connection.
const HEAD_GRACE: Duration = Duration::from_millis(250);
/// Interval at which a connection or a server that has no room looks for a connection that gives way.
pub(super) const ROOM_CHECK_INTERVAL: Duration = Duration::from_millis(40);

/// Slots of a server's connections. Clones share them.
#[derive(Debug, Clone)]
pub(super) struct ConnectionSlots {
    serving: Slots,
    /// Connections that wait for a slot. One that has sent nothing gives way to a new one, as in `serving`.
    waiting: Slots,
}

/// Place of an accepted connection.
#[derive(Debug)]
pub(super) enum Place {
    Serving(TakenSlot),
    /// All slots of the client, or of all clients, are in use.
    Waiting(TakenSlot),
}

impl ConnectionSlots {
    pub(super) fn new(limits: ServeLimits) -> ConnectionSlots {
        let limits = SlotLimits {
            total: limits.connections,
            share: limits.connections_of_client(),
            grace: HEAD_GRACE,
        };
        ConnectionSlots {
            serving: Slots::new(limits),
            waiting: Slots::new(limits),
        }
    }

    /// Returns true if a further connection can be served now.
    pub(super) fn has_room(&self) -> bool {
        self.serving.has_room()
    }

    /// Gives a place to a new connection.
    ///
    /// # Errors
    /// If as many connections as the client may have wait already, and all of them have sent something.
    pub(super) fn place(&self, client: ClientAddress) -> Result<Place, NoSlot> {
        match self.serving.take_free(client) {
            Some(taken) => Ok(Place::Serving(taken)),
            None => self.waiting.take(client).map(Place::Waiting),
        }
    }

    /// Waits for a slot. Returns `None` after [`ServeLimits::header`], if the connection ends, or if it gives way to a
    /// new one.
    pub(super) async fn wait(
        &self,
        waiting: &TakenSlot,
        stream: &TcpStream,
        client: ClientAddress,
        limits: ServeLimits,
    ) -> Option<TakenSlot> {
        let work = async {
            let has_ended = stream.peek(&mut [0]).await.ok()? == 0;
            if has_ended || !waiting.slot().begin() {
                return None;
            }
            loop {
                // Connections with a slot may have sent requests at the same time, which make them busy.
                sleep(ROOM_CHECK_INTERVAL).await;
                if let Ok(taken) = self.serving.take(client) {
                    return Some(taken);
                }
            }
        };
        tokio::select! {
            taken = timeout(limits.header, work) => taken.ok()?,
            () = waiting.slot().gives_way() => None,
        }
    }
}
