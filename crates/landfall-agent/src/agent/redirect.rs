//! The redirect phase: the webhook serves, or the status says in words that nothing is redirected.

use std::sync::Arc;

use jiff::Timestamp;
use landfall_core::config::Settings;
use landfall_core::status::ServingStatus;
use landfall_oci::serve::tls::CertificateSlot;
use tokio::sync::watch;

use crate::agent::certificates::{Issued, ensure_certificate};
use crate::agent::listeners::{Server, bind};
use crate::agent::reconciler::{InForce, Reconciler};
use crate::webhook::{self, WebhookRules, reviewer, webhook_router};

/// Names by which kube-apiserver on this host reaches the webhook.
const LOOPBACK_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// The webhook while it serves.
#[derive(Debug)]
pub(crate) struct WebhookService {
    server: Server,
    slot: Arc<CertificateSlot>,
    rules: watch::Sender<Arc<WebhookRules>>,
    url: String,
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
            let words = "nothing is redirected, neither to an external registry nor to the primary one: \
                         `stylus.imageRedirectWebhook.enable` is false";
            self.host.status.update(|status| {
                status.webhook = None;
                status.redirect = words.to_owned();
            });
            return Ok(words.to_owned());
        }
        let issued = self.webhook_certificate(settings).await?;
        let rules = Arc::new(WebhookRules {
            settings: settings.clone(),
            primary: self.ledger.get().primary.keys().cloned().collect(),
        });
        let address = webhook_address(settings);
        let service = match self.webhook.take() {
            Some(service) if service.server.started_with == address => {
                service.slot.replace(&issued.pair)?;
                service.rules.send_replace(rules);
                service
            }
            other => {
                // The old address may be a part of the new one (loopback of all), which then is free only when it is.
                if let Some(old) = other {
                    old.server.stop().await;
                }
                self.start_webhook(address, &issued, rules).await?
            }
        };
        let words = format!("the webhook at {} redirects the images of pods", service.url);
        self.host.status.update(|status| {
            status.redirect.clone_from(&words);
            status.webhook = Some(ServingStatus {
                url: service.url.clone(),
                ca_file: Some(issued.authority_file.to_string()),
                certificate_expires: Some(issued.expires),
            });
        });
        self.webhook = Some(service);
        Ok(words)
    }

    async fn start_webhook(
        &mut self,
        address: String,
        issued: &Issued,
        rules: Arc<WebhookRules>,
    ) -> anyhow::Result<WebhookService> {
        let listener = match self.listeners.webhook.take() {
            Some(bound) => bound,
            None => {
                bind(
                    &address,
                    "`stylus.imageRedirectWebhook.port` or `landfall.webhook.listen`",
                )
                .await?
            }
        };
        let url = format!("https://{}/mutate", listener.local_addr()?);
        let slot = CertificateSlot::new(&issued.pair)?;
        let (rules, changes) = watch::channel(rules);
        let (reviewer, task) = reviewer(changes, self.host.metrics.clone());
        let router = webhook_router(reviewer);
        let server = Server::start(
            &self.host.supervisor,
            "webhook",
            address,
            listener,
            Some(slot.clone()),
            router,
        );
        self.host
            .supervisor
            .supervise_until("webhook-reviews", server.token(), |stop| task.run(stop));
        Ok(WebhookService {
            server,
            slot,
            rules,
            url,
        })
    }

    async fn webhook_certificate(&self, settings: &Settings) -> anyhow::Result<Issued> {
        let directory = self.host.state_dir.join("webhook");
        let mut names: Vec<String> = LOOPBACK_NAMES.map(ToOwned::to_owned).to_vec();
        let host = settings.landfall.webhook_listen.trim_matches(['[', ']']).to_owned();
        if !names.contains(&host) && host != "0.0.0.0" && host != "::" {
            names.push(host);
        }
        let make = move || {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            ensure_certificate(&directory, "Landfall webhook", &names, Timestamp::now())
        };
        tokio::task::spawn_blocking(make).await?
    }
}

fn webhook_address(settings: &Settings) -> String {
    let host = &settings.landfall.webhook_listen;
    let port = settings.webhook.port.unwrap_or(webhook::DEFAULT_PORT);
    if host.contains(':') && !host.starts_with('[') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}
