//! Inputs of the comparison: every image of the corpus and of other projects' cases, under external registries and
//! rules of every kind, with and without a primary registry.

use std::collections::BTreeSet;

use landfall_core::config::{Inputs, parse_settings};
use landfall_core::diagnostic::NamedText;
use landfall_core::reference::{ImageReference, parse_reference};
use landfall_core::settings::Settings;

const CORPUS: &str = include_str!("../data/image-refs.txt");
const CASES: &str = include_str!("../data/redirect-cases.tsv");

/// Images whose names a runtime takes as they are: aliases of Docker Hub, capitals, a port, an IPv6 address, a path with
/// dots.
const AS_WRITTEN: [&str; 8] = [
    "registry-1.docker.io/library/nginx:1.27",
    "index.docker.io/library/nginx:1.27",
    "Quay.io/team/app:1",
    "GCR.IO/google.com/tool_a-b/x:1",
    "gcr.io/google.com/tool_a-b/x:1",
    "gcr.io/googleXcom/tool_a-b/x:1",
    "Other.Example.com:8443/team/app:1",
    "[FD00::1]:5000/team/app:1",
];

/// Images at a host that some configuration redirects to.
const AT_TARGETS: [&str; 4] = [
    "ext:8000/p/quay.io/team/app:1",
    "ext.example.com/docker.io/library/nginx",
    "ex.com/hub/library/nginx:1",
    "10.0.0.1:30003/spectro-images/quay.io/team/app:1",
];

/// External registries and rules, as lines of `stylus`.
const EXTERNALS: [(&str, &str); 10] = [
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
        "dots",
        "  externalRegistries: {registries: [{domain: ex.com}], registryMappingRules: {gcr.io/google.com/tool_a-b: ex.com/t.o}}\n",
    ),
    ("IPv6", "  registryCredentials: {domain: '[fd00:10::5]:5000/p'}\n"),
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
        .chain(AS_WRITTEN)
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
    // The user's list has the names as the pods have them.
    let hosts: BTreeSet<String> = images
        .iter()
        .map(|image| {
            let host = &image.reference.host;
            format!("'{}'", host.spelling_in(image.text).unwrap_or(host.as_str()))
        })
        .collect();
    let hosts = hosts.into_iter().collect::<Vec<_>>().join(", ");
    let mut all = Vec::new();
    for (name, stylus) in EXTERNALS {
        for (with, primary) in PRIMARIES {
            // The first source at an IPv6 address as well as the last.
            let primary = match name {
                "IPv6" => primary.replace("10.0.0.1", "[fd00:10::1]"),
                _ => primary.to_owned(),
            };
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
