//! Keys and signatures of bundles [spec:bundles.signing].
//!
//! [`HostKeys`] checks the signatures of a bundle, of a detached file and of a key document against the keys of a host;
//! `landfall_core::bundle::trust` decides about the result. [`PrivateKey`] makes signatures. Reading files is left to
//! the caller.

mod detached;
mod host_keys;
mod key_error;
mod pem;
mod private_key;
mod public_key;
mod receipt;

pub use detached::{DETACHED_SIZE_MAX, NoDetachedSignature, detached_name, sign_detached};
pub use host_keys::{Checked, HostKeys, KeyDocumentError};
pub use key_error::KeyError;
pub use private_key::{PrivateKey, SigningFailed};
pub use public_key::{KeyKind, PublicKey};
pub use receipt::{receipt_signature_name, sign_receipt, verify_receipt};

#[cfg(test)]
mod tests;
