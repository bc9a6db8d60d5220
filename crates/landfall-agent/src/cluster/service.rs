//! The cluster side as a service: it waits for the cluster, then runs writer, sweeper and the watch on namespaces.

use std::time::Duration;

use camino::Utf8PathBuf;
use landfall_core::jitter::spread;
use landfall_core::status::ClusterStatus;
use landfall_net::random::random_fraction;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::access::find_access;
use super::context::{ClusterContext, Registration};
use super::namespaces::follow_choices;
use super::sweeper::Sweeper;
use super::writer::ClusterWriter;
use crate::failure::error_line;
use crate::kube::Cluster;

/// The interval at which a missing cluster is looked for: kubeadm writes its kubeconfig after the agent starts.
const CONNECT_INTERVAL: Duration = Duration::from_secs(5);

/// The running cluster side. Dropping it stops it.
#[derive(Debug)]
pub(crate) struct ClusterService {
    registration: watch::Sender<Registration>,
    started_with: (Option<Utf8PathBuf>, String),
    stop: CancellationToken,
}

impl ClusterService {
    /// Starts the cluster side, or passes new settings to the running one.
    pub(crate) fn ensure(
        running: Option<ClusterService>,
        context: impl FnOnce() -> ClusterContext,
        registration: Registration,
    ) -> Option<ClusterService> {
        let access = &registration.settings.landfall.kubernetes;
        if !access.enable {
            return None;
        }
        let started_with = (access.kubeconfig.clone(), access.namespace.clone());
        if let Some(running) = running.filter(|running| running.started_with == started_with) {
            running.registration.send_replace(registration);
            return Some(running);
        }
        let context = context();
        let stop = context.supervisor.child_token();
        let (sender, receiver) = watch::channel(registration);
        let supervisor = context.supervisor.clone();
        supervisor.supervise_until("cluster", stop.clone(), |stop| run(context, receiver, stop));
        Some(ClusterService {
            registration: sender,
            started_with,
            stop,
        })
    }
}

impl Drop for ClusterService {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Waits for the cluster, then runs all tasks of the cluster side until they are stopped.
async fn run(
    context: ClusterContext,
    registration: watch::Receiver<Registration>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let connected = tokio::select! {
        () = stop.cancelled() => return Ok(()),
        connected = connect(&context, &registration) => connected,
    };
    tracing::info!(server = connected.server(), "cluster found");
    let (leads, follows) = watch::channel(false);
    let writer = ClusterWriter::new(context.clone(), connected.clone(), registration.clone(), leads);
    let sweeper = Sweeper::new(context.clone(), connected.clone(), registration, follows);
    tokio::join!(
        writer.run(stop.clone()),
        sweeper.run(stop.clone()),
        follow_choices(&context, &connected, stop),
    );
    context.status.update(|status| status.cluster = None);
    Ok(())
}

async fn connect(context: &ClusterContext, registration: &watch::Receiver<Registration>) -> Cluster {
    loop {
        let access = registration.borrow().settings.landfall.kubernetes.clone();
        if let Some(found) = find_access(&context.root, access.kubeconfig.as_deref()) {
            match Cluster::connect(found.kubeconfig(), &access.namespace).await {
                Ok(cluster) => {
                    context.status.update(|status| {
                        status.cluster = Some(ClusterStatus {
                            server: cluster.server().to_owned(),
                            ..ClusterStatus::default()
                        });
                    });
                    return cluster;
                }
                Err(error) => context.report_problem(&error_line(&error)).await,
            }
        } else if let Some(path) = &access.kubeconfig {
            let problem = format!("the kubeconfig `{path}` (`landfall.kubernetes.kubeconfig`) is not there");
            context.report_problem(&problem).await;
        }
        tokio::time::sleep(spread(CONNECT_INTERVAL, random_fraction())).await;
    }
}
