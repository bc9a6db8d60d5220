//! Checks of the files that stages write and of the kubelet's configuration. They find the mistakes of published
//! examples, and each finding has the corrected text.

use std::ops::Range;

use crate::config::facts::{Facts, WrittenFile};
use crate::config::node::{KeyPath, Node, NodeValue};
use crate::config::text::{Span, Text};
use crate::config::yaml::{self};
use crate::diagnostic::{NamedText, Severity};
use crate::hostconf::containerd_config::{
    CERTS_DIRECTORY, ConfigFile, ReadingState, excluded_by_config_path, has_cri_section, read_wanted_mirror_files,
};
use crate::hostconf::kubelet_plugin::{CONFIG_FLAG, needs_plugin};
use crate::settings::Settings;
use crate::stage::{CREDENTIAL_DIRECTORY, base_of};

use super::reporter::CheckReporter;

const CONTAINERD_CONFIG: &str = "/etc/containerd/config.toml";
/// The wrong directory that the README of Palette's credential provider names.
const README_DIRECTORY: &str = "/etc/kubernetes/registry/";
const K3S_REGISTRIES: &str = "/etc/rancher/k3s/registries.yaml";
const RKE2_REGISTRIES: &str = "/etc/rancher/rke2/registries.yaml";
const PROVIDER_CONFIG: &str = "CredentialProviderConfig";
/// The wrong and the correct spelling.
const CAPITALS: [(&str, &str); 3] = [
    ("Kubelet.config.k8s.io", "kubelet.config.k8s.io"),
    ("credentialprovider.Kubelet.k8s.io", "credentialprovider.kubelet.k8s.io"),
    ("KubeletExtraArgs", "kubeletExtraArgs"),
];
const MATCH_IMAGES: [(&str, &str); 1] = [("mathImages", "matchImages")];
/// The mode bits by which group and others may read.
const OTHERS_READ: u32 = 0o044;

pub(super) fn kubelet_is_in_small_letters(facts: &Facts, _: &Settings, draft: &mut CheckReporter<'_>) {
    for_words(facts, &CAPITALS, draft, |wrong, right| {
        format!("`{wrong}` has a capital K: neither kubelet nor kubeadm knows it as `{right}`")
    });
}

pub(super) fn images_are_matched(facts: &Facts, _: &Settings, draft: &mut CheckReporter<'_>) {
    for_words(facts, &MATCH_IMAGES, draft, |wrong, right| {
        format!("`{wrong}` is no field of a credential provider; `{right}` is")
    });
}

pub(super) fn containerd_config_is_a_drop_in(facts: &Facts, _: &Settings, draft: &mut CheckReporter<'_>) {
    for file in with_path(facts, |path| path == CONTAINERD_CONFIG) {
        draft
            .node(&file.path.node, format!("the stage writes the whole `{CONTAINERD_CONFIG}`"))
            .help(
                "`landfall.mirror.files: [containerd]` looks at the host's own file, and sets or prints the lines that it needs",
            );
    }
}

/// Notes a drop-in that holds a table of the CRI plug-in in the format of containerd 1.x.
pub(super) fn drop_ins_replace_nothing(facts: &Facts, _: &Settings, draft: &mut CheckReporter<'_>) {
    for file in containerd_files(facts).filter(|file| file.path.value != CONTAINERD_CONFIG) {
        if has_cri_section(&file.content.value) {
            draft
                .node(
                    &file.path.node,
                    "containerd 1.x replaces the whole section of the CRI plug-in by this file's; containerd 2 merges it, if \
                     `imports` of its main file names the file",
                )
                .help(
                    "on containerd 1.x write the lines into the image's own `config.toml`; \
                     `landfall.mirror.files: [containerd]` prints them",
                );
        }
    }
}

pub(super) fn config_path_stands_alone(facts: &Facts, _: &Settings, draft: &mut CheckReporter<'_>) {
    let files: Vec<ConfigFile> = containerd_files(facts)
        .map(|file| ConfigFile {
            path: file.path.value.as_str().into(),
            text: file.content.value.clone(),
        })
        .collect();
    let Some(names) = excluded_by_config_path(&files) else {
        return;
    };
    if let Some(file) = containerd_files(facts).last() {
        draft
            .node(
                &file.content.node,
                format!("containerd's CRI plug-in does not load: `config_path` stands beside {names}"),
            )
            .help("write the mirrors as `hosts.toml` files below `config_path`, and remove them here");
    }
}

