//! The settings: user-data and profiles, checked and merged. [`crate::config`] makes them, and all later stages read
//! them.

mod bundles;
mod site;
mod token_server;
mod update;

use std::collections::BTreeMap;
use std::sync::Arc;

use camino::Utf8PathBuf;
use secrecy::SecretString;
use serde::Serialize;

use crate::diagnostic::Location;
use crate::opt_out::OptOut;
use crate::reference::{ImageReference, RegistryHost};
use crate::stage::StageStep;

pub use bundles::{BundlePolicy, BundleSettings, KeySource};
pub use site::{PEER_PORT, SiteSettings};
pub use token_server::{NotATokenServer, TokenServer};
pub use update::{UpdateDriver, UpdateSettings};

/// The user-data and the profiles, checked and merged.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `stylus.managementMode`.
    pub management_mode: ManagementMode,
    /// `--compat palette` reproduces the limits of the original.
    pub compat: Compat,
    /// Every registry that the user named, with its credentials and trust anchors [spec:combinations].
    pub registries: Vec<RegistrySettings>,
    /// The active mapping rules, in the order of the file. `imageReplacementRules` replaces `registryMappingRules` as a
    /// whole if both exist [spec:resolution.mapping].
    pub rules: Vec<MappingRule>,
    /// The primary registry, if there is one.
    pub primary: Option<Primary>,
    /// `stylus.imageRedirectWebhook`.
    pub webhook: Webhook,
    /// `stylus.site.network`.
    pub network: Network,
    /// `stylus.site.caCerts`, PEM.
    pub ca_certificates: Vec<Arc<str>>,
    /// `stylus.localUI.port`.
    pub local_ui_port: u16,
    /// Every image of every profile, in the order of the files. The provider image is first.
    pub images: Vec<ProfileImage>,
    /// Namespaces that opt out of the webhook by their labels in a profile (`pack.namespaceLabels`).
    pub namespace_opt_outs: BTreeMap<String, OptOut>,
    /// `stages.*` of the user-data and the profiles, in the order of execution within each stage.
    pub stages: BTreeMap<String, Vec<StageStep>>,
    /// `landfall.*`: our own settings.
    pub landfall: OwnSettings,
    /// The profiles that could be read.
    pub profiles: Vec<ProfileName>,
    /// The parts of the inputs that could not be read. No statement may be made from their absence
    /// [spec:combinations.unknown].
    pub unknown: Unknowns,
}

/// Name and version of a profile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProfileName {
    /// `metadata.name`, or the name of the file.
    pub name: String,
    /// `spec.version`, as it is written.
    pub version: Option<String>,
}

/// The parts of the inputs that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Unknowns {
    /// The reasons why it is not known which registry serves an image. Empty if it is known.
    pub sources: Vec<Unknown>,
    /// The reasons why the list of images is not complete. Empty if it is complete.
    pub images: Vec<Unknown>,
    /// The reasons why labels of namespaces are not known. Empty if they are.
    pub namespaces: Vec<Unknown>,
}

impl Unknowns {
    /// Returns the reason why the registries must not be asked: it is not known where images come from, or a whole
    /// profile is missing.
    #[must_use]
    pub fn stops(&self) -> Option<&Unknown> {
        let whole_profile = self.images.iter().find(|unknown| unknown.is_whole_file);
        self.sources.first().or(whole_profile)
    }
}

/// A part of the inputs that could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unknown {
    /// The position of the first error in it.
    pub location: Location,
    /// The error, in a clause.
    pub message: String,
    /// True if nothing of the file could be read.
    pub is_whole_file: bool,
}

impl std::fmt::Display for Unknown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Unknown { location, message, .. } = self;
        if self.is_whole_file {
            write!(
                f,
                "`{}` cannot be read: {message} (line {})",
                location.file, location.line
            )
        } else {
            write!(f, "{}:{}: {message}", location.file, location.line)
        }
    }
}

