//! What each repository holds: a small JSON record on disk, the same in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use landfall_core::oci_types::{Descriptor, ManifestContent};
use landfall_core::reference::{Digest, Repository, Tag};
use serde::{Deserialize, Serialize};

use crate::store::durable;
use crate::store::error::StoreError;

/// No repository's path can have a component that begins like this.
const RECORD_FILE: &str = "_record.json";
const VERSION: u32 = 1;

/// One repository.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Record {
    version: u32,
    pub(super) tags: BTreeMap<Tag, Digest>,
    pub(super) manifests: BTreeMap<Digest, ManifestEntry>,
}

/// One manifest of a repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ManifestEntry {
    /// What it is served as, with size, artifact type and annotations as a list of referrers shows them.
    pub(super) descriptor: Descriptor,
    /// The manifest that it refers to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) subject: Option<Digest>,
    /// The configuration and layers that it names.
    #[serde(default)]
    blobs: BTreeSet<Digest>,
}

impl ManifestEntry {
    pub(super) fn new(mut descriptor: Descriptor, content: &ManifestContent) -> ManifestEntry {
        descriptor.artifact_type = content.artifact_type().map(str::to_owned);
        descriptor.annotations = content.annotations().clone();
        let blobs = match content {
            ManifestContent::Image(_) => content.children().map(|child| child.digest.clone()).collect(),
            ManifestContent::Index(_) => BTreeSet::new(),
        };
        ManifestEntry {
            descriptor,
            subject: content.subject().map(|subject| subject.digest.clone()),
            blobs,
        }
    }
}

impl Record {
    /// The manifest under a tag or digest.
    pub(super) fn select(&self, selector: &str) -> Option<&Digest> {
        match (selector.parse::<Digest>(), selector.parse::<Tag>()) {
            (Ok(digest), _) => self.manifests.get_key_value(&digest).map(|(digest, _)| digest),
            (_, Ok(tag)) => self.tags.get(&tag),
            _ => None,
        }
    }

    /// Whether one of the manifests names a blob, or is it.
    pub(super) fn names_blob(&self, digest: &Digest) -> bool {
        self.manifests.contains_key(digest) || self.manifests.values().any(|entry| entry.blobs.contains(digest))
    }
}

/// All repositories.
#[derive(Debug)]
pub(super) struct Records {
    directory: Utf8PathBuf,
    current: RwLock<BTreeMap<Repository, Arc<Record>>>,
    /// Held while a record is changed: readers go on with the old one until the new one is on disk.
    writing: Mutex<()>,
    repairs: Vec<String>,
}

impl Records {
    pub(super) fn load(directory: &Utf8Path) -> Result<Records, StoreError> {
        fs::create_dir_all(directory)?;
        let mut records = BTreeMap::new();
        let mut repairs = Vec::new();
        let mut pending = vec![Utf8PathBuf::new()];
        while let Some(relative) = pending.pop() {
            for entry in fs::read_dir(directory.join(&relative))? {
                let entry = entry?;
                let Ok(name) = entry.file_name().into_string() else {
                    continue;
                };
                if entry.file_type()?.is_dir() {
                    pending.push(relative.join(name));
                } else if name == RECORD_FILE
                    && let Ok(repository) = relative.as_str().parse::<Repository>()
                {
                    let path = directory.join(&relative).join(RECORD_FILE);
                    match serde_json::from_slice::<Record>(&fs::read(&path)?) {
                        Ok(record) => {
                            records.insert(repository, Arc::new(record));
                        }
                        Err(error) => {
                            let aside = Utf8PathBuf::from(format!("{path}.damaged"));
                            durable::publish(&path, &aside)?;
                            repairs.push(format!(
                                "`{path}` was damaged ({error}) and is now `{aside}`; the repository `{repository}` is \
                                 empty until its images are pushed again, which moves no blob that is still there"
                            ));
                        }
                    }
                }
            }
        }
        Ok(Records {
            directory: directory.to_owned(),
            current: RwLock::new(records),
            writing: Mutex::new(()),
            repairs,
        })
    }

    pub(super) fn repairs(&self) -> &[String] {
        &self.repairs
    }

    pub(super) fn get(&self, repository: &Repository) -> Option<Arc<Record>> {
        self.current
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(repository)
            .cloned()
    }

    pub(super) fn names(&self) -> Vec<Repository> {
        self.current
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .filter(|(_, record)| !record.manifests.is_empty())
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// All manifests of all repositories.
    pub(super) fn manifests(&self) -> Vec<Digest> {
        self.current
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
            .flat_map(|record| record.manifests.keys().cloned())
            .collect()
    }

    /// Changes a record: on disk first, then for readers. Gives what the change gives.
    pub(super) fn change<T>(
        &self,
        repository: &Repository,
        change: impl FnOnce(&mut Record) -> T,
    ) -> Result<T, StoreError> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.get(repository).unwrap_or_default();
        let mut record = (*before).clone();
        record.version = VERSION;
        let result = change(&mut record);
        if record != *before {
            self.save(repository, &record)?;
            self.current
                .write()
                .unwrap_or_else(PoisonError::into_inner)
                .insert(repository.clone(), Arc::new(record));
        }
        Ok(result)
    }

    fn save(&self, repository: &Repository, record: &Record) -> Result<(), StoreError> {
        let directory = self.directory.join(repository.as_str());
        if !directory.exists() {
            fs::create_dir_all(&directory)?;
            // Each new directory's name lies in the one above it.
            for above in directory.ancestors().skip(1) {
                durable::sync_directory(above)?;
                if above == self.directory {
                    break;
                }
            }
        }
        let text = serde_json::to_vec_pretty(record).expect("names, digests and numbers are JSON");
        durable::replace_file(&directory.join(RECORD_FILE), &text)?;
        Ok(())
    }
}
