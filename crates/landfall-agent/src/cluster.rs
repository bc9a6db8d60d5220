//! The webhook's place in the cluster: who writes, the authority, the registration at the API server, what namespaces
//! chose, and the pods that slipped through. Carries out what `landfall_core::cluster` decides.
//!
//! Nothing here is on the path of an admission, and nothing here ends the agent: a cluster that does not answer is tried
//! again, and said in the status.

mod authority;
mod election;
mod namespaces;
mod pod_events;
mod serving;
mod sweeper;
mod withdrawal;
mod writer;

use std::sync::Arc;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use jiff::Timestamp;
use landfall_core::choice::RedirectChoice;
use landfall_core::cluster::configuration::WebhookAddress;
use landfall_core::settings::Settings;
use landfall_core::status::{ClusterStatus, EventKind, EventReason};
use landfall_host::root::HostRoot;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::events::EventLog;
use crate::kube::Cluster;
use crate::metrics::Metrics;
use crate::status::StatusStore;
use crate::supervisor::Supervisor;
use crate::webhook::Reviewer;

pub(crate) use serving::ServingCertificate;
pub(crate) use withdrawal::Withdrawal;

/// Where the distributions keep the kubeconfig of a control-plane host: kubeadm, K3s, RKE2.
const KUBECONFIGS: [&str; 3] = [
    "/etc/kubernetes/admin.conf",
    "/etc/rancher/k3s/k3s.yaml",
    "/etc/rancher/rke2/rke2.yaml",
];
/// Where a pod finds its service account.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";
/// How often a cluster is looked for that is not there yet: kubeadm makes its kubeconfig after we start.
const CONNECT_INTERVAL: Duration = Duration::from_secs(5);

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

/// The cluster side while it runs; ends when it is dropped.
#[derive(Debug)]
pub(crate) struct ClusterService {
    registration: watch::Sender<Registration>,
    started_with: (Option<Utf8PathBuf>, String),
    stop: CancellationToken,
}

impl ClusterService {
    /// Starts the cluster side, or hands new settings to the one that runs.
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

/// Waits for the cluster, then runs all of its side until it is stopped.
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
    let writer = writer::Writer::new(context.clone(), connected.clone(), registration.clone(), leads);
    let sweeper = sweeper::Sweeper::new(context.clone(), connected.clone(), registration, follows);
    tokio::join!(
        writer.run(stop.clone()),
        sweeper.run(stop.clone()),
        namespaces::follow_choices(&context, &connected, stop),
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
                Err(error) => context.tell_problem(&format!("{error:#}")).await,
            }
        } else if let Some(path) = &access.kubeconfig {
            let problem = format!("the kubeconfig `{path}` (`landfall.kubernetes.kubeconfig`) is not there");
            context.tell_problem(&problem).await;
        }
        tokio::time::sleep(CONNECT_INTERVAL).await;
    }
}

/// How the cluster is reached.
enum Access {
    Kubeconfig(Utf8PathBuf),
    InCluster,
}

impl Access {
    fn kubeconfig(&self) -> Option<&Utf8Path> {
        match self {
            Access::Kubeconfig(path) => Some(path),
            Access::InCluster => None,
        }
    }
}

/// The kubeconfig that the settings name, otherwise the first of those that a control-plane host has, otherwise the
/// service account of a pod. A host that is none of these has no cluster side.
fn find_access(root: &HostRoot, configured: Option<&Utf8Path>) -> Option<Access> {
    let existing = |path: &Utf8Path| root.join(path).ok().filter(|path| path.is_file());
    match configured {
        Some(path) => existing(path).map(Access::Kubeconfig),
        None => (KUBECONFIGS.iter())
            .find_map(|path| existing(Utf8Path::new(path)))
            .map(Access::Kubeconfig)
            .or_else(|| existing(Utf8Path::new(SERVICE_ACCOUNT)).map(|_| Access::InCluster)),
    }
}

impl ClusterContext {
    /// Says a problem once, in status and events; the next one that differs is said again.
    pub(crate) async fn tell_problem(&self, problem: &str) {
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

/// What a namespace chose by its labels in the cluster; `Ok(None)` is no choice.
///
/// # Errors
///
/// When the cluster cannot be asked, or has no such namespace.
pub async fn fetch_namespace_choice(kubeconfig: &Utf8Path, name: &str) -> anyhow::Result<Option<RedirectChoice>> {
    let cluster = Cluster::connect(Some(kubeconfig), "default").await?;
    let Some(found) = cluster.fetch_namespace(name).await? else {
        anyhow::bail!("`{}` has no namespace `{name}`", cluster.server());
    };
    Ok(namespaces::choice_of(&found))
}

/// The time, in one place: everything that decides by it takes it as a value.
fn now() -> Timestamp {
    Timestamp::now()
}
