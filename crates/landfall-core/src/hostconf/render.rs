//! Choice of the renderer for a dialect.

use crate::hostconf::{Rendering, admission_policy, containerd, core_images, kubelet, registries};
use crate::settings::{Dialect, Settings};

/// Renders everything that a dialect needs. The switch of the webhook does not count: a user asks for these files beside
/// the webhook or in its place.
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
