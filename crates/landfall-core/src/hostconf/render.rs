//! Selection of the renderer for a dialect.

use crate::hostconf::containerd_config::{ContainerdFacts, ContainerdRelease};
use crate::hostconf::registries::Generation;
use crate::hostconf::{Rendering, admission_policy, containerd, core_images, kubelet, registries};
use crate::settings::{Dialect, Settings};

/// Facts about the programs that read the files on one host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostFacts {
    /// containerd as a program of its own.
    pub containerd: ContainerdFacts,
    /// The containerd inside K3s.
    pub k3s: Generation,
    /// The containerd inside RKE2.
    pub rke2: Generation,
}

impl HostFacts {
    /// Returns the facts of a host of which at most containerd's release is known.
    #[must_use]
    pub fn of_release(release: Option<ContainerdRelease>) -> HostFacts {
        let generation = match release {
            Some(release) if release.major >= 2 => Generation::Two,
            Some(_) => Generation::One,
            None => Generation::Unknown,
        };
        HostFacts {
            containerd: ContainerdFacts {
                release,
                ..ContainerdFacts::unknown("the host was not looked at")
            },
            k3s: generation,
            rke2: generation,
        }
    }
}

impl Default for HostFacts {
    /// Returns the facts of a host that was not looked at.
    fn default() -> HostFacts {
        HostFacts::of_release(None)
    }
}

/// Renders all files and texts of a dialect for a host of which nothing is known. The webhook's state makes no
/// difference: a user requests these files in addition to the webhook or instead of it.
#[must_use]
pub fn render(settings: &Settings, dialect: Dialect) -> Rendering {
    render_for(settings, dialect, &HostFacts::default())
}

/// Renders all files and texts of a dialect for a host.
#[must_use]
pub fn render_for(settings: &Settings, dialect: Dialect, facts: &HostFacts) -> Rendering {
    match dialect {
        Dialect::Kubelet => kubelet::render_kubelet(settings),
        Dialect::Containerd => containerd::render_containerd(settings, &facts.containerd),
        Dialect::K3s => registries::render_registries(settings, dialect, facts.k3s),
        Dialect::Rke2 => registries::render_registries(settings, dialect, facts.rke2),
        Dialect::Kubeadm => core_images::render_kubeadm(settings),
        Dialect::MutatingAdmissionPolicy => admission_policy::render_admission_policy(settings),
    }
}
