//! The key of this host [spec:bundles.receipt]: made once, it signs receipts and nothing else.

use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use landfall_core::bundle::trust::KeyId;
use landfall_net::durable;
use landfall_net::state_file::{SetAside, StateFile, Unusable, load_state_file};
use landfall_oci::bundle::signature::{HostKeys, PrivateKey, SigningFailed, sign_receipt, verify_receipt};
use zeroize::Zeroizing;

/// Name of the private half in the state directory. Only root can read it.
pub(crate) const PRIVATE: &str = "host-key.pem";
/// Name of the public half. It is written anew if it is missing.
pub(crate) const PUBLIC: &str = "host-key.pub";

/// The key of this host.
#[derive(Debug)]
pub(crate) struct HostKey {
    key: PrivateKey,
    public_file: Utf8PathBuf,
}

impl HostKey {
    /// Loads the key of a state directory, and makes one if there is none. A key that cannot be used is set aside: the desk
    /// then has to be given the new public half. Blocks.
    ///
    /// # Errors
    ///
    /// If the state directory cannot be written.
    pub(crate) fn load_or_make(state_dir: &Utf8Path) -> anyhow::Result<(HostKey, Option<SetAside>)> {
        let path = state_dir.join(PRIVATE);
        let loaded = load_state_file(&path, |bytes| {
            let text = Zeroizing::new(String::from_utf8_lossy(bytes).into_owned());
            PrivateKey::parse(&text).map_err(|error| Unusable::Damaged(error.to_string()))
        });
        let (key, aside) = match loaded {
            StateFile::Loaded(key) => (key, None),
            StateFile::Missing => (make(&path)?, None),
            StateFile::SetAside(aside) => (make(&path)?, Some(aside)),
        };
        let public_file = state_dir.join(PUBLIC);
        let text = key.public_key().to_pem();
        if fs::read(&public_file).ok().as_deref() != Some(text.as_bytes()) {
            durable::replace_file(&public_file, text.as_bytes())?;
        }
        Ok((HostKey { key, public_file }, aside))
    }

    pub(crate) fn id(&self) -> &KeyId {
        self.key.public_key().id()
    }

    pub(crate) fn public_file(&self) -> &Utf8Path {
        &self.public_file
    }

    /// Returns the PEM text of the public half.
    pub(crate) fn public_text(&self) -> String {
        self.key.public_key().to_pem()
    }

    /// Returns the list with the signature over the bytes of a receipt.
    ///
    /// # Errors
    ///
    /// If the cryptographic library fails.
    pub(crate) fn sign(&self, receipt: &[u8]) -> Result<String, SigningFailed> {
        sign_receipt(&self.key, receipt)
    }

    /// Returns true if this key signed the bytes of a receipt.
    pub(crate) fn has_signed(&self, receipt: &[u8], signatures: &[u8]) -> bool {
        let keys = HostKeys::new([self.key.public_key().clone()], []);
        keys.is_ok_and(|keys| verify_receipt(&keys, receipt, Some(signatures)).is_ok())
    }
}

fn make(path: &Utf8Path) -> anyhow::Result<PrivateKey> {
    let (key, text) = PrivateKey::generate()?;
    durable::replace_private_file(path, text.as_bytes())?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_key_is_made_once_and_a_damaged_one_is_replaced_and_told() {
        let directory = tempfile::tempdir().unwrap();
        let state_dir = Utf8Path::from_path(directory.path()).unwrap();
        let (key, aside) = HostKey::load_or_make(state_dir).unwrap();
        assert!(aside.is_none());
        let mode = fs::metadata(state_dir.join(PRIVATE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let list = key.sign(b"receipt").unwrap();
        assert!(key.has_signed(b"receipt", list.as_bytes()) && !key.has_signed(b"receipt ", list.as_bytes()));
        fs::remove_file(state_dir.join(PUBLIC)).unwrap();
        let (again, _) = HostKey::load_or_make(state_dir).unwrap();
        assert_eq!(again.id(), key.id());
        assert!(again.has_signed(b"receipt", list.as_bytes()));
        assert_eq!(fs::read_to_string(again.public_file()).unwrap(), key.public_text());
        fs::write(state_dir.join(PRIVATE), "torn").unwrap();
        let (new, aside) = HostKey::load_or_make(state_dir).unwrap();
        assert!(aside.is_some());
        assert_ne!(new.id(), key.id());
        assert!(!new.has_signed(b"receipt", list.as_bytes()));
    }
}
