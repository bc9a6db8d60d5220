//! The table of all keys that a user may write, with the type and one sentence on each.
//!
//! The shape check, the "did you mean" hints, the JSON Schema and the docs read this table. It also lists the keys of
//! Palette that Landfall does not use, so that a correct file causes no warning.

#[cfg(test)]
mod tests;

use crate::config::shape::Shape::{
    Any, Bool, Label, List, Map, MapOf, Mode, Number, OneOrMany, Steps, Text, Word, Yaml,
};
use crate::config::shape::{Key, Shape, Unknown};

macro_rules! key {
    ($name:literal, $shape:expr, $about:literal $(,)?) => {
        Key {
            name: $name,
            shape: $shape,
            about: $about,
            replaced_by: None,
        }
    };
}

macro_rules! old_key {
    ($name:literal, $shape:expr, $about:literal, $now:literal) => {
        Key {
            name: $name,
            shape: $shape,
            about: $about,
            replaced_by: Some($now),
        }
    };
}

/// A user-data file.
pub(crate) static USER_DATA: Shape = Map(
    &[
        key!(
            "stylus",
            Map(STYLUS, Unknown::Warning),
            "The edge agent's settings, as Palette Edge knows them."
        ),
        key!("landfall", Map(LANDFALL, Unknown::Error), "Landfall's own settings."),
        key!(
            "stages",
            MapOf(&STEPS),
            "Steps that Kairos runs at its stages, e.g. `initramfs` or `reconcile`."
        ),
    ],
    Unknown::Silent,
);

/// Keys of the edge agent.
const STYLUS: &[Key] = &[
    key!(
        "registryCredentials",
        Map(REGISTRY, Unknown::Warning),
        "The single external registry: every image is pulled from it."
    ),
    key!(
        "externalRegistries",
        Map(EXTERNAL, Unknown::Warning),
        "Several external registries, and which images come from which."
    ),
    key!(
        "imageRedirectWebhook",
        Map(WEBHOOK, Unknown::Warning),
        "Redirection of the image pulls of pods."
    ),
    old_key!(
        "webhook",
        Map(OLD_WEBHOOK, Unknown::Warning),
        "Old spelling of `imageRedirectWebhook`.",
        "stylus.imageRedirectWebhook"
    ),
    key!(
        "managementMode",
        Word(&["central", "local"]),
        "`central`, or `local` for a host without a management plane."
    ),
    old_key!(
        "installationMode",
        Word(&["connected", "airgap"]),
        "Old spelling of `managementMode`.",
        "stylus.managementMode"
    ),
    key!("localUI", Map(LOCAL_UI, Unknown::Warning), "The web page on the host."),
    old_key!(
        "emcServer",
        Map(LOCAL_UI, Unknown::Warning),
        "Old spelling of `localUI`.",
        "stylus.localUI"
    ),
    key!("site", Map(SITE, Unknown::Warning), "Settings of the host's site."),
    key!("path", Text, "Prefix of all paths of the edge agent."),
    key!("featureGate", Text, "Features of the edge agent, separated by commas."),
    key!("enableMultiNode", Bool, "`true`: hosts are linked to one cluster."),
    key!("debug", Bool, "Debug messages of the edge agent."),
    key!("trace", Bool, "Trace messages of the edge agent."),
    key!("includeTui", Bool, "`true`: the terminal UI is included."),
    key!("imageOverride", Any, "Another installer image."),
    key!("vip", Any, "Settings of the virtual IP address."),
    key!("vpn", Any, "Settings of a VPN."),
    key!("skipStylusUpgrade", Bool, "`true`: the edge agent is not upgraded."),
    key!(
        "disablePasswordUpdate",
        Bool,
        "`true`: the local UI cannot change the password."
    ),
    key!("trustedBoot", Any, "Settings of trusted boot."),
    key!("users", Any, "Users of the edge agent."),
    key!("diskPartition", Any, "Partitions of the disk."),
];

const REGISTRY: &[Key] = &[
    key!("domain", Text, "The registry as `host[:port][/path]`, without scheme."),
    key!("username", Text, "User name."),
    key!("password", Text, "The password; base64 with `encodedPassword`."),
    key!(
        "insecure",
        Bool,
        "`true`: TLS without verification, and plain HTTP if the registry speaks no TLS."
    ),
    key!("encodedPassword", Bool, "`true`: `password` is base64."),
    key!(
        "certificates",
        OneOrMany(&Text),
        "PEM certificates to trust for this registry."
    ),
    key!(
        "repositoryName",
        Text,
        "The repository's name at the registry. It is shown, and never becomes part of a path."
    ),
];

