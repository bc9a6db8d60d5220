//! Every dialect leads an image to the places that the resolver names. Each file is read by a small interpreter of what
//! its runtime documents, written here and knowing nothing of our rules. What a format forces to differ is the snapshot.

use std::collections::{BTreeMap, BTreeSet};

use landfall_core::config::{ImageRole, Inputs, Settings, parse_settings};
use landfall_core::diagnostic::NamedText;
use landfall_core::hostconf::{Dialect, Rendering, render};
use landfall_core::reference::{ImageReference, parse_reference};
use landfall_core::resolve::Resolver;
use serde::Deserialize;

const CORPUS: &str = include_str!("data/image-refs.txt");

fn images() -> Vec<ImageReference> {
    let lines = CORPUS.lines().filter_map(|line| line.split('\t').next());
    let images: Vec<_> = lines.filter_map(|line| parse_reference(line.trim()).ok()).collect();
    assert!(images.len() > 200, "the corpus is there");
    images
}

/// External registries and rules, with and without a primary registry.
fn configurations(images: &[ImageReference]) -> Vec<(String, Settings)> {
    let stylus = [
        ("none", ""),
        ("prepend", "  registryCredentials: {domain: 'ext:8000/p'}\n"),
        (
            "prepend, no path",
            "  registryCredentials: {domain: 'ext.example.com', username: u, password: p}\n",
        ),
        (
            "all",
            "  externalRegistries: {registries: [{domain: 'ex.com/i'}], registryMappingRules: {all: ex.com/i}}\n",
        ),
        (
            "whole",
            "  externalRegistries: {registries: [{domain: ex.com}], registryMappingRules: {docker.io: ex.com/hub, quay.io: ex.com/quay}}\n",
        ),
        (
            "parts",
            "  externalRegistries: {registries: [{domain: ex.com}], registryMappingRules: {docker.io/library: ex.com/lib, docker.io/bitnami: ex.com/b}}\n",
        ),
        (
            "part kept",
            "  externalRegistries: {registries: [{domain: ex.com}], registryMappingRules: {docker.io/library: ex.com/hub/library}}\n",
        ),
        (
            "nested",
            "  externalRegistries: {registries: [{domain: ex.com}], registryMappingRules: {docker.io: ex.com/hub, docker.io/library: other.com/lib}}\n",
        ),
    ];
    let hosts: BTreeSet<String> = images.iter().map(|image| format!("'{}'", image.host)).collect();
    let hosts = hosts.into_iter().collect::<Vec<_>>().join(", ");
    let mut all = Vec::new();
    for (name, stylus) in stylus {
        for (with, primary) in [
            ("", ""),
            (
                " + primary",
                "  primary: {endpoint: '10.0.0.1:30003', username: a, password: b}\n",
            ),
        ] {
            let text = format!(
                "#cloud-config\nstylus:\n  managementMode: central\n{stylus}landfall:\n{primary}  mirror: {{hosts: [{hosts}]}}\n"
            );
            let inputs = Inputs {
                user_data: vec![NamedText::new("user-data.yaml", &text)],
                ..Inputs::default()
            };
            all.push((
                format!("{name}{with}"),
                parse_settings(&inputs).0.expect("the user-data can be read"),
            ));
        }
    }
    all
}

/// `host/repository` of each place, in order, each once.
fn truth(resolver: &Resolver<'_>, image: &ImageReference) -> Vec<String> {
    let resolution = resolver.resolve(image, ImageRole::Application);
    once(
        resolution
            .candidates
            .iter()
            .map(|c| format!("{}/{}", c.reference.host, c.reference.repository)),
    )
}

fn once(places: impl Iterator<Item = String>) -> Vec<String> {
    let mut seen = Vec::new();
    for place in places {
        if !seen.contains(&place) {
            seen.push(place);
        }
    }
    seen
}

fn file<'a>(rendering: &'a Rendering, path: &str) -> Option<&'a str> {
    rendering
        .files
        .iter()
        .find(|file| file.path == path)
        .map(|file| file.content.as_str())
}

/// A URL without its scheme, and the name under it: `/v2` is not a part of the name.
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

/// containerd's `docs/hosts.md`: the `[host]` tables in order, then `server`, which is the registry where it is missing.
fn by_containerd(rendering: &Rendering, image: &ImageReference) -> Vec<String> {
    let name = image.repository.as_str();
    let path = format!("/etc/containerd/certs.d/{}/hosts.toml", image.host);
    let Some(text) = file(rendering, &path) else {
        return vec![format!("{}/{name}", image.host)];
    };
    let document: toml_edit::DocumentMut = text.parse().expect("hosts.toml is TOML");
    let hosts = document
        .get("host")
        .and_then(|hosts| hosts.as_table_like())
        .expect("a host table");
    let server = document
        .get("server")
        .and_then(|server| server.as_str())
        .map(ToOwned::to_owned);
    let urls = hosts.iter().map(|(url, _)| url.to_owned());
    once(
        urls.chain([server.unwrap_or_else(|| format!("https://{}", image.host))])
            .map(|url| under(&url, name)),
    )
}

