//! Reasons to refuse a key.

use std::borrow::Cow;

use landfall_core::failure::Hint;

/// Reason why a text is no key that can be used. No variant holds a part of the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error("it holds no public key in PEM")]
    NoPublicKey,
    #[error("it holds no private key in PEM")]
    NoPrivateKey,
    #[error("it holds more than one key")]
    SeveralKeys,
    #[error("it holds a private key, and a public one is needed here")]
    PrivateNotPublic,
    #[error("it holds a public key, and a private one is needed here")]
    PublicNotPrivate,
    #[error("it holds a certificate, and a public key is needed here")]
    Certificate,
    #[error("the private key is encrypted")]
    Encrypted,
    #[error("the private key is encrypted in cosign's own form")]
    EncryptedByCosign,
    #[error("the key is damaged, or is of a kind that is not supported")]
    NotSupported,
    #[error("the RSA key has {bits} bits, and needs 2048 to 8192")]
    RsaSize { bits: u32 },
    #[error("an ECDSA key on the curve P-384 signs images, but no bundles")]
    NotForBundles,
}

impl Hint for KeyError {
    fn hint(&self) -> Option<Cow<'_, str>> {
        Some(Cow::Borrowed(match self {
            KeyError::NoPublicKey => "write it with `openssl pkey -in PRIVATE-KEY -pubout -out PUBLIC-KEY`",
            KeyError::NoPrivateKey => "make a key pair with `openssl genpkey -algorithm ed25519 -out PRIVATE-KEY`",
            KeyError::SeveralKeys => "give each key in a file of its own",
            KeyError::PrivateNotPublic => {
                "write the public half with `openssl pkey -in PRIVATE-KEY -pubout -out PUBLIC-KEY`, and make a new key \
                 pair if others could read this one"
            }
            KeyError::PublicNotPrivate => "give the private half of the key pair",
            KeyError::Certificate => "write its public key with `openssl x509 -in CERTIFICATE -noout -pubkey`",
            KeyError::Encrypted => {
                "decrypt it with `openssl pkey -in PRIVATE-KEY -out PLAIN-KEY`, and remove the plain file after use"
            }
            KeyError::EncryptedByCosign => {
                "make a key pair with `openssl genpkey -algorithm ed25519 -out PRIVATE-KEY`; cosign can import that key"
            }
            KeyError::NotSupported => {
                "use an RSA key of 2048 to 8192 bits, an Ed25519 key, or an ECDSA key on the curve P-256"
            }
            KeyError::RsaSize { .. } => {
                "make a key with `openssl genpkey -algorithm rsa -pkeyopt rsa_keygen_bits:3072 -out PRIVATE-KEY`"
            }
            KeyError::NotForBundles => "use an RSA key, an Ed25519 key, or an ECDSA key on the curve P-256",
        }))
    }
}
