//! Promises: the content that clients were told of. A client that pushes an image asks for its blobs, uploads the missing
//! ones, and relies on the answers until it pushes the manifest [spec:primary.collection].
//!
//! Three things hold a blob without a manifest: its own stamp in the record, the push activity of its repository, and
//! the answers of this module. A repository's collection is put off while an upload is in flight in it.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};

use landfall_core::reference::{Digest, Repository};
use landfall_core::sync::lock;

/// Shortest time for which an answer holds, in seconds of run time, whatever the grace of a collection.
const HOLDS_FOR_MIN: u64 = 15 * 60;
/// Answers of one generation. Two generations are kept.
const GENERATION_MAX: usize = 8192;

/// Answers to clients about blobs, each with its time.
#[derive(Debug, Default)]
pub(crate) struct Promises {
    generations: Mutex<Generations>,
}

#[derive(Debug, Default)]
struct Generations {
    young: HashMap<(Repository, Digest), u64>,
    old: HashMap<(Repository, Digest), u64>,
}

impl Promises {
    /// Adds an answer. The oldest are dropped at the limit; the activity of their repositories still holds them.
    pub(crate) fn add(&self, repository: &Repository, digest: &Digest, run_seconds: u64) {
        let mut generations = lock(&self.generations);
        if generations.young.len() >= GENERATION_MAX {
            generations.old = std::mem::take(&mut generations.young);
        }
        generations
            .young
            .insert((repository.clone(), digest.clone()), run_seconds);
    }

    /// Returns the blobs of a repository that a collection with this grace has to keep.
    pub(crate) fn held(&self, repository: &Repository, grace: u64, now: u64) -> HashSet<Digest> {
        let holds_for = grace.max(HOLDS_FOR_MIN);
        let generations = lock(&self.generations);
        let answers = generations.young.iter().chain(&generations.old);
        answers
            .filter(|((of, _), at)| of == repository && now.saturating_sub(**at) < holds_for)
            .map(|((_, digest), _)| digest.clone())
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
    fn an_answer_holds_for_the_grace_and_a_quarter_of_an_hour_at_least() {
        let promises = Promises::default();
        let (repository, other): (Repository, Repository) = ("a/b".parse().unwrap(), "c".parse().unwrap());
        promises.add(&repository, &digest_of(b"x"), 1000);
        for (repository, grace, now, held) in [
            (&repository, 0, 1899, true),
            (&repository, 0, 1900, false),
            (&repository, 3600, 4599, true),
            (&repository, 3600, 4600, false),
            // The clock is behind after a crash.
            (&repository, 0, 10, true),
            (&other, 3600, 1000, false),
        ] {
            let found = promises.held(repository, grace, now).contains(&digest_of(b"x"));
            assert_eq!(found, held, "{repository} {grace} {now}");
        }
        for number in 0..2 * GENERATION_MAX {
            promises.add(&other, &digest_of(&number.to_le_bytes()), 1000);
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