#[derive(Deserialize, Default)]
struct Registries {
    #[serde(default)]
    mirrors: BTreeMap<String, Mirror>,
}

#[derive(Deserialize)]
struct Mirror {
    endpoint: Vec<String>,
    #[serde(default)]
    rewrite: BTreeMap<String, String>,
}

/// K3s: the endpoints in order, each with the rewritten name, and the registry itself last, unless the configuration has
/// `disable-default-registry-endpoint`; a registry without a mirror is asked itself. The patterns that we write are `^(.*)$` and `^path/(.*)$`.
fn by_k3s(rendering: &Rendering, registries: &Registries, image: &ImageReference) -> Vec<String> {
    let origin = format!("{}/{}", image.host, image.repository);
    let name = image.repository.as_str();
    let Some(mirror) = registries.mirrors.get(image.host.as_str()) else {
        return vec![origin];
    };
    let rewritten = mirror.rewrite.iter().find_map(|(pattern, with)| {
        let path = pattern.strip_prefix('^')?.strip_suffix("(.*)$")?.replace("\\.", ".");
        Some(with.replace("$1", name.strip_prefix(&path)?))
    });
    let name = rewritten.as_deref().unwrap_or(name);
    let disabled = "disable-default-registry-endpoint: true\n";
    let is_disabled = rendering.fragments.iter().any(|part| part.text == disabled);
    let endpoints = mirror.endpoint.iter().map(|url| under(url, name));
    once(endpoints.chain((!is_disabled).then_some(origin)))
}

#[test]
fn every_dialect_leads_to_the_same_places_or_says_that_it_cannot() {
    let images = images();
    let mut differences = String::new();
    for (name, settings) in configurations(&images) {
        let resolver = Resolver::new(&settings);
        let (containerd, k3s) = (render(&settings, Dialect::Containerd), render(&settings, Dialect::K3s));
        let yaml = file(&k3s, "/etc/rancher/k3s/registries.yaml").expect("registries.yaml");
        let registries: Registries = match yaml.lines().count() {
            0 | 1 => Registries::default(),
            _ => serde_saphyr::from_str(yaml).expect("registries.yaml is YAML"),
        };
        for (dialect, rendering) in [("hosts.toml", &containerd), ("registries.yaml", &k3s)] {
            let mut differing: BTreeMap<String, usize> = BTreeMap::new();
            for image in &images {
                let expected = truth(&resolver, image);
                let found = match dialect {
                    "hosts.toml" => by_containerd(rendering, image),
                    _ => by_k3s(rendering, &registries, image),
                };
                if found != expected {
                    let host = format!("`{}", image.host);
                    assert!(
                        rendering.gaps.iter().any(|gap| gap.contains(&host)),
                        "{name}, {dialect}, {image}: {found:?} in the place of {expected:?}, and no gap says so"
                    );
                    *differing.entry(image.host.to_string()).or_default() += 1;
                }
            }
            for (host, count) in differing {
                differences.push_str(&format!("{name}: {dialect}: {host}: {count} images\n"));
            }
        }
        for image in &images {
            // What the node-local mirror asks: a repository, without tag and role.
            let asked = ImageReference {
                tag: None,
                digest: None,
                ..image.clone()
            };
            let found = resolver.resolve_on_node(&asked, ImageRole::Application).candidates;
            let found = once(
                found
                    .iter()
                    .map(|c| format!("{}/{}", c.reference.host, c.reference.repository)),
            );
            assert_eq!(found, truth(&resolver, image), "{name}, node-local mirror, {image}");
        }
    }
    insta::assert_snapshot!(differences, @r"
    parts: hosts.toml: docker.io: 3 images
    parts: registries.yaml: docker.io: 53 images
    parts + primary: hosts.toml: docker.io: 56 images
    parts + primary: registries.yaml: docker.io: 56 images
    part kept: hosts.toml: docker.io: 56 images
    part kept: registries.yaml: docker.io: 54 images
    part kept + primary: hosts.toml: docker.io: 56 images
    part kept + primary: registries.yaml: docker.io: 56 images
    nested: hosts.toml: docker.io: 56 images
    nested: registries.yaml: docker.io: 56 images
    nested + primary: hosts.toml: docker.io: 56 images
    nested + primary: registries.yaml: docker.io: 56 images
    ");
}
