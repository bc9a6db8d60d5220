//! Sigstore bundles (`sigstore_bundle.proto` of sigstore/protobuf-specs 0.5, media types v0.1 to v0.3), with a DSSE
//! envelope around an in-toto statement, or with a signature over the manifest itself.

use serde_json::Value;

use crate::cosign::{Message, SignatureForm, SignatureProblem, SignedMessage, decode_base64, shown};
use crate::lenient;
use crate::reference::Digest;

/// The payload type of in-toto statements.
const IN_TOTO: &str = "application/vnd.in-toto+json";

/// The types of in-toto statements.
const STATEMENTS: [&str; 2] = ["https://in-toto.io/Statement/v1", "https://in-toto.io/Statement/v0.1"];

/// The predicate of a signature of an image. Other predicates are attestations: they say something about the image, and
/// not that it may be used.
const SIGNATURE_PREDICATE: &str = "https://sigstore.dev/cosign/sign/v1";

/// Reads a bundle.
///
/// The hint of the key and the digest in `messageSignature` are not read: nothing proves them.
///
/// # Errors
/// If the bundle is damaged, is about another image, or is no signature.
pub fn read_bundle(bundle: &[u8], image: &Digest) -> Result<SignedMessage, SignatureProblem> {
    let value = parse(bundle, "a bundle is no JSON")?;
    let (message, signature) = match (&value["dsseEnvelope"], &value["messageSignature"]) {
        (Value::Object(_), Value::Object(_)) => {
            return Err(SignatureProblem::Malformed("a bundle has signatures of two kinds"));
        }
        (envelope @ Value::Object(_), _) => read_envelope(envelope, image)?,
        (_, Value::Object(signature)) => (Message::Manifest, decode(signature.get("signature"))?),
        _ => return Err(SignatureProblem::Malformed("a bundle has no signature")),
    };
    Ok(SignedMessage {
        form: SignatureForm::Bundle,
        message,
        signature,
    })
}

fn read_envelope(envelope: &Value, image: &Digest) -> Result<(Message, Vec<u8>), SignatureProblem> {
    let payload_type = envelope["payloadType"].as_str().unwrap_or_default();
    if payload_type != IN_TOTO {
        return Err(SignatureProblem::OtherStatement(shown(payload_type)));
    }
    let payload = decode(envelope.get("payload"))?;
    check_statement(&payload, image)?;
    let [signature] = envelope["signatures"].as_array().map_or(&[][..], Vec::as_slice) else {
        return Err(SignatureProblem::Malformed("an envelope has not exactly one signature"));
    };
    let message = Message::Bytes(pre_authentication_encoding(payload_type, &payload));
    Ok((message, decode(signature.get("sig"))?))
}

/// Returns the bytes that the signature of an envelope is over (DSSE protocol, "PAE").
pub(super) fn pre_authentication_encoding(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len());
    [head.as_bytes(), payload].concat()
}

/// Checks that an in-toto statement is a signature of the image.
fn check_statement(payload: &[u8], image: &Digest) -> Result<(), SignatureProblem> {
    let statement = parse(payload, "a statement is no JSON")?;
    let text = |key: &str| statement[key].as_str().unwrap_or_default();
    if !STATEMENTS.contains(&text("_type")) {
        return Err(SignatureProblem::OtherStatement(shown(text("_type"))));
    }
    if text("predicateType") != SIGNATURE_PREDICATE {
        return Err(SignatureProblem::OtherStatement(shown(text("predicateType"))));
    }
    let subjects = statement["subject"].as_array().map_or(&[][..], Vec::as_slice);
    let hex = |subject: &Value| subject["digest"][image.algorithm()].as_str().map(str::to_owned);
    match subjects
        .iter()
        .any(|subject| hex(subject).as_deref() == Some(image.hex()))
    {
        true => Ok(()),
        false => {
            let first = subjects.first().and_then(hex).unwrap_or_default();
            Err(SignatureProblem::OtherImage(shown(&format!(
                "{}:{first}",
                image.algorithm()
            ))))
        }
    }
}

fn parse(bytes: &[u8], problem: &'static str) -> Result<Value, SignatureProblem> {
    lenient::from_slice(bytes).map_err(|_| SignatureProblem::Malformed(problem))
}

fn decode(value: Option<&Value>) -> Result<Vec<u8>, SignatureProblem> {
    let text = value.and_then(Value::as_str);
    text.and_then(decode_base64)
        .ok_or(SignatureProblem::Malformed("a part of a bundle is not base64"))
}
