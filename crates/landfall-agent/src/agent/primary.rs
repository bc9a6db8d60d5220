//! The primary registry: the embedded one is served from the agent's own content store, any other is waited for. Then
//! what it holds is checked against what it was given.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use landfall_core::config::{Login, Primary, PrimaryKind};
use landfall_core::reference::{Digest, ImageReference, RegistryHost};
use landfall_core::status::{EventReason, ServingStatus};
use landfall_core::wording::counted;
use landfall_net::serve::tls::CertificateSlot;
use landfall_oci::client::RegistryClient;
use landfall_oci::image::TransferError;
use landfall_registry::fast_path::with_fast_path;
use landfall_registry::orders::take_orders;
use landfall_registry::places::Places;
use landfall_registry::{GRACE, Policy, Registry, Users, registry_service};
use secrecy::ExposeSecret as _;
use tokio::time::Instant;

use crate::agent::attempts::with_attempts;
use crate::agent::certificates::{Issued, ensure_certificate};
use crate::agent::clients::OwnRegistry;
use crate::agent::failure::{Explanation, explain_primary, explain_project};
use crate::agent::listeners::{Server, bind};
use crate::agent::reconciler::{InForce, Reconciler};

/// How often garbage is collected.
const COLLECT_EVERY: Duration = Duration::from_secs(60 * 60);

/// The embedded registry while it is served.
#[derive(Debug)]
pub(crate) struct PrimaryService {
    server: Server,
    slot: Option<Arc<CertificateSlot>>,
    login: Option<Login>,
}

impl Reconciler {
    /// Serves the embedded registry, or waits until another one answers; in Harbor, makes the project.
    ///
    /// # Errors
    ///
    /// When it cannot be served, or does not answer in time: with what to mend.
    pub(super) async fn bring_up_primary(&mut self, force: &Arc<InForce>, primary: &Primary) -> anyhow::Result<()> {
        let mut shown = ServingStatus {
            url: String::new(),
            ca_file: None,
            certificate_expires: None,
        };
        let mut scheme = "https";
        if primary.kind == PrimaryKind::Embedded {
            let issued = self.serve_primary(force, primary).await?;
            match issued {
                Some(issued) => {
                    shown.ca_file = Some(issued.authority_file.to_string());
                    shown.certificate_expires = Some(issued.expires);
                }
                None => scheme = "http",
            }
        } else {
            self.primary = None;
        }
        let explain = |error: TransferError| {
            anyhow::anyhow!(explain_primary(
                &force.settings,
                &primary.endpoint,
                force.primary_registry,
                &error
            ))
        };
        let client = force
            .clients
            .client(&primary.endpoint, force.primary_registry)
            .map_err(|e| explain(e.into()))?;
        let subject = format!("primary registry `{}`", primary.endpoint);
        let answered = with_attempts(&self.timing.retry, &*self.host.meter, &subject, || client.ping());
        answered.await.map_err(|error| explain(error.into()))?;
        if primary.kind == PrimaryKind::Harbor {
            client.ensure_project(&primary.project).await.map_err(|error| {
                let error = TransferError::from(error);
                anyhow::anyhow!(explain_project(
                    &force.settings,
                    primary,
                    force.primary_registry,
                    &error
                ))
            })?;
        }
        shown.url = format!("{scheme}://{}", primary.endpoint);
        self.host.status.update(|status| status.primary = Some(shown));
        Ok(())
    }

    /// Stops serving what the configuration no longer has.
    pub(super) async fn end_primary(&mut self) {
        if let Some(service) = self.primary.take() {
            service.server.stop().await;
        }
        if self.host.status.get().primary.is_some() {
            self.host.status.update(|status| status.primary = None);
        }
    }

