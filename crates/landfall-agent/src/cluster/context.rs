//! The context that the tasks of the cluster side share.

use std::sync::Arc;

use jiff::Timestamp;
use landfall_core::cluster::configuration::WebhookAddress;
use landfall_core::settings::Settings;
use landfall_core::status::{ClusterStatus, EventKind, EventReason};
use landfall_host::root::HostRoot;

use super::serving::ServingCertificate;
use crate::events::EventLog;
use crate::metrics::Metrics;
use crate::status::StatusStore;
use crate::supervisor::Supervisor;
use crate::webhook::Reviewer;

/// The context that the tasks of the cluster side share.
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

/// The registration that the API server is to have.
#[derive(Debug, Clone)]
pub(crate) struct Registration {
    pub(crate) settings: Arc<Settings>,
    pub(crate) address: WebhookAddress,
}

impl ClusterContext {
    /// Reports a problem in status and events, unless it is the one reported last.
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

    /// Removes the problem from the status.
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

/// Returns the current time. This is the only call of the clock; all decisions take the time as a value.
pub(crate) fn now() -> Timestamp {
    Timestamp::now()
}
