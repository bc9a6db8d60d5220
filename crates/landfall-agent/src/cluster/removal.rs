//! Removal of all that agents wrote into the cluster: the registration of the webhook first, because the API server calls
//! it for every pod, then the Secret of the authority, then the Lease.
//!
//! An agent that runs would write them again. The Lease tells: nothing is removed while another agent holds it.

use std::time::Duration;

use camino::Utf8Path;
use k8s_openapi::api::core::v1::Secret;
use landfall_core::cluster::configuration::{MANAGED_BY, is_ours};
use landfall_core::cluster::{CONFIGURATION_NAME, FIELD_MANAGER, LEASE_NAME, SECRET_NAME};
use landfall_core::failure::{Explanation, line_with_hint};
use landfall_core::report::{UninstallKind, UninstallRow, UninstallState};
use landfall_core::settings::KubernetesAccess;
use landfall_host::root::HostRoot;
use serde_json::Value;
use tokio::time::Instant;

use super::access::find_access;
use super::context::now;
use super::election::LeaseCandidate;
use crate::failure::error_line;
use crate::kube::Cluster;

/// The time to wait for the Lease of an agent that ended without giving it up: longer than a Lease lasts.
const PATIENCE: Duration = Duration::from_secs(25);
const INTERVAL: Duration = Duration::from_secs(2);

/// Returns the kubeconfig by which the agent of this host reaches its cluster, or a name for the account of a pod; `None`
/// if it reaches none.
pub(crate) fn find_cluster(root: &HostRoot, access: &KubernetesAccess) -> Option<String> {
    let found = find_access(root, access.kubeconfig.as_deref())?;
    Some(
        found
            .kubeconfig()
            .map_or("the pod's service account".to_owned(), Utf8Path::to_string),
    )
}

/// Removes the objects of agents from the cluster, or tells which would be removed. `kubeconfig` overrides the access of
/// the agent.
///
/// # Errors
///
/// If there is no access to a cluster, or the API server cannot be asked.
pub(crate) async fn remove_from_cluster(
    root: &HostRoot,
    access: &KubernetesAccess,
    kubeconfig: Option<&Utf8Path>,
    dry_run: bool,
) -> anyhow::Result<Vec<UninstallRow>> {
    let cluster = match kubeconfig {
        Some(path) => Cluster::connect(Some(path), &access.namespace).await?,
        None => {
            let Some(found) = find_access(root, access.kubeconfig.as_deref()) else {
                anyhow::bail!(Explanation::new(
                    "there is no kubeconfig on this host",
                    "name one with `--kubeconfig`",
                ));
            };
            Cluster::connect(found.kubeconfig(), &access.namespace).await?
        }
    };
    match dry_run {
        true => foresee(&cluster, &access.namespace).await,
        false => {
            remove(
                &cluster,
                &access.namespace,
                &mut LeaseCandidate::new(root, now()),
                PATIENCE,
            )
            .await
        }
    }
}

/// The objects of agents, as far as they exist.
struct Found {
    configuration: Option<Value>,
    secret: Option<Secret>,
    /// The holder of the Lease, empty if it was given up.
    lease: Option<String>,
    /// Objects with our names that another manager wrote.
    foreign: Vec<UninstallRow>,
}

impl Found {
    async fn fetch(cluster: &Cluster, names: &Names) -> anyhow::Result<Found> {
        let configuration = cluster.fetch_configuration().await?;
        let secret = cluster.fetch_secret().await?;
        let lease = cluster.fetch_lease().await?;
        let is_our_secret = |secret: &Secret| {
            let labels = secret.metadata.labels.as_ref();
            labels.is_some_and(|labels| labels.get(MANAGED_BY).is_some_and(|by| by == FIELD_MANAGER))
        };
        let foreign = [
            configuration
                .as_ref()
                .is_some_and(|found| !is_ours(found))
                .then_some(&names.configuration),
            secret
                .as_ref()
                .is_some_and(|found| !is_our_secret(found))
                .then_some(&names.secret),
        ];
        let kept = |name: &String| {
            let why = format!("its label `{MANAGED_BY}` is not `{FIELD_MANAGER}`");
            row(name, UninstallState::Kept, Some(why))
        };
        Ok(Found {
            foreign: foreign.into_iter().flatten().map(kept).collect(),
            configuration: configuration.filter(is_ours),
            secret: secret.filter(is_our_secret),
            lease: lease.map(|lease| lease.spec.and_then(|spec| spec.holder_identity).unwrap_or_default()),
        })
    }

    /// Returns a row in the same state for each object of ours.
    fn rows(&self, names: &Names, state: UninstallState, why: Option<&str>) -> Vec<UninstallRow> {
        let present = [
            (self.configuration.is_some(), &names.configuration),
            (self.secret.is_some(), &names.secret),
            (self.lease.is_some(), &names.lease),
        ];
        let present = present.into_iter().filter(|(is_there, _)| *is_there);
        present
            .map(|(_, name)| row(name, state, why.map(str::to_owned)))
            .collect()
    }
}

/// Names of the objects for people.
struct Names {
    configuration: String,
    secret: String,
    lease: String,
}

impl Names {
    fn of(namespace: &str) -> Names {
        Names {
            configuration: format!("MutatingWebhookConfiguration {CONFIGURATION_NAME}"),
            secret: format!("Secret {namespace}/{SECRET_NAME}"),
            lease: format!("Lease {namespace}/{LEASE_NAME}"),
        }
    }
}

