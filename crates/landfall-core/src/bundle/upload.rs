//! Uploads of bundles in ranges [spec:bundles.upload]: the host owns the list of the ranges that it has.
//!
//! A file is cut into ranges of one size, which the host chooses when the upload begins. A range is recorded once its
//! bytes are on the disk, in a journal of lines that only grows; what a line says stays true. No clock takes part: an
//! upload is abandoned after many hours of run time of the agent without a range, which the journal counts. Files and
//! the network are left to the agent.

mod journal;
mod name;
mod opening;
mod refusal;

use std::ops::Range;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::reference::Digest;

pub use self::journal::{JournalProblem, parse_journal, render_entry, render_header};
pub use self::name::{UploadName, UploadNameError};
pub use self::opening::{DiskRoom, KnownUpload, Opening, UploadRequest, decide_opening};
pub use self::refusal::{NoRoom, UploadRefusal};

/// The largest range in bytes.
pub const RANGE_SIZE_MAX: u64 = 64 * 1024 * 1024;
/// The smallest range in bytes that a client may ask for.
pub const RANGE_SIZE_MIN: u64 = 64 * 1024;
/// Bytes of a range if the client asks for none.
pub const RANGE_SIZE_DEFAULT: u64 = 8 * 1024 * 1024;
/// Ranges of one upload: with the largest ranges, a file of 1 TiB.
pub const RANGES_MAX: u64 = 16 * 1024;
/// Uploads that are not complete, on one host.
pub const UPLOADS_MAX: usize = 8;
/// Hours of run time without a range after which an upload is abandoned.
pub const IDLE_HOURS_MAX: u32 = 72;

/// Description of an upload, which does not change: the first line of its journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UploadHeader {
    /// Version of the journal.
    pub version: u32,
    /// Name of the complete file.
    pub name: UploadName,
    /// Size of the complete file in bytes.
    pub size: u64,
    /// Bytes of each range but the last one, which may be shorter.
    pub range_size: u64,
    /// Id of the bundle, if the client told it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bundle: Option<Digest>,
}

/// An upload and the ranges that are here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upload {
    header: UploadHeader,
    /// SHA-256 of each range that is here.
    ranges: Vec<Option<Digest>>,
    idle_hours: u32,
    replaces: bool,
}

/// Answer to a client that offers a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RangeDecision {
    /// The range is missing: its bytes are taken.
    Take,
    /// The same bytes are here already.
    Here,
}

/// Entry of a journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JournalEntry {
    /// The range is on the disk.
    Range(u64, Digest),
    /// An hour passed without a range.
    Idle,
    /// The complete file replaces one with the same name.
    Replace,
}

impl UploadHeader {
    /// Version of the journals that this program writes.
    pub const VERSION: u32 = 1;

    /// Returns the number of ranges.
    #[must_use]
    pub fn range_count(&self) -> u64 {
        self.size.div_ceil(self.range_size.max(1))
    }

    fn is_valid(&self) -> bool {
        (1..=RANGE_SIZE_MAX).contains(&self.range_size) && (1..=RANGES_MAX).contains(&self.range_count())
    }
}

impl Upload {
    /// Begins an upload without a range. Returns `None` if the header has no or too many ranges.
    #[must_use]
    pub fn begin(header: UploadHeader) -> Option<Upload> {
        if !header.is_valid() {
            return None;
        }
        let count = usize::try_from(header.range_count()).ok()?;
        Some(Upload {
            header,
            ranges: vec![None; count],
            idle_hours: 0,
            replaces: false,
        })
    }

    #[must_use]
    pub fn header(&self) -> &UploadHeader {
        &self.header
    }

    /// Returns the SHA-256 of each range that is here, by the number of the range.
    #[must_use]
    pub fn ranges(&self) -> &[Option<Digest>] {
        &self.ranges
    }

    /// Returns the bytes of a range; `None` if there is no such range.
    #[must_use]
    pub fn span(&self, number: u64) -> Option<Range<u64>> {
        let UploadHeader { size, range_size, .. } = self.header;
        let start = number.checked_mul(range_size).filter(|start| *start < size)?;
        Some(start..start.saturating_add(range_size).min(size))
    }

    /// Decides about a range that a client offers with this length, if it is known before, and this SHA-256.
    ///
    /// # Errors
    /// If there is no such range, it has another length, or other bytes are here in its place.
    pub fn offer(&self, number: u64, length: Option<u64>, sha256: &Digest) -> Result<RangeDecision, UploadRefusal> {
        let span = self.span(number).ok_or(UploadRefusal::NoSuchRange {
            number,
            count: self.header.range_count(),
        })?;
        let expected = span.end - span.start;
        if let Some(found) = length.filter(|length| *length != expected) {
            return Err(UploadRefusal::Length {
                number,
                expected,
                found,
            });
        }
        match self.digest(number) {
            None => Ok(RangeDecision::Take),
            Some(here) if here == sha256 => Ok(RangeDecision::Here),
            Some(_) => Err(UploadRefusal::OtherContent { number }),
        }
    }

    /// Applies an entry of the journal. A range that is here stays as it is.
    pub fn apply(&mut self, entry: &JournalEntry) {
        match entry {
            JournalEntry::Range(number, sha256) => {
                let place = usize::try_from(*number)
                    .ok()
                    .and_then(|number| self.ranges.get_mut(number));
                if let Some(place) = place {
                    place.get_or_insert_with(|| sha256.clone());
                    self.idle_hours = 0;
                }
            }
            JournalEntry::Idle => self.idle_hours = self.idle_hours.saturating_add(1),
            JournalEntry::Replace => self.replaces = true,
        }
    }

    /// Returns the number of missing ranges.
    #[must_use]
    pub fn missing(&self) -> usize {
        self.ranges.iter().filter(|range| range.is_none()).count()
    }

    /// Returns true if all ranges are here.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.missing() == 0
    }

    /// Returns the number of bytes that are here.
    #[must_use]
    pub fn received_bytes(&self) -> u64 {
        let spans = (0..self.header.range_count()).filter(|number| self.digest(*number).is_some());
        let spans = spans.filter_map(|number| self.span(number));
        spans.map(|span| span.end - span.start).sum()
    }

    /// Returns the hours of run time since the last range.
    #[must_use]
    pub fn idle_hours(&self) -> u32 {
        self.idle_hours
    }

    /// Returns true if nobody is expected to go on with it.
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        self.idle_hours >= IDLE_HOURS_MAX
    }

    /// Returns true if the complete file replaces one with the same name.
    #[must_use]
    pub fn replaces(&self) -> bool {
        self.replaces
    }

    fn digest(&self, number: u64) -> Option<&Digest> {
        self.ranges.get(usize::try_from(number).ok()?)?.as_ref()
    }
}

/// State of an upload, as the API shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum UploadState {
    /// Ranges are missing.
    Receiving,
    /// All ranges are here, and a file with this name is in the way.
    Blocked,
    /// The file has its name in the directory of bundles.
    Complete,
    /// A client asked what would be done, and nothing was.
    Planned,
}

/// An upload in the API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UploadStatus {
    /// `None` for a bundle that came another way, and for a plan of a new upload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    pub name: String,
    pub state: UploadState,
    pub size: u64,
    pub range_size: u64,
    pub received_bytes: u64,
    /// SHA-256 of each range, null for a missing one. The answer to a range leaves them out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ranges: Vec<Option<Digest>>,
    /// Number of missing ranges.
    pub missing: usize,
    /// Path of the complete file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

#[cfg(test)]
mod tests;
