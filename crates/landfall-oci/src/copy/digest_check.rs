//! The digest that the user named in the destination, held against the image of the source before anything is written
//! [spec:copies.named-digest].

use std::borrow::Cow;

use landfall_core::failure::{FailureKind, Hint};
use landfall_core::oci_types::{Descriptor, ManifestContent, Platform, parse_manifest};
use landfall_core::reference::Digest;

use super::job::CopyJob;
use crate::digest::matches_digest;
use crate::image::{RawManifest, TransferError};

/// The destination names a digest that the image does not have.
#[derive(Debug, thiserror::Error)]
#[error(
    "the destination names the digest `{expected}`, and the source has `{found}`{}",
    if *.is_narrowed { "; `--platform` leaves the index and its digest as they are" } else { "" }
)]
pub struct OtherDigest {
    /// The digest in the destination.
    pub expected: Digest,
    /// The digest of the source's image.
    pub found: Digest,
    /// True if the named digest is that of an entry of the source's index.
    pub is_entry: bool,
    /// True if only some platforms are copied.
    pub is_narrowed: bool,
}

impl Hint for OtherDigest {
    fn hint(&self) -> Option<Cow<'_, str>> {
        Some(match self.is_entry {
            true => Cow::Owned(format!(
                "it is one platform of the source's image: name it in the source too, as `@{}`",
                self.expected
            )),
            false => Cow::Borrowed("name the source by this digest, or leave the digest out of the destination"),
        })
    }
}

impl CopyJob<'_> {
    /// Checks that an image has the digest of the destination, if the user named one.
    ///
    /// # Errors
    /// [`OtherDigest`] if it has another.
    pub(super) fn check_digest(&self, root: &RawManifest, platforms: &[Platform]) -> Result<(), TransferError> {
        let Some(expected) = self.expected.filter(|expected| !matches_digest(&root.bytes, expected)) else {
            return Ok(());
        };
        let names = |entry: &Descriptor| entry.digest == *expected;
        let is_entry = match parse_manifest(&root.bytes) {
            Ok(ManifestContent::Index(index)) => index.manifests.iter().any(names),
            Ok(ManifestContent::Image(_)) | Err(_) => false,
        };
        Err(TransferError {
            attempt: format!("cannot copy `{}`", self.image),
            kind: FailureKind::Local,
            source: Some(Box::new(OtherDigest {
                expected: expected.clone(),
                found: root.digest.clone(),
                is_entry,
                is_narrowed: !platforms.is_empty(),
            })),
        })
    }
}
