//! Finds the way to the cluster's API on this host.

use camino::{Utf8Path, Utf8PathBuf};
use landfall_host::root::HostRoot;

/// Where the distributions keep the kubeconfig of a control-plane host: kubeadm, K3s, RKE2.
const KUBECONFIGS: [&str; 3] = [
    "/etc/kubernetes/admin.conf",
    "/etc/rancher/k3s/k3s.yaml",
    "/etc/rancher/rke2/rke2.yaml",
];
/// Where a pod finds its service account.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

/// How the cluster is reached.
pub(crate) enum Access {
    Kubeconfig(Utf8PathBuf),
    InCluster,
}

impl Access {
    pub(crate) fn kubeconfig(&self) -> Option<&Utf8Path> {
        match self {
            Access::Kubeconfig(path) => Some(path),
            Access::InCluster => None,
        }
    }
}

/// The kubeconfig that the settings name, otherwise the first of those that a control-plane host has, otherwise the
/// service account of a pod. A host that is none of these has no cluster side.
pub(crate) fn find_access(root: &HostRoot, configured: Option<&Utf8Path>) -> Option<Access> {
    let existing = |path: &Utf8Path| root.join(path).ok().filter(|path| path.is_file());
    match configured {
        Some(path) => existing(path).map(Access::Kubeconfig),
        None => (KUBECONFIGS.iter())
            .find_map(|path| existing(Utf8Path::new(path)))
            .map(Access::Kubeconfig)
            .or_else(|| existing(Utf8Path::new(SERVICE_ACCOUNT)).map(|_| Access::InCluster)),
    }
}
