//! Chooses the renderer of a dialect.

use crate::hostconf::{Rendering, admission_policy, containerd, core_images, kubelet, registries};
use crate::settings::{Dialect, Settings};

/// Renders everything that a dialect needs. Whether the webhook is on makes no difference: these files are what a user
/// asks for beside it or in its place.
#[must_use]
pub fn render(settings: &Settings, dialect: Dialect) -> Rendering {
    match dialect {
        Dialect::Kubelet => kubelet::render_kubelet(settings),
        Dialect::Containerd => containerd::render_containerd(settings),
        Dialect::K3s | Dialect::Rke2 => registries::render_registries(settings, dialect),
        Dialect::Kubeadm => core_images::render_kubeadm(settings),
        Dialect::MutatingAdmissionPolicy => admission_policy::render_admission_policy(settings),
    }
}
