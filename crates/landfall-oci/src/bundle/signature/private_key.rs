//! Private keys.

use std::fmt;

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256};
use landfall_core::bundle::trust::Signature;
use landfall_core::reference::Digest;
use zeroize::Zeroizing;

use super::key_error::KeyError;
use super::pem;
use super::public_key::{PublicKey, imported};

/// A private key that signs bundles. Its DER is overwritten after it was read; `Debug` shows the public half only.
pub struct PrivateKey {
    pair: Pair,
    public: PublicKey,
}

enum Pair {
    Rsa(Box<rsa::KeyPair>),
    Ed25519(Box<Ed25519KeyPair>),
    EcdsaP256(Box<EcdsaKeyPair>),
}

/// Failure of the cryptographic library, e.g. without random numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("cannot sign with the key: the cryptographic library failed")]
pub struct SigningFailed;

impl PrivateKey {
    /// Parses the private key of a PEM file: PKCS #8, RSA's own form (PKCS #1), or that of elliptic curves (SEC 1). The
    /// caller overwrites the text.
    ///
    /// # Errors
    /// If it holds no private key, an encrypted one, or one that is not supported.
    pub fn parse(text: &str) -> Result<PrivateKey, KeyError> {
        let parameters = "EC PARAMETERS";
        let mut sections = pem::sections(text).filter(|section| section.label != parameters);
        let section = sections.next().ok_or(KeyError::NoPrivateKey)?;
        match section.label {
            label if label.ends_with("PUBLIC KEY") => return Err(KeyError::PublicNotPrivate),
            "ENCRYPTED SIGSTORE PRIVATE KEY" | "ENCRYPTED COSIGN PRIVATE KEY" => {
                return Err(KeyError::EncryptedByCosign);
            }
            label if !label.ends_with("PRIVATE KEY") => return Err(KeyError::NoPrivateKey),
            _ if section.is_encrypted() => return Err(KeyError::Encrypted),
            _ => {}
        }
        let der = section.der().ok_or(KeyError::NotSupported)?;
        let pair = Pair::from_der(section.label, &der).ok_or(KeyError::NotSupported)?;
        let public = PublicKey::from_spki(&pair.spki().ok_or(KeyError::NotSupported)?)?;
        Ok(PrivateKey { pair, public })
    }

    /// Makes a new Ed25519 key. Returns it with the text of its PEM file (PKCS #8).
    ///
    /// # Errors
    /// If the library fails.
    pub fn generate() -> Result<(PrivateKey, Zeroizing<String>), SigningFailed> {
        let pair = Ed25519KeyPair::generate().map_err(|_| SigningFailed)?;
        // The older version of PKCS #8: OpenSSL before 3.4 does not read the public half of the newer one.
        let der = pair.to_pkcs8v1().map_err(|_| SigningFailed)?;
        PrivateKey::with_text(der.as_ref())
    }

    /// Makes a new ECDSA key on P-256, as [`PrivateKey::generate`] does.
    ///
    /// # Errors
    /// If the library fails.
    pub fn generate_ecdsa() -> Result<(PrivateKey, Zeroizing<String>), SigningFailed> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).map_err(|_| SigningFailed)?;
        let der = pair.to_pkcs8v1().map_err(|_| SigningFailed)?;
        PrivateKey::with_text(der.as_ref())
    }

    fn with_text(pkcs8: &[u8]) -> Result<(PrivateKey, Zeroizing<String>), SigningFailed> {
        let text = pem::render("PRIVATE KEY", pkcs8);
        let key = PrivateKey::parse(&text).map_err(|_| SigningFailed)?;
        Ok((key, text))
    }

    #[must_use]
    pub fn public_key(&self) -> &PublicKey {
        &self.public
    }

    /// Signs the bytes of `landfall/bundle.json`, or of the PEM file of a new key.
    ///
    /// RSA and Ed25519 make the same signature each time, ECDSA does not.
    ///
    /// # Errors
    /// If the library fails.
    pub fn sign(&self, message: &[u8]) -> Result<Signature, SigningFailed> {
        let bytes = self.pair.sign(message).ok_or(SigningFailed)?;
        Ok(Signature {
            key: self.public.id().clone(),
            algorithm: self.public.kind().bundle_algorithm().ok_or(SigningFailed)?,
            bytes,
        })
    }

    /// Signs the message with this SHA-256; `None` if the kind of key signs no digests.
    pub(super) fn sign_digest(&self, sha256: &Digest) -> Option<Result<Vec<u8>, SigningFailed>> {
        let digest = imported(sha256);
        match &self.pair {
            Pair::Ed25519(_) => None,
            Pair::Rsa(pair) => Some(digest.ok_or(SigningFailed).and_then(|digest| {
                let mut bytes = vec![0; pair.public_modulus_len()];
                let signed = pair.sign_digest(&RSA_PKCS1_SHA256, &digest, &mut bytes);
                signed.map(|()| bytes).map_err(|_| SigningFailed)
            })),
            Pair::EcdsaP256(pair) => Some(digest.ok_or(SigningFailed).and_then(|digest| {
                let signed = pair.sign_digest(&digest).map_err(|_| SigningFailed)?;
                Ok(signed.as_ref().to_vec())
            })),
        }
    }
}

impl Pair {
    fn from_der(label: &str, der: &[u8]) -> Option<Pair> {
        let rsa = |pair| Pair::Rsa(Box::new(pair));
        let ecdsa = |pair| Pair::EcdsaP256(Box::new(pair));
        match label {
            "RSA PRIVATE KEY" => rsa::KeyPair::from_der(der).ok().map(rsa),
            "EC PRIVATE KEY" => EcdsaKeyPair::from_private_key_der(&ECDSA_P256_SHA256_ASN1_SIGNING, der)
                .ok()
                .map(ecdsa),
            _ => Ed25519KeyPair::from_pkcs8(der)
                .map(|pair| Pair::Ed25519(Box::new(pair)))
                .or_else(|_| EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, der).map(ecdsa))
                .or_else(|_| rsa::KeyPair::from_pkcs8(der).map(rsa))
                .ok(),
        }
    }

    /// Returns the SubjectPublicKeyInfo.
    fn spki(&self) -> Option<Vec<u8>> {
        let der = match self {
            Pair::Rsa(pair) => pair.public_key().as_der(),
            Pair::Ed25519(pair) => pair.public_key().as_der(),
            Pair::EcdsaP256(pair) => pair.public_key().as_der(),
        };
        der.ok().map(|der| der.as_ref().to_vec())
    }

    fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        let random = SystemRandom::new();
        match self {
            Pair::Rsa(pair) => {
                let mut bytes = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut bytes).ok()?;
                Some(bytes)
            }
            Pair::Ed25519(pair) => pair.try_sign(message).ok().map(|signature| signature.as_ref().to_vec()),
            Pair::EcdsaP256(pair) => pair
                .sign(&random, message)
                .ok()
                .map(|signature| signature.as_ref().to_vec()),
        }
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrivateKey(of {:?})", self.public)
    }
}
