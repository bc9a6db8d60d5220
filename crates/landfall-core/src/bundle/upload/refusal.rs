//! Reasons to refuse an upload or a range.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::{RANGE_SIZE_MAX, RANGES_MAX, UPLOADS_MAX, UploadName};
use crate::failure::Hint;

/// Figures of a disk without room for a file, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NoRoom {
    /// Bytes that the upload still needs.
    pub needed_bytes: u64,
    pub free_bytes: u64,
    /// Bytes that other uploads still need.
    pub reserved_bytes: u64,
    /// Bytes that stay free for the host itself.
    pub kept_bytes: u64,
}

/// Reason to refuse an upload or a range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UploadRefusal {
    #[error("an upload has at least one byte")]
    Empty,
    #[error("the file has {size} bytes, and an upload may have {}", RANGE_SIZE_MAX * RANGES_MAX)]
    TooLarge { size: u64 },
    #[error(
        "a range of {size} bytes is not possible: ranges have {} to {RANGE_SIZE_MAX} bytes",
        super::RANGE_SIZE_MIN
    )]
    RangeSize { size: u64 },
    #[error("another upload to `{name}` is under way: `{id}`, of {size} bytes")]
    NameInUse { name: UploadName, id: String, size: u64 },
    #[error("a file `{name}` is in the directory of bundles already")]
    Exists { name: UploadName },
    #[error("{UPLOADS_MAX} uploads are under way, and no more are taken")]
    TooMany,
    #[error(
        "the disk has no room: {} bytes are needed, {} are free, {} of them for other uploads and {} for the host",
        .0.needed_bytes, .0.free_bytes, .0.reserved_bytes, .0.kept_bytes
    )]
    NoRoom(NoRoom),
    #[error("the disk became full while the upload was written: {free_bytes} bytes are free")]
    DiskFull {
        free_bytes: u64,
        /// Bytes that stay free for the host itself.
        kept_bytes: u64,
    },
    #[error("there is no upload `{id}`")]
    Unknown { id: String },
    #[error("there is no range {number}: the upload has {count}")]
    NoSuchRange { number: u64, count: u64 },
    #[error("range {number} has {expected} bytes, and {found} came")]
    Length { number: u64, expected: u64, found: u64 },
    #[error("the bytes of range {number} do not have the SHA-256 that was sent with them")]
    Hash { number: u64 },
    #[error("range {number} is here with other bytes: this is not the file that the upload was begun with")]
    OtherContent { number: u64 },
    #[error("range {number} is being sent by somebody else")]
    InFlight { number: u64 },
    #[error("too many ranges are being sent at once")]
    Busy,
}

impl Hint for UploadRefusal {
    fn hint(&self) -> Option<Cow<'_, str>> {
        Some(match self {
            UploadRefusal::Empty => "name a file with content".into(),
            UploadRefusal::TooLarge { .. } => "make the bundle in pieces, with `--split`".into(),
            UploadRefusal::RangeSize { .. } => "leave `rangeSize` out: the host chooses a size".into(),
            UploadRefusal::NameInUse { id, .. } => {
                format!("go on with that file, end it with `DELETE /api/v1/uploads/{id}`, or use another name").into()
            }
            UploadRefusal::Exists { .. } => {
                "use another name, or replace the file with `--replace` (`replace` in a request)".into()
            }
            UploadRefusal::TooMany => {
                "finish one of them, or end one: `GET /api/v1/uploads` lists them, `DELETE` ends one".into()
            }
            UploadRefusal::NoRoom(_) | UploadRefusal::DiskFull { .. } => {
                "free space on the host's disk, or end another upload".into()
            }
            UploadRefusal::Unknown { .. } => "begin it again with `POST /api/v1/uploads`".into(),
            UploadRefusal::NoSuchRange { .. } | UploadRefusal::Length { .. } => {
                "cut the file into ranges of `rangeSize` bytes, counted from 0".into()
            }
            UploadRefusal::Hash { .. } => "send the range again, with the SHA-256 of exactly its bytes".into(),
            UploadRefusal::OtherContent { .. } => {
                "send the file that it was begun with, or end the upload with `DELETE` and begin again".into()
            }
            UploadRefusal::InFlight { .. } => "send another range, and come back to this one".into(),
            UploadRefusal::Busy => "send it again in a moment".into(),
        })
    }
}
