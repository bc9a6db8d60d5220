//! Uploads under way, on disk: a process that was killed is followed by one that goes on where the registry says it
//! stopped.
//!
//! A record says where an upload lives, and nothing that is believed: the registry is asked, and what it does not know any
//! more begins anew. How much of the blob arrived is not recorded, nor is its hash. So what a killed process sent is
//! verified by the registry, which has to hash the whole before it takes it (OCI distribution specification, "POST then
//! PUT"), and by us too where the bytes can be read again without moving them.

use std::collections::HashMap;
use std::fmt;
use std::fs::TryLockError;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use landfall_core::oci_types::Descriptor;
use landfall_core::reference::{Digest, RegistryHost, Repository};
use landfall_core::sync::lock;
use landfall_net::durable;
use reqwest::Url;
use serde::{Deserialize, Serialize};

use crate::digest::digest_of;

const VERSION: u32 = 1;
/// A smaller blob is sent again in less time than its record takes, in bytes.
const RECORDED_SIZE_MIN: u64 = 8 * 1024 * 1024;
/// No registry keeps an upload for longer.
const RECORD_AGE_MAX: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// A larger record is not one of ours, in bytes.
const RECORD_SIZE_MAX: u64 = 64 * 1024;
const LOCK_FILE: &str = "lock";

/// The uploads under way. One process at a time has the journal of a directory; clones share it.
#[derive(Clone)]
pub struct UploadJournal {
    shared: Arc<Shared>,
}

struct Shared {
    directory: Utf8PathBuf,
    records: Mutex<Records>,
    /// Held while files change, so that the last word on an upload is the one that stays.
    writing: Mutex<()>,
    /// Held for its lock, which ends with the file: two processes at one upload would spoil it.
    _lock: fs::File,
}

#[derive(Default)]
struct Records {
    known: HashMap<String, Record>,
    /// What the disk has still to hear, by file name; `None` is a file that goes.
    unwritten: HashMap<String, Option<Record>>,
}

#[derive(Clone, Serialize, Deserialize)]
struct Record {
    version: u32,
    registry: RegistryHost,
    repository: Repository,
    digest: Digest,
    /// Some registries keep secrets in it: the file is the owner's alone.
    url: String,
}

impl fmt::Debug for UploadJournal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UploadJournal")
            .field("directory", &self.shared.directory)
            .finish_non_exhaustive()
    }
}

/// Which upload: one of a blob to a repository.
#[derive(Clone, Copy)]
pub(super) struct UploadKey<'a> {
    pub(super) registry: &'a RegistryHost,
    pub(super) repository: &'a Repository,
    pub(super) blob: &'a Descriptor,
}

impl UploadKey<'_> {
    fn file_name(self) -> String {
        let UploadKey {
            registry,
            repository,
            blob,
        } = self;
        let name = format!("{registry}/{repository}@{}", blob.digest);
        format!("{}.json", digest_of(name.as_bytes()).hex())
    }

    fn is_journaled(self) -> bool {
        self.blob.size >= RECORDED_SIZE_MIN
    }
}

impl UploadJournal {
    /// Opens the journal in a directory, making it when it is not there. `None` when another process has it: then this
    /// one does without. Blocks for as long as it takes to read some small files.
    ///
    /// # Errors
    /// When the directory cannot be made, read or locked.
    pub fn open(directory: &Utf8Path) -> io::Result<Option<UploadJournal>> {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)?;
        let lock = fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(directory.join(LOCK_FILE))?;
        match lock.file().try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        let mut records = Records::default();
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            if name == LOCK_FILE {
                continue;
            }
            match load_record(&directory.join(&name)) {
                Some(record) => drop(records.known.insert(name, record)),
                // Left by a crash, by another version, or too old to be of use.
                None => fs::remove_file(entry.path())?,
            }
        }
        Ok(Some(UploadJournal {
            shared: Arc::new(Shared {
                directory: directory.to_owned(),
                records: Mutex::new(records),
                writing: Mutex::new(()),
                _lock: lock,
            }),
        }))
    }

    /// Where an upload of an earlier process lives.
    pub(super) fn find(&self, key: UploadKey<'_>) -> Option<Url> {
        let records = self.shared.records();
        let record = records.known.get(&key.file_name())?;
        let is_it = record.registry == *key.registry
            && record.repository == *key.repository
            && record.digest == key.blob.digest;
        Url::parse(&record.url).ok().filter(|_| is_it)
    }

    /// Writes down where an upload lives. Nobody waits for the disk.
    pub(super) fn record(&self, key: UploadKey<'_>, url: &Url) {
        if !key.is_journaled() {
            return;
        }
        let record = Record {
            version: VERSION,
            registry: key.registry.clone(),
            repository: key.repository.clone(),
            digest: key.blob.digest.clone(),
            url: url.to_string(),
        };
        self.change(key.file_name(), Some(record));
    }

    /// The upload is complete, or of no more use.
    pub(super) fn forget(&self, key: UploadKey<'_>) {
        let name = key.file_name();
        if self.shared.records().known.contains_key(&name) {
            self.change(name, None);
        }
    }

    fn change(&self, name: String, record: Option<Record>) {
        {
            let mut records = self.shared.records();
            match &record {
                Some(record) => records.known.insert(name.clone(), record.clone()),
                None => records.known.remove(&name),
            };
            records.unwritten.insert(name, record);
        }
        let shared = self.shared.clone();
        drop(tokio::task::spawn_blocking(move || shared.write_changes()));
    }
}

