//! The table of all keys that a user may write, with the type and one sentence on each.
//!
//! The shape check, the "did you mean" hints, the JSON Schema and the docs read this table. It also lists the keys of
//! Palette that Landfall does not use, so that a correct file causes no warning.

#[cfg(test)]
mod tests;

use crate::config::known_key::Shape::{
    Any, Bool, Foreign, Label, List, Map, MapOf, MapOrValue, Mode, Number, OneOrMany, Owner, Size, Steps, Text, Time,
    Word, Yaml,
};
use crate::config::known_key::{Key, Shape, Unknown};

macro_rules! key {
    ($name:literal, $shape:expr, $about:literal $(,)?) => {
        key!($name, $shape, $about, also: [])
    };
    // Names of other programs for the same thing.
    ($name:literal, $shape:expr, $about:literal, also: [$($also:literal),*] $(,)?) => {
        Key {
            name: $name,
            shape: $shape,
            about: $about,
            replaced_by: None,
            also: &[$($also),*],
            run_by: None,
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
            also: &[],
            run_by: None,
        }
    };
}

/// A key that another program acts on.
macro_rules! foreign_key {
    ($name:literal, $shape:expr, $about:literal, $by:expr) => {
        Key {
            name: $name,
            shape: $shape,
            about: $about,
            replaced_by: None,
            also: &[],
            run_by: Some($by),
        }
    };
}

/// The program that runs parts of a user-data file by yip, and the stages at which it does.
const KAIROS_BOOT: &str = "Kairos at its stage `boot`";
const KAIROS_INITRAMFS: &str = "Kairos at its stage `initramfs`";
const CLOUD_INIT: &str = "cloud-init, where that is installed (not by Kairos)";