/// The manager of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ManagementMode {
    /// By a central Palette.
    #[default]
    Central,
    /// On its own; air-gapped.
    Local,
}

/// The program whose behaviour Landfall shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Compat {
    /// Landfall's own: the original's limitations are lifted.
    #[default]
    None,
    /// The original's [spec:combinations].
    Palette,
}

/// The purpose of a registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RegistryRole {
    /// `stylus.registryCredentials` or `stylus.externalRegistries.registries[]`.
    External,
    /// `providerCredentials` of the OS pack, for the provider image only.
    Provider,
    /// `charts.registry-connect.config.registry.credentials[]`: credentials without redirection.
    Pack,
    /// The primary registry.
    Primary,
}

/// One registry, with the trust anchors and the login for it.
#[derive(Debug, Clone)]
pub struct RegistrySettings {
    pub role: RegistryRole,
    /// `host[:port]`.
    pub host: RegistryHost,
    /// The path behind the host, without slashes at its ends; often empty.
    pub path: String,
    /// The login; `None` is anonymous.
    pub login: Option<Login>,
    /// TLS without verification, and plain HTTP if the server speaks no TLS [spec:resolution.insecure].
    pub insecure: bool,
    /// Trust anchors for this registry, PEM.
    pub certificates: Vec<Arc<str>>,
    /// Shown to the user; never a part of a path.
    pub repository_name: Option<String>,
    pub location: Location,
}

impl RegistrySettings {
    /// Returns `host[:port][/path]`, as the user writes it.
    #[must_use]
    pub fn address(&self) -> String {
        if self.path.is_empty() {
            self.host.to_string()
        } else {
            format!("{}/{}", self.host, self.path)
        }
    }
}

/// User name and password for basic authentication.
#[derive(Debug, Clone)]
pub struct Login {
    pub username: String,
    /// The password, decoded.
    pub password: SecretString,
    /// The key to correct if the registry refuses the password.
    pub location: Location,
}

/// A mapping rule: images below `from` come from `to` [spec:resolution.mapping].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MappingRule {
    /// The source prefix.
    pub from: RulePrefix,
    pub to_host: RegistryHost,
    /// The target's path, without slashes at its ends; may be empty.
    pub to_path: String,
    pub location: Location,
}

/// The source side of a mapping rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum RulePrefix {
    /// The key `all`: the target is prepended to every image.
    All,
    /// A host and whole path segments below it.
    Path {
        /// The canonical host.
        host: RegistryHost,
        /// The path, without slashes at its ends; may be empty.
        path: String,
    },
}

/// The primary registry [spec:primary].
#[derive(Debug, Clone, Serialize)]
pub struct Primary {
    pub kind: PrimaryKind,
    /// `host:port` as nodes and pods name it.
    pub endpoint: RegistryHost,
    /// The project in front of every path; `spectro-images`.
    pub project: String,
    /// `content.sync.enable`: true if images that the primary registry lacks may come from the internet.
    pub sync: bool,
    /// The position in the file, if the user wrote it.
    pub location: Option<Location>,
}

impl Settings {
    /// Returns true if no image is taken from a bundle: as Palette, with an external registry and no primary registry
    /// [spec:combinations.compat].
    #[must_use]
    pub fn ignores_bundles(&self) -> bool {
        let mut roles = self.registries.iter().map(|registry| registry.role);
        let has_external = roles.any(|role| role == RegistryRole::External);
        self.compat == Compat::Palette && has_external && self.primary.is_none()
    }

    /// Returns the address to which the embedded registry binds: `landfall.primary.listen`, else the endpoint.
    #[must_use]
    pub fn primary_address(&self, primary: &Primary) -> String {
        match (&self.landfall.primary_listen, primary.endpoint.port()) {
            (Some(listen), _) => listen.clone(),
            (None, Some(_)) => primary.endpoint.to_string(),
            (None, None) => format!("{}:443", primary.endpoint),
        }
    }

