//! Failures of uploads.

use std::borrow::Cow;
use std::io;

use camino::{Utf8Path, Utf8PathBuf};
use landfall_core::bundle::upload::{DiskRoom, UploadRefusal};
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
            Some(room) => UploadRefusal::DiskFull {
                free_bytes: room.free,
                kept_bytes: room.kept,
            }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disk_that_fills_after_the_check_is_told_with_its_figures() {
        let room = DiskRoom { free: 512, kept: 100 };
        let full = |source| UploadError::of_disk("/content/a".into(), source, Some(room));
        let error = full(io::ErrorKind::StorageFull.into());
        assert_eq!(
            error.to_string(),
            "the disk became full while the upload was written: 512 bytes are free"
        );
        let broken = full(io::ErrorKind::PermissionDenied.into());
        assert_eq!(broken.to_string(), "cannot write `/content/a`");
    }
}
