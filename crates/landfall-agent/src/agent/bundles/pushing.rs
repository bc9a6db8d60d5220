//! Images of bundles in the primary registry: those that no profile names, which pods may ask for all the same, and the
//! companions of all of them [spec:bundles.pushed].

use std::collections::{BTreeMap, BTreeSet, HashSet};

use landfall_core::reference::{Digest, ImageReference};
use landfall_core::resolve::Resolver;
use landfall_core::settings::PrimaryKind;
use landfall_core::status::EventReason;

use super::opened::Opened;
use crate::agent::active_config::ActiveConfig;
use crate::agent::host::Host;
use crate::agent::ledger::LedgerFile;
use crate::agent::transfer::{Failed, push_companions, push_image};

/// The images that could not be pushed, with the reasons that are events already.
#[derive(Debug, Default)]
pub(super) struct Pushes {
    reported: BTreeMap<ImageReference, String>,
}

/// An image of a bundle that is in the content store.
struct Bundled {
    name: ImageReference,
    /// Its name in the primary registry.
    target: ImageReference,
    digest: Digest,
    companions: BTreeSet<Digest>,
}

impl Pushes {
    /// Pushes what the primary registry lacks of the images of bundles. An image that fails ends the work of this pass,
    /// and is an event once: the registry is asked again in the next pass.
    ///
    /// # Errors
    ///
    /// If the ledger cannot be written.
    pub(super) async fn push<'a>(
        &mut self,
        host: &Host,
        active: &ActiveConfig,
        ledger: &mut LedgerFile,
        bundles: impl Iterator<Item = &'a Opened>,
    ) -> anyhow::Result<()> {
        let Some(primary) = &active.settings.primary else {
            return Ok(());
        };
        let is_embedded = primary.kind == PrimaryKind::Embedded;
        let planned: HashSet<&ImageReference> = active.planned.iter().map(|image| &image.canonical).collect();
        for image in find_images(host, active, bundles) {
            let is_held = ledger.get().primary.get(&image.target) == Some(&image.digest);
            // Those of the profiles are pushed by their phase. Another registry gets no more than the profiles need.
            if !is_held && (!is_embedded || planned.contains(&image.name)) {
                continue;
            }
            if let Err(failed) = push_one(host, active, ledger, &image, is_held).await? {
                self.report(host, &image.name, &failed).await;
                return Ok(());
            }
            self.reported.remove(&image.name);
        }
        Ok(())
    }

    async fn report(&mut self, host: &Host, name: &ImageReference, failed: &Failed) {
        let line = failed.explanation.line();
        if self.reported.get(name) != Some(&line) {
            host.warn(EventReason::PushFailed, &name.to_string(), line.clone())
                .await;
            self.reported.insert(name.clone(), line);
        }
    }
}

/// Returns the images of the bundles that the content store has, in order.
fn find_images<'a>(host: &Host, active: &ActiveConfig, bundles: impl Iterator<Item = &'a Opened>) -> Vec<Bundled> {
    let resolver = Resolver::new(&active.settings);
    let mut found = BTreeMap::new();
    for image in bundles.flat_map(|opened| &opened.content.document().images) {
        let name = image.name.canonical();
        let stored = host.store.image(&name);
        if stored.is_none_or(|stored| stored.digest != image.digest) {
            continue;
        }
        let Some(target) = resolver.primary_target(&name, resolver.role_of(&name)) else {
            continue;
        };
        let companions = host.store.named_referrers(&name).into_values();
        let bundled = Bundled {
            companions: companions.filter(|digest| *digest != image.digest).collect(),
            digest: image.digest.clone(),
            name: name.clone(),
            target,
        };
        found.insert(name, bundled);
    }
    found.into_values().collect()
}

/// Pushes an image and its companions, as far as the ledger does not have them.
async fn push_one(
    host: &Host,
    active: &ActiveConfig,
    ledger: &mut LedgerFile,
    image: &Bundled,
    is_held: bool,
) -> anyhow::Result<Result<(), Failed>> {
    let Bundled {
        name,
        target,
        digest,
        companions,
    } = image;
    if !is_held {
        if let Err(failed) = push_image(host, active, name, target).await {
            return Ok(Err(failed));
        }
        ledger.update(|ledger| drop(ledger.primary.insert(target.clone(), digest.clone())))?;
        let message = format!("pushed to `{target}`");
        host.note(EventReason::ImagePushed, &name.to_string(), message).await;
    }
    let known = ledger.get().companions.get(target);
    if companions.is_empty() || known == Some(companions) {
        return Ok(Ok(()));
    }
    if let Err(failed) = push_companions(host, active, name, target).await {
        return Ok(Err(failed));
    }
    ledger.update(|ledger| drop(ledger.companions.insert(target.clone(), companions.clone())))?;
    Ok(Ok(()))
}
