//! Real Kubernetes with one node on loopback: etcd, kube-apiserver, kube-controller-manager, kube-scheduler,
//! containerd and kubelet, built from their pinned Go modules (`tests-interop/tools/tools.sh`), with CNI
//! plug-ins and runc from Debian.
//!
//! Start reading at [`init`], the process inside. [`Cluster`] is the handle of a test,
//! `landfall-test-cluster` the program of both the test and `make cluster-up`.
//!
//! All processes of the cluster are descendants of one program in a PID namespace and a mount namespace. When
//! that program ends, for any reason, the kernel kills every process of the cluster and drops all its mounts.
//! The resources outside of the namespaces (a bridge, control groups, a directory) are removed by [`host_resources`].

pub mod client;
mod components;
mod credentials;
pub mod edge_cluster;
mod handle;
pub mod host_resources;
pub mod images;
pub mod init;
mod node;
mod port_forward;

pub use handle::{ADMIN_KUBECONFIG, Cluster, enter};
pub use node::CONTAINERD_SOCKET;
