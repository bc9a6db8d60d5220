//! Files for the courier: receipts with their signatures, and lists of what a bundle lacks at this site. They are written
//! beside the bundle, or into the state directory if that place cannot be written.

use std::collections::{BTreeSet, HashSet};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;

use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use landfall_core::bundle::adoption::NeedsMissing;
use landfall_core::bundle::document::BundleDocument;
use landfall_core::bundle::kept_receipts::{KeptReceipt, select_old_receipts};
use landfall_core::reference::{Digest, ImageReference};
use landfall_core::report::{BundleNeeds, BundleReceipt, Inventory, RawReceipt};
use landfall_core::status::EventReason;
use landfall_net::durable;
use landfall_oci::bundle::signature::receipt_signature_name;

use crate::agent::host::Host;
use crate::api::ReceiptApi;
use crate::host_key::HostKey;
use crate::state_dir::RECEIPTS;

const RECEIPT: &str = "receipt.json";
const NEEDS: &str = "needs.json";

/// Content of a bundle that a receipt tells of.
#[derive(Debug)]
pub(super) struct Outcome {
    /// Images that the content store lacks.
    pub(super) lacking: BTreeSet<ImageReference>,
    /// Images whose content is wrong.
    pub(super) bad: BTreeSet<ImageReference>,
}

/// Writes the receipt of an adopted bundle, and returns its place. One that cannot be written is tried again in the next
/// pass.
pub(super) async fn write_receipt(
    host: &Host,
    path: &Utf8Path,
    id: Digest,
    document: BundleDocument,
    outcome: Outcome,
) -> Option<Utf8PathBuf> {
    let (store, site, key) = (host.store.clone(), site_of(host), host.key.clone());
    let places = places(host, path, &id, RECEIPT);
    let write = move || {
        let blobs = store.blobs().map_err(io::Error::other)?.into_iter().collect();
        let inventory = Inventory::new(site, blobs);
        let has = |name: &ImageReference| !outcome.lacking.contains(name);
        let receipt = BundleReceipt::new(&id, &document, has, &outcome.bad, inventory);
        let text = serde_json::to_vec_pretty(&receipt)?;
        let signatures = key.map(|key| key.sign(&text)).transpose().map_err(io::Error::other)?;
        write_first(&places, &text, signatures.as_deref())
    };
    let written = tokio::task::spawn_blocking(write).await;
    match written.map_err(io::Error::other).flatten() {
        Ok(receipt) => {
            let message = format!("written to `{receipt}`");
            host.note(EventReason::BundleReceipt, path.as_str(), message).await;
            Some(receipt)
        }
        Err(error) => {
            tracing::warn!(bundle = %path, %error, "the receipt cannot be written");
            None
        }
    }
}

/// Returns the receipt that was written for a bundle before. One without a signature of this host is written anew.
pub(super) fn existing_receipt(host: &Host, bundle: &Utf8Path, id: &Digest) -> Option<Utf8PathBuf> {
    let is_ours = |path: &Utf8PathBuf| {
        let bytes = fs::read(path).unwrap_or_default();
        let read: Option<serde_json::Value> = serde_json::from_slice(&bytes).ok();
        let signatures = fs::read(receipt_signature_name(path.as_str())).unwrap_or_default();
        let is_signed = |key: &Arc<HostKey>| key.has_signed(&bytes, &signatures);
        read.is_some_and(|receipt| receipt["bundle"] == id.as_str()) && host.key.as_ref().is_none_or(is_signed)
    };
    places(host, bundle, id, RECEIPT).into_iter().find(is_ours)
}

/// Writes the list of the blobs that a bundle counts on and this site does not have.
pub(super) async fn write_needs(host: &Host, bundle: &Utf8Path, id: &Digest, missing: &NeedsMissing) {
    let (places, id, site, missing) = (
        places(host, bundle, id, NEEDS),
        id.clone(),
        site_of(host),
        missing.clone(),
    );
    let write = move || {
        let text = serde_json::to_vec_pretty(&BundleNeeds::new(&site, &id, &missing))?;
        write_first(&places, &text, None)
    };
    let written = tokio::task::spawn_blocking(write).await;
    match written.map_err(io::Error::other).flatten() {
        Ok(path) => tracing::info!(%bundle, %path, "the needs of a bundle are written"),
        Err(error) => tracing::warn!(%bundle, %error, "the needs of a bundle cannot be written"),
    }
}

/// Deletes the old receipts of the state directory, with their signatures, and lists of needs likewise. `here` are the
/// bundles that the host has now. A file that cannot be deleted is tried again after the next receipt. Blocks.
pub(super) fn delete_old_receipts(state_dir: &Utf8Path, here: &HashSet<Digest>) {
    let directory = state_dir.join(RECEIPTS);
    for kind in [RECEIPT, NEEDS] {
        let receipts = list_kept(&directory, kind);
        for bundle in select_old_receipts(&receipts, here) {
            let path = place_in(&directory, bundle, kind);
            // The receipt goes first: one that is there has a signature.
            let signature = Utf8PathBuf::from(receipt_signature_name(path.as_str()));
            let deleted = fs::remove_file(&path).and_then(|()| match fs::remove_file(&signature) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            });
            match deleted {
                Ok(()) => tracing::debug!(%path, "an old receipt is deleted"),
                Err(error) => tracing::warn!(%error, "an old receipt cannot be deleted"),
            }
        }
    }
}

