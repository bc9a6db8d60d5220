//! Key documents: a new public key, signed by an old one [spec:bundles.signing.rotation].
//!
//! The signatures are over the bytes of the PEM file, the text of `key`. No `landfall/bundle.json` begins like a PEM
//! file, so that neither document can pass for the other.

use serde::Serialize;

use crate::bundle::trust::signatures::{
    DocumentProblem, RawSignature, Signature, Signatures, WrittenSignature, check_entries, check_size,
};
use crate::lenient::{self, Lenient};
use crate::lenient_object;

const PEM_BEGIN: &str = "-----BEGIN PUBLIC KEY-----";

/// A new public key and its signatures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyDocument {
    /// The text of the PEM file. The signatures are over exactly these bytes.
    pub key: String,
    pub signatures: Signatures,
}

#[derive(Default)]
struct RawKeyDocument {
    key: String,
    signatures: Vec<Lenient<RawSignature>>,
}

lenient_object!(RawKeyDocument { "key" => key, "signatures" => signatures });

/// Parses a key document: `{"key": PEM, "signatures": […]}`.
///
/// # Errors
/// If it is too large, is no object of this form, or has too many signatures.
pub fn parse_key_document(bytes: &[u8]) -> Result<KeyDocument, DocumentProblem> {
    check_size(bytes)?;
    let raw: RawKeyDocument = lenient::from_slice(bytes).map_err(DocumentProblem::Json)?;
    if !raw.key.starts_with(PEM_BEGIN) {
        return Err(DocumentProblem::NoKey);
    }
    Ok(KeyDocument {
        key: raw.key,
        signatures: check_entries(raw.signatures)?,
    })
}

/// Returns the key document of a PEM file and the signatures over its bytes.
#[must_use]
pub fn render_key_document(key: &str, signatures: &[Signature]) -> String {
    #[derive(Serialize)]
    struct Written<'a> {
        key: &'a str,
        signatures: Vec<WrittenSignature<'a>>,
    }
    let document = Written {
        key,
        signatures: signatures.iter().map(WrittenSignature::from).collect(),
    };
    let mut text = serde_json::to_string_pretty(&document).expect("texts are JSON");
    text.push('\n');
    text
}
