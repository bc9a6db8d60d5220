//! The journal of an upload: a line with the header in JSON, then a line for each entry.
//!
//! A power cut may leave the last line torn. It was not acknowledged, and it is cut off. The same holds for whatever
//! follows a line that cannot be read.

use super::{JournalEntry, Upload, UploadHeader};

const RANGE: &str = "range";
const IDLE: &str = "idle";
const REPLACE: &str = "replace";

/// Reason why a journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalProblem {
    #[error("its first line is torn")]
    NoHeader,
    #[error("its first line is no description of an upload")]
    Header(#[source] serde_json::Error),
    #[error("it is of version {0}, which this program does not know")]
    Version(u32),
    #[error("it describes a file with no or too many ranges")]
    Ranges,
}

/// Returns the first line.
#[must_use]
pub fn render_header(header: &UploadHeader) -> String {
    let mut line = serde_json::to_string(header).expect("texts and numbers are JSON");
    line.push('\n');
    line
}

/// Returns the line of an entry.
#[must_use]
pub fn render_entry(entry: &JournalEntry) -> String {
    match entry {
        JournalEntry::Range(number, sha256) => format!("{RANGE} {number} {sha256}\n"),
        JournalEntry::Idle => format!("{IDLE}\n"),
        JournalEntry::Replace => format!("{REPLACE}\n"),
    }
}

/// Reads a journal. Returns the upload, and the length of the part that could be read: a writer goes on there.
///
/// # Errors
/// If the first line cannot be used.
pub fn parse_journal(bytes: &[u8]) -> Result<(Upload, usize), JournalProblem> {
    let mut lines = bytes.split_inclusive(|byte| *byte == b'\n');
    let first = lines.next().filter(|line| line.ends_with(b"\n"));
    let first = first.ok_or(JournalProblem::NoHeader)?;
    let header: UploadHeader = serde_json::from_slice(first).map_err(JournalProblem::Header)?;
    if header.version > UploadHeader::VERSION {
        return Err(JournalProblem::Version(header.version));
    }
    let mut upload = Upload::begin(header).ok_or(JournalProblem::Ranges)?;
    let mut length = first.len();
    for line in lines {
        let Some(entry) = parse_entry(line, &upload) else { break };
        upload.apply(&entry);
        length += line.len();
    }
    Ok((upload, length))
}

fn parse_entry(line: &[u8], upload: &Upload) -> Option<JournalEntry> {
    let line = std::str::from_utf8(line).ok()?.strip_suffix('\n')?;
    let mut words = line.split(' ');
    let entry = match words.next()? {
        RANGE => {
            let number = words.next()?.parse().ok()?;
            upload.span(number)?;
            JournalEntry::Range(number, words.next()?.parse().ok()?)
        }
        IDLE => JournalEntry::Idle,
        REPLACE => JournalEntry::Replace,
        _ => return None,
    };
    words.next().is_none().then_some(entry)
}
