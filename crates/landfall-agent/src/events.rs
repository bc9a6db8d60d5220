//! The events for an operator on the site: a ring on disk, one JSON object per line.
//!
//! Each event is appended and synced, so that a power cut loses at most the line that was being written. A torn last
//! line is dropped when the log is opened. The log has between [`MAX_EVENTS`] and twice as many events.

use std::collections::VecDeque;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;

use anyhow::Context as _;
use camino::{Utf8Path, Utf8PathBuf};
use jiff::Timestamp;
use landfall_core::status::{Event, EventKind, EventReason};
use landfall_host::files::write_atomic;
use tokio::sync::Mutex;

use crate::failure::error_line;

/// The number of events that are kept when the log is shortened.
pub const MAX_EVENTS: usize = 1_000;

/// The name of the log in the state directory.
pub const FILE_NAME: &str = "events.jsonl";

/// The name of the lock file. A writer holds the lock while it writes the log.
const LOCK_NAME: &str = "events.lock";

/// The event log of a state directory. Cheap to clone. `landfall stages run` writes to it beside a running agent: a
/// lock on a separate file keeps the sequence without gaps.
#[derive(Debug, Clone)]
pub struct EventLog {
    writer: Arc<Mutex<EventWriter>>,
}

#[derive(Debug)]
struct EventWriter {
    path: Utf8PathBuf,
    file: fs_err::File,
    /// The log's inode and length in bytes after the last write of this process. If they differ now, another process
    /// wrote.
    seen: (u64, u64),
    next: u64,
    lines: usize,
}

impl EventLog {
    /// Opens the log of this state directory. The sequence continues after the last event.
    ///
    /// # Errors
    ///
    /// If the file cannot be read or written.
    pub fn open(state_dir: &Utf8Path) -> anyhow::Result<EventLog> {
        Ok(EventLog {
            writer: Arc::new(Mutex::new(EventWriter::open(state_dir.join(FILE_NAME), MAX_EVENTS)?)),
        })
    }

    /// Records an event. A full disk must not stop the agent: if the write fails, the failure is logged and the event
    /// is lost.
    pub async fn record(&self, kind: EventKind, reason: EventReason, subject: &str, message: String) {
        match kind {
            EventKind::Normal => tracing::info!(?reason, subject, message, "event"),
            EventKind::Warning => tracing::warn!(?reason, subject, message, "event"),
        }
        self.write(kind, reason, subject, message).await;
    }

    /// Records a warning that summarizes others. Their messages are in the log already, so that this one is not logged
    /// again.
    pub async fn record_summary(&self, reason: EventReason, subject: &str, message: String) {
        tracing::info!(?reason, subject, "event");
        self.write(EventKind::Warning, reason, subject, message).await;
    }

    async fn write(&self, kind: EventKind, reason: EventReason, subject: &str, message: String) {
        let event = Event {
            sequence: 0,
            time: Timestamp::now(),
            kind,
            reason,
            subject: subject.to_owned(),
            message,
        };
        let mut writer = Arc::clone(&self.writer).lock_owned().await;
        let written = tokio::task::spawn_blocking(move || writer.append(event)).await;
        match written {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(error = error_line(&error), "cannot record an event"),
            Err(error) => tracing::error!(%error, "cannot record an event"),
        }
    }
}

impl EventWriter {
    fn open(path: Utf8PathBuf, keep: usize) -> anyhow::Result<EventWriter> {
        let _held = lock(&path)?;
        EventWriter::open_locked(path, keep)
    }

    fn open_locked(path: Utf8PathBuf, keep: usize) -> anyhow::Result<EventWriter> {
        let events = load_events(&path)?;
        let next = events.back().map_or(1, |event| event.sequence + 1);
        rewrite(&path, events.iter().skip(events.len().saturating_sub(keep)))?;
        let file = open_for_append(&path)?;
        Ok(EventWriter {
            seen: identity(&file.metadata()?),
            path,
            file,
            next,
            lines: events.len().min(keep),
        })
    }

    fn append(&mut self, mut event: Event) -> anyhow::Result<()> {
        let _held = lock(&self.path)?;
        let is_changed = fs_err::metadata(&self.path).map_or(true, |metadata| identity(&metadata) != self.seen);
        if is_changed || self.lines >= 2 * MAX_EVENTS {
            let keep = if self.lines >= 2 * MAX_EVENTS {
                MAX_EVENTS
            } else {
                2 * MAX_EVENTS
            };
            *self = EventWriter::open_locked(self.path.clone(), keep)?;
        }
        event.sequence = self.next;
        let mut line = serde_json::to_vec(&event)?;
        line.push(b'\n');
        self.file.write_all(&line)?;
        self.file.sync_data()?;
        self.seen.1 += line.len() as u64;
        self.next += 1;
        self.lines += 1;
        Ok(())
    }
}

fn identity(metadata: &std::fs::Metadata) -> (u64, u64) {
    (metadata.ino(), metadata.len())
}

/// Waits for the lock, which is released when the file is dropped.
fn lock(log: &Utf8Path) -> anyhow::Result<fs_err::File> {
    let mut options = fs_err::OpenOptions::new();
    let file = options
        .create(true)
        .truncate(false)
        .write(true)
        .open(log.with_file_name(LOCK_NAME))?;
    file.file().lock().context("cannot lock the event log")?;
    Ok(file)
}

