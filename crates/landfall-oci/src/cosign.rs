//! Verification of carried cosign signatures by key, from anything that images are read from: a registry, a bundle, an
//! archive [spec:bundles.signing]. Nothing else is asked: no transparency log, no root of trust.

use futures_util::StreamExt;
use landfall_core::cosign::{
    CarriedSignature, CosignOutcome, ImageRefusal, Message, SignatureProblem, SignedMessage, select_signatures,
};
use landfall_core::failure::FailureKind;
use landfall_core::oci_types::{Descriptor, parse_manifest};
use landfall_core::reference::Digest;

use crate::bundle::signature::PublicKey;
use crate::digest::matches_digest;
use crate::image::{ImageSource, TransferError};

/// Manifests beside one image that are looked at. A registry's list has no bound of its own.
const REFERRERS_MAX: usize = 200;

/// Verifies the signatures of an image, an index or a manifest, by the digest that clients use. One good signature
/// suffices; a signature that cannot be fetched is an error only if no other one is good.
///
/// # Errors
/// If the source cannot be read.
pub async fn verify_image(
    source: &dyn ImageSource,
    image: &Digest,
    keys: &[PublicKey],
) -> Result<CosignOutcome, TransferError> {
    let mut problems = Vec::new();
    let mut failure = None;
    let referrers = source.find_referrers(image).await?;
    if referrers.len() > REFERRERS_MAX {
        problems.push(SignatureProblem::TooMany {
            looked_at: REFERRERS_MAX,
        });
    }
    for referrer in referrers.iter().take(REFERRERS_MAX) {
        match verify_referrer(source, image, &referrer.selector, keys, &mut problems).await {
            Ok(Some(signed)) => return Ok(signed),
            Ok(None) => {}
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    match failure {
        Some(error) => Err(error),
        None if problems.is_empty() => Ok(CosignOutcome::Refused(ImageRefusal::Unsigned)),
        None => Ok(CosignOutcome::Refused(ImageRefusal::NotTrusted(problems))),
    }
}

/// Verifies the signatures in one manifest. Returns the first good one.
async fn verify_referrer(
    source: &dyn ImageSource,
    image: &Digest,
    selector: &str,
    keys: &[PublicKey],
    problems: &mut Vec<SignatureProblem>,
) -> Result<Option<CosignOutcome>, TransferError> {
    let manifest = source.fetch_manifest(selector).await?;
    let Ok(content) = parse_manifest(&manifest.bytes) else {
        return Ok(None);
    };
    let (carried, left_out) = select_signatures(&content);
    problems.extend(left_out);
    for signature in carried {
        match verify_signature(source, image, &signature, keys).await? {
            Ok(outcome) => return Ok(Some(outcome)),
            Err(problem) => problems.push(problem),
        }
    }
    Ok(None)
}

async fn verify_signature(
    source: &dyn ImageSource,
    image: &Digest,
    carried: &CarriedSignature,
    keys: &[PublicKey],
) -> Result<Result<CosignOutcome, SignatureProblem>, TransferError> {
    let Some(document) = read_document(source, carried.document()).await? else {
        return Ok(Err(SignatureProblem::Damaged));
    };
    let signed = match carried.read(&document, image) {
        Ok(signed) => signed,
        Err(problem) => return Ok(Err(problem)),
    };
    let SignedMessage {
        form,
        message,
        signature,
    } = signed;
    let bytes = match message {
        Message::Bytes(bytes) => bytes,
        Message::Manifest => source.fetch_manifest(image.as_str()).await?.bytes.to_vec(),
    };
    let key = keys.iter().find(|key| key.verifies(&bytes, &signature));
    Ok(key
        .map(|key| CosignOutcome::Signed {
            key: key.id().clone(),
            form,
        })
        .ok_or(SignatureProblem::OtherKey))
}

/// Reads a small blob whole; `None` if its bytes do not match the descriptor.
async fn read_document(source: &dyn ImageSource, blob: &Descriptor) -> Result<Option<Vec<u8>>, TransferError> {
    match collect(source, blob).await {
        Ok(bytes) => Ok(matches_digest(&bytes, &blob.digest).then_some(bytes)),
        Err(error) if matches!(error.kind, FailureKind::Corrupt | FailureKind::WrongLength) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Returns the bytes of a blob, at most one chunk more than its descriptor tells.
async fn collect(source: &dyn ImageSource, blob: &Descriptor) -> Result<Vec<u8>, TransferError> {
    let mut stream = source.open_blob(blob, 0).await?;
    let mut bytes = Vec::new();
    while (bytes.len() as u64) <= blob.size {
        let Some(chunk) = stream.next().await else {
            break;
        };
        bytes.extend_from_slice(&chunk?);
    }
    Ok(bytes)
}
