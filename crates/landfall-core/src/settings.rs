//! The types that the rest of the program works with: everything that the user wrote, checked and merged.

mod token_server;

use std::collections::BTreeMap;
use std::sync::Arc;

use camino::Utf8PathBuf;
use secrecy::SecretString;
use serde::Serialize;

use crate::diagnostic::Location;
use crate::opt_out::OptOut;
use crate::reference::{ImageReference, RegistryHost};
use crate::stage::StageStep;

pub use token_server::{NotATokenServer, TokenServer};

/// Everything the program needs to know of the user-data and the profiles, checked and merged.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `stylus.managementMode`.
    pub management_mode: ManagementMode,
    /// Whether the original's limitations are reproduced (`--compat palette`).
    pub compat: Compat,
    /// Every registry that the user named, with its credentials and trust: the one credential table (SPEC section 6).
    pub registries: Vec<Registry>,
    /// The mapping rules that are in force, in the order they were written. `imageReplacementRules` replaces
    /// `registryMappingRules` as a whole where both exist (SPEC section 5).
    pub rules: Vec<MappingRule>,
    /// The primary registry, when there is one.
    pub primary: Option<Primary>,
    /// `stylus.imageRedirectWebhook`.
    pub webhook: Webhook,
    /// `stylus.site.network`.
    pub network: Network,
    /// `stylus.site.caCerts`, PEM.
    pub ca_certificates: Vec<Arc<str>>,
    /// `stylus.localUI.port`.
    pub local_ui_port: u16,
    /// Every image of every profile, in the order in which they are written; provider image first.
    pub images: Vec<ProfileImage>,
    /// Namespaces whose labels in the profile (`pack.namespaceLabels`) keep the webhook away.
    pub namespace_opt_outs: BTreeMap<String, OptOut>,
    /// `stages.*` of the user-data and the profiles, in the order of execution within each stage.
    pub stages: BTreeMap<String, Vec<StageStep>>,
    /// `landfall.*`: our own settings.
    pub landfall: OwnSettings,
}

/// Who manages the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ManagementMode {
    /// By a central Palette.
    #[default]
    Central,
    /// On its own; air-gapped.
    Local,
}

/// Whose behaviour is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Compat {
    /// Landfall's own: the original's limitations are lifted.
    #[default]
    None,
    /// The original's (SPEC section 6).
    Palette,
}

/// What a registry of the user's is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RegistryRole {
    /// `stylus.registryCredentials` or `stylus.externalRegistries.registries[]`.
    External,
    /// `providerCredentials` of the OS pack: the provider image only.
    Provider,
    /// `charts.registry-connect.config.registry.credentials[]`: credentials, no redirection.
    Pack,
    /// The primary registry.
    Primary,
}

/// One registry: where it is, how it is trusted and who we are there.
#[derive(Debug, Clone)]
pub struct Registry {
    /// What it is for.
    pub role: RegistryRole,
    /// `host[:port]`.
    pub host: RegistryHost,
    /// The path behind the host, without slashes at its ends; often empty.
    pub path: String,
    /// Name and password; `None` is anonymous.
    pub login: Option<Login>,
    /// TLS without verification, and plain HTTP if the server speaks no TLS (SPEC section 5).
    pub insecure: bool,
    /// Trust anchors for this registry, PEM.
    pub certificates: Vec<Arc<str>>,
    /// Kept and shown; never put into a path.
    pub repository_name: Option<String>,
    /// Where it is written.
    pub location: Location,
}

impl Registry {
    /// `host[:port][/path]`, as the user names it.
    #[must_use]
    pub fn address(&self) -> String {
        if self.path.is_empty() {
            self.host.to_string()
        } else {
            format!("{}/{}", self.host, self.path)
        }
    }
}

/// Name and password for basic authentication.
#[derive(Debug, Clone)]
pub struct Login {
    /// The user's name.
    pub username: String,
    /// The password, decoded.
    pub password: SecretString,
    /// Where the password is written: the key to mend when it is refused.
    pub location: Location,
}

/// A mapping rule: images below `from` come from `to` (SPEC section 5, rule 1).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MappingRule {
    /// The source prefix.
    pub from: RulePrefix,
    /// The target's host.
    pub to_host: RegistryHost,
    /// The target's path, without slashes at its ends; may be empty.
    pub to_path: String,
    /// Where it is written.
    pub location: Location,
}

