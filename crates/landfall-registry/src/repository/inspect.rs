//! Inspection of a registry's directory: listing, statistics and verification. It only reads, without the store's lock,
//! so it works while the registry is served.

use std::collections::{BTreeMap, BTreeSet};

use camino::Utf8Path;
use landfall_core::oci_types::parse_manifest;
use landfall_core::reference::{Digest, Repository, Tag};
use landfall_oci::digest::{Algorithm, Digester};
use landfall_oci::image::BlobState;
use landfall_oci::store::error::StoreError;
use landfall_oci::store::{ContentStore, MANIFEST_SIZE_MAX};
use serde::Serialize;

use crate::repository::record::Record;
use crate::repository::records::Records;

/// Read-only view of a registry's directory.
#[derive(Debug)]
pub struct RegistryInspector {
    store: ContentStore,
    records: Records,
}

/// A repository in a listing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ListedRepository {
    pub name: Repository,
    /// Tags with their digests.
    pub tags: BTreeMap<String, Digest>,
    /// Manifests without a tag, mostly platforms of an index.
    pub untagged: usize,
    /// Size of everything that the manifests reach, in bytes. Each blob counts once.
    pub bytes: u64,
}

/// Statistics of a registry.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RegistryStats {
    /// Repositories that hold a manifest.
    pub repositories: usize,
    /// Tags of all repositories.
    pub tags: usize,
    /// Manifests of all repositories.
    pub manifests: usize,
    /// Blobs on disk, each counted once, including manifests.
    pub blobs: usize,
    /// Size of the blobs.
    pub blob_bytes: u64,
    /// Size of unfinished uploads and downloads.
    pub unfinished_bytes: u64,
    /// Free bytes of the disk.
    pub free_bytes: u64,
    /// Total bytes of the disk.
    pub disk_bytes: u64,
}

/// Result of a verification.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Verification {
    /// Number of blobs that were read.
    pub blobs: usize,
    /// Bytes that were read.
    pub bytes: u64,
    /// Blobs whose content does not match their digest.
    pub damaged: Vec<Digest>,
    /// Content that a manifest or record names and the store lacks.
    pub missing: Vec<MissingContent>,
}

/// A named piece of content that is missing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MissingContent {
    /// Repository that names it.
    pub repository: Repository,
    /// Manifest that names it, or the missing manifest itself if the record lists it.
    pub manifest: Digest,
    pub digest: Digest,
    pub problem: ContentProblem,
    /// True if the content may be missing: an index may name platforms that were not pushed.
    pub allowed: bool,
}

/// Reason why a repository cannot serve content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum ContentProblem {
    /// The store lacks it, or has it with another size.
    Missing,
    /// The store has it, and the repository does not list it.
    Unlisted,
    /// The manifest is intact and cannot be understood.
    Unreadable,
}

impl Verification {
    /// Returns true if nothing is damaged, and everything required is there.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.damaged.is_empty() && self.missing.iter().all(|missing| missing.allowed)
    }
}

impl RegistryInspector {
    /// Returns a view of the store in `root` and the records in `directory`.
    #[must_use]
    pub fn new(root: &Utf8Path, directory: &Utf8Path) -> RegistryInspector {
        RegistryInspector {
            store: ContentStore::read_only(root),
            records: Records::read_only(directory),
        }
    }

    /// Lists the repositories that hold a manifest, in order. Blocks.
    ///
    /// # Errors
    /// Returns an error if the disk fails.
    pub fn repositories(&self) -> Result<Vec<ListedRepository>, StoreError> {
        let mut listed = Vec::new();
        for name in self.records.names()? {
            let Some(record) = self.records.peek(&name, Record::clone)? else {
                continue;
            };
            if record.manifests.is_empty() {
                continue;
            }
            let tagged = record
                .manifests
                .keys()
                .filter(|digest| record.tags.values().any(|tagged| tagged == *digest))
                .count();
            let mut bytes = 0;
            for digest in self.store.reachable(record.manifests.keys().cloned())?.content {
                bytes += self.store.blob_size(&digest)?.unwrap_or_default();
            }
            listed.push(ListedRepository {
                untagged: record.manifests.len() - tagged,
                tags: record
                    .tags
                    .into_iter()
                    .map(|(tag, digest)| (tag.into(), digest))
                    .collect(),
                name,
                bytes,
            });
        }
        Ok(listed)
    }

    /// Finds the manifest of a tag, if it has no other tag. Blocks.
    ///
    /// # Errors
    /// Returns an error if the repository's record cannot be read.
    pub fn find_solely_tagged(&self, repository: &Repository, tag: &Tag) -> Result<Option<Digest>, StoreError> {
        let only = |record: &Record| {
            let digest = record.tags.get(tag)?;
            let tags = record.tags.values().filter(|tagged| *tagged == digest).count();
            (tags == 1).then(|| digest.clone())
        };
        Ok(self.records.peek(repository, only)?.flatten())
    }

