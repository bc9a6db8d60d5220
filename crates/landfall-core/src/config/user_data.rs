//! Reader of user-data: the `#cloud-config` files of one host, merged into one tree.

use std::collections::HashMap;
use std::sync::Arc;

use camino::Utf8PathBuf;
use secrecy::SecretString;

use crate::config::address::{read_listen, read_listen_host, read_project, read_token_server};
use crate::config::bundles::read_bundles;
use crate::config::cluster::{read_kubernetes, read_webhook_policy};
use crate::config::codes::CodeDoc;
use crate::config::effect::decides_in_user_data;
use crate::config::facts::{Facts, Sourced};
use crate::config::node::{KeyPath, MappingEntry, Node, NodeValue};
use crate::config::registry::{self, read_certificates, read_registry, read_rule, registry_at};
use crate::config::report::Report;
use crate::config::shape::check_shape;
use crate::config::site::{check_own_endpoint, read_site, read_update};
use crate::config::stages::{read_foreign_file, read_stages};
use crate::config::text::Text;
use crate::config::unknown::UnreadFile;
use crate::config::yaml::{self};
use crate::config::{codes, keys};
use crate::diagnostic::NamedText;
use crate::reference::RegistryHost;
use crate::settings::{
    BundleSettings, Dialect, ManagementMode, MirrorSettings, Network, OwnSettings, Primary, PrimaryKind, PrimaryTls,
    RegistryRole, SiteSettings, Webhook,
};

const HEADER: &str = "#cloud-config";
const BYTE_ORDER_MARK: char = '\u{FEFF}';
pub(crate) const DEFAULT_PROJECT: &str = "spectro-images";
pub(crate) const DEFAULT_ENDPOINT: &str = "127.0.0.1:30003";

/// Parses and checks all files, and merges later ones over earlier ones: maps merge, lists replace, the lists of stages
/// append [spec:user-data.merge]. Adds the files that cannot be parsed to `unread`.
pub(crate) fn parse_user_data<'f>(
    files: &'f [NamedText],
    unread: &mut Vec<UnreadFile<'f>>,
    report: &mut Report,
) -> Option<Node> {
    let mut merged: Option<Node> = None;
    for file in files {
        let text = Text::of_file(file);
        check_header(&text, report);
        let mut found = Report::default();
        let document = yaml::parse_document(&text, &KeyPath::default(), &mut found);
        if let Some(document) = document.as_ref().filter(|document| !document.is_null()) {
            check_shape(document, &keys::USER_DATA, &mut found);
        }
        // Palette's own keys may hold anything [spec:user-data.severity].
        let is_read = |doc: &CodeDoc, key: &str| *doc == codes::MISPLACED || decides_in_user_data(key);
        report.absorb(found, |doc, key| document.is_none() || is_read(doc, key));
        let Some(document) = document else {
            if !yaml::is_blank(&text) {
                unread.push(UnreadFile {
                    name: &file.name,
                    is_profile: false,
                });
            }
            continue;
        };
        if document.is_null() {
            continue;
        }
        merged = Some(match merged {
            Some(below) => merge(&below, &document, MergeLevel::Root),
            None => document,
        });
    }
    merged
}

fn check_header(text: &Text, report: &mut Report) {
    let content = text.as_str();
    let bare = content.strip_prefix(BYTE_ORDER_MARK).unwrap_or(content);
    if bare.len() < content.len() {
        report
            .at(
                &codes::BYTE_ORDER_MARK,
                text.slice(0..0),
                Arc::from(""),
                "the file starts with an invisible byte order mark",
            )
            .help("save it as UTF-8 without BOM: cloud-init does not find `#cloud-config` behind it");
    }
    let start = content.len() - bare.trim_start().len();
    let line = content[start..].lines().next().unwrap_or_default();
    if line.trim_end() != HEADER {
        let draft = report.at(
            &codes::MISSING_HEADER,
            text.slice(start..start + line.len()),
            Arc::from(""),
            format!("the first line of user-data is not `{HEADER}`"),
        );
        if line.replace(' ', "").trim_end() == HEADER {
            draft.help(format!("write it without a space: `{HEADER}`"));
        } else if names_packs(content) {
            draft.help("this looks like a cluster profile: were `--user-data` and `--profile` swapped?");
        } else {
            draft.help(format!("put `{HEADER}` above this line"));
        }
    }
}

/// Returns true if a line of a YAML or JSON text holds the key `packs`, which every cluster profile has.
fn names_packs(content: &str) -> bool {
    let has_key = |line: &str| line.trim_start().starts_with("packs:") || line.contains("\"packs\":");
    content.lines().any(has_key)
}

