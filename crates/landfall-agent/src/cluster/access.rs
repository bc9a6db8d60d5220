//! Finds the access to the cluster's API on this host.

use camino::{Utf8Path, Utf8PathBuf};
use landfall_host::root::HostRoot;

/// Paths of the kubeconfig on a control-plane host: kubeadm, K3s, RKE2.
const KUBECONFIGS: [&str; 3] = [
    "/etc/kubernetes/admin.conf",
    "/etc/rancher/k3s/k3s.yaml",
    "/etc/rancher/rke2/rke2.yaml",
];
/// The path of the service account's token in a pod.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

/// The access to the cluster's API.
pub(crate) enum ClusterAccess {
    Kubeconfig(Utf8PathBuf),
    InCluster,
}

impl ClusterAccess {
    pub(crate) fn kubeconfig(&self) -> Option<&Utf8Path> {
        match self {
            ClusterAccess::Kubeconfig(path) => Some(path),
            ClusterAccess::InCluster => None,
        }
    }
}

/// Returns the kubeconfig of the settings, otherwise the first of those that a control-plane host has, otherwise the
/// service account of a pod. A host with none of these has no cluster side.
pub(crate) fn find_access(root: &HostRoot, configured: Option<&Utf8Path>) -> Option<ClusterAccess> {
    let existing = |path: &Utf8Path| root.join(path).ok().filter(|path| path.is_file());
    match configured {
        Some(path) => existing(path).map(ClusterAccess::Kubeconfig),
        None => KUBECONFIGS
            .iter()
            .find_map(|path| existing(Utf8Path::new(path)))
            .map(ClusterAccess::Kubeconfig)
            .or_else(|| existing(Utf8Path::new(SERVICE_ACCOUNT)).map(|_| ClusterAccess::InCluster)),
    }
}
