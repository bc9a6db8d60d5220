//! Keys of a host: those in use, and those that are retired.

use std::borrow::Cow;
use std::collections::BTreeSet;

use crate::bundle::trust::key_id::KeyId;
use crate::bundle::trust::signatures::SignatureCheck;
use crate::failure::Hint;

/// The names of the keys whose bundles a host takes, and of those whose bundles it takes no longer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyRing {
    in_use: BTreeSet<KeyId>,
    retired: BTreeSet<KeyId>,
}

/// Standing of a key on a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    InUse,
    Retired,
    Unknown,
}

/// Reason to refuse a new key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyRefusal {
    #[error("the new key `{0}` is signed by none of the keys that this host uses")]
    NotSigned(KeyId),
    #[error("the new key `{0}` is retired on this host")]
    Retired(KeyId),
}

impl Hint for KeyRefusal {
    fn hint(&self) -> Option<Cow<'_, str>> {
        Some(match self {
            KeyRefusal::NotSigned(_) => "sign the key document with a key that this host uses, or add the new key to \
                                         `landfall.bundles.publicKeys`"
                .into(),
            KeyRefusal::Retired(_) => "make another key pair".into(),
        })
    }
}

impl KeyRing {
    /// Returns a ring. A key that is in both lists is retired.
    #[must_use]
    pub fn new(keys: impl IntoIterator<Item = KeyId>, retired: impl IntoIterator<Item = KeyId>) -> KeyRing {
        let retired: BTreeSet<KeyId> = retired.into_iter().collect();
        KeyRing {
            in_use: keys.into_iter().filter(|key| !retired.contains(key)).collect(),
            retired,
        }
    }

    /// Returns true if the host takes only signed bundles: it has a key, or had one.
    #[must_use]
    pub fn is_configured(&self) -> bool {
        !(self.in_use.is_empty() && self.retired.is_empty())
    }

    #[must_use]
    pub fn standing(&self, key: &KeyId) -> Standing {
        match key {
            key if self.retired.contains(key) => Standing::Retired,
            key if self.in_use.contains(key) => Standing::InUse,
            _ => Standing::Unknown,
        }
    }

    /// Returns the key in use that made one of these signatures.
    #[must_use]
    pub fn signer<'c>(&self, checks: &'c [SignatureCheck]) -> Option<&'c KeyId> {
        checks.iter().find_map(|check| match check {
            SignatureCheck::Valid(key) if self.standing(key) == Standing::InUse => Some(key),
            _ => None,
        })
    }

    /// Takes a new key into use, if a key in use signed it. `checks` are those of its key document.
    ///
    /// # Errors
    /// If none did, or if the new key is retired: an old document must not bring it back.
    pub fn accept(&mut self, new: &KeyId, checks: &[SignatureCheck]) -> Result<(), KeyRefusal> {
        if self.standing(new) == Standing::Retired {
            return Err(KeyRefusal::Retired(new.clone()));
        }
        if self.signer(checks).is_none() {
            return Err(KeyRefusal::NotSigned(new.clone()));
        }
        self.in_use.insert(new.clone());
        Ok(())
    }
}
