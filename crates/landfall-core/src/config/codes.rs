//! All findings about the configuration: stable code, usual severity, explanation and example of a correct value.
//!
//! The page of all codes in the docs is generated from [`all_codes`]. A code never gets a second meaning.

use crate::diagnostic::Severity;

/// The documentation of a code.
#[derive(Debug, PartialEq, Eq)]
pub struct CodeDoc {
    /// The stable code, e.g. `LF0101`.
    pub code: &'static str,
    /// The usual severity; `--compat palette` makes some notes warnings.
    pub severity: Severity,
    /// The problem, in a few words.
    pub title: &'static str,
    /// The reason why the problem matters.
    pub explanation: &'static str,
    /// An example of a correct value, or an instruction.
    pub example_fix: &'static str,
}

/// Returns all codes, in ascending order.
#[must_use]
pub fn all_codes() -> &'static [&'static CodeDoc] {
    ALL
}

macro_rules! codes {
    ($($name:ident = $code:literal, $severity:ident, $title:literal, $explanation:literal, $fix:literal;)*) => {
        $(pub(crate) static $name: CodeDoc = CodeDoc {
            code: $code,
            severity: Severity::$severity,
            title: $title,
            explanation: $explanation,
            example_fix: $fix,
        };)*
        static ALL: &[&CodeDoc] = &[$(&$name),*];
    };
}

