//! Repositories of a registry over one content store.
//!
//! Each repository has a small record, `<directory>/<name>/_record.jsonl`, with a line per change. The registry
//! acknowledges a push once it is on disk: the blob or manifest in the store, and its line in the record. Two rules
//! keep images complete during garbage collection: a blob is held before a record or a client relies on it, and a
//! manifest's line is written only once its children are there.

pub(crate) mod age_clock;
pub mod directories;
pub(crate) mod gc;
pub(crate) mod in_place;
pub mod inspect;
pub(crate) mod manifest_cache;
pub(crate) mod promises;
pub(crate) mod record;
pub(crate) mod records;
pub(crate) mod remove;
pub(crate) mod servable;
pub(crate) mod take_in;
pub(crate) mod upload_sessions;
pub(crate) mod whole_images;

use std::sync::Arc;

use camino::Utf8Path;
use jiff::Timestamp;
use landfall_core::reference::{Digest, Repository};
use landfall_oci::content::places::Places;
use landfall_oci::store::ContentStore;
use landfall_oci::store::disk_space::MinFreeSpace;
use landfall_oci::store::error::StoreError;
use tokio::sync::watch;

use crate::api::budgets::Budgets;
use crate::repository::age_clock::AgeClock;
use crate::repository::manifest_cache::ManifestCache;
use crate::repository::promises::{Promises, UploadInFlight, UploadsInFlight};
use crate::repository::record::RecordChange;
use crate::repository::records::Records;
use crate::repository::upload_sessions::UploadSessions;

/// Age in seconds after which a repeated push renews a blob's time, so that the blob is kept until its manifest is
/// pushed.
const RENEW_AFTER_SECONDS: u64 = 60;
/// Age in seconds of the last push activity on disk after which an answer to a client renews it. A restart loses at most
/// this much of a repository's activity.
const RENEW_ACTIVITY_AFTER_SECONDS: u64 = 60 * 60;

/// Repositories that are searched for a blob to mount, if the client names no repository.
const MOUNT_SEARCH_MAX: usize = 1000;

/// Client that asks for a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BlobAsker {
    /// A client that asks by HEAD: it probably pushes an image.
    Pusher,
    /// A client that downloads the blob.
    Puller,
}

/// Answer to a client about a blob that the repository has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BlobAnswer {
    /// Size in bytes.
    pub(crate) size: u64,
    /// True if the caller has to link the blob again before it answers, so that a restart remembers the answer.
    pub(crate) renew: bool,
}

/// Content of a registry.
#[derive(Debug)]
pub struct Registry {
    // Dropped first: it is saved while the store is locked.
    pub(crate) clock: AgeClock,
    pub(crate) store: ContentStore,
    pub(crate) records: Records,
    pub(crate) upload_sessions: UploadSessions,
    pub(crate) promises: Promises,
    pub(crate) in_flight: UploadsInFlight,
    pub(crate) manifest_cache: ManifestCache,
    pub(crate) budgets: Budgets,
    /// Content that is served out of bundles where the store lacks it.
    pub(crate) places: Arc<Places>,
    /// Number of losses so far: deletions of manifests, and content that was found missing.
    losses: watch::Sender<u64>,
}

impl Registry {
    /// Opens the repositories in a directory, and makes the directory if it is missing. Records are loaded on first
    /// use.
    ///
    /// # Errors
    /// Returns an error if the directory cannot be made.
    pub fn open(store: ContentStore, directory: &Utf8Path) -> Result<Registry, StoreError> {
        let records = Records::open(directory)?;
        Ok(Registry::new(store, records, AgeClock::open(directory)))
    }

    /// Opens the repositories in a directory that is not written.
    #[must_use]
    pub fn open_read_only(store: ContentStore, directory: &Utf8Path) -> Registry {
        Registry::new(store, Records::read_only(directory), AgeClock::unsaved())
    }

    fn new(store: ContentStore, records: Records, clock: AgeClock) -> Registry {
        Registry {
            clock,
            store,
            records,
            upload_sessions: UploadSessions::default(),
            promises: Promises::default(),
            in_flight: UploadsInFlight::default(),
            manifest_cache: ManifestCache::default(),
            budgets: Budgets::default(),
            places: Arc::default(),
            losses: watch::Sender::new(0),
        }
    }

    /// Returns a receiver that changes whenever the registry loses images: by a deletion, or because content was found
    /// missing. [`Registry::can_serve`] tells which images are left.
    #[must_use]
    pub fn watch_losses(&self) -> watch::Receiver<u64> {
        self.losses.subscribe()
    }

    /// Returns the number of losses so far.
    pub(crate) fn losses(&self) -> u64 {
        *self.losses.borrow()
    }