/// The source side of a mapping rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum RulePrefix {
    /// The key `all`: every image, by prepending.
    All,
    /// A host and whole path segments below it.
    Path {
        /// The canonical host.
        host: RegistryHost,
        /// The path, without slashes at its ends; may be empty.
        path: String,
    },
}

/// The primary registry (SPEC section 8).
#[derive(Debug, Clone, Serialize)]
pub struct Primary {
    /// What serves it.
    pub kind: PrimaryKind,
    /// `host:port` as nodes and pods name it.
    pub endpoint: RegistryHost,
    /// The project in front of every path; `spectro-images`.
    pub project: String,
    /// `content.sync.enable`: whether what is missing may come from the internet.
    pub sync: bool,
    /// Where it is written, when the user wrote it.
    pub location: Option<Location>,
}

impl Settings {
    /// Where the embedded registry binds: `landfall.primary.listen`, else the endpoint.
    #[must_use]
    pub fn primary_address(&self, primary: &Primary) -> String {
        match (&self.landfall.primary_listen, primary.endpoint.port()) {
            (Some(listen), _) => listen.clone(),
            (None, Some(_)) => primary.endpoint.to_string(),
            (None, None) => format!("{}:443", primary.endpoint),
        }
    }

    /// Whether the embedded registry speaks TLS: plain HTTP only where nobody but this host can listen in.
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

/// What serves the primary registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PrimaryKind {
    /// Landfall's own.
    #[default]
    Embedded,
    /// Any OCI registry that is there already, Zot included.
    Registry,
    /// Harbor, whose project is created by its API.
    Harbor,
}

/// `stylus.imageRedirectWebhook`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Webhook {
    /// Whether pulls are redirected at all (SPEC section 10).
    pub enable: bool,
    /// The port; `None` where the user wrote 0 or nothing.
    pub port: Option<u16>,
}

/// `stylus.site.network`.
#[derive(Debug, Clone, Default)]
pub struct Network {
    /// Proxy for plain HTTP; may hold a password in its URL, hence secret.
    pub http_proxy: Option<SecretString>,
    /// Proxy for HTTPS.
    pub https_proxy: Option<SecretString>,
    /// Hosts, domains and CIDRs that are reached directly.
    pub no_proxy: Option<String>,
}

/// What an image of a profile is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ImageRole {
    /// The OS and Kubernetes image; always first, never in the primary registry.
    Provider,
    /// An image of an infrastructure layer (os, k8s, cni, csi): never in the primary registry.
    Infrastructure,
    /// Everything else.
    Application,
}

/// How we know that a profile needs an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Finding {
    /// It stands in `pack.content.images` or `system.uri`.
    Declared,
    /// It stands in a pod spec of a manifest.
    Discovered,
}

/// One image that a profile needs. The same image may be needed by several packs: it is listed once, with its most
/// infrastructural role, at the first place.
#[derive(Debug, Clone, Serialize)]
pub struct ProfileImage {
    /// As written, after templates.
    pub source: String,
    /// As parsed: host and path canonical, tag and digest as written.
    pub reference: ImageReference,
    /// What it is for.
    pub role: ImageRole,
    /// `os`, `k8s`, `cni`, `csi` or `addon`.
    pub layer: String,
    /// The pack's name.
    pub pack: String,
    /// The profile's name.
    pub profile: String,
    /// Declared or discovered.
    pub finding: Finding,
    /// Where it is written.
    pub location: Location,
}