const EXTERNAL: &[Key] = &[
    key!("registries", List(&Map(REGISTRY, Unknown::Warning)), "The registries."),
    key!(
        "registryMappingRules",
        MapOf(&Text),
        "Source prefix to target prefix; the longest match counts."
    ),
];

const WEBHOOK: &[Key] = &[
    key!("enable", Bool, "`false`: no pull is redirected."),
    key!(
        "port",
        Number(0, 65535),
        "The webhook's port. Default, and with 0: 10280."
    ),
];

const OLD_WEBHOOK: &[Key] = &[
    key!("enable", Bool, "`false`: no pull is redirected."),
    key!(
        "port",
        Number(0, 65535),
        "The webhook's port. Default, and with 0: 10280."
    ),
];

const LOCAL_UI: &[Key] = &[key!(
    "port",
    Number(1, 65535),
    "Port of the local UI; Landfall's status API listens on it. Default: 5080."
)];

const SITE: &[Key] = &[
    key!("paletteEndpoint", Text, "Host name of the management plane."),
    key!("edgeHostToken", Text, "Token for the registration."),
    key!("projectUid", Text, "The project's ID."),
    key!("projectName", Text, "The project's name."),
    key!("name", Text, "The host's name."),
    key!("prefix", Text, "Prefix of the host's ID."),
    key!("tags", Any, "Tags of the host."),
    key!("tagsFromFile", Any, "A file that tags are read from."),
    key!("tagsFromScript", Any, "A script that prints tags."),
    key!(
        "caCerts",
        List(&Text),
        "Certificates that Landfall's own client trusts: PEM, or PEM in base64."
    ),
    key!(
        "insecureSkipVerify",
        Bool,
        "`true`: the management plane's certificate is not verified."
    ),
    key!("network", Map(NETWORK, Unknown::Silent), "Network of the host."),
    key!("deviceUIDPaths", Any, "Files that the host's ID is read from."),
    key!("clusterId", Text, "The cluster that the host belongs to."),
    key!("clusterName", Text, "The cluster's name."),
    key!("registrationURL", Text, "The URL at which a person registers the host."),
    key!("hostName", Text, "The host's name in the network."),
    key!("edgeHostName", Text, "The host's name at the management plane."),
];

const NETWORK: &[Key] = &[
    key!("httpProxy", Text, "Proxy for plain HTTP."),
    key!("httpsProxy", Text, "Proxy for HTTPS."),
    key!(
        "noProxy",
        Text,
        "Hosts, domains and CIDRs that are reached directly, separated by commas."
    ),
];

const LANDFALL: &[Key] = &[
    key!(
        "stateDir",
        Text,
        "State directory of the agent. Default: `/var/lib/landfall`."
    ),
    key!("containerd", Map(CONTAINERD, Unknown::Error), "The container runtime."),
    key!(
        "concurrency",
        Number(1, 256),
        "Blobs in flight at once; of blobs up to 128 KiB, four times as many, unless this is 1. Default: 8."
    ),
    key!(
        "bandwidthLimit",
        Number(1, i64::MAX),
        "Limit of all downloads together, in bytes/s. Default: no limit."
    ),
    key!(
        "credentialsFile",
        Text,
        "File with further logins: Palette's credentials JSON, or docker's `config.json`. The logins of the user-data override it. Default: none."
    ),
    key!(
        "tokenServers",
        OneOrMany(&Text),
        "Token servers outside of a registry's domain that may get its login, as `REGISTRY=SERVER`. Default: none."
    ),
    key!(
        "reconcileInterval",
        Number(1, 86_400),
        "Seconds between two reconciliations. Default: 300."
    ),
    key!(
        "listen",
        Text,
        "Address of the status API (health, metrics, status), as `host:port`. Default: `127.0.0.1:<localUI.port>`."
    ),
    key!("webhook", Map(OWN_WEBHOOK, Unknown::Error), "The admission webhook."),
    key!("kubernetes", Map(KUBERNETES, Unknown::Error), "The cluster's API."),
    key!("primary", Map(PRIMARY, Unknown::Error), "The primary registry."),
    key!("kubelet", Map(KUBELET, Unknown::Error), "The kubelet's logins."),
    key!(
        "mirror",
        Map(MIRROR, Unknown::Error),
        "Redirection on the node itself, by the container runtime's own files."
    ),
];

