//! The active configuration.

use std::num::NonZeroU64;
use std::sync::Arc;

use landfall_core::plan::{PlannedImage, plan_images};
use landfall_core::reference::{ImageReference, Repository};
use landfall_core::resolve::Resolver;
use landfall_core::settings::{ImageRole, Settings};
use landfall_oci::client::AmbientAccess;
use landfall_oci::copy::{BandwidthLimit, CopyOptions};

use crate::agent::bundles::OfferedBundles;
use crate::agent::clients::Clients;
use crate::options::Timing;

/// The active configuration and everything derived from it.
#[derive(Debug, Clone)]
pub(crate) struct ActiveConfig {
    pub(crate) settings: Arc<Settings>,
    pub(crate) planned: Vec<PlannedImage>,
    pub(crate) clients: Arc<Clients>,
    /// The bundles that images are taken from.
    pub(crate) bundles: Arc<OfferedBundles>,
    /// Index into [`Settings::registries`] of the credentials for the primary registry.
    pub(crate) primary_registry: Option<usize>,
    /// Options for copies that cross the network.
    pub(crate) downloads: CopyOptions,
    /// Options for copies that stay on this host or go to the primary registry. The bandwidth limit is one of
    /// downloads.
    pub(crate) local: CopyOptions,
}

impl ActiveConfig {
    pub(crate) fn new(settings: Arc<Settings>, timing: &Timing, ambient: &AmbientAccess) -> ActiveConfig {
        let resolver = Resolver::new(&settings);
        let planned = plan_images(&settings, &resolver);
        let primary_registry = settings
            .primary
            .as_ref()
            .and_then(|primary| format!("{}/{}/image", primary.endpoint, primary.project).parse().ok())
            .and_then(|reference| resolver.registry_for(&reference, ImageRole::Application));
        let limit = settings.landfall.bandwidth_limit.and_then(NonZeroU64::new);
        let local = CopyOptions {
            retry: timing.retry,
            ..CopyOptions::new(settings.landfall.concurrency)
        };
        let downloads = CopyOptions {
            bandwidth: limit.map(|limit| Arc::new(BandwidthLimit::new(limit))),
            ..local.clone()
        };
        ActiveConfig {
            clients: Arc::new(Clients::new(settings.clone(), ambient.clone())),
            bundles: Arc::default(),
            planned,
            primary_registry,
            downloads,
            local,
            settings,
        }
    }

    /// Returns the same configuration with other bundles.
    pub(crate) fn with_bundles(&self, bundles: Arc<OfferedBundles>) -> ActiveConfig {
        let resolver = Resolver::new(&self.settings).offering(bundles.offers().clone());
        ActiveConfig {
            planned: plan_images(&self.settings, &resolver),
            bundles,
            ..self.clone()
        }
    }

    /// Returns a function that gives the repositories of an image in the primary registry.
    pub(crate) fn primary_names(&self) -> impl Fn(&ImageReference) -> Vec<Repository> {
        let resolver = Resolver::new(&self.settings);
        move |image| {
            let target = resolver.primary_target(image, resolver.role_of(image));
            target.map(|target| target.repository).into_iter().collect()
        }
    }
}
