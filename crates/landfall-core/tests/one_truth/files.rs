//! Readers of `hosts.toml` and `registries.yaml` that follow the sources of their runtimes and do not know our rules. They
//! begin with the name of an image as a pod has it, and K3s' reader goes through the `hosts.toml` that K3s makes.

use std::collections::BTreeMap;

use landfall_core::hostconf::Rendering;
use landfall_core::reference::ImageReference;
use regex::Regex;
use serde::Deserialize;

use crate::configurations::Image;
use crate::once;

fn file<'a>(rendering: &'a Rendering, path: &str) -> Option<&'a str> {
    rendering
        .files
        .iter()
        .find(|file| file.path == path)
        .map(|file| file.content.as_str())
}

/// Joins a URL without its scheme and a name; `/v2` is not a part of the name. A host is the same with capitals.
fn under(url: &str, name: &str) -> String {
    let place = url
        .split_once("://")
        .expect("a URL")
        .1
        .replacen("registry-1.docker.io", "docker.io", 1);
    let (host, path) = place.split_once("/v2").unwrap_or((&place, ""));
    let host = host.to_ascii_lowercase();
    match path.trim_matches('/') {
        "" => format!("{host}/{name}"),
        path => format!("{host}/{path}/{name}"),
    }
}

/// Returns the registry under which containerd looks for a file. The CRI plug-in takes the name as it is written, but
/// for names without a registry, and `index.docker.io`, which distribution's `reference` package calls `docker.io`.
fn registry_at_runtime(image: &Image) -> &str {
    let text = image.text.split_once("://").map_or(image.text, |(_, rest)| rest);
    match text.split_once('/') {
        Some(("index.docker.io", _)) => "docker.io",
        Some((first, _))
            if first == "localhost" || first.contains(['.', ':']) || first.chars().any(char::is_uppercase) =>
        {
            first
        }
        Some(_) | None => "docker.io",
    }
}

/// A `[host]` table, or the root table with `server`.
struct Endpoint {
    url: String,
    rewrites: Vec<(Regex, String)>,
}

impl Endpoint {
    /// Returns the reference that is asked. Rewrites are an addition of K3s' containerd.
    fn reference(&self, name: &str) -> String {
        let rewritten = self.rewrites.iter().find_map(|(pattern, with)| {
            let is_meant = pattern.is_match(name);
            is_meant.then(|| pattern.replace(name, with.as_str()).into_owned())
        });
        under(&self.url, rewritten.as_deref().unwrap_or(name))
    }
}

/// A `hosts.toml`: the tables in their order, and `server`.
pub(crate) struct HostsFile {
    tables: Vec<Endpoint>,
    server: Option<Endpoint>,
}

/// The `hosts.toml` files of a runtime, by directory.
pub(crate) type HostsFiles = BTreeMap<String, HostsFile>;

/// Reads a `hosts.toml`. It fails for a text that containerd 1.x cannot parse.
fn read_hosts_toml(text: &str) -> HostsFile {
    for line in text.lines().filter(|line| line.trim_start().starts_with('[')) {
        let name = line.trim().trim_start_matches('[').trim_end_matches(']');
        assert!(
            !name.contains([']', '[']),
            "containerd 1.x cannot parse the table {line}"
        );
    }
    let document: toml_edit::DocumentMut = text.parse().unwrap_or_else(|error| panic!("{error}\n{text}"));
    let hosts = document.get("host").and_then(toml_edit::Item::as_table_like);
    assert!(hosts.is_some(), "containerd 1.6 needs a `host` table:\n{text}");
    let tables = hosts.into_iter().flat_map(|hosts| hosts.iter()).map(|(url, table)| {
        let rewrites = table.get("rewrite").and_then(toml_edit::Item::as_table_like);
        let rewrites = rewrites.into_iter().flat_map(|rewrites| rewrites.iter());
        let text = |item: &toml_edit::Item| item.as_str().expect("a replacement").to_owned();
        Endpoint {
            url: url.to_owned(),
            rewrites: rewrites
                .map(|(pattern, with)| (Regex::new(pattern).expect("an expression"), text(with)))
                .collect(),
        }
    });
    let server = document.get("server").and_then(toml_edit::Item::as_str);
    let server = server.filter(|url| !url.is_empty()).map(|url| Endpoint {
        url: url.to_owned(),
        rewrites: Vec::new(),
    });
    HostsFile {
        tables: tables.collect(),
        server,
    }
}

