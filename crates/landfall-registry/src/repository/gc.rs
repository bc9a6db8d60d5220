//! Garbage collection while the registry is served: unlinks unreferenced blobs and deletes their files.

use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use landfall_core::reference::{Digest, Repository};
use landfall_oci::store::error::StoreError;
use landfall_oci::store::gc::{GcReport, Roots};

use crate::repository::Registry;
use crate::repository::record::{Record, RecordChange};

/// Time for which a pushed blob is kept without a manifest.
pub const GRACE: Duration = Duration::from_secs(60 * 60);

impl Registry {
    /// Deletes the blobs that no repository, no named image of the store and no push in flight references. A pushed
    /// blob without a manifest is kept for `grace`. Blocks.
    ///
    /// # Errors
    /// Returns an error if the disk fails.
    pub fn gc(&self, grace: Duration, now: SystemTime) -> Result<GcReport, StoreError> {
        self.upload_sessions.expire();
        self.head_leases.expire();
        self.store.gc(|| self.roots(grace, now), now)
    }

    /// Returns the blobs and manifests of all repositories, after unlinking unreferenced blobs.
    fn roots(&self, grace: Duration, now: SystemTime) -> Result<Roots, StoreError> {
        let oldest = now.checked_sub(grace).unwrap_or(SystemTime::UNIX_EPOCH);
        let oldest = Timestamp::try_from(oldest).unwrap_or(Timestamp::MIN);
        let mut roots = Roots::default();
        for repository in self.records.names()? {
            let snapshot = self.records.peek(&repository, Snapshot::take)?.unwrap_or_default();
            self.drop_unreferenced(&repository, &snapshot, oldest)?;
            // Read again, to include what was pushed meanwhile.
            let now = self.records.peek(&repository, Snapshot::take)?.unwrap_or_default();
            roots.manifests.extend(now.manifests);
            roots.blobs.extend(now.blobs.into_iter().map(|(digest, _)| digest));
        }
        Ok(roots)
    }

    /// Unlinks the blobs of a repository that are older than `oldest` and that no manifest references.
    fn drop_unreferenced(
        &self,
        repository: &Repository,
        snapshot: &Snapshot,
        oldest: Timestamp,
    ) -> Result<(), StoreError> {
        let mut stale = snapshot.blobs.iter().filter(|(_, at)| *at <= oldest).peekable();
        if stale.peek().is_none() {
            return Ok(());
        }
        let reachable = self.store.reachable(snapshot.manifests.iter().cloned())?;
        if !reachable.unreadable.is_empty() {
            tracing::warn!(%repository, manifests = ?reachable.unreadable, "manifests cannot be read: nothing of their \
                repository is collected until `landfall registry verify --delete-damaged` or a push has repaired them");
            return Ok(());
        }
        let drops: Vec<RecordChange> = stale
            .filter(|(digest, _)| !reachable.content.contains(digest))
            .map(|(digest, _)| RecordChange::DropBlob { digest: digest.clone() })
            .collect();
        if drops.is_empty() {
            return Ok(());
        }
        self.records.change(repository, |record| {
            // A concurrent push may reference some of them. The next collection checks them again.
            let same = record.changes == snapshot.changes;
            (if same { drops } else { Vec::new() }, ())
        })
    }
}

#[derive(Debug, Default)]
struct Snapshot {
    changes: u64,
    manifests: Vec<Digest>,
    blobs: Vec<(Digest, Timestamp)>,
}

impl Snapshot {
    fn take(record: &Record) -> Snapshot {
        Snapshot {
            changes: record.changes,
            manifests: record.manifests.keys().cloned().collect(),
            blobs: record.blobs.iter().map(|(digest, at)| (digest.clone(), *at)).collect(),
        }
    }
}
