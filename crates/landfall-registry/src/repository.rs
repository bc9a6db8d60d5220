//! Repositories of a registry over one content store.
//!
//! Each repository has a small record, `<directory>/<name>/_record.jsonl`, with a line per change. The registry
//! acknowledges a push once it is on disk: the blob or manifest in the store, and its line in the record. Two rules
//! keep images complete during garbage collection: a blob is held before a record or a client relies on it, and a
//! manifest's line is written only once its children are there.

pub mod directories;
pub(crate) mod gc;
pub(crate) mod head_leases;
pub mod inspect;
pub(crate) mod manifest_cache;
pub(crate) mod record;
pub(crate) mod records;
pub(crate) mod remove;
pub(crate) mod upload_sessions;

use camino::Utf8Path;
use jiff::Timestamp;
use landfall_core::reference::{Digest, Repository};
use landfall_oci::store::ContentStore;
use landfall_oci::store::disk_space::MinFreeSpace;
use landfall_oci::store::error::StoreError;

use crate::repository::head_leases::HeadLeases;
use crate::repository::manifest_cache::ManifestCache;
use crate::repository::record::RecordChange;
use crate::repository::records::Records;
use crate::repository::upload_sessions::UploadSessions;

/// Age in seconds after which a repeated push renews a blob's time, so that the blob is kept until its manifest is
/// pushed.
const RENEW_AFTER_SECONDS: i64 = 60;

/// Content of a registry.
#[derive(Debug)]
pub struct Registry {
    pub(crate) store: ContentStore,
    pub(crate) records: Records,
    pub(crate) upload_sessions: UploadSessions,
    pub(crate) head_leases: HeadLeases,
    pub(crate) manifest_cache: ManifestCache,
}

impl Registry {
    /// Opens the repositories in a directory, and makes the directory if it is missing. Records are loaded on first
    /// use.
    ///
    /// # Errors
    /// Returns an error if the directory cannot be made.
    pub fn open(store: ContentStore, directory: &Utf8Path) -> Result<Registry, StoreError> {
        Ok(Registry {
            store,
            records: Records::open(directory)?,
            upload_sessions: UploadSessions::default(),
            head_leases: HeadLeases::default(),
            manifest_cache: ManifestCache::default(),
        })
    }

    /// Sets the free space below which the registry rejects uploads.
    #[must_use]
    pub fn with_min_free_space(self, min_free_space: MinFreeSpace) -> Registry {
        self.store.set_min_free_space(min_free_space);
        self
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

    /// Records that a blob belongs to a repository.
    pub(crate) fn link(&self, repository: &Repository, digest: &Digest) -> Result<(), StoreError> {
        let now = Timestamp::now();
        self.records.change(repository, |record| {
            let fresh = record
                .blobs
                .get(digest)
                .is_some_and(|at| now.as_second() - at.as_second() < RENEW_AFTER_SECONDS);
            let change = (!fresh).then(|| RecordChange::AddBlob {
                digest: digest.clone(),
                at: now,
            });
            (change.into_iter().collect(), ())
        })
    }

    /// Returns true if a blob belongs to a repository.
    pub(crate) fn has_blob(&self, repository: &Repository, digest: &Digest) -> Result<bool, StoreError> {
        let cached = self.records.get(repository)?;
        Ok(cached.is_some_and(|cached| cached.read().has_blob(digest)))
    }

    /// Returns an error if `incoming` bytes would leave too little free space.
    pub(crate) fn check_space(&self, incoming: u64) -> Result<(), StoreError> {
        self.store.check_space(incoming)
    }
}
