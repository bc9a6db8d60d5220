//! Keys of this host: those of the user-data, and those that key documents brought [spec:bundles.signing.rotation].

use std::collections::BTreeMap;

use anyhow::Context as _;
use camino::{Utf8Path, Utf8PathBuf};
use landfall_core::bundle::trust::{KeyDocument, KeyId, Standing};
use landfall_core::failure::{Explanation, error_chain, line_with_hint};
use landfall_core::settings::{BundleSettings, KeySource};
use landfall_core::status::{BundleKeyStatus, EventReason};
use landfall_host::root::HostRoot;
use landfall_oci::bundle::signature::{HostKeys, PublicKey};

use crate::agent::host::Host;
use crate::agent::ledger::{AcceptedKey, Ledger, LedgerFile};
use crate::failure::{error_line, find_hint};

/// Origin of the keys of the user-data, in the status.
const USER_DATA: &str = "user-data";

/// A key document in a place of bundles.
#[derive(Debug)]
pub(super) struct FoundKey {
    pub(super) path: Utf8PathBuf,
    pub(super) document: KeyDocument,
}

/// The key documents that are events already.
#[derive(Debug, Default)]
pub(super) struct KeyDocuments {
    /// Reasons of refusals by path.
    refused: BTreeMap<Utf8PathBuf, String>,
}

impl KeyDocuments {
    /// Takes the keys of key documents into use, and keeps them. Returns true if the host has a key more than before.
    ///
    /// # Errors
    ///
    /// If the ledger cannot be written. A document that is refused is an event and no error.
    pub(super) async fn take(
        &mut self,
        host: &Host,
        settings: &BundleSettings,
        ledger: &mut LedgerFile,
        found: Vec<FoundKey>,
    ) -> anyhow::Result<bool> {
        ledger.update(|ledger| {
            // A retired key never comes back by a document, also if the user-data names it no longer.
            ledger.retired_keys.extend(settings.retired_keys.iter().cloned());
            let retired = &ledger.retired_keys;
            ledger.keys.retain(|id, _| !retired.contains(id));
        })?;
        let mut keys = match host_keys(settings, &host.root, ledger.get()) {
            Ok(keys) => keys,
            Err(error) => {
                // Each bundle that is found is refused with this reason.
                tracing::warn!(error = error_line(&error), "the keys of this host cannot be read");
                return Ok(false);
            }
        };
        let is_new = |found: &FoundKey| {
            let id = PublicKey::parse(&found.document.key).map(|key| key.id().clone());
            !matches!(id, Ok(id) if keys.ring().standing(&id) == Standing::InUse)
        };
        let (paths, documents): (Vec<_>, Vec<_>) = found
            .into_iter()
            .filter(is_new)
            .map(|found| (found.path, found.document))
            .unzip();
        let refused: BTreeMap<usize, _> = keys.accept_all(&documents).into_iter().collect();
        let mut accepted = Vec::new();
        let mut problems = BTreeMap::new();
        for (number, (path, document)) in paths.iter().zip(documents).enumerate() {
            match (refused.get(&number), PublicKey::parse(&document.key)) {
                (None, Ok(key)) => accepted.push((path, key.id().clone(), document.key)),
                (Some(error), _) => {
                    let line = line_with_hint(error_chain(error), find_hint(error));
                    problems.insert(path.clone(), line);
                }
                (None, Err(_)) => {}
            }
        }
        for (path, problem) in &problems {
            if self.refused.get(path) != Some(problem) {
                host.warn(EventReason::BundleKeyRefused, path.as_str(), problem.clone())
                    .await;
            }
        }
        self.refused = problems;
        ledger.update(|ledger| {
            for (path, id, pem) in &accepted {
                let key = AcceptedKey {
                    pem: pem.clone(),
                    document: path.to_string(),
                };
                ledger.keys.insert(id.clone(), key);
            }
        })?;
        for (path, id, _) in &accepted {
            let message = format!("bundles that are signed by the key `{id}` are taken from now on");
            host.note(EventReason::BundleKeyAccepted, path.as_str(), message).await;
        }
        show(host, settings, &keys, ledger.get());
        Ok(!accepted.is_empty())
    }
}

/// Shows the keys in the status.
fn show(host: &Host, settings: &BundleSettings, keys: &HostKeys, ledger: &Ledger) {
    let named = load_keys(&settings.public_keys, &host.root).unwrap_or_default();
    let named = named.iter().map(|key| (key.id().clone(), USER_DATA.to_owned()));
    let retired = ledger.retired_keys.iter();
    let retired = retired.map(|id| (id.clone(), USER_DATA.to_owned()));
    let accepted = ledger.keys.iter().map(|(id, key)| (id.clone(), key.document.clone()));
    // The user-data counts more than a document with the same key.
    let by_id: BTreeMap<KeyId, String> = accepted.chain(retired).chain(named).collect();
    let shown = by_id.into_iter().filter_map(|(id, origin)| {
        let standing = keys.ring().standing(&id);
        (standing != Standing::Unknown).then(|| BundleKeyStatus {
            id: id.to_string(),
            origin,
            retired: standing == Standing::Retired,
        })
    });
    let shown: Vec<_> = shown.collect();
    if host.status.get().bundle_keys != shown {
        host.status.update(|status| status.bundle_keys = shown);
    }
}

/// Returns the keys that the user-data names for bundles.
///
/// # Errors
///
/// If one of them cannot be read.
pub fn configured_keys(settings: &BundleSettings, root: &HostRoot) -> anyhow::Result<HostKeys> {
    host_keys(settings, root, &Ledger::default())
}

/// Returns the keys that sign bundles for this host. Those of documents count as long as the user-data names any key.
///
/// # Errors
///
/// If a key of the user-data cannot be read.
pub(super) fn host_keys(settings: &BundleSettings, root: &HostRoot, ledger: &Ledger) -> anyhow::Result<HostKeys> {
    let named = load_keys(&settings.public_keys, root)?;
    if named.is_empty() && settings.retired_keys.is_empty() {
        return Ok(HostKeys::default());
    }
    let is_named = |id: &KeyId| named.iter().any(|key| key.id() == id);
    let retired: Vec<KeyId> = ledger.retired_keys.iter().filter(|id| !is_named(id)).cloned().collect();
    let accepted = ledger.keys.values();
    let accepted = accepted.filter_map(|key| PublicKey::parse(&key.pem).ok());
    let keys: Vec<PublicKey> = named.iter().cloned().chain(accepted).collect();
    Ok(HostKeys::new(
        keys,
        settings.retired_keys.iter().cloned().chain(retired),
    )?)
}

pub(super) fn load_keys(keys: &[KeySource], root: &HostRoot) -> anyhow::Result<Vec<PublicKey>> {
    let load = |key: &KeySource| match key {
        KeySource::Pem(text) => PublicKey::parse(text).context("cannot use a public key of the user-data"),
        KeySource::File(path) => load_key(path, root),
    };
    keys.iter().map(load).collect()
}

fn load_key(path: &Utf8Path, root: &HostRoot) -> anyhow::Result<PublicKey> {
    let bytes = root.read(path)?.unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    PublicKey::parse(&text).with_context(|| {
        Explanation::new(
            format!("cannot use the public key `{path}`"),
            "write a public key in PEM there, or name another file in `landfall.bundles`",
        )
    })
}
