//! Records of all repositories: `<directory>/<name>/_record.jsonl`. Each is loaded on first use, so a registry of any
//! size starts at once.

use std::collections::HashMap;
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, RwLock, RwLockReadGuard};

use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use landfall_core::reference::{Digest, Repository};
use landfall_core::sync::{lock, read_lock, write_lock};
use landfall_net::durable;
use landfall_oci::store::error::StoreError;

use crate::repository::record::{ParsedRecord, Record, RecordChange, parse_record, render_changes};
use crate::repository::whole_images::WholeImages;

/// Name of a record's file. No component of a repository's name can begin with an underscore.
const RECORD_FILE: &str = "_record.jsonl";
/// Slack before compaction: a record is rewritten when it has this many lines more than twice the lines it needs.
const SPARE_LINES_MAX: usize = 256;

/// Records of all repositories.
#[derive(Debug)]
pub(crate) struct Records {
    directory: Utf8PathBuf,
    cache: RwLock<HashMap<Repository, Arc<CachedRecord>>>,
}

/// A repository's record in memory, and its file.
#[derive(Debug)]
pub(crate) struct CachedRecord {
    record: RwLock<Record>,
    /// Last push activity of this process in the repository, in seconds of run time. Changed while `record` is locked
    /// for reading, so that [`Records::drop_blobs`] sees it.
    active_at: AtomicU64,
    /// Images of the repository that were found whole a moment ago.
    pub(crate) whole: WholeImages,
    /// Locked while the record is changed. Readers continue with the state that is on disk.
    file: Mutex<RecordFile>,
}

#[derive(Debug)]
struct RecordFile {
    path: Utf8PathBuf,
    /// End of the last good line, in bytes.
    length: u64,
    lines: usize,
    /// True if the file has unreadable lines. A copy of it is kept before the next change.
    damaged: bool,
}

impl Records {
    pub(crate) fn open(directory: &Utf8Path) -> Result<Records, StoreError> {
        fs::create_dir_all(directory)?;
        Ok(Records::read_only(directory))
    }

    /// Opens the records of a registry that another process may be serving.
    pub(crate) fn read_only(directory: &Utf8Path) -> Records {
        Records {
            directory: directory.to_owned(),
            cache: RwLock::default(),
        }
    }

    /// Takes the directory away from other users of this machine.
    pub(crate) fn restrict_access(&self) -> Result<(), StoreError> {
        fs::set_permissions(&self.directory, std::fs::Permissions::from_mode(0o700))?;
        Ok(())
    }

    /// Returns the record of a repository, loading it if needed. `None` if there is no such repository.
    pub(crate) fn get(&self, repository: &Repository) -> Result<Option<Arc<CachedRecord>>, StoreError> {
        if let Some(cached) = self.find_cached(repository) {
            return Ok(Some(cached));
        }
        let Some(cached) = self.load(repository)? else {
            return Ok(None);
        };
        Ok(Some(self.insert(repository, cached)))
    }

    /// Reads a repository's record without caching it.
    pub(crate) fn peek<T>(
        &self,
        repository: &Repository,
        read: impl FnOnce(&Record) -> T,
    ) -> Result<Option<T>, StoreError> {
        if let Some(cached) = self.find_cached(repository) {
            return Ok(Some(read(&cached.read())));
        }
        Ok(self.load(repository)?.map(|cached| read(&cached.read())))
    }

    /// Changes a record: first on disk, then for readers. Returns the second result of `decide`.
    pub(crate) fn change<T>(
        &self,
        repository: &Repository,
        decide: impl FnOnce(&Record) -> (Vec<RecordChange>, T),
    ) -> Result<T, StoreError> {
        let cached = match self.get(repository)? {
            Some(cached) => cached,
            None => self.insert(
                repository,
                CachedRecord::new(self.path(repository), ParsedRecord::default()),
            ),
        };
        let mut file = cached.lock_file();
        let (changes, result) = decide(&cached.read());
        if changes.is_empty() {
            return Ok(result);
        }
        file.prepare(&self.directory, &cached.read())?;
        file.append(&changes)?;
        let mut record = write_lock(&cached.record);
        for change in changes {
            record.apply(change);
        }
        Ok(result)
    }

    /// Returns true if this holds for a record in memory.
    pub(crate) fn any_cached(&self, holds: impl Fn(&Record) -> bool) -> bool {
        let cached: Vec<Arc<CachedRecord>> = read_lock(&self.cache).values().cloned().collect();
        cached.iter().any(|cached| holds(&cached.read()))
    }

    /// Unlinks the blobs that `decide` returns: first for readers, then on disk. A client is told of a blob while the
    /// record is locked for reading, and `decide` runs while it is locked for writing: no answer comes in between.
    pub(crate) fn drop_blobs(
        &self,
        repository: &Repository,
        decide: impl FnOnce(&Record, u64) -> Vec<Digest>,
    ) -> Result<(), StoreError> {
        let Some(cached) = self.get(repository)? else {
            return Ok(());
        };
        let mut file = cached.lock_file();
        let drops: Vec<RecordChange> = {
            let mut record = write_lock(&cached.record);
            let digests = decide(&record, cached.active_at.load(Ordering::Acquire));
            let drops = digests.into_iter().map(|digest| RecordChange::DropBlob { digest });
            drops.inspect(|drop| record.apply(drop.clone())).collect()
        };
        if drops.is_empty() {
            return Ok(());
        }
        // If this fails, the blobs are linked again when the record is loaded next.
        file.prepare(&self.directory, &cached.read())?;
        file.append(&drops)
    }