/// A user-data file.
pub(crate) static USER_DATA: Shape = Map(
    &[
        key!(
            "stylus",
            Map(STYLUS, Unknown::Note),
            "The edge agent's settings, as Palette Edge knows them."
        ),
        key!("landfall", Map(LANDFALL, Unknown::Error), "Landfall's own settings."),
        key!(
            "content",
            Map(CONTENT, Unknown::Silent),
            "Settings of content bundles, as Palette Edge knows them."
        ),
        key!(
            "stages",
            MapOf(&STEPS),
            "Steps that Kairos runs at its stages, e.g. `initramfs` or `reconcile`."
        ),
        foreign_key!(
            "write_files",
            Foreign(&Map(WRITE_FILE, Unknown::Step)),
            "Files to write.",
            KAIROS_BOOT
        ),
        foreign_key!(
            "milpa_files",
            Foreign(&Map(WRITE_FILE, Unknown::Step)),
            "Files to write, by an old name.",
            KAIROS_BOOT
        ),
        foreign_key!("runcmd", Any, "Commands to run.", KAIROS_BOOT),
        foreign_key!(
            "users",
            Foreign(&Map(CLOUD_USER, Unknown::Step)),
            "Users to create.",
            KAIROS_BOOT
        ),
        foreign_key!(
            "ssh_authorized_keys",
            Any,
            "Public keys that open the accounts.",
            KAIROS_BOOT
        ),
        foreign_key!("growpart", Any, "Partitions to enlarge.", KAIROS_BOOT),
        foreign_key!("hostname", Any, "The host's name.", KAIROS_INITRAMFS),
        foreign_key!("bootcmd", Any, "Commands to run early at each boot.", CLOUD_INIT),
        foreign_key!("packages", Any, "Packages to install.", CLOUD_INIT),
        foreign_key!("package_update", Any, "Update of the list of packages.", CLOUD_INIT),
        foreign_key!("package_upgrade", Any, "Upgrade of all packages.", CLOUD_INIT),
        foreign_key!(
            "package_reboot_if_required",
            Any,
            "Reboot after an upgrade.",
            CLOUD_INIT
        ),
        foreign_key!("ntp", Any, "Time servers.", CLOUD_INIT),
        foreign_key!("ca_certs", Any, "Certificates that the host trusts.", CLOUD_INIT),
        foreign_key!(
            "ca-certs",
            Any,
            "Certificates that the host trusts, by an old name.",
            CLOUD_INIT
        ),
        foreign_key!("mounts", Any, "File systems to mount.", CLOUD_INIT),
        foreign_key!("swap", Any, "Swap file.", CLOUD_INIT),
        foreign_key!("disk_setup", Any, "Partitions of disks.", CLOUD_INIT),
        foreign_key!("fs_setup", Any, "File systems to create.", CLOUD_INIT),
        foreign_key!("chpasswd", Any, "Passwords of users.", CLOUD_INIT),
        foreign_key!("password", Any, "Password of the default user.", CLOUD_INIT),
        foreign_key!("user", Any, "The default user.", CLOUD_INIT),
        foreign_key!("groups", Any, "Groups to create.", CLOUD_INIT),
        foreign_key!("fqdn", Any, "The host's full name.", CLOUD_INIT),
        foreign_key!("manage_etc_hosts", Any, "Content of `/etc/hosts`.", CLOUD_INIT),
        foreign_key!("timezone", Any, "The time zone.", CLOUD_INIT),
        foreign_key!("locale", Any, "The locale.", CLOUD_INIT),
        foreign_key!("keyboard", Any, "The keyboard.", CLOUD_INIT),
        foreign_key!("apt", Any, "Sources of packages.", CLOUD_INIT),
        foreign_key!("apk_repos", Any, "Sources of packages.", CLOUD_INIT),
        foreign_key!("yum_repos", Any, "Sources of packages.", CLOUD_INIT),
        foreign_key!("zypper", Any, "Sources of packages.", CLOUD_INIT),
        foreign_key!("snap", Any, "Snaps to install.", CLOUD_INIT),
        foreign_key!("power_state", Any, "Power state after the run.", CLOUD_INIT),
        foreign_key!("phone_home", Any, "A request after the run.", CLOUD_INIT),
        foreign_key!("resolv_conf", Any, "Name servers.", CLOUD_INIT),
        foreign_key!(
            "manage_resolv_conf",
            Any,
            "True if name servers are written.",
            CLOUD_INIT
        ),
        foreign_key!("final_message", Any, "A message after the run.", CLOUD_INIT),
        foreign_key!("ssh", Any, "Settings of the SSH server.", CLOUD_INIT),
        foreign_key!("ssh_keys", Any, "Keys of the host.", CLOUD_INIT),
        foreign_key!("ssh_import_id", Any, "Users whose keys are fetched.", CLOUD_INIT),
        foreign_key!("ssh_pwauth", Any, "Passwords over SSH.", CLOUD_INIT),
        foreign_key!("ssh_deletekeys", Any, "Deletion of the host's keys.", CLOUD_INIT),
        foreign_key!("disable_root", Any, "Login of root over SSH.", CLOUD_INIT),
        foreign_key!("rsyslog", Any, "Settings of the log.", CLOUD_INIT),
        foreign_key!("wireguard", Any, "Tunnels.", CLOUD_INIT),
        foreign_key!("ansible", Any, "Settings of Ansible.", CLOUD_INIT),
        foreign_key!("chef", Any, "Settings of Chef.", CLOUD_INIT),
        foreign_key!("puppet", Any, "Settings of Puppet.", CLOUD_INIT),
        foreign_key!("salt_minion", Any, "Settings of Salt.", CLOUD_INIT),
        foreign_key!("landscape", Any, "Settings of Landscape.", CLOUD_INIT),
        foreign_key!("lxd", Any, "Settings of LXD.", CLOUD_INIT),
        foreign_key!("ubuntu_pro", Any, "Settings of Ubuntu Pro.", CLOUD_INIT),
        foreign_key!("rh_subscription", Any, "Subscription of Red Hat.", CLOUD_INIT),
        key!(
            "install",
            Foreign(&Map(INSTALL, Unknown::Silent)),
            "Settings of Kairos' installer."
        ),
        key!("name", Any, "The file's name in logs of Kairos."),
        key!("reset", Any, "Settings of Kairos' reset."),
        key!("upgrade", Any, "Settings of Kairos' upgrade."),
        key!("bundles", Any, "Bundles of Kairos."),
        key!("options", Any, "Options of Kairos."),
        key!("env", Any, "Variables of Kairos' installer."),
        key!("debug", Any, "Debug messages of Kairos."),
        key!("strict", Any, "Strictness of Kairos about this file."),
        key!("verify", Any, "Verification of images by Kairos."),
        key!("cosign", Any, "Verification of images by Kairos."),
        key!("cosign-key", Any, "Key for the verification of images."),
        key!("config_url", Any, "A further file that Kairos fetches."),
        key!("fail_on_bundles_errors", Any, "Action of Kairos after a failed bundle."),
        key!("grub_options", Any, "Options of GRUB."),
        key!("cloud-init-paths", Any, "Further directories that Kairos reads."),
        key!("eject-cd", Any, "Ejection of the CD after the installation."),
        key!("arch", Any, "Architecture of the host."),
        key!("platform", Any, "Platform of the host."),
        key!("squash-compression", Any, "Compression of images."),
        key!("squash-no-compression", Any, "Compression of images."),
        key!("uki-max-entries", Any, "Number of boot entries."),
        key!("bind-pcrs", Any, "Registers of the TPM."),
        key!("bind-public-pcrs", Any, "Registers of the TPM."),
        key!("kcrypt", Any, "Encryption of partitions."),
        key!("logs", Any, "Logs that Kairos collects."),
        key!("p2p", Any, "The mesh of Kairos."),
        key!("k3s", Any, "Settings of K3s."),
        key!("k3s-agent", Any, "Settings of K3s."),
        key!("k0s", Any, "Settings of k0s."),
        key!("k0s-worker", Any, "Settings of k0s."),
        key!("kubevip", Any, "Settings of kube-vip."),
        key!("cluster", Any, "Settings of Kairos' cluster plug-in."),
        key!("network", Any, "Network of cloud-init."),
        key!("datasource", Any, "Sources of cloud-init."),
        key!("datasource_list", Any, "Sources of cloud-init."),
        key!("merge_how", Any, "Rule of cloud-init for several files."),
        key!("merge_type", Any, "Rule of cloud-init for several files."),
        key!("preserve_hostname", Any, "True if cloud-init keeps the host's name."),
        key!("prefer_fqdn_over_hostname", Any, "Form of the host's name."),
        key!("system_info", Any, "Settings of cloud-init."),
        key!("cloud_init_modules", Any, "Settings of cloud-init."),
        key!("cloud_config_modules", Any, "Settings of cloud-init."),
        key!("cloud_final_modules", Any, "Settings of cloud-init."),
        key!("output", Any, "Logs of cloud-init."),
        key!("vendor_data", Any, "Settings of cloud-init."),
    ],
    Unknown::Silent,
);

