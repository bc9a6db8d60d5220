//! Client of containerd's API over its unix socket: names images, and writes their content.
//!
//! It uses the services that containerd 1.6, 1.7 and 2.x have in common (content, images, leases, namespaces, version),
//! and neither `ctr` nor the transfer service. Images are not unpacked: the CRI plug-in does that when it first needs
//! one. Every call has a timeout.
//!
//! The entry point is [`Containerd::connect`]; [`Namespace`] lists and names images, [`Import`] writes content.

mod children;
mod connection;
mod error;
mod import;
mod lease;
mod proto;
mod writer;

pub use self::connection::{Containerd, Namespace};
pub use self::error::{ContainerdError, GrpcStatus};
pub use self::import::{BlobPresence, Import, WriteBlobError};

/// The namespace in which the kubelet's containerd keeps its images.
pub const KUBERNETES_NAMESPACE: &str = "k8s.io";
/// The image label that protects an image from the kubelet's garbage collection (containerd 1.7 and later; earlier
/// versions ignore it). Core images carry it, because no registry could restore them.
pub const PINNED_LABEL: (&str, &str) = ("io.cri-containerd.pinned", "pinned");
