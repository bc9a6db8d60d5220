//! The repositories of a registry: what each of them holds, over one content store.
//!
//! Repositories are small records, `<directory>/<name>/_record.jsonl`, a line for each change. What was acknowledged is on
//! disk: a blob in its place and its line in the record, a manifest likewise. Two rules keep images whole while garbage is
//! collected: a blob is held before anybody counts on it, and a manifest's line comes only once its parts are there.

pub mod directories;
pub(crate) mod disk_space;
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
use landfall_oci::store::error::StoreError;

use crate::repository::disk_space::{DiskSpace, MinFreeSpace};
use crate::repository::head_leases::HeadLeases;
use crate::repository::manifest_cache::ManifestCache;
use crate::repository::record::Change;
use crate::repository::records::Records;
use crate::repository::upload_sessions::UploadSessions;

/// A blob that is pushed once more has its time renewed when that is older than this, so that it does not go while the
/// manifest is on its way.
const RENEW_AFTER_SECONDS: i64 = 60;

/// The registry's content.
#[derive(Debug)]
pub struct Registry {
    pub(crate) store: ContentStore,
    pub(crate) records: Records,
    pub(crate) upload_sessions: UploadSessions,
    pub(crate) head_leases: HeadLeases,
    min_free_space: MinFreeSpace,
    pub(crate) manifest_cache: ManifestCache,
}

impl Registry {
    /// Opens the repositories in a directory, which is made when it is not there. Records are read when they are asked
    /// for.
    ///
    /// # Errors
    /// When the directory cannot be made.
    pub fn open(store: ContentStore, directory: &Utf8Path) -> Result<Registry, StoreError> {
        Ok(Registry {
            store,
            records: Records::open(directory)?,
            upload_sessions: UploadSessions::default(),
            head_leases: HeadLeases::default(),
            manifest_cache: ManifestCache::default(),
            min_free_space: MinFreeSpace::default(),
        })
    }

    /// Refuses uploads below another amount of free space than the default.
    #[must_use]
    pub fn with_min_free_space(mut self, min_free_space: MinFreeSpace) -> Registry {
        self.min_free_space = min_free_space;
        self
    }

    /// The digest of the manifest that a repository has under a tag or digest.
    ///
    /// # Errors
    /// When its record cannot be read.
    pub fn find_manifest(&self, repository: &Repository, selector: &str) -> Result<Option<Digest>, StoreError> {
        let found = self.records.peek(repository, |record| {
            record.select(selector).map(|(digest, _)| digest.clone())
        })?;
        Ok(found.flatten())
    }

    /// Writes down that a blob belongs to a repository.
    pub(crate) fn link(&self, repository: &Repository, digest: &Digest) -> Result<(), StoreError> {
        let now = Timestamp::now();
        self.records.change(repository, |record| {
            let fresh = record
                .blobs
                .get(digest)
                .is_some_and(|at| now.as_second() - at.as_second() < RENEW_AFTER_SECONDS);
            let change = (!fresh).then(|| Change::AddBlob {
                digest: digest.clone(),
                at: now,
            });
            (change.into_iter().collect(), ())
        })
    }

    /// Whether a blob belongs to a repository.
    pub(crate) fn has_blob(&self, repository: &Repository, digest: &Digest) -> Result<bool, StoreError> {
        let cached = self.records.get(repository)?;
        Ok(cached.is_some_and(|cached| cached.read().has_blob(digest)))
    }

    /// Refuses bytes for which there is no room.
    pub(crate) fn check_space(&self, incoming: u64) -> Result<(), StoreError> {
        let DiskSpace { free, total } = DiskSpace::of(&self.store)?;
        let floor = self.min_free_space.for_disk(total);
        if free < floor.saturating_add(incoming) {
            return Err(StoreError::NoSpace { free, floor, incoming });
        }
        Ok(())
    }
}