    /// Returns true if the embedded registry speaks TLS. It serves plain HTTP only on loopback, where no other host can
    /// read the traffic.
    #[must_use]
    pub fn primary_speaks_tls(&self, primary: &Primary) -> bool {
        let address = self.primary_address(primary);
        let is_loopback = || address.parse().is_ok_and(|host: RegistryHost| host.is_loopback());
        match self.landfall.primary_tls {
            PrimaryTls::On => true,
            PrimaryTls::Auto => !is_loopback(),
        }
    }
}

/// The server behind the primary registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PrimaryKind {
    /// Landfall's own.
    #[default]
    Embedded,
    /// An existing OCI registry, including Zot.
    Registry,
    /// Harbor. The agent creates the project by Harbor's API.
    Harbor,
}

/// `stylus.imageRedirectWebhook`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Webhook {
    /// True if pulls are redirected [spec:webhook-off].
    pub enable: bool,
    /// The port; `None` if the user wrote 0 or nothing.
    pub port: Option<u16>,
}

/// `stylus.site.network`.
#[derive(Debug, Clone, Default)]
pub struct Network {
    /// Proxy for plain HTTP. Its URL may hold a password, so it is a secret.
    pub http_proxy: Option<SecretString>,
    pub https_proxy: Option<SecretString>,
    /// Hosts, domains and CIDRs that are reached directly.
    pub no_proxy: Option<String>,
}

/// The role of an image of a profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ImageRole {
    /// The image of OS and Kubernetes: always first, never in the primary registry.
    Provider,
    /// An image of an infrastructure layer (os, k8s, cni, csi): never in the primary registry.
    Infrastructure,
    /// An image of any other layer.
    Application,
}

/// The part of a profile that names an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Finding {
    /// `pack.content.images` or `system.uri`.
    Declared,
    /// A pod spec in a manifest.
    Discovered,
}

/// One image that a profile needs. An image of several packs is listed once, at its first position, with the role that
/// is closest to the infrastructure.
#[derive(Debug, Clone, Serialize)]
pub struct ProfileImage {
    /// The text of the file, after templates.
    pub source: String,
    /// The parsed reference: host and path are canonical, tag and digest as written.
    pub reference: ImageReference,
    pub role: ImageRole,
    /// `os`, `k8s`, `cni`, `csi` or `addon`.
    pub layer: String,
    pub pack: String,
    pub profile: String,
    pub finding: Finding,
    pub location: Location,
}

/// `landfall.*` in the user-data: Landfall's own settings. An unknown key here is an error.
#[derive(Debug, Clone, Serialize)]
pub struct OwnSettings {
    /// `landfall.stateDir`: the directory of all state; `/var/lib/landfall`.
    pub state_dir: Utf8PathBuf,
    /// `landfall.containerd.socket`: a unix socket; `/run/containerd/containerd.sock`.
    pub containerd_socket: Utf8PathBuf,
    /// `landfall.containerd.config`: containerd's main configuration file; `/etc/containerd/config.toml`.
    pub containerd_config: Utf8PathBuf,
    /// `landfall.containerd.enable`: false on a host without containerd. The core images then stay in the store.
    pub containerd_enable: bool,
    /// `landfall.concurrency`: parallel transfers of blobs, four times as many for small blobs; 8.
    pub concurrency: usize,
    /// `landfall.bandwidthLimit`: bytes a second for all downloads together; none.
    pub bandwidth_limit: Option<u64>,
    /// `landfall.credentialsFile`: logins beside those of the user-data, in Palette's or docker's form; none.
    pub credentials_file: Option<Utf8PathBuf>,
    /// `landfall.tokenServers`: token servers outside of a registry's own domain that may receive its login; none.
    pub token_servers: Vec<TokenServer>,
    /// `landfall.reconcileInterval`: seconds between reconciliations; 300.
    pub reconcile_interval_seconds: u64,
    /// `landfall.listen`: the address of `/healthz`, `/readyz`, `/metrics` and the status API;
    /// `127.0.0.1:<localUI.port>`.
    pub listen: Option<String>,
    /// `landfall.webhook.listen`: host part of the webhook's address; `127.0.0.1`.
    pub webhook_listen: String,
    /// `landfall.webhook.*` except `listen`.
    pub webhook: WebhookPolicy,
    /// `landfall.kubernetes.*`: access to the API of the cluster.
    pub kubernetes: KubernetesAccess,
    /// `landfall.primary.listen`: the address to which the embedded registry binds; the endpoint.
    pub primary_listen: Option<String>,
    /// `landfall.primary.tls`: TLS of the embedded registry.
    pub primary_tls: PrimaryTls,
    /// `landfall.kubelet.enable`: true if the agent writes the login files and plug-in configuration of the kubelet;
    /// true.
    pub kubelet_enable: bool,
    /// `landfall.mirror`: redirection on the node itself [spec:mirror-files].
    pub mirror: MirrorSettings,
    /// `landfall.bundles`: files that carry images to hosts without a network.
    pub bundles: BundleSettings,
    /// `landfall.site`: the hosts of a site that work together.
    pub site: SiteSettings,
    /// `landfall.update`: updates of the hosts.
    pub update: UpdateSettings,
}