/// Lists the files of a kind in the state directory. One that cannot be read counts as one without a series.
fn list_kept(directory: &Utf8Path, kind: &str) -> Vec<KeptReceipt> {
    let ending = format!(".{kind}");
    let entries = directory.read_dir_utf8().into_iter().flatten().flatten();
    let kept = entries.filter_map(|entry| {
        let hex = entry.file_name().strip_suffix(&ending)?;
        let bundle = format!("sha256:{hex}").parse().ok()?;
        let found = fs::metadata(entry.path()).ok()?;
        let read = fs::read(entry.path())
            .ok()
            .and_then(|bytes| RawReceipt::parse(&bytes).ok());
        Some(KeptReceipt {
            bundle,
            series: read.as_ref().and_then(|receipt| receipt.series.clone()),
            sequence: read.and_then(|receipt| receipt.sequence),
            modified: found
                .mtime()
                .saturating_mul(1_000_000_000)
                .saturating_add(found.mtime_nsec()),
        })
    });
    kept.collect()
}

/// Returns the parts of the host that the API needs for receipts. Blocks for a moment.
pub(crate) fn receipts_of(host: &Host) -> ReceiptApi {
    ReceiptApi {
        status: host.status.clone(),
        store: host.store.clone(),
        directory: host.state_dir.join(RECEIPTS),
        site: site_of(host),
        key: host.key.clone(),
    }
}

/// Returns the name of this site: that of the host.
fn site_of(host: &Host) -> String {
    let name = host.root.read(Utf8Path::new("/etc/hostname")).ok().flatten();
    let name = String::from_utf8_lossy(&name.unwrap_or_default()).trim().to_owned();
    if name.is_empty() { "host".to_owned() } else { name }
}

/// Returns the places of a file for the courier, the preferred one first.
fn places(host: &Host, bundle: &Utf8Path, id: &Digest, kind: &str) -> [Utf8PathBuf; 2] {
    let beside = Utf8PathBuf::from(format!("{bundle}.{kind}"));
    [beside, place_in(&host.state_dir.join(RECEIPTS), id, kind)]
}

/// Returns the place of a file for the courier in the directory of these files.
fn place_in(directory: &Utf8Path, id: &Digest, kind: &str) -> Utf8PathBuf {
    directory.join(format!("{}.{kind}", id.hex()))
}

/// Writes a file, and a signature beside it, to the first place that can be written.
fn write_first(places: &[Utf8PathBuf], text: &[u8], signatures: Option<&str>) -> io::Result<Utf8PathBuf> {
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for path in places {
        if let Some(directory) = path.parent().filter(|directory| directory.ends_with(RECEIPTS)) {
            fs::create_dir_all(directory)?;
        }
        // The signature comes first: a receipt that is there has one.
        let signed = signatures.map_or(Ok(()), |signatures| {
            let path = Utf8PathBuf::from(receipt_signature_name(path.as_str()));
            durable::replace_file(&path, signatures.as_bytes())
        });
        match signed.and_then(|()| durable::replace_file(path, text)) {
            Ok(()) => return Ok(path.clone()),
            Err(error) => last = error,
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_receipts_go_with_their_signatures_and_other_files_stay() {
        let directory = tempfile::tempdir().unwrap();
        let state_dir = Utf8Path::from_path(directory.path()).unwrap();
        let kept = state_dir.join(RECEIPTS);
        fs::create_dir(&kept).unwrap();
        let id = |number: u64| format!("sha256:{number:064x}").parse::<Digest>().unwrap();
        for number in 1..=10 {
            let receipt = serde_json::json!({
                "kind": "BundleReceipt", "bundle": id(number), "series": "shop", "sequence": number,
                "site": "till-7", "inventory": {"site": "till-7", "blobs": []},
            });
            let path = place_in(&kept, &id(number), RECEIPT);
            fs::write(&path, receipt.to_string()).unwrap();
            fs::write(receipt_signature_name(path.as_str()), "[]").unwrap();
        }
        fs::write(place_in(&kept, &id(1), NEEDS), "{}").unwrap();
        fs::write(kept.join("notes.txt"), "").unwrap();
        let names = || {
            let entries = kept
                .read_dir_utf8()
                .unwrap()
                .map(|entry| entry.unwrap().file_name().to_owned());
            entries.collect::<HashSet<_>>()
        };
        let before = names();
        delete_old_receipts(state_dir, &HashSet::from([id(1)]));
        let gone: BTreeSet<_> = before.difference(&names()).cloned().collect();
        let hex = id(2);
        let expected = [
            format!("{}.receipt.json", hex.hex()),
            format!("{}.receipt.sig", hex.hex()),
        ];
        assert_eq!(gone, BTreeSet::from(expected));
    }
}
