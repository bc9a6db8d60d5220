//! What goes wrong in the content store.

use std::io;

use camino::Utf8PathBuf;
use landfall_core::failure::FailureKind;
use landfall_core::oci_types::ManifestError;
use landfall_core::reference::Digest;

use crate::image::TransferError;

/// Why the store could not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The disk failed us; the cause names the file.
    #[error("the content store's disk does not do what it is asked")]
    Disk(#[from] io::Error),
    /// Another process has the store.
    #[error(
        "the content store `{root}` is in use by another process: stop that one first, or choose another directory"
    )]
    InUse {
        /// The store's directory.
        root: Utf8PathBuf,
    },
    /// The blob is not here.
    #[error("the content store has no blob `{digest}`")]
    Missing {
        /// The blob.
        digest: Digest,
    },
    /// The bytes that came are not those of the blob. They are thrown away.
    #[error("the bytes that arrived for blob `{expected}` have the digest `{found}`")]
    WrongDigest {
        /// The blob that was asked for.
        expected: Digest,
        /// What came.
        found: Digest,
    },
    /// More bytes came than the blob has. They are thrown away.
    #[error("more than the {size} bytes of blob `{digest}` arrived")]
    TooLong {
        /// The blob.
        digest: Digest,
        /// Its size.
        size: u64,
    },
    /// The bytes ended early. What came is kept.
    #[error("{found} of the {size} bytes of blob `{digest}` arrived")]
    Short {
        /// The blob.
        digest: Digest,
        /// Its size.
        size: u64,
        /// How many came.
        found: u64,
    },
    /// The first bytes, from which a transfer was to go on, are not here any more.
    #[error("blob `{digest}` cannot be continued at byte {offset}: {found} bytes of it are here")]
    Offset {
        /// The blob.
        digest: Digest,
        /// Where the caller would go on.
        offset: u64,
        /// What is here.
        found: u64,
    },
    /// A blob changed on disk after it was verified.
    #[error("blob `{digest}` is damaged on disk")]
    Damaged {
        /// The blob.
        digest: Digest,
    },
    /// A blob is larger than what is read into memory.
    #[error("blob `{digest}` has more than the {limit} bytes that are read at once")]
    TooLarge {
        /// The blob.
        digest: Digest,
        /// The limit in bytes.
        limit: u64,
    },
    /// A blob is not a manifest.
    #[error("blob `{digest}` is not a manifest")]
    Manifest {
        /// The blob.
        digest: Digest,
        /// Why.
        #[source]
        source: ManifestError,
    },
    /// No image has this name.
    #[error("the content store has no image `{image}`")]
    NoImage {
        /// The name.
        image: String,
    },
    /// The disk has no room for what is to come.
    #[error(
        "no room for {incoming} more bytes: the disk has {free} bytes free, of which {floor} are kept; delete images and \
         run `landfall registry gc`, or give the registry a larger disk"
    )]
    NoSpace {
        /// What the disk has left, in bytes.
        free: u64,
        /// What is kept, in bytes.
        floor: u64,
        /// What is to come, in bytes.
        incoming: u64,
    },
    /// The process ends.
    #[error("the process is stopping")]
    Stopping,
    /// A manifest names content that is not here.
    #[error("manifest `{manifest}` names `{child}`, which the content store does not have")]
    Incomplete {
        /// The manifest.
        manifest: Digest,
        /// What is not here.
        child: Digest,
    },
}

impl StoreError {
    /// What follows from it for a transfer.
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
            // The other side hung up in the middle: the next attempt goes on from here.
            StoreError::Short { .. } => FailureKind::Unreachable,
            StoreError::Offset { .. }
            | StoreError::TooLarge { .. }
            | StoreError::Manifest { .. }
            | StoreError::Incomplete { .. } => FailureKind::Protocol,
        }
    }

    /// Whether content is missing or damaged, which copying the image once more mends.
    pub(super) fn is_repaired_by_copying(&self) -> bool {
        matches!(
            self,
            StoreError::Missing { .. } | StoreError::Damaged { .. } | StoreError::Manifest { .. }
        )
    }

    /// The error of a transfer, which says what was tried.
    #[must_use]
    pub fn during(self, attempt: String) -> TransferError {
        TransferError {
            attempt,
            kind: self.kind(),
            source: Some(Box::new(self)),
        }
    }
}