/// Notes a cluster's configuration that does not lead the kubelet to our plug-in, though a registry has a login.
pub(super) fn kubelet_calls_the_plugin(facts: &Facts, settings: &Settings, draft: &mut CheckReporter<'_>) {
    let redirects = settings.webhook.enable || !settings.landfall.mirror.files.is_empty();
    let mut is_led = facts
        .stage_files
        .iter()
        .any(|file| file.content.value.contains(CONFIG_FLAG));
    for config in &facts.cluster_configs {
        each_scalar(config, &mut |node| {
            is_led |= node.text().is_some_and(|text| text.contains(CONFIG_FLAG));
        });
    }
    if !redirects || is_led || !settings.landfall.kubelet_enable || !needs_plugin(settings) {
        return;
    }
    if let Some(config) = facts.cluster_configs.first() {
        draft
            .node(
                config,
                format!("registries have a login, and no kubelet is given `--{CONFIG_FLAG}`: redirected pods cannot be pulled"),
            )
            .help("`landfall redirect render --for kubelet` prints the flags for this place");
    }
}

/// Returns the files of containerd's configuration that stages write.
fn containerd_files(facts: &Facts) -> impl Iterator<Item = &WrittenFile> {
    with_path(facts, |path| {
        path == CONTAINERD_CONFIG || (path.starts_with("/etc/containerd/conf.d/") && path.ends_with(".toml"))
    })
}

pub(super) fn credentials_are_where_they_are_read(facts: &Facts, _: &Settings, draft: &mut CheckReporter<'_>) {
    for file in with_path(facts, |path| path.starts_with(README_DIRECTORY)) {
        let path = &file.path.value;
        let right = path.replacen(README_DIRECTORY, CREDENTIAL_DIRECTORY, 1);
        draft
            .node(&file.path.node, format!("no credential provider reads `{path}`"))
            .help(format!("write `path: {right}`"));
    }
}

pub(super) fn registries_yaml_is_the_distribution_s(facts: &Facts, _: &Settings, draft: &mut CheckReporter<'_>) {
    let Some(pack) = &facts.kubernetes_pack else { return };
    let (wrong, right) = match pack.as_str() {
        name if name.contains("rke2") => (K3S_REGISTRIES, RKE2_REGISTRIES),
        name if name.contains("k3s") => (RKE2_REGISTRIES, K3S_REGISTRIES),
        _ => return,
    };
    for file in with_path(facts, |path| path == wrong) {
        draft
            .node(
                &file.path.node,
                format!("the distribution of pack `{pack}` does not read `{wrong}`"),
            )
            .help(format!("write `path: {right}`"));
    }
}

/// A mirror file that a stage writes counts, because the user has configured the node.
pub(super) fn node_has_mirror_files(facts: &Facts, settings: &Settings, draft: &mut CheckReporter<'_>) {
    let is_mirror_file =
        |path: &str| path.starts_with(CERTS_DIRECTORY) || [K3S_REGISTRIES, RKE2_REGISTRIES].contains(&path);
    if !settings.landfall.mirror.files.is_empty() || with_path(facts, is_mirror_file).next().is_some() {
        return;
    }
    for namespace in &facts.node_namespaces {
        let message = format!(
            "pods of namespace `{}` are left to the node, and no mirror file is written there",
            namespace.value
        );
        draft.node(&namespace.node, message).help(
            "write `landfall.mirror.files: [containerd]` (or `k3s`, `rke2`) into the user-data, with `landfall.mirror.enable: true` \
             for rules that its format cannot express",
        );
    }
}

/// Reports the extent to which containerd reads the mirror files [spec:mirror-files.effective].
pub(super) fn containerd_reads_mirror_files(facts: &Facts, settings: &Settings, draft: &mut CheckReporter<'_>) {
    let (Some(machine), Some(node)) = (&facts.machine, &facts.mirror_files) else {
        return;
    };
    let Some(reading) = read_wanted_mirror_files(settings, &machine.containerd) else {
        return;
    };
    let is_read = matches!(reading.state, ReadingState::Read | ReadingState::AfterRestart);
    match (machine.is_the_host, is_read) {
        (true, true) => {
            draft.node(node, reading.message).severity(Severity::Note);
        }
        (true, false) => {
            let finding = draft.node(node, reading.message);
            if !reading.lines.is_empty() {
                finding.help(
                    "`landfall redirect apply --for containerd --dry-run` prints the lines for containerd's main file",
                );
            }
        }
        (false, _) => {
            draft
                .node(node, format!("on this machine: {}", reading.message))
                .severity(Severity::Note)
                .help(
                    "if another machine is the host, validate there, or name the root of its file system by `--root`",
                );
        }
    }
}

pub(super) fn credentials_are_private(facts: &Facts, _: &Settings, draft: &mut CheckReporter<'_>) {
    for file in facts.stage_files.iter().filter(|file| file.holds_secret) {
        if let Some(mode) = file.mode.as_ref().filter(|mode| mode.value & OTHERS_READ != 0) {
            let message = format!(
                "`{}` holds a login, and every user of the host can read it",
                file.path.value
            );
            draft.node(&mode.node, message).help(if file.is_foreign {
                "write `permissions: \"0600\"`"
            } else {
                "write `permissions: 0600`"
            });
        }
    }
}

