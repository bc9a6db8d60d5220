//! Uploads of bundles to this host [spec:bundles.upload]. `landfall_core::bundle::upload` decides; this module keeps the
//! files.
//!
//! Each upload has two files in a directory of its own below that of the bundles: `ID.part`, a sparse file of the final
//! size, and `ID.journal`. A range is written, synced, noted in the journal, and only then acknowledged. The complete
//! file is renamed into the directory of bundles, where the agent finds it as any other. All functions block.

mod error;
mod journal_file;
mod receiving;
mod token;

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::{Arc, Mutex};

use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use landfall_core::bundle::upload::{
    DiskRoom, JournalEntry, JournalProblem, KnownUpload, Opening, Upload, UploadHeader, UploadRefusal, UploadRequest,
    UploadState, UploadStatus, decide_opening, parse_journal, render_entry, render_header,
};
use landfall_core::reference::Digest;
use landfall_core::sync::lock;
use landfall_net::durable;
use landfall_net::random::random_bytes;
use landfall_oci::store::disk_space::{DiskSpace, MinFreeSpace};
use tokio::sync::{Semaphore, mpsc};

use self::journal_file::JournalFile;
use self::receiving::InFlight;

pub(crate) use self::error::UploadError;
pub(crate) use self::receiving::Receiving;
pub(crate) use self::token::{FILE as TOKEN_FILE, UploadToken};

/// Directory of unfinished uploads, below that of the bundles: a rename has to stay on one file system.
pub(crate) const DIRECTORY: &str = ".landfall-uploads";
const JOURNAL: &str = "journal";
const PART: &str = "part";
/// Ranges that are received at once, of all uploads.
const RECEIVED_AT_ONCE_MAX: usize = 8;
/// Completed uploads that are remembered, so that a client that missed the last answer learns of it.
const COMPLETED_MAX: usize = 64;
/// Completed files of which the event is not written yet.
const PUBLISHED_QUEUE: usize = 16;

/// The uploads of this host. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Uploads(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// Directory of the bundles.
    bundles: Utf8PathBuf,
    /// Directory of the unfinished uploads.
    directory: Utf8PathBuf,
    entries: Mutex<BTreeMap<String, Arc<Entry>>>,
    slots: Arc<Semaphore>,
    published: mpsc::Sender<UploadStatus>,
}

/// An upload. Its lock is taken after that of [`Shared::entries`], never before.
#[derive(Debug)]
struct Entry {
    id: String,
    part: Utf8PathBuf,
    journal: Utf8PathBuf,
    /// Path of the complete file.
    target: Utf8PathBuf,
    state: Mutex<EntryState>,
}

#[derive(Debug)]
struct EntryState {
    upload: Upload,
    journal: JournalFile,
    /// Ranges that are being received.
    in_flight: HashMap<u64, Arc<InFlight>>,
    is_published: bool,
    /// True once a client has ended it.
    is_removed: bool,
}

/// Answer to a client that offers a range.
#[derive(Debug)]
pub(crate) enum Offer {
    Here(UploadStatus),
    Take(Box<Receiving>),
}

impl Uploads {
    /// Finds the uploads of earlier runs, and completes those of which every range is here. The receiver is told of each
    /// file that is complete.
    pub(crate) fn open(bundles: &Utf8Path) -> (Uploads, mpsc::Receiver<UploadStatus>) {
        let (published, receiver) = mpsc::channel(PUBLISHED_QUEUE);
        let uploads = Uploads(Arc::new(Shared {
            bundles: bundles.to_owned(),
            directory: bundles.join(DIRECTORY),
            entries: Mutex::default(),
            slots: Arc::new(Semaphore::new(RECEIVED_AT_ONCE_MAX)),
            published,
        }));
        uploads.load();
        (uploads, receiver)
    }

