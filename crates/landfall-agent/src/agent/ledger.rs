//! The facts that the agent must remember across a restart and cannot observe: a small, versioned file, synced and
//! renamed into place. The agent observes the store and containerd anew each time.

use std::collections::BTreeMap;

use anyhow::{Context as _, bail};
use camino::{Utf8Path, Utf8PathBuf};
use landfall_core::failure::Explanation;
use landfall_core::reference::{Digest, ImageReference};
use landfall_host::files::write_atomic;
use serde::{Deserialize, Serialize};

const FILE_NAME: &str = "ledger.json";

/// The version of the format. The agent refuses a ledger of a later version: it may hold facts that this program would
/// drop.
const VERSION: u32 = 1;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Ledger {
    version: u32,
    /// The number of configurations that became active.
    pub(crate) generation: u64,
    /// SHA-256 of the active configuration, in hex.
    pub(crate) configuration: Option<String>,
    /// The core images that were loaded last.
    pub(crate) core_images: Option<CoreImages>,
    /// The images that the primary registry is known to hold.
    pub(crate) primary: BTreeMap<ImageReference, Digest>,
    /// The facts of the host when `Running` was first reached.
    pub(crate) baseline: Option<Baseline>,
}

/// The core images of one provider image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CoreImages {
    /// The digest of the provider image's manifest.
    pub(crate) provider: Digest,
    pub(crate) kept_in: CoreImageStorage,
    /// The names of the images there.
    pub(crate) names: Vec<String>,
}

/// The place where core images are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum CoreImageStorage {
    /// containerd, namespace `k8s.io`.
    Containerd,
    /// The content store, on a host without containerd.
    Store,
}

/// The facts that the host runs on. A change against them needs a repave or a reboot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Baseline {
    pub(crate) provider: Option<String>,
    /// The fingerprint of the `initramfs` stages.
    pub(crate) initramfs: String,
    /// The fingerprint of the running operating system image. Another one means that the host was repaved.
    pub(crate) system: String,
    /// The boot ID of the kernel.
    pub(crate) boot: String,
}

impl Default for Ledger {
    fn default() -> Ledger {
        Ledger {
            version: VERSION,
            generation: 0,
            configuration: None,
            core_images: None,
            primary: BTreeMap::new(),
            baseline: None,
        }
    }
}

/// The ledger on disk and in memory. Only one task changes it.
#[derive(Debug)]
pub(crate) struct LedgerFile {
    path: Utf8PathBuf,
    ledger: Ledger,
}

fn explain_ledger(path: &Utf8Path) -> Explanation {
    Explanation::new(
        format!("cannot use `{path}`"),
        "remove it, and the agent checks everything again",
    )
}

impl LedgerFile {
    /// Loads the ledger of this state directory, or begins a new one.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, is not a ledger, or is of a later version.
    pub(crate) fn load(state_dir: &Utf8Path) -> anyhow::Result<LedgerFile> {
        let path = state_dir.join(FILE_NAME);
        let ledger = match fs_err::read(&path) {
            Ok(bytes) => parse_ledger(&bytes).with_context(|| explain_ledger(&path))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ledger::default(),
            Err(error) => return Err(error.into()),
        };
        Ok(LedgerFile { path, ledger })
    }

    pub(crate) fn get(&self) -> &Ledger {
        &self.ledger
    }

    /// Changes the ledger and writes it to disk, unless the change changes nothing.
    ///
    /// # Errors
    ///
    /// If the file cannot be written. The change is then in memory only.
    pub(crate) fn update(&mut self, change: impl FnOnce(&mut Ledger)) -> anyhow::Result<()> {
        let before = self.ledger.clone();
        change(&mut self.ledger);
        if before == self.ledger {
            return Ok(());
        }
        Ok(write_atomic(
            &self.path,
            0o600,
            &serde_json::to_vec_pretty(&self.ledger)?,
        )?)
    }
}

fn parse_ledger(bytes: &[u8]) -> anyhow::Result<Ledger> {
    let ledger: Ledger = serde_json::from_slice(bytes).context("it is not a ledger of the agent")?;
    if ledger.version != VERSION {
        bail!(
            "it is of version {}, and this program knows version {VERSION}",
            ledger.version
        );
    }
    Ok(ledger)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_methods, reason = "test set-up")]

    use super::*;
    use crate::failure::error_line;

    fn mk_dir() -> (tempfile::TempDir, Utf8PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::from_path_buf(dir.path().to_owned()).unwrap();
        (dir, path)
    }

    #[test]
    fn what_is_remembered_is_there_after_a_restart() {
        let (_dir, path) = mk_dir();
        let reference: ImageReference = "reg:5000/spectro-images/docker.io/library/nginx:1".parse().unwrap();
        let digest: Digest = format!("sha256:{}", "a".repeat(64)).parse().unwrap();
        let mut file = LedgerFile::load(&path).unwrap();
        file.update(|ledger| {
            ledger.primary.insert(reference, digest);
        })
        .unwrap();
        assert_eq!(LedgerFile::load(&path).unwrap().get(), file.get());
    }

    #[test]
    fn unchanged_ledger_is_not_written() {
        let (_dir, path) = mk_dir();
        LedgerFile::load(&path).unwrap().update(|_| {}).unwrap();
        assert!(!path.join(FILE_NAME).exists());
    }

    #[test]
    fn unusable_ledgers_are_refused_with_a_way_out() {
        let (_dir, path) = mk_dir();
        let newer = serde_json::to_string(&Ledger {
            version: 2,
            ..Ledger::default()
        })
        .unwrap();
        let cases = [
            (
                "{",
                "it is not a ledger of the agent: EOF while parsing an object at line 1 column 1",
            ),
            (newer.as_str(), "it is of version 2, and this program knows version 1"),
        ];
        for (text, reason) in cases {
            std::fs::write(path.join(FILE_NAME), text).unwrap();
            let error = error_line(&LedgerFile::load(&path).unwrap_err());
            assert_eq!(
                error,
                format!(
                    "cannot use `{}`: {reason}; hint: remove it, and the agent checks everything again",
                    path.join(FILE_NAME)
                )
            );
        }
    }
}