pub(super) fn provider_config_is_there_in_time(facts: &Facts, _: &Settings, draft: &mut CheckReporter<'_>) {
    for file in facts
        .stage_files
        .iter()
        .filter(|file| base_of(&file.stage) == "reconcile")
    {
        if documents(file).iter().any(is_provider_config) {
            draft
                .node(
                    &file.path.node,
                    "kubelet reads this file at its start, minutes before `reconcile` writes it",
                )
                .help("write it in the stage `initramfs`; the files with the logins may stay in `reconcile`");
        }
    }
}

pub(super) fn providers_have_a_cache_duration(facts: &Facts, _: &Settings, draft: &mut CheckReporter<'_>) {
    for file in &facts.stage_files {
        for document in documents(file).iter().filter(|document| is_provider_config(document)) {
            let providers = document.get("providers").map(Node::items).unwrap_or_default();
            for provider in providers
                .iter()
                .filter(|provider| provider.get("defaultCacheDuration").is_none())
            {
                let name = provider.get("name").and_then(Node::text).unwrap_or("unnamed");
                draft
                    .node(
                        &file.content.node,
                        format!("the provider `{name}` has no `defaultCacheDuration`: kubelet exits"),
                    )
                    .help("add `defaultCacheDuration: 5m0s` to it");
            }
        }
    }
}

/// Reports `configs` without `mirrors` [spec:combinations.configs-only].
pub(super) fn registries_yaml_redirects(facts: &Facts, _: &Settings, draft: &mut CheckReporter<'_>) {
    for file in with_path(facts, |path| path == K3S_REGISTRIES || path == RKE2_REGISTRIES) {
        let path = &file.path.value;
        let flavour = if path == K3S_REGISTRIES { "K3s" } else { "RKE2" };
        let documents = documents(file);
        let Some(root) = documents.first() else { continue };
        let has = |key: &str| root.get(key).is_some_and(|node| !node.entries().is_empty());
        if has("configs") && !has("mirrors") {
            draft
                .node(
                    &file.content.node,
                    format!("`{path}` has `configs` and no `mirrors`: {flavour} gets logins, and redirects no pull"),
                )
                .help("add `mirrors`, e.g. `mirrors: {gcr.io: {endpoint: [\"https://reg.example.com\"]}}`");
        }
    }
}

fn with_path(facts: &Facts, is_meant: impl Fn(&str) -> bool) -> impl Iterator<Item = &WrittenFile> {
    facts.stage_files.iter().filter(move |file| is_meant(&file.path.value))
}

/// Parses the YAML documents of a file that a stage writes; none if it is not YAML.
fn documents(file: &WrittenFile) -> Vec<Node> {
    let text = Text::of_file(&NamedText::new(&file.path.value, &file.content.value));
    yaml::parse_documents(&text, &KeyPath::default()).documents
}

fn is_provider_config(document: &Node) -> bool {
    document.get("kind").and_then(Node::text) == Some(PROVIDER_CONFIG)
}

/// Reports each wrong word in the files of stages and in the clusters' configurations, at its position.
fn for_words(
    facts: &Facts,
    words: &[(&str, &str)],
    draft: &mut CheckReporter<'_>,
    message: impl Fn(&str, &str) -> String,
) {
    for (wrong, right) in words {
        let mut report = |span: Span, node: &Node| {
            draft
                .span(span, node, message(wrong, right))
                .help(format!("write `{right}`"));
        };
        for file in &facts.stage_files {
            let node = &file.content.node;
            for place in occurrences(&file.content.value, wrong) {
                let span = if file.is_plain {
                    node.inner_span(place)
                } else {
                    node.span()
                };
                report(span, node);
            }
        }
        for config in &facts.cluster_configs {
            each_scalar(config, &mut |node| {
                for place in occurrences(node.text().unwrap_or_default(), wrong) {
                    report(node.inner_span(place), node);
                }
            });
        }
    }
}

fn occurrences(text: &str, word: &str) -> Vec<Range<usize>> {
    text.match_indices(word).map(|(at, word)| at..at + word.len()).collect()
}

/// Calls `see` for each scalar at or below `node`, keys and values.
fn each_scalar(node: &Node, see: &mut impl FnMut(&Node)) {
    match &node.value {
        NodeValue::Scalar(_) => see(node),
        NodeValue::Sequence(items) => items.iter().for_each(|item| each_scalar(item, see)),
        NodeValue::Mapping(entries) => {
            for entry in entries {
                see(&entry.key);
                each_scalar(&entry.value, see);
            }
        }
        NodeValue::Unknown => {}
    }
}
