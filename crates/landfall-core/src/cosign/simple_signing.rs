//! Payloads of the classic form (cosign, `specs/SIGNATURE_SPEC.md`).

use serde_json::Value;

use crate::cosign::{Message, SignatureForm, SignatureProblem, SignedMessage, shown};
use crate::lenient;
use crate::reference::Digest;

/// The only type of a payload.
const PAYLOAD_TYPE: &str = "cosign container image signature";

/// Reads a payload. The signature is over its bytes as they are.
///
/// The name of the image in the payload is not compared, as cosign does not: a copy in another registry has another one.
///
/// # Errors
/// If the payload is damaged, or names another image.
pub fn read_classic(payload: &[u8], signature: Vec<u8>, image: &Digest) -> Result<SignedMessage, SignatureProblem> {
    let value: Value = lenient::from_slice(payload).map_err(|_| SignatureProblem::Malformed("a payload is no JSON"))?;
    let text = |pointer| value.pointer(pointer).and_then(Value::as_str);
    match text("/critical/type") {
        Some(PAYLOAD_TYPE) => {}
        other => return Err(SignatureProblem::OtherStatement(shown(other.unwrap_or_default()))),
    }
    match text("/critical/image/docker-manifest-digest") {
        Some(digest) if digest == image.as_str() => {}
        other => return Err(SignatureProblem::OtherImage(shown(other.unwrap_or_default()))),
    }
    Ok(SignedMessage {
        form: SignatureForm::Classic,
        message: Message::Bytes(payload.to_vec()),
        signature,
    })
}
