//! Public keys.

use std::fmt;

use aws_lc_rs::digest::{self, SHA256};
use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rsa;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P384_SHA256_ASN1, ECDSA_P384_SHA384_ASN1, ED25519, ParsedPublicKey,
    RSA_PKCS1_2048_8192_SHA256, RsaParameters, VerificationAlgorithm,
};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use landfall_core::bundle::trust::{KeyId, SignatureAlgorithm};
use landfall_core::reference::Digest;

use super::key_error::KeyError;
use super::pem::{self, Section};
use crate::digest::digest_of;

/// A public key that verifies signatures.
#[derive(Clone)]
pub struct PublicKey {
    id: KeyId,
    kind: KeyKind,
    key: ParsedPublicKey,
}

/// The kind of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind {
    /// 2048 to 8192 bits.
    Rsa,
    Ed25519,
    EcdsaP256,
    /// For signatures of images only.
    EcdsaP384,
}

impl KeyKind {
    /// Returns the algorithm of its signatures of bundles; `None` if it signs none.
    #[must_use]
    pub fn bundle_algorithm(self) -> Option<SignatureAlgorithm> {
        match self {
            KeyKind::Rsa => Some(SignatureAlgorithm::RsaPkcs1v15Sha256),
            KeyKind::Ed25519 => Some(SignatureAlgorithm::Ed25519),
            KeyKind::EcdsaP256 => Some(SignatureAlgorithm::EcdsaP256Sha256),
            KeyKind::EcdsaP384 => None,
        }
    }

    fn algorithm(self) -> &'static dyn VerificationAlgorithm {
        match self {
            KeyKind::Rsa => &RSA_PKCS1_2048_8192_SHA256,
            KeyKind::Ed25519 => &ED25519,
            KeyKind::EcdsaP256 => &ECDSA_P256_SHA256_ASN1,
            KeyKind::EcdsaP384 => &ECDSA_P384_SHA256_ASN1,
        }
    }
}

impl PublicKey {
    /// Parses the one public key of a PEM file. The text may be the base64 of such a file: Palette writes its keys so.
    ///
    /// # Errors
    /// If it holds no public key, several, or one that is not supported.
    pub fn parse(text: &str) -> Result<PublicKey, KeyError> {
        let decoded = decode_text(text);
        let mut sections = pem::sections(decoded.as_deref().unwrap_or(text));
        let section = sections.next().ok_or(KeyError::NoPublicKey)?;
        if sections.next().is_some() {
            return Err(KeyError::SeveralKeys);
        }
        PublicKey::from_section(section)
    }

    fn from_section(section: Section<'_>) -> Result<PublicKey, KeyError> {
        match section.label {
            "PUBLIC KEY" | "RSA PUBLIC KEY" => {}
            "CERTIFICATE" => return Err(KeyError::Certificate),
            label if label.ends_with("PRIVATE KEY") => return Err(KeyError::PrivateNotPublic),
            _ => return Err(KeyError::NoPublicKey),
        }
        let der = section.der().ok_or(KeyError::NotSupported)?;
        match section.label {
            "RSA PUBLIC KEY" => PublicKey::from_spki(&rsa_to_spki(&der)?),
            _ => PublicKey::from_spki(&der),
        }
    }

    /// Reads a SubjectPublicKeyInfo in DER (RFC 5280). Its hash is the name of the key, so that only the usual encoding
    /// of a key is taken.
    pub(super) fn from_spki(der: &[u8]) -> Result<PublicKey, KeyError> {
        check_rsa_size(der)?;
        let kinds = [KeyKind::Rsa, KeyKind::Ed25519, KeyKind::EcdsaP256, KeyKind::EcdsaP384];
        kinds
            .into_iter()
            .find_map(|kind| {
                let key = ParsedPublicKey::new(kind.algorithm(), der).ok()?;
                let usual = key.as_der().ok()?;
                (usual.as_ref() == der).then(|| PublicKey {
                    id: id_of(der),
                    kind,
                    key,
                })
            })
            .ok_or(KeyError::NotSupported)
    }

    /// Returns the name of the key: the SHA-256 of its SubjectPublicKeyInfo.
    #[must_use]
    pub fn id(&self) -> &KeyId {
        &self.id
    }

    /// Returns the SubjectPublicKeyInfo in DER.
    #[must_use]
    pub fn spki(&self) -> &[u8] {
        self.key.as_ref()
    }

    /// Returns the text of a PEM file with the key.
    #[must_use]
    pub fn to_pem(&self) -> String {
        pem::render("PUBLIC KEY", self.spki()).to_string()
    }

    #[must_use]
    pub fn kind(&self) -> KeyKind {
        self.kind
    }

    /// Returns true if the private half signed this message.
    ///
    /// A P-384 key may have signed its SHA-256, as in cosign's classic form, or its SHA-384.
    #[must_use]
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        self.key.verify_sig(message, signature).is_ok()
            || (self.kind == KeyKind::EcdsaP384
                && ParsedPublicKey::new(&ECDSA_P384_SHA384_ASN1, self.spki())
                    .is_ok_and(|key| key.verify_sig(message, signature).is_ok()))
    }

    /// Returns true if the private half signed the message with this SHA-256. An Ed25519 key signs no digests.
    #[must_use]
    pub fn verifies_digest(&self, sha256: &Digest, signature: &[u8]) -> bool {
        imported(sha256).is_some_and(|digest| self.key.verify_digest_sig(&digest, signature).is_ok())
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({:?} {})", self.kind, self.id)
    }
}

/// Returns a SHA-256 as the library takes it; `None` for a digest of another algorithm.
pub(super) fn imported(sha256: &Digest) -> Option<digest::Digest> {
    if sha256.algorithm() != "sha256" {
        return None;
    }
    let digits = sha256.hex().as_bytes();
    let bytes: Option<Vec<u8>> = digits
        .chunks_exact(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect();
    digest::Digest::import_less_safe(&bytes?, &SHA256).ok()
}

fn id_of(spki: &[u8]) -> KeyId {
    let digest = digest_of(spki);
    digest.hex().parse().expect("a SHA-256 has 64 hexadecimal digits")
}

/// Returns the text that a text is the base64 of; `None` if it is not base64 of one.
fn decode_text(text: &str) -> Option<String> {
    let compact: String = text.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    String::from_utf8(STANDARD.decode(compact).ok()?).ok()
}

/// Turns the older form of a public key of RSA (RFC 8017) into a SubjectPublicKeyInfo.
fn rsa_to_spki(der: &[u8]) -> Result<Vec<u8>, KeyError> {
    let key = rsa::PublicKey::from_der(der).map_err(|_| KeyError::NotSupported)?;
    let spki = key.as_der().map_err(|_| KeyError::NotSupported)?;
    Ok(spki.as_ref().to_vec())
}

/// Refuses an RSA key of a size that no signature would ever verify with.
fn check_rsa_size(spki: &[u8]) -> Result<(), KeyError> {
    let Ok(key) = rsa::PublicKey::from_der(spki) else {
        return Ok(());
    };
    let bits = RsaParameters::public_modulus_len(key.as_ref()).map_err(|_| KeyError::NotSupported)?;
    let allowed = RSA_PKCS1_2048_8192_SHA256.min_modulus_len()..=RSA_PKCS1_2048_8192_SHA256.max_modulus_len();
    match allowed.contains(&bits) {
        true => Ok(()),
        false => Err(KeyError::RsaSize { bits }),
    }
}
