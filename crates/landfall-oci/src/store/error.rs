//! Errors of the content store.

use std::borrow::Cow;
use std::io;

use camino::Utf8PathBuf;
use landfall_core::failure::{FailureKind, Hint};
use landfall_core::oci_types::{ManifestError, Platform};
use landfall_core::reference::Digest;
use landfall_core::wording::quoted;

use crate::image::TransferError;
use crate::store::lock_holder::LockHolder;

/// Error of the content store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The disk failed; the cause names the file.
    #[error("the content store's disk failed")]
    Disk(#[from] io::Error),
    /// Another process has the store open.
    #[error("the content store `{root}` is in use by {}", describe_holder(.holder.as_ref()))]
    InUse {
        root: Utf8PathBuf,
        holder: Option<LockHolder>,
    },
    /// The store lacks the blob.
    #[error("the content store has no blob `{digest}`")]
    Missing { digest: Digest },
    /// The received bytes have the wrong digest. They are discarded.
    #[error("the bytes that arrived for blob `{expected}` have the digest `{found}`")]
    WrongDigest { expected: Digest, found: Digest },
    /// Too many bytes were received. They are discarded.
    #[error("more than the {size} bytes of blob `{digest}` arrived")]
    TooLong { digest: Digest, size: u64 },
    /// Too few bytes were received. They are kept.
    #[error("{found} of the {size} bytes of blob `{digest}` arrived")]
    Short { digest: Digest, size: u64, found: u64 },
    /// The bytes before the requested offset are no longer present.
    #[error("blob `{digest}` cannot be continued at byte {offset}: {found} bytes of it are here")]
    Offset { digest: Digest, offset: u64, found: u64 },
    /// A blob changed on disk after it was verified.
    #[error("blob `{digest}` is damaged on disk")]
    Damaged { digest: Digest },
    /// A blob is too large to be read into memory.
    #[error("blob `{digest}` has more than {limit} bytes, the limit of a document")]
    TooLarge {
        digest: Digest,
        /// In bytes.
        limit: u64,
    },
    /// A blob is not a manifest.
    #[error("blob `{digest}` is not a manifest")]
    Manifest {
        digest: Digest,
        #[source]
        source: ManifestError,
    },
    /// No image has this name.
    #[error("the content store has no image `{image}`")]
    NoImage { image: String },
    /// The disk has no room for the incoming bytes.
    #[error("no room for {incoming} more bytes: the disk has {free} bytes free, of which {floor} are kept")]
    NoSpace {
        /// Free bytes of the disk.
        free: u64,
        /// Bytes that stay free.
        floor: u64,
        /// Bytes to receive.
        incoming: u64,
    },
    #[error("the process is stopping")]
    Stopping,
    /// The store, or the repository in question, lacks content that a manifest names.
    #[error("manifest `{manifest}` names {}, which the content store does not have", quoted(.missing))]
    Incomplete { manifest: Digest, missing: Vec<Digest> },
    /// The source of an index has no entry that this host could run.
    #[error("the index `{index}` is there without its entry for `{platform}`")]
    PlatformLeftOut { index: Digest, platform: Platform },
}

impl StoreError {
    /// Returns the failure kind of a transfer with this error.
    #[must_use]
    pub fn kind(&self) -> FailureKind {
        match self {
            StoreError::Disk(_) | StoreError::InUse { .. } | StoreError::NoSpace { .. } | StoreError::Stopping => {
                FailureKind::Local
            }
            StoreError::Missing { .. } | StoreError::NoImage { .. } => FailureKind::NotFound,
            StoreError::WrongDigest { .. } | StoreError::TooLong { .. } | StoreError::Damaged { .. } => {
                FailureKind::Corrupt
            }
            // The peer closed the connection early: the next attempt resumes here.
            StoreError::Short { .. } => FailureKind::Unreachable,
            StoreError::Offset { .. }
            | StoreError::TooLarge { .. }
            | StoreError::Manifest { .. }
            | StoreError::Incomplete { .. }
            | StoreError::PlatformLeftOut { .. } => FailureKind::Protocol,
        }
    }

    /// Returns [`StoreError::Incomplete`] if content of a manifest is missing.
    ///
    /// # Errors
    /// If `missing` is not empty.
    pub fn unless_complete(manifest: &Digest, missing: Vec<Digest>) -> Result<(), StoreError> {
        if missing.is_empty() {
            return Ok(());
        }
        Err(StoreError::Incomplete {
            manifest: manifest.clone(),
            missing,
        })
    }

    /// Returns true if content is missing or damaged: a new copy of the image repairs it.
    pub(super) fn is_repaired_by_copying(&self) -> bool {
        matches!(
            self,
            StoreError::Missing { .. } | StoreError::Damaged { .. } | StoreError::Manifest { .. }
        )
    }

    /// Returns this error as the cause of a transfer's error with this attempt.
    #[must_use]
    pub fn during(self, attempt: String) -> TransferError {
        TransferError {
            attempt,
            kind: self.kind(),
            source: Some(Box::new(self)),
        }
    }
}

fn describe_holder(holder: Option<&LockHolder>) -> String {
    holder.map_or_else(|| "another process".to_owned(), ToString::to_string)
}

/// Advice where the disk of the store has no room.
pub const MAKE_ROOM: &str =
    "free space on this disk, or delete images and run `landfall registry gc`, or give the store a larger disk";

/// Returns true if an error means that the disk, or the user's share of it, has no room.
#[must_use]
pub fn is_disk_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

impl Hint for StoreError {
    fn hint(&self) -> Option<Cow<'_, str>> {
        match self {
            StoreError::InUse { .. } => Some("stop that one first, or choose another directory".into()),
            StoreError::NoSpace { .. } => Some(MAKE_ROOM.into()),
            StoreError::Disk(error) if is_disk_full(error) => Some(MAKE_ROOM.into()),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_in_use_and_a_full_disk_have_advice() {
        let disk = |kind: io::ErrorKind| StoreError::Disk(kind.into());
        let in_use = StoreError::InUse {
            root: "/store".into(),
            holder: None,
        };
        let no_space = StoreError::NoSpace {
            free: 1,
            floor: 2,
            incoming: 3,
        };
        for (error, hint) in [
            (in_use, Some("stop that one first, or choose another directory")),
            (no_space, Some(MAKE_ROOM)),
            (disk(io::ErrorKind::StorageFull), Some(MAKE_ROOM)),
            (disk(io::ErrorKind::QuotaExceeded), Some(MAKE_ROOM)),
            (disk(io::ErrorKind::PermissionDenied), None),
            (StoreError::Stopping, None),
        ] {
            assert_eq!(error.hint().as_deref(), hint, "{error}");
        }
    }
}