const KUBELET: &[Key] = &[key!(
    "enable",
    Bool,
    "`false`: the agent writes neither login files nor `CredentialProviderConfig`."
)];

const MIRROR: &[Key] = &[
    key!(
        "enable",
        Bool,
        "`true`: the agent serves a pull-through endpoint on loopback, which the mirror files name. Default: `false`."
    ),
    key!(
        "listen",
        Text,
        "Address of the pull-through endpoint. It must be on loopback. Default: `127.0.0.1:5081`."
    ),
    key!(
        "files",
        OneOrMany(&Word(&["containerd", "k3s", "rke2"])),
        "The runtimes whose mirror files the agent writes. Default: none."
    ),
    key!(
        "hosts",
        OneOrMany(&Text),
        "Registries that get a mirror file in addition to those of the profiles' images. Default: none."
    ),
];

const CONTAINERD: &[Key] = &[
    key!(
        "enable",
        Bool,
        "`false`: the host has no containerd, and core images stay in the store."
    ),
    key!(
        "config",
        Text,
        "Main configuration file of containerd. Default: `/etc/containerd/config.toml`."
    ),
    key!(
        "socket",
        Text,
        "Unix socket of containerd. Default: `/run/containerd/containerd.sock`."
    ),
];

const OWN_WEBHOOK: &[Key] = &[
    key!(
        "listen",
        Text,
        "Host part of the webhook's address. Default: `127.0.0.1`."
    ),
    key!(
        "failurePolicy",
        Word(&["Ignore", "Fail"]),
        "Action of the API server while the webhook cannot be reached. `Fail`: it rejects the pod. `Ignore`, the default: it creates the pod unchanged, and the sweeper redirects it later."
    ),
    key!(
        "timeoutSeconds",
        Number(1, 30),
        "Seconds that the API server waits for the webhook. Default: 2."
    ),
    key!(
        "observeOnly",
        Bool,
        "`true`: the webhook decides, counts, warns and annotates, but changes no image. Default: `false`."
    ),
    key!(
        "sweepInterval",
        Number(0, 86_400),
        "Seconds between two searches for pods that were created without redirection; 0: never. Default: 10."
    ),
    key!(
        "rotationOverlap",
        Number(1, 86_400),
        "Seconds for which the API servers trust a new certificate authority before a certificate of it is used. Default: 60."
    ),
    key!(
        "url",
        Text,
        "URL by which the API servers reach the webhook. Default: `https://127.0.0.1:<port>/mutate`."
    ),
    key!(
        "service",
        Text,
        "The service in front of the webhook, `namespace/name`, for an agent that runs in the cluster."
    ),
];

const KUBERNETES: &[Key] = &[
    key!(
        "enable",
        Bool,
        "`false`: the agent does not use the cluster's API, and an operator registers the webhook."
    ),
    key!(
        "kubeconfig",
        Text,
        "The kubeconfig of the agent. Default: the first that exists of kubeadm's, K3s' and RKE2's."
    ),
    key!(
        "namespace",
        Text,
        "Namespace of the webhook's Lease and Secret. Default: `kube-system`."
    ),
];

const PRIMARY: &[Key] = &[
    key!(
        "kind",
        Word(&["embedded", "registry", "zot", "harbor"]),
        "Kind of server: `embedded` (Landfall itself, the default), `registry` (any OCI registry), `zot` or `harbor`."
    ),
    key!(
        "endpoint",
        Text,
        "`host:port` as nodes and pods name it. Default: `127.0.0.1:30003`."
    ),
    key!(
        "listen",
        Text,
        "Address that the embedded registry listens on. Default: the endpoint."
    ),
    key!(
        "tls",
        Word(&["auto", "on"]),
        "TLS of the embedded registry. `auto`, the default, is off on loopback only."
    ),
    key!(
        "project",
        Text,
        "Project in front of every repository. Default: `spectro-images`."
    ),
    key!("username", Text, "User name."),
    key!("password", Text, "The password."),
    key!(
        "certificates",
        OneOrMany(&Text),
        "PEM certificates to trust for this registry."
    ),
    key!(
        "insecure",
        Bool,
        "`true`: TLS without verification, and plain HTTP if the registry speaks no TLS."
    ),
];

static STEPS: Shape = Steps(&Map(STEP, Unknown::Silent));

