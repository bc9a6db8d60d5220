//! Trust in a bundle [spec:bundles.signing.trust]: a pure decision on the host's keys, the checked signatures and the
//! sequence number of the bundle.
//!
//! `landfall/bundle.sig` signs the bytes of `landfall/bundle.json`; every other byte of the bundle hangs from that file
//! by digest. The arithmetic of signatures is left to `landfall-oci`, which gives back a [`SignatureCheck`] for each of
//! them. No clock takes part.

mod key_document;
mod key_id;
mod key_ring;
mod sequence;
mod signatures;

use std::borrow::Cow;

use crate::failure::Hint;

pub use key_document::{KeyDocument, parse_key_document, render_key_document};
pub use key_id::{KeyId, KeyIdError, SignatureAlgorithm};
pub use key_ring::{KeyRefusal, KeyRing, Standing};
pub use sequence::{Edition, HighestSeen, OlderBundles};
pub use signatures::{
    DOCUMENT_SIZE_MAX, DocumentProblem, SIGNATURES_MAX, Signature, SignatureCheck, Signatures, SkippedSignature,
    parse_signatures, render_signatures,
};

/// Facts that decide about a bundle.
#[derive(Debug)]
pub struct Evidence<'a> {
    pub keys: &'a KeyRing,
    pub checks: &'a [SignatureCheck],
    /// The signatures that could not be checked.
    pub skipped: &'a [SkippedSignature],
    /// The place of the bundle in its series; `None` if it belongs to none.
    pub edition: Option<&'a Edition>,
    /// The sequence numbers that the host has seen in that series.
    pub seen: HighestSeen,
    pub older: OlderBundles,
}

/// Reason to take a bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trust {
    /// A key of the host signed it.
    Key {
        key: KeyId,
        /// The higher sequence number that the host has seen, if this older bundle was allowed explicitly.
        newer_seen: Option<u64>,
    },
    /// The host has no key, so that every bundle is as good as another.
    NoKey {
        /// As in [`Trust::Key`].
        newer_seen: Option<u64>,
    },
}

/// Reason to refuse a bundle.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("the bundle is not signed, and this host takes only signed ones")]
    Unsigned,
    #[error("the bundle has no signature that can be checked: {}", list(.0))]
    Unreadable(Vec<SkippedSignature>),
    #[error("the bundle is signed by a key that this host does not have: `{0}`")]
    UnknownKey(KeyId),
    #[error("none of the keys of this host made the signature, or the bundle was changed after it was signed")]
    Unmatched,
    #[error("the bundle is not what the key `{0}` signed")]
    BadSignature(KeyId),
    #[error("the bundle is signed by the key `{0}`, which is retired")]
    RetiredKey(KeyId),
    #[error("the bundle is number {sequence} of the series `{series}`, and this host has seen number {seen}")]
    Older { series: String, sequence: u64, seen: u64 },
}

impl Hint for Refusal {
    fn hint(&self) -> Option<Cow<'_, str>> {
        Some(match self {
            Refusal::Unsigned => "make the bundle with `--key`, and the private half of a key of this host".into(),
            Refusal::Unreadable(_) => "update Landfall on this host, or sign the bundle with an RSA, Ed25519 or \
                                       ECDSA P-256 key"
                .into(),
            Refusal::UnknownKey(_) => "if you trust its owner, add the public key: by `--public-key`, on a host in \
                 `landfall.bundles.publicKeys` or by a key document that a key of this host signed"
                .into(),
            Refusal::Unmatched | Refusal::BadSignature(_) => "copy the bundle and its signature again from a source \
                                                              that you trust"
                .into(),
            Refusal::RetiredKey(_) => "sign the bundle again with a key that is in use".into(),
            Refusal::Older { .. } => {
                "bring the newest bundle of the series, or allow this one with `landfall.bundles.policy.allowOlder`"
                    .into()
            }
        })
    }
}

fn list(skipped: &[SkippedSignature]) -> String {
    let reasons: Vec<String> = skipped.iter().map(ToString::to_string).collect();
    reasons.join("; ")
}

/// Decides about a bundle. One good signature of a key in use suffices; an older number of a series is refused also on
/// a host without keys.
///
/// # Errors
/// If the host must not take the bundle.
pub fn decide_trust(evidence: &Evidence<'_>) -> Result<Trust, Refusal> {
    let key = match evidence.keys.is_configured() {
        true => Some(select_key(evidence)?),
        false => None,
    };
    let newer_seen = evidence.newer_seen(key.is_some());
    if let (Some(seen), Some(edition), OlderBundles::Refuse) = (newer_seen, evidence.edition, evidence.older) {
        return Err(Refusal::Older {
            series: edition.series.clone(),
            sequence: edition.sequence,
            seen,
        });
    }
    Ok(match key {
        Some(key) => Trust::Key { key, newer_seen },
        None => Trust::NoKey { newer_seen },
    })
}

impl Trust {
    /// Returns true if a key of the host signed the bundle.
    #[must_use]
    pub fn is_signed(&self) -> bool {
        matches!(self, Trust::Key { .. })
    }
}

impl Evidence<'_> {
    fn newer_seen(&self, signed: bool) -> Option<u64> {
        let edition = self.edition?;
        self.seen.highest(signed).filter(|seen| *seen > edition.sequence)
    }
}

/// Returns the key in use that signed the bundle.
fn select_key(evidence: &Evidence<'_>) -> Result<KeyId, Refusal> {
    evidence.keys.signer(evidence.checks).cloned().ok_or_else(|| {
        let worst = evidence.checks.iter().map(|check| refusal_of(check, evidence.keys));
        worst
            .min_by_key(Refusal::rank)
            .unwrap_or_else(|| match evidence.skipped {
                [] => Refusal::Unsigned,
                skipped => Refusal::Unreadable(skipped.to_vec()),
            })
    })
}

fn refusal_of(check: &SignatureCheck, keys: &KeyRing) -> Refusal {
    match check {
        SignatureCheck::Unmatched => Refusal::Unmatched,
        SignatureCheck::Valid(key) | SignatureCheck::Invalid(key) | SignatureCheck::UnknownKey(key)
            if keys.standing(key) == Standing::Retired =>
        {
            Refusal::RetiredKey(key.clone())
        }
        SignatureCheck::Invalid(key) => Refusal::BadSignature(key.clone()),
        SignatureCheck::Valid(key) | SignatureCheck::UnknownKey(key) => Refusal::UnknownKey(key.clone()),
    }
}

impl Refusal {
    /// Returns the order in which the refusals of several signatures are told: the gravest first.
    fn rank(&self) -> u8 {
        match self {
            Refusal::BadSignature(_) => 0,
            Refusal::Unmatched => 1,
            Refusal::RetiredKey(_) => 2,
            _ => 3,
        }
    }
}

#[cfg(test)]
mod tests;
