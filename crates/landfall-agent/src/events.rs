//! The events for an operator on the site: a ring on disk, one JSON object per line.
//!
//! Each event is appended and synced, so that a power cut loses at most the line that was being written. A torn last
//! line is dropped when the log is opened. The log has between [`MAX_EVENTS`] and twice as many events. Events that
//! cannot be written stay in memory, and are written with a later one.

use std::collections::VecDeque;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;

use anyhow::Context as _;
use camino::{Utf8Path, Utf8PathBuf};
use fs_err::os::unix::fs::OpenOptionsExt as _;
use jiff::Timestamp;
use landfall_core::status::{Event, EventKind, EventReason};
use landfall_host::files::write_atomic;
use landfall_net::state_file::{SetAside, StateFile, Unusable, clear_for_writing, load_state_file, set_aside};
use tokio::sync::Mutex;

use crate::write_health::WriteHealth;

/// The number of events that are kept when the log is shortened.
pub const MAX_EVENTS: usize = 1_000;

/// The name of the log in the state directory.
pub const FILE_NAME: &str = "events.jsonl";

/// The log in the words of a message.
const IN_WORDS: &str = "the event log";

/// The name of the lock file. A writer holds the lock while it writes the log.
pub(crate) const LOCK_NAME: &str = "events.lock";

/// The event log of a state directory. Cheap to clone. `landfall stages run` writes to it beside a running agent: a
/// lock on a separate file keeps the sequence without gaps.
#[derive(Debug, Clone)]
pub struct EventLog {
    writer: Arc<Mutex<EventWriter>>,
}

#[derive(Debug)]
struct EventWriter {
    path: Utf8PathBuf,
    /// The open log; `None` if it could not be opened.
    open: Option<OpenLog>,
    /// Events that are not on disk yet, oldest first.
    unwritten: VecDeque<Event>,
    health: WriteHealth,
}

/// The log as this process wrote it last.
#[derive(Debug)]
struct OpenLog {
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
        let path = state_dir.join(FILE_NAME);
        let (open, _aside) = OpenLog::open(&path, MAX_EVENTS)?;
        Ok(EventLog::with(path, Some(open), WriteHealth::new(state_dir)))
    }

    /// Opens the log as [`EventLog::open`] does. If that fails, the events stay in memory until the log can be opened.
    /// Returns the files that were damaged and are set aside.
    pub(crate) fn open_or_keep_in_memory(state_dir: &Utf8Path, health: WriteHealth) -> (EventLog, Vec<SetAside>) {
        let path = state_dir.join(FILE_NAME);
        let (open, aside) = match OpenLog::open(&path, MAX_EVENTS) {
            Ok((open, aside)) => (Some(open), aside),
            Err(error) => {
                health.note(IN_WORDS, Err(error));
                (None, Vec::new())
            }
        };
        (EventLog::with(path, open, health), aside)
    }

    fn with(path: Utf8PathBuf, open: Option<OpenLog>, health: WriteHealth) -> EventLog {
        EventLog {
            writer: Arc::new(Mutex::new(EventWriter {
                path,
                open,
                unwritten: VecDeque::new(),
                health,
            })),
        }
    }

    /// Returns the events with a sequence number greater than `since`, oldest first, also those that are not on disk.
    ///
    /// # Errors
    ///
    /// If the file exists and cannot be read.
    pub async fn since(&self, since: u64) -> anyhow::Result<Vec<Event>> {
        let writer = Arc::clone(&self.writer).lock_owned().await;
        let events = tokio::task::spawn_blocking(move || writer.read(since)).await?;
        Ok(events)
    }

    /// Records an event. A full disk must not stop the agent: if the write fails, the event stays in memory.
    pub async fn record(&self, kind: EventKind, reason: EventReason, subject: &str, message: String) {
        match kind {
            EventKind::Normal => tracing::info!(?reason, subject, detail = message, "event"),
            EventKind::Warning => tracing::warn!(?reason, subject, detail = message, "event"),
        }
        self.write(kind, reason, subject, message).await;
    }

    /// Records a warning that summarizes others. Their messages are in the log already, so that this one is not logged
    /// again.
    pub async fn record_summary(&self, reason: EventReason, subject: &str, message: String) {
        tracing::info!(?reason, subject, "event");
        self.write(EventKind::Warning, reason, subject, message).await;
    }

    /// Writes the events that are in memory because an earlier write failed.
    pub(crate) async fn flush(&self) {
        let mut writer = Arc::clone(&self.writer).lock_owned().await;
        let flush = move || {
            let written = writer.write_unwritten();
            writer.health.note(IN_WORDS, written);
        };
        if let Err(error) = tokio::task::spawn_blocking(flush).await {
            tracing::error!(%error, "cannot write the events");
        }
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
        if let Err(error) = tokio::task::spawn_blocking(move || writer.append(event)).await {
            tracing::error!(%error, "cannot record an event");
        }
    }
}