    pub(crate) fn note_loss(&self) {
        self.losses.send_modify(|losses| *losses += 1);
    }

    /// Sets the free space below which the registry rejects uploads.
    #[must_use]
    pub fn with_min_free_space(self, min_free_space: MinFreeSpace) -> Registry {
        self.store.set_min_free_space(min_free_space);
        self
    }

    /// Takes the registry's directories away from other users of this machine: without a login they may read nothing.
    ///
    /// # Errors
    /// Returns an error if the process does not own them.
    pub fn restrict_access(&self) -> Result<(), StoreError> {
        self.store.restrict_access()?;
        self.records.restrict_access()
    }

    /// Finds the digest of a repository's manifest by tag or digest.
    ///
    /// # Errors
    /// Returns an error if the record cannot be read.
    pub fn find_manifest(&self, repository: &Repository, selector: &str) -> Result<Option<Digest>, StoreError> {
        let found = self.records.peek(repository, |record| {
            record.select(selector).map(|(digest, _)| digest.clone())
        })?;
        Ok(found.flatten())
    }

    /// Returns the number of requests that each budget refused.
    pub(crate) fn refusals(&self) -> Vec<(&'static str, u64)> {
        let sessions = ("sessions", self.upload_sessions.refusals());
        self.budgets.refusals().into_iter().chain([sessions]).collect()
    }

    /// Records that a blob belongs to a repository. The caller tells the client so.
    pub(crate) fn link(&self, repository: &Repository, digest: &Digest) -> Result<(), StoreError> {
        let (at, run_seconds) = (Timestamp::now(), self.clock.now());
        self.records.change(repository, |record| {
            let link = record.blobs.get(digest);
            if link.is_some_and(|link| run_seconds.saturating_sub(link.run_seconds) < RENEW_AFTER_SECONDS) {
                self.promises.add(repository, digest, BlobAsker::Pusher, run_seconds);
                return (Vec::new(), ());
            }
            let change = RecordChange::AddBlob {
                digest: digest.clone(),
                at,
                run_seconds,
                settled: false,
            };
            (vec![change], ())
        })
    }

    /// Returns true if a blob belongs to a repository.
    pub(crate) fn has_blob(&self, repository: &Repository, digest: &Digest) -> Result<bool, StoreError> {
        let cached = self.records.get(repository)?;
        Ok(cached.is_some_and(|cached| cached.read().has_blob(digest)))
    }

    /// Finds the answer for a client that asks for a blob. Collection keeps a blob whose presence is reported.
    pub(crate) fn answer_blob(
        &self,
        repository: &Repository,
        digest: &Digest,
        asker: BlobAsker,
    ) -> Result<Option<BlobAnswer>, StoreError> {
        let Some(cached) = self.records.get(repository)? else {
            return Ok(None);
        };
        let now = self.clock.now();
        let activity_on_disk;
        {
            // No blob is unlinked while the record is locked.
            let record = cached.read();
            if !record.has_blob(digest) {
                return Ok(None);
            }
            self.promises.add(repository, digest, asker, now);
            if asker == BlobAsker::Pusher {
                cached.note_activity(&record, now);
            }
            activity_on_disk = record.active_at;
        }
        let size = self.store.blob_size(digest)?;
        if size.is_none() {
            self.note_loss();
        }
        Ok(size.map(|size| BlobAnswer {
            size,
            renew: asker == BlobAsker::Pusher && now.saturating_sub(activity_on_disk) >= RENEW_ACTIVITY_AFTER_SECONDS,
        }))
    }

    /// Notes that a client pushes to a repository, until the result is dropped.
    pub(crate) fn begin_upload(&self, repository: &Repository) -> Result<UploadInFlight, StoreError> {
        let in_flight = self.in_flight.begin(repository);
        if let Some(cached) = self.records.get(repository)? {
            cached.note_activity(&cached.read(), self.clock.now());
        }
        Ok(in_flight)
    }

    /// Returns true if a repository of this registry has the blob. Looks at the repositories in use, and at a limited
    /// number of others: a client that is told no uploads the blob. Blocks.
    pub(crate) fn is_linked_anywhere(&self, digest: &Digest) -> Result<bool, StoreError> {
        if self.records.any_cached(|record| record.has_blob(digest)) {
            return Ok(true);
        }
        for repository in self.records.names()?.into_iter().take(MOUNT_SEARCH_MAX) {
            if self.records.peek(&repository, |record| record.has_blob(digest))? == Some(true) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Returns an error if `incoming` bytes would leave too little free space.
    pub(crate) fn check_space(&self, incoming: u64) -> Result<(), StoreError> {
        self.store.check_space(incoming)
    }
}