    fn load(&self) {
        let Ok(found) = self.0.directory.read_dir_utf8() else {
            return;
        };
        let mut entries = lock(&self.0.entries);
        for file in found.flatten() {
            let path = file.path();
            match (path.file_stem(), path.extension()) {
                (Some(id), Some(JOURNAL)) => match self.load_one(id) {
                    Ok(Some(entry)) => drop(entries.insert(id.to_owned(), Arc::new(entry))),
                    Ok(None) => {}
                    Err(error) => tracing::warn!(%path, error = format!("{error:#}"), "an upload is given up"),
                },
                // A crash came before its journal was written: nothing was acknowledged.
                (Some(_), Some(PART)) if !path.with_extension(JOURNAL).exists() => remove(path),
                _ => {}
            }
        }
        for entry in entries.values() {
            self.0.complete(entry, &mut lock(&entry.state));
        }
    }

    /// Loads an upload. Returns `None` for one that nothing can be done with; its files are removed.
    fn load_one(&self, id: &str) -> anyhow::Result<Option<Entry>> {
        let journal = self.0.directory.join(id).with_extension(JOURNAL);
        let part = journal.with_extension(PART);
        let bytes = fs::read(&journal)?;
        let (upload, length) = match parse_journal(&bytes) {
            Ok(parsed) => parsed,
            // A later version may go on with it.
            Err(error @ JournalProblem::Version(_)) => return Err(error.into()),
            Err(error) => {
                remove(&part);
                remove(&journal);
                return Err(error.into());
            }
        };
        let target = self.0.bundles.join(upload.header().name.as_str());
        let has_size = |path: &Utf8Path| {
            let found = fs::symlink_metadata(path);
            found.is_ok_and(|found| found.is_file() && found.len() == upload.header().size)
        };
        let is_published = !part.exists() && upload.is_whole() && has_size(&target);
        if !is_published && !has_size(&part) {
            let is_whole = upload.is_whole();
            remove(&part);
            remove(&journal);
            // Somebody took the complete file away, as may be: the record of its upload goes too.
            anyhow::ensure!(is_whole, "its file is gone, or has another size");
            return Ok(None);
        }
        Ok(Some(Entry {
            id: id.to_owned(),
            state: Mutex::new(EntryState {
                journal: JournalFile::open(&journal, length as u64)?,
                upload,
                in_flight: HashMap::new(),
                is_published,
                is_removed: false,
            }),
            part,
            journal,
            target,
        }))
    }

    /// Begins an upload, or goes on with one.
    ///
    /// # Errors
    ///
    /// If the file cannot be uploaded now, or the disk fails.
    pub(crate) fn begin(&self, request: &UploadRequest) -> Result<UploadStatus, UploadError> {
        let shared = &self.0;
        let mut entries = lock(&shared.entries);
        shared.forget_taken_away(&mut entries);
        let opening = {
            let states: Vec<_> = entries.values().map(|entry| (entry, lock(&entry.state))).collect();
            let known = states.iter().map(|(entry, state)| KnownUpload {
                id: &entry.id,
                upload: &state.upload,
                is_published: state.is_published,
            });
            let target = shared.bundles.join(request.name.as_str());
            let is_taken = fs::symlink_metadata(target).is_ok();
            decide_opening(request, &known.collect::<Vec<_>>(), is_taken, shared.room()?)?
        };
        match opening {
            Opening::Resume { id } => {
                let entry = entries.get(&id).ok_or(UploadRefusal::Unknown { id })?;
                let mut state = lock(&entry.state);
                if request.replace && !state.upload.replaces() && !state.is_published && !request.dry_run {
                    let noted = state.note(&JournalEntry::Replace);
                    noted.map_err(|error| shared.failed(&entry.journal, error))?;
                }
                if !request.dry_run {
                    shared.complete(entry, &mut state);
                }
                Ok(entry.status(&state))
            }
            Opening::Begin(header) if request.dry_run => Ok(UploadStatus {
                id: None,
                name: header.name.to_string(),
                state: UploadState::Planned,
                size: header.size,
                range_size: header.range_size,
                received_bytes: 0,
                ranges: Vec::new(),
                missing: usize::try_from(header.range_count()).unwrap_or(usize::MAX),
                path: None,
            }),
            Opening::Begin(header) => {
                // A completed upload of the same name is about to be replaced.
                entries.retain(|_, entry| match entry.is_published_as(&header) {
                    true => {
                        remove(&entry.journal);
                        false
                    }
                    false => true,
                });
                let entry = shared.create(header, request.replace)?;
                let status = entry.status(&lock(&entry.state));
                entries.insert(entry.id.clone(), Arc::new(entry));
                Ok(status)
            }
        }
    }