impl EventWriter {
    fn append(&mut self, event: Event) {
        if self.unwritten.len() >= MAX_EVENTS {
            self.unwritten.pop_front();
        }
        self.unwritten.push_back(event);
        let written = self.write_unwritten();
        if written.is_err() {
            // Numbers for readers of this process. They are given again when the events are written.
            let next = self.open.as_ref().map_or(1, |open| open.next);
            for (number, event) in (next..).zip(&mut self.unwritten) {
                event.sequence = number;
            }
        }
        self.health.note(IN_WORDS, written);
    }

    fn write_unwritten(&mut self) -> anyhow::Result<()> {
        let _held = lock(&self.path)?;
        let is_changed =
            |open: &OpenLog| fs_err::metadata(&self.path).map_or(true, |metadata| identity(&metadata) != open.seen);
        let open = match self.open.take() {
            Some(open) if open.lines < 2 * MAX_EVENTS && !is_changed(&open) => open,
            before => {
                let is_long = before.as_ref().is_some_and(|open| open.lines >= 2 * MAX_EVENTS);
                let keep = if is_long { MAX_EVENTS } else { 2 * MAX_EVENTS };
                match OpenLog::open_locked(&self.path, keep) {
                    Ok((open, _aside)) => open,
                    Err(error) => {
                        self.open = before;
                        return Err(error);
                    }
                }
            }
        };
        self.open.insert(open).append(&mut self.unwritten)
    }

    fn read(&self, since: u64) -> Vec<Event> {
        // A log that cannot be read is replaced with the next event.
        let events = load_events(&self.path).unwrap_or_default();
        let all = events.into_iter().chain(self.unwritten.iter().cloned());
        all.filter(|event| event.sequence > since).collect()
    }
}

impl OpenLog {
    fn open(path: &Utf8Path, keep: usize) -> anyhow::Result<(OpenLog, Vec<SetAside>)> {
        let _held = lock(path)?;
        OpenLog::open_locked(path, keep)
    }

    fn open_locked(path: &Utf8Path, keep: usize) -> anyhow::Result<(OpenLog, Vec<SetAside>)> {
        // Another process may have made the log and written no line yet.
        let is_new = fs_err::metadata(path).is_ok_and(|found| found.is_file() && found.len() == 0);
        let loaded = match is_new {
            true => StateFile::Missing,
            false => load_state_file(path, |bytes| Ok(read_lines(bytes))),
        };
        let (events, aside) = match loaded {
            StateFile::Missing => (VecDeque::new(), None),
            StateFile::SetAside(aside) => (VecDeque::new(), Some(aside)),
            StateFile::Loaded(lines) => {
                let mut aside = None;
                if lines.damaged > 0 {
                    let reason = format!("{} of its lines are not events", lines.damaged);
                    aside = Some(set_aside(path, Unusable::Damaged(reason)));
                    rewrite(path, lines.events.iter())?;
                } else if lines.torn > 0 {
                    let file = fs_err::OpenOptions::new().write(true).open(path)?;
                    file.set_len(file.metadata()?.len().saturating_sub(lines.torn))?;
                }
                (lines.events, aside)
            }
        };
        let mut lines = events.len();
        if lines > keep {
            // A full disk has no room for the copy. Then the log stays long for a while.
            match rewrite(path, events.iter().skip(lines - keep)) {
                Ok(()) => lines = keep,
                Err(error) => tracing::debug!(error = format!("{error:#}"), "the event log cannot be shortened"),
            }
        }
        let file = open_for_append(path)?;
        let open = OpenLog {
            seen: identity(&file.metadata()?),
            file,
            next: events.back().map_or(1, |event| event.sequence + 1),
            lines,
        };
        Ok((open, aside.into_iter().collect()))
    }

    /// Appends events and numbers them. Those that could not be written stay in the list.
    fn append(&mut self, events: &mut VecDeque<Event>) -> anyhow::Result<()> {
        while let Some(event) = events.front_mut() {
            event.sequence = self.next;
            let mut line = serde_json::to_vec(event)?;
            line.push(b'\n');
            let written = self.file.write_all(&line).and_then(|()| self.file.sync_data());
            if let Err(error) = written {
                // A part of the line may be there.
                let _torn_line_is_dropped_later = self.file.set_len(self.seen.1);
                return Err(error.into());
            }
            self.seen.1 += line.len() as u64;
            self.next += 1;
            self.lines += 1;
            events.pop_front();
        }
        Ok(())
    }
}

fn identity(metadata: &std::fs::Metadata) -> (u64, u64) {
    (metadata.ino(), metadata.len())
}

