//! Key pairs that sign bundles.

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use landfall_oci::bundle::signature::PrivateKey;

/// A key pair.
#[derive(Debug)]
pub struct SigningKey {
    pub private: PrivateKey,
    /// The PEM file of the public half.
    pub public_pem: String,
}

impl SigningKey {
    /// Makes an ECDSA P-256 key.
    ///
    /// # Panics
    /// Panics if the cryptographic library fails.
    #[must_use]
    pub fn ecdsa() -> SigningKey {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).expect("a key can be made");
        let private = pair.to_pkcs8v1().expect("a key can be written");
        let public = pair.public_key().as_der().expect("a key can be written");
        SigningKey {
            private: PrivateKey::parse(&pem("PRIVATE KEY", private.as_ref())).expect("it was just made"),
            public_pem: pem("PUBLIC KEY", public.as_ref()),
        }
    }

    /// Returns the public half on one line, for user-data.
    #[must_use]
    pub fn public_base64(&self) -> String {
        STANDARD.encode(&self.public_pem)
    }
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n")
}
