//! Promises: the content that clients were told of. A client that pushes an image asks for its blobs, uploads the missing
//! ones, and relies on the answers until it pushes the manifest [spec:primary.collection].
//!
//! Three things hold a blob without a manifest: its own stamp in the record, the push activity of its repository, and
//! the answers of this module. A repository's collection is put off while an upload is in flight in it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use landfall_core::reference::{Digest, Repository};
use landfall_core::sync::lock;

use crate::repository::BlobAsker;

/// Answers of one generation. Two generations are kept.
const GENERATION_MAX: usize = 8192;

/// Answers to clients about blobs, each with its time.
#[derive(Debug, Default)]
pub(crate) struct Promises {
    generations: Mutex<Generations>,
}

#[derive(Debug, Default)]
struct Generations {
    young: HashMap<(Repository, Digest), Answer>,
    old: HashMap<(Repository, Digest), Answer>,
}

/// Last answers to clients about a blob, in seconds of run time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Answer {
    /// To any client.
    pub(crate) at: u64,
    /// To a client that probably pushes.
    pub(crate) to_pusher_at: Option<u64>,
}

impl Promises {
    /// Adds an answer. The oldest are dropped at the limit; the activity of their repositories still holds them.
    pub(crate) fn add(&self, repository: &Repository, digest: &Digest, asker: BlobAsker, at: u64) {
        let mut generations = lock(&self.generations);
        if generations.young.len() >= GENERATION_MAX {
            generations.old = std::mem::take(&mut generations.young);
        }
        let key = (repository.clone(), digest.clone());
        let before = generations.young.get(&key).or_else(|| generations.old.get(&key));
        let to_pusher_at = match asker {
            BlobAsker::Pusher => Some(at),
            BlobAsker::Puller => before.and_then(|answer| answer.to_pusher_at),
        };
        generations.young.insert(key, Answer { at, to_pusher_at });
    }

    /// Returns the blobs of a repository that clients were told of.
    pub(crate) fn answered(&self, repository: &Repository) -> HashMap<Digest, Answer> {
        let generations = lock(&self.generations);
        // The young ones come last, and replace the old ones.
        let answers = generations.old.iter().chain(&generations.young);
        answers
            .filter(|((of, _), _)| of == repository)
            .map(|((_, digest), at)| (digest.clone(), *at))
            .collect()
    }
}

/// Uploads in flight, by repository. Clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct UploadsInFlight {
    counts: Arc<Mutex<HashMap<Repository, usize>>>,
}

/// One upload in flight, until it is dropped.
#[derive(Debug)]
pub(crate) struct UploadInFlight {
    uploads: UploadsInFlight,
    repository: Repository,
}

impl UploadsInFlight {
    pub(crate) fn begin(&self, repository: &Repository) -> UploadInFlight {
        *lock(&self.counts).entry(repository.clone()).or_insert(0) += 1;
        UploadInFlight {
            uploads: self.clone(),
            repository: repository.clone(),
        }
    }

    pub(crate) fn contains(&self, repository: &Repository) -> bool {
        lock(&self.counts).contains_key(repository)
    }
}

impl Drop for UploadInFlight {
    fn drop(&mut self) {
        let mut counts = lock(&self.uploads.counts);
        if let Some(count) = counts.get_mut(&self.repository) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.repository);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use landfall_oci::digest::digest_of;

    #[test]
    fn the_last_answer_about_a_blob_counts_and_their_number_is_limited() {
        let promises = Promises::default();
        let (repository, other): (Repository, Repository) = ("a/b".parse().unwrap(), "c".parse().unwrap());
        promises.add(&repository, &digest_of(b"x"), BlobAsker::Pusher, 1000);
        for number in 0..=GENERATION_MAX {
            promises.add(&other, &digest_of(&number.to_le_bytes()), BlobAsker::Puller, 1000);
        }
        let last = |repository| promises.answered(repository).get(&digest_of(b"x")).copied();
        let answer = |at, to_pusher_at| Some(Answer { at, to_pusher_at });
        assert_eq!((last(&repository), last(&other)), (answer(1000, Some(1000)), None));
        promises.add(&repository, &digest_of(b"x"), BlobAsker::Puller, 2000);
        assert_eq!(
            last(&repository),
            answer(2000, Some(1000)),
            "also when the first answer is in the old generation"
        );
        for number in 0..2 * GENERATION_MAX {
            promises.add(&other, &digest_of(&number.to_le_bytes()), BlobAsker::Puller, 1000);
        }
        let generations = lock(&promises.generations);
        assert!(generations.young.len() + generations.old.len() <= 2 * GENERATION_MAX);
    }

    #[test]
    fn uploads_in_flight_are_counted() {
        let uploads = UploadsInFlight::default();
        let repository: Repository = "a/b".parse().unwrap();
        let (one, two) = (uploads.begin(&repository), uploads.begin(&repository));
        drop(one);
        assert!(uploads.contains(&repository));
        drop(two);
        assert!(!uploads.contains(&repository) && lock(&uploads.counts).is_empty());
    }
}
