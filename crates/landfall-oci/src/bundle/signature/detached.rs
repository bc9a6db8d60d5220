//! Detached signatures of whole files [spec:bundles.signing.detached], as Palette's Artifact Studio and its customers make
//! them: the raw signature over the SHA-256 of the file, in a file beside it.

use std::borrow::Cow;

use landfall_core::failure::Hint;
use landfall_core::reference::Digest;

use super::private_key::{PrivateKey, SigningFailed};

/// Bytes of the largest signature: RSA with 8192 bits. A larger file is no signature.
pub const DETACHED_SIZE_MAX: u64 = 1024;

/// Returns the name of the signature beside a file: `NAME.tar.sig.bin` for `NAME.tar.zst`, `NAME.iso.sig.bin` for
/// `NAME.iso`.
#[must_use]
pub fn detached_name(file: &str) -> String {
    format!("{}.sig.bin", file.strip_suffix(".zst").unwrap_or(file))
}

/// Reason why there is no detached signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoDetachedSignature {
    /// The algorithm hashes the message twice, so that the whole file would have to be in memory.
    #[error("an Ed25519 key cannot sign a whole file by its digest")]
    Ed25519,
    #[error(transparent)]
    Failed(#[from] SigningFailed),
}

impl Hint for NoDetachedSignature {
    fn hint(&self) -> Option<Cow<'_, str>> {
        match self {
            NoDetachedSignature::Ed25519 => Some("use an RSA or an ECDSA P-256 key, or leave out `--detached`".into()),
            NoDetachedSignature::Failed(_) => None,
        }
    }
}

/// Makes the detached signature of the file with this SHA-256.
///
/// # Errors
/// If the key cannot sign a digest.
pub fn sign_detached(key: &PrivateKey, sha256: &Digest) -> Result<Vec<u8>, NoDetachedSignature> {
    match key.sign_digest(sha256) {
        Some(signed) => Ok(signed?),
        None => Err(NoDetachedSignature::Ed25519),
    }
}
