//! Looks for images in the store, containerd and the ledger, and shows them in the status.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use futures_util::FutureExt as _;
use landfall_core::failure::Explanation;
use landfall_core::plan::Inventory;
use landfall_core::plan::{PlannedImage, Step};
use landfall_core::reference::{Digest, ImageReference};
use landfall_core::status::Phase;
use landfall_oci::store::ContentStore;

use crate::agent::active_config::ActiveConfig;
use crate::agent::apply::image_of;
use crate::agent::host::Host;
use crate::agent::ledger::{CoreImageStorage, CoreImages, Ledger};
use crate::agent::runtime::{self, explain_load};
use crate::status::StatusStore;

/// The parts of the host that are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StockScope {
    Store,
    StoreAndContainerd,
}

impl StockScope {
    /// Returns the scope of a phase. Only the phases that load images need containerd: the provider image is fetched
    /// before containerd has to run.
    pub(crate) fn of_phase(phase: Phase) -> StockScope {
        match phase {
            Phase::CoreImages | Phase::Images => StockScope::StoreAndContainerd,
            _ => StockScope::Store,
        }
    }
}

/// The images on this host.
#[derive(Debug)]
pub(crate) struct Stock {
    pub(crate) inventory: Inventory,
    pub(crate) runtime: RuntimeStock,
}

/// Knowledge of containerd's images.
#[derive(Debug)]
pub(crate) enum RuntimeStock {
    /// The inventory has them, or containerd is not used.
    Known,
    NotAsked,
    /// containerd does not answer: images can be fetched, but not loaded.
    Silent(Explanation),
}

/// Takes stock of the images on this host. A containerd that does not answer is no error: only loading needs it.
///
/// # Errors
///
/// If the store cannot be read.
pub(crate) async fn take_stock(
    host: &Host,
    active: &ActiveConfig,
    ledger: &Ledger,
    scope: StockScope,
) -> anyhow::Result<Stock> {
    let settings = &active.settings;
    let store = host.store.clone();
    let stored = tokio::task::spawn_blocking(move || complete_images(&store)).await?;
    let mut names = BTreeMap::new();
    let runtime = if !settings.landfall.containerd_enable {
        RuntimeStock::Known
    } else if scope == StockScope::Store {
        RuntimeStock::NotAsked
    } else {
        let fetch = || {
            async {
                let namespace = runtime::connect(&host.root, &settings.landfall.containerd_socket).await?;
                runtime::fetch_names(&namespace).await
            }
            .boxed()
        };
        // containerd may still be starting, as the agent is.
        match active.local.retrying(&*host.meter, "taking stock", fetch).await {
            Ok(found) => {
                names = found;
                RuntimeStock::Known
            }
            Err(error) => RuntimeStock::Silent(explain_load("core and infrastructure images", &error)),
        }
    };
    let core_loaded = ledger
        .core_images
        .iter()
        .filter(|core| are_loaded(core, settings.landfall.containerd_enable, &stored, &names))
        .map(|core| core.provider.clone())
        .collect();
    let inventory = Inventory {
        stored,
        core_loaded,
        runtime: names,
        primary: ledger.primary.clone(),
    };
    Ok(Stock { inventory, runtime })
}

/// Returns the named images whose blobs are all present. An image that lost a blob is fetched again; only the missing
/// blob is transferred.
fn complete_images(store: &ContentStore) -> BTreeMap<ImageReference, Digest> {
    let whole = store
        .images()
        .into_iter()
        .filter(|(name, descriptor)| match store.is_complete(&descriptor.digest) {
            Ok(complete) => complete,
            Err(error) => {
                tracing::warn!(image = %name, %error, "stored image cannot be read; it is fetched again");
                false
            }
        });
    whole.map(|(name, descriptor)| (name, descriptor.digest)).collect()
}

/// Returns true if core images that were loaded once are still there.
fn are_loaded(
    core: &CoreImages,
    containerd: bool,
    stored: &BTreeMap<ImageReference, Digest>,
    runtime: &BTreeMap<String, Digest>,
) -> bool {
    let stored_names: BTreeSet<String>;
    match core.kept_in {
        CoreImageStorage::Containerd => containerd && core.names.iter().all(|name| runtime.contains_key(name)),
        CoreImageStorage::Store => {
            stored_names = stored.keys().map(ImageReference::runtime_name).collect();
            !containerd && core.names.iter().all(|name| stored_names.contains(name))
        }
    }
}

/// Shows in the status where the images are. The error of an image is shown as long as a step for it is missing. If
/// containerd was not asked, the status keeps what it shows of it.
pub(crate) fn show_stock(
    status: &StatusStore,
    planned: &[PlannedImage],
    inventory: &Inventory,
    is_runtime_known: bool,
    steps: &[Step],
) {
    let unfinished: HashSet<&ImageReference> = steps.iter().map(image_of).collect();
    status.update(|status| {
        for image in planned {
            let shown = status.images.entry(image.canonical.to_string()).or_default();
            shown.stored = inventory.stored.contains_key(&image.canonical);
            if is_runtime_known {
                shown.loaded = inventory.runtime.contains_key(&image.canonical.runtime_name());
            }
            shown.in_primary = image
                .primary
                .as_ref()
                .is_some_and(|name| inventory.primary.contains_key(name));
            if !unfinished.contains(&image.canonical) {
                shown.error = None;
            }
        }
    });
}
