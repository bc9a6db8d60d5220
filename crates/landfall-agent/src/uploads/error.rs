//! Failures of uploads.

use std::borrow::Cow;
use std::io;

use camino::{Utf8Path, Utf8PathBuf};
use landfall_core::bundle::upload::{DiskRoom, NoRoom, UploadRefusal};
use landfall_core::failure::Hint;
use landfall_oci::store::error::{StoreError, is_disk_full};

/// Failure of an upload, or of one of its ranges.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UploadError {
    #[error(transparent)]
    Refused(#[from] UploadRefusal),
    #[error("cannot write `{path}`")]
    Disk {
        path: Utf8PathBuf,
        #[source]
        source: io::Error,
    },
    /// The disk does not say how much room it has.
    #[error(transparent)]
    Room(#[from] StoreError),
}

impl UploadError {
    /// Returns the error of a write. A full disk is told with its figures.
    pub(super) fn of_disk(path: &Utf8Path, source: io::Error, room: Option<DiskRoom>) -> UploadError {
        match room.filter(|_| is_disk_full(&source)) {
            Some(room) => UploadRefusal::NoRoom(NoRoom {
                needed_bytes: 0,
                free_bytes: room.free,
                reserved_bytes: 0,
                kept_bytes: room.kept,
            })
            .into(),
            None => UploadError::Disk {
                path: path.to_owned(),
                source,
            },
        }
    }
}

impl Hint for UploadError {
    fn hint(&self) -> Option<Cow<'_, str>> {
        match self {
            UploadError::Refused(refusal) => refusal.hint(),
            UploadError::Disk { source, .. } if source.kind() == io::ErrorKind::FileTooLarge => {
                Some("make the bundle in pieces, with `--split`".into())
            }
            UploadError::Disk { path, .. } => {
                Some(format!("look at the disk of `{path}` on the host: it may be read-only or broken").into())
            }
            UploadError::Room(error) => error.hint(),
        }
    }
}