/// `landfall.*` in the user-data: our own settings. Unknown keys here are errors.
#[derive(Debug, Clone, Serialize)]
pub struct OwnSettings {
    /// `landfall.stateDir`: where the agent keeps everything; `/var/lib/landfall`.
    pub state_dir: Utf8PathBuf,
    /// `landfall.containerd.socket`: a unix socket; `/run/containerd/containerd.sock`.
    pub containerd_socket: Utf8PathBuf,
    /// `landfall.containerd.enable`: false on a host without containerd; core images are then kept in the store.
    pub containerd_enable: bool,
    /// `landfall.concurrency`: parallel blob transfers, four times as many of small blobs; 8.
    pub concurrency: usize,
    /// `landfall.bandwidthLimit`: bytes a second for all downloads together; none.
    pub bandwidth_limit: Option<u64>,
    /// `landfall.credentialsFile`: logins beside those of the user-data, in Palette's or docker's form; none.
    pub credentials_file: Option<Utf8PathBuf>,
    /// `landfall.tokenServers`: token servers outside of a registry's own domain that may see its login; none.
    pub token_servers: Vec<TokenServer>,
    /// `landfall.reconcileInterval`: seconds between reconciliations; 300.
    pub reconcile_interval_seconds: u64,
    /// `landfall.listen`: where `/healthz`, `/readyz`, `/metrics` and the status API are; `127.0.0.1:<localUI.port>`.
    pub listen: Option<String>,
    /// `landfall.webhook.listen`: host part of the webhook's address; `127.0.0.1`.
    pub webhook_listen: String,
    /// `landfall.webhook.*` beside `listen`: how the webhook decides and how the API server is told of it.
    pub webhook: WebhookPolicy,
    /// `landfall.kubernetes.*`: the cluster's API.
    pub kubernetes: KubernetesAccess,
    /// `landfall.primary.listen`: where the embedded registry binds; the endpoint.
    pub primary_listen: Option<String>,
    /// `landfall.primary.tls`: TLS of the embedded registry.
    pub primary_tls: PrimaryTls,
    /// `landfall.kubelet.enable`: whether the agent writes the kubelet's login files and plug-in configuration; true.
    pub kubelet_enable: bool,
    /// `landfall.mirror`: redirection on the node itself (SPEC section 10.2).
    pub mirror: MirrorSettings,
}

/// `landfall.mirror`: redirection on the node itself, where the container runtime is told what the rules mean. The user's
/// explicit wish: it holds whether the webhook is on or off.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MirrorSettings {
    /// `enable`: the agent serves a pull-through endpoint on loopback, and the files name it; false.
    pub enable: bool,
    /// `listen`: where that endpoint is; `127.0.0.1:5081`.
    pub listen: String,
    /// `files`: the runtimes whose mirror files the agent writes; none.
    pub files: Vec<Dialect>,
    /// `hosts`: registries that get a mirror file beside those of the profiles' images; none.
    pub hosts: Vec<RegistryHost>,
}

impl Default for MirrorSettings {
    fn default() -> MirrorSettings {
        MirrorSettings {
            enable: false,
            listen: "127.0.0.1:5081".to_owned(),
            files: Vec::new(),
            hosts: Vec::new(),
        }
    }
}

/// `landfall.webhook.*`: how the webhook decides and how the API server is told of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WebhookPolicy {
    /// `failurePolicy`: what the API server does with a pod while the webhook cannot be reached.
    pub failure: FailurePolicy,
    /// `timeoutSeconds`: how long the API server waits for an answer; 2.
    pub timeout_seconds: u16,
    /// `observeOnly`: decide, count and warn, and change no image.
    pub observe_only: bool,
    /// `sweepInterval`: seconds between two looks for pods that slipped through; 10, and 0 is never.
    pub sweep_interval_seconds: u32,
    /// `rotationOverlap`: seconds that the API servers know a new authority before it is used; 60.
    pub rotation_overlap_seconds: u32,
    /// `url`: how the API servers reach the webhook; on this host's loopback.
    pub url: Option<String>,
    /// `service`: the service in front of the webhook, for an agent that runs in the cluster.
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

/// What the API server does with a pod while the webhook cannot be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub enum FailurePolicy {
    /// The pod is made as it is; the sweeper mends it.
    #[default]
    Ignore,
    /// The pod is not made.
    Fail,
}

impl FailurePolicy {
    /// The name as Kubernetes writes it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            FailurePolicy::Ignore => "Ignore",
            FailurePolicy::Fail => "Fail",
        }
    }
}

/// A service of the cluster, `namespace/name`; the webhook is at its port 443.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ServiceName {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// `landfall.kubernetes.*`: the cluster's API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KubernetesAccess {
    /// `enable`: false keeps the agent from the cluster's API; somebody else registers the webhook.
    pub enable: bool,
    /// `kubeconfig`: the file that says where the API is and who we are there; `None`: the first that is there of
    /// kubeadm's, K3s' and RKE2's.
    pub kubeconfig: Option<Utf8PathBuf>,
    /// `namespace`: where the Lease and the authority's Secret are; `kube-system`.
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
    /// On, with a certificate of our own making, unless it listens on loopback.
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
        }
    }
}

/// For whom files are rendered.
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
    /// The API server: a MutatingAdmissionPolicy in place of the webhook.
    #[serde(rename = "mutating-admission-policy")]
    MutatingAdmissionPolicy,
}

impl Dialect {
    /// The name on the command line and in the manifest of our files.
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
    /// What an empty user-data and no profile mean.
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
        }
    }
}