    pub(crate) fn list(&self) -> Vec<UploadStatus> {
        let mut entries = lock(&self.0.entries);
        self.0.forget_taken_away(&mut entries);
        entries
            .values()
            .map(|entry| entry.status(&lock(&entry.state)))
            .collect()
    }

    /// # Errors
    ///
    /// If there is no such upload.
    pub(crate) fn get(&self, id: &str) -> Result<UploadStatus, UploadError> {
        let entry = self.0.find(id)?;
        let state = lock(&entry.state);
        Ok(entry.status(&state))
    }

    /// Ends an upload. Its bytes are deleted; a complete file stays.
    ///
    /// # Errors
    ///
    /// If there is no such upload.
    pub(crate) fn remove(&self, id: &str) -> Result<(), UploadError> {
        let entry = lock(&self.0.entries).remove(id);
        let entry = entry.ok_or_else(|| UploadRefusal::Unknown { id: id.to_owned() })?;
        entry.discard();
        Ok(())
    }

    /// Offers a range with this length, if it is known before its bytes come, and this SHA-256.
    ///
    /// # Errors
    ///
    /// If the range is not taken now, or the disk fails.
    pub(crate) fn offer(
        &self,
        id: &str,
        number: u64,
        length: Option<u64>,
        sha256: &Digest,
    ) -> Result<Offer, UploadError> {
        Receiving::begin(&self.0, id, number, length, sha256)
    }

    /// Notes that an hour passed. Gives up uploads that nobody goes on with, and returns them.
    pub(crate) fn pass_hour(&self) -> Vec<UploadStatus> {
        let mut entries = lock(&self.0.entries);
        let mut abandoned = Vec::new();
        entries.retain(|_, entry| {
            let mut state = lock(&entry.state);
            if state.in_flight.is_empty()
                && let Err(error) = state.note(&JournalEntry::Idle)
            {
                tracing::warn!(path = %entry.journal, %error, "cannot write the journal of an upload");
            }
            if !state.upload.is_abandoned() {
                return true;
            }
            if !state.is_published {
                abandoned.push(entry.status(&state));
            }
            drop(state);
            entry.discard();
            false
        });
        abandoned
    }
}

impl Shared {
    fn find(&self, id: &str) -> Result<Arc<Entry>, UploadError> {
        let found = lock(&self.entries).get(id).cloned();
        Ok(found.ok_or_else(|| UploadRefusal::Unknown { id: id.to_owned() })?)
    }

    /// Returns the room on the disk of the bundles; the directory may be missing still.
    fn room(&self) -> Result<DiskRoom, UploadError> {
        let existing = self.bundles.ancestors().find(|path| path.exists());
        let space = DiskSpace::of(existing.unwrap_or(&self.bundles))?;
        Ok(DiskRoom {
            free: space.free,
            kept: MinFreeSpace::default().for_disk(space.total),
        })
    }

    /// Describes a failure of the disk.
    fn failed(&self, path: &Utf8Path, source: io::Error) -> UploadError {
        let room = self.room().ok();
        UploadError::of_disk(path, source, room)
    }

