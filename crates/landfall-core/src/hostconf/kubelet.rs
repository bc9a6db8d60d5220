//! The kubelet: a login file for each registry, the `CredentialProviderConfig` that names our plug-in, and the two
//! flags.
//!
//! The kubelet reads the configuration at its start and the plug-in reads the login files at every pull. The
//! configuration therefore matches every host without a port, for each number of labels, so that a new registry needs
//! no restart. Wildcards do not match ports, so hosts with a port are listed.

use std::collections::{BTreeMap, BTreeSet};

use camino::{Utf8Path, Utf8PathBuf};

use super::{Fragment, HEADER, HostFile, Rendering, file_stem};
use crate::credential::{PathLogin, StoredLogin, render_login_file};
use crate::reference::RegistryHost;
use crate::settings::{RegistryRole, RegistrySettings, Settings};

/// The directory in which the plug-in looks for login files.
pub const LOGIN_DIRECTORY: &str = "/etc/kubernetes/registries";
/// The directory of the configuration.
pub const CONFIG_DIRECTORY: &str = "/etc/kubernetes";
/// The configuration that the kubelet's flag names.
pub const CONFIG_PATH: &str = "/etc/kubernetes/landfall-credential-provider.yaml";
/// The directory in which the package installs the link under the plug-in's name. The kubelet runs only plug-ins that
/// the configuration names.
pub const BIN_DIRECTORY: &str = "/usr/libexec/landfall";
/// The plug-in's name: the kubelet runs the file of this name.
pub const PLUGIN: &str = "landfall-credential-provider";
/// Hosts of up to this many labels always match: `localhost` to `<account>.dkr.ecr.<region>.amazonaws.com`.
const LABELS_MAX: usize = 6;
/// Order of precedence at the same scope: the login for pulls, then that of a pack, then that of the provider image
/// [spec:resolution.credentials].
const ROLES: [RegistryRole; 4] = [
    RegistryRole::External,
    RegistryRole::Primary,
    RegistryRole::Pack,
    RegistryRole::Provider,
];

/// Renders login files, configuration and flags.
#[must_use]
pub fn render_kubelet(settings: &Settings) -> Rendering {
    let mut files = render_logins(settings);
    files.push(HostFile {
        path: CONFIG_PATH.into(),
        mode: 0o644,
        content: render_config(&hosts_in_use(settings)).into(),
    });
    Rendering {
        files,
        fragments: render_flags(),
        gaps: Vec::new(),
    }
}

/// Renders the file of each registry that has a login, mode 0600.
#[must_use]
pub fn render_logins(settings: &Settings) -> Vec<HostFile> {
    #[derive(Default)]
    struct Logins {
        general: Option<StoredLogin>,
        paths: Vec<PathLogin>,
    }
    let mut hosts: BTreeMap<&RegistryHost, Logins> = BTreeMap::new();
    for registry in with_login(settings) {
        let Some(login) = &registry.login else { continue };
        let login = StoredLogin {
            username: login.username.clone(),
            password: login.password.clone(),
        };
        let logins = hosts.entry(&registry.host).or_default();
        if registry.path.is_empty() {
            logins.general.get_or_insert(login);
        } else if logins.paths.iter().all(|known| known.path != registry.path) {
            logins.paths.push(PathLogin {
                path: registry.path.clone(),
                login,
            });
        }
    }
    hosts
        .iter()
        .map(|(host, logins)| HostFile {
            path: login_path(host),
            mode: 0o600,
            content: render_login_file(logins.general.as_ref(), &logins.paths),
        })
        .collect()
}

fn login_path(host: &RegistryHost) -> Utf8PathBuf {
    Utf8Path::new(LOGIN_DIRECTORY).join(format!("{}.json", file_stem(host)))
}

fn with_login(settings: &Settings) -> impl Iterator<Item = &RegistrySettings> {
    ROLES.iter().flat_map(|role| {
        settings
            .registries
            .iter()
            .filter(move |registry| registry.role == *role)
    })
}

fn hosts_in_use(settings: &Settings) -> BTreeSet<&RegistryHost> {
    settings
        .registries
        .iter()
        .map(|registry| &registry.host)
        .chain(settings.primary.iter().map(|primary| &primary.endpoint))
        .collect()
}

/// Renders the configuration: every host without a port, and these hosts with their ports.
#[must_use]
pub fn render_config(hosts: &BTreeSet<&RegistryHost>) -> String {
    let mut text = HEADER.to_owned();
    text.push_str(
        "apiVersion: kubelet.config.k8s.io/v1\n\
         kind: CredentialProviderConfig\n\
         providers:\n",
    );
    text.push_str(&format!("  - name: {PLUGIN}\n"));
    text.push_str("    apiVersion: credentialprovider.kubelet.k8s.io/v1\n");
    // Without this field the kubelet does not start.
    text.push_str("    defaultCacheDuration: 5m0s\n");
    text.push_str("    matchImages:\n");
    for pattern in match_images(hosts) {
        text.push_str(&format!("      - \"{pattern}\"\n"));
    }
    text
}

/// Returns `matchImages`. `*` stands for one label, so each number of labels needs its own pattern. A host with a port
/// matches only a pattern with that port.
fn match_images(hosts: &BTreeSet<&RegistryHost>) -> Vec<String> {
    let labels = hosts
        .iter()
        .map(|host| host.name().split('.').count())
        .max()
        .unwrap_or(0);
    let mut patterns: Vec<String> = (1..=labels.max(LABELS_MAX))
        .map(|labels| vec!["*"; labels].join("."))
        .collect();
    patterns.extend(
        hosts
            .iter()
            .filter(|host| host.port().is_some())
            .map(ToString::to_string),
    );
    patterns
}

