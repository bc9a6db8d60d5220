//! Who copies which blob right now. Images share base layers; whoever comes second waits, and then finds the blob there.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use landfall_core::reference::Digest;
use tokio::sync::OwnedMutexGuard;

/// A sink, by what messages call it, and a blob.
type Key = (String, Digest);
type Turns = Arc<Mutex<HashMap<Key, Arc<tokio::sync::Mutex<()>>>>>;

/// The blobs that are on their way in this process. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct BlobsInFlight {
    turns: Turns,
}

/// The right to copy a blob to a sink, until it is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    turns: Turns,
    key: Key,
    /// `None` while it waits, and at its end before the entry is looked at.
    guard: Option<OwnedMutexGuard<()>>,
}

impl BlobsInFlight {
    /// Waits until nobody else copies this blob to this sink.
    pub(super) async fn turn(&self, sink: String, digest: Digest) -> Turn {
        let key = (sink, digest);
        let lock = {
            let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
            turns.entry(key.clone()).or_default().clone()
        };
        // Made before the wait, so that a wait that is given up cleans up as well.
        let mut turn = Turn {
            guard: None,
            turns: self.turns.clone(),
            key,
        };
        turn.guard = Some(lock.lock_owned().await);
        turn
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.guard = None;
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        // Who waits holds the lock too; the last one out takes the entry away.
        if turns.get(&self.key).is_some_and(|lock| Arc::strong_count(lock) == 1) {
            turns.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::Poll;

    use futures_util::poll;

    use super::*;

    fn digest(digit: char) -> Digest {
        format!("sha256:{}", digit.to_string().repeat(64)).parse().unwrap()
    }

    #[tokio::test]
    async fn the_second_waits_for_the_first_and_nothing_is_left_behind() {
        let flights = BlobsInFlight::default();
        let first = flights.turn("sink".to_owned(), digest('a')).await;
        let mut second = pin!(flights.turn("sink".to_owned(), digest('a')));
        assert!(poll!(&mut second).is_pending());
        {
            let mut gives_up = pin!(flights.turn("sink".to_owned(), digest('a')));
            assert!(poll!(&mut gives_up).is_pending());
        }
        assert!(poll!(pin!(flights.turn("sink".to_owned(), digest('b')))).is_ready());
        assert!(poll!(pin!(flights.turn("other".to_owned(), digest('a')))).is_ready());
        drop(first);
        let Poll::Ready(second) = poll!(&mut second) else {
            panic!("the first one is done")
        };
        drop(second);
        assert!(flights.turns.lock().unwrap().is_empty());
    }
}
