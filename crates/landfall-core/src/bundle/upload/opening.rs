//! The decision about a client that wants to upload a file.

use serde::{Deserialize, Serialize};

use super::{
    NoRoom, RANGE_SIZE_DEFAULT, RANGE_SIZE_MAX, RANGE_SIZE_MIN, RANGES_MAX, UPLOADS_MAX, Upload, UploadHeader,
    UploadName, UploadRefusal,
};
use crate::bundle::pieces::parse_piece_name;
use crate::reference::Digest;

/// A file that a client wants to upload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UploadRequest {
    pub name: UploadName,
    /// Size of the file in bytes.
    pub size: u64,
    /// Bytes of a range that the client wishes for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range_size: Option<u64>,
    /// Id of the bundle, if the client knows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bundle: Option<Digest>,
    /// True if the file replaces one with the same name.
    #[serde(default)]
    pub replace: bool,
    /// True if nothing is to be done.
    #[serde(default)]
    pub dry_run: bool,
}

/// An upload that the host knows.
#[derive(Debug, Clone, Copy)]
pub struct KnownUpload<'a> {
    pub id: &'a str,
    pub upload: &'a Upload,
    /// True if the file has its name in the directory of bundles.
    pub is_published: bool,
}

/// Room on the disk with the directory of bundles, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskRoom {
    pub free: u64,
    /// Bytes that stay free for the host itself.
    pub kept: u64,
}

/// Decision about a client that wants to upload a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opening {
    /// The upload goes on, whoever began it.
    Resume {
        id: String,
    },
    Begin(UploadHeader),
}

/// Decides about a client that wants to upload a file. `is_taken` is true if a file with this name is in the directory.
///
/// # Errors
/// If the file cannot be uploaded now.
pub fn decide_opening(
    request: &UploadRequest,
    known: &[KnownUpload<'_>],
    is_taken: bool,
    room: DiskRoom,
) -> Result<Opening, UploadRefusal> {
    let header = plan_header(request)?;
    let mut same_name = known.iter().filter(|known| known.upload.header().name == request.name);
    let same_bundle = known
        .iter()
        .find(|known| is_same_bundle(request, known.upload.header()));
    let resumed = same_name
        .clone()
        .find(|known| is_same_file(request, known.upload.header()));
    if let Some(resumed) = resumed.or(same_bundle) {
        return Ok(Opening::Resume {
            id: resumed.id.to_owned(),
        });
    }
    if let Some(other) = same_name.find(|known| !known.is_published) {
        return Err(UploadRefusal::NameInUse {
            name: request.name.clone(),
            id: other.id.to_owned(),
            size: other.upload.header().size,
        });
    }
    if is_taken && !request.replace {
        return Err(UploadRefusal::Exists {
            name: request.name.clone(),
        });
    }
    let open = known.iter().filter(|known| !known.is_published);
    if open.clone().count() >= UPLOADS_MAX {
        return Err(UploadRefusal::TooMany);
    }
    let reserved = open.map(|known| known.upload.header().size - known.upload.received_bytes());
    check_room(header.size, reserved.sum(), room)?;
    Ok(Opening::Begin(header))
}

/// Checks that bytes fit onto a disk beside what other uploads need.
pub(super) fn check_room(needed: u64, reserved: u64, room: DiskRoom) -> Result<(), UploadRefusal> {
    let all = needed.saturating_add(reserved).saturating_add(room.kept);
    match all > room.free {
        false => Ok(()),
        true => Err(UploadRefusal::NoRoom(NoRoom {
            needed_bytes: needed,
            free_bytes: room.free,
            reserved_bytes: reserved,
            kept_bytes: room.kept,
        })),
    }
}

impl DiskRoom {
    /// Checks that the disk still takes the bytes of a range.
    ///
    /// # Errors
    /// If it does not.
    pub fn check_range(self, bytes: u64) -> Result<(), UploadRefusal> {
        check_room(bytes, 0, self)
    }
}

fn plan_header(request: &UploadRequest) -> Result<UploadHeader, UploadRefusal> {
    let size = request.size;
    if size == 0 {
        return Err(UploadRefusal::Empty);
    }
    if let Some(size) = request.range_size
        && !(RANGE_SIZE_MIN..=RANGE_SIZE_MAX).contains(&size)
    {
        return Err(UploadRefusal::RangeSize { size });
    }
    let smallest = size.div_ceil(RANGES_MAX).next_multiple_of(RANGE_SIZE_MIN);
    let range_size = request.range_size.unwrap_or(RANGE_SIZE_DEFAULT).max(smallest);
    if range_size > RANGE_SIZE_MAX {
        return Err(UploadRefusal::TooLarge { size });
    }
    Ok(UploadHeader {
        version: UploadHeader::VERSION,
        name: request.name.clone(),
        size,
        range_size,
        bundle: request.bundle.clone(),
    })
}

/// Returns true if a request goes on with an upload of the same name. A client that names no bundle goes on with any.
fn is_same_file(request: &UploadRequest, header: &UploadHeader) -> bool {
    let is_same_bundle = match (&request.bundle, &header.bundle) {
        (Some(asked), Some(known)) => asked == known,
        _ => true,
    };
    header.size == request.size && is_same_bundle
}

/// Returns true if the same bundle is being uploaded under another name. A piece is not all of it.
fn is_same_bundle(request: &UploadRequest, header: &UploadHeader) -> bool {
    let is_piece = |name: &UploadName| parse_piece_name(name.as_str()).is_some();
    request.bundle.is_some()
        && request.bundle == header.bundle
        && request.size == header.size
        && !is_piece(&request.name)
        && !is_piece(&header.name)
}
