//! Garbage collection while the registry is served: unlinks unreferenced blobs and deletes their files
//! [spec:primary.collection].

use std::time::{Duration, SystemTime};

use landfall_core::reference::{Digest, Repository};
use landfall_oci::store::error::StoreError;
use landfall_oci::store::gc::{GcReport, Roots};

use crate::repository::Registry;
use crate::repository::promises::Answer;
use crate::repository::record::Record;

/// Age in graces at which a blob without a manifest is deleted although pushes to its repository go on: a repository
/// that is pushed to every hour would keep its garbage for ever. An upload in flight still holds the blob.
const AGE_MAX_IN_GRACES: u64 = 7;
/// Shortest time in seconds for which an answer to a client that pushes holds, whatever the grace of a collection.
const PROMISE_MIN: u64 = 15 * 60;

impl Registry {
    /// Deletes the blobs that no repository, no named image of the store and no push in flight references. Blobs without
    /// a manifest are kept for `grace` after the last push activity in their repository. `now` tells the age of partial
    /// files. Blocks.
    ///
    /// # Errors
    /// Returns an error if the disk fails.
    pub fn gc(&self, grace: Duration, now: SystemTime) -> Result<GcReport, StoreError> {
        self.upload_sessions.expire();
        let report = self.store.gc(|| self.roots(grace), now);
        self.clock.save();
        report
    }

    /// Returns the blobs and manifests of all repositories, after unlinking unreferenced blobs.
    fn roots(&self, grace: Duration) -> Result<Roots, StoreError> {
        let names = self.records.names()?;
        self.settle_clock(&names)?;
        let mut roots = Roots::default();
        for repository in names {
            let snapshot = self.records.peek(&repository, Snapshot::take)?.unwrap_or_default();
            self.drop_unreferenced(&repository, &snapshot, grace)?;
            // Read again, to include what was pushed meanwhile.
            let now = self.records.peek(&repository, Snapshot::take)?.unwrap_or_default();
            roots.manifests.extend(now.manifests);
            roots.blobs.extend(now.blobs.into_iter().map(|(digest, _)| digest));
        }
        Ok(roots)
    }

    fn settle_clock(&self, names: &[Repository]) -> Result<(), StoreError> {
        if !self.clock.is_guess() {
            return Ok(());
        }
        let mut latest = 0;
        for repository in names {
            let active_at = self.records.peek(repository, |record| record.active_at)?;
            latest = latest.max(active_at.unwrap_or_default());
        }
        self.clock.settle(latest);
        Ok(())
    }

    /// Unlinks the blobs of a repository that no manifest references and no client relies on.
    fn drop_unreferenced(
        &self,
        repository: &Repository,
        snapshot: &Snapshot,
        grace: Duration,
    ) -> Result<(), StoreError> {
        let rule = DropRule {
            grace: grace.as_secs(),
            now: self.clock.now(),
        };
        let mut stale = snapshot
            .blobs
            .iter()
            .filter(|(_, link)| rule.is_stale(link.at))
            .peekable();
        if stale.peek().is_none() {
            return Ok(());
        }
        let reachable = self.store.reachable(snapshot.manifests.iter().cloned())?;
        if !reachable.unreadable.is_empty() {
            tracing::warn!(%repository, manifests = ?reachable.unreadable, "manifests cannot be read: nothing of their \
                repository is collected until `landfall registry verify --delete-damaged` or a push has repaired them");
            return Ok(());
        }
        let unreferenced: Vec<&(Digest, StampedLink)> = stale
            .filter(|(digest, _)| !reachable.content.contains(digest))
            .collect();
        if unreferenced.is_empty() {
            return Ok(());
        }
        self.records.drop_blobs(repository, |record, active_at| {
            // A concurrent push may reference some of them. The next collection checks them again.
            let changed = record.changes != snapshot.changes;
            if changed || self.in_flight.contains(repository) || self.upload_sessions.are_active(repository, grace) {
                return Vec::new();
            }
            let active_at = active_at.max(record.active_at);
            let answered = self.promises.answered(repository);
            unreferenced
                .into_iter()
                .filter(|(digest, link)| rule.drops(*link, answered.get(digest).copied(), active_at))
                .map(|(digest, _)| digest.clone())
                .collect()
        })
    }
}