fn row(name: &str, state: UninstallState, why: Option<String>) -> UninstallRow {
    UninstallRow {
        what: UninstallKind::ClusterObject,
        name: name.to_owned(),
        state,
        why,
    }
}

fn held_by(holder: &str) -> String {
    line_with_hint(
        format_args!("`{holder}` holds the Lease"),
        Some("stop the agents of the other hosts, or remove the chart, first"),
    )
}

async fn foresee(cluster: &Cluster, namespace: &str) -> anyhow::Result<Vec<UninstallRow>> {
    let names = Names::of(namespace);
    let found = Found::fetch(cluster, &names).await?;
    let holder = found.lease.as_deref().filter(|holder| !holder.is_empty());
    let mut rows = found.rows(&names, UninstallState::WouldRemove, holder.map(held_by).as_deref());
    rows.extend(found.foreign);
    Ok(rows)
}

async fn remove(
    cluster: &Cluster,
    namespace: &str,
    candidate: &mut LeaseCandidate,
    patience: Duration,
) -> anyhow::Result<Vec<UninstallRow>> {
    let names = Names::of(namespace);
    let found = Found::fetch(cluster, &names).await?;
    if found.configuration.is_none() && found.secret.is_none() && found.lease.is_none() {
        return Ok(found.foreign);
    }
    let give_up = Instant::now() + patience;
    while !candidate.campaign(cluster, now()).await? {
        if Instant::now() >= give_up {
            let holder = found.lease.as_deref().unwrap_or_default();
            let mut rows = found.rows(&names, UninstallState::Left, Some(&held_by(holder)));
            rows.extend(found.foreign);
            return Ok(rows);
        }
        tokio::time::sleep(INTERVAL).await;
    }
    let mut rows = Vec::new();
    if let Some(configuration) = &found.configuration {
        let removed = cluster.delete_configuration(configuration).await;
        rows.push(outcome(&names.configuration, removed));
    }
    if let Some(secret) = &found.secret {
        rows.push(outcome(&names.secret, cluster.delete_secret(secret).await));
    }
    // The campaign wrote the Lease: its version is another one now.
    let lease = match cluster.fetch_lease().await {
        Ok(Some(lease)) => cluster.delete_lease(&lease).await,
        Ok(None) => Ok(()),
        Err(error) => Err(error),
    };
    if found.lease.is_some() || lease.is_err() {
        rows.push(outcome(&names.lease, lease));
    }
    rows.extend(found.foreign);
    Ok(rows)
}

fn outcome(name: &str, removed: anyhow::Result<()>) -> UninstallRow {
    match removed {
        Ok(()) => row(name, UninstallState::Removed, None),
        Err(error) => row(name, UninstallState::Left, Some(error_line(&error))),
    }
}

#[cfg(test)]
mod tests {
    use landfall_testkit::fake_api_server::FakeApiServer;
    use serde_json::json;

    use super::*;

    const CONFIGURATION: &str = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/landfall";
    const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/default/leases/landfall-webhook";

    #[tokio::test]
    async fn nothing_is_removed_while_another_agent_holds_the_lease_and_a_followed_hint_ends_that() {
        let api = FakeApiServer::start();
        api.put(
            CONFIGURATION,
            json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
                   "metadata": {"name": "landfall", "labels": {(MANAGED_BY): FIELD_MANAGER}}, "webhooks": []}),
        );
        api.put(
            LEASE,
            json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "landfall-webhook"},
                   "spec": {"holderIdentity": "other", "leaseDurationSeconds": 15, "renewTime": now().to_string()}}),
        );
        let directory = tempfile::tempdir().unwrap();
        let kubeconfig = Utf8Path::from_path(directory.path()).unwrap().join("kubeconfig");
        fs_err::write(&kubeconfig, api.kubeconfig()).unwrap();
        let cluster = Cluster::connect(Some(&kubeconfig), "default").await.unwrap();
        let mut candidate = LeaseCandidate::new(&HostRoot::new("/nowhere"), now());
        let rows = remove(&cluster, "default", &mut candidate, Duration::ZERO)
            .await
            .unwrap();
        let names = Names::of("default");
        let left = |name: &str| row(name, UninstallState::Left, Some(held_by("other")));
        assert_eq!(rows, [left(&names.configuration), left(&names.lease)]);
        assert_eq!((api.writes(CONFIGURATION), api.writes(LEASE)), (1, 1), "the test's own");
        let foreseen = foresee(&cluster, "default").await.unwrap();
        let why: Vec<_> = foreseen.into_iter().map(|row| row.why).collect();
        assert_eq!(why, [Some(held_by("other")), Some(held_by("other"))]);
        assert!(held_by("other").ends_with("stop the agents of the other hosts, or remove the chart, first"));
        // The other agent was stopped, and gave the Lease up.
        api.edit(LEASE, |lease| lease["spec"]["holderIdentity"] = json!(""));
        let rows = remove(&cluster, "default", &mut candidate, Duration::ZERO)
            .await
            .unwrap();
        let removed = |name: &str| row(name, UninstallState::Removed, None);
        assert_eq!(rows, [removed(&names.configuration), removed(&names.lease)]);
    }
}
