//! Signatures of receipts [spec:bundles.receipt]: a list like that of bundles, in a file beside the receipt.

use landfall_core::bundle::receipt::{ReceiptRefusal, decide_receipt};
use landfall_core::bundle::trust::{KeyId, render_signatures};

use super::host_keys::HostKeys;
use super::private_key::{PrivateKey, SigningFailed};

/// Returns the path of a receipt's signature: `.sig` in the place of `.json`.
#[must_use]
pub fn receipt_signature_name(receipt: &str) -> String {
    format!("{}.sig", receipt.strip_suffix(".json").unwrap_or(receipt))
}

/// Returns the list with the signature over the bytes of a receipt.
///
/// # Errors
/// If the library fails.
pub fn sign_receipt(key: &PrivateKey, receipt: &[u8]) -> Result<String, SigningFailed> {
    Ok(render_signatures(&[key.sign(receipt)?]))
}

/// Returns the key that signed the bytes of a receipt. `signatures` is the file beside it, if there is one.
///
/// # Errors
/// If none of the keys did.
pub fn verify_receipt(keys: &HostKeys, receipt: &[u8], signatures: Option<&[u8]>) -> Result<KeyId, ReceiptRefusal> {
    let checked = keys.check_bundle(receipt, signatures)?;
    decide_receipt(keys.ring(), &checked.checks, &checked.skipped)
}