    fn create(&self, header: UploadHeader, replaces: bool) -> Result<Entry, UploadError> {
        let id = format!("{:032x}", u128::from_be_bytes(random_bytes()));
        let journal = self.directory.join(&id).with_extension(JOURNAL);
        let part = journal.with_extension(PART);
        let target = self.bundles.join(header.name.as_str());
        let mut line = render_header(&header);
        if replaces {
            line += &render_entry(&JournalEntry::Replace);
        }
        let create = || {
            fs::create_dir_all(&self.directory)?;
            durable::sync_directory(&self.bundles)?;
            let file = fs::File::create_new(&part)?;
            file.set_len(header.size)?;
            file.sync_all()?;
            // This makes the name of the other file durable, too.
            durable::replace_private_file(&journal, line.as_bytes())?;
            let (upload, length) = parse_journal(line.as_bytes()).map_err(io::Error::other)?;
            Ok((upload, JournalFile::open(&journal, length as u64)?))
        };
        let (upload, file) = create().map_err(|error| {
            remove(&part);
            remove(&journal);
            self.failed(&part, error)
        })?;
        Ok(Entry {
            id,
            part,
            journal,
            target,
            state: Mutex::new(EntryState {
                upload,
                journal: file,
                in_flight: HashMap::new(),
                is_published: false,
                is_removed: false,
            }),
        })
    }

    /// Gives a file of which every range is here its name, unless another file has it.
    fn complete(&self, entry: &Entry, state: &mut EntryState) {
        if state.is_published || state.is_removed || !state.upload.is_whole() {
            return;
        }
        if !state.upload.replaces() && fs::symlink_metadata(&entry.target).is_ok() {
            return;
        }
        let publish = || {
            durable::publish(&entry.part, &entry.target)?;
            durable::sync_directory(&self.directory)
        };
        if let Err(error) = publish() {
            tracing::warn!(path = %entry.target, %error, "a complete upload cannot get its name");
            return;
        }
        state.is_published = true;
        if self.published.try_send(entry.status(state)).is_err() {
            tracing::warn!(path = %entry.target, "an upload is complete, and its event is lost");
        }
    }

    /// Forgets completed uploads whose file is gone, and the oldest if there are many.
    fn forget_taken_away(&self, entries: &mut BTreeMap<String, Arc<Entry>>) {
        let mut completed: Vec<(u32, Arc<Entry>)> = Vec::new();
        for entry in entries.values() {
            let state = lock(&entry.state);
            if state.is_published {
                let is_there = fs::symlink_metadata(&entry.target)
                    .is_ok_and(|found| found.is_file() && found.len() == state.upload.header().size);
                let age = if is_there { state.upload.idle_hours() } else { u32::MAX };
                completed.push((age, entry.clone()));
            }
        }
        completed.sort_by_key(|(age, _)| *age);
        for (place, (age, entry)) in completed.into_iter().enumerate() {
            if age == u32::MAX || place >= COMPLETED_MAX {
                entries.remove(&entry.id);
                entry.discard();
            }
        }
    }
}

impl Entry {
    fn status(&self, state: &EntryState) -> UploadStatus {
        let header = state.upload.header();
        let phase = match (state.is_published, state.upload.is_whole()) {
            (true, _) => UploadState::Complete,
            (false, true) => UploadState::Blocked,
            (false, false) => UploadState::Receiving,
        };
        UploadStatus {
            id: Some(self.id.clone()),
            name: header.name.to_string(),
            state: phase,
            size: header.size,
            range_size: header.range_size,
            received_bytes: state.upload.received_bytes(),
            ranges: state.upload.ranges().to_vec(),
            missing: state.upload.missing(),
            path: state.is_published.then(|| self.target.to_string()),
        }
    }

    /// Returns true if the file with the name of this header is a completed upload.
    fn is_published_as(&self, header: &UploadHeader) -> bool {
        let state = lock(&self.state);
        state.is_published && state.upload.header().name == header.name
    }

    /// Removes the files of the upload. A complete file has another name by then.
    fn discard(&self) {
        let mut state = lock(&self.state);
        state.is_removed = true;
        state.in_flight.values().for_each(|flight| flight.give_way());
        // Without a journal, a part that stays is removed at the next start.
        remove(&self.journal);
        remove(&self.part);
    }
}

impl EntryState {
    /// Writes an entry of the journal to the disk, and applies it.
    fn note(&mut self, entry: &JournalEntry) -> io::Result<()> {
        self.journal.append(&render_entry(entry))?;
        self.upload.apply(entry);
        Ok(())
    }
}

/// Removes a file that may be missing.
fn remove(path: &Utf8Path) {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(%path, %error, "a file of an upload cannot be removed");
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests;
