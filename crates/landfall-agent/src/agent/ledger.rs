//! The facts that the agent must remember across a restart and cannot observe: a small, versioned file, synced and
//! renamed into place. The agent observes the store and containerd anew each time.

use std::collections::{BTreeMap, BTreeSet};

use camino::{Utf8Path, Utf8PathBuf};
use landfall_core::bundle::foreign::FileStamp;
use landfall_core::bundle::trust::{HighestSeen, KeyId};
use landfall_core::reference::{Digest, ImageReference};
use landfall_host::files::write_atomic;
use landfall_net::state_file::{SetAside, StateFile, Unusable, load_state_file, parse_versioned};
use serde::{Deserialize, Serialize};

use crate::write_health::WriteHealth;

pub(crate) const FILE_NAME: &str = "ledger.json";

/// The version of the format. A ledger of a later version is set aside: it may hold facts that this program would drop.
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
    /// The signatures, attestations and bills of materials that the primary registry is known to hold beside an image.
    #[serde(default)]
    pub(crate) companions: BTreeMap<ImageReference, BTreeSet<Digest>>,
    /// The facts of the host when `Running` was first reached.
    pub(crate) baseline: Option<Baseline>,
    /// The highest numbers that the host has taken of each series of bundles.
    #[serde(default)]
    pub(crate) series: BTreeMap<String, HighestSeen>,
    /// The bundles that were taken, by their ids.
    #[serde(default)]
    pub(crate) bundles: BTreeMap<Digest, KnownBundle>,
    /// The keys that key documents brought, by their ids.
    #[serde(default)]
    pub(crate) keys: BTreeMap<KeyId, AcceptedKey>,
    /// The keys that the user-data retired, once.
    #[serde(default)]
    pub(crate) retired_keys: BTreeSet<KeyId>,
}

/// A key that a key document brought, when a key in use had signed it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AcceptedKey {
    pub(crate) pem: String,
    /// The path of the document.
    pub(crate) document: String,
}

/// A bundle that was taken, for the time after its file is gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct KnownBundle {
    pub(crate) path: String,
    pub(crate) series: Option<String>,
    pub(crate) sequence: Option<u64>,
    /// Size of its content in bytes.
    pub(crate) bytes: u64,
    pub(crate) images: BTreeMap<ImageReference, Digest>,
    pub(crate) has_receipt: bool,
    /// Sizes and times of a file of another format, which is not read again while they stay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) stamp: Option<FileStamp>,
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
            companions: BTreeMap::new(),
            baseline: None,
            series: BTreeMap::new(),
            bundles: BTreeMap::new(),
            keys: BTreeMap::new(),
            retired_keys: BTreeSet::new(),
        }
    }
}

/// The ledger on disk and in memory. Only one task changes it.
#[derive(Debug)]
pub(crate) struct LedgerFile {
    path: Utf8PathBuf,
    ledger: Ledger,
    /// True if the ledger in memory is not the one on disk.
    unwritten: bool,
    health: WriteHealth,
}

impl LedgerFile {
    /// Loads the ledger of this state directory, or begins a new one: then the agent checks everything again.
    pub(crate) fn load(state_dir: &Utf8Path, health: WriteHealth) -> (LedgerFile, Option<SetAside>) {
        let path = state_dir.join(FILE_NAME);
        let (ledger, aside) = match load_state_file(&path, parse_ledger) {
            StateFile::Loaded(ledger) => (ledger, None),
            StateFile::Missing => (Ledger::default(), None),
            StateFile::SetAside(aside) => (Ledger::default(), Some(aside)),
        };
        let file = LedgerFile {
            path,
            ledger,
            unwritten: false,
            health,
        };
        (file, aside)
    }

    pub(crate) fn get(&self) -> &Ledger {
        &self.ledger
    }

