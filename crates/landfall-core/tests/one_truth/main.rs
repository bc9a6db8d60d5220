//! Agreement of all dialects: the webhook's patch, the MutatingAdmissionPolicy, `hosts.toml`, `registries.yaml` and the
//! node-local mirror lead to the sources that the resolver names.
//!
//! A small interpreter reads each dialect as its runtime documents it ([`files`], [`pods`]) and does not know our
//! rules. Differences that a format forces are listed in [`differences`].

mod configurations;
mod differences;
mod files;
#[path = "../common/json_patch.rs"]
mod json_patch;
mod pods;

use std::collections::{BTreeMap, BTreeSet};

use configurations::{Configuration, Image, configurations, images};
use differences::{Case, DIFFERENCES, Dialect};
use files::{HostsFiles, Registries};
use landfall_core::hostconf::render;
use landfall_core::reference::{ImageReference, parse_reference};
use landfall_core::registry_path::{Route, parse_namespace};
use landfall_core::resolve::{Resolution, Resolver};
use landfall_core::settings::{self, ImageRole};
use pods::{Policy, by_webhook};

/// Removes duplicates and keeps the order.
fn once(places: impl Iterator<Item = String>) -> Vec<String> {
    let mut seen = Vec::new();
    for place in places {
        if !seen.contains(&place) {
            seen.push(place);
        }
    }
    seen
}

/// Returns `host/repository` of each candidate, in order.
fn places(resolution: &Resolution) -> Vec<String> {
    let names = resolution.candidates.iter().map(|candidate| &candidate.reference);
    once(names.map(|name| format!("{}/{}", name.host, name.repository)))
}

/// Returns the full form of an image, to compare different spellings.
fn read(image: &str) -> String {
    parse_reference(image).map_or_else(|_| image.to_owned(), |reference| reference.to_string())
}

/// Replaces requests to the node-local mirror by the sources that the mirror tries; other requests stay.
fn through_mirror(resolver: &Resolver<'_>, image: &ImageReference, asked: Vec<String>) -> Vec<String> {
    let mirror = format!("{}/", resolver.settings().landfall.mirror.listen);
    let reference = match (&image.digest, &image.tag) {
        (Some(digest), _) => digest.to_string(),
        (None, Some(tag)) => tag.to_string(),
        (None, None) => "latest".to_owned(),
    };
    once(asked.into_iter().flat_map(|place| {
        let Some(name) = place.strip_prefix(&mirror) else {
            return vec![place];
        };
        let path = format!("/v2/{name}/manifests/{reference}");
        let Ok(Route::Manifest { name: repository, .. }) = Route::parse(&path) else {
            panic!("no path of a manifest: {path}");
        };
        let host = parse_namespace(&format!("ns={}", image.host));
        // A request is for a repository: of what it names there, the rules know neither tag nor digest.
        let asked = ImageReference {
            host: host.expect("`ns` is a registry").expect("`ns` is there"),
            repository,
            tag: None,
            digest: None,
        };
        places(&resolver.resolve_on_node(&asked, ImageRole::Application))
    }))
}

/// The files of a configuration, without and with the node-local mirror.
struct Files<'a> {
    containerd: [HostsFiles; 2],
    registries: [Registries; 2],
    mirror: Resolver<'a>,
}

