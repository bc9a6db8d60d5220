//! Lists of signatures: `landfall/bundle.sig`, and the signatures of a key document [spec:bundles.signing.list].

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde::de::MapAccess;

use crate::bundle::trust::key_id::{KeyId, SignatureAlgorithm};
use crate::lenient::{self, Lenient, LenientValue, read_fields};
use crate::lenient_object;
use crate::wording::excerpt;

/// Bytes of the largest document that is read: 32 signatures of 8192-bit RSA keys fit.
pub const DOCUMENT_SIZE_MAX: usize = 64 * 1024;

/// Signatures in a document. Each costs an operation with a public key.
pub const SIGNATURES_MAX: usize = 32;

/// Characters of a name from a document that a message shows.
const SHOWN_MAX: usize = 40;

/// A signature that can be checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    pub key: KeyId,
    pub algorithm: SignatureAlgorithm,
    pub bytes: Vec<u8>,
}

/// The signatures of a document.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Signatures {
    pub signatures: Vec<Signature>,
    /// The entries that this version cannot check. They neither help nor harm.
    pub skipped: Vec<SkippedSignature>,
}

/// Reason why an entry of a list of signatures cannot be checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SkippedSignature {
    /// An algorithm of a later version.
    UnknownAlgorithm(String),
    NoKeyId,
    NotBase64,
}

impl fmt::Display for SkippedSignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SkippedSignature::UnknownAlgorithm(name) => write!(f, "the algorithm `{name}` is not known"),
            SkippedSignature::NoKeyId => f.write_str("a signature has no `keyid` of 64 hexadecimal digits"),
            SkippedSignature::NotBase64 => f.write_str("a signature has no `sig` in base64"),
        }
    }
}

/// Result of the check of one signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SignatureCheck {
    /// This key made the signature, over exactly these bytes.
    Valid(KeyId),
    /// The host has the key, which did not make this signature over these bytes.
    Invalid(KeyId),
    /// The host does not have the key.
    UnknownKey(KeyId),
    /// The signature names no key, as a detached one, and no key of the host made it over these bytes.
    Unmatched,
}

/// Reason why a document about keys or signatures cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum DocumentProblem {
    #[error("it has {size} bytes, and {DOCUMENT_SIZE_MAX} are allowed")]
    TooLarge { size: usize },
    #[error("it has {count} signatures, and {SIGNATURES_MAX} are allowed")]
    TooMany { count: usize },
    #[error("it is not JSON of the right form")]
    Json(#[source] serde_json::Error),
    #[error("its `key` is not a PEM file that begins with `-----BEGIN PUBLIC KEY-----`")]
    NoKey,
}

/// Parses `landfall/bundle.sig`: a JSON list of `{"keyid", "alg", "sig"}`.
///
/// # Errors
/// If it is too large, is no list, or has too many entries. An entry that cannot be checked is skipped.
pub fn parse_signatures(bytes: &[u8]) -> Result<Signatures, DocumentProblem> {
    check_size(bytes)?;
    let entries = lenient::from_slice(bytes).map_err(DocumentProblem::Json)?;
    check_entries(entries)
}

/// Returns `landfall/bundle.sig` with a line for each signature, so that `sed` can take one out.
#[must_use]
pub fn render_signatures(signatures: &[Signature]) -> String {
    let line = |signature| serde_json::to_string(&WrittenSignature::from(signature)).expect("texts are JSON");
    let lines: Vec<String> = signatures.iter().map(line).collect();
    format!("[\n{}\n]\n", lines.join(",\n"))
}

/// A signature, as documents have it.
#[derive(Serialize)]
pub(super) struct WrittenSignature<'a> {
    keyid: &'a KeyId,
    alg: &'static str,
    sig: String,
}

impl<'a> From<&'a Signature> for WrittenSignature<'a> {
    fn from(signature: &'a Signature) -> WrittenSignature<'a> {
        WrittenSignature {
            keyid: &signature.key,
            alg: signature.algorithm.name(),
            sig: STANDARD.encode(&signature.bytes),
        }
    }
}

/// Checks the size of a document before it is parsed.
pub(super) fn check_size(bytes: &[u8]) -> Result<(), DocumentProblem> {
    match bytes.len() {
        size if size > DOCUMENT_SIZE_MAX => Err(DocumentProblem::TooLarge { size }),
        _ => Ok(()),
    }
}

/// Checks the entries of a list of signatures.
pub(super) fn check_entries(entries: Vec<Lenient<RawSignature>>) -> Result<Signatures, DocumentProblem> {
    if entries.len() > SIGNATURES_MAX {
        return Err(DocumentProblem::TooMany { count: entries.len() });
    }
    let mut signatures = Signatures::default();
    for Lenient(entry) in entries {
        match entry.check() {
            Ok(signature) => signatures.signatures.push(signature),
            Err(skipped) => signatures.skipped.push(skipped),
        }
    }
    Ok(signatures)
}

/// An entry of a list of signatures, as it is read.
#[derive(Debug, Clone, Default)]
pub(super) struct RawSignature {
    keyid: String,
    alg: String,
    sig: Option<String>,
}

lenient_object!(RawSignature { "keyid" => keyid, "alg" => alg, "sig" => sig });

impl<'de> LenientValue<'de> for RawSignature {
    fn from_object<A: MapAccess<'de>>(map: A) -> Result<RawSignature, A::Error> {
        read_fields(map)
    }
}

impl RawSignature {
    fn check(self) -> Result<Signature, SkippedSignature> {
        let algorithm = SignatureAlgorithm::from_name(&self.alg)
            .ok_or_else(|| SkippedSignature::UnknownAlgorithm(excerpt(&self.alg, SHOWN_MAX)))?;
        let key = self.keyid.parse().map_err(|_| SkippedSignature::NoKeyId)?;
        let bytes = self
            .sig
            .as_deref()
            .and_then(decode)
            .ok_or(SkippedSignature::NotBase64)?;
        Ok(Signature { key, algorithm, bytes })
    }
}

/// Decodes base64 that `openssl base64` may have broken into lines.
fn decode(text: &str) -> Option<Vec<u8>> {
    let compact: String = text.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    STANDARD.decode(compact).ok().filter(|bytes| !bytes.is_empty())
}
