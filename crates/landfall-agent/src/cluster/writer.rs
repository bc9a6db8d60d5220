//! The writer holds the Lease, owns authority and registration, and repairs both as soon as a watch shows a foreign
//! change. Agents that do not lead follow the authority, so that it has issued their certificates as well.

use std::pin::pin;
use std::time::Duration;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::StreamExt as _;
use k8s_openapi::api::core::v1::Secret;
use landfall_core::cluster::CONFIGURATION_NAME;
use landfall_core::cluster::authority::{RotationStep, plan_rotation};
use landfall_core::cluster::configuration::{is_as_rendered, render_configuration, repair_configuration};
use landfall_core::jitter::spread;
use landfall_core::status::EventReason;
use landfall_net::random::random_fraction;
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::certificate_authority::{CertificateAuthority, rotation_policy};
use super::context::{ClusterContext, Registration, now};
use super::election::LeaseCandidate;
use crate::failure::error_line;
use crate::kube::{Cluster, refusal_of};

/// The interval at which the Lease is read.
const CAMPAIGN_INTERVAL: Duration = Duration::from_secs(3);
/// The time during which a holder acts without having renewed. It is shorter than the wait of the others before they
/// take over.
const TRUSTED_FOR: Duration = Duration::from_secs(10);

/// The last observed state of an object.
#[derive(Debug, Clone, PartialEq)]
enum Observed<T> {
    /// No watch has reported the object yet.
    Unknown,
    Absent,
    Present(T),
}

impl<T> From<Option<T>> for Observed<T> {
    fn from(found: Option<T>) -> Observed<T> {
        found.map_or(Observed::Absent, Observed::Present)
    }
}

/// The writer, or a candidate that follows it.
#[derive(Debug)]
pub(crate) struct ClusterWriter {
    context: ClusterContext,
    cluster: Cluster,
    registration: watch::Receiver<Registration>,
    leads: watch::Sender<bool>,
    lease: LeaseCandidate,
    renewed: Option<Instant>,
    secret: Observed<Secret>,
    configuration: Observed<Value>,
    /// The registration as this agent wrote it last.
    registered: Option<Value>,
    /// The certificate of the authority that this agent serves under.
    adopted: Option<String>,
}

impl ClusterWriter {
    pub(crate) fn new(
        context: ClusterContext,
        cluster: Cluster,
        registration: watch::Receiver<Registration>,
        leads: watch::Sender<bool>,
    ) -> ClusterWriter {
        ClusterWriter {
            lease: LeaseCandidate::new(&context.root, now()),
            context,
            cluster,
            registration,
            leads,
            renewed: None,
            secret: Observed::Unknown,
            configuration: Observed::Unknown,
            registered: None,
            adopted: None,
        }
    }