/// Reads the files that containerd reads at each pull.
pub(crate) fn read_containerd(rendering: &Rendering) -> HostsFiles {
    let files = rendering.files.iter().filter_map(|file| {
        let directory = file.path.as_str().strip_prefix("/etc/containerd/certs.d/")?;
        Some((
            directory.strip_suffix("/hosts.toml")?.to_owned(),
            read_hosts_toml(&file.content),
        ))
    });
    files.collect()
}

/// Returns the references that containerd asks (`docs/hosts.md`, `core/remotes/docker/config/hosts.go`): by the file of the
/// registry in the image's name, else by that of `_default`. It asks the `[host]` tables in order, then `server`, which is
/// the registry itself if it is missing.
pub(crate) fn by_containerd(files: &HostsFiles, image: &Image) -> Vec<String> {
    let name = image.reference.repository.as_str();
    let Some(file) = files.get(registry_at_runtime(image)).or_else(|| files.get("_default")) else {
        return vec![origin(&image.reference)];
    };
    let server = file.server.as_ref();
    let last = server.map_or_else(|| origin(&image.reference), |server| server.reference(name));
    once(file.tables.iter().map(|table| table.reference(name)).chain([last]))
}

fn origin(image: &ImageReference) -> String {
    format!("{}/{}", image.host, image.repository)
}

/// The `hosts.toml` files that K3s makes of `registries.yaml` at its start, by directory.
pub(crate) struct Registries {
    files: HostsFiles,
    /// True if a registry is asked itself where its file names no `server`.
    asks_registry: bool,
}

#[derive(Deserialize, Default)]
struct RegistriesFile {
    #[serde(default)]
    mirrors: BTreeMap<String, Mirror>,
    #[serde(default)]
    configs: BTreeMap<String, Config>,
}

#[derive(Deserialize)]
struct Mirror {
    endpoint: Vec<String>,
    #[serde(default)]
    rewrite: BTreeMap<String, String>,
}

#[derive(Deserialize, Default, Clone)]
struct Config {
    tls: Option<Tls>,
}

#[derive(Deserialize, Clone)]
struct Tls {
    ca_file: Option<String>,
    #[serde(default)]
    insecure_skip_verify: bool,
}

/// Tells again how K3s at cacc6d6 makes `hosts.toml` of `registries.yaml`: `getHostConfigs` of
/// `pkg/agent/containerd/config.go`, and the template of `pkg/agent/templates/templates.go`. RKE2 is the same program.
pub(crate) fn read_registries(rendering: &Rendering) -> Registries {
    let text = file(rendering, "/etc/rancher/k3s/registries.yaml").expect("registries.yaml");
    let disabled = "disable-default-registry-endpoint: true\n";
    let asks_registry = !rendering.fragments.iter().any(|part| part.text == disabled);
    let read: RegistriesFile = match text.lines().count() {
        0 | 1 => RegistriesFile::default(),
        _ => serde_saphyr::from_str(text).expect("registries.yaml is YAML"),
    };
    let mut files: BTreeMap<String, String> = BTreeMap::new();
    for (host, config) in &read.configs {
        let server = Some(normalised(host).0);
        files.insert(host.clone(), hosts_toml(server.as_deref(), config, &[], &read));
    }
    for (host, mirror) in &read.mirrors {
        let has_config = read.configs.contains_key(host);
        let config = read.configs.get(host).cloned().unwrap_or_default();
        let server = match (host.as_str(), has_config || asks_registry) {
            ("*", _) | (_, false) => None,
            (host, true) => Some(normalised(host).0),
        };
        let mut endpoints: Vec<(String, bool, &BTreeMap<String, String>)> = Vec::new();
        for endpoint in &mirror.endpoint {
            let (url, overrides) = normalised(endpoint);
            if endpoints.iter().all(|(known, ..)| *known != url) {
                endpoints.push((url, overrides, &mirror.rewrite));
            }
        }
        let directory = if host == "*" { "_default" } else { host };
        files.insert(
            directory.to_owned(),
            hosts_toml(server.as_deref(), &config, &endpoints, &read),
        );
    }
    Registries {
        files: files
            .iter()
            .map(|(directory, text)| (directory.clone(), read_hosts_toml(text)))
            .collect(),
        asks_registry,
    }
}