codes! {
    MISSING_HEADER = "LF0101", Error, "user-data without `#cloud-config`",
        "cloud-init and Kairos take a file for user-data only when its first line that is not empty is `#cloud-config`; they silently ignore any other file.",
        "#cloud-config\nstylus: {}";
    YAML_SYNTAX = "LF0102", Error, "not YAML",
        "The file, or a string of YAML inside it, cannot be parsed. Nothing after the position shown was read.",
        "stylus:\n  managementMode: local";
    BYTE_ORDER_MARK = "LF0103", Warning, "byte order mark",
        "An editor put an invisible U+FEFF in front of the first line. Landfall skips it. cloud-init does not, and therefore does not find `#cloud-config`.",
        "save the file as UTF-8 without BOM";
    TAB = "LF0104", Error, "tab where YAML wants spaces",
        "YAML forbids tabs in indentation.",
        "stylus:\n  site: {}";
    ALIAS = "LF0105", Error, "unquoted `*`",
        "A plain value that starts with `*` is a YAML alias, a reference to an anchor elsewhere in the file. Passwords that were masked with asterisks are the usual case.",
        "password: \"****\"";
    DUPLICATE_KEY = "LF0106", Error, "key written twice",
        "YAML allows a key once in a mapping. Programs differ in the one that they use.",
        "stylus:\n  site: {}";
    TOO_LARGE = "LF0107", Error, "input beyond a limit",
        "An input is limited to 16 MiB, all together to 64 MiB, a YAML text to 500,000 nodes and 100 levels, so that no file can exhaust a small host.",
        "split the profile, or remove what is generated";
    SEVERAL_DOCUMENTS = "LF0108", Error, "several YAML documents",
        "A user-data file and a profile are one document each; everything after the second `---` is ignored. In the values of a pack the first document that is not empty is read, as Helm does, and this is a warning.",
        "give each document as a file of its own";

    WRONG_TYPE = "LF0201", Error, "wrong type",
        "The key takes a value of another type. Without quotes, `true`, `12` and the like are not strings in YAML: put such a string in quotes.",
        "password: \"123456\"";
    NULL = "LF0202", Error, "value missing",
        "The key is there and its value is empty, which YAML reads as null. A value that starts with `#` is a comment.",
        "password: \"####\"";
    UNKNOWN_KEY = "LF0203", Warning, "key that resembles a known one",
        "The key is not known, and resembles one that is: other case, number, separators, or a few other letters. It has no effect.",
        "stylus:\n  registryCredentials:\n    domain: reg:5000";
    UNKNOWN_OWN_KEY = "LF0204", Error, "unknown key under `landfall`",
        "These settings are Landfall's own; a key that it does not know can only be a mistake.",
        "landfall:\n  stateDir: /var/lib/landfall";
    MISPLACED = "LF0205", Warning, "key at the wrong indentation",
        "The key is known, but not at this place, where it has no effect. Published examples have this mistake: `externalRegistries` beside `stylus`, `stages` below it.",
        "stylus:\n  externalRegistries:\n    registryMappingRules: {}";
    DEPRECATED = "LF0206", Warning, "old spelling",
        "The key still works, but its name has changed.",
        "stylus:\n  imageRedirectWebhook:\n    enable: false";
    OUT_OF_RANGE = "LF0207", Error, "number out of range",
        "The number cannot be used for this key.",
        "stylus:\n  localUI:\n    port: 5080";
    UNKNOWN_WORD = "LF0208", Error, "none of the allowed values",
        "The key takes one of a few words.",
        "stylus:\n  managementMode: local";
    MAP_FOR_LIST = "LF0209", Warning, "mapping where a list belongs",
        "Landfall reads a single mapping as a list of one. Kairos itself drops all stages of a file for this.",
        "stages:\n  boot:\n    - name: one";
    UNLISTED_KEY = "LF0210", Note, "key that is not in the table",
        "No key near to this one is known. Palette Edge may know it: its reference is the source of the table, and a newer version may have more keys.",
        "stylus:\n  site:\n    paletteEndpoint: api.spectrocloud.com";
    VALUE_FOR_LIST = "LF0211", Warning, "single value where a list belongs",
        "Landfall reads a single value as a list of one. Kairos drops all stages of a file for this, and other readers refuse the file.",
        "commands:\n  - systemctl restart containerd";
    VALUE_FOR_MAP = "LF0212", Warning, "string where a mapping belongs",
        "Landfall reads the string as the value of the mapping's first key. Palette takes a mapping only.",
        "images:\n  - image: registry.example.com/team/app:1.2.0";
    PACK_INCOMPLETE = "LF0213", Warning, "pack without name or layer",
        "Messages, options of templates and the order of stages depend on the name, and the treatment of a pack depends on its layer. Without a layer it is an `addon`.",
        "- name: edge-k8s\n  layer: k8s\n  tag: 1.33.6";
    ENDPOINT_OF_ALL = "LF0214", Warning, "address that no other host can reach",
        "`0.0.0.0` and `[::]` stand for all addresses of a host to listen on. As the address of a registry in image names they mean the host itself, or nothing.",
        "landfall:\n  primary:\n    endpoint: \"10.10.100.45:30003\"\n    listen: \"0.0.0.0:30003\"";
    OBSERVE_AND_FAIL = "LF0215", Warning, "`observeOnly` with `failurePolicy: Fail`",
        "A webhook that only observes changes no pod, but with `Fail` the API server rejects each pod while the webhook cannot be reached.",
        "landfall:\n  webhook:\n    observeOnly: true\n    failurePolicy: Ignore";
    PRIMARY_ELSEWHERE = "LF0216", Error, "embedded registry at the address of another host",
        "The embedded registry serves at its endpoint, and a host cannot bind the address of another one. Hosts that work as one site have one registry behind one name.",
        "stylus:\n  enableMultiNode: true\nlandfall:\n  primary:\n    endpoint: \"10.10.100.45:30003\"";

    BAD_DOMAIN = "LF0301", Error, "not a registry",
        "A registry is written `host[:port][/path]`.",
        "domain: \"10.10.254.254:8000/spectro-images\"";
    SCHEME = "LF0302", Warning, "scheme in a registry's name",
        "Image references have no `https://`; it is left out. For plain HTTP set `insecure: true`.",
        "domain: reg.example.com";
    LOGIN_IN_NAME = "LF0303", Error, "name and password inside a registry's name",
        "A password in a name is shown wherever the name is shown.",
        "domain: reg.example.com\nusername: admin\npassword: \"…\"";
    BAD_BASE64 = "LF0304", Error, "password is not base64",
        "`encodedPassword: true` says that the password is base64; it cannot be decoded as such.",
        "password: \"Y2hhbmdlLW1l\"\nencodedPassword: true";
    BAD_PEM = "LF0305", Error, "not a PEM certificate",
        "A certificate is base64 between `-----BEGIN CERTIFICATE-----` and `-----END CERTIFICATE-----`.",
        "certificates:\n  - |\n    -----BEGIN CERTIFICATE-----\n    MIIB…\n    -----END CERTIFICATE-----";
    PLACEHOLDER_PEM = "LF0306", Warning, "certificate is a placeholder",
        "The BEGIN and END lines are right, but the text between them is not a certificate. Landfall leaves it out and trusts the registry by the system's certificates only.",
        "put the certificate of the registry's CA there";
    BOTH_FORMS = "LF0307", Error, "`registryCredentials` and `externalRegistries` together",
        "The first is the short form of the second. Landfall goes on with `externalRegistries`.",
        "stylus:\n  externalRegistries:\n    registries:\n      - domain: reg:5000";
    GRC_IO = "LF0308", Warning, "`grc.io`",
        "Google's registry is `gcr.io`. Published examples have this mistake; such a rule never matches.",
        "\"gcr.io/spectro-images-public\": \"reg.example.com/images\"";
    BAD_RULE = "LF0309", Error, "mapping rule that cannot be used",
        "A rule maps `host[:port][/path]` to `host[:port][/path]`; the word `all` on the left stands for every image.",
        "\"gcr.io/spectro-dev\": \"reg.example.com/images\"";
    RULE_WITHOUT_IMAGE = "LF0310", Warning, "mapping rule that matches no image",
        "No image of the profiles is below this prefix. Whole path segments are compared, from the start.",
        "remove the rule, or correct the prefix";
    IMAGE_WITHOUT_RULE = "LF0311", Warning, "image that no rule matches",
        "Rules exist, but none matches this image: it is pulled from the registry that the profile names.",
        "\"docker.io\": \"reg.example.com/docker.io\"";
    SEVERAL_WITHOUT_RULE = "LF0312", Warning, "several registries and no rule",
        "With several external registries, only mapping rules say which of them serves an image. This image is pulled from the registry that the profile names.",
        "registryMappingRules:\n  \"docker.io\": \"reg.example.com/docker.io\"";
    SEVERAL_PROVIDER_REGISTRIES = "LF0313", Note, "several private provider registries",
        "Landfall keeps one login for each registry. Palette supports one private provider registry per cluster; with `--compat palette` only the first counts.",
        "keep `providerCredentials` in one OS pack";
    LOGIN_INCOMPLETE = "LF0314", Warning, "password without user name",
        "Basic authentication needs both. Without a user name the registry is used anonymously.",
        "username: admin\npassword: \"…\"";
    REGISTRY_TWICE = "LF0315", Warning, "registry written twice",
        "Two entries have the same host and path; the first one is used.",
        "remove one of the entries";
    PROVIDER_HOST_DIFFERS = "LF0316", Warning, "provider credentials for another registry",
        "The login is used only for the registry that it names, and the provider image is in another one.",
        "providerCredentials:\n  registry: <the host of system.uri>";
    SECRET_REFERENCE = "LF0317", Warning, "reference to a Secret",
        "The name or password is in a Secret or ConfigMap of the cluster, which is not read outside of it. Until then the registry is used anonymously.",
        "username: admin\npassword: \"{{.spectro.macro.registryPassword}}\"";
    PROVIDER_AND_EXTERNAL = "LF0318", Note, "provider credentials beside an external registry",
        "Landfall uses each login for its own registry. Palette ignores the provider's login when there is an external registry; `--compat palette` does so too.",
        "remove `providerCredentials`";
    PROVIDER_AND_PRIMARY = "LF0319", Note, "provider credentials beside a primary registry",
        "Landfall supports both. Palette does not support a provider registry with a login beside a primary registry.",
        "remove `providerCredentials`";
    NAMELESS_HOST = "LF0320", Error, "registry name that other programs do not take for a host",
        "containerd, kubelet and every other program read `reg/a/b` as `docker.io/reg/a/b`: a first component is a host only when it has a dot or a port, or is `localhost`. Images redirected there would be pulled from Docker Hub.",
        "domain: \"reg:443\"";
    RULE_TWICE = "LF0321", Warning, "mapping rule written twice",
        "Two rules have the same prefix, apart from scheme, trailing slashes and aliases of `docker.io`; the first one is used.",
        "remove one of the rules";
    RULES_REPLACED = "LF0322", Note, "rules of the user-data that a profile replaces",
        "`imageReplacementRules` of registry-connect replaces `registryMappingRules` as a whole: the rules of the user-data have no effect.",
        "imageReplacementRules: |\n  gcr.io: reg.example.com/gcr.io";
    SYNC_WITHOUT_PRIMARY = "LF0323", Warning, "sync without a primary registry",
        "`content.sync` controls what may be copied into the primary registry. Without `registry.inClusterRegistry` the profile configures no primary registry.",
        "registry:\n  inClusterRegistry:\n    credentials: {username: admin, password: \"…\"}";
    BAD_KEY = "LF0324", Error, "not a public key",
        "A public key of bundles or images is PEM, PEM in base64, or the absolute path of a PEM file. A private key never belongs into user-data.",
        "landfall:\n  bundles:\n    publicKeys:\n      - |\n        -----BEGIN PUBLIC KEY-----\n        MCow…\n        -----END PUBLIC KEY-----";
    BUNDLE_AND_EXTERNAL = "LF0325", Note, "bundle beside an external registry, without a primary registry",
        "Landfall takes images from a bundle first. Palette ignores a bundle when there is an external registry and no primary registry; `--compat palette` does so too.",
        "registry:\n  inClusterRegistry:\n    credentials: {username: admin, password: \"…\"}";

    UNRESOLVED_TEMPLATE = "LF0401", Error, "template without a value",
        "Nothing gives this template a value. The setting that contains it is left out. It is an error where an image, a login, a rule, a label that redirects or a stage depends on it, and a warning elsewhere.",
        "landfall plan --set macro.NAME=value";
    UNSUPPORTED_TEMPLATE = "LF0402", Error, "template that cannot be evaluated",
        "A template is a look-up with functions behind `|`. It cannot be parsed, its function is not known, or the function does not take these values. It is an error only where a setting that is used depends on it.",
        "{{.spectro.macro.NAME | trunc 8 | lower}}";
    TEMPLATE_CYCLE = "LF0403", Error, "template that refers to itself",
        "The value of a pack refers back to itself.",
        "options:\n  system.uri: example.io/os:v1";
    BAD_IMAGE = "LF0404", Error, "not an image reference",
        "The image cannot be pulled under this name; it is left out of the plan.",
        "image: registry.example.com/team/app:1.2.0";
    NO_PROVIDER_IMAGE = "LF0405", Warning, "no provider image",
        "The OS pack does not say which image holds the operating system and Kubernetes. If there is none on purpose, write `NA`.",
        "options:\n  system.uri: example.io/os:v1";
    NO_PACKS = "LF0406", Error, "not a cluster profile",
        "A profile has its packs at `spec.template.packs` (or `spec.published.packs`, or `spec.packs`).",
        "metadata: {name: edge}\nspec:\n  template:\n    packs: []";
    MANIFEST_UNREADABLE = "LF0407", Warning, "manifest that is not YAML",
        "Landfall looks for images in pod specs. This manifest holds templates of another tool and cannot be parsed, so its images are not known.",
        "list its images in `pack.content.images`";
    SEVERAL_PROVIDER_IMAGES = "LF0408", Warning, "several provider images",
        "A host runs one provider image. The first is used.",
        "keep one OS pack";
    UNKNOWN_LAYER = "LF0409", Warning, "unknown layer",
        "A pack is in the layer `os`, `k8s`, `kernel`, `cloud-config`, `cni`, `csi` or `addon`. This one is treated as `addon`.",
        "layer: addon";
    DEFAULT_USED = "LF0410", Note, "template whose default is used",
        "Nothing gives this template a value here, and its function `default` replaces it. Palette may know a value.",
        "landfall plan --set macro.NAME=value";
    VARIABLE_VALUE = "LF0411", Error, "value that a variable does not take",
        "The value breaks the format, the expression or the options of its variable. It is an error only where a setting that is used depends on it.",
        "landfall plan --set var.NAME=value";
    VARIABLE_DEFINITION = "LF0412", Warning, "variable with contradictory rules",
        "Palette refuses such a variable: one that is hidden and required, read-only or a dropdown needs a default, and its format and its expression have to be known.",
        "variables:\n  - {name: vip, format: ipv4, required: true}";
    VARIABLE_MISSING = "LF0413", Warning, "required variable without a value",
        "Palette deploys no cluster without a value. No template that Landfall reads needs it.",
        "landfall plan --set var.NAME=value";
    BAD_VERSION = "LF0414", Warning, "version that Palette refuses",
        "The version of a profile is a semantic version: three numbers, without `v`.",
        "spec:\n  version: 1.0.0";
    CHARTS_WITHOUT_IMAGES = "LF0415", Warning, "charts without a list of images",
        "Landfall renders no Helm charts. The images of this pack are known only if the pack lists them; otherwise the cluster lacks them.",
        "pack:\n  content:\n    images:\n      - image: docker.io/library/nginx:1.27";
    SUSPECTED_IMAGES = "LF0416", Note, "images in the values of charts",
        "The values of a chart look like images that the pack does not list. They are neither listed nor pulled.",
        "pack:\n  content:\n    images:\n      - image: docker.io/library/nginx:1.27";
    READ_ONLY_VARIABLE = "LF0417", Warning, "value for a read-only variable",
        "Palette keeps the default of a variable with `immutable: true`. Landfall uses the value that is given.",
        "leave the value out";

    ALWAYS_PULL_IMAGES = "LF0501", Error, "`AlwaysPullImages` with a private registry",
        "The admission plug-in makes the kubelet ask the registry at every start of a container. Preloaded core images are in no registry, so their containers cannot start.",
        "enable-admission-plugins: NamespaceLifecycle,ServiceAccount,NodeRestriction";
    CONFIGS_ONLY = "LF0502", Warning, "`registries.yaml` without mirrors",
        "`configs` gives K3s and RKE2 credentials and trust; only `mirrors` redirects a pull.",
        "mirrors:\n  gcr.io:\n    endpoint: [\"https://reg.example.com\"]";
    NO_SOURCE = "LF0503", Warning, "images that no registry may serve",
        "Sync is off and no external registry is set: the images have to be in the primary registry already.",
        "content:\n  sync:\n    enable: true";
    NODE_WITHOUT_FILES = "LF0504", Warning, "redirection by the node without mirror files",
        "The webhook leaves the pods of this namespace to the node, and no mirror file tells its container runtime where images come from.",
        "landfall:\n  mirror:\n    files: [containerd]";
    MIRROR_FILES_READING = "LF0505", Warning, "mirror files, and containerd on this machine",
        "containerd follows mirror files only if its own configuration names their directory. `landfall validate` reads that configuration on the machine it runs on, or below `--root`, where `landfall.mirror.files` has `containerd`: the release, the main file with its imports, and containerd's own dump. The finding is a warning if containerd does not read the files, or if that is not known. It is a note if containerd reads them, and on a machine that may not be the host: one without Landfall's state directory, unless `--root` names it.",
        "version = 3\n[plugins.\"io.containerd.cri.v1.images\".registry]\n  config_path = \"/etc/containerd/certs.d\"";
    KUBELET_WITHOUT_PLUGIN = "LF0530", Note, "registries with a login, and a kubelet without the credential provider",
        "Pods that are redirected to a registry with a login can be pulled only if the kubelet has the login. It gets it from the credential provider, by two flags. `landfall redirect render --for kubelet` prints them for each distribution.",
        "cluster:\n  config: |\n    kind: InitConfiguration\n    nodeRegistration:\n      kubeletExtraArgs:\n        image-credential-provider-config: /etc/kubernetes/landfall-credential-provider.yaml\n        image-credential-provider-bin-dir: /usr/libexec/landfall";

    UNKNOWN_STAGE = "LF0601", Warning, "unknown stage",
        "Kairos runs its own stages, each with `.before` and `.after`. A name that resembles one of them is a warning. Any other name is a note: its steps run when a program or a person asks for them by name (`kairos-agent run-stage NAME`, `landfall stages run NAME`).",
        "stages:\n  initramfs: []";
    IGNORED_STAGE_KEY = "LF0602", Warning, "key that a stage ignores",
        "Kairos silently ignores keys that it does not know, and so does Landfall. This one resembles a key that they know.",
        "permissions: 0644";
    BAD_MODE = "LF0603", Error, "not a file mode",
        "A mode is octal digits, at most 7777.",
        "permissions: 0644";
    DECIMAL_MODE = "LF0604", Warning, "mode in decimal",
        "Without a leading 0 YAML reads the digits as a decimal number, which is another mode.",
        "permissions: 0644";
    BAD_CONTENT = "LF0605", Error, "content that cannot be decoded",
        "The content is not encoded as `encoding` says.",
        "encoding: b64\ncontent: aGVsbG8K";
    BAD_PATH = "LF0606", Error, "path that cannot be written",
        "A stage writes to absolute paths without `..`.",
        "path: /etc/motd";
    BAD_SETTING = "LF0607", Error, "setting that cannot be used",
        "The value has the right type, but the setting cannot use it.",
        "landfall:\n  primary:\n    endpoint: \"10.10.100.45:30003\"";
    CAPITAL_KUBELET = "LF0608", Error, "`Kubelet` with a capital K",
        "A search-and-replace turned `kubelet` into `Kubelet` in published examples. API groups and fields are compared letter by letter: kubelet and kubeadm refuse the file, or ignore the field.",
        "apiVersion: kubelet.config.k8s.io/v1\nkind: CredentialProviderConfig";
    MATH_IMAGES = "LF0609", Error, "`mathImages`",
        "The field of a credential provider is `matchImages`; published examples have this mistake, and kubelet then never calls the plug-in.",
        "matchImages:\n  - gcr.io";
    STEP_CONDITION = "LF0610", Warning, "condition that Landfall does not evaluate",
        "Kairos knows more conditions than `if`, and evaluates Go templates in `if`. A step that has one of them is left out, so that it never runs where it should not.",
        "if: '[ \"$(uname -m)\" = x86_64 ]'";
    STEP_KEY_NOT_RUN = "LF0611", Warning, "part of a step that Landfall does not run",
        "Landfall runs `files`, `directories`, `commands`, `users`, `systemctl` and `environment`; Kairos knows more. The other parts of the step run.",
        "commands:\n  - hostnamectl set-hostname edge-1";
    WHOLE_CONTAINERD_CONFIG = "LF0612", Warning, "a stage that writes containerd's whole `config.toml`",
        "The file belongs to the operating system image: a copy hides what an upgrade brings, and with systemd extensions it is not read at all. On containerd 2 a drop-in sets only what differs, if `imports` of the main file names it. containerd 1.x does not merge drop-ins: there the lines belong into the image's own file.",
        "path: /etc/containerd/conf.d/registry-config-path.toml\ncontent: |\n  version = 3\n  [plugins.\"io.containerd.cri.v1.images\".registry]\n    config_path = \"/etc/containerd/certs.d\"";
    CREDENTIAL_DIRECTORY = "LF0613", Warning, "credential file in a directory that no program reads",
        "The credential provider reads `/etc/kubernetes/registries`; its README names another directory.",
        "path: /etc/kubernetes/registries/gcr.io.json";
    REGISTRIES_YAML_PATH = "LF0614", Warning, "`registries.yaml` of another distribution",
        "K3s reads `/etc/rancher/k3s/registries.yaml`, RKE2 reads `/etc/rancher/rke2/registries.yaml`. Published examples give both the path of K3s.",
        "path: /etc/rancher/rke2/registries.yaml";
    STRING_MODE = "LF0615", Warning, "mode in quotes",
        "Landfall reads a mode in quotes as octal. Kairos takes numbers only: it silently drops all stages of the file.",
        "permissions: 0644";
    READABLE_CREDENTIAL = "LF0616", Warning, "credential that every user of the host can read",
        "The file holds a login and its mode lets other users read it. Without `permissions` Landfall writes such a file with 0600.",
        "permissions: 0600";
    LATE_PROVIDER_CONFIG = "LF0617", Warning, "kubelet's configuration written after kubelet started",
        "kubelet reads the `CredentialProviderConfig` once, when it starts; `reconcile` runs five minutes later. The files with the logins may be written then: they are read each time.",
        "stages:\n  initramfs:\n    - name: credential provider\n      files: []";
    NO_CACHE_DURATION = "LF0618", Error, "credential provider without `defaultCacheDuration`",
        "The field is mandatory: kubelet exits with `providers.defaultCacheDuration: Required value`.",
        "defaultCacheDuration: 5m0s";
    BAD_USER = "LF0619", Error, "user that cannot be created",
        "A login name has letters, digits, `_`, `-` and `.`, at most 32 of them; a number is below 4294967295; a home directory is an absolute path; none of the fields holds `:` or a line break.",
        "users:\n  kairos:\n    groups: [admin]";
    BAD_VARIABLE = "LF0620", Error, "variable that cannot be written",
        "A variable's name has letters, digits and `_`, and does not begin with a digit; its value is one line.",
        "environment:\n  HTTP_PROXY: http://proxy:3128";
    BAD_UNIT = "LF0621", Error, "not the name of a unit",
        "A unit's name has letters, digits and `:-_.@\\`, and does not begin with `-`.",
        "systemctl:\n  enable:\n    - landfall-agent.service";
    REMOTE_KEY = "LF0622", Warning, "SSH key that would have to be fetched",
        "Landfall writes keys as they are given. Kairos fetches those of `github:NAME`; a host without a network then has none.",
        "ssh_authorized_keys:\n  - ssh-ed25519 AAAA… operator";
    FOREIGN_PART = "LF0623", Note, "part of the file that another program runs",
        "Kairos and cloud-init run parts of a `#cloud-config` that Landfall does not: `write_files`, `runcmd`, `users` at the top and others. Landfall looks for readable credentials in the files, and runs nothing of it.",
        "stages:\n  boot:\n    - name: the same as a step\n      commands:\n        - touch /run/x";
    STAGE_TEMPLATE = "LF0624", Note, "template that Kairos evaluates",
        "Kairos evaluates Go templates in the commands, variables and files of a step, with facts of the host. Landfall takes them as they are written. A template in a condition is `LF0610`.",
        "content: \"{{`{{ name }}`}}\"";
    UNLISTED_STEP_KEY = "LF0625", Note, "key of a stage that is not in the table",
        "No key near to this one is known. Kairos ignores keys that it does not know; a newer version may know it.",
        "stages:\n  boot:\n    - name: one\n      commands: []";
    REPLACING_DROP_IN = "LF0640", Note, "a stage that writes a part of containerd's CRI section",
        "containerd 1.x replaces the whole section of the CRI plug-in by the table of an imported file: `sandbox_image`, `SystemdCgroup` and the rest of the main file are lost. containerd 2 merges the tables, and reads the file only if `imports` of the main file names it.",
        "landfall:\n  mirror:\n    files: [containerd]";
    MIRRORS_AND_CONFIG_PATH = "LF0641", Warning, "`config_path` beside inline mirrors",
        "containerd's CRI plug-in does not load when `registry.mirrors`, or in 1.x `registry.configs.*.tls`, stands beside `config_path`: the node is not ready. Files below `config_path` say the same.",
        "path: /etc/containerd/certs.d/docker.io/hosts.toml\ncontent: |\n  [host.\"https://reg.example.com\"]";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_ascending_and_explained() {
        for pair in all_codes().windows(2) {
            assert!(pair[0].code < pair[1].code, "{} before {}", pair[0].code, pair[1].code);
        }
        for doc in all_codes() {
            assert!(doc.code.starts_with("LF") && doc.code.len() == 6, "{}", doc.code);
            assert!(doc.explanation.ends_with('.'), "{}", doc.code);
            assert!(!doc.title.is_empty() && !doc.example_fix.is_empty(), "{}", doc.code);
        }
    }
}