const STEP: &[Key] = &[
    key!("name", Label, "The step's name."),
    key!("if", Label, "A shell command: the step runs if it exits with 0."),
    key!("files", Steps(&Map(FILE, Unknown::Silent)), "Files to write."),
    key!(
        "directories",
        Steps(&Map(DIRECTORY, Unknown::Silent)),
        "Directories to create."
    ),
    key!("commands", List(&Label), "Commands for `sh -c`, in order."),
    key!(
        "users",
        MapOf(&Map(USER, Unknown::Silent)),
        "Users to create, by login name."
    ),
    key!(
        "systemctl",
        Map(SYSTEMCTL, Unknown::Silent),
        "Units to enable, disable, mask, start or override."
    ),
    key!("environment", MapOf(&Label), "Variables to set in a file."),
    key!(
        "environment_file",
        Text,
        "File for the variables. Default: `/etc/environment`."
    ),
];

const SYSTEMCTL: &[Key] = &[
    key!("enable", OneOrMany(&Text), "Units to enable."),
    key!("disable", OneOrMany(&Text), "Units to disable."),
    key!("mask", OneOrMany(&Text), "Units to mask."),
    key!("start", OneOrMany(&Text), "Units to start."),
    key!(
        "overrides",
        Steps(&Map(OVERRIDE, Unknown::Silent)),
        "Drop-ins for units."
    ),
];

const OVERRIDE: &[Key] = &[
    key!("service", Text, "The unit."),
    key!("name", Text, "The drop-in's file name. Default: `override-yip.conf`."),
    key!("content", Text, "The drop-in's content."),
];

const USER: &[Key] = &[
    key!("passwd", Text, "A hash as in `/etc/shadow`, or the password itself."),
    key!("lock_passwd", Bool, "`true`: no password opens the account."),
    key!(
        "ssh_authorized_keys",
        OneOrMany(&Text),
        "Public keys that open the account."
    ),
    key!("gecos", Text, "The user's full name."),
    key!("homedir", Text, "The home directory. Default: `/home/<name>`."),
    key!("no_create_home", Bool, "`true`: the home directory is not created."),
    key!(
        "primary_group",
        Text,
        "The primary group. Default: a group of the user's name."
    ),
    key!("groups", OneOrMany(&Text), "Other groups."),
    key!("shell", Text, "The login shell. Default: `/bin/sh`."),
    key!("uid", Label, "The numeric user ID. Default: the first that is free."),
    key!("system", Bool, "`true`: a system user, with a number below 1000."),
];

const FILE: &[Key] = &[
    key!("path", Text, "Absolute path."),
    key!(
        "permissions",
        Mode,
        "The mode, in octal. Default: 0644, or 0600 if the content holds a credential."
    ),
    key!("owner", Number(0, u32::MAX as i64), "Numeric owner."),
    key!("group", Number(0, u32::MAX as i64), "Numeric group."),
    key!("ownerstring", Text, "`user[:group]`; overrides the numbers."),
    key!(
        "encoding",
        Label,
        "`b64`, `gz`, `gz+b64` or their long forms. Default: the content is used as it is."
    ),
    key!("content", Label, "The content."),
];

const DIRECTORY: &[Key] = &[
    key!("path", Text, "Absolute path."),
    key!("permissions", Mode, "The mode, in octal. Default: 0755."),
    key!("owner", Number(0, u32::MAX as i64), "Numeric owner."),
    key!("group", Number(0, u32::MAX as i64), "Numeric group."),
];

/// A cluster profile.
pub(crate) static PROFILE: Shape = Map(
    &[
        key!(
            "metadata",
            Map(&[key!("name", Label, "The profile's name.")], Unknown::Silent),
            "Name and labels."
        ),
        key!(
            "spec",
            Map(
                &[
                    key!("version", Label, "The profile's version."),
                    key!("template", Map(PACKS, Unknown::Silent), "The layers."),
                    key!(
                        "packs",
                        List(&Map(PACK, Unknown::Silent)),
                        "The layers, in the short form."
                    ),
                ],
                Unknown::Silent,
            ),
            "The content of the profile.",
        ),
    ],
    Unknown::Silent,
);

const PACKS: &[Key] = &[key!(
    "packs",
    List(&Map(PACK, Unknown::Silent)),
    "The layers, infrastructure first."
)];