/// `landfall.mirror`: redirection on the node itself, by files that carry the rules to the container runtime. The user
/// asks for it explicitly, so it does not depend on the webhook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MirrorSettings {
    /// `enable`: true if the agent serves a pull-through endpoint on loopback and the files name it; false.
    pub enable: bool,
    /// `listen`: the address of that endpoint; `127.0.0.1:5081`.
    pub listen: String,
    /// `files`: the container runtimes for which the agent writes mirror files; none.
    pub files: Vec<Dialect>,
    /// `hosts`: registries that get a mirror file, in addition to those of the profiles' images; none.
    pub hosts: Vec<RegistryHost>,
    /// The names in `hosts` that are not in canonical form, as the user wrote them: a runtime looks for a file by the
    /// name in the image [spec:mirror-files.names].
    pub spellings: Vec<String>,
}

impl Default for MirrorSettings {
    fn default() -> MirrorSettings {
        MirrorSettings {
            enable: false,
            listen: "127.0.0.1:5081".to_owned(),
            files: Vec::new(),
            hosts: Vec::new(),
            spellings: Vec::new(),
        }
    }
}

/// `landfall.webhook.*`: the decisions of the webhook and its registration with the API server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WebhookPolicy {
    /// `failurePolicy`: the reaction of the API server to a webhook that it cannot reach.
    pub failure: FailurePolicy,
    /// `timeoutSeconds`: the time for which the API server waits for an answer; 2.
    pub timeout_seconds: u16,
    /// `observeOnly`: true if the webhook decides, counts and warns, but changes no image.
    pub observe_only: bool,
    /// `sweepInterval`: seconds between two searches for pods that the webhook missed; 10. 0 turns the search off.
    pub sweep_interval_seconds: u32,
    /// `rotationOverlap`: seconds between the announcement of a new certificate authority to the API servers and its
    /// first use; 60.
    pub rotation_overlap_seconds: u32,
    /// `url`: the address of the webhook for the API servers; on the loopback of this host.
    pub url: Option<String>,
    /// `service`: the service in front of the webhook, for an agent in the cluster.
    pub service: Option<ServiceName>,
}

impl Default for WebhookPolicy {
    fn default() -> WebhookPolicy {
        WebhookPolicy {
            failure: FailurePolicy::Ignore,
            timeout_seconds: 2,
            observe_only: false,
            sweep_interval_seconds: 10,
            rotation_overlap_seconds: 60,
            url: None,
            service: None,
        }
    }
}

/// The reaction of the API server to a webhook that it cannot reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub enum FailurePolicy {
    /// The API server creates the pod unchanged. The sweeper corrects it later.
    #[default]
    Ignore,
    /// The API server refuses the pod.
    Fail,
}

