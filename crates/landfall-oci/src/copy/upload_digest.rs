//! Digest of an upload: the bytes that go to a registry are hashed as they pass, and the last of them are held back when
//! they are not what the digest names. The registry verifies them too; so the failure is known to be the source's.

use landfall_core::failure::FailureKind;
use landfall_core::oci_types::Descriptor;

use crate::digest::{Algorithm, Digester};
use crate::image::TransferError;

/// The hash of a blob as far as it was seen, across all attempts.
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

    /// Whether all bytes before this position were seen.
    pub(super) fn covers(&self, position: u64) -> bool {
        self.hashed >= position
    }

    /// Takes note of the bytes at a position. What was seen in an earlier attempt is passed over. Bytes behind a gap say
    /// nothing: then the sink went on with what an earlier process sent, and only it can tell.
    ///
    /// # Errors
    /// When the blob is complete and is not what its digest names.
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
            // Nothing is left to prove, should the end be sent again.
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
        // Sent again from an earlier byte, and further.
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
        // The next attempt begins anew.
        upload_digest.update(&blob, 0, b"0123456789").unwrap();
    }

    #[test]
    fn bytes_behind_a_gap_are_left_to_the_sink() {
        let blob = Descriptor::new("", digest_of(b"0123456789"), 10);
        UploadDigest::new(&blob).update(&blob, 5, b"xxxxx").unwrap();
    }
}
