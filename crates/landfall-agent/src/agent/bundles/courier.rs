//! Files for the courier: receipts with their signatures, and lists of what a bundle lacks at this site. They are written
//! beside the bundle, or into the state directory if that place cannot be written.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use landfall_core::bundle::adoption::NeedsMissing;
use landfall_core::bundle::document::BundleDocument;
use landfall_core::reference::{Digest, ImageReference};
use landfall_core::report::{BundleNeeds, BundleReceipt, Inventory};
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
    let name = format!("{}.{kind}", id.hex());
    [beside, host.state_dir.join(RECEIPTS).join(name)]
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
