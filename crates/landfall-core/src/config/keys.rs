//! The one table of keys: what a user may write, with its type and a sentence on what it does.
//!
//! The shape check, the "did you mean", the JSON Schema and the docs all read it. Keys of Palette that Landfall does
//! not use are listed too, so that a right file gives no warning.

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

/// A whole user-data file.
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
        "Whether image pulls of pods are redirected."
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
    key!(
        "site",
        Map(SITE, Unknown::Warning),
        "What is particular to the host's site."
    ),
    key!("path", Text, "Prefix of all paths of the edge agent."),
    key!("featureGate", Text, "Features of the edge agent, separated by commas."),
    key!("enableMultiNode", Bool, "Whether hosts are linked to one cluster."),
    key!("debug", Bool, "Debug messages of the edge agent."),
    key!("trace", Bool, "Trace messages of the edge agent."),
    key!("includeTui", Bool, "Whether the terminal UI is there."),
    key!("imageOverride", Any, "Another installer image."),
    key!("vip", Any, "Settings of the virtual IP address."),
    key!("vpn", Any, "Settings of a VPN."),
    key!("skipStylusUpgrade", Bool, "Whether the edge agent stays as it is."),
    key!(
        "disablePasswordUpdate",
        Bool,
        "Whether the local UI may change the password."
    ),
    key!("trustedBoot", Any, "Settings of trusted boot."),
    key!("users", Any, "Users of the edge agent."),
    key!("diskPartition", Any, "Partitions of the disk."),
];

const REGISTRY: &[Key] = &[
    key!("domain", Text, "The registry as `host[:port][/path]`, without scheme."),
    key!("username", Text, "The user's name."),
    key!("password", Text, "The password; base64 with `encodedPassword`."),
    key!(
        "insecure",
        Bool,
        "TLS without verification, and plain HTTP if the registry speaks no TLS."
    ),
    key!("encodedPassword", Bool, "Whether `password` is base64."),
    key!(
        "certificates",
        OneOrMany(&Text),
        "PEM certificates to trust for this registry."
    ),
    key!(
        "repositoryName",
        Text,
        "The repository's name at the registry; kept and shown, never put into a path."
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
    key!("port", Number(0, 65535), "The webhook's port; 0 is the default."),
];

const OLD_WEBHOOK: &[Key] = &[
    key!("enable", Bool, "`false`: no pull is redirected."),
    key!("port", Number(0, 65535), "The webhook's port; 0 is the default."),
];

const LOCAL_UI: &[Key] = &[key!("port", Number(1, 65535), "The port; 5080.")];

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
        "Certificates that our own client trusts: PEM, or PEM in base64."
    ),
    key!(
        "insecureSkipVerify",
        Bool,
        "Whether the management plane's certificate is not verified."
    ),
    key!("network", Map(NETWORK, Unknown::Silent), "Network of the host."),
    key!("deviceUIDPaths", Any, "Files that the host's ID is read from."),
    key!("clusterId", Text, "The cluster that the host belongs to."),
    key!("clusterName", Text, "The cluster's name."),
    key!("registrationURL", Text, "Where a person registers the host."),
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
        "Where the agent keeps everything; `/var/lib/landfall`."
    ),
    key!("containerd", Map(CONTAINERD, Unknown::Error), "The container runtime."),
    key!(
        "concurrency",
        Number(1, 256),
        "Parallel transfers, four times as many of small blobs; 8."
    ),
    key!(
        "bandwidthLimit",
        Number(1, i64::MAX),
        "Bytes a second for all downloads together; no limit."
    ),
    key!(
        "credentialsFile",
        Text,
        "A file of logins beside those of the user-data: Palette's credentials JSON, or docker's `config.json`; none."
    ),
    key!(
        "tokenServers",
        OneOrMany(&Text),
        "Token servers outside of a registry's own domain that may see its login, as `REGISTRY=SERVER`; none."
    ),
    key!(
        "reconcileInterval",
        Number(1, 86_400),
        "Seconds between two reconciliations; 300."
    ),
    key!(
        "listen",
        Text,
        "Address of health, metrics and status: `host:port`; `127.0.0.1:<localUI.port>`."
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
    "`false` where the agent is not to write login files and `CredentialProviderConfig`."
)];

const MIRROR: &[Key] = &[
    key!(
        "enable",
        Bool,
        "The agent serves a pull-through endpoint on loopback that the mirror files name; `false`."
    ),
    key!("listen", Text, "Address of that endpoint; `127.0.0.1:5081`."),
    key!(
        "files",
        OneOrMany(&Word(&["containerd", "k3s", "rke2"])),
        "The runtimes whose mirror files the agent writes; none."
    ),
    key!(
        "hosts",
        OneOrMany(&Text),
        "Registries that get a mirror file beside those of the profiles' images; none."
    ),
];

const CONTAINERD: &[Key] = &[
    key!(
        "enable",
        Bool,
        "`false` on a host without containerd; core images then stay in the store."
    ),
    key!("socket", Text, "Its unix socket; `/run/containerd/containerd.sock`."),
];

