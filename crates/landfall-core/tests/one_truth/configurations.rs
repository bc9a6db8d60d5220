//! Inputs of the comparison: every image of the corpus and of other projects' cases, under external registries and
//! rules of every kind, with and without a primary registry.

use std::collections::BTreeSet;

use landfall_core::config::{Inputs, parse_settings};
use landfall_core::diagnostic::NamedText;
use landfall_core::reference::{ImageReference, parse_reference};
use landfall_core::settings::Settings;

const CORPUS: &str = include_str!("../data/image-refs.txt");
const CASES: &str = include_str!("../data/redirect-cases.tsv");

/// Images at a host that some configuration redirects to.
const AT_TARGETS: [&str; 4] = [
    "ext:8000/p/quay.io/team/app:1",
    "ext.example.com/docker.io/library/nginx",
    "ex.com/hub/library/nginx:1",
    "10.0.0.1:30003/spectro-images/quay.io/team/app:1",
];

/// External registries and rules, as lines of `stylus`.
const EXTERNALS: [(&str, &str); 8] = [
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

const PRIMARIES: [(&str, &str); 2] = [
    ("", ""),
    (
        " + primary",
        "  primary: {endpoint: '10.0.0.1:30003', username: a, password: b}\n",
    ),
];

/// An image: its text in the pod, and the parsed reference.
pub(crate) struct Image {
    pub(crate) text: &'static str,
    pub(crate) reference: ImageReference,
}

/// Returns every image once.
pub(crate) fn images() -> Vec<Image> {
    let corpus = CORPUS.lines().filter_map(|line| line.split('\t').next());
    let cases = CASES.lines().skip(1).filter_map(|line| line.split('\t').nth(1));
    let mut seen = BTreeSet::new();
    let images: Vec<Image> = corpus
        .chain(cases)
        .chain(AT_TARGETS)
        .map(str::trim)
        .filter(|text| seen.insert(*text))
        .filter_map(|text| {
            let reference = parse_reference(text).ok()?;
            Some(Image { text, reference })
        })
        .collect();
    assert!(images.len() > 350, "both lists are there, not {} images", images.len());
    images
}

/// A configuration with its name.
pub(crate) struct Configuration {
    /// The name in the list of differences.
    pub(crate) name: String,
    /// Settings whose mirror files name every registry of the images.
    pub(crate) settings: Settings,
    /// The same settings, but with the node-local mirror enabled.
    pub(crate) with_mirror: Settings,
}

/// Returns external registries and rules, each with and without a primary registry.
pub(crate) fn configurations(images: &[Image]) -> Vec<Configuration> {
    let hosts: BTreeSet<String> = images
        .iter()
        .map(|image| format!("'{}'", image.reference.host))
        .collect();
    let hosts = hosts.into_iter().collect::<Vec<_>>().join(", ");
    let mut all = Vec::new();
    for (name, stylus) in EXTERNALS {
        for (with, primary) in PRIMARIES {
            let settings = |mirror: &str| {
                mk_settings(&format!(
                    "#cloud-config\nstylus:\n  managementMode: central\n{stylus}landfall:\n{primary}  mirror: {{{mirror}}}\n"
                ))
            };
            all.push(Configuration {
                name: format!("{name}{with}"),
                settings: settings(&format!("hosts: [{hosts}]")),
                with_mirror: settings("enable: true"),
            });
        }
    }
    all
}

fn mk_settings(text: &str) -> Settings {
    let inputs = Inputs {
        user_data: vec![NamedText::new("user-data.yaml", text)],
        ..Inputs::default()
    };
    parse_settings(&inputs).0.expect("the user-data can be read")
}
