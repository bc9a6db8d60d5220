//! Withdrawal of the registration: with redirection off, the API server must not call a webhook that does not serve.
//! The agent that can hold the Lease removes the registration. If another agent leads, redirection is still on there,
//! and the registration stays.

use std::sync::Arc;
use std::time::Duration;

use landfall_core::cluster::CONFIGURATION_NAME;
use landfall_core::cluster::configuration::is_ours;
use landfall_core::jitter::spread;
use landfall_core::settings::Settings;
use landfall_core::status::{EventKind, EventReason};
use landfall_host::root::HostRoot;
use landfall_net::random::random_fraction;
use tokio_util::sync::CancellationToken;

use super::access::find_access;
use super::context::now;
use super::election::LeaseCandidate;
use crate::events::EventLog;
use crate::failure::error_line;
use crate::kube::Cluster;
use crate::supervisor::Supervisor;

/// The interval between attempts: the API server may be down, another agent may lead.
const INTERVAL: Duration = Duration::from_secs(10);

/// The withdrawal in progress. Dropping it stops it.
#[derive(Debug)]
pub(crate) struct Withdrawal {
    stop: CancellationToken,
}

/// The outcome of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Attempt {
    /// There is no registration of Landfall.
    NothingThere,
    Removed,
    AnotherLeads,
}

impl Withdrawal {
    /// Starts the withdrawal. It ends at once on a host without a cluster.
    pub(crate) fn start(
        supervisor: &Supervisor,
        root: &HostRoot,
        events: &EventLog,
        settings: &Arc<Settings>,
    ) -> Withdrawal {
        let stop = supervisor.child_token();
        let (root, events, settings) = (root.clone(), events.clone(), settings.clone());
        supervisor.supervise_until("webhook-withdrawal", stop.clone(), |stop| async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = run(&root, &events, &settings) => {
                    // The work is done, but a supervised task that ends unasked would end the agent.
                    stop.cancelled().await;
                }
            }
            Ok(())
        });
        Withdrawal { stop }
    }
}

