//! The admission webhook as a service of the agent: it serves, or the status says that nothing is redirected.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use jiff::Timestamp;
use landfall_core::cluster::configuration::{MUTATE_PATH, webhook_address};
use landfall_core::reference::ImageReference;
use landfall_core::settings::Settings;
use landfall_core::status::ServingStatus;
use landfall_net::serve::Http;
use landfall_net::serve::host::{HostNames, require_host};
use landfall_net::serve::transport::Encryption;
use tokio::net::TcpListener;

use crate::agent::host::Host;
use crate::agent::services::server::{Routes, Server, ServerSpec};
use crate::certificates::IssuedCertificate;
use crate::cluster::{ClusterContext, ClusterService, Registration, ServingCertificate, Withdrawal};
use crate::state_dir::WEBHOOK;
use crate::webhook::{self, PrimaryProbe, Reviewer, WebhookRules, webhook_router};

/// Names by which kube-apiserver on this host reaches the webhook.
const LOOPBACK_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// The admission webhook and its place in the cluster.
#[derive(Debug)]
pub(crate) struct WebhookService {
    server: Server,
    running: Option<RunningWebhook>,
    /// While redirection is off: the removal of the registration at the API server.
    withdrawal: Option<Withdrawal>,
    /// True if the agent runs once: it ends before a cluster side could do its work.
    once: bool,
}

#[derive(Debug)]
struct RunningWebhook {
    certificate: Arc<ServingCertificate>,
    reviewer: Reviewer,
    cluster: Option<ClusterService>,
}

impl WebhookService {
    pub(crate) fn new(bound: Option<TcpListener>, once: bool) -> WebhookService {
        WebhookService {
            server: Server::new(bound),
            running: None,
            withdrawal: None,
            once,
        }
    }

    /// Serves the webhook with the current rules, or stops it where redirection is off. Returns a sentence for the
    /// status, which says which of the two it did. `held` is what the primary registry is known to hold; `probe`
    /// asks the one in this process.
    ///
    /// # Errors
    ///
    /// If its address cannot be bound or its certificate cannot be made.
    pub(crate) async fn ensure(
        &mut self,
        host: &Host,
        settings: &Arc<Settings>,
        held: HashSet<ImageReference>,
        probe: Option<Arc<dyn PrimaryProbe>>,
    ) -> anyhow::Result<String> {
        if !settings.webhook.enable {
            return Ok(self.turn_off(host, settings).await);
        }
        self.withdrawal = None;
        let rules = WebhookRules::new(settings.clone(), held).with_probe(probe);
        let port = settings.webhook.port.unwrap_or(webhook::DEFAULT_PORT);
        let (listen, names) = (listen_address(settings, port), certificate_names(settings, port));
        let spec = ServerSpec {
            name: "webhook",
            address: &listen,
            setting: "`stylus.imageRedirectWebhook.port` or `landfall.webhook.listen`",
            fixed: format!("{listen} {}", names.join(" ")),
        };
        let issued = match &self.running {
            Some(running) if self.server.runs_with(&spec) => {
                running.reviewer.replace_rules(rules);
                running.certificate.renew(Timestamp::now()).await?
            }
            _ => self.start(host, spec, names, rules).await?,
        };
        host.report_aside(&issued.aside).await;
        let local = self.server.local_addr().context("the webhook does not listen")?;
        if !self.once {
            self.register(host, settings, local);
        }
        Ok(show(host, settings, local, &issued))
    }

    async fn turn_off(&mut self, host: &Host, settings: &Arc<Settings>) -> String {
        self.running = None;
        self.server.stop().await;
        if self.withdrawal.is_none() && !self.once {
            self.withdrawal = Some(Withdrawal::start(&host.supervisor, &host.root, &host.events, settings));
        }
        let words = "nothing is redirected, neither to an external registry nor to the primary one: \
                     `stylus.imageRedirectWebhook.enable` is false";
        host.status.update(|status| {
            status.webhook = None;
            status.redirect = words.to_owned();
        });
        words.to_owned()
    }

    async fn start(
        &mut self,
        host: &Host,
        spec: ServerSpec<'_>,
        names: Vec<String>,
        rules: WebhookRules,
    ) -> anyhow::Result<IssuedCertificate> {
        self.running = None;
        let directory = host.state_dir.join(WEBHOOK);
        let own_names = HostNames::addresses_and(names.clone());
        let reviewer = Reviewer::new(rules, host.metrics.clone());
        let mut opened = None;
        let routes = async {
            let (certificate, issued) = ServingCertificate::open(directory, names, Timestamp::now()).await?;
            let slot = certificate.slot();
            opened = Some((certificate, issued));
            Ok(Routes {
                http: Http::Plain(require_host(webhook_router(reviewer.clone()), own_names)),
                encryption: Encryption::On(slot),
            })
        };
        self.server.ensure(&host.supervisor, spec, routes).await?;
        let (certificate, issued) = opened.context("the webhook was not restarted")?;
        self.running = Some(RunningWebhook {
            certificate,
            reviewer,
            cluster: None,
        });
        Ok(issued)
    }

    /// Registers the webhook at the API server, if this host has a cluster.
    fn register(&mut self, host: &Host, settings: &Arc<Settings>, local: SocketAddr) {
        let Some(running) = &mut self.running else { return };
        let registration = Registration {
            address: webhook_address(settings, local.port()),
            settings: settings.clone(),
        };
        let context = || ClusterContext {
            root: host.root.clone(),
            events: host.events.clone(),
            status: host.status.clone(),
            metrics: host.metrics.clone(),
            supervisor: host.supervisor.clone(),
            reviewer: running.reviewer.clone(),
            serving: running.certificate.clone(),
        };
        running.cluster = ClusterService::ensure(running.cluster.take(), context, registration);
    }
}

fn show(host: &Host, settings: &Settings, local: SocketAddr, issued: &IssuedCertificate) -> String {
    let url = format!("https://{local}{MUTATE_PATH}");
    let words = if settings.landfall.webhook.observe_only {
        format!(
            "the webhook at {url} changes nothing and reports what it would change: `landfall.webhook.observeOnly` is true"
        )
    } else {
        format!("the webhook at {url} redirects the images of pods")
    };
    host.status.update(|status| {
        status.redirect.clone_from(&words);
        status.webhook = Some(ServingStatus {
            url,
            ca_file: Some(issued.authority_file.to_string()),
            certificate_expires: Some(issued.expires),
        });
    });
    words
}

/// Returns the names by which API servers reach the webhook: the names of loopback, of the address that it listens at,
/// and of the address in its registration.
fn certificate_names(settings: &Settings, port: u16) -> Vec<String> {
    let mut names: Vec<String> = LOOPBACK_NAMES.map(ToOwned::to_owned).to_vec();
    let listen = settings.landfall.webhook_listen.trim_matches(['[', ']']).to_owned();
    let own = (listen != "0.0.0.0" && listen != "::").then_some(listen);
    let configured = webhook_address(settings, port).names();
    for name in own.into_iter().chain(configured) {
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