    /// Counts the registry's content. Blocks.
    ///
    /// # Errors
    /// Returns an error if the disk fails.
    pub fn stats(&self) -> Result<RegistryStats, StoreError> {
        let mut stats = RegistryStats::default();
        for name in self.records.names()? {
            let counts = |record: &Record| (record.tags.len(), record.manifests.len());
            let (tags, manifests) = self.records.peek(&name, counts)?.unwrap_or_default();
            stats.repositories += usize::from(manifests > 0);
            stats.tags += tags;
            stats.manifests += manifests;
        }
        for digest in self.store.blobs()? {
            stats.blobs += 1;
            stats.blob_bytes += self.store.blob_size(&digest)?.unwrap_or_default();
        }
        stats.unfinished_bytes = self.store.unfinished_bytes()?;
        let disk = self.store.disk_space()?;
        (stats.free_bytes, stats.disk_bytes) = (disk.free, disk.total);
        Ok(stats)
    }

    /// Reads and hashes every blob, and checks that each repository can serve everything that its tags and manifests name. Blocks while it reads
    /// the whole store. `progress` receives the number of bytes of each read.
    ///
    /// # Errors
    /// Returns an error if the disk fails. Wrong content is part of the result.
    pub fn verify(&self, mut progress: impl FnMut(u64)) -> Result<Verification, StoreError> {
        let mut found = Verification::default();
        for digest in self.store.blobs()? {
            match self.store.open_blob(&digest, 0) {
                Ok(mut file) => {
                    let mut digester = Digester::new(Algorithm::of(&digest));
                    digester.read_all(&mut file, &mut progress)?;
                    found.blobs += 1;
                    found.bytes += digester.length();
                    if digester.finish() != digest {
                        found.damaged.push(digest);
                    }
                }
                // Garbage collection deleted it after the listing.
                Err(StoreError::Missing { .. }) => {}
                // A link, a pipe.
                Err(StoreError::Damaged { .. }) => found.damaged.push(digest),
                Err(error) => return Err(error),
            }
        }
        for name in self.records.names()? {
            let record = self.records.peek(&name, Record::clone)?.unwrap_or_default();
            self.verify_repository(&name, &record, &mut found)?;
        }
        Ok(found)
    }

    /// Checks that a repository can serve its tags, its manifests, and all content that they name [spec:primary.verify].
    fn verify_repository(
        &self,
        repository: &Repository,
        record: &Record,
        found: &mut Verification,
    ) -> Result<(), StoreError> {
        let mut report = |manifest: &Digest, digest: &Digest, problem: ContentProblem, allowed: bool| {
            found.missing.push(MissingContent {
                repository: repository.clone(),
                manifest: manifest.clone(),
                digest: digest.clone(),
                problem,
                allowed,
            });
        };
        let untold: BTreeSet<&Digest> = record.tags.values().collect();
        for tagged in untold
            .into_iter()
            .filter(|tagged| !record.manifests.contains_key(*tagged))
        {
            let problem = match self.store.blob_size(tagged)? {
                Some(_) => ContentProblem::Unlisted,
                None => ContentProblem::Missing,
            };
            report(tagged, tagged, problem, false);
        }
        for manifest in record.manifests.keys() {
            let bytes = match self.store.read_blob(manifest, MANIFEST_SIZE_MAX) {
                Ok(bytes) => bytes,
                Err(StoreError::Missing { .. }) => {
                    report(manifest, manifest, ContentProblem::Missing, false);
                    continue;
                }
                // It is already among the damaged.
                Err(StoreError::Damaged { .. }) => continue,
                Err(StoreError::Disk(error)) => return Err(error.into()),
                Err(_too_large) => {
                    report(manifest, manifest, ContentProblem::Unreadable, false);
                    continue;
                }
            };
            let Ok(content) = parse_manifest(&bytes) else {
                report(manifest, manifest, ContentProblem::Unreadable, false);
                continue;
            };
            for child in content.children().filter(|child| !child.is_foreign()) {
                let is_here = self.store.blob_state(child)? == BlobState::Complete;
                let is_linked = record.has_blob(&child.digest);
                let may_lack = !is_linked && content.role_of(child).may_be_manifest();
                if !is_here {
                    report(manifest, &child.digest, ContentProblem::Missing, may_lack);
                } else if !is_linked {
                    report(manifest, &child.digest, ContentProblem::Unlisted, may_lack);
                }
            }
        }
        Ok(())
    }
}
