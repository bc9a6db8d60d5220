//! Names of keys and of signature algorithms.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Hexadecimal digits of a SHA-256.
const LENGTH: usize = 64;

/// The name of a public key: the SHA-256 of its SubjectPublicKeyInfo in DER, in lower-case hexadecimal digits.
///
/// It selects a key, and is never a proof: a signature counts only after it was verified.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeyId(String);

impl KeyId {
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A text that names no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a key id has 64 hexadecimal digits")]
pub struct KeyIdError;

impl FromStr for KeyId {
    type Err = KeyIdError;

    fn from_str(text: &str) -> Result<KeyId, KeyIdError> {
        let is_id = text.len() == LENGTH && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_id.then(|| KeyId(text.to_ascii_lowercase())).ok_or(KeyIdError)
    }
}

impl TryFrom<String> for KeyId {
    type Error = KeyIdError;

    fn try_from(text: String) -> Result<KeyId, KeyIdError> {
        text.parse()
    }
}

impl From<KeyId> for String {
    fn from(id: KeyId) -> String {
        id.0
    }
}

/// The algorithm of a signature in `landfall/bundle.sig`. All of them sign the bytes as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignatureAlgorithm {
    RsaPkcs1v15Sha256,
    Ed25519,
    /// The signature is the DER of `ECDSA-Sig-Value` (RFC 3279).
    EcdsaP256Sha256,
}

impl SignatureAlgorithm {
    const ALL: [SignatureAlgorithm; 3] = [
        SignatureAlgorithm::RsaPkcs1v15Sha256,
        SignatureAlgorithm::Ed25519,
        SignatureAlgorithm::EcdsaP256Sha256,
    ];

    /// Returns the name in documents.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            SignatureAlgorithm::RsaPkcs1v15Sha256 => "rsa-pkcs1v15-sha256",
            SignatureAlgorithm::Ed25519 => "ed25519",
            SignatureAlgorithm::EcdsaP256Sha256 => "ecdsa-p256-sha256",
        }
    }

    /// Returns the algorithm of a name; `None` if this version does not know it.
    #[must_use]
    pub fn from_name(name: &str) -> Option<SignatureAlgorithm> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }
}
