//! The primary registry: the agent serves the embedded one, and waits for any other.

mod embedded;
mod gc;
mod inventory;
mod live;

use std::sync::Arc;

use futures_util::{FutureExt as _, TryFutureExt as _};
use landfall_core::settings::{Primary, PrimaryKind};
use landfall_core::status::ServingStatus;
use landfall_oci::client::RegistryClient;
use landfall_oci::client::explain::{explain_primary, explain_project};
use landfall_oci::image::TransferError;
use landfall_registry::Registry;
use tokio::net::TcpListener;

use self::embedded::EmbeddedRegistry;
use self::gc::GarbageCollector;
use self::inventory::forget_lost_images;
use crate::agent::active_config::ActiveConfig;
use crate::agent::host::Host;
use crate::agent::ledger::LedgerFile;
use crate::webhook::PrimaryProbe;

pub(crate) use self::inventory::{Survey, survey_images};

/// The primary registry as a service of the agent.
#[derive(Debug)]
pub(crate) struct PrimaryService {
    embedded: EmbeddedRegistry,
    garbage: GarbageCollector,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PrimaryState {
    NotConfigured,
    /// The registry answers and, if it is a Harbor, has the project.
    Ready,
}

impl PrimaryService {
    pub(crate) fn new(bound: Option<TcpListener>) -> PrimaryService {
        PrimaryService {
            embedded: EmbeddedRegistry::new(bound),
            garbage: GarbageCollector::new(),
        }
    }

    /// Serves the embedded registry, or waits until another one answers. Creates the project in a Harbor.
    ///
    /// # Errors
    ///
    /// If the registry cannot be served, or does not answer in time. The error says what to repair.
    pub(crate) async fn ensure(&mut self, host: &Host, active: &ActiveConfig) -> anyhow::Result<PrimaryState> {
        let Some(primary) = &active.settings.primary else {
            self.embedded.stop().await;
            if host.status.get().primary.is_some() {
                host.status.update(|status| status.primary = None);
            }
            return Ok(PrimaryState::NotConfigured);
        };
        let mut shown = ServingStatus {
            url: format!("https://{}", primary.endpoint),
            ca_file: None,
            certificate_expires: None,
        };
        if primary.kind == PrimaryKind::Embedded {
            match self.embedded.ensure(host, active, primary).await? {
                Some(issued) => {
                    shown.ca_file = Some(issued.authority_file.to_string());
                    shown.certificate_expires = Some(issued.expires);
                }
                None => shown.url = format!("http://{}", primary.endpoint),
            }
        } else {
            self.embedded.stop().await;
        }
        let client = wait_for_answer(host, active, primary).await?;
        if primary.kind == PrimaryKind::Harbor {
            ensure_project(&client, active, primary).await?;
        }
        host.status.update(|status| status.primary = Some(shown));
        Ok(PrimaryState::Ready)
    }

    /// Returns false while the configured registry is the embedded one, and is not served.
    pub(crate) fn is_available(&self, active: &ActiveConfig) -> bool {
        let is_embedded = |primary: &Primary| primary.kind == PrimaryKind::Embedded;
        !active.settings.primary.as_ref().is_some_and(is_embedded) || self.embedded.is_served()
    }

    /// Serves the embedded registry, if that is the configured one, without a look at whether it answers.
    ///
    /// # Errors
    ///
    /// If the registry cannot be served.
    pub(crate) async fn resume(&mut self, host: &Host, active: &ActiveConfig) -> anyhow::Result<()> {
        if let Some(primary) = &active.settings.primary
            && primary.kind == PrimaryKind::Embedded
        {
            self.embedded.ensure(host, active, primary).await?;
        }
        Ok(())
    }

    /// Returns the embedded registry, if it is served.
    pub(crate) fn embedded_registry(&self) -> Option<Arc<Registry>> {
        self.embedded.live().map(|live| live.registry.clone())
    }

    /// Returns a probe of the embedded registry, if it is served.
    pub(crate) fn probe(&self) -> Option<Arc<dyn PrimaryProbe>> {
        self.embedded.live().map(|live| live as Arc<dyn PrimaryProbe>)
    }

    /// Removes from the ledger the images that the primary registry lost, so that the plan pushes them again.
    ///
    /// # Errors
    ///
    /// If the registry cannot be asked, or the ledger cannot be written.
    pub(crate) async fn forget_lost_images(
        &self,
        host: &Host,
        active: &ActiveConfig,
        ledger: &mut LedgerFile,
    ) -> anyhow::Result<()> {
        forget_lost_images(host, active, ledger, self.embedded.live()).await
    }

    /// Deletes, once an hour, the blobs that no image of this host and of the embedded registry needs. It does so also
    /// while the registry is not served: the content of the registry is not garbage.
    pub(crate) async fn collect_garbage(&mut self, host: &Host) {
        self.garbage.run_when_due(self.embedded.open(host)).await;
    }
}

async fn wait_for_answer(host: &Host, active: &ActiveConfig, primary: &Primary) -> anyhow::Result<RegistryClient> {
    let explain = |error: TransferError| {
        anyhow::anyhow!(explain_primary(
            &active.settings,
            &primary.endpoint,
            active.primary_registry,
            &error
        ))
    };
    let client = active
        .clients
        .client(&primary.endpoint, active.primary_registry)
        .map_err(|error| explain(error.into()))?;
    let subject = format!("primary registry `{}`", primary.endpoint);
    let ping = || client.ping().map_err(TransferError::from).boxed();
    let answered = active.local.retrying(&*host.meter, &subject, ping).await;
    answered.map_err(explain)?;
    Ok(client)
}

async fn ensure_project(client: &RegistryClient, active: &ActiveConfig, primary: &Primary) -> anyhow::Result<()> {
    client.ensure_project(&primary.project).await.map_err(|error| {
        let error = TransferError::from(error);
        anyhow::anyhow!(explain_project(
            &active.settings,
            primary,
            active.primary_registry,
            &error
        ))
    })?;
    Ok(())
}
