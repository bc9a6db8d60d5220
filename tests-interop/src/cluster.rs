//! A real Kubernetes of one node on loopback: etcd, kube-apiserver, kube-controller-manager, kube-scheduler, containerd and
//! kubelet, built from their pinned Go modules (`tests-interop/tools/tools.sh`), and CNI plug-ins and runc from Debian.
//!
//! Start reading at [`machine`]: it is what runs inside. [`Cluster`] is the handle of a test, `landfall-test-cluster` the program
//! of both the test and `make cluster-up`.
//!
//! The whole cluster is one program's descendants in a PID and a mount namespace of their own. When that program ends, for
//! whatever reason, the kernel ends every process of the cluster and takes all its mounts away with it; what lies outside
//! of the namespaces (a bridge, control groups, a directory) goes in [`remains`].

pub mod client;
mod components;
mod credentials;
pub mod edge;
mod forward;
mod handle;
pub mod images;
pub mod machine;
mod node;
pub mod remains;

pub use handle::{ADMIN_KUBECONFIG, CONTAINERD_SOCKET, Cluster, enter};