/// Merges `above` over `below`. `level` decides if lists replace or append.
pub(crate) fn merge(below: &Node, above: &Node, level: MergeLevel) -> Node {
    if above.is_null() {
        // A key without a value removes nothing.
        return below.clone();
    }
    let mut merged = above.clone();
    let is_list = |node: &Node| matches!(node.value, NodeValue::Sequence(_) | NodeValue::Mapping(_));
    if level == MergeLevel::Steps && is_list(below) && is_list(above) {
        let steps = below.items_or_self().iter().chain(above.items_or_self()).cloned();
        merged.value = NodeValue::Sequence(steps.collect());
    } else if let (NodeValue::Mapping(under), NodeValue::Mapping(over)) = (&below.value, &above.value) {
        let mut entries = under.clone();
        let index_of: HashMap<&str, usize> = under
            .iter()
            .enumerate()
            .filter_map(|(index, entry)| Some((entry.key.text()?, index)))
            .collect();
        for entry in over {
            let name = entry.key.text();
            match name
                .and_then(|name| index_of.get(name))
                .and_then(|index| entries.get_mut(*index))
            {
                Some(own) => {
                    *own = MappingEntry {
                        value: merge(&own.value, &entry.value, level.below(name)),
                        key: entry.key.clone(),
                    }
                }
                None => entries.push(entry.clone()),
            }
        }
        merged.value = NodeValue::Mapping(entries);
    }
    merged
}

/// The position of a value in user-data, as far as merging depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MergeLevel {
    Root,
    /// The value of `stages`.
    Stages,
    /// The value of one stage: a list of steps.
    Steps,
    Elsewhere,
}

impl MergeLevel {
    fn below(self, key: Option<&str>) -> MergeLevel {
        match self {
            MergeLevel::Root if key == Some("stages") => MergeLevel::Stages,
            MergeLevel::Stages => MergeLevel::Steps,
            MergeLevel::Root | MergeLevel::Steps | MergeLevel::Elsewhere => MergeLevel::Elsewhere,
        }
    }
}

/// Reads all values of the merged tree, except `landfall.primary`.
pub(crate) fn read_user_data(root: &Node, facts: &mut Facts, report: &mut Report) {
    if let Some(stylus) = root.get("stylus") {
        read_registries(stylus, facts, report);
        read_stylus(stylus, facts, report);
    }
    if let Some(stages) = root.get("stages") {
        read_stages(stages, facts, report);
    }
    for key in ["write_files", "milpa_files"] {
        for file in root.get(key).map(Node::items_or_self).unwrap_or_default() {
            read_foreign_file(file, "boot", facts, report);
        }
    }
    if let Some(own) = root.get("landfall") {
        read_own(own, facts, report);
    }
    facts.settings.landfall.bundles = read_bundles(root, report);
    facts.settings.landfall.site = read_site(root, report);
}

fn read_registries(stylus: &Node, facts: &mut Facts, report: &mut Report) {
    let present = |key: &str| stylus.get(key).filter(|node| !node.entries().is_empty());
    let single = present("registryCredentials");
    let several = present("externalRegistries");
    let registries = match (single, several) {
        (Some(single), Some(several)) => {
            report
                .node(
                    &codes::BOTH_FORMS,
                    single,
                    "`registryCredentials` and `externalRegistries` exclude each other",
                )
                .also(several, "the other form")
                .help("use one of them: move the registry into `externalRegistries.registries`, or remove it");
            several.get("registries").map(Node::items_or_self).unwrap_or_default()
        }
        (Some(single), None) => std::slice::from_ref(single),
        (None, Some(several)) => several.get("registries").map(Node::items_or_self).unwrap_or_default(),
        (None, None) => &[],
    };
    for node in registries {
        if let Some(value) = read_registry(node, registry::EXTERNAL, report) {
            facts.registries.push(Sourced::new(value, node));
        }
    }
    let rules = several.and_then(|several| several.get("registryMappingRules"));
    for entry in rules.map(Node::entries).unwrap_or_default() {
        if let Some(value) = read_rule(entry, report) {
            facts.rules.push(Sourced::new(value, &entry.key));
        }
    }
}

