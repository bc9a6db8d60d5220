//! The images that the embedded registry can serve at this moment. A deletion, by the API or on this host, takes effect
//! at once: the webhook sends no pod there, and the status no longer says that the image is in the primary registry. Soon
//! after that, the reconciler makes a pass and pushes the image again.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use landfall_core::reference::{ImageReference, RegistryHost};
use landfall_core::sync::lock;
use landfall_oci::store::error::StoreError;
use landfall_registry::Registry;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::status::StatusStore;
use crate::webhook::PrimaryProbe;

/// The time from a loss to the pass that mends it: one pass serves many deletions.
const MENDED_AFTER: Duration = Duration::from_secs(2);

/// The embedded registry under its address.
#[derive(Debug)]
pub(super) struct LivePrimary {
    pub(super) endpoint: RegistryHost,
    pub(super) registry: Arc<Registry>,
}

impl PrimaryProbe for LivePrimary {
    fn can_serve(&self, image: &ImageReference) -> bool {
        if image.host != self.endpoint {
            return true;
        }
        let served = self.registry.can_serve(&image.repository, image.manifest_selector());
        or_false(image, served)
    }

    fn serves_in_place(&self, image: &ImageReference) -> bool {
        if image.host != self.endpoint {
            return false;
        }
        let served = self
            .registry
            .serves_in_place(&image.repository, image.manifest_selector());
        or_false(image, served)
    }
}

fn or_false(image: &ImageReference, served: Result<bool, StoreError>) -> bool {
    served.unwrap_or_else(|error| {
        tracing::warn!(%image, %error, "the embedded registry cannot be read");
        false
    })
}

/// An image of the profiles, and its name in the embedded registry.
#[derive(Debug, Clone)]
pub(super) struct ShownImage {
    /// Name in the status.
    pub(super) name: String,
    pub(super) target: ImageReference,
}

/// The images whose place in the embedded registry the status shows. Clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct ShownImages {
    images: Arc<Mutex<Vec<ShownImage>>>,
}

impl ShownImages {
    pub(super) fn replace(&self, images: Vec<ShownImage>) {
        *lock(&self.images) = images;
    }

    /// Corrects the status after each loss, and asks for a pass by `wake`, until the future is dropped.
    pub(super) async fn follow_losses(
        self,
        registry: Arc<Registry>,
        status: StatusStore,
        wake: Arc<Notify>,
    ) -> Infallible {
        let mut losses = registry.watch_losses();
        let mut mended_at: Option<Instant> = None;
        loop {
            tokio::select! {
                changed = losses.changed() => if changed.is_err() {
                    return std::future::pending().await;
                },
                () = sleep_until(mended_at.unwrap_or_else(Instant::now)), if mended_at.is_some() => {
                    mended_at = None;
                    wake.notify_one();
                    continue;
                }
            }
            let (images, registry) = (lock(&self.images).clone(), registry.clone());
            let find_lost = move || {
                let is_lost = |image: &ShownImage| {
                    let target = &image.target;
                    matches!(
                        registry.can_serve(&target.repository, target.manifest_selector()),
                        Ok(false)
                    )
                };
                images.into_iter().filter(is_lost).collect::<Vec<_>>()
            };
            let Ok(lost) = tokio::task::spawn_blocking(find_lost).await else {
                continue;
            };
            let shown = status.get().images;
            let is_shown = |image: &&ShownImage| shown.get(&image.name).is_some_and(|shown| shown.in_primary);
            for image in lost.iter().filter(is_shown) {
                status.update_image(&image.name, |shown| shown.in_primary = false);
                mended_at = mended_at.or_else(|| Some(Instant::now() + MENDED_AFTER));
            }
        }
    }
}