    /// Writes and follows until `stop` is cancelled, then gives the Lease up.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut secrets = pin!(self.cluster.watch_secret());
        let mut configurations = pin!(self.cluster.watch_configuration());
        let mut next_campaign = Instant::now();
        loop {
            let campaigned = tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep_until(next_campaign) => {
                    next_campaign = Instant::now() + spread(CAMPAIGN_INTERVAL, random_fraction());
                    true
                }
                Some(secret) = secrets.next() => {
                    self.secret = secret.into();
                    false
                }
                Some(configuration) = configurations.next() => {
                    self.configuration = configuration.into();
                    false
                }
                Ok(()) = self.registration.changed() => false,
            };
            if let Err(error) = self.step(campaigned).await {
                if refusal_of(&error).is_some() {
                    // Another writer was faster. The watches deliver what it wrote.
                    tracing::debug!(error = error_line(&error), "write refused");
                } else {
                    self.context.report_problem(&error_line(&error)).await;
                }
            }
        }
        if let Err(error) = self.lease.resign(&self.cluster).await {
            tracing::debug!(error = error_line(&error), "the Lease ends by itself");
        }
    }

    async fn step(&mut self, campaign: bool) -> anyhow::Result<()> {
        if campaign {
            self.campaign().await?;
        }
        if self.leads() {
            self.keep_authority().await?;
        }
        self.follow_authority().await?;
        if self.leads() {
            self.keep_configuration().await?;
        }
        self.context.clear_problem();
        Ok(())
    }

    fn leads(&self) -> bool {
        self.renewed.is_some_and(|renewed| renewed.elapsed() < TRUSTED_FOR)
    }

    async fn campaign(&mut self) -> anyhow::Result<()> {
        let led = self.leads();
        let asked = Instant::now();
        match self.lease.campaign(&self.cluster, now()).await {
            Ok(true) => self.renewed = Some(asked),
            Ok(false) => self.renewed = None,
            Err(error) => {
                self.leads.send_replace(self.leads());
                return Err(error);
            }
        }
        let leads = self.leads();
        if leads && !led {
            // The watches may not have delivered yet what others wrote while this agent followed.
            self.secret = self.cluster.fetch_secret().await?.into();
            self.configuration = self.cluster.fetch_configuration().await?.into();
            tracing::info!("this agent writes the webhook's registration");
        }
        if leads != led {
            self.leads.send_replace(leads);
            self.context
                .status
                .update(|status| status.cluster.get_or_insert_default().writer = leads);
        }
        Ok(())
    }

    /// Creates, replaces and rotates the authority.
    async fn keep_authority(&mut self) -> anyhow::Result<()> {
        let there = match &self.secret {
            Observed::Unknown => return Ok(()),
            Observed::Absent => None,
            Observed::Present(secret) => Some(secret.clone()),
        };
        let authority = match there.as_ref().map(CertificateAuthority::parse).transpose() {
            Ok(authority) => authority,
            Err(error) => {
                let message =
                    format!("the Secret with the webhook's authority cannot be used and is created again: {error:#}");
                self.context
                    .warn(EventReason::AuthorityReplaced, "webhook", message)
                    .await;
                None
            }
        };
        let known = self.known_bundle();
        let facts = authority.as_ref().map(|authority| authority.facts(known.as_deref()));
        let overlap = self
            .registration
            .borrow()
            .settings
            .landfall
            .webhook
            .rotation_overlap_seconds;
        let now = now();
        let step = plan_rotation(facts.as_ref(), now, &rotation_policy(overlap));
        let next = match authority {
            None => {
                // The agent begins with the authority that it serves with, so that nothing has to change.
                CertificateAuthority::first(self.context.serving.authority().await, now)?
            }
            Some(authority) => authority.advance(step, now)?,
        };
        let message = match step {
            RotationStep::Keep => return Ok(()),
            RotationStep::Create => "an authority for the webhook's certificates was created",
            RotationStep::Introduce => "the next authority was introduced to the API servers",
            RotationStep::Promote => "certificates are issued by the next authority from now on",
            RotationStep::Retire => "the previous authority was removed",
        };
        let written = self.cluster.write_secret(&next.render(there.as_ref())).await?;
        self.secret = Observed::Present(written);
        self.context
            .note(EventReason::AuthorityReplaced, "webhook", message.to_owned())
            .await;
        Ok(())
    }

    /// Serves under the authority of the cluster.
    async fn follow_authority(&mut self) -> anyhow::Result<()> {
        let Observed::Present(secret) = &self.secret else {
            return Ok(());
        };
        // The writer repairs an unusable Secret. Until then this agent serves as before.
        let Ok(authority) = CertificateAuthority::parse(secret) else {
            return Ok(());
        };
        if self.adopted.as_ref() == Some(&authority.current.certificate) {
            return Ok(());
        }
        let issued = self.context.serving.adopt(authority.current.clone(), now()).await?;
        self.context.status.update(|status| {
            status.cluster.get_or_insert_default().authority_expires = Some(authority.validity.not_after);
            if let Some(webhook) = &mut status.webhook {
                webhook.certificate_expires = Some(issued.expires);
            }
        });
        tracing::info!(expires = %issued.expires, "the webhook serves under the cluster's authority");
        self.adopted = Some(authority.current.certificate);
        Ok(())
    }

    /// Registers the webhook, and repairs the registration.
    async fn keep_configuration(&mut self) -> anyhow::Result<()> {
        let Observed::Present(secret) = &self.secret else {
            return Ok(());
        };
        let authority = CertificateAuthority::parse(secret).context("the authority's Secret cannot be used")?;
        let rendered = {
            let registration = self.registration.borrow_and_update();
            render_configuration(&registration.settings, &registration.address, &authority.bundle())
        };
        let (next, message) = match &self.configuration {
            Observed::Unknown => return Ok(()),
            Observed::Present(found) if is_as_rendered(found, &rendered) => {
                self.registered = Some(rendered);
                return Ok(());
            }
            Observed::Present(found) => (
                repair_configuration(found, &rendered),
                match &self.registered {
                    // This agent wrote it, and wants another one now: after a rotation, or for new settings.
                    Some(registered) if is_as_rendered(found, registered) => "the webhook's registration was updated",
                    Some(_) => "the webhook's registration had been changed and was repaired",
                    None => "the webhook's registration was brought up to date",
                },
            ),
            Observed::Absent => (rendered.clone(), "the webhook was registered at the API server"),
        };
        let written = self.cluster.write_configuration(&next).await?;
        self.configuration = Observed::Present(written);
        self.registered = Some(rendered);
        self.context.metrics.registrations.inc();
        let subject = format!("MutatingWebhookConfiguration `{CONFIGURATION_NAME}`");
        self.context
            .note(EventReason::WebhookRegistered, &subject, message.to_owned())
            .await;
        Ok(())
    }

    /// Returns the bundle in the registration at the API server.
    fn known_bundle(&self) -> Option<String> {
        let Observed::Present(configuration) = &self.configuration else {
            return None;
        };
        let bundle = configuration["webhooks"][0]["clientConfig"]["caBundle"].as_str()?;
        String::from_utf8(STANDARD.decode(bundle).ok()?).ok()
    }
}
