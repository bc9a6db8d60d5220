//! Trust in a receipt [spec:bundles.receipt]: a pure decision on the checked signatures.
//!
//! A receipt says what a site has. The desk leaves that out of the next bundle: a receipt that somebody changed would
//! leave the site without content that it needs.

use std::borrow::Cow;

use crate::bundle::trust::{DocumentProblem, KeyId, KeyRing, SignatureCheck, SkippedSignature};
use crate::failure::Hint;

/// Reason to refuse a receipt.
#[derive(Debug, thiserror::Error)]
pub enum ReceiptRefusal {
    #[error("the receipt is not signed: the file with its signature is missing")]
    Unsigned,
    #[error("the file with the signature of the receipt cannot be read")]
    List(#[from] DocumentProblem),
    #[error("the receipt has no signature that can be checked: {0}")]
    Unreadable(SkippedSignature),
    #[error("the receipt is signed by another host, with the key `{0}`")]
    UnknownKey(KeyId),
    #[error("the receipt is not what the host with the key `{0}` signed: it was changed")]
    Changed(KeyId),
}

impl Hint for ReceiptRefusal {
    fn hint(&self) -> Option<Cow<'_, str>> {
        Some(Cow::Borrowed(match self {
            ReceiptRefusal::Unsigned => {
                "bring the file with the ending `.sig`, too: the host writes it beside the receipt, and serves it at \
                 `/api/v1/receipts/BUNDLE/signature`"
            }
            ReceiptRefusal::UnknownKey(_) => {
                "give the public key of the host that wrote it: `host-key.pub` in its state directory, or \
                 `/api/v1/host-key` of its status API"
            }
            ReceiptRefusal::Unreadable(_) => "update Landfall on this machine",
            ReceiptRefusal::List(_) | ReceiptRefusal::Changed(_) => {
                "fetch the receipt and its signature from the host again"
            }
        }))
    }
}

/// Returns the key that signed a receipt. One good signature suffices.
///
/// # Errors
/// If none of the keys did. Of several reasons, a changed receipt comes first.
pub fn decide_receipt(
    keys: &KeyRing,
    checks: &[SignatureCheck],
    skipped: &[SkippedSignature],
) -> Result<KeyId, ReceiptRefusal> {
    if let Some(signer) = keys.signer(checks) {
        return Ok(signer.clone());
    }
    let changed = checks.iter().find_map(|check| match check {
        SignatureCheck::Invalid(key) => Some(ReceiptRefusal::Changed(key.clone())),
        _ => None,
    });
    let foreign = checks.iter().find_map(|check| match check {
        SignatureCheck::Valid(key) | SignatureCheck::UnknownKey(key) => Some(ReceiptRefusal::UnknownKey(key.clone())),
        _ => None,
    });
    let unreadable = skipped
        .first()
        .map(|skipped| ReceiptRefusal::Unreadable(skipped.clone()));
    Err(changed.or(foreign).or(unreadable).unwrap_or(ReceiptRefusal::Unsigned))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_good_signature_suffices_and_a_changed_receipt_is_told_first() {
        let key = |digit: &str| digit.repeat(64).parse::<KeyId>().unwrap();
        let ring = KeyRing::new([key("a")], []);
        let (invalid, unknown) = (SignatureCheck::Invalid(key("a")), SignatureCheck::UnknownKey(key("b")));
        let decide =
            |checks: &[SignatureCheck], skipped: &[SkippedSignature]| match decide_receipt(&ring, checks, skipped) {
                Ok(key) => format!("signed by {key}"),
                Err(refusal) => refusal.to_string(),
            };
        let good = SignatureCheck::Valid(key("a"));
        assert_eq!(decide(&[unknown.clone(), good], &[]), format!("signed by {}", key("a")));
        assert!(decide(&[unknown.clone(), invalid], &[]).contains("it was changed"));
        assert!(decide(&[unknown], &[]).contains("by another host"));
        assert!(decide(&[], &[SkippedSignature::NoKeyId]).contains("no signature that can be checked"));
        assert!(decide(&[], &[]).contains("is not signed"));
    }
}
