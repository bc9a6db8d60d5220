//! Signatures of images by cosign, in both of its forms, with a key and without a network [spec:bundles.signing.images].
//!
//! The classic form is a manifest under the tag `sha256-<hex>.sig`; each of its layers is a payload, with the signature
//! in an annotation. Since version 3 a signature is a referrer with one layer, a Sigstore bundle. [`select_signatures`]
//! finds both in a manifest, [`read_classic`] and [`read_bundle`] check what is signed. The signature itself is left to
//! the caller, over exactly the bytes of the [`SignedMessage`]. Certificates, logs and timestamps are not looked at.

mod sigstore_bundle;
mod simple_signing;

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};

use crate::bundle::trust::KeyId;
use crate::failure::Hint;
use crate::oci_types::{Descriptor, ManifestContent};
use crate::reference::Digest;
use crate::wording::excerpt;

pub use sigstore_bundle::read_bundle;
pub use simple_signing::read_classic;

/// Bytes of the largest payload or bundle that is read. A signature has a few thousand; larger bundles are attestations.
pub const DOCUMENT_SIZE_MAX: u64 = 1024 * 1024;

/// Signatures of one manifest that are looked at.
const SIGNATURES_MAX: usize = 64;

/// Different problems that a message lists.
const PROBLEMS_SHOWN: usize = 4;

/// Characters of a text of a document that a message shows: a digest of SHA-512 fits.
const SHOWN_MAX: usize = 140;

/// The media type of a payload in the classic form.
const SIMPLE_SIGNING_TYPE: &str = "application/vnd.dev.cosign.simplesigning.v1+json";

/// The beginning of the media types of Sigstore bundles of all versions.
const BUNDLE_TYPE: &str = "application/vnd.dev.sigstore.bundle";

/// The annotation with a signature of the classic form, in base64.
const SIGNATURE_ANNOTATION: &str = "dev.cosignproject.cosign/signature";

/// The form of a signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignatureForm {
    /// A tag beside the image (cosign 1 and 2).
    Classic,
    /// A referrer of the image (cosign 3).
    Bundle,
}

/// A signature in a manifest, whose document is still to be fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CarriedSignature {
    /// A payload, and the signature over its bytes.
    Classic {
        payload: Descriptor,
        signature: Vec<u8>,
    },
    Bundle {
        bundle: Descriptor,
    },
}

impl CarriedSignature {
    /// Returns the document that is to be fetched. Its bytes must have the digest.
    #[must_use]
    pub fn document(&self) -> &Descriptor {
        match self {
            CarriedSignature::Classic { payload, .. } => payload,
            CarriedSignature::Bundle { bundle } => bundle,
        }
    }

    /// Reads the fetched document.
    ///
    /// # Errors
    /// If it signs something else, or cannot be read.
    pub fn read(&self, document: &[u8], image: &Digest) -> Result<SignedMessage, SignatureProblem> {
        match self {
            CarriedSignature::Classic { signature, .. } => read_classic(document, signature.clone(), image),
            CarriedSignature::Bundle { .. } => read_bundle(document, image),
        }
    }
}

/// A signature, and the bytes that it is over. They name the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedMessage {
    pub form: SignatureForm,
    pub message: Message,
    pub signature: Vec<u8>,
}

/// The bytes that a signature is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    Bytes(Vec<u8>),
    /// The bytes of the image's own manifest.
    Manifest,
}

/// Reason why a signature says nothing about an image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureProblem {
    #[error("a signature is made by none of the given keys")]
    OtherKey,
    #[error("a signature is for `{0}`")]
    OtherImage(String),
    #[error("a signed statement is no signature of an image, but a `{0}`")]
    OtherStatement(String),
    #[error("a signature is a document of {size} bytes, and {DOCUMENT_SIZE_MAX} are allowed")]
    TooLarge { size: u64 },
    #[error("a signature is damaged: its document has another digest")]
    Damaged,
    #[error("a signature is damaged: {0}")]
    Malformed(&'static str),
    #[error("only the first {looked_at} signatures were looked at")]
    TooMany { looked_at: usize },
}

/// Result of the check of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CosignOutcome {
    /// One of the keys signed the image.
    Signed {
        key: KeyId,
        form: SignatureForm,
    },
    Refused(ImageRefusal),
}

/// Reason to refuse an image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImageRefusal {
    #[error("the image carries no signature")]
    Unsigned,
    #[error("the image carries no signature by one of the given keys: {}", list(.0))]
    NotTrusted(Vec<SignatureProblem>),
}

impl Hint for ImageRefusal {
    fn hint(&self) -> Option<Cow<'_, str>> {
        Some(
            match self {
                ImageRefusal::Unsigned => {
                    "sign the digest that is used with `cosign sign --key`, and copy the image with its referrers; an \
                 index that was narrowed or an image of one platform has another digest"
                }
                ImageRefusal::NotTrusted(_) => {
                    "if you trust the signer, add the public key: by `--image-key`, on a host in `landfall.bundles.imageKeys`"
                }
            }
            .into(),
        )
    }
}

fn list(problems: &[SignatureProblem]) -> String {
    let mut texts: Vec<String> = Vec::new();
    for text in problems.iter().map(ToString::to_string) {
        if texts.contains(&text) {
            continue;
        }
        if texts.len() == PROBLEMS_SHOWN {
            texts.push("and other problems".to_owned());
            break;
        }
        texts.push(text);
    }
    texts.join("; ")
}

/// Returns the signatures in a manifest, and the reasons why others are left out. A manifest of another kind has none.
#[must_use]
pub fn select_signatures(manifest: &ManifestContent) -> (Vec<CarriedSignature>, Vec<SignatureProblem>) {
    let ManifestContent::Image(manifest) = manifest else {
        return Default::default();
    };
    let (mut found, mut problems) = (Vec::new(), Vec::new());
    let candidates = manifest.layers.iter().filter_map(select_signature);
    for (place, candidate) in candidates.enumerate() {
        match candidate {
            _ if place == SIGNATURES_MAX => {
                problems.push(SignatureProblem::TooMany {
                    looked_at: SIGNATURES_MAX,
                });
                break;
            }
            Ok(signature) => found.push(signature),
            Err(problem) => problems.push(problem),
        }
    }
    (found, problems)
}

fn select_signature(layer: &Descriptor) -> Option<Result<CarriedSignature, SignatureProblem>> {
    let is_classic = layer.media_type == SIMPLE_SIGNING_TYPE;
    if !is_classic && !layer.media_type.starts_with(BUNDLE_TYPE) {
        return None;
    }
    if layer.size > DOCUMENT_SIZE_MAX {
        return Some(Err(SignatureProblem::TooLarge { size: layer.size }));
    }
    if !is_classic {
        return Some(Ok(CarriedSignature::Bundle { bundle: layer.clone() }));
    }
    let annotation = layer.annotations.get(SIGNATURE_ANNOTATION);
    let signature = annotation.and_then(|text| decode_base64(text));
    let payload = layer.clone();
    Some(match signature {
        Some(signature) => Ok(CarriedSignature::Classic { payload, signature }),
        None => Err(SignatureProblem::Malformed("a payload has no signature in base64")),
    })
}

/// Decodes base64 with the usual alphabet or the one for URLs: DSSE allows both.
fn decode_base64(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).or_else(|_| URL_SAFE.decode(text)).ok()
}

/// Returns a text of a document as messages show it.
fn shown(text: &str) -> String {
    excerpt(text, SHOWN_MAX)
}

#[cfg(test)]
mod tests;