fn open_for_append(path: &Utf8Path) -> anyhow::Result<fs_err::File> {
    let file = fs_err::OpenOptions::new().append(true).open(path)?;
    Ok(file)
}

fn rewrite<'a>(path: &Utf8Path, events: impl Iterator<Item = &'a Event>) -> anyhow::Result<()> {
    let mut bytes = Vec::new();
    for event in events {
        serde_json::to_writer(&mut bytes, event)?;
        bytes.push(b'\n');
    }
    Ok(write_atomic(path, 0o600, &bytes)?)
}

/// Returns the events of a state directory with a sequence number greater than `since`, oldest first. The agent may be
/// running.
///
/// # Errors
///
/// If the file exists and cannot be read. Without a file there are no events.
pub fn read_events(state_dir: &Utf8Path, since: u64) -> anyhow::Result<Vec<Event>> {
    let events = load_events(&state_dir.join(FILE_NAME))?;
    Ok(events.into_iter().filter(|event| event.sequence > since).collect())
}

/// Loads all events of the file. A line that is not an event was torn by a power cut, and is skipped.
fn load_events(path: &Utf8Path) -> anyhow::Result<VecDeque<Event>> {
    let text = match fs_err::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(VecDeque::new()),
        Err(error) => return Err(error).context("cannot read the event log"),
    };
    Ok(text
        .split(|byte| *byte == b'\n')
        .filter_map(|line| serde_json::from_slice(line).ok())
        .collect())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_methods, reason = "test set-up")]

    use super::*;

    fn mk_dir() -> (tempfile::TempDir, Utf8PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::from_path_buf(dir.path().to_owned()).unwrap();
        (dir, path)
    }

    async fn record(log: &EventLog, subject: &str) {
        log.record(EventKind::Normal, EventReason::ImageStored, subject, String::new())
            .await;
    }

    #[tokio::test]
    async fn sequence_goes_on_after_a_restart() {
        let (_dir, path) = mk_dir();
        record(&EventLog::open(&path).unwrap(), "a").await;
        record(&EventLog::open(&path).unwrap(), "b").await;
        let seen: Vec<_> = read_events(&path, 0)
            .unwrap()
            .into_iter()
            .map(|e| (e.sequence, e.subject))
            .collect();
        assert_eq!(seen, [(1, "a".to_owned()), (2, "b".to_owned())]);
    }

    #[tokio::test]
    async fn two_writers_take_turns_and_no_number_is_used_twice() {
        let (_dir, path) = mk_dir();
        let (agent, command) = (EventLog::open(&path).unwrap(), EventLog::open(&path).unwrap());
        for (log, subject) in [(&agent, "a"), (&command, "b"), (&command, "c"), (&agent, "d")] {
            record(log, subject).await;
        }
        let seen: Vec<_> = read_events(&path, 0)
            .unwrap()
            .into_iter()
            .map(|event| (event.sequence, event.subject))
            .collect();
        let expected = [(1, "a"), (2, "b"), (3, "c"), (4, "d")];
        assert_eq!(seen, expected.map(|(number, subject)| (number, subject.to_owned())));
    }

    #[tokio::test]
    async fn torn_last_line_is_dropped_and_its_number_used_again() {
        let (_dir, path) = mk_dir();
        record(&EventLog::open(&path).unwrap(), "a").await;
        let whole = std::fs::read(path.join(FILE_NAME)).unwrap();
        let torn = [whole.as_slice(), &whole[..whole.len() / 2]].concat();
        std::fs::write(path.join(FILE_NAME), torn).unwrap();
        record(&EventLog::open(&path).unwrap(), "b").await;
        let seen: Vec<_> = read_events(&path, 0)
            .unwrap()
            .into_iter()
            .map(|e| (e.sequence, e.subject))
            .collect();
        assert_eq!(seen, [(1, "a".to_owned()), (2, "b".to_owned())]);
    }

    #[tokio::test]
    async fn reader_gets_only_what_came_since() {
        let (_dir, path) = mk_dir();
        let log = EventLog::open(&path).unwrap();
        for subject in ["a", "b", "c"] {
            record(&log, subject).await;
        }
        let seen: Vec<_> = read_events(&path, 2).unwrap().into_iter().map(|e| e.subject).collect();
        assert_eq!(seen, ["c"]);
    }

    #[test]
    fn log_that_is_twice_too_long_is_shortened_to_the_newest() {
        let (_dir, path) = mk_dir();
        let file = path.join(FILE_NAME);
        let mk_event = |sequence| Event {
            sequence,
            time: Timestamp::UNIX_EPOCH,
            kind: EventKind::Normal,
            reason: EventReason::ImageStored,
            subject: String::new(),
            message: String::new(),
        };
        let many: Vec<_> = (1..=2 * MAX_EVENTS as u64).map(mk_event).collect();
        rewrite(&file, many.iter()).unwrap();
        let mut writer = EventWriter::open(file, 2 * MAX_EVENTS).unwrap();
        writer.append(mk_event(0)).unwrap();
        let events = read_events(&path, 0).unwrap();
        assert_eq!(events.len(), MAX_EVENTS + 1);
        assert_eq!(events.last().unwrap().sequence, 2 * MAX_EVENTS as u64 + 1);
    }

    #[test]
    fn state_directory_without_a_log_has_no_events() {
        let (_dir, path) = mk_dir();
        assert_eq!(read_events(&path, 0).unwrap(), []);
    }
}