const PACK: &[Key] = &[
    key!("name", Label, "The pack's name."),
    key!("layer", Label, "`os`, `k8s`, `cni`, `csi` or `addon`."),
    key!("tag", Label, "The pack's version."),
    key!("version", Label, "The pack's version."),
    key!("type", Label, "The kind of the pack."),
    key!("values", Yaml, "The pack's settings: a string of YAML, or a mapping."),
    key!(
        "manifests",
        List(&Map(MANIFEST, Unknown::Silent)),
        "Kubernetes manifests."
    ),
];

const MANIFEST: &[Key] = &[
    key!("name", Label, "The manifest's name."),
    key!("content", Yaml, "Kubernetes objects, as a string of YAML."),
];

/// The values of a pack, as far as Landfall reads them.
pub(crate) static PACK_VALUES: Shape = Map(
    &[
        key!("pack", Map(PACK_SECTION, Unknown::Silent), "The pack's own section."),
        key!("options", MapOf(&Any), "Values that templates of other packs use."),
        key!(
            "providerCredentials",
            Map(PROVIDER_CREDENTIALS, Unknown::Silent),
            "The registry of the provider image."
        ),
        key!(
            "cluster",
            Map(&[key!("config", Yaml, "Configuration of Kubernetes.")], Unknown::Silent),
            "The cluster."
        ),
        key!("stages", MapOf(&STEPS), "Steps that Kairos runs."),
        key!("charts", Map(CHARTS, Unknown::Silent), "Values of Helm charts."),
    ],
    Unknown::Silent,
);

const PACK_SECTION: &[Key] = &[
    key!(
        "content",
        Map(
            &[key!("images", List(&Map(IMAGE, Unknown::Silent)), "The images.")],
            Unknown::Silent
        ),
        "The content that the pack needs."
    ),
    key!(
        "namespaceLabels",
        MapOf(&Label),
        "Namespace to `key=value` labels, separated by commas."
    ),
];

const IMAGE: &[Key] = &[key!("image", Text, "An image reference.")];

const PROVIDER_CREDENTIALS: &[Key] = &[
    key!("registry", Text, "The registry as `host[:port]`."),
    key!("user", Text, "User name."),
    key!("password", Text, "The password."),
    key!(
        "certificates",
        OneOrMany(&Text),
        "PEM certificates to trust for this registry."
    ),
];

const CHARTS: &[Key] = &[key!(
    "registry-connect",
    Map(
        &[key!("config", Map(CONNECT, Unknown::Silent), "The primary registry.")],
        Unknown::Silent
    ),
    "The pack that connects the primary registry.",
)];

const CONNECT: &[Key] = &[
    key!(
        "content",
        Map(
            &[key!(
                "sync",
                Map(SYNC, Unknown::Silent),
                "Filling the primary registry."
            )],
            Unknown::Silent
        ),
        "Content."
    ),
    key!(
        "registry",
        Map(CONNECT_REGISTRY, Unknown::Silent),
        "Registries and rules."
    ),
    key!(
        "certificates",
        List(&Any),
        "Certificates to trust: `certificate` or `certificateRef`."
    ),
];

const SYNC: &[Key] = &[
    key!("enable", Bool, "`true`: missing images may come from the internet."),
    key!(
        "projects",
        Map(&[key!("images", Text, "The project for images.")], Unknown::Silent),
        "Projects."
    ),
];

const CONNECT_REGISTRY: &[Key] = &[
    key!("inClusterRegistry", Any, "The registry in the cluster."),
    key!(
        "imageReplacementRules",
        Yaml,
        "Source prefix to target prefix, as a string of YAML; `all` prepends."
    ),
    key!(
        "credentials",
        Steps(&Map(CONNECT_CREDENTIALS, Unknown::Silent)),
        "Logins of external registries."
    ),
];

/// One entry of `registry.credentials`, and the login of the registry in the cluster.
const CONNECT_CREDENTIALS: &[Key] = &[
    key!("domain", Text, "The registry as `host[:port][/path]`."),
    key!("username", Text, "User name."),
    key!("usernameRef", Any, "The object of the cluster with the user's name."),
    key!("password", Text, "The password."),
    key!("passwordRef", Any, "The object of the cluster with the password."),
    key!("insecure", Bool, "TLS without verification."),
];

/// A file of values for templates.
pub(crate) static VALUES: Shape = Map(
    &[
        key!("macro", MapOf(&Any), "Values of `{{.spectro.macro.NAME}}`."),
        key!("var", MapOf(&Any), "Values of `{{.spectro.var.NAME}}`."),
        key!("system", MapOf(&Any), "Values of `{{.spectro.system.NAME}}`."),
    ],
    Unknown::Error,
);