/// Waits for the lock, which is released when the file is dropped.
fn lock(log: &Utf8Path) -> anyhow::Result<fs_err::File> {
    let path = log.with_file_name(LOCK_NAME);
    let mut options = fs_err::OpenOptions::new();
    options.create(true).truncate(false).write(true);
    let file = options.open(&path).or_else(|error| match clear_for_writing(&path) {
        Some(_aside) => options.open(&path),
        None => Err(error),
    })?;
    file.file().lock().context("cannot lock the event log")?;
    Ok(file)
}

fn open_for_append(path: &Utf8Path) -> anyhow::Result<fs_err::File> {
    let mut options = fs_err::OpenOptions::new();
    Ok(options.create(true).append(true).mode(0o600).open(path)?)
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
    match fs_err::read(path) {
        Ok(bytes) => Ok(read_lines(&bytes).events),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(VecDeque::new()),
        Err(error) => Err(error).context("cannot read the event log"),
    }
}

/// The lines of a log.
#[derive(Debug, Default)]
struct LogLines {
    events: VecDeque<Event>,
    /// Number of lines that are not JSON.
    damaged: usize,
    /// Length in bytes of a last line without its end.
    torn: u64,
}

fn read_lines(bytes: &[u8]) -> LogLines {
    let mut lines = LogLines::default();
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        if !line.ends_with(b"\n") {
            lines.torn = line.len() as u64;
            continue;
        }
        match serde_json::from_slice(line) {
            Ok(event) => lines.events.push_back(event),
            // A later version may know more kinds of events.
            Err(_) if serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(line).is_ok() => {}
            Err(_) => lines.damaged += 1,
        }
    }
    lines
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
        let (open, _) = OpenLog::open(&file, 2 * MAX_EVENTS).unwrap();
        let mut writer = EventWriter {
            path: file,
            open: Some(open),
            unwritten: VecDeque::new(),
            health: WriteHealth::new(&path),
        };
        writer.append(mk_event(0));
        let events = read_events(&path, 0).unwrap();
        assert_eq!(events.len(), MAX_EVENTS + 1);
        assert_eq!(events.last().unwrap().sequence, 2 * MAX_EVENTS as u64 + 1);
    }

    #[tokio::test]
    async fn events_that_cannot_be_written_are_shown_and_written_later() {
        let (_dir, path) = mk_dir();
        record(&EventLog::open(&path).unwrap(), "a").await;
        let moved = path.with_extension("moved");
        std::fs::rename(&path, &moved).unwrap();
        std::fs::write(&path, "no directory").unwrap();
        let health = WriteHealth::new(&path);
        let (log, _) = EventLog::open_or_keep_in_memory(&path, health.clone());
        for subject in ["b", "c"] {
            record(&log, subject).await;
        }
        let shown = |events: Vec<Event>| -> Vec<(u64, String)> {
            events
                .into_iter()
                .map(|event| (event.sequence, event.subject))
                .collect()
        };
        assert_eq!(
            shown(log.since(0).await.unwrap()),
            [(1, "b".to_owned()), (2, "c".to_owned())]
        );
        assert!(health.problem().is_some());
        std::fs::remove_file(&path).unwrap();
        std::fs::rename(&moved, &path).unwrap();
        record(&log, "d").await;
        assert_eq!(health.problem(), None);
        let expected = [(1, "a"), (2, "b"), (3, "c"), (4, "d")];
        assert_eq!(
            shown(read_events(&path, 0).unwrap()),
            expected.map(|(number, subject)| (number, subject.to_owned()))
        );
    }

    #[tokio::test]
    async fn damaged_log_is_set_aside_and_its_good_events_stay() {
        for damage in ["garbage", "lines", "directory"] {
            let (_dir, path) = mk_dir();
            record(&EventLog::open(&path).unwrap(), "a").await;
            let file = path.join(FILE_NAME);
            let whole = std::fs::read_to_string(&file).unwrap();
            match damage {
                "garbage" => std::fs::write(&file, "\u{0}\u{1}\n").unwrap(),
                "lines" => std::fs::write(&file, format!("garbage\n{whole}")).unwrap(),
                _ => {
                    std::fs::remove_file(&file).unwrap();
                    std::fs::create_dir(&file).unwrap();
                }
            }
            let (log, aside) = EventLog::open_or_keep_in_memory(&path, WriteHealth::new(&path));
            assert_eq!(aside.len(), 1, "{damage}");
            record(&log, "b").await;
            let subjects: Vec<_> = read_events(&path, 0)
                .unwrap()
                .into_iter()
                .map(|event| event.subject)
                .collect();
            let expected: &[&str] = if damage == "lines" { &["a", "b"] } else { &["b"] };
            assert_eq!(subjects, expected, "{damage}");
        }
    }

    #[test]
    fn state_directory_without_a_log_has_no_events() {
        let (_dir, path) = mk_dir();
        assert_eq!(read_events(&path, 0).unwrap(), []);
    }
}