/// Rule for blobs that no manifest references. Times are run times of the registry in seconds.
#[derive(Debug, Clone, Copy)]
struct DropRule {
    grace: u64,
    now: u64,
}

impl DropRule {
    fn age(self, at: u64) -> u64 {
        self.now.saturating_sub(at)
    }

    fn is_stale(self, at: u64) -> bool {
        self.age(at) >= self.grace
    }

    /// Returns true if a blob is deleted, with the last answers to clients about it and the last push activity in its
    /// repository. A blob whose manifest arrived and was deleted is no concern of the pushes that go on,
    /// unless a client was told of it.
    fn drops(self, link: StampedLink, answer: Option<Answer>, active_at: u64) -> bool {
        let no_push_waits = link.settled && answer.is_none();
        let told_at = link.at.max(answer.map_or(0, |answer| answer.at));
        let is_over = no_push_waits
            || self.is_stale(active_at)
            || self.age(told_at) >= self.grace.saturating_mul(AGE_MAX_IN_GRACES);
        let to_pusher_at = answer.and_then(|answer| answer.to_pusher_at);
        let is_promised = to_pusher_at.is_some_and(|at| self.age(at) < PROMISE_MIN);
        self.is_stale(told_at) && is_over && !is_promised
    }
}

/// Record of a blob, as far as the rule needs it.
#[derive(Debug, Clone, Copy)]
struct StampedLink {
    at: u64,
    settled: bool,
}

#[derive(Debug, Default)]
struct Snapshot {
    changes: u64,
    manifests: Vec<Digest>,
    blobs: Vec<(Digest, StampedLink)>,
}

impl Snapshot {
    fn take(record: &Record) -> Snapshot {
        let blobs = record.blobs.iter();
        Snapshot {
            changes: record.changes,
            manifests: record.manifests.keys().cloned().collect(),
            blobs: blobs
                .map(|(digest, link)| {
                    let stamped = StampedLink {
                        at: link.run_seconds,
                        settled: link.settled,
                    };
                    (digest.clone(), stamped)
                })
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blob_without_a_manifest_goes_after_a_grace_without_activity_or_after_seven() {
        let link = |at, settled| StampedLink { at, settled };
        for (grace, now, link, answered_at, active_at, drops) in [
            (10, 100, link(90, false), None, 90, true),
            (10, 100, link(91, false), None, 91, false),
            // Another push goes on in the repository.
            (10, 100, link(50, false), None, 95, false),
            (10, 100, link(31, false), None, 95, false),
            (10, 100, link(30, false), None, 95, true),
            (0, 100, link(100, false), None, 100, true),
            // Its manifest arrived and was deleted.
            (10, 100, link(90, true), None, 95, true),
            (10, 100, link(91, true), None, 95, false),
            // A client was told of it.
            (3600, 9000, link(0, true), Some(5401), 0, false),
            (3600, 9000, link(0, true), Some(5400), 0, true),
            (3600, 9000, link(0, true), Some(5400), 8000, false),
            (0, 9000, link(0, true), Some(8101), 0, false),
            (0, 9000, link(0, true), Some(8100), 0, true),
            // After a crash the clock is behind the stamps.
            (10, 100, link(5000, false), None, 5000, false),
            (10, 100, link(5000, true), Some(6000), 5000, false),
        ] {
            let answer = answered_at.map(|at| Answer {
                at,
                to_pusher_at: Some(at),
            });
            let dropped = DropRule { grace, now }.drops(link, answer, active_at);
            assert_eq!(dropped, drops, "{grace} {now} {link:?} {answered_at:?} {active_at}");
        }
        let pulled = Some(Answer {
            at: 9000,
            to_pusher_at: None,
        });
        let at_once = DropRule { grace: 0, now: 9000 };
        assert!(
            at_once.drops(link(0, true), pulled, 0),
            "a pull is no reason against a grace of 0"
        );
    }
}