const OWN_WEBHOOK: &[Key] = &[
    key!("listen", Text, "Host part of the webhook's address; `127.0.0.1`."),
    key!(
        "failurePolicy",
        Word(&["Ignore", "Fail"]),
        "What the API server does with a pod while the webhook cannot be reached; `Ignore`: the sweeper mends it."
    ),
    key!(
        "timeoutSeconds",
        Number(1, 30),
        "How long the API server waits for the webhook; 2."
    ),
    key!(
        "observeOnly",
        Bool,
        "`true`: decide, count, warn and annotate, and change no image."
    ),
    key!(
        "sweepInterval",
        Number(0, 86_400),
        "Seconds between two looks for pods that slipped through; 10, and 0 is never."
    ),
    key!(
        "rotationOverlap",
        Number(1, 86_400),
        "Seconds that the API servers know a new certificate authority before it is used; 60."
    ),
    key!(
        "url",
        Text,
        "How the API servers reach the webhook; `https://127.0.0.1:<port>/mutate`."
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
        "`false`: the agent keeps away from the cluster's API; the webhook is registered by hand."
    ),
    key!(
        "kubeconfig",
        Text,
        "Where the API is and who we are there; the first that is there of kubeadm's, K3s' and RKE2's."
    ),
    key!(
        "namespace",
        Text,
        "Where the Lease and the Secret of the webhook are; `kube-system`."
    ),
];

const PRIMARY: &[Key] = &[
    key!(
        "kind",
        Word(&["embedded", "registry", "zot", "harbor"]),
        "What serves it: Landfall itself, any OCI registry, Zot or Harbor."
    ),
    key!(
        "endpoint",
        Text,
        "`host:port` as nodes and pods name it; `127.0.0.1:30003`."
    ),
    key!("listen", Text, "Where the embedded registry binds; the endpoint."),
    key!(
        "tls",
        Word(&["auto", "on"]),
        "TLS of the embedded registry; `auto` is off on loopback only."
    ),
    key!("project", Text, "The project in front of every path; `spectro-images`."),
    key!("username", Text, "The user's name."),
    key!("password", Text, "The password."),
    key!("certificates", OneOrMany(&Text), "PEM certificates to trust for it."),
    key!(
        "insecure",
        Bool,
        "TLS without verification, and plain HTTP if it speaks no TLS."
    ),
];

static STEPS: Shape = Steps(&Map(STEP, Unknown::Silent));

const STEP: &[Key] = &[
    key!("name", Label, "The step's name."),
    key!("if", Label, "A shell condition: the step runs when it exits 0."),
    key!("files", Steps(&Map(FILE, Unknown::Silent)), "Files to write."),
    key!(
        "directories",
        Steps(&Map(DIRECTORY, Unknown::Silent)),
        "Directories to make."
    ),
    key!("commands", List(&Label), "Commands for `sh -c`, in order."),
    key!(
        "users",
        MapOf(&Map(USER, Unknown::Silent)),
        "Users to make, by login name."
    ),
    key!(
        "systemctl",
        Map(SYSTEMCTL, Unknown::Silent),
        "Units to enable, disable, mask, start or override."
    ),
    key!("environment", MapOf(&Label), "Variables to set in a file."),
    key!("environment_file", Text, "The file for them; `/etc/environment`."),
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
    key!("name", Text, "The drop-in's file name; `override-yip.conf`."),
    key!("content", Text, "Its content."),
];

const USER: &[Key] = &[
    key!("passwd", Text, "A hash as in `/etc/shadow`, or the password itself."),
    key!("lock_passwd", Bool, "Whether no password opens the account."),
    key!(
        "ssh_authorized_keys",
        OneOrMany(&Text),
        "Public keys that open the account."
    ),
    key!("gecos", Text, "Who it is."),
    key!("homedir", Text, "The home directory; `/home/<name>`."),
    key!("no_create_home", Bool, "Whether the home directory is not made."),
    key!("primary_group", Text, "The primary group; one of the user's name."),
    key!("groups", OneOrMany(&Text), "Other groups."),
    key!("shell", Text, "The login shell; `/bin/sh`."),
    key!("uid", Label, "The number; the first that is free."),
    key!("system", Bool, "Whether the number is below 1000."),
];

const FILE: &[Key] = &[
    key!("path", Text, "Absolute path."),
    key!(
        "permissions",
        Mode,
        "The mode, in octal; 0644, or 0600 if the content holds a credential."
    ),
    key!("owner", Number(0, u32::MAX as i64), "Numeric owner."),
    key!("group", Number(0, u32::MAX as i64), "Numeric group."),
    key!("ownerstring", Text, "`user[:group]`; beats the numbers."),
    key!(
        "encoding",
        Label,
        "`b64`, `gz`, `gz+b64` and their long forms; else as it is."
    ),
    key!("content", Label, "The content."),
];

const DIRECTORY: &[Key] = &[
    key!("path", Text, "Absolute path."),
    key!("permissions", Mode, "The mode, in octal; 0755."),
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
            "What the profile is made of.",
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
    key!("type", Label, "How the pack is made."),
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
        "What the pack needs."
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
    key!("user", Text, "The user's name."),
    key!("password", Text, "The password."),
    key!("certificates", OneOrMany(&Text), "PEM certificates to trust for it."),
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
    key!("enable", Bool, "Whether what is missing may come from the internet."),
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
    key!("username", Text, "The user's name."),
    key!("usernameRef", Any, "Where in the cluster the user's name is."),
    key!("password", Text, "The password."),
    key!("passwordRef", Any, "Where in the cluster the password is."),
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
