//! The context that the tasks of the cluster side share.

use std::sync::Arc;

use jiff::Timestamp;
use landfall_core::cluster::configuration::WebhookAddress;
use landfall_core::config::Settings;
use landfall_core::status::{ClusterStatus, EventKind, EventReason};
use landfall_host::root::HostRoot;

use super::serving::ServingCertificate;
use crate::events::EventLog;
use crate::metrics::Metrics;
use crate::status::StatusStore;
use crate::supervisor::Supervisor;
use crate::webhook::Reviewer;

/// What the tasks of the cluster side share.
#[derive(Debug, Clone)]
pub(crate) struct ClusterContext {
    pub(crate) root: HostRoot,
    pub(crate) events: EventLog,
    pub(crate) status: StatusStore,
    pub(crate) metrics: Metrics,
    pub(crate) supervisor: Supervisor,
    pub(crate) reviewer: Reviewer,
    pub(crate) serving: Arc<ServingCertificate>,
}

/// What the API server is to be told.
#[derive(Debug, Clone)]
pub(crate) struct Registration {
    pub(crate) settings: Arc<Settings>,
    pub(crate) address: WebhookAddress,
}

impl ClusterContext {
    /// Says a problem once, in status and events; the next one that differs is said again.
    pub(crate) async fn report_problem(&self, problem: &str) {
        let known = self.status.get().cluster.and_then(|cluster| cluster.problem);
        if known.as_deref() == Some(problem) {
            return;
        }
        self.status
            .update(|status| status.cluster.get_or_insert_default().problem = Some(problem.to_owned()));
        self.warn(EventReason::ClusterUnreachable, "cluster", problem.to_owned())
            .await;
    }

    /// Says that the problem is gone.
    pub(crate) fn clear_problem(&self) {
        let has_problem = |cluster: &ClusterStatus| cluster.problem.is_some();
        if self.status.get().cluster.as_ref().is_some_and(has_problem) {
            self.status
                .update(|status| status.cluster.get_or_insert_default().problem = None);
        }
    }

    pub(crate) async fn note(&self, reason: EventReason, subject: &str, message: String) {
        self.events.record(EventKind::Normal, reason, subject, message).await;
    }

    pub(crate) async fn warn(&self, reason: EventReason, subject: &str, message: String) {
        self.events.record(EventKind::Warning, reason, subject, message).await;
    }
}

/// The time, in one place: everything that decides by it takes it as a value.
pub(crate) fn now() -> Timestamp {
    Timestamp::now()
}
