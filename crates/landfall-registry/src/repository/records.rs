//! The records of all repositories: `<directory>/<name>/_record.jsonl`, read when they are first asked for, so that a
//! registry of any size starts at once.

use std::collections::HashMap;
use std::io::{Seek, SeekFrom, Write};
use std::sync::{Arc, Mutex, MutexGuard, RwLock, RwLockReadGuard};

use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use landfall_core::reference::Repository;
use landfall_core::sync::{lock, read_lock, write_lock};
use landfall_net::durable;
use landfall_oci::store::error::StoreError;

use crate::repository::record::{Change, ParsedRecord, Record, parse_record, render_changes};

/// No repository's path can have a component that begins like this.
const RECORD_FILE: &str = "_record.jsonl";
/// A record is rewritten when it has so many lines more than twice what it needs.
const SPARE_LINES_MAX: usize = 256;

/// All repositories.
#[derive(Debug)]
pub(crate) struct Records {
    directory: Utf8PathBuf,
    cache: RwLock<HashMap<Repository, Arc<CachedRecord>>>,
}

/// One repository, in memory and on disk.
#[derive(Debug)]
pub(crate) struct CachedRecord {
    record: RwLock<Record>,
    /// Held while the record is changed: readers go on with what is on disk.
    file: Mutex<RecordFile>,
}

/// A record's file.
#[derive(Debug)]
struct RecordFile {
    path: Utf8PathBuf,
    /// Where the last good line ends.
    length: u64,
    lines: usize,
    /// Whether the file has lines that cannot be read, and must be set aside before it is changed.
    damaged: bool,
}

impl Records {
    pub(crate) fn open(directory: &Utf8Path) -> Result<Records, StoreError> {
        fs::create_dir_all(directory)?;
        Ok(Records::read_only(directory))
    }

    /// The records of a registry that another process may be serving.
    pub(crate) fn read_only(directory: &Utf8Path) -> Records {
        Records {
            directory: directory.to_owned(),
            cache: RwLock::default(),
        }
    }

    /// A repository that there is.
    pub(crate) fn get(&self, repository: &Repository) -> Result<Option<Arc<CachedRecord>>, StoreError> {
        if let Some(cached) = self.find_cached(repository) {
            return Ok(Some(cached));
        }
        let Some(cached) = self.load(repository)? else {
            return Ok(None);
        };
        Ok(Some(self.insert(repository, cached)))
    }

    /// What a repository holds now, without keeping it in memory for the next who asks.
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

    /// Changes a record: on disk first, then for readers. Gives what `decide` gives beside the changes.
    pub(crate) fn change<T>(
        &self,
        repository: &Repository,
        decide: impl FnOnce(&Record) -> (Vec<Change>, T),
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

    /// All repositories that have a record, in order; those without a manifest as well.
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

    /// Of two who read a record at the same time, both go on with what the first one keeps.
    fn insert(&self, repository: &Repository, cached: CachedRecord) -> Arc<CachedRecord> {
        write_lock(&self.cache)
            .entry(repository.clone())
            .or_insert_with(|| Arc::new(cached))
            .clone()
    }

    /// Reads a record; changes nothing.
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
        }
    }

    /// What the repository holds. Nobody waits for the disk while this is held.
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Record> {
        read_lock(&self.record)
    }

    fn lock_file(&self) -> MutexGuard<'_, RecordFile> {
        lock(&self.file)
    }
}

impl RecordFile {
    /// Makes the file one that can be appended to: there, whole, and not much longer than it must be.
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

    /// Appends lines; they are on disk when this returns. On failure the file is what it was.
    fn append(&mut self, changes: &[Change]) -> Result<(), StoreError> {
        let text = render_changes(changes);
        let mut file = fs::OpenOptions::new().write(true).open(&self.path)?;
        if file.metadata()?.len() != self.length {
            // A torn line that a crash left.
            file.set_len(self.length)?;
        }
        file.seek(SeekFrom::Start(self.length))?;
        if let Err(error) = file.write_all(&text).and_then(|()| file.sync_data()) {
            // When this fails as well, the next append does it.
            drop(file.set_len(self.length));
            return Err(error.into());
        }
        self.length += text.len() as u64;
        self.lines += changes.len();
        Ok(())
    }
}

/// Makes a directory below another one, durably: each new directory's name lies in the one above it.
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
