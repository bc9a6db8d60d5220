//! The stream of a read from a place: it has the length that was asked for, and ends with an error before the last bytes
//! of a blob with a wrong digest, so that no client takes one for complete.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use landfall_core::failure::FailureKind;
use landfall_core::oci_types::ManifestError;
use landfall_core::reference::Digest;
use landfall_core::sync::lock;
use tokio_util::sync::CancellationToken;

use crate::digest::Digester;
use crate::image::{BlobStream, TransferError};
use crate::store::MANIFEST_SIZE_MAX;

/// Reason why a place could not be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum PlaceError {
    #[error("it is not there")]
    Missing,
    #[error("the place was removed")]
    Removed,
    #[error("it ends {left} bytes too early")]
    Short { left: u64 },
    #[error("it has more bytes than its size says")]
    Long,
    #[error("its bytes have the digest `{found}`")]
    WrongDigest { found: Digest },
    #[error("it has more than {MANIFEST_SIZE_MAX} bytes, the limit of a manifest")]
    TooLarge,
    #[error("it is not a manifest")]
    Manifest(#[from] ManifestError),
}

impl PlaceError {
    fn kind(&self) -> FailureKind {
        match self {
            PlaceError::Missing | PlaceError::Removed => FailureKind::NotFound,
            PlaceError::Short { .. } | PlaceError::Long => FailureKind::WrongLength,
            PlaceError::WrongDigest { .. } => FailureKind::Corrupt,
            PlaceError::TooLarge | PlaceError::Manifest(_) => FailureKind::Protocol,
        }
    }
}

/// Reads of a place: their results so far, and their common end.
#[derive(Debug)]
pub(super) struct Reads {
    /// Name of the place in messages.
    place: String,
    /// Blobs that were read whole; true for those with the right digest.
    checked: Mutex<HashMap<Digest, bool>>,
    removed: CancellationToken,
}

impl Reads {
    pub(super) fn of(place: String) -> Reads {
        Reads {
            place,
            checked: Mutex::default(),
            removed: CancellationToken::new(),
        }
    }

    pub(super) fn place(&self) -> &str {
        &self.place
    }

    /// Ends all reads.
    pub(super) fn end(&self) {
        self.removed.cancel();
    }

    /// Waits for a read, and returns `None` once the reads are over.
    pub(super) async fn until_removed<T>(&self, read: impl Future<Output = T>) -> Option<T> {
        self.removed.run_until_cancelled(read).await
    }

    pub(super) fn note_checked(&self, digest: &Digest, is_right: bool) {
        let before = lock(&self.checked).insert(digest.clone(), is_right);
        if !is_right && before != Some(false) {
            tracing::warn!(place = self.place, blob = %digest, "a place has other bytes under a digest; they are not served");
        }
    }

    /// Returns true if a blob was read whole and is right.
    pub(super) fn is_right(&self, digest: &Digest) -> bool {
        lock(&self.checked).get(digest) == Some(&true)
    }

    /// Returns true if a blob is not known to be wrong, and the place is there.
    pub(super) fn may_have(&self, digest: &Digest) -> bool {
        !self.removed.is_cancelled() && lock(&self.checked).get(digest) != Some(&false)
    }

    pub(super) fn fail(&self, digest: &Digest, error: PlaceError) -> TransferError {
        TransferError {
            attempt: format!("cannot read `{digest}` from {}", self.place),
            kind: error.kind(),
            source: Some(Box::new(error)),
        }
    }
}

/// A read that is under way.
pub(super) struct CheckedRead {
    pub(super) reads: Arc<Reads>,
    pub(super) digest: Digest,
    pub(super) stream: BlobStream,
    /// Bytes that are still to come.
    pub(super) left: u64,
    /// Hash of the bytes so far; `None` for a read that is not checked.
    pub(super) digester: Option<Digester>,
}

impl CheckedRead {
    pub(super) fn into_stream(self) -> BlobStream {
        let chunks = stream::unfold(Some(self), async |read| {
            let mut read = read?;
            match read.next_chunk().await {
                Ok(Some(chunk)) => Some((Ok(chunk), Some(read))),
                Ok(None) => None,
                Err(error) => Some((Err(error), None)),
            }
        });
        Box::pin(chunks)
    }

    async fn next_chunk(&mut self) -> Result<Option<Bytes>, TransferError> {
        if self.left == 0 {
            return Ok(None);
        }
        let next = self.reads.until_removed(self.stream.next()).await;
        let chunk = match next {
            Some(Some(chunk)) => chunk?,
            Some(None) => return Err(self.fail(PlaceError::Short { left: self.left })),
            None => return Err(self.fail(PlaceError::Removed)),
        };
        let Some(left) = self.left.checked_sub(chunk.len() as u64) else {
            return Err(self.fail(PlaceError::Long));
        };
        self.left = left;
        if let Some(digester) = &mut self.digester {
            digester.update(&chunk);
        }
        if left == 0
            && let Some(digester) = self.digester.take()
        {
            let found = digester.finish();
            let is_right = found == self.digest;
            self.reads.note_checked(&self.digest, is_right);
            if !is_right {
                return Err(self.fail(PlaceError::WrongDigest { found }));
            }
        }
        Ok(Some(chunk))
    }

    fn fail(&self, error: PlaceError) -> TransferError {
        self.reads.fail(&self.digest, error)
    }
}
