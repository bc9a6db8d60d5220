//! The public keys of a host, and the checks of signatures against them.

use std::borrow::Cow;
use std::collections::BTreeMap;

use landfall_core::bundle::trust::{
    DocumentProblem, KeyDocument, KeyId, KeyRefusal, KeyRing, Signature, SignatureCheck, SkippedSignature,
    parse_signatures,
};
use landfall_core::failure::Hint;
use landfall_core::reference::Digest;

use super::key_error::KeyError;
use super::public_key::PublicKey;

/// The public keys of a host, those in use and those that are retired.
#[derive(Debug, Clone, Default)]
pub struct HostKeys {
    keys: BTreeMap<KeyId, PublicKey>,
    ring: KeyRing,
}

/// The checked signatures of a bundle: facts for `landfall_core::bundle::trust::decide_trust`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checked {
    pub checks: Vec<SignatureCheck>,
    /// The signatures that could not be checked.
    pub skipped: Vec<SkippedSignature>,
}

/// Reason to refuse a key document.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyDocumentError {
    #[error("the `key` of the document cannot be used")]
    Key(#[source] KeyError),
    #[error(transparent)]
    Refused(KeyRefusal),
}

impl Hint for KeyDocumentError {
    fn hint(&self) -> Option<Cow<'_, str>> {
        match self {
            KeyDocumentError::Key(error) => error.hint(),
            KeyDocumentError::Refused(refusal) => refusal.hint(),
        }
    }
}

impl HostKeys {
    /// Returns the keys of a host. A key whose name is in `retired` is not in use.
    ///
    /// # Errors
    /// If a key is of a kind that signs no bundles.
    pub fn new(
        keys: impl IntoIterator<Item = PublicKey>,
        retired: impl IntoIterator<Item = KeyId>,
    ) -> Result<HostKeys, KeyError> {
        let mut by_id = BTreeMap::new();
        for key in keys {
            check_kind(&key)?;
            by_id.insert(key.id().clone(), key);
        }
        let ring = KeyRing::new(by_id.keys().cloned(), retired);
        Ok(HostKeys { keys: by_id, ring })
    }

    /// Returns the standing of each key, for the decision about a bundle.
    #[must_use]
    pub fn ring(&self) -> &KeyRing {
        &self.ring
    }

    /// Checks the signatures of a bundle: `document` is its `landfall/bundle.json`, `signatures` its
    /// `landfall/bundle.sig`, if it has one.
    ///
    /// # Errors
    /// If the list of signatures cannot be read.
    pub fn check_bundle(&self, document: &[u8], signatures: Option<&[u8]>) -> Result<Checked, DocumentProblem> {
        let listed = signatures.map(parse_signatures).transpose()?.unwrap_or_default();
        Ok(Checked {
            checks: self.check(document, &listed.signatures),
            skipped: listed.skipped,
        })
    }

    /// Checks a detached signature of the file with this SHA-256.
    #[must_use]
    pub fn check_detached(&self, sha256: &Digest, signature: &[u8]) -> Checked {
        let key = self.keys.values().find(|key| key.verifies_digest(sha256, signature));
        let check = key.map_or(SignatureCheck::Unmatched, |key| SignatureCheck::Valid(key.id().clone()));
        Checked {
            checks: vec![check],
            skipped: Vec::new(),
        }
    }

    /// Takes the new key of a key document into use, if a key in use signed it. The caller keeps the document.
    ///
    /// # Errors
    /// If the key is of no use, retired, or signed by no key in use.
    pub fn accept(&mut self, document: &KeyDocument) -> Result<KeyId, KeyDocumentError> {
        let key = PublicKey::parse(&document.key).map_err(KeyDocumentError::Key)?;
        check_kind(&key).map_err(KeyDocumentError::Key)?;
        let checks = self.check(document.key.as_bytes(), &document.signatures.signatures);
        self.ring.accept(key.id(), &checks).map_err(KeyDocumentError::Refused)?;
        let id = key.id().clone();
        self.keys.insert(id.clone(), key);
        Ok(id)
    }

    /// Takes the new keys of several documents into use, in any order: one of them may be signed by the key of another.
    /// Returns the documents that are refused, by their place in the list. The work grows with the square of their
    /// number, which the caller bounds.
    pub fn accept_all(&mut self, documents: &[KeyDocument]) -> Vec<(usize, KeyDocumentError)> {
        let mut refused: Vec<usize> = (0..documents.len()).collect();
        loop {
            let before = refused.len();
            refused.retain(|&place| self.accept(&documents[place]).is_err());
            if refused.len() == before {
                break;
            }
        }
        let reason = |place: usize| Some((place, self.accept(&documents[place]).err()?));
        refused.into_iter().filter_map(reason).collect()
    }

    fn check(&self, message: &[u8], signatures: &[Signature]) -> Vec<SignatureCheck> {
        signatures
            .iter()
            .map(|signature| self.check_one(message, signature))
            .collect()
    }

    fn check_one(&self, message: &[u8], signature: &Signature) -> SignatureCheck {
        let id = signature.key.clone();
        let Some(key) = self.keys.get(&id) else {
            return SignatureCheck::UnknownKey(id);
        };
        let is_algorithm = key.kind().bundle_algorithm() == Some(signature.algorithm);
        match is_algorithm && key.verifies(message, &signature.bytes) {
            true => SignatureCheck::Valid(id),
            false => SignatureCheck::Invalid(id),
        }
    }
}

fn check_kind(key: &PublicKey) -> Result<(), KeyError> {
    match key.kind().bundle_algorithm() {
        Some(_) => Ok(()),
        None => Err(KeyError::NotForBundles),
    }
}
