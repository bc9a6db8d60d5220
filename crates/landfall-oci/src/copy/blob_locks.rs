//! Single-flight locks of blobs, and hints for mounts. Images share base layers: the second copy of a blob waits for
//! the first one, and then finds the blob in the sink, or mounts it from another repository of the same registry.
//!
//! The known repositories are hints: a destination may be wiped at any time. They save work and decide nothing.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use landfall_core::reference::{Digest, Repository};
use landfall_core::sync::lock;
use tokio::sync::OwnedMutexGuard;

/// Key: (blob storage, digest). Storage is the registry's host; for other sinks, [`crate::image::ImageSink::describe`].
type BlobKey = (String, Digest);
/// Repositories that have the blob, the latest last.
type Repositories = Vec<Repository>;
type Blobs = Arc<Mutex<HashMap<BlobKey, Arc<tokio::sync::Mutex<Repositories>>>>>;

/// Locks of the blobs that this process copies, with the repositories that have them. Clones share the locks.
#[derive(Debug, Clone, Default)]
pub struct BlobLocks {
    blobs: Blobs,
}

/// Exclusive right to copy a blob to a storage, until it is dropped.
#[derive(Debug)]
pub(super) struct BlobLock {
    blobs: Blobs,
    key: BlobKey,
    /// `None` while the lock is awaited, and in `drop` before the entry is checked.
    repositories: Option<OwnedMutexGuard<Repositories>>,
}

impl BlobLocks {
    /// Waits until no other task copies this blob to this storage.
    pub(super) async fn lock(&self, storage: String, digest: Digest) -> BlobLock {
        let key = (storage, digest);
        let entry = {
            let mut blobs = lock(&self.blobs);
            blobs.entry(key.clone()).or_default().clone()
        };
        // Made before the wait: a cancelled wait removes its entry too.
        let mut lock = BlobLock {
            repositories: None,
            blobs: self.blobs.clone(),
            key,
        };
        lock.repositories = Some(entry.lock_owned().await);
        lock
    }
}

impl BlobLock {
    /// Returns the repositories that probably have the blob.
    pub(super) fn repositories(&self) -> &[Repository] {
        self.repositories.as_deref().map_or(&[], Vec::as_slice)
    }

    /// Records that the repository has the blob.
    pub(super) fn add_repository(&mut self, repository: &Repository) {
        self.remove_repository(repository);
        if let Some(repositories) = &mut self.repositories {
            repositories.push(repository.clone());
        }
    }

    /// Records that the repository does not have the blob.
    pub(super) fn remove_repository(&mut self, repository: &Repository) {
        if let Some(repositories) = &mut self.repositories {
            repositories.retain(|known| known != repository);
        }
    }
}

impl Drop for BlobLock {
    fn drop(&mut self) {
        let is_known = !self.repositories().is_empty();
        self.repositories = None;
        let mut blobs = lock(&self.blobs);
        // Waiting tasks hold the entry too. The last holder removes an entry without repositories.
        if !is_known && blobs.get(&self.key).is_some_and(|entry| Arc::strong_count(entry) == 1) {
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
        let locks = BlobLocks::default();
        let lock = |storage: &str, digit| locks.lock(storage.to_owned(), digest(digit));
        let first = lock("sink", 'a').await;
        let mut second = pin!(lock("sink", 'a'));
        assert!(poll!(&mut second).is_pending());
        {
            let mut gives_up = pin!(lock("sink", 'a'));
            assert!(poll!(&mut gives_up).is_pending());
        }
        assert!(poll!(pin!(lock("sink", 'b'))).is_ready());
        assert!(poll!(pin!(lock("other", 'a'))).is_ready());
        drop(first);
        let Poll::Ready(second) = poll!(&mut second) else {
            panic!("the first one is done")
        };
        drop(second);
        assert!(locks.blobs.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn what_arrived_is_known_until_it_is_lost() {
        let locks = BlobLocks::default();
        let lock = || locks.lock("registry".to_owned(), digest('a'));
        let [one, other]: [Repository; 2] = ["one", "other"].map(|path| path.parse().unwrap());
        lock().await.add_repository(&one);
        lock().await.add_repository(&other);
        lock().await.add_repository(&one);
        assert_eq!(lock().await.repositories(), [other.clone(), one.clone()]);
        lock().await.remove_repository(&one);
        lock().await.remove_repository(&other);
        assert!(locks.blobs.lock().unwrap().is_empty());
    }
}
