//! Digest of an upload: bytes sent to a registry are hashed on the way, and the last of them are held back if the
//! digest is wrong. The registry verifies them too; this check proves that the source is at fault.

use landfall_core::failure::FailureKind;
use landfall_core::oci_types::Descriptor;

use crate::digest::{Algorithm, Digester};
use crate::image::TransferError;

/// The digest of a blob's first bytes, across all attempts.
pub(super) struct UploadDigest {
    digester: Digester,
    hashed: u64,
}

impl UploadDigest {
    pub(super) fn new(blob: &Descriptor) -> UploadDigest {
        UploadDigest {
            digester: Digester::new(Algorithm::of(&blob.digest)),
            hashed: 0,
        }
    }

    /// Returns true if all bytes before this position are hashed.
    pub(super) fn covers(&self, position: u64) -> bool {
        self.hashed >= position
    }

    /// Hashes the bytes at a position, without those hashed in an earlier attempt. Bytes after a gap are ignored: the
    /// sink resumed the upload of an earlier process, and only the sink can verify it.
    ///
    /// # Errors
    /// If the blob is complete and its digest is wrong.
    pub(super) fn update(&mut self, blob: &Descriptor, position: u64, bytes: &[u8]) -> Result<(), TransferError> {
        let seen = self
            .hashed
            .checked_sub(position)
            .and_then(|seen| usize::try_from(seen).ok());
        let Some(new) = seen.and_then(|seen| bytes.get(seen..)).filter(|new| !new.is_empty()) else {
            return Ok(());
        };
        self.digester.update(new);
        self.hashed += new.len() as u64;
        if self.hashed < blob.size {
            return Ok(());
        }
        let complete = std::mem::replace(self, UploadDigest::new(blob));
        let computed = complete.digester.finish();
        if computed == blob.digest {
            // The end may be sent again: it is verified already.
            self.hashed = blob.size;
            return Ok(());
        }
        Err(TransferError {
            attempt: format!("the source's bytes of blob `{}` have digest `{computed}`", blob.digest),
            kind: FailureKind::Corrupt,
            source: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::digest_of;

    #[test]
    fn bytes_are_proven_once_in_whatever_pieces_they_come() {
        let blob = Descriptor::new("", digest_of(b"0123456789"), 10);
        let mut upload_digest = UploadDigest::new(&blob);
        upload_digest.update(&blob, 0, b"0123").unwrap();
        // Bytes that are sent again, and new ones.
        upload_digest.update(&blob, 2, b"2345").unwrap();
        upload_digest.update(&blob, 0, b"01").unwrap();
        upload_digest.update(&blob, 6, b"6789").unwrap();
        upload_digest.update(&blob, 8, b"89").unwrap();
    }

    #[test]
    fn wrong_bytes_are_found_before_the_last_of_them_is_sent() {
        let blob = Descriptor::new("", digest_of(b"0123456789"), 10);
        let mut upload_digest = UploadDigest::new(&blob);
        upload_digest.update(&blob, 0, b"x123").unwrap();
        assert_eq!(
            upload_digest.update(&blob, 4, b"456789").unwrap_err().kind,
            FailureKind::Corrupt
        );
        // The next attempt starts at 0.
        upload_digest.update(&blob, 0, b"0123456789").unwrap();
    }

    #[test]
    fn bytes_behind_a_gap_are_left_to_the_sink() {
        let blob = Descriptor::new("", digest_of(b"0123456789"), 10);
        UploadDigest::new(&blob).update(&blob, 5, b"xxxxx").unwrap();
    }
}