/// Returns the URL of an endpoint with its path, and true if the path is no API root.
fn normalised(endpoint: &str) -> (String, bool) {
    let (scheme, rest) = endpoint.split_once("://").unwrap_or(("https", endpoint));
    let (host, path) = rest
        .split_once('/')
        .map_or((rest, String::new()), |(host, path)| (host, format!("/{path}")));
    let host = if host == "docker.io" {
        "registry-1.docker.io"
    } else {
        host
    };
    match path.as_str() {
        "" | "/" | "/v2" => (format!("{scheme}://{host}/v2"), false),
        path => (format!("{scheme}://{host}{path}"), true),
    }
}

/// Fills K3s' template. URLs, patterns and replacements are not escaped.
fn hosts_toml(
    server: Option<&str>,
    config: &Config,
    endpoints: &[(String, bool, &BTreeMap<String, String>)],
    read: &RegistriesFile,
) -> String {
    let mut text = "# File generated by k3s. DO NOT EDIT.\n".to_owned();
    if let Some(url) = server {
        text.push_str(&format!(
            "server = \"{url}\"\ncapabilities = [\"pull\", \"resolve\", \"push\"]\n"
        ));
    }
    text.push_str(&tls(config, ""));
    text.push_str("[host]\n");
    for (url, overrides, rewrites) in endpoints {
        text.push_str(&format!("[host.\"{url}\"]\n  capabilities = [\"pull\", \"resolve\"]\n"));
        if *overrides {
            text.push_str("  override_path = true\n");
        }
        let authority = url
            .split_once("://")
            .expect("a URL")
            .1
            .split('/')
            .next()
            .expect("a host");
        text.push_str(&tls(read.configs.get(authority).unwrap_or(&Config::default()), "  "));
        if !rewrites.is_empty() {
            text.push_str(&format!("  [host.\"{url}\".rewrite]\n"));
            for (pattern, with) in *rewrites {
                text.push_str(&format!("    \"{pattern}\" = \"{with}\"\n"));
            }
        }
    }
    text
}

fn tls(config: &Config, indent: &str) -> String {
    let Some(tls) = &config.tls else { return String::new() };
    let ca = tls.ca_file.as_ref().map(|path| format!("{indent}ca = [{path:?}]\n"));
    let skip = tls
        .insecure_skip_verify
        .then(|| format!("{indent}skip_verify = true\n"));
    ca.into_iter().chain(skip).collect()
}

/// Returns the references that K3s' containerd asks. Its build asks no registry in the place of a missing `server`.
pub(crate) fn by_k3s(registries: &Registries, image: &Image) -> Vec<String> {
    let name = image.reference.repository.as_str();
    let of = |host: &str| registries.files.get(host);
    let Some(file) = of(registry_at_runtime(image)).or_else(|| of("_default")) else {
        return vec![origin(&image.reference)];
    };
    let origin = registries.asks_registry.then(|| origin(&image.reference));
    let last = file.server.as_ref().map(|server| server.reference(name)).or(origin);
    once(file.tables.iter().map(|table| table.reference(name)).chain(last))
}
