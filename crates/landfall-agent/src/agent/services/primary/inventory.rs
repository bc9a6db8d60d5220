//! The images that the primary registry holds, compared with those that the ledger says it holds.

use std::collections::BTreeMap;
use std::sync::Arc;

use landfall_core::reference::{Digest, ImageReference};
use landfall_core::status::EventReason;
use landfall_core::wording::counted;
use landfall_oci::client::RegistryClient;
use landfall_oci::client::explain::explain_primary;
use landfall_oci::image::TransferError;

use crate::agent::active_config::ActiveConfig;
use crate::agent::host::Host;
use crate::agent::ledger::LedgerFile;
use crate::agent::services::primary::live::LivePrimary;
use crate::webhook::PrimaryProbe as _;

/// Outcome of [`survey_images`], with a sentence about it.
#[derive(Debug)]
pub(crate) enum Survey {
    /// The ledger has the images that the registry holds.
    Done(String),
    /// There was no registry to ask, or it did not answer: the ledger stays as it is.
    Skipped(String),
}

/// Removes from the ledger the images that the primary registry lost. The embedded registry tells more than its answer to
/// a request for the manifest: an index is also lost if a platform of it is.
pub(super) async fn forget_lost_images(
    host: &Host,
    active: &ActiveConfig,
    ledger: &mut LedgerFile,
    live: Option<Arc<LivePrimary>>,
) -> anyhow::Result<()> {
    let Some(primary) = &active.settings.primary else {
        return Ok(());
    };
    let client = active.clients.client(&primary.endpoint, active.primary_registry)?;
    let mut lost = Vec::new();
    for (target, digest) in &ledger.get().primary {
        if target.host != primary.endpoint {
            // The primary registry moved: nothing is known of the new one.
            lost.push((target.clone(), false));
            continue;
        }
        let mut planned = active.planned.iter();
        let wanted = planned.any(|image| image.primary.as_ref() == Some(target));
        match fetch_digest(&client, target).await {
            Ok(Some(found)) if found == *digest && live.as_ref().is_none_or(|live| live.can_serve(target)) => {}
            Ok(_) => lost.push((target.clone(), wanted)),
            Err(error) => {
                let explained = explain_primary(&active.settings, &primary.endpoint, active.primary_registry, &error);
                anyhow::bail!(explained);
            }
        }
    }
    for (target, _) in lost.iter().filter(|(_, wanted)| *wanted) {
        let message = "the primary registry no longer holds it; it is pushed again";
        host.warn(EventReason::PrimaryLostImage, &target.to_string(), message)
            .await;
    }
    ledger.update(|ledger| {
        for (target, _) in &lost {
            ledger.primary.remove(target);
            ledger.companions.remove(target);
        }
    })
}

/// Asks the primary registry which images of the profiles it holds, for a webhook that pushes nothing itself. A
/// registry that does not answer changes nothing: the ledger stays, and so do the pods.
///
/// # Errors
///
/// If the registry cannot be used or the ledger cannot be written.
pub(crate) async fn survey_images(active: &ActiveConfig, ledger: &mut LedgerFile) -> anyhow::Result<Survey> {
    let Some(primary) = &active.settings.primary else {
        return Ok(Survey::Skipped("no primary registry is configured".to_owned()));
    };
    let client = active.clients.client(&primary.endpoint, active.primary_registry)?;
    let mut held = BTreeMap::new();
    let targets = active.planned.iter().filter_map(|image| image.primary.as_ref());
    for target in targets {
        match fetch_digest(&client, target).await {
            Ok(Some(digest)) => {
                held.insert(target.clone(), digest);
            }
            Ok(None) => {}
            Err(error) => {
                let explained = explain_primary(&active.settings, &primary.endpoint, active.primary_registry, &error);
                return Ok(Survey::Skipped(format!(
                    "what was known of the primary registry stays: {explained}"
                )));
            }
        }
    }
    let images = counted(held.len(), "image");
    ledger.update(|ledger| ledger.primary = held)?;
    Ok(Survey::Done(format!(
        "the primary registry holds {images} of the profiles"
    )))
}

async fn fetch_digest(client: &RegistryClient, target: &ImageReference) -> Result<Option<Digest>, TransferError> {
    let found = client
        .head_manifest(&target.repository, target.manifest_selector())
        .await?;
    Ok(found.map(|found| found.digest))
}
