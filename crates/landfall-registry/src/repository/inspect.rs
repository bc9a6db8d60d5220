//! What a registry's directory holds: listed, counted and verified. Reads only, without the store's lock, so that it can be
//! asked while the registry is served.

use std::collections::BTreeMap;

use camino::Utf8Path;
use landfall_core::oci_types::parse_manifest;
use landfall_core::reference::{Digest, Repository, Tag};
use landfall_oci::digest::{Algorithm, Digester};
use landfall_oci::image::BlobState;
use landfall_oci::store::ContentStore;
use landfall_oci::store::error::StoreError;
use serde::Serialize;

use crate::repository::disk_space::DiskSpace;
use crate::repository::record::Record;
use crate::repository::records::Records;

/// A registry's directory.
#[derive(Debug)]
pub struct RegistryInspector {
    store: ContentStore,
    records: Records,
}

/// One repository, as it is listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ListedRepository {
    /// The repository.
    pub name: Repository,
    /// Its tags, each with the digest that it stands for.
    pub tags: BTreeMap<String, Digest>,
    /// How many manifests have no tag: platforms of an index, mostly.
    pub untagged: usize,
    /// The bytes of everything that its manifests reach, each blob counted once.
    pub bytes: u64,
}

/// Sums over a registry.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RegistryStats {
    /// Repositories that hold a manifest.
    pub repositories: usize,
    /// Tags of all of them.
    pub tags: usize,
    /// Manifests of all of them.
    pub manifests: usize,
    /// Blobs on disk, each once, manifests included.
    pub blobs: usize,
    /// Their bytes.
    pub blob_bytes: u64,
    /// Bytes of uploads and downloads that are not done.
    pub unfinished_bytes: u64,
    /// What the disk has left, in bytes.
    pub free_bytes: u64,
    /// What the disk has, in bytes.
    pub disk_bytes: u64,
}

/// What verifying found.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Verification {
    /// Blobs that were read.
    pub blobs: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Blobs that are not what their names say.
    pub damaged: Vec<Digest>,
    /// Content that is named and not there.
    pub missing: Vec<MissingContent>,
}

/// A piece of content that is named and not there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MissingContent {
    /// Where it is named.
    pub repository: Repository,
    /// The manifest that names it; itself, when the repository lists it.
    pub manifest: Digest,
    /// What is missing.
    pub digest: Digest,
    /// Whether that may be: an index may name platforms that nobody pushed.
    pub allowed: bool,
}

impl Verification {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.damaged.is_empty() && self.missing.iter().all(|missing| missing.allowed)
    }
}

impl RegistryInspector {
    /// Looks at the store in `root` and the records in `directory`.
    #[must_use]
    pub fn new(root: &Utf8Path, directory: &Utf8Path) -> RegistryInspector {
        RegistryInspector {
            store: ContentStore::read_only(root),
            records: Records::read_only(directory),
        }
    }

    /// All repositories that hold a manifest, in order. Blocks.
    ///
    /// # Errors
    /// When the disk does not answer.
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
            for digest in self.store.reachable(record.manifests.keys().cloned())? {
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

    /// The manifest that has this tag and no other one. Blocks.
    ///
    /// # Errors
    /// When the repository's record cannot be read.
    pub fn find_solely_tagged(&self, repository: &Repository, tag: &Tag) -> Result<Option<Digest>, StoreError> {
        let only = |record: &Record| {
            let digest = record.tags.get(tag)?;
            let tags = record.tags.values().filter(|tagged| *tagged == digest).count();
            (tags == 1).then(|| digest.clone())
        };
        Ok(self.records.peek(repository, only)?.flatten())
    }

    /// Counts. Blocks.
    ///
    /// # Errors
    /// When the disk does not answer.
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
        let disk = DiskSpace::of(&self.store)?;
        (stats.free_bytes, stats.disk_bytes) = (disk.free, disk.total);
        Ok(stats)
    }

    /// Reads every blob and looks for everything that a manifest names. Blocks for as long as the disk needs; `progress` is
    /// told the bytes that were read.
    ///
    /// # Errors
    /// When the disk does not answer. What it answers wrongly is in the result.
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
                // Collected since it was listed.
                Err(StoreError::Missing { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        for name in self.records.names()? {
            let manifests: Vec<Digest> = self
                .records
                .peek(&name, |record| record.manifests.keys().cloned().collect())?
                .unwrap_or_default();
            for manifest in manifests {
                self.verify_children(&name, &manifest, &mut found)?;
            }
        }
        Ok(found)
    }

    fn verify_children(
        &self,
        repository: &Repository,
        manifest: &Digest,
        found: &mut Verification,
    ) -> Result<(), StoreError> {
        let mut miss = |digest: &Digest, allowed: bool| {
            found.missing.push(MissingContent {
                repository: repository.clone(),
                manifest: manifest.clone(),
                digest: digest.clone(),
                allowed,
            });
        };
        let bytes = match self.store.read_blob(manifest, landfall_oci::store::MANIFEST_SIZE_MAX) {
            Ok(bytes) => bytes,
            Err(StoreError::Missing { .. }) => {
                miss(manifest, false);
                return Ok(());
            }
            // It is among the damaged already.
            Err(StoreError::Damaged { .. }) => return Ok(()),
            Err(error) => return Err(error),
        };
        let content = parse_manifest(&bytes).map_err(|source| StoreError::Manifest {
            digest: manifest.clone(),
            source,
        })?;
        for child in content.children() {
            if !child.is_foreign() && self.store.blob_state(child)? != BlobState::Complete {
                miss(&child.digest, child.is_manifest());
            }
        }
        Ok(())
    }
}