fn read_stylus(stylus: &Node, facts: &mut Facts, report: &mut Report) {
    let settings = &mut facts.settings;
    let word = |key: &str| stylus.get(key).and_then(Node::text);
    settings.management_mode = match (word("managementMode"), word("installationMode")) {
        (Some("local"), _) | (None, Some("airgap")) => ManagementMode::Local,
        _ => ManagementMode::Central,
    };
    let webhook = |keys: &[&str]| stylus.at(keys);
    let enable = webhook(&["imageRedirectWebhook", "enable"])
        .or_else(|| webhook(&["webhook", "enable"]))
        .and_then(Node::boolean);
    let port = webhook(&["imageRedirectWebhook", "port"]).or_else(|| webhook(&["webhook", "port"]));
    settings.webhook = Webhook {
        enable: enable.unwrap_or(true),
        port: port.and_then(port_number),
    };
    let ui_port = stylus
        .at(&["localUI", "port"])
        .or_else(|| stylus.at(&["emcServer", "port"]))
        .and_then(port_number);
    settings.local_ui_port = ui_port.unwrap_or(settings.local_ui_port);
    let Some(site) = stylus.get("site") else { return };
    if let Some(certificates) = site.get("caCerts").filter(|list| !list.values().is_empty()) {
        settings.ca_certificates = read_certificates(certificates, report);
    }
    let network = |key: &str| {
        site.at(&["network", key])
            .and_then(Node::text)
            .filter(|text| !text.is_empty())
            .map(str::to_owned)
    };
    settings.network = Network {
        http_proxy: network("httpProxy").map(SecretString::from),
        https_proxy: network("httpsProxy").map(SecretString::from),
        no_proxy: network("noProxy"),
    };
}

/// Reads a port; `None` for 0, which stands for the default.
fn port_number(node: &Node) -> Option<u16> {
    node.integer()
        .and_then(|port| u16::try_from(port).ok())
        .filter(|port| *port != 0)
}

fn read_own(own: &Node, facts: &mut Facts, report: &mut Report) {
    let text = |keys: &[&str]| own.at(keys).and_then(Node::text).filter(|text| !text.is_empty());
    let count = |key: &str| own.get(key).and_then(Node::integer);
    let defaults = OwnSettings::default();
    let path = |keys: &[&str], default: Utf8PathBuf, report: &mut Report| match text(keys) {
        Some(path) if path.starts_with('/') => Utf8PathBuf::from(path),
        Some(_) => {
            if let Some(node) = own.at(keys) {
                report
                    .node(
                        &codes::BAD_SETTING,
                        node,
                        format!("`{}` is not an absolute path", node.path()),
                    )
                    .help(format!("start it with `/`, e.g. `{default}`"));
            }
            default
        }
        None => default,
    };
    facts.mirror_files = own.at(&["mirror", "files"]).cloned();
    facts.settings.landfall = OwnSettings {
        state_dir: path(&["stateDir"], defaults.state_dir, report),
        containerd_socket: path(&["containerd", "socket"], defaults.containerd_socket, report),
        containerd_config: path(&["containerd", "config"], defaults.containerd_config, report),
        containerd_enable: own
            .at(&["containerd", "enable"])
            .and_then(Node::boolean)
            .unwrap_or(defaults.containerd_enable),
        concurrency: count("concurrency")
            .and_then(|count| usize::try_from(count).ok())
            .unwrap_or(defaults.concurrency)
            .clamp(1, 256),
        bandwidth_limit: own
            .get("bandwidthLimit")
            .and_then(Node::size)
            .filter(|limit| *limit > 0),
        credentials_file: text(&["credentialsFile"]).map(|_| {
            path(
                &["credentialsFile"],
                Utf8PathBuf::from("/etc/landfall/credentials.json"),
                report,
            )
        }),
        token_servers: own
            .get("tokenServers")
            .map_or(&[][..], Node::values)
            .iter()
            .filter_map(|node| read_token_server(node, report))
            .collect(),
        reconcile_interval_seconds: own
            .get("reconcileInterval")
            .and_then(Node::seconds)
            .filter(|seconds| (1..=86_400).contains(seconds))
            .unwrap_or(defaults.reconcile_interval_seconds),
        listen: read_listen(own.get("listen"), report),
        webhook_listen: read_listen_host(own.at(&["webhook", "listen"]), report).unwrap_or(defaults.webhook_listen),
        webhook: read_webhook_policy(own, report),
        kubernetes: read_kubernetes(own, report),
        primary_listen: read_listen(own.at(&["primary", "listen"]), report),
        primary_tls: match text(&["primary", "tls"]) {
            Some("on") => PrimaryTls::On,
            _ => PrimaryTls::Auto,
        },
        kubelet_enable: own
            .at(&["kubelet", "enable"])
            .and_then(Node::boolean)
            .unwrap_or(defaults.kubelet_enable),
        mirror: read_mirror(own.get("mirror"), report),
        bundles: BundleSettings::default(),
        site: SiteSettings::default(),
        update: read_update(own, report),
    };
}