    /// Lists all repositories that have a record, in order, including those without a manifest.
    pub(crate) fn names(&self) -> Result<Vec<Repository>, StoreError> {
        let mut names = Vec::new();
        let mut pending = vec![Utf8PathBuf::new()];
        while let Some(relative) = pending.pop() {
            let entries = match fs::read_dir(self.directory.join(&relative)) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                entries => entries?,
            };
            for entry in entries {
                let entry = entry?;
                let Ok(name) = entry.file_name().into_string() else {
                    continue;
                };
                if entry.file_type()?.is_dir() {
                    pending.push(relative.join(name));
                } else if name == RECORD_FILE
                    && let Ok(repository) = relative.as_str().parse::<Repository>()
                {
                    names.push(repository);
                }
            }
        }
        names.sort();
        Ok(names)
    }

    fn path(&self, repository: &Repository) -> Utf8PathBuf {
        self.directory.join(repository.as_str()).join(RECORD_FILE)
    }

    fn find_cached(&self, repository: &Repository) -> Option<Arc<CachedRecord>> {
        read_lock(&self.cache).get(repository).cloned()
    }

    /// Caches a record. If two callers load it at the same time, both use the first that was inserted.
    fn insert(&self, repository: &Repository, cached: CachedRecord) -> Arc<CachedRecord> {
        write_lock(&self.cache)
            .entry(repository.clone())
            .or_insert_with(|| Arc::new(cached))
            .clone()
    }

    /// Loads a record. Changes nothing.
    fn load(&self, repository: &Repository) -> Result<Option<CachedRecord>, StoreError> {
        let path = self.path(repository);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let parsed = parse_record(&text);
        if !parsed.damaged.is_empty() {
            tracing::error!(%path, lines = ?parsed.damaged, "a repository's record is damaged; what the lines named is \
                missing until it is pushed again, which moves no blob that is still there");
        }
        Ok(Some(CachedRecord::new(path, parsed)))
    }
}

impl CachedRecord {
    fn new(path: Utf8PathBuf, parsed: ParsedRecord) -> CachedRecord {
        CachedRecord {
            file: Mutex::new(RecordFile {
                path,
                length: parsed.length,
                lines: parsed.lines,
                damaged: !parsed.damaged.is_empty(),
            }),
            record: RwLock::new(parsed.record),
            active_at: AtomicU64::new(0),
            whole: WholeImages::default(),
        }
    }

    /// Notes push activity. The caller holds the record locked for reading.
    pub(crate) fn note_activity(&self, _locked: &Record, run_seconds: u64) {
        self.active_at.fetch_max(run_seconds, Ordering::AcqRel);
    }

    /// Locks the record for reading. No holder of this lock waits for the disk.
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Record> {
        // A change is a few insertions, which do not panic half way.
        read_lock(&self.record)
    }

    fn lock_file(&self) -> MutexGuard<'_, RecordFile> {
        lock(&self.file)
    }
}

impl RecordFile {
    /// Prepares the file for an append: creates it, repairs it, or compacts it, as needed.
    fn prepare(&mut self, directory: &Utf8Path, record: &Record) -> Result<(), StoreError> {
        let due = self.lines > 2 * record.fewest_lines() + SPARE_LINES_MAX;
        if self.length > 0 && !self.damaged && !due {
            return Ok(());
        }
        if self.length == 0 {
            make_directory(self.path.parent().unwrap_or(directory), directory)?;
        }
        if self.damaged {
            fs::copy(&self.path, format!("{}.damaged", self.path))?;
        }
        let text = render_changes(&record.to_changes());
        durable::replace_file(&self.path, &text)?;
        self.length = text.len() as u64;
        self.lines = record.fewest_lines();
        self.damaged = false;
        Ok(())
    }

    /// Appends lines, durably. On failure the file keeps its old content.
    fn append(&mut self, changes: &[RecordChange]) -> Result<(), StoreError> {
        let text = render_changes(changes);
        let mut file = fs::OpenOptions::new().write(true).open(&self.path)?;
        if file.metadata()?.len() != self.length {
            // A crash left a torn line.
            file.set_len(self.length)?;
        }
        file.seek(SeekFrom::Start(self.length))?;
        if let Err(error) = file.write_all(&text).and_then(|()| file.sync_data()) {
            // If this fails as well, the next append truncates the file.
            drop(file.set_len(self.length));
            return Err(error.into());
        }
        self.length += text.len() as u64;
        self.lines += changes.len();
        Ok(())
    }
}

/// Makes a directory below `top`, durably: syncs the parent of each new directory.
fn make_directory(directory: &Utf8Path, top: &Utf8Path) -> Result<(), StoreError> {
    fs::create_dir_all(directory)?;
    for above in directory.ancestors().skip(1) {
        durable::sync_directory(above)?;
        if above == top {
            break;
        }
    }
    Ok(())
}