const CONTENT: &[Key] = &[key!(
    "signing",
    Map(CONTENT_SIGNING, Unknown::Silent),
    "Signatures of content bundles."
)];

const CONTENT_SIGNING: &[Key] = &[key!(
    "publicKey",
    Map(SIGNING_KEY, Unknown::Silent),
    "The key whose bundles the host takes."
)];

const SIGNING_KEY: &[Key] = &[key!(
    "base64EncodedValue",
    Text,
    "The public key: PEM in base64. It is one of `landfall.bundles.publicKeys`."
)];

/// Keys of the edge agent.
const STYLUS: &[Key] = &[
    key!(
        "registryCredentials",
        Map(REGISTRY, Unknown::Note),
        "The single external registry: every image is pulled from it."
    ),
    key!(
        "externalRegistries",
        Map(EXTERNAL, Unknown::Note),
        "Several external registries, and which images come from which."
    ),
    key!(
        "imageRedirectWebhook",
        Map(WEBHOOK, Unknown::Note),
        "Redirection of the image pulls of pods."
    ),
    old_key!(
        "webhook",
        Map(OLD_WEBHOOK, Unknown::Note),
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
    key!("localUI", Map(LOCAL_UI, Unknown::Note), "The web page on the host."),
    old_key!(
        "emcServer",
        Map(LOCAL_UI, Unknown::Note),
        "Old spelling of `localUI`.",
        "stylus.localUI"
    ),
    key!("site", Map(SITE, Unknown::Note), "Settings of the host's site."),
    key!("path", Text, "Prefix of all paths of the edge agent."),
    key!("featureGate", Text, "Features of the edge agent, separated by commas."),
    key!("enableMultiNode", Bool, "`true`: the hosts of the site work together."),
    key!("debug", Bool, "Debug messages of the edge agent."),
    key!("trace", Bool, "Trace messages of the edge agent."),
    key!("includeTui", Bool, "`true`: the terminal UI is included."),
    key!("disableTui", Bool, "`true`: the terminal UI only shows settings."),
    key!("imageOverride", Any, "Another installer image."),
    key!(
        "vip",
        Foreign(&Map(VIP, Unknown::Note)),
        "Settings of the virtual IP address."
    ),
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
    key!("registries", List(&Map(REGISTRY, Unknown::Note)), "The registries."),
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

const LOCAL_UI: &[Key] = &[
    key!(
        "port",
        Number(1, 65535),
        "Port of the local UI; Landfall's status API listens on it. Default: 5080."
    ),
    key!(
        "login",
        Foreign(&Map(UI_LOGIN, Unknown::Note)),
        "Limits of logins to the local UI."
    ),
];

const UI_LOGIN: &[Key] = &[
    key!("disableRateLimiting", Any, "`true`: failed logins cause no delay."),
    key!(
        "attemptsBeforeExponentialDelayStarts",
        Any,
        "Failed logins before the delay grows."
    ),
    key!(
        "maxFailedAttemptsBeforeLockout",
        Any,
        "Failed logins before the user is locked out."
    ),
    key!("lockoutDurationInMinutes", Any, "Duration of the lockout."),
];

const VIP: &[Key] = &[key!(
    "skip",
    Any,
    "`true`: another load balancer takes the place of kube-vip."
)];

const SITE: &[Key] = &[
    key!("paletteEndpoint", Text, "Host name of the management plane."),
    key!("edgeHostToken", Text, "Token for the registration."),
    key!("projectUid", Text, "The project's ID."),
    key!("projectName", Text, "The project's name."),
    key!("name", Text, "The host's name."),
    key!("prefix", Text, "Prefix of the host's ID."),
    key!("tags", Any, "Tags of the host."),
    key!(
        "tagsFromFile",
        Foreign(&Map(TAGS_FROM_FILE, Unknown::Note)),
        "A file that tags are read from."
    ),
    key!(
        "tagsFromScript",
        Foreign(&Map(TAGS_FROM_SCRIPT, Unknown::Note)),
        "A script that prints tags."
    ),
    key!("ntpServers", Any, "Time servers of the host."),
    key!(
        "remoteShell",
        Foreign(&Map(REMOTE_SHELL, Unknown::Note)),
        "The remote shell of the management plane."
    ),
    key!(
        "users",
        Foreign(&MapOf(&Foreign(&Map(SITE_USER, Unknown::Note)))),
        "Users of the host, by login name."
    ),
    key!("debug", Any, "Debug messages."),
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
    key!("network", Map(NETWORK, Unknown::Note), "Network of the host."),
    key!(
        "deviceUIDPaths",
        Foreign(&Map(DEVICE_UID_PATH, Unknown::Note)),
        "Files that the host's ID is read from."
    ),
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
    key!("nameserver", Any, "Name server of the host."),
    key!(
        "interfaces",
        Foreign(&MapOf(&Foreign(&Map(INTERFACE, Unknown::Note)))),
        "Network interfaces, by name."
    ),
];

const INTERFACE: &[Key] = &[
    key!("type", Any, "`dhcp` or `static`."),
    key!("ipAddress", Any, "The address."),
    key!("mask", Any, "The network mask."),
    key!("gateway", Any, "The gateway."),
    key!("nameserver", Any, "The name server."),
];

const TAGS_FROM_FILE: &[Key] = &[
    key!("fileName", Any, "The file."),
    key!("delimiter", Any, "Text between two tags. Default: a line break."),
    key!("separator", Any, "Text between key and value. Default: `:`."),
];

const TAGS_FROM_SCRIPT: &[Key] = &[
    key!("scriptName", Any, "The script."),
    key!("timeout", Any, "Seconds until the script is stopped. Default: 60."),
];

const REMOTE_SHELL: &[Key] = &[key!("disable", Any, "`true`: no remote shell.")];

const DEVICE_UID_PATH: &[Key] = &[
    key!("name", Any, "The file."),
    key!("regex", Any, "The part of the file that is the ID."),
];

/// A user of `site.users`.
const SITE_USER: &[Key] = &[
    key!("groups", Any, "Groups of the user."),
    key!("passwd", Any, "The password.", also: ["hashed_passwd", "plain_text_passwd"]),
    key!("passwordExpiry", Any, "Day on which the password expires."),
    key!("lock_passwd", Any, "`true`: no password opens the account."),
    key!("ssh_authorized_keys", Any, "Public keys that open the account.", also: ["ssh_keys", "authorized_keys"]),
];

/// Kairos' installer, as the reference of Palette Edge and that of Kairos list it.
const INSTALL: &[Key] = &[
    key!("device", Any, "The disk."),
    key!("auto", Any, "`true`: installation without a question."),
    key!("reboot", Any, "`true`: reboot afterwards."),
    key!("poweroff", Any, "`true`: power off afterwards."),
    key!("bind_mounts", Any, "Directories that outlast a reboot."),
    key!("ephemeral_mounts", Any, "Directories that do not outlast a reboot."),
    key!("extra-dirs-rootfs", Any, "Directories to create."),
    key!("grub_options", Any, "Options of GRUB."),
    key!("grub-entry-name", Any, "Name in the menu of GRUB."),
    key!("partitions", Any, "Partitions."),
    key!("extra-partitions", Any, "Further partitions."),
    key!("no-format", Any, "`true`: no disk is formatted."),
    key!("force", Any, "`true`: installation over another one."),
    key!("system", Any, "The system's image."),
    key!("passive", Any, "The passive image."),
    key!("recovery-system", Any, "The recovery image."),
    key!("bundles", Any, "Bundles of Kairos."),
    key!("env", Any, "Variables of the installer."),
    key!("image", Any, "The image to install."),
    key!("encrypted_partitions", Any, "Partitions to encrypt."),
    key!("ssh_hardening", Any, "`true`: strict settings of SSH."),
];

/// An entry of `write_files` of cloud-init.
const WRITE_FILE: &[Key] = &[
    key!("path", Any, "Absolute path."),
    key!("content", Any, "The content."),
    key!("permissions", Any, "The mode, as a string of octal digits.", also: ["mode", "perms", "chmod"]),
    key!("owner", Any, "`user[:group]`.", also: ["ownerstring"]),
    key!("encoding", Any, "The encoding of the content."),
    key!("append", Any, "`true`: the content is appended (cloud-init)."),
    key!("defer", Any, "`true`: written last (cloud-init)."),
    key!("source", Any, "A URL that the content is fetched from (cloud-init)."),
];

/// An entry of `users` of cloud-init.
const CLOUD_USER: &[Key] = &[
    key!("name", Any, "The login name."),
    key!("passwd", Any, "The password."),
    key!("hashed_passwd", Any, "The hash of the password (cloud-init)."),
    key!("plain_text_passwd", Any, "The password (cloud-init)."),
    key!("lock_passwd", Any, "`true`: no password opens the account."),
    key!(
        "lockPasswd",
        Any,
        "`true`: no password opens the account, as Kairos' schema writes it."
    ),
    key!("ssh_authorized_keys", Any, "Public keys that open the account."),
    key!("ssh_import_id", Any, "Users whose keys are fetched (cloud-init)."),
    key!(
        "ssh_redirect_user",
        Any,
        "`true`: a login is refused with a hint (cloud-init)."
    ),
    key!("coreos_ssh_import_github", Any, "Users whose keys are fetched."),
    key!("coreos_ssh_import_github_users", Any, "Users whose keys are fetched."),
    key!("coreos_ssh_import_url", Any, "URL of keys."),
    key!("gecos", Any, "The user's full name."),
    key!("homedir", Any, "The home directory."),
    key!("no_create_home", Any, "`true`: the home directory is not created."),
    key!("primary_group", Any, "The primary group."),
    key!("group", Any, "The primary group."),
    key!("groups", Any, "Other groups."),
    key!("no_user_group", Any, "`true`: no group of the user's name."),
    key!("system", Any, "`true`: a system user."),
    key!("no_log_init", Any, "`true`: no entry in the logs of logins."),
    key!("shell", Any, "The login shell."),
    key!("uid", Any, "The numeric user ID."),
    key!("sudo", Any, "Rules of sudo (cloud-init)."),
    key!("doas", Any, "Rules of doas (cloud-init)."),
    key!("expiredate", Any, "Day on which the account expires (cloud-init)."),
    key!("inactive", Any, "Days until an expired account is closed (cloud-init)."),
    key!("selinux_user", Any, "The user for SELinux (cloud-init)."),
    key!("snapuser", Any, "The user for snaps (cloud-init)."),
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
        Size(1, u64::MAX),
        "Limit of all downloads together, in bytes/s, e.g. `2MB`. Default: no limit."
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
        Time(1, 86_400),
        "Time between two reconciliations, e.g. `5m`. Default: 300 s."
    ),
    key!(
        "listen",
        Text,
        "Address of the status API (health, metrics, status), as `host:port`. Beyond loopback, it speaks TLS with other machines. Default: `127.0.0.1:<localUI.port>`."
    ),
    key!("webhook", Map(OWN_WEBHOOK, Unknown::Error), "The admission webhook."),
    key!("kubernetes", Map(KUBERNETES, Unknown::Error), "The cluster's API."),
    key!("primary", Map(PRIMARY, Unknown::Error), "The primary registry."),
    key!("kubelet", Map(KUBELET, Unknown::Error), "The kubelet's logins."),
    key!(
        "bundles",
        Map(BUNDLES, Unknown::Error),
        "Files with all images of a site, for hosts without a network."
    ),
    key!(
        "mirror",
        Map(MIRROR, Unknown::Error),
        "Redirection on the node itself, by the container runtime's own files."
    ),
    key!(
        "site",
        Map(OWN_SITE, Unknown::Error),
        "The hosts of the site, with `stylus.enableMultiNode`. Not implemented yet: the values are checked, and nothing depends on them."
    ),
    key!(
        "update",
        Map(UPDATE, Unknown::Error),
        "Updates of the hosts. Not implemented yet: the values are checked, and nothing depends on them."
    ),
];

const OWN_SITE: &[Key] = &[
    key!(
        "leader",
        Text,
        "The host that leads before there is a cluster. Default: the host that gives the join token."
    ),
    key!(
        "address",
        Text,
        "IP address of this host for the other ones. Default: the one of the default route."
    ),
    key!(
        "port",
        Number(1, 65_535),
        "Port at which this host serves blobs to the other ones. Default: 5082."
    ),
];

const UPDATE: &[Key] = &[
    key!(
        "approval",
        Word(&["manual", "auto"]),
        "`auto`: an update begins without a person. Default: `manual`."
    ),
    key!(
        "driver",
        Word(&["kairos", "bootc", "command"]),
        "The program that writes the image into the other slot of the host. Default: `kairos`."
    ),
    key!(
        "command",
        OneOrMany(&Text),
        "The program of the driver `command`, with its arguments. Default: none."
    ),
    key!(
        "windows",
        List(&Map(WINDOW, Unknown::Error)),
        "The times at which a host may go down. Default: always."
    ),
    key!(
        "soak",
        Time(0, 86_400),
        "Time for which a host must be well after its update. Default: 120 s."
    ),
    key!(
        "deadlines",
        Map(DEADLINES, Unknown::Error),
        "Times after which an update halts."
    ),
];

const WINDOW: &[Key] = &[
    key!(
        "start",
        Text,
        "The beginning as a cron expression: minute, hour, day, month, day of the week."
    ),
    key!("timeZone", Text, "The time zone, e.g. `Europe/Berlin`. Default: `UTC`."),
    key!("hours", Number(1, 24), "The length in hours."),
];

const DEADLINES: &[Key] = &[
    key!(
        "prefetch",
        Time(60, 2_592_000),
        "Until all hosts have the image. Default: 86400 s."
    ),
    key!(
        "preflight",
        Time(60, 604_800),
        "For a host that is blocked. Default: 3600 s."
    ),
    key!("drain", Time(60, 86_400), "Until the pods have left. Default: 900 s."),
    key!("upgrade", Time(60, 86_400), "For the driver. Default: 3600 s."),
    key!("reboot", Time(60, 86_400), "Until the next boot. Default: 600 s."),
    key!(
        "gate",
        Time(60, 86_400),
        "Until the host is well after its boot. Default: 1200 s."
    ),
];

const BUNDLES: &[Key] = &[
    key!(
        "directory",
        Text,
        "Directory that is searched for bundles. Default: `/opt/spectrocloud/content`."
    ),
    key!(
        "sticks",
        Bool,
        "`false`: block devices with the label `LANDFALL` or `COS_CONTENT` are not searched. Default: `true`."
    ),
    key!(
        "publicKeys",
        OneOrMany(&Text),
        "Public keys whose bundles this host takes: PEM, PEM in base64, or the path of a PEM file. With a key, other content is refused. Default: none."
    ),
    key!(
        "retiredKeys",
        OneOrMany(&Text),
        "Names of public keys whose bundles this host no longer takes: the SHA-256 of the key, in hexadecimal digits. Default: none."
    ),
    key!(
        "imageKeys",
        OneOrMany(&Text),
        "Public keys of the images' cosign signatures, in the same forms. Default: none."
    ),
    key!(
        "policy",
        Map(BUNDLE_POLICY, Unknown::Error),
        "Decisions about bundles that a host may refuse."
    ),
];

const BUNDLE_POLICY: &[Key] = &[
    key!(
        "unsignedContent",
        Word(&["refuse", "allow"]),
        "Bundles without a signature. Default: `refuse` with a public key, else `allow`."
    ),
    key!(
        "allowOlder",
        Bool,
        "`true`: a bundle with a lower number than the host has seen in its series is taken. Default: `false`."
    ),
    key!(
        "imageSignatures",
        Word(&["ignore", "warn", "require"]),
        "Images without a signature by one of the image keys. Default: `require` with an image key, else `ignore`."
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
        Time(1, 30),
        "Time that the API server waits for the webhook. Default: 2 s."
    ),
    key!(
        "observeOnly",
        Bool,
        "`true`: the webhook decides, counts, warns and annotates, but changes no image. Default: `false`."
    ),
    key!(
        "sweepInterval",
        Time(0, 86_400),
        "Time between two searches for pods that were created without redirection; 0: never. Default: 10 s."
    ),
    key!(
        "rotationOverlap",
        Time(1, 86_400),
        "Time for which the API servers trust a new certificate authority before a certificate of it is used. Default: 60 s."
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

static STEPS: Shape = Steps(&Map(STEP, Unknown::Step));

/// A step of a stage: the whole schema of yip (`pkg/schema/schema.go`), which Kairos decodes it with. Other keys are
/// ignored there.
const STEP: &[Key] = &[
    key!("name", Label, "The step's name."),
    key!("if", Label, "A shell command: the step runs if it exits with 0.", also: ["when", "condition"]),
    key!("files", Steps(&Map(FILE, Unknown::Step)), "Files to write."),
    key!(
        "directories",
        Steps(&Map(DIRECTORY, Unknown::Step)),
        "Directories to create.",
        also: ["dirs", "mkdir"],
    ),
    key!(
        "commands",
        List(&Label),
        "Commands for `sh -c`, in order.",
        also: ["cmd", "cmds", "run", "runcmd", "bootcmd", "script", "scripts", "exec", "shell"],
    ),
    key!(
        "users",
        MapOf(&Map(USER, Unknown::Step)),
        "Users to create, by login name."
    ),
    key!(
        "systemctl",
        Map(SYSTEMCTL, Unknown::Step),
        "Units to enable, disable, mask, start or override.",
        also: ["systemd", "services", "units"],
    ),
    key!("environment", MapOf(&Label), "Variables to set in a file.", also: ["env"]),
    key!(
        "environment_file",
        Text,
        "File for the variables. Default: `/etc/environment`."
    ),
    // Conditions and parts that only Kairos evaluates and runs.
    key!(
        "if_files",
        Foreign(&Map(IF_FILES, Unknown::Step)),
        "Files that decide if the step runs."
    ),
    key!("node", Any, "A regular expression for the host's name."),
    key!("only_os", Any, "A regular expression for the operating system."),
    key!(
        "only_os_version",
        Any,
        "A regular expression for the version of the operating system."
    ),
    key!("only_arch", Any, "A regular expression for the architecture."),
    key!(
        "only_service_manager",
        Any,
        "The service manager: `systemd` or `openrc`."
    ),
    key!(
        "after",
        Foreign(&Map(NAME_ONLY, Unknown::Step)),
        "Steps that run before this one."
    ),
    key!("authorized_keys", Any, "Public keys by login name.", also: ["ssh_keys", "ssh_authorized_keys"]),
    key!(
        "datasource",
        Foreign(&Map(DATASOURCE, Unknown::Step)),
        "A source of user-data."
    ),
    key!(
        "delete_entities",
        Foreign(&Map(ENTITY, Unknown::Step)),
        "Users and groups to delete."
    ),
    key!(
        "ensure_entities",
        Foreign(&Map(ENTITY, Unknown::Step)),
        "Users and groups to create."
    ),
    key!("dns", Foreign(&Map(DNS, Unknown::Step)), "Name servers."),
    key!("downloads", Foreign(&Map(DOWNLOAD, Unknown::Step)), "Files to fetch."),
    key!("git", Foreign(&Map(GIT, Unknown::Step)), "A repository to clone."),
    key!("hostname", Any, "The host's name."),
    key!("layout", Foreign(&Map(LAYOUT, Unknown::Step)), "Partitions of a disk."),
    key!("modules", Any, "Kernel modules to load."),
    key!("package_pins", Any, "Versions of packages."),
    key!(
        "packages",
        Foreign(&Map(PACKAGES, Unknown::Step)),
        "Packages to install or remove."
    ),
    key!("sysctl", Any, "Kernel parameters."),
    key!("systemd_firstboot", Any, "Settings of `systemd-firstboot`."),
    key!("timesyncd", Any, "Settings of `systemd-timesyncd`."),
    key!(
        "unpack_images",
        Foreign(&Map(UNPACK_IMAGE, Unknown::Step)),
        "Images to unpack."
    ),
];

const NAME_ONLY: &[Key] = &[key!("name", Any, "The step's name.")];

const IF_FILES: &[Key] = &[
    key!("any", Any, "Files of which one exists."),
    key!("all", Any, "Files that all exist."),
    key!("none", Any, "Files of which none exists."),
];

const DATASOURCE: &[Key] = &[
    key!("providers", Any, "Kinds of sources."),
    key!("path", Any, "Directory for the result."),
    key!("userdata_name", Any, "Name of the file."),
];

const ENTITY: &[Key] = &[
    key!("path", Any, "The file, e.g. `/etc/passwd`."),
    key!("entity", Any, "The entry."),
];

const DNS: &[Key] = &[
    key!("nameservers", Any, "Name servers.", also: ["servers", "server"]),
    key!("search", Any, "Domains."),
    key!("options", Any, "Options."),
    key!("path", Any, "The file. Default: `/etc/resolv.conf`."),
];

const DOWNLOAD: &[Key] = &[
    key!("path", Any, "Absolute path.", also: ["dest", "destination", "target"]),
    key!("url", Any, "The URL.", also: ["uri", "source"]),
    key!("permissions", Any, "The mode, in octal.", also: ["mode", "perms", "chmod"]),
    key!("owner", Any, "Numeric owner."),
    key!("group", Any, "Numeric group."),
    key!("timeout", Any, "Seconds."),
    key!("ownerstring", Any, "`user[:group]`."),
];

const GIT: &[Key] = &[
    key!("url", Any, "The repository.", also: ["repo", "repository", "uri"]),
    key!("path", Any, "The directory."),
    key!("branch", Any, "The branch."),
    key!("branch_only", Any, "`true`: only this branch."),
    key!("auth", Foreign(&Map(GIT_AUTH, Unknown::Step)), "The login."),
];

const GIT_AUTH: &[Key] = &[
    key!("username", Any, "User name."),
    key!("password", Any, "The password."),
    key!("private_key", Any, "Private key."),
    key!("insecure", Any, "`true`: the server is not verified."),
    key!("public_key", Any, "Public key of the server."),
];

const LAYOUT: &[Key] = &[
    key!("device", Foreign(&Map(DEVICE, Unknown::Step)), "The disk."),
    key!(
        "expand_partition",
        Foreign(&Map(EXPAND, Unknown::Step)),
        "Growth of the last partition."
    ),
    key!(
        "add_partitions",
        Foreign(&Map(PARTITION, Unknown::Step)),
        "Partitions to add."
    ),
];

const DEVICE: &[Key] = &[
    key!("init_disk", Any, "`true`: a new partition table."),
    key!("disk_name", Any, "Name of the disk."),
    key!("label", Any, "Label of a partition on the disk."),
    key!("path", Any, "The device."),
];

const EXPAND: &[Key] = &[key!("size", Any, "MiB; 0: all that is free.")];

const PARTITION: &[Key] = &[
    key!("fsLabel", Any, "Label of the file system."),
    key!("size", Any, "MiB; 0: all that is free."),
    key!("pLabel", Any, "Label of the partition."),
    key!("filesystem", Any, "Kind of file system."),
    key!("bootable", Any, "`true`: a partition to boot from."),
];

const PACKAGES: &[Key] = &[
    key!("install", Any, "Packages to install."),
    key!("remove", Any, "Packages to remove."),
    key!("refresh", Any, "`true`: the list of packages is refreshed."),
    key!("upgrade", Any, "`true`: all packages are upgraded."),
];

const UNPACK_IMAGE: &[Key] = &[
    key!("source", Any, "The image."),
    key!("target", Any, "The directory."),
    key!("platform", Any, "The platform."),
];

const SYSTEMCTL: &[Key] = &[
    key!("enable", List(&Text), "Units to enable."),
    key!("disable", List(&Text), "Units to disable."),
    key!("mask", List(&Text), "Units to mask."),
    key!("start", List(&Text), "Units to start."),
    key!("overrides", Steps(&Map(OVERRIDE, Unknown::Step)), "Drop-ins for units."),
];

const OVERRIDE: &[Key] = &[
    key!("service", Text, "The unit.", also: ["unit"]),
    key!("name", Text, "The drop-in's file name. Default: `override-yip.conf`."),
    key!("content", Text, "The drop-in's content.", also: ["data", "text"]),
];

const USER: &[Key] = &[
    key!(
        "passwd",
        Text,
        "A hash as in `/etc/shadow`, or the password itself.",
        also: ["hashed_passwd", "plain_text_passwd", "pass"],
    ),
    key!("lock_passwd", Bool, "`true`: no password opens the account."),
    key!(
        "ssh_authorized_keys",
        List(&Text),
        "Public keys that open the account.",
        also: ["ssh_keys", "authorized_keys", "pubkeys"],
    ),
    key!("gecos", Text, "The user's full name."),
    key!("homedir", Text, "The home directory. Default: `/home/<name>`.", also: ["home"]),
    key!("no_create_home", Bool, "`true`: the home directory is not created."),
    key!(
        "primary_group",
        Text,
        "The primary group. Default: a group of the user's name.",
        also: ["group"],
    ),
    key!("groups", List(&Text), "Other groups."),
    key!("shell", Text, "The login shell. Default: `/bin/sh`."),
    key!("uid", Label, "The numeric user ID. Default: the first that is free."),
    key!("system", Bool, "`true`: a system user, with a number below 1000."),
    // Keys of yip that change nothing for Landfall.
    key!("name", Any, "The login name, which is the key of the user."),
    key!("no_user_group", Any, "`true`: no group of the user's name."),
    key!("no_log_init", Any, "`true`: no entry in the logs of logins."),
];

const FILE: &[Key] = &[
    key!("path", Text, "Absolute path.", also: ["dest", "destination", "filename", "target"]),
    key!(
        "permissions",
        Mode,
        "The mode, in octal. Default: 0644, or 0600 if the content holds a credential.",
        also: ["mode", "perms", "chmod"],
    ),
    key!("owner", Owner(true), "Numeric owner."),
    key!("group", Owner(true), "Numeric group."),
    key!("ownerstring", Text, "`user[:group]`; overrides the numbers.", also: ["user", "username"]),
    key!(
        "encoding",
        Label,
        "`b64`, `gz`, `gz+b64` or their long forms. Default: the content is used as it is."
    ),
    key!("content", Label, "The content.", also: ["data", "text", "body"]),
];

const DIRECTORY: &[Key] = &[
    key!("path", Text, "Absolute path."),
    key!(
        "permissions",
        Mode,
        "The mode, in octal. Default: 0755.",
        also: ["mode", "perms", "chmod"],
    ),
    key!("owner", Owner(false), "Numeric owner."),
    key!("group", Owner(false), "Numeric group."),
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
                    key!("version", Label, "The profile's version, a semantic version."),
                    key!("template", Map(PACKS, Unknown::Silent), "The layers."),
                    key!(
                        "published",
                        Map(PACKS, Unknown::Silent),
                        "The layers, as the API answers."
                    ),
                    key!(
                        "variables",
                        List(&Map(VARIABLE, Unknown::Silent)),
                        "Variables, whose values templates look up."
                    ),
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

const VARIABLE: &[Key] = &[
    key!("name", Label, "The name, as in `{{.spectro.var.NAME}}`."),
    key!(
        "format",
        Label,
        "`string`, `number`, `boolean`, `ipv4`, `ipv4cidr`, `ipv6`, `version` or `base64`."
    ),
    key!("regex", Label, "A regular expression of Go that values match."),
    key!("defaultValue", Label, "The value if no other is given."),
    key!("required", Label, "`true`: a cluster needs a value."),
    key!("immutable", Label, "`true`: the default cannot be changed."),
    key!("hidden", Label, "`true`: nobody is asked for a value."),
    key!("isSensitive", Label, "`true`: the value is a secret."),
    key!("inputType", Label, "`text`, `multiline` or `dropdown`."),
    key!("options", List(&Any), "The values of a dropdown."),
];

const PACK: &[Key] = &[
    key!("name", Label, "The pack's name."),
    key!(
        "layer",
        Label,
        "`os`, `k8s`, `kernel`, `cloud-config`, `cni`, `csi` or `addon`."
    ),
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
        "drainPods",
        Label,
        "`true`, `false` or `auto`: pods leave a host before its update, with `auto` only in a site of several hosts."
    ),
    key!(
        "content",
        Map(
            &[
                key!("images", List(&MapOrValue(IMAGE, Unknown::Silent)), "The images."),
                key!("charts", Any, "Helm charts."),
                key!("layer", Any, "The layer of the content."),
            ],
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
        List(&Foreign(&Map(CONNECT_CERTIFICATE, Unknown::Silent))),
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
    key!(
        "inClusterRegistry",
        Foreign(&Map(IN_CLUSTER, Unknown::Silent)),
        "The registry in the cluster."
    ),
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

const CONNECT_CERTIFICATE: &[Key] = &[
    key!("certificate", Any, "The PEM text."),
    key!("certificateRef", Any, "The object of the cluster with the PEM text."),
];

const IN_CLUSTER: &[Key] = &[
    key!(
        "credentials",
        Foreign(&Map(IN_CLUSTER_LOGIN, Unknown::Silent)),
        "The login."
    ),
    key!("projects", Any, "Projects, by an old name."),
    key!("storageCheck", Any, "The volume to wait for."),
    key!("insecure", Any, "TLS without verification."),
    key!("certificates", Any, "Certificates to trust."),
    key!("repositoryName", Any, "The repository's name."),
    key!("username", Any, "User name."),
    key!("usernameRef", Any, "The object of the cluster with the user's name."),
    key!("password", Any, "The password."),
    key!("passwordRef", Any, "The object of the cluster with the password."),
    key!("encodedPassword", Any, "`true`: `password` is base64."),
];

const IN_CLUSTER_LOGIN: &[Key] = &[
    key!("username", Any, "User name."),
    key!("usernameRef", Any, "The object of the cluster with the user's name."),
    key!("password", Any, "The password."),
    key!("passwordRef", Any, "The object of the cluster with the password."),
    key!("insecure", Any, "TLS without verification."),
    key!("certificates", Any, "Certificates to trust."),
    key!("domain", Any, "The registry."),
];

/// One entry of `registry.credentials`.
const CONNECT_CREDENTIALS: &[Key] = &[
    key!("domain", Text, "The registry as `host[:port][/path]`."),
    key!("username", Text, "User name."),
    key!("usernameRef", Any, "The object of the cluster with the user's name."),
    key!("password", Text, "The password."),
    key!("passwordRef", Any, "The object of the cluster with the password."),
    key!("insecure", Bool, "TLS without verification."),
];

/// Returns true for a key of a stage's step.
pub(crate) fn is_step_key(name: &str) -> bool {
    STEP.iter().any(|key| key.name == name)
}

/// Returns the keys of the mapping at a path of the table.
#[cfg(test)]
pub(crate) fn keys_at(shape: &'static Shape, pattern: &str) -> &'static [Key] {
    match shape {
        Map(keys, _) | MapOrValue(keys, _) => {
            let Some(rest) = pattern.strip_prefix('.') else {
                return keys;
            };
            let end = rest.find(['.', '[']).unwrap_or(rest.len());
            let (name, rest) = rest.split_at(end);
            let key = keys.iter().find(|key| key.name == name).expect("the table has the key");
            keys_at(&key.shape, rest)
        }
        MapOf(inner) => keys_at(inner, pattern.strip_prefix(".*").expect("a key of the user")),
        List(inner) | Steps(inner) | OneOrMany(inner) => {
            keys_at(inner, pattern.strip_prefix("[]").expect("an item of the list"))
        }
        Foreign(inner) => keys_at(inner, pattern),
        _ => &[],
    }
}

/// A file of values for templates.
pub(crate) static VALUES: Shape = Map(
    &[
        key!("macro", MapOf(&Any), "Values of `{{.spectro.macro.NAME}}`."),
        key!("var", MapOf(&Any), "Values of `{{.spectro.var.NAME}}`."),
        key!("system", MapOf(&Any), "Values of `{{.spectro.system.NAME}}`."),
    ],
    Unknown::Error,
);
