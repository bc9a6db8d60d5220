//! Who copies which blob right now, and where it is already. Images share base layers: whoever comes second waits, and then
//! finds the blob there, or in another repository of the same registry.
//!
//! What is known here is a hint. A destination may be wiped at any time, so that it saves work and decides nothing.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use landfall_core::reference::{Digest, Repository};
use landfall_core::sync::lock;
use tokio::sync::OwnedMutexGuard;

/// What has its blobs in common, and a blob: a registry, or a sink by what messages call it.
type Key = (String, Digest);
/// The repositories that have the blob, the one that got it last at the end.
type Places = Vec<Repository>;
type Blobs = Arc<Mutex<HashMap<Key, Arc<tokio::sync::Mutex<Places>>>>>;

/// The blobs that are on their way in this process, and those that arrived. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Whereabouts {
    blobs: Blobs,
}

/// The right to copy a blob to a registry or a sink, until it is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    blobs: Blobs,
    key: Key,
    /// `None` while it waits, and at its end before the entry is looked at.
    places: Option<OwnedMutexGuard<Places>>,
}

impl Whereabouts {
    /// Waits until nobody else copies this blob to this registry or sink.
    pub(super) async fn turn(&self, storage: String, digest: Digest) -> Turn {
        let key = (storage, digest);
        let lock = {
            let mut blobs = lock(&self.blobs);
            blobs.entry(key.clone()).or_default().clone()
        };
        // Made before the wait, so that a wait that is given up cleans up as well.
        let mut turn = Turn {
            places: None,
            blobs: self.blobs.clone(),
            key,
        };
        turn.places = Some(lock.lock_owned().await);
        turn
    }
}

impl Turn {
    /// The repositories that are said to have the blob.
    pub(super) fn places(&self) -> &[Repository] {
        self.places.as_deref().map_or(&[], Vec::as_slice)
    }

    /// The repository has the blob.
    pub(super) fn arrived_in(&mut self, repository: &Repository) {
        self.lost_from(repository);
        if let Some(places) = &mut self.places {
            places.push(repository.clone());
        }
    }

    /// The repository does not have the blob, whatever was said before.
    pub(super) fn lost_from(&mut self, repository: &Repository) {
        if let Some(places) = &mut self.places {
            places.retain(|place| place != repository);
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let is_known = !self.places().is_empty();
        self.places = None;
        let mut blobs = lock(&self.blobs);
        // Who waits holds the lock too; the last one out takes away an entry that says nothing.
        if !is_known && blobs.get(&self.key).is_some_and(|lock| Arc::strong_count(lock) == 1) {
            blobs.remove(&self.key);
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
        let whereabouts = Whereabouts::default();
        let turn = |storage: &str, digit| whereabouts.turn(storage.to_owned(), digest(digit));
        let first = turn("sink", 'a').await;
        let mut second = pin!(turn("sink", 'a'));
        assert!(poll!(&mut second).is_pending());
        {
            let mut gives_up = pin!(turn("sink", 'a'));
            assert!(poll!(&mut gives_up).is_pending());
        }
        assert!(poll!(pin!(turn("sink", 'b'))).is_ready());
        assert!(poll!(pin!(turn("other", 'a'))).is_ready());
        drop(first);
        let Poll::Ready(second) = poll!(&mut second) else {
            panic!("the first one is done")
        };
        drop(second);
        assert!(whereabouts.blobs.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn what_arrived_is_known_until_it_is_lost() {
        let whereabouts = Whereabouts::default();
        let turn = || whereabouts.turn("registry".to_owned(), digest('a'));
        let [one, other]: [Repository; 2] = ["one", "other"].map(|path| path.parse().unwrap());
        turn().await.arrived_in(&one);
        turn().await.arrived_in(&other);
        turn().await.arrived_in(&one);
        assert_eq!(turn().await.places(), [other.clone(), one.clone()]);
        turn().await.lost_from(&one);
        turn().await.lost_from(&other);
        assert!(whereabouts.blobs.lock().unwrap().is_empty());
    }
}