impl FailurePolicy {
    /// Returns the name as Kubernetes writes it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            FailurePolicy::Ignore => "Ignore",
            FailurePolicy::Fail => "Fail",
        }
    }
}

/// A service of the cluster, `namespace/name`. The webhook is at its port 443.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ServiceName {
    pub namespace: String,
    pub name: String,
}

/// `landfall.kubernetes.*`: access to the API of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KubernetesAccess {
    /// `enable`: false if the agent must not use the API of the cluster. A person then registers the webhook.
    pub enable: bool,
    /// `kubeconfig`: the file with the address of the API and the credentials. `None`: the first existing file of
    /// kubeadm, K3s and RKE2.
    pub kubeconfig: Option<Utf8PathBuf>,
    /// `namespace`: the namespace of the Lease and of the Secret with the certificate authority; `kube-system`.
    pub namespace: String,
}

impl Default for KubernetesAccess {
    fn default() -> KubernetesAccess {
        KubernetesAccess {
            enable: true,
            kubeconfig: None,
            namespace: "kube-system".to_owned(),
        }
    }
}

/// TLS of the embedded registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PrimaryTls {
    /// On, with a self-made certificate, unless the registry listens on loopback.
    #[default]
    Auto,
    /// Always on.
    On,
}

impl Default for OwnSettings {
    fn default() -> OwnSettings {
        OwnSettings {
            state_dir: Utf8PathBuf::from("/var/lib/landfall"),
            containerd_socket: Utf8PathBuf::from("/run/containerd/containerd.sock"),
            containerd_config: Utf8PathBuf::from("/etc/containerd/config.toml"),
            containerd_enable: true,
            concurrency: 8,
            bandwidth_limit: None,
            credentials_file: None,
            token_servers: Vec::new(),
            reconcile_interval_seconds: 300,
            listen: None,
            webhook_listen: "127.0.0.1".to_owned(),
            webhook: WebhookPolicy::default(),
            kubernetes: KubernetesAccess::default(),
            primary_listen: None,
            primary_tls: PrimaryTls::Auto,
            kubelet_enable: true,
            mirror: MirrorSettings::default(),
            bundles: BundleSettings::default(),
            site: SiteSettings::default(),
            update: UpdateSettings::default(),
        }
    }
}

/// The reader of rendered files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Dialect {
    /// containerd with `config_path`: `hosts.toml` files.
    Containerd,
    /// K3s: `/etc/rancher/k3s/registries.yaml`.
    K3s,
    /// RKE2: `/etc/rancher/rke2/registries.yaml`.
    Rke2,
    /// kubeadm: settings of core images and kubelet flags.
    Kubeadm,
    /// The kubelet: login files and `CredentialProviderConfig`.
    Kubelet,
    /// The API server: a MutatingAdmissionPolicy that replaces the webhook.
    #[serde(rename = "mutating-admission-policy")]
    MutatingAdmissionPolicy,
}

impl Dialect {
    /// Returns the name on the command line and in the manifest of our files.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Dialect::Containerd => "containerd",
            Dialect::K3s => "k3s",
            Dialect::Rke2 => "rke2",
            Dialect::Kubeadm => "kubeadm",
            Dialect::Kubelet => "kubelet",
            Dialect::MutatingAdmissionPolicy => "mutating-admission-policy",
        }
    }
}

impl Default for Settings {
    /// Returns the settings of an empty user-data without a profile.
    fn default() -> Settings {
        Settings {
            management_mode: ManagementMode::default(),
            compat: Compat::default(),
            registries: Vec::new(),
            rules: Vec::new(),
            primary: None,
            webhook: Webhook {
                enable: true,
                port: None,
            },
            network: Network::default(),
            ca_certificates: Vec::new(),
            local_ui_port: 5080,
            images: Vec::new(),
            namespace_opt_outs: BTreeMap::new(),
            stages: BTreeMap::new(),
            landfall: OwnSettings::default(),
            profiles: Vec::new(),
            unknown: Unknowns::default(),
        }
    }
}
