//! The redirect phase: the webhook serves, or the status says in words that nothing is redirected.

use std::net::SocketAddr;
use std::sync::Arc;

use jiff::Timestamp;
use landfall_core::cluster::configuration::{MUTATE_PATH, webhook_address};
use landfall_core::config::Settings;
use landfall_core::status::ServingStatus;
use landfall_net::serve::Http;

use crate::agent::certificates::Issued;
use crate::agent::listeners::{Server, bind};
use crate::agent::reconciler::{InForce, Reconciler};
use crate::cluster::{ClusterContext, ClusterService, Registration, ServingCertificate, Withdrawal};
use crate::webhook::{self, Reviewer, WebhookRules, webhook_router};

/// Names by which kube-apiserver on this host reaches the webhook.
const LOOPBACK_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// The webhook while it serves.
#[derive(Debug)]
pub(crate) struct WebhookService {
    server: Server,
    serving: Arc<ServingCertificate>,
    reviewer: Reviewer,
    /// Where it listens.
    local: SocketAddr,
    cluster: Option<ClusterService>,
}

impl Reconciler {
    /// Serves the webhook with the rules of now, or stops it where redirection is off. The answer says which, in words.
    ///
    /// # Errors
    ///
    /// When its address cannot be bound or its certificate cannot be made.
    pub(super) async fn redirect(&mut self, force: &Arc<InForce>) -> anyhow::Result<String> {
        let settings = &force.settings;
        if !settings.webhook.enable {
            self.webhook = None;
            if self.withdrawal.is_none() && !self.once {
                let host = &self.host;
                self.withdrawal = Some(Withdrawal::start(&host.supervisor, &host.root, &host.events, settings));
            }
            let words = "nothing is redirected, neither to an external registry nor to the primary one: \
                         `stylus.imageRedirectWebhook.enable` is false";
            self.host.status.update(|status| {
                status.webhook = None;
                status.redirect = words.to_owned();
            });
            return Ok(words.to_owned());
        }
        self.withdrawal = None;
        let rules = WebhookRules::new(settings.clone(), self.ledger.get().primary.keys().cloned().collect());
        let port = settings.webhook.port.unwrap_or(webhook::DEFAULT_PORT);
        let (listen, names) = (listen_address(settings, port), certificate_names(settings, port));
        let started_with = format!("{listen} {}", names.join(" "));
        let (mut service, issued) = match self.webhook.take() {
            Some(service) if service.server.started_with == started_with => {
                service.reviewer.replace_rules(rules);
                let issued = service.serving.renew(Timestamp::now()).await?;
                (service, issued)
            }
            other => {
                // The old address may be a part of the new one (loopback of all), which then is free only when it is.
                if let Some(old) = other {
                    old.server.stop().await;
                }
                let directory = self.host.state_dir.join("webhook");
                let (serving, issued) = ServingCertificate::open(directory, names, Timestamp::now()).await?;
                let reviewer = Reviewer::new(rules, self.host.metrics.clone());
                (
                    self.start_webhook(&listen, started_with, serving, reviewer).await?,
                    issued,
                )
            }
        };
        if !self.once {
            self.register_webhook(&mut service, settings);
        }
        Ok(self.show_webhook(service, &issued, settings))
    }

    fn show_webhook(&mut self, service: WebhookService, issued: &Issued, settings: &Settings) -> String {
        let url = format!("https://{}{MUTATE_PATH}", service.local);
        let words = if settings.landfall.webhook.observe_only {
            format!(
                "the webhook at {url} changes nothing and says what it would: `landfall.webhook.observeOnly` is true"
            )
        } else {
            format!("the webhook at {url} redirects the images of pods")
        };
        self.host.status.update(|status| {
            status.redirect.clone_from(&words);
            status.webhook = Some(ServingStatus {
                url,
                ca_file: Some(issued.authority_file.to_string()),
                certificate_expires: Some(issued.expires),
            });
        });
        self.webhook = Some(service);
        words
    }

    async fn start_webhook(
        &mut self,
        listen: &str,
        started_with: String,
        serving: Arc<ServingCertificate>,
        reviewer: Reviewer,
    ) -> anyhow::Result<WebhookService> {
        let listener = match self.listeners.webhook.take() {
            Some(bound) => bound,
            None => {
                bind(
                    listen,
                    "`stylus.imageRedirectWebhook.port` or `landfall.webhook.listen`",
                )
                .await?
            }
        };
        let local = listener.local_addr()?;
        let router = Http::Plain(webhook_router(reviewer.clone()));
        let (supervisor, slot) = (&self.host.supervisor, Some(serving.slot()));
        let server = Server::start(supervisor, "webhook", started_with, listener, slot, router);
        Ok(WebhookService {
            server,
            serving,
            reviewer,
            local,
            cluster: None,
        })
    }

    /// Has the API server told of the webhook, where this host has a cluster.
    fn register_webhook(&self, service: &mut WebhookService, settings: &Arc<Settings>) {
        let registration = Registration {
            address: webhook_address(settings, service.local.port()),
            settings: settings.clone(),
        };
        let context = || ClusterContext {
            root: self.host.root.clone(),
            events: self.host.events.clone(),
            status: self.host.status.clone(),
            metrics: self.host.metrics.clone(),
            supervisor: self.host.supervisor.clone(),
            reviewer: service.reviewer.clone(),
            serving: service.serving.clone(),
        };
        service.cluster = ClusterService::ensure(service.cluster.take(), context, registration);
    }
}

/// The names by which API servers reach the webhook: those of loopback, of the address that it listens at, and of the
/// address that they are told.
fn certificate_names(settings: &Settings, port: u16) -> Vec<String> {
    let mut names: Vec<String> = LOOPBACK_NAMES.map(ToOwned::to_owned).to_vec();
    let listen = settings.landfall.webhook_listen.trim_matches(['[', ']']).to_owned();
    let own = (listen != "0.0.0.0" && listen != "::").then_some(listen);
    let told = webhook_address(settings, port).names();
    for name in own.into_iter().chain(told) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

fn listen_address(settings: &Settings, port: u16) -> String {
    let host = &settings.landfall.webhook_listen;
    if host.contains(':') && !host.starts_with('[') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}
