//! The sweeper: finds pods that were admitted without redirection and wait for their images, and repairs them. Only the
//! holder of the Lease sweeps. It reads a page of pods at a time and keeps none of them.

use std::collections::HashSet;
use std::time::Duration;

use landfall_core::admission::PodRepair;
use landfall_core::jitter::spread;
use landfall_core::status::EventReason;
use landfall_net::random::random_fraction;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::context::{ClusterContext, Registration, now};
use super::pod_events::{EventType, pod_event};
use crate::failure::error_line;
use crate::kube::{Cluster, Refusal, refusal_of};

/// The largest number of UIDs of reported pods that are remembered. Each pod is reported once; beyond this number the
/// sweeper begins anew.
const REMEMBERED: usize = 4096;

/// The sweeper. It runs all the time, and works while this agent leads.
#[derive(Debug)]
pub(crate) struct Sweeper {
    context: ClusterContext,
    cluster: Cluster,
    registration: watch::Receiver<Registration>,
    leads: watch::Receiver<bool>,
    /// UIDs of reported pods: they cannot be repaired, or are only observed.
    reported: HashSet<String>,
}

impl Sweeper {
    pub(crate) fn new(
        context: ClusterContext,
        cluster: Cluster,
        registration: watch::Receiver<Registration>,
        leads: watch::Receiver<bool>,
    ) -> Sweeper {
        Sweeper {
            context,
            cluster,
            registration,
            leads,
            reported: HashSet::new(),
        }
    }

    /// Sweeps until `stop` is cancelled.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        loop {
            let leads = *self.leads.borrow_and_update();
            if let (true, Some(_)) = (leads, self.interval())
                && let Err(error) = self.sweep().await
            {
                let problem = error_line(&error);
                tracing::warn!(problem, "cannot look for pods that were not redirected");
            }
            let wait = self
                .interval()
                .map_or(Duration::MAX, |interval| spread(interval, random_fraction()));
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
                // A new leader sweeps at once: the leader before may have been down for a while.
                changed = self.leads.changed() => if changed.is_err() { return stop.cancelled().await },
                changed = self.registration.changed() => if changed.is_err() { return stop.cancelled().await },
            }
        }
    }

    fn interval(&self) -> Option<Duration> {
        let seconds = self
            .registration
            .borrow()
            .settings
            .landfall
            .webhook
            .sweep_interval_seconds;
        (seconds > 0).then(|| Duration::from_secs(u64::from(seconds)))
    }

    async fn sweep(&mut self) -> anyhow::Result<()> {
        let mut from = None;
        loop {
            let page = self.cluster.list_pods(from.as_deref()).await?;
            for pod in &page.pods {
                match self.context.reviewer.plan_repair(pod.get()) {
                    Ok(None) => {}
                    Ok(Some(repair)) => self.repair(&repair).await?,
                    Err(error) => tracing::warn!(%error, "a listed pod cannot be read"),
                }
            }
            match page.next {
                Some(next) => from = Some(next),
                None => return Ok(()),
            }
        }
    }

    async fn repair(&mut self, repair: &PodRepair) -> anyhow::Result<()> {
        if let Some(patch) = &repair.patch {
            match self
                .cluster
                .patch_pod(&repair.namespace, &repair.name, patch.clone())
                .await
            {
                Ok(()) => {
                    self.context.metrics.repaired.inc_by(repair.images.len() as u64);
                    self.report(repair, EventType::Normal, "Redirected", &list_images(repair))
                        .await;
                }
                // The pod is gone or has changed: the next sweep reads it again.
                Err(error) if is_overtaken(&error) => {
                    tracing::debug!(
                        pod = repair.name,
                        error = error_line(&error),
                        "pod was changed meanwhile"
                    );
                }
                Err(error) => {
                    if self.remember(repair) {
                        let message = format!("the pod cannot be repaired: {}", error_line(&error));
                        self.report(repair, EventType::Warning, "NotRedirected", &message).await;
                    }
                }
            }
        } else if !repair.images.is_empty() && self.remember(repair) {
            let message = format!("observed only: {}", list_images(repair));
            self.report(repair, EventType::Warning, "NotRedirected", &message).await;
        }
        if !repair.stuck.is_empty() && self.remember(repair) {
            let message = format!(
                "the image of {} cannot be changed on a live pod: delete the pod, so that it is created again",
                repair.stuck.join(", ")
            );
            self.report(repair, EventType::Warning, "NotRedirected", &message).await;
        }
        Ok(())
    }

    /// Returns true if the pod was not reported before.
    fn remember(&mut self, repair: &PodRepair) -> bool {
        if self.reported.len() >= REMEMBERED {
            self.reported.clear();
        }
        self.reported.insert(repair.uid.clone())
    }

    async fn report(&self, repair: &PodRepair, severity: EventType, reason: &str, message: &str) {
        let subject = format!("pod `{}/{}`", repair.namespace, repair.name);
        match severity {
            EventType::Normal => {
                let context = &self.context;
                context
                    .note(EventReason::PodRepaired, &subject, message.to_owned())
                    .await;
            }
            EventType::Warning => {
                let context = &self.context;
                context
                    .warn(EventReason::PodNotRedirected, &subject, message.to_owned())
                    .await;
            }
        }
        let event = pod_event(repair, severity, reason, message, now());
        if let Err(error) = self.cluster.create_event(&repair.namespace, &event).await {
            tracing::debug!(error = error_line(&error), "no event at the pod");
        }
    }
}

/// Returns true if the pod changed in the meantime. 422 means that a `test` operation of the patch does not hold any
/// more.
fn is_overtaken(error: &anyhow::Error) -> bool {
    matches!(
        refusal_of(error),
        Some(Refusal::NotFound | Refusal::Conflict | Refusal::Unprocessable)
    )
}

fn list_images(repair: &PodRepair) -> String {
    let images: Vec<String> = repair
        .images
        .iter()
        .map(|image| format!("{}: {}", image.container, image.reason))
        .collect();
    images.join("; ")
}