    /// Changes the ledger and writes it to disk, unless the change changes nothing. On a disk that cannot be written, the
    /// change is in memory until a later call succeeds.
    ///
    /// # Errors
    ///
    /// If the ledger cannot be expressed as JSON.
    pub(crate) fn update(&mut self, change: impl FnOnce(&mut Ledger)) -> anyhow::Result<()> {
        let before = self.ledger.clone();
        change(&mut self.ledger);
        if before == self.ledger && !self.unwritten {
            return Ok(());
        }
        let content = serde_json::to_vec_pretty(&self.ledger)?;
        let written = write_atomic(&self.path, 0o600, &content);
        self.unwritten = written.is_err();
        self.health.note("the ledger", written.map_err(anyhow::Error::from));
        Ok(())
    }
}

fn parse_ledger(bytes: &[u8]) -> Result<Ledger, Unusable> {
    parse_versioned(bytes, VERSION, "a ledger of the agent")
}

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_methods, reason = "test set-up")]

    use super::*;

    fn mk_dir() -> (tempfile::TempDir, Utf8PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::from_path_buf(dir.path().to_owned()).unwrap();
        (dir, path)
    }

    fn load(path: &Utf8Path) -> LedgerFile {
        let (file, aside) = LedgerFile::load(path, WriteHealth::new(path));
        assert_eq!(aside, None);
        file
    }

    fn mk_held() -> (ImageReference, Digest) {
        let digest = format!("sha256:{}", "a".repeat(64));
        (
            "reg:5000/spectro-images/docker.io/library/nginx:1".parse().unwrap(),
            digest.parse().unwrap(),
        )
    }

    #[test]
    fn what_is_remembered_is_there_after_a_restart() {
        let (_dir, path) = mk_dir();
        let mut file = load(&path);
        file.update(|ledger| ledger.primary.extend([mk_held()])).unwrap();
        assert_eq!(load(&path).get(), file.get());
    }

    #[test]
    fn unchanged_ledger_is_not_written() {
        let (_dir, path) = mk_dir();
        load(&path).update(|_| {}).unwrap();
        assert!(!path.join(FILE_NAME).exists());
    }

    #[test]
    fn ledger_that_cannot_be_written_is_kept_in_memory_and_written_later() {
        let (_dir, path) = mk_dir();
        let state_dir = path.join("gone");
        let mut file = load(&state_dir);
        file.update(|ledger| ledger.primary.extend([mk_held()])).unwrap();
        assert!(
            file.health
                .problem()
                .is_some_and(|problem| problem.starts_with("the ledger cannot be written: "))
        );
        assert_eq!(file.get().primary.len(), 1);
        std::fs::create_dir(&state_dir).unwrap();
        file.update(|_| {}).unwrap();
        assert_eq!(file.health.problem(), None);
        assert_eq!(load(&state_dir).get(), file.get());
    }

    #[test]
    fn unusable_ledgers_are_set_aside() {
        let newer = serde_json::to_string(&Ledger {
            version: 2,
            ..Ledger::default()
        })
        .unwrap();
        for (text, ending, reason) in [
            (
                "{",
                "damaged",
                "is damaged: it is not a ledger of the agent: EOF while parsing an object at line 1 column 1",
            ),
            (
                newer.as_str(),
                "newer",
                "is of version 2, and this program knows version 1",
            ),
            (
                r#"{"version":99,"other":{}}"#,
                "newer",
                "is of version 99, and this program knows version 1",
            ),
        ] {
            let (_dir, path) = mk_dir();
            let file = path.join(FILE_NAME);
            std::fs::write(&file, text).unwrap();
            let (loaded, aside) = LedgerFile::load(&path, WriteHealth::new(&path));
            assert_eq!(loaded.get(), &Ledger::default(), "{text}");
            assert_eq!(
                aside.unwrap().to_string(),
                format!("`{file}` {reason}; it is set aside as `{file}.{ending}`, and a new one is begun")
            );
        }
    }
}