impl Shared {
    fn records(&self) -> MutexGuard<'_, Records> {
        lock(&self.records)
    }

    /// Brings the disk up to date. A record that cannot be written costs bytes after a kill, and nothing now.
    fn write_changes(&self) {
        let _one_at_a_time = lock(&self.writing);
        let changes = std::mem::take(&mut self.records().unwritten);
        for (name, record) in changes {
            let path = self.directory.join(name);
            let written = match record {
                Some(record) => durable::replace_private_file(
                    &path,
                    &serde_json::to_vec(&record).expect("a record is strings and a number, which JSON can hold"),
                ),
                None => fs::remove_file(&path),
            };
            match written {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    tracing::debug!(%path, %error, "an upload under way could not be written down");
                }
                _ => {}
            }
        }
    }
}

impl Drop for Shared {
    /// A task that the end of the runtime overtook may have left something.
    fn drop(&mut self) {
        self.write_changes();
    }
}

fn load_record(path: &Utf8Path) -> Option<Record> {
    use std::io::Read as _;
    let file = fs::File::open(path).ok()?;
    let age = file.metadata().ok()?.modified().ok()?.elapsed().unwrap_or_default();
    let mut bytes = Vec::new();
    file.take(RECORD_SIZE_MAX).read_to_end(&mut bytes).ok()?;
    let record: Record = serde_json::from_slice(&bytes).ok()?;
    (record.version == VERSION && age < RECORD_AGE_MAX).then_some(record)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_record_is_there_for_the_next_process_until_the_upload_is_complete() {
        let directory = tempfile::tempdir().unwrap();
        let path = Utf8Path::from_path(directory.path()).unwrap().join("uploads");
        let open = || UploadJournal::open(&path).unwrap();
        let (registry, repository) = ("reg:5000".parse().unwrap(), "shop/till".parse().unwrap());
        let blob = |size| Descriptor::new("", digest_of(b"layer"), size);
        let (large, small) = (blob(RECORDED_SIZE_MIN), blob(RECORDED_SIZE_MIN - 1));
        let key = |blob| UploadKey {
            registry: &registry,
            repository: &repository,
            blob,
        };
        let url = |text| Url::parse(text).unwrap();
        let journal = open().unwrap();
        assert!(open().is_none(), "another one has it");
        journal.record(key(&small), &url("http://reg:5000/small"));
        assert_eq!(journal.find(key(&small)), None);
        journal.record(key(&large), &url("http://reg:5000/1"));
        journal.record(key(&large), &url("http://reg:5000/2"));
        journal.shared.write_changes();
        drop(journal);

        std::fs::File::create(path.join("damaged.json")).unwrap();
        let journal = open_when_unlocked(open).await;
        assert!(!path.join("damaged.json").exists());
        assert_eq!(journal.find(key(&large)), Some(url("http://reg:5000/2")));
        journal.forget(key(&large));
        journal.shared.write_changes();
        drop(journal);
        assert_eq!(open_when_unlocked(open).await.find(key(&large)), None);
    }

    /// The blocking tasks of the one before may still hold it.
    async fn open_when_unlocked(open: impl Fn() -> Option<UploadJournal>) -> UploadJournal {
        loop {
            if let Some(journal) = open() {
                return journal;
            }
            tokio::task::yield_now().await;
        }
    }
}