    /// Serves the embedded registry; moves it when its address changed. Gives its certificate, where it has one.
    pub(super) async fn serve_primary(
        &mut self,
        force: &Arc<InForce>,
        primary: &Primary,
    ) -> anyhow::Result<Option<Issued>> {
        let address = force.settings.primary_address(primary);
        let issued = match force.settings.primary_speaks_tls(primary) {
            true => Some(self.primary_certificate(primary).await?),
            false => None,
        };
        let login = force
            .primary_registry
            .and_then(|index| force.settings.registries[index].login.clone());
        if login.is_none() && !is_loopback(&address) {
            anyhow::bail!(Explanation::new(
                format!("the embedded registry would let everybody push at `{address}`: it has no login"),
                "add `landfall.primary.username` and `.password` to the user-data, or the credentials of \
                 `inClusterRegistry` to the registry-connect pack",
            ));
        }
        let started_with = format!("{address} {}/ tls={}", primary.project, issued.is_some());
        let service = match self.primary.take() {
            Some(service) if service.server.started_with == started_with && same_login(&service.login, &login) => {
                if let (Some(slot), Some(issued)) = (&service.slot, &issued) {
                    slot.replace(&issued.pair)?;
                }
                service
            }
            other => {
                if let Some(old) = other {
                    old.server.stop().await;
                }
                let listener = match self.listeners.primary.take() {
                    Some(bound) => bound,
                    None => bind(&address, "`landfall.primary.endpoint` or `landfall.primary.listen`").await?,
                };
                let slot = issued
                    .as_ref()
                    .map(|issued| CertificateSlot::new(&issued.pair))
                    .transpose()?;
                let router = with_fast_path(registry_service(
                    self.embedded_registry().await?,
                    policy(login.as_ref()),
                ));
                let supervisor = &self.host.supervisor;
                let server = Server::start(supervisor, "primary", started_with, listener, slot.clone(), router);
                PrimaryService { server, slot, login }
            }
        };
        self.primary = Some(service);
        force.clients.trust_own(OwnRegistry {
            host: primary.endpoint.clone(),
            authority: issued.as_ref().map(|issued| issued.authority.clone()),
        });
        Ok(issued)
    }

    /// The embedded registry, opened once; from then on `landfall registry gc` and `rm` are heard.
    async fn embedded_registry(&mut self) -> anyhow::Result<Arc<Registry>> {
        if let Some(registry) = &self.registry {
            return Ok(registry.clone());
        }
        let (store, places) = (self.host.store.clone(), Places::of_agent(&self.host.state_dir));
        let registry = tokio::task::spawn_blocking(move || Registry::open(store, &places.records)).await??;
        let registry = Arc::new(registry);
        let served = registry.clone();
        self.host.supervisor.supervise("registry orders", |stop| async move {
            tokio::select! {
                () = stop.cancelled() => Ok(()),
                never = take_orders(served) => match never {},
            }
        });
        Ok(self.registry.insert(registry).clone())
    }

    /// Deletes now and then what no image of this host and of the embedded registry needs. A failure is told and is no
    /// reason to stop: room may become short, nothing else.
    pub(super) async fn collect_garbage(&mut self) {
        if self.collected.elapsed() < COLLECT_EVERY {
            return;
        }
        self.collected = Instant::now();
        // Also while the registry is not served: what it holds is not garbage.
        let report = match self.embedded_registry().await {
            Ok(registry) => tokio::task::spawn_blocking(move || registry.gc(GRACE, SystemTime::now()))
                .await
                .map_err(anyhow::Error::from)
                .and_then(|report| Ok(report?)),
            Err(error) => Err(error),
        };
        match report {
            Ok(report) => tracing::info!(deleted = report.deleted, bytes = report.bytes, "garbage collected"),
            Err(error) => tracing::error!(error = format!("{error:#}"), "garbage cannot be collected"),
        }
    }

    async fn primary_certificate(&self, primary: &Primary) -> anyhow::Result<Issued> {
        let directory = self.host.state_dir.join("primary");
        let name = primary.endpoint.name().trim_matches(['[', ']']).to_owned();
        let make = move || {
            let mut names = vec![name.as_str()];
            names.extend(["localhost", "127.0.0.1"].into_iter().filter(|local| *local != name));
            ensure_certificate(&directory, "Landfall registry", &names, Timestamp::now())
        };
        tokio::task::spawn_blocking(make).await?
    }

