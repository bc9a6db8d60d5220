//! Readers of `hosts.toml` and `registries.yaml` that follow the documentation of their runtimes and do not know our
//! rules.

use std::collections::BTreeMap;

use landfall_core::hostconf::Rendering;
use landfall_core::reference::ImageReference;
use serde::Deserialize;

use crate::once;

fn file<'a>(rendering: &'a Rendering, path: &str) -> Option<&'a str> {
    rendering
        .files
        .iter()
        .find(|file| file.path == path)
        .map(|file| file.content.as_str())
}

/// Joins a URL without its scheme and a name; `/v2` is not a part of the name.
fn under(url: &str, name: &str) -> String {
    let place = url
        .split_once("://")
        .expect("a URL")
        .1
        .replacen("registry-1.docker.io", "docker.io", 1);
    let (host, path) = place.split_once("/v2").unwrap_or((&place, ""));
    match path.trim_matches('/') {
        "" => format!("{host}/{name}"),
        path => format!("{host}/{path}/{name}"),
    }
}

/// Returns the references that containerd asks (`docs/hosts.md`): by the registry's file, else by that of `_default`.
/// It asks the `[host]` tables in order, then `server`, which is the registry itself if it is missing.
pub(crate) fn by_containerd(rendering: &Rendering, image: &ImageReference) -> Vec<String> {
    let name = image.repository.as_str();
    let of = |host: &str| file(rendering, &format!("/etc/containerd/certs.d/{host}/hosts.toml"));
    let Some(text) = of(image.host.as_str()).or_else(|| of("_default")) else {
        return vec![format!("{}/{name}", image.host)];
    };
    let document: toml_edit::DocumentMut = text.parse().expect("hosts.toml is TOML");
    let hosts = document
        .get("host")
        .and_then(|hosts| hosts.as_table_like())
        .into_iter()
        .flat_map(|hosts| hosts.iter());
    let server = document
        .get("server")
        .and_then(|server| server.as_str())
        .map(ToOwned::to_owned);
    once(
        hosts
            .map(|(url, _)| url.to_owned())
            .chain([server.unwrap_or_else(|| format!("https://{}", image.host))])
            .map(|url| under(&url, name)),
    )
}

/// A parsed `registries.yaml`, and the setting if the registries themselves are asked last.
pub(crate) struct Registries {
    file: RegistriesFile,
    asks_registry: bool,
}

#[derive(Deserialize, Default)]
struct RegistriesFile {
    #[serde(default)]
    mirrors: BTreeMap<String, Mirror>,
}

#[derive(Deserialize)]
struct Mirror {
    endpoint: Vec<String>,
    #[serde(default)]
    rewrite: BTreeMap<String, String>,
}

/// Reads the files that K3s reads at its start.
pub(crate) fn read_registries(rendering: &Rendering) -> Registries {
    let text = file(rendering, "/etc/rancher/k3s/registries.yaml").expect("registries.yaml");
    let disabled = "disable-default-registry-endpoint: true\n";
    Registries {
        file: match text.lines().count() {
            0 | 1 => RegistriesFile::default(),
            _ => serde_saphyr::from_str(text).expect("registries.yaml is YAML"),
        },
        asks_registry: !rendering.fragments.iter().any(|part| part.text == disabled),
    }
}

/// Returns the references that K3s asks: the endpoints in order, each with the rewritten name, then the registry
/// itself, unless the configuration has `disable-default-registry-endpoint`. A registry without a mirror of its own or
/// one for `*` is asked itself. The patterns that we write are `^(.*)$` and `^path/(.*)$`.
pub(crate) fn by_k3s(registries: &Registries, image: &ImageReference) -> Vec<String> {
    let origin = format!("{}/{}", image.host, image.repository);
    let name = image.repository.as_str();
    let mirrors = &registries.file.mirrors;
    let Some(mirror) = mirrors.get(image.host.as_str()).or_else(|| mirrors.get("*")) else {
        return vec![origin];
    };
    let rewritten = mirror.rewrite.iter().find_map(|(pattern, with)| {
        let path = pattern.strip_prefix('^')?.strip_suffix("(.*)$")?.replace("\\.", ".");
        Some(with.replace("$1", name.strip_prefix(&path)?))
    });
    let name = rewritten.as_deref().unwrap_or(name);
    let endpoints = mirror.endpoint.iter().map(|url| under(url, name));
    once(endpoints.chain(registries.asks_registry.then_some(origin)))
}
