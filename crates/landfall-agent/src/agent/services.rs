//! The services that the agent runs on the host.

mod host_files;
mod mirror;
mod primary;
mod server;
mod status_api;
mod webhook;

use std::collections::HashSet;
use std::sync::Arc;

use landfall_core::reference::ImageReference;
use landfall_core::settings::Settings;

use self::host_files::HostFiles;
use self::mirror::MirrorService;
use self::primary::PrimaryService;
use self::status_api::StatusApi;
use self::webhook::WebhookService;
use crate::agent::active_config::ActiveConfig;
use crate::agent::host::Host;
use crate::failure::error_line;
use crate::options::{Listeners, Role};

pub(crate) use self::primary::{PrimaryState, Survey, survey_images};

/// All services of one agent. Each of them is brought to the active configuration by a method `ensure`, which may be
/// called again and again.
#[derive(Debug)]
pub(crate) struct Services {
    pub(crate) status_api: StatusApi,
    pub(crate) primary: PrimaryService,
    mirror: MirrorService,
    webhook: WebhookService,
    host_files: HostFiles,
    role: Role,
}

impl Services {
    pub(crate) fn new(listeners: Listeners, once: bool, role: Role) -> Services {
        Services {
            status_api: StatusApi::new(listeners.status),
            primary: PrimaryService::new(listeners.primary),
            mirror: MirrorService::new(listeners.mirror),
            webhook: WebhookService::new(listeners.webhook, once),
            host_files: HostFiles::default(),
            role,
        }
    }

    /// Serves again what the agent served before a restart, before it fetches anything: pods must not wait for a remote
    /// registry that may be down. A failure is reported by the phase that brings up the service. `known` is what the
    /// primary registry is known to hold.
    pub(crate) async fn resume(&mut self, host: &Host, active: &Arc<ActiveConfig>, known: HashSet<ImageReference>) {
        if self.role == Role::Host
            && let Err(error) = self.primary.resume(host, active).await
        {
            tracing::warn!(error = error_line(&error), "cannot serve the primary registry yet");
        }
        let held = self.held(active, known);
        if let Err(error) = self.mirror.ensure(host, active).await {
            tracing::warn!(error = error_line(&error), "cannot serve the node-local mirror yet");
        }
        if let Err(error) = self
            .webhook
            .ensure(host, &active.settings, held, self.primary.probe())
            .await
        {
            tracing::warn!(error = error_line(&error), "cannot redirect yet");
        }
    }

    /// Returns the images that pods can pull from the primary registry: none while this agent has to serve the registry
    /// and cannot. Another registry that does not answer changes nothing: it holds what it held.
    pub(crate) fn held(&self, active: &ActiveConfig, known: HashSet<ImageReference>) -> HashSet<ImageReference> {
        match self.role == Role::Webhook || self.primary.is_available(active) {
            true => known,
            false => HashSet::new(),
        }
    }

    /// Redirects pulls: by mirror, host files and webhook. Returns a sentence for the event of the phase. `held` is
    /// what pods can pull from the primary registry, `preloaded` the images that are in containerd before a pod asks.
    ///
    /// # Errors
    ///
    /// If a service cannot be brought up or a file cannot be written. The others are up then.
    pub(crate) async fn redirect(
        &mut self,
        host: &Host,
        active: &Arc<ActiveConfig>,
        held: HashSet<ImageReference>,
        preloaded: Vec<String>,
    ) -> anyhow::Result<String> {
        let webhook = self
            .webhook
            .ensure(host, &active.settings, held, self.primary.probe())
            .await;
        // A pod has neither a kubelet nor a container runtime to configure, and its file system is not to be written.
        let node = match self.role {
            Role::Host => self.redirect_on_node(host, active, preloaded).await,
            Role::Webhook => Ok(()),
        };
        let webhook = match (webhook, node) {
            (Ok(webhook), Ok(())) => webhook,
            (Err(webhook), Err(node)) => {
                anyhow::bail!("{}; {}", error_line(&webhook), error_line(&node));
            }
            (Err(error), Ok(())) | (Ok(_), Err(error)) => return Err(error),
        };
        Ok(match describe_node_level(&active.settings, &webhook) {
            None => webhook,
            Some(words) => {
                host.status.update(|status| status.redirect.clone_from(&words));
                words
            }
        })
    }

    async fn redirect_on_node(
        &mut self,
        host: &Host,
        active: &Arc<ActiveConfig>,
        preloaded: Vec<String>,
    ) -> anyhow::Result<()> {
        // The files name the mirror.
        self.mirror.ensure(host, active).await?;
        self.host_files.ensure(host, &active.settings).await?;
        self.host_files.report_preloads(host, preloaded).await
    }

    /// Gives the webhook the rules of the current configuration and ledger.
    ///
    /// # Errors
    ///
    /// If the webhook cannot be served.
    pub(crate) async fn refresh_webhook(
        &mut self,
        host: &Host,
        settings: &Arc<Settings>,
        held: HashSet<ImageReference>,
    ) -> anyhow::Result<()> {
        self.webhook.ensure(host, settings, held, self.primary.probe()).await?;
        Ok(())
    }
}

/// Adds to the sentence about the webhook what the node itself redirects; `None` if it redirects nothing.
fn describe_node_level(settings: &Settings, webhook: &str) -> Option<String> {
    let mirror = &settings.landfall.mirror;
    let files: Vec<&str> = mirror.files.iter().map(|dialect| dialect.name()).collect();
    let node = match (mirror.enable, &files[..]) {
        (false, []) => return None,
        (true, _) => format!(
            "the node-local mirror at http://{} serves the container runtime",
            mirror.listen
        ),
        (false, files) => format!(
            "the mirror files of {} redirect the pulls of this node",
            files.join(", ")
        ),
    };
    let pods = match settings.webhook.enable {
        true => webhook,
        false => "no pod is changed: `stylus.imageRedirectWebhook.enable` is false",
    };
    Some(format!("{pods}; {node}, as `landfall.mirror` asks"))
}