/// Renders the flags for each way to set them.
#[must_use]
pub fn render_flags() -> Vec<Fragment> {
    let flags = [
        ("image-credential-provider-config", CONFIG_PATH),
        ("image-credential-provider-bin-dir", BIN_DIRECTORY),
    ];
    let lines = |line: &dyn Fn(&str, &str) -> String| -> String {
        flags.iter().map(|(flag, value)| line(flag, value)).collect()
    };
    let both_kinds = |text: &str| -> String {
        ["InitConfiguration", "JoinConfiguration"]
            .map(|kind| format!("kind: {kind}\nnodeRegistration:\n  kubeletExtraArgs:\n{text}"))
            .join("---\n")
    };
    vec![
        Fragment {
            place: "kubeadm, apiVersion kubeadm.k8s.io/v1beta3 (in the profile: `cluster.config` of the Kubernetes pack)".to_owned(),
            text: both_kinds(&lines(&|flag, value| format!("    {flag}: {value}\n"))),
        },
        Fragment {
            place: "kubeadm, apiVersion kubeadm.k8s.io/v1beta4 (in the profile: `cluster.config` of the Kubernetes pack)".to_owned(),
            text: both_kinds(&lines(&|flag, value| format!("    - name: {flag}\n      value: {value}\n"))),
        },
        Fragment {
            place: "K3s: /etc/rancher/k3s/config.yaml.d/90-landfall.yaml; RKE2: /etc/rancher/rke2/config.yaml.d/90-landfall.yaml".to_owned(),
            text: format!("kubelet-arg+:\n{}", lines(&|flag, value| format!("  - {flag}={value}\n"))),
        },
        Fragment {
            place: "any other kubelet: its command line, e.g. KUBELET_EXTRA_ARGS in a systemd drop-in".to_owned(),
            text: lines(&|flag, value| format!("--{flag}={value}\n")),
        },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credential::kubelet_pattern_matches;

    fn hosts(names: &[&str]) -> Vec<RegistryHost> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    #[test]
    fn the_configuration_names_every_depth_and_the_ports_in_use() {
        let hosts = hosts(&["10.10.100.45:30003", "reg:5000", "gcr.io"]);
        insta::assert_snapshot!(render_config(&hosts.iter().collect()), @r#"
        # managed by landfall: changes are overwritten; to keep your own version, remove this line
        apiVersion: kubelet.config.k8s.io/v1
        kind: CredentialProviderConfig
        providers:
          - name: landfall-credential-provider
            apiVersion: credentialprovider.kubelet.k8s.io/v1
            defaultCacheDuration: 5m0s
            matchImages:
              - "*"
              - "*.*"
              - "*.*.*"
              - "*.*.*.*"
              - "*.*.*.*.*"
              - "*.*.*.*.*.*"
              - "10.10.100.45:30003"
              - "reg:5000"
        "#);
    }

    #[test]
    fn the_plug_in_is_asked_about_every_host_in_use() {
        let hosts = hosts(&[
            "reg:5000",
            "[fd00::1]:5000",
            "a.b.c.d.e.f.g.example.com",
            "a.b.c.d.e.f.g.h.example.com:443",
            "localhost",
        ]);
        let patterns = match_images(&hosts.iter().collect());
        for host in &hosts {
            let image = format!("{host}/a/b:1");
            assert!(
                patterns.iter().any(|pattern| kubelet_pattern_matches(pattern, &image)),
                "{image}"
            );
        }
    }

    #[test]
    fn the_flags_are_written_as_each_distribution_wants_them() {
        let shown: String = render_flags()
            .iter()
            .map(|flags| format!("# {}\n{}\n", flags.place, flags.text))
            .collect();
        insta::assert_snapshot!(shown, @r"
        # kubeadm, apiVersion kubeadm.k8s.io/v1beta3 (in the profile: `cluster.config` of the Kubernetes pack)
        kind: InitConfiguration
        nodeRegistration:
          kubeletExtraArgs:
            image-credential-provider-config: /etc/kubernetes/landfall-credential-provider.yaml
            image-credential-provider-bin-dir: /usr/libexec/landfall
        ---
        kind: JoinConfiguration
        nodeRegistration:
          kubeletExtraArgs:
            image-credential-provider-config: /etc/kubernetes/landfall-credential-provider.yaml
            image-credential-provider-bin-dir: /usr/libexec/landfall

        # kubeadm, apiVersion kubeadm.k8s.io/v1beta4 (in the profile: `cluster.config` of the Kubernetes pack)
        kind: InitConfiguration
        nodeRegistration:
          kubeletExtraArgs:
            - name: image-credential-provider-config
              value: /etc/kubernetes/landfall-credential-provider.yaml
            - name: image-credential-provider-bin-dir
              value: /usr/libexec/landfall
        ---
        kind: JoinConfiguration
        nodeRegistration:
          kubeletExtraArgs:
            - name: image-credential-provider-config
              value: /etc/kubernetes/landfall-credential-provider.yaml
            - name: image-credential-provider-bin-dir
              value: /usr/libexec/landfall

        # K3s: /etc/rancher/k3s/config.yaml.d/90-landfall.yaml; RKE2: /etc/rancher/rke2/config.yaml.d/90-landfall.yaml
        kubelet-arg+:
          - image-credential-provider-config=/etc/kubernetes/landfall-credential-provider.yaml
          - image-credential-provider-bin-dir=/usr/libexec/landfall

        # any other kubelet: its command line, e.g. KUBELET_EXTRA_ARGS in a systemd drop-in
        --image-credential-provider-config=/etc/kubernetes/landfall-credential-provider.yaml
        --image-credential-provider-bin-dir=/usr/libexec/landfall
        ");
    }
}