    /// Forgets what the primary registry lost, so that the plan pushes it again.
    ///
    /// # Errors
    ///
    /// When the registry cannot be asked, or the ledger cannot be written.
    pub(super) async fn find_lost_images(&mut self, force: &Arc<InForce>) -> anyhow::Result<()> {
        let Some(primary) = &force.settings.primary else {
            return Ok(());
        };
        let client = force.clients.client(&primary.endpoint, force.primary_registry)?;
        let mut lost = Vec::new();
        for (target, digest) in &self.ledger.get().primary {
            if target.host != primary.endpoint {
                // The primary registry moved: nothing is known of the new one.
                lost.push((target.clone(), false));
                continue;
            }
            let wanted = force.planned.iter().any(|image| image.primary.as_ref() == Some(target));
            match holds(&client, target).await {
                Ok(Some(found)) if found == *digest => {}
                Ok(_) => lost.push((target.clone(), wanted)),
                Err(error) => {
                    let explained = explain_primary(&force.settings, &primary.endpoint, force.primary_registry, &error);
                    anyhow::bail!(explained);
                }
            }
        }
        for (target, _) in lost.iter().filter(|(_, wanted)| *wanted) {
            let message = "the primary registry no longer holds it; it is pushed again";
            self.host
                .warn(EventReason::PrimaryLostImage, &target.to_string(), message)
                .await;
        }
        self.ledger.update(|ledger| {
            for (target, _) in &lost {
                ledger.primary.remove(target);
            }
        })
    }
}

impl Reconciler {
    /// Asks the primary registry which images of the profiles it holds, for a webhook that pushes nothing itself. One that
    /// does not answer changes nothing: what was known stays, and so do the pods.
    ///
    /// # Errors
    ///
    /// When the ledger cannot be written or the webhook cannot be told.
    pub(super) async fn survey_primary(&mut self, force: &Arc<InForce>) -> anyhow::Result<String> {
        let Some(primary) = &force.settings.primary else {
            return Ok("no primary registry is configured".to_owned());
        };
        let client = force.clients.client(&primary.endpoint, force.primary_registry)?;
        let mut held = BTreeMap::new();
        let targets = force.planned.iter().filter_map(|image| image.primary.as_ref());
        for target in targets {
            match holds(&client, target).await {
                Ok(Some(digest)) => {
                    held.insert(target.clone(), digest);
                }
                Ok(None) => {}
                Err(error) => {
                    let explained = explain_primary(&force.settings, &primary.endpoint, force.primary_registry, &error);
                    return Ok(format!("what was known of the primary registry stays: {explained}"));
                }
            }
        }
        let images = counted(held.len(), "image");
        self.ledger
            .update(|ledger| ledger.primary = held.into_iter().collect())?;
        self.redirect(force).await?;
        Ok(format!("the primary registry holds {images} of the profiles"))
    }
}

async fn holds(client: &RegistryClient, target: &ImageReference) -> Result<Option<Digest>, TransferError> {
    let found = client
        .head_manifest(&target.repository, target.manifest_selector())
        .await?;
    Ok(found.map(|found| found.digest))
}

fn same_login(before: &Option<Login>, now: &Option<Login>) -> bool {
    match (before, now) {
        (Some(before), Some(now)) => {
            before.username == now.username && before.password.expose_secret() == now.password.expose_secret()
        }
        (before, now) => before.is_none() && now.is_none(),
    }
}

/// Where the embedded registry binds: `landfall.primary.listen`, otherwise its endpoint.
fn is_loopback(address: &str) -> bool {
    address.parse::<RegistryHost>().is_ok_and(|host| host.is_loopback())
}

/// Pulling needs the login as well: whoever may not push is nobody that we know.
fn policy(login: Option<&Login>) -> Policy {
    Policy {
        login: login.map(|login| Users::User {
            name: login.username.clone(),
            password: login.password.clone(),
        }),
        ..Policy::default()
    }
}