impl<'a> Files<'a> {
    fn render(configuration: &'a Configuration) -> Files<'a> {
        let both = [&configuration.settings, &configuration.with_mirror];
        let k3s = both.map(|settings| render(settings, settings::Dialect::K3s));
        Files {
            containerd: both.map(|settings| files::read_containerd(&render(settings, settings::Dialect::Containerd))),
            registries: k3s.each_ref().map(files::read_registries),
            mirror: Resolver::new(&configuration.with_mirror),
        }
    }

    /// Returns the sources of an image in each dialect of files.
    fn lead(&self, image: &Image) -> [(Dialect, Vec<String>); 4] {
        let [containerd, containerd_mirror] = self
            .containerd
            .each_ref()
            .map(|files| files::by_containerd(files, image));
        let [k3s, k3s_mirror] = self.registries.each_ref().map(|files| files::by_k3s(files, image));
        [
            (Dialect::HostsToml, containerd),
            (Dialect::RegistriesYaml, k3s),
            (
                Dialect::Mirror,
                through_mirror(&self.mirror, &image.reference, containerd_mirror),
            ),
            (
                Dialect::Mirror,
                through_mirror(&self.mirror, &image.reference, k3s_mirror),
            ),
        ]
    }
}

/// Compares the sources of an image in every dialect with those of the resolver.
fn compare(configuration: &Configuration, images: &[Image], mut differs: impl FnMut(Dialect, &Case<'_>, &str)) {
    let resolver = Resolver::new(&configuration.settings);
    let files = Files::render(configuration);
    let by_policy = Policy::render(&configuration.settings).images(images);
    let by_webhook = [false, true].map(|holds| by_webhook(&resolver, images, holds));
    for (number, image) in images.iter().enumerate() {
        let resolution = resolver.resolve(&image.reference, ImageRole::Application);
        let case = Case {
            settings: &configuration.settings,
            image: &image.reference,
            resolution: &resolution,
        };
        let mut check = |dialect, found: String, expected: String| {
            if found != expected {
                differs(
                    dialect,
                    &case,
                    &format!("{}: {found} in the place of {expected}", image.text),
                );
            }
        };
        for (primary_holds, patched) in [false, true].into_iter().zip(&by_webhook) {
            let expected = || resolution.runtime(primary_holds).reference.to_string();
            check(Dialect::Webhook, read(&patched[number]), expected());
            check(Dialect::Policy, read(&by_policy[number]), expected());
        }
        for (dialect, found) in files.lead(image) {
            check(dialect, found.join(", "), places(&resolution).join(", "));
        }
    }
}

#[test]
fn every_dialect_leads_to_the_same_places_or_differs_as_listed() {
    let images = images();
    // The images that differ, by configuration, for each entry of the list and each dialect.
    let mut found: BTreeMap<(usize, Dialect), BTreeMap<String, BTreeSet<String>>> = BTreeMap::new();
    let configurations = configurations(&images);
    for configuration in &configurations {
        let name = &configuration.name;
        compare(configuration, &images, |dialect, case, what| {
            let listed = DIFFERENCES
                .iter()
                .position(|line| line.dialects.contains(&dialect) && (line.explains)(case))
                .unwrap_or_else(|| panic!("{name}: {dialect}: {what}, and no difference on the list explains it"));
            let images = found
                .entry((listed, dialect))
                .or_default()
                .entry(name.clone())
                .or_default();
            images.insert(case.image.to_string());
        });
    }
    let listed = DIFFERENCES
        .iter()
        .enumerate()
        .flat_map(|(at, line)| line.dialects.iter().map(move |of| (at, *of)));
    assert_eq!(
        found.keys().copied().collect::<Vec<_>>(),
        listed.collect::<Vec<_>>(),
        "every line of the list is needed"
    );
    let lines = found.iter().map(|((listed, dialect), differing)| {
        let most = differing.values().map(BTreeSet::len).max().unwrap_or_default();
        let which = DIFFERENCES[*listed].images;
        format!("{dialect}, {which}: {most}, in {} configurations\n", differing.len())
    });
    let compared = format!("{} images, {} configurations\n", images.len(), configurations.len());
    insta::assert_snapshot!(lines.fold(compared, |text, line| text + &line), @r"
    402 images, 20 configurations
    webhook, `localhost/…`: 2, in 14 configurations
    MutatingAdmissionPolicy, `localhost/…`: 2, in 14 configurations
    MutatingAdmissionPolicy, of a registry at an IPv6 address: 4, in 14 configurations
    `hosts.toml`, whose name at the target would be longer than 255 characters: 1, in 13 configurations
    `registries.yaml`, whose name at the target would be longer than 255 characters: 1, in 12 configurations
    MutatingAdmissionPolicy, in the primary registry: 384, in 10 configurations
    `hosts.toml`, of a registry that other images are redirected to: 1, in 9 configurations
    `registries.yaml`, of a registry that other images are redirected to: 1, in 9 configurations
    node-local mirror, of a registry that other images are redirected to: 1, in 9 configurations
    `hosts.toml`, with a source at an IPv6 address: 390, in 1 configurations
    `registries.yaml`, with a source at an IPv6 address: 390, in 7 configurations
    `hosts.toml`, of a registry with a rule for a part of it: 96, in 8 configurations
    `registries.yaml`, of a registry with a rule for a part of it: 96, in 8 configurations
    ");
}

#[test]
fn a_rendering_names_the_registries_whose_rules_it_cannot_say() {
    for configuration in configurations(&images()) {
        let has_part = configuration.name.contains("part") || configuration.name.contains("nested");
        for dialect in [settings::Dialect::Containerd, settings::Dialect::K3s] {
            let gaps = render(&configuration.settings, dialect).gaps;
            let is_said = gaps
                .iter()
                .any(|gap| gap.text.contains("rule") && gap.text.contains("`docker.io`"));
            assert_eq!(is_said, has_part, "{}, {dialect:?}: {gaps:?}", configuration.name);
        }
    }
}
