//! Journal of upload sessions on disk. After a kill, the next process continues a session where the registry says it
//! stopped.
//!
//! A record holds the location of a session and is not trusted: the client asks the registry, and starts anew if the
//! registry no longer knows the session. The number of bytes and their hash are not recorded. The registry verifies the
//! bytes of a killed process, because it must hash the whole blob before it accepts it (OCI distribution specification,
//! "POST then PUT"). The client also verifies them where it can read them again without a transfer.

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
/// Smallest blob with a record, in bytes. A smaller blob is sent again faster than its record is written.
const RECORDED_SIZE_MIN: u64 = 8 * 1024 * 1024;
/// No registry keeps an upload session for longer.
const RECORD_AGE_MAX: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// Largest record that is read, in bytes.
const RECORD_SIZE_MAX: u64 = 64 * 1024;
const LOCK_FILE: &str = "lock";

/// Journal of unfinished upload sessions. One process at a time owns the journal of a directory; clones share it.
#[derive(Clone)]
pub struct UploadJournal {
    shared: Arc<JournalState>,
}

struct JournalState {
    directory: Utf8PathBuf,
    records: Mutex<SessionRecords>,
    /// Held while files change, so that the last change of a session is the one on disk.
    writing: Mutex<()>,
    /// Held for its lock, which the kernel releases with the file. Two processes on one upload session would corrupt
    /// it.
    _lock: fs::File,
}

#[derive(Default)]
struct SessionRecords {
    known: HashMap<String, SessionRecord>,
    /// Changes that are not on disk yet, by file name; `None` removes the file.
    unwritten: HashMap<String, Option<SessionRecord>>,
}

#[derive(Clone, Serialize, Deserialize)]
struct SessionRecord {
    version: u32,
    registry: RegistryHost,
    repository: Repository,
    digest: Digest,
    /// Some registries put secrets into the URL, so that the file is readable by its owner only.
    url: String,
}

impl fmt::Debug for UploadJournal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UploadJournal")
            .field("directory", &self.shared.directory)
            .finish_non_exhaustive()
    }
}

/// Key of an upload session: one blob to one repository.
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
    /// Opens the journal in a directory, and creates the directory if it is missing. Returns `None` if another process
    /// owns the journal; the caller then works without one. Blocks while it reads some small files.
    ///
    /// # Errors
    /// Fails if the directory cannot be created, read or locked.
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
        let mut records = SessionRecords::default();
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
                // The file is damaged, of another version, or too old.
                None => fs::remove_file(entry.path())?,
            }
        }
        Ok(Some(UploadJournal {
            shared: Arc::new(JournalState {
                directory: directory.to_owned(),
                records: Mutex::new(records),
                writing: Mutex::new(()),
                _lock: lock,
            }),
        }))
    }

    /// Returns the location of an earlier process's session.
    pub(super) fn find(&self, key: UploadKey<'_>) -> Option<Url> {
        let records = self.shared.records();
        let record = records.known.get(&key.file_name())?;
        let is_it = record.registry == *key.registry
            && record.repository == *key.repository
            && record.digest == key.blob.digest;
        Url::parse(&record.url).ok().filter(|_| is_it)
    }

    /// Records the location of a session. The write happens in the background.
    pub(super) fn record(&self, key: UploadKey<'_>, url: &Url) {
        if !key.is_journaled() {
            return;
        }
        let record = SessionRecord {
            version: VERSION,
            registry: key.registry.clone(),
            repository: key.repository.clone(),
            digest: key.blob.digest.clone(),
            url: url.to_string(),
        };
        self.change(key.file_name(), Some(record));
    }

    /// Removes the record of a session that is complete or useless.
    pub(super) fn forget(&self, key: UploadKey<'_>) {
        let name = key.file_name();
        if self.shared.records().known.contains_key(&name) {
            self.change(name, None);
        }
    }

    fn change(&self, name: String, record: Option<SessionRecord>) {
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

impl JournalState {
    fn records(&self) -> MutexGuard<'_, SessionRecords> {
        lock(&self.records)
    }

    /// Writes all pending changes. A failed write is only logged: it costs bytes after a kill, and nothing now.
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
                    tracing::debug!(%path, %error, "an open upload session could not be recorded");
                }
                _ => {}
            }
        }
    }
}

impl Drop for JournalState {
    /// Writes the changes of tasks that the end of the runtime cancelled.
    fn drop(&mut self) {
        self.write_changes();
    }
}

fn load_record(path: &Utf8Path) -> Option<SessionRecord> {
    use std::io::Read as _;
    let file = fs::File::open(path).ok()?;
    let age = file.metadata().ok()?.modified().ok()?.elapsed().unwrap_or_default();
    let mut bytes = Vec::new();
    file.take(RECORD_SIZE_MAX).read_to_end(&mut bytes).ok()?;
    let record: SessionRecord = serde_json::from_slice(&bytes).ok()?;
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

    /// Retries, because the blocking tasks of the previous journal may still hold the lock.
    async fn open_when_unlocked(open: impl Fn() -> Option<UploadJournal>) -> UploadJournal {
        loop {
            if let Some(journal) = open() {
                return journal;
            }
            tokio::task::yield_now().await;
        }
    }
}