fn read_mirror(node: Option<&Node>, report: &mut Report) -> MirrorSettings {
    let defaults = MirrorSettings::default();
    let Some(node) = node else { return defaults };
    let each = |key: &str| node.get(key).map_or(&[][..], Node::values);
    let hosts: Vec<(RegistryHost, Option<&str>)> = each("hosts")
        .iter()
        .filter_map(|host| Some((registry::read_address(host, report)?.0, host.text())))
        .collect();
    MirrorSettings {
        enable: node.get("enable").and_then(Node::boolean).unwrap_or(defaults.enable),
        listen: read_listen(node.get("listen"), report).unwrap_or(defaults.listen),
        files: each("files")
            .iter()
            .filter_map(Node::text)
            .filter_map(|word| {
                [Dialect::Containerd, Dialect::K3s, Dialect::Rke2]
                    .into_iter()
                    .find(|dialect| dialect.name() == word)
            })
            .collect(),
        spellings: hosts
            .iter()
            .filter_map(|(host, text)| host.spelling_in((*text)?))
            .map(ToOwned::to_owned)
            .collect(),
        hosts: hosts.into_iter().map(|(host, _)| host).collect(),
    }
}

/// Reads `landfall.primary`. It runs after the profiles, because it overrides registry-connect.
pub(crate) fn read_own_primary(root: &Node, facts: &mut Facts, report: &mut Report) {
    let Some(node) = root
        .at(&["landfall", "primary"])
        .filter(|primary| !primary.entries().is_empty())
    else {
        return;
    };
    let kind = match node.get("kind").and_then(Node::text) {
        Some("harbor") => PrimaryKind::Harbor,
        Some("registry" | "zot") => PrimaryKind::Registry,
        _ => PrimaryKind::Embedded,
    };
    let mut primary = facts.settings.primary.take().unwrap_or_else(default_primary);
    primary.kind = kind;
    primary.location = Some(node.location());
    match node.get("endpoint") {
        Some(endpoint) => {
            if let Some((host, path)) = registry::read_address(endpoint, report) {
                if !path.is_empty() {
                    report
                        .node(
                            &codes::BAD_SETTING,
                            endpoint,
                            format!("`{}` is `host[:port]`, without a path", endpoint.path()),
                        )
                        .help("put the path into `project`");
                }
                check_endpoint(endpoint, &host, report);
                if kind == PrimaryKind::Embedded {
                    check_own_endpoint(endpoint, &host, &facts.settings.landfall.site, report);
                }
                primary.endpoint = host;
            }
        }
        None if kind != PrimaryKind::Embedded => {
            report
                .node(
                    &codes::BAD_SETTING,
                    node,
                    "a primary registry that is not the embedded one needs its `endpoint`",
                )
                .help("add `endpoint: host:port`");
        }
        None => {}
    }
    if let Some(project) = read_project(node.get("project"), report) {
        primary.project = project;
    }
    let has_access = ["username", "password", "certificates", "insecure"]
        .iter()
        .any(|key| node.get(key).is_some());
    if has_access {
        facts
            .registries
            .retain(|registry| registry.value.role != RegistryRole::Primary);
        let keys = registry::RegistryKeys {
            domain: "endpoint",
            username: "username",
            role: RegistryRole::Primary,
        };
        let value = registry_at(node, primary.endpoint.clone(), String::new(), keys, report);
        facts.registries.push(Sourced::new(value, node));
    }
    for registry in &mut facts.registries {
        if registry.value.role == RegistryRole::Primary {
            registry.value.host = primary.endpoint.clone();
        }
    }
    facts.settings.primary = Some(primary);
}

/// Reports an endpoint that stands for all addresses of a host.
fn check_endpoint(node: &Node, host: &RegistryHost, report: &mut Report) {
    if matches!(host.name(), "0.0.0.0" | "[::]") {
        let port = host.port().map_or(String::new(), |port| format!(":{port}"));
        report
            .node(
                &codes::ENDPOINT_OF_ALL,
                node,
                format!("`{host}` is no address that nodes and pods can name"),
            )
            .help(format!(
                "write the host's own address here, and `listen: \"{}{port}\"` beside it",
                host.name()
            ));
    }
}

/// Returns the default: the embedded registry on loopback.
pub(crate) fn default_primary() -> Primary {
    Primary {
        kind: PrimaryKind::Embedded,
        endpoint: DEFAULT_ENDPOINT.parse().expect("the constant is a host with a port"),
        project: DEFAULT_PROJECT.to_owned(),
        sync: true,
        location: None,
    }
}