impl Drop for Withdrawal {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn run(root: &HostRoot, events: &EventLog, settings: &Settings) {
    let access = &settings.landfall.kubernetes;
    if !access.enable {
        return;
    }
    let mut candidate = LeaseCandidate::new(root, now());
    // A host without a cluster has registered nothing.
    while let Some(found) = find_access(root, access.kubeconfig.as_deref()) {
        let attempt = match Cluster::connect(found.kubeconfig(), &access.namespace).await {
            Ok(cluster) => withdraw(&cluster, &mut candidate).await,
            Err(error) => Err(error),
        };
        match attempt {
            Ok(Attempt::NothingThere) => return,
            Ok(Attempt::Removed) => {
                let subject = format!("MutatingWebhookConfiguration `{CONFIGURATION_NAME}`");
                let message = "redirection is off: the registration at the API server was removed".to_owned();
                let reason = EventReason::WebhookUnregistered;
                events.record(EventKind::Normal, reason, &subject, message).await;
                return;
            }
            Ok(Attempt::AnotherLeads) => {
                tracing::debug!("another agent holds the Lease and keeps the webhook's registration")
            }
            Err(error) => tracing::warn!(
                error = error_line(&error),
                "cannot remove the webhook's registration yet"
            ),
        }
        tokio::time::sleep(spread(INTERVAL, random_fraction())).await;
    }
}

async fn withdraw(cluster: &Cluster, candidate: &mut LeaseCandidate) -> anyhow::Result<Attempt> {
    let found = cluster.fetch_configuration().await?;
    let Some(found) = found.filter(is_ours) else {
        return Ok(Attempt::NothingThere);
    };
    if !candidate.campaign(cluster, now()).await? {
        return Ok(Attempt::AnotherLeads);
    }
    let removed = cluster.delete_configuration(&found).await;
    let resigned = candidate.resign(cluster).await;
    removed.and(resigned)?;
    Ok(Attempt::Removed)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::Mutex;

    use axum::http::{Method, Request, Response, StatusCode};
    use kube::client::Body;
    use landfall_core::cluster::configuration::{render_configuration, webhook_address};
    use serde_json::{Value, json};

    use super::*;

    const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/default/leases";

    /// A fake API server with at most one configuration and one Lease, which records writes.
    fn mk_cluster(configuration: Option<Value>, lease: Option<Value>) -> (Cluster, Arc<Mutex<Vec<String>>>) {
        let writes = Arc::new(Mutex::new(Vec::new()));
        let seen = writes.clone();
        let held = Arc::new(Mutex::new(lease));
        let service = tower::service_fn(move |request: Request<Body>| {
            let (configuration, held, seen) = (configuration.clone(), held.clone(), seen.clone());
            async move {
                let (parts, body) = request.into_parts();
                let path = parts.uri.path().to_owned();
                if parts.method != Method::GET {
                    seen.lock().unwrap().push(format!("{} {path}", parts.method));
                }
                let bytes = body.collect_bytes().await.unwrap();
                let is_lease = path.starts_with(LEASES);
                if is_lease && parts.method != Method::GET {
                    *held.lock().unwrap() = Some(serde_json::from_slice(&bytes).unwrap());
                }
                let answer = match is_lease {
                    true => held.lock().unwrap().clone(),
                    false => configuration,
                };
                let status = if answer.is_some() {
                    StatusCode::OK
                } else {
                    StatusCode::NOT_FOUND
                };
                let missing =
                    json!({"kind": "Status", "status": "Failure", "reason": "NotFound", "message": "", "code": 404});
                let text = answer.unwrap_or(missing).to_string();
                let response = Response::builder()
                    .status(status)
                    .body(Body::from(text.into_bytes()))
                    .unwrap();
                Ok::<_, Infallible>(response)
            }
        });
        (Cluster::fake(kube::Client::new(service, "default")), writes)
    }

    fn mk_configuration() -> Value {
        let settings = Settings::default();
        let mut rendered = render_configuration(&settings, &webhook_address(&settings, 1), "PEM");
        rendered["metadata"]["uid"] = json!("u");
        rendered["metadata"]["resourceVersion"] = json!("7");
        rendered
    }

    async fn attempt(configuration: Option<Value>, lease: Option<Value>) -> (Attempt, Vec<String>) {
        let (cluster, writes) = mk_cluster(configuration, lease);
        let mut candidate = LeaseCandidate::new(&HostRoot::new("/nowhere"), now());
        let attempt = withdraw(&cluster, &mut candidate).await.unwrap();
        let writes = writes.lock().unwrap().clone();
        (attempt, writes)
    }

    #[tokio::test]
    async fn registration_that_nobody_keeps_is_removed_and_the_lease_given_up() {
        let (outcome, writes) = attempt(Some(mk_configuration()), None).await;
        assert_eq!(outcome, Attempt::Removed);
        let deleted = "DELETE /apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/landfall";
        assert_eq!(
            writes,
            [
                format!("POST {LEASES}"),
                deleted.to_owned(),
                format!("PUT {LEASES}/landfall-webhook")
            ]
        );
    }

    #[tokio::test]
    async fn registration_that_another_agent_keeps_stays() {
        let lease = json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "landfall-webhook"},
            "spec": {"holderIdentity": "other", "leaseDurationSeconds": 15, "renewTime": now().to_string()},
        });
        let (outcome, writes) = attempt(Some(mk_configuration()), Some(lease)).await;
        assert_eq!((outcome, writes), (Attempt::AnotherLeads, Vec::new()));
    }

    #[tokio::test]
    async fn registration_of_somebody_else_stays() {
        let mut foreign = mk_configuration();
        foreign["metadata"]["labels"] = json!({"app.kubernetes.io/managed-by": "helm"});
        for configuration in [None, Some(foreign)] {
            assert_eq!(attempt(configuration, None).await, (Attempt::NothingThere, Vec::new()));
        }
    }
}
