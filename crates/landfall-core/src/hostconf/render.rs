//! Selection of the renderer for a dialect.

use crate::hostconf::{Rendering, admission_policy, containerd, core_images, kubelet, registries};
use crate::settings::{Dialect, Settings};

/// Renders all files and texts of a dialect. The webhook's state makes no difference: a user requests these files in
/// addition to the webhook or instead of it.
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
