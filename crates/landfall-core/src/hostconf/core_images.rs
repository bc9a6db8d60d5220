//! Core images of a Kubernetes distribution that pulls them: `imageRepository` of kubeadm, `system-default-registry` of
//! K3s and RKE2. Their layouts differ from those of the rules; a rule that does not fit is a gap.

use super::kubelet::render_flags;
use super::{Fragment, Gap, Rendering};
use crate::reference::parse_reference;
use crate::resolve::{CandidateKind, Resolver};
use crate::settings::{Dialect, ImageRole, Settings};

/// Renders the settings for kubeadm's `ClusterConfiguration`, and the kubelet's flags.
#[must_use]
pub fn render_kubeadm(settings: &Settings) -> Rendering {
    let mut rendering = Rendering::default();
    // kubeadm substitutes one name for `registry.k8s.io`, and drops CoreDNS's sub-path for every other name.
    if let Some(repository) = target_of(settings, "registry.k8s.io/kube-apiserver", "kube-apiserver") {
        rendering.fragments.push(Fragment {
            place: "kubeadm (in the profile: `cluster.config` of the Kubernetes pack)".to_owned(),
            text: format!(
                "kind: ClusterConfiguration\nimageRepository: {repository}\ndns:\n  imageRepository: {repository}/coredns\n"
            ),
        });
        rendering.gaps.push(
            "the pause image is not kubeadm's: containerd's `sandbox_image` names it, and the provider image brings it"
                .to_owned()
                .into(),
        );
    } else {
        rendering.gaps.push(
            "the rules redirect no image of `registry.k8s.io`: kubeadm's `imageRepository` stays as it is"
                .to_owned()
                .into(),
        );
    }
    rendering.fragments.extend(
        render_flags()
            .into_iter()
            .filter(|flags| flags.place.starts_with("kubeadm")),
    );
    rendering
}

/// Renders `system-default-registry`, if the rules keep its layout: `<registry>/rancher/<image>`.
pub(super) fn render_default_registry(settings: &Settings, dialect: Dialect, gaps: &mut Vec<Gap>) -> Option<Fragment> {
    let registry = target_of(settings, "docker.io/rancher/mirrored-pause", "rancher/mirrored-pause")?;
    if registry.contains('/') {
        gaps.push(format!(
            "`system-default-registry` takes a registry without a path, and the core images are below `{registry}`: \
             leave it out, the mirror of `docker.io` serves them",
        ).into());
        return None;
    }
    Some(Fragment {
        place: format!(
            "/etc/rancher/{}/config.yaml.d/90-landfall.yaml, if the core images are to be pulled",
            dialect.name()
        ),
        text: format!("system-default-registry: {registry}\n"),
    })
}

/// Returns the redirected name of an image without the end of its name; `None` if the rules do not redirect it or
/// change that end.
fn target_of(settings: &Settings, image: &str, end: &str) -> Option<String> {
    let source = parse_reference(image).ok()?;
    let resolution = Resolver::new(settings).resolve_on_node(&source, ImageRole::Infrastructure);
    let candidate = resolution
        .candidates
        .iter()
        .find(|candidate| candidate.kind == CandidateKind::External)?;
    let name = format!("{}/{}", candidate.reference.host, candidate.reference.repository);
    Some(name.strip_suffix(end)?.trim_end_matches('/').to_owned())
}
