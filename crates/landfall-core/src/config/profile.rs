//! Reader of cluster profiles: YAML files with strings of YAML, which contain strings of YAML in turn.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::config::admission_plugins::{Plugins, find_always_pull};
use crate::config::connect::read_connect;
use crate::config::facts::{Facts, OsPack, ProviderImage, Sourced};
use crate::config::images::{NO_IMAGE, Owner, take_embedded_pod_images, take_image, take_pod_images};
use crate::config::node::{KeyPath, Node, NodeValue};
use crate::config::registry::{self, read_registry};
use crate::config::report::Report;
use crate::config::shape::check_shape;
use crate::config::stages::read_stages;
use crate::config::template::{PackOptions, Protected, TemplateValues, Templates};
use crate::config::text::Text;
use crate::config::yaml::{self};
use crate::config::{codes, keys};
use crate::diagnostic::NamedText;
use crate::opt_out::OptOut;
use crate::settings::{Finding, ImageRole};
use crate::wording::nearest;

const LAYERS: [&str; 5] = ["os", "k8s", "cni", "csi", "addon"];
const ADDON: &str = "addon";

/// A parsed profile file.
struct Profile {
    name: String,
    packs: Vec<Pack>,
}

/// A layer of a profile, with its values before the evaluation of templates.
struct Pack {
    node: Node,
    name: String,
    layer: String,
    base: KeyPath,
}

pub(crate) fn read_profiles(files: &[NamedText], values: &TemplateValues, facts: &mut Facts, report: &mut Report) {
    let profiles: Vec<Profile> = files.iter().filter_map(|file| parse_profile(file, report)).collect();
    facts.has_profile = !profiles.is_empty();
    let mut templates = Templates::new(values, pack_options(&profiles));
    // Stages run in the order OS pack, Kubernetes pack, in whatever order the profile lists them
    // [spec:user-data.merge].
    let mut stages = Vec::new();
    for profile in &profiles {
        for pack in &profile.packs {
            let owner = owner_of(profile, pack);
            if let Some(values) = pack_values(pack, &mut templates, report) {
                check_shape(&values, &keys::PACK_VALUES, report);
                read_values(pack, &values, owner, facts, report);
                let order = LAYERS
                    .iter()
                    .position(|layer| *layer == pack.layer)
                    .filter(|order| *order < 2);
                if let (Some(order), Some(node)) = (order, values.get("stages")) {
                    stages.push((order, node.clone()));
                }
            }
            // A pack of manifests may have no values.
            read_manifests(pack, owner, &mut templates, facts, report);
        }
    }
    stages.sort_by_key(|(order, _)| *order);
    for (_, node) in &stages {
        read_stages(node, facts, report);
    }
}

/// Finds the lists of admission plug-ins that contain `AlwaysPullImages` in one profile, without values for its
/// templates; `None`, with the findings in `report`, if the text is not a profile.
pub(crate) fn find_always_pull_in(file: &NamedText, report: &mut Report) -> Option<Vec<Plugins>> {
    parse_profile(file, report)?;
    let mut facts = Facts::default();
    // `landfall validate` reports the other findings.
    read_profiles(
        std::slice::from_ref(file),
        &TemplateValues::default(),
        &mut facts,
        &mut Report::default(),
    );
    Some(facts.always_pull)
}

fn parse_profile(file: &NamedText, report: &mut Report) -> Option<Profile> {
    let text = Text::of_file(file);
    if yaml::is_blank(&text) {
        report
            .at(
                &codes::NO_PACKS,
                text.slice(0..0),
                Arc::from(""),
                "the profile is empty",
            )
            .help("give the profile as Palette's API exports it, with its packs at `spec.template.packs`");
        return None;
    }
    let root = yaml::parse_document(&text, &KeyPath::default(), report)?;
    check_shape(&root, &keys::PROFILE, report);
    let list = root
        .at(&["spec", "template", "packs"])
        .filter(|packs| !packs.is_null())
        .or_else(|| root.at(&["spec", "packs"]));
    let Some(list) = list else {
        report
            .node(
                &codes::NO_PACKS,
                &root,
                "there are no packs: this is not a cluster profile",
            )
            .help("give the profile as Palette's API exports it, with its packs at `spec.template.packs`");
        return None;
    };
    let packs = list
        .items_or_self()
        .iter()
        .filter(|node| matches!(node.value, NodeValue::Mapping(_)))
        .map(|node| read_pack(node, report))
        .collect();
    Some(Profile {
        name: root
            .at(&["metadata", "name"])
            .and_then(Node::text)
            .unwrap_or(&file.name)
            .to_owned(),
        packs,
    })
}

fn read_pack(node: &Node, report: &mut Report) -> Pack {
    let name = node.get("name").and_then(Node::text).unwrap_or("unnamed").to_owned();
    let layer_node = node.get("layer");
    let layer = layer_node.and_then(Node::text).unwrap_or(ADDON);
    check_pack(node, &name, report);
    let known = LAYERS.contains(&layer);
    if let Some(layer_node) = layer_node.filter(|_| !known) {
        let draft = report.node(
            &codes::UNKNOWN_LAYER,
            layer_node,
            format!("pack `{name}` is in the unknown layer `{layer}`; it is treated as `{ADDON}`"),
        );
        draft.help(match nearest(layer, LAYERS.into_iter()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("layers are: {}", LAYERS.join(", ")),
        });
    }
    Pack {
        base: KeyPath::default().key(&format!("packs[{name}]")),
        layer: if known { layer } else { ADDON }.to_owned(),
        node: node.clone(),
        name,
    }
}

/// Reports a pack without name or layer.
fn check_pack(node: &Node, name: &str, report: &mut Report) {
    let is_missing = |key: &str| {
        node.get(key)
            .is_none_or(|value| value.is_null() || value.text() == Some(""))
    };
    let (message, help) = match (is_missing("name"), is_missing("layer")) {
        (false, false) => return,
        (true, false) => ("a pack has no `name`".to_owned(), "add `name: …`".to_owned()),
        (true, true) => (
            format!("a pack has neither `name` nor `layer`; it is treated as `{ADDON}`"),
            "add `name: …` and `layer: …`".to_owned(),
        ),
        (false, true) => (
            format!("pack `{name}` has no `layer`; it is treated as `{ADDON}`"),
            format!("add `layer: …`, one of {}", LAYERS.join(", ")),
        ),
    };
    let at = node.get("name").filter(|name| !name.is_null()).unwrap_or(node);
    report.node(&codes::PACK_INCOMPLETE, at, message).help(help);
}

/// Collects the options of all packs, before templates are evaluated.
fn pack_options(profiles: &[Profile]) -> PackOptions {
    let mut all = PackOptions::new();
    for pack in profiles.iter().flat_map(|profile| &profile.packs) {
        let Some(values) = pack.node.get("values") else {
            continue;
        };
        let mut options = BTreeMap::new();
        if matches!(values.value, NodeValue::Mapping(_)) {
            collect_options(values.get("options"), "", &mut options, &str::to_owned);
        } else if let Some(text) = values.to_text() {
            let protected = Protected::new(text.as_str());
            let text = Text::derived(&text, &protected.content, Vec::new());
            let documents = yaml::parse_documents(&text, &KeyPath::default()).documents;
            let root = documents.first();
            let options_node = root.and_then(|root| root.get("options"));
            collect_options(options_node, "", &mut options, &|raw| protected.restore(raw));
        }
        all.entry(pack.name.clone()).or_insert(options);
    }
    all
}

/// Flattens nested options: `system: {uri: x}` gets the key `system.uri`, like the literal key.
fn collect_options(
    node: Option<&Node>,
    prefix: &str,
    options: &mut BTreeMap<String, String>,
    restore: &impl Fn(&str) -> String,
) {
    for entry in node.map(Node::entries).unwrap_or_default() {
        let Some(key) = entry.key.raw_text() else { continue };
        let name = format!("{prefix}{key}");
        match entry.value.raw_text() {
            Some(text) if !entry.value.is_null() => {
                options.insert(name, restore(text));
            }
            _ => collect_options(Some(&entry.value), &format!("{name}."), options, restore),
        }
    }
}

/// Returns the entries of a list of images, or its only one.
fn each_image(images: &Node) -> &[Node] {
    match images.value {
        NodeValue::Mapping(_) => images.items_or_self(),
        _ => images.values(),
    }
}

/// Returns the values of a pack as a tree, with templates evaluated.
fn pack_values(pack: &Pack, templates: &mut Templates<'_>, report: &mut Report) -> Option<Node> {
    let values = pack.node.get("values").filter(|values| !values.is_null())?;
    let base = pack.base.key("values");
    embedded(values, &base, templates, report)
}

/// Parses a string of YAML, or takes a mapping, with templates evaluated.
fn embedded(node: &Node, base: &KeyPath, templates: &mut Templates<'_>, report: &mut Report) -> Option<Node> {
    if matches!(node.value, NodeValue::Mapping(_) | NodeValue::Sequence(_)) {
        return Some(rendered_tree(node, templates, report));
    }
    let text = templates.render(&node.to_text()?, &base.to_string(), report);
    yaml::parse_document(&text, base, report).filter(|root| !root.is_null())
}

/// Returns a tree with the templates of each scalar evaluated.
fn rendered_tree(node: &Node, templates: &mut Templates<'_>, report: &mut Report) -> Node {
    let mut rendered = node.clone();
    match &mut rendered.value {
        NodeValue::Scalar(scalar) => {
            if scalar.text.contains("{{")
                && let Some(text) = node.to_text()
            {
                return node.with_scalar(&templates.render(&text, &node.key_path(), report));
            }
        }
        NodeValue::Sequence(items) => {
            for item in items {
                *item = rendered_tree(item, templates, report);
            }
        }
        NodeValue::Mapping(entries) => {
            for entry in entries {
                entry.value = rendered_tree(&entry.value, templates, report);
            }
        }
        NodeValue::Unknown => {}
    }
    rendered
}

fn owner_of<'p>(profile: &'p Profile, pack: &'p Pack) -> Owner<'p> {
    Owner {
        profile: &profile.name,
        pack: &pack.name,
        layer: &pack.layer,
        role: if pack.layer == ADDON {
            ImageRole::Application
        } else {
            ImageRole::Infrastructure
        },
    }
}

fn read_values(pack: &Pack, values: &Node, owner: Owner<'_>, facts: &mut Facts, report: &mut Report) {
    if pack.layer == "os" {
        read_os_pack(pack, values, owner, facts, report);
    }
    for item in values
        .at(&["pack", "content", "images"])
        .map(each_image)
        .unwrap_or_default()
    {
        // A string stands for its mapping [spec:user-data.lenient-lists].
        let image = if item.text().is_some() {
            Some(item)
        } else {
            item.get("image")
        };
        if let Some(image) = image {
            take_image(image, owner, Finding::Declared, facts, report);
        }
    }
    read_namespace_labels(values, facts);
    read_cluster_config(pack, values, facts, report);
    if let Some(connect) = values.at(&["charts", "registry-connect", "config"]) {
        read_connect(connect, facts, report);
    }
    if let Some(manifests) = values.get("manifests") {
        take_pod_images(manifests, owner, facts, report);
        take_embedded_pod_images(manifests, owner, facts, report);
    }
}

fn read_os_pack(pack: &Pack, values: &Node, owner: Owner<'_>, facts: &mut Facts, report: &mut Report) {
    let uri = values.get("options").and_then(|options| {
        let nested = || options.at(&["system", "uri"]);
        options.get("system.uri").or_else(nested)
    });
    let provider = match uri.filter(|uri| !uri.is_null()) {
        None => ProviderImage::Missing,
        Some(uri) if uri.text().is_some_and(|text| text.trim() == NO_IMAGE) => ProviderImage::None,
        Some(uri) => {
            let owner = Owner {
                role: ImageRole::Provider,
                ..owner
            };
            take_image(uri, owner, Finding::Declared, facts, report);
            ProviderImage::Given
        }
    };
    facts.os_packs.push(OsPack {
        node: pack.node.get("name").unwrap_or(&pack.node).clone(),
        name: pack.name.clone(),
        provider,
    });
    let credentials = values.get("providerCredentials").filter(|node| {
        node.get("registry")
            .is_some_and(|registry| !registry.is_null() && registry.raw_text() != Some(""))
    });
    if let Some(node) = credentials
        && let Some(value) = read_registry(node, registry::PROVIDER, report)
    {
        facts
            .registries
            .push(Sourced::new(value, node.get("registry").unwrap_or(node)));
    }
}

fn read_namespace_labels(values: &Node, facts: &mut Facts) {
    for entry in values
        .at(&["pack", "namespaceLabels"])
        .map(Node::entries)
        .unwrap_or_default()
    {
        let labels = entry.value.text().unwrap_or_default();
        let labels = labels.split(',').filter_map(|label| label.trim().split_once('='));
        if let (Some(namespace), Some(choice)) = (entry.key.text(), OptOut::of_labels(labels)) {
            facts.settings.namespace_opt_outs.insert(namespace.to_owned(), choice);
            if choice == OptOut::Node {
                facts
                    .node_namespaces
                    .push(Sourced::new(namespace.to_owned(), &entry.value));
            }
        }
    }
}

fn read_cluster_config(pack: &Pack, values: &Node, facts: &mut Facts, report: &mut Report) {
    if pack.layer == "k8s" {
        facts.kubernetes_pack.get_or_insert_with(|| pack.name.clone());
    }
    let Some(config) = values.at(&["cluster", "config"]).filter(|config| !config.is_null()) else {
        return;
    };
    if matches!(config.value, NodeValue::Mapping(_)) {
        facts.always_pull.extend(find_always_pull(config));
        facts.cluster_configs.push(config.clone());
        return;
    }
    // The templates were evaluated together with those of the values.
    let Some(text) = config.to_text() else { return };
    let base = pack.base.key("values").key("cluster").key("config");
    let parsed = yaml::parse_documents(&text, &base);
    parsed.report_problems(report);
    yaml::report_secrets_of(&parsed, &text, report);
    for document in &parsed.documents {
        facts.always_pull.extend(find_always_pull(document));
    }
    facts.cluster_configs.extend(parsed.documents);
}

fn read_manifests(
    pack: &Pack,
    owner: Owner<'_>,
    templates: &mut Templates<'_>,
    facts: &mut Facts,
    report: &mut Report,
) {
    for manifest in pack.node.get("manifests").map(Node::items_or_self).unwrap_or_default() {
        let Some(content) = manifest.get("content").filter(|content| !content.is_null()) else {
            continue;
        };
        let name = manifest.get("name").and_then(Node::text).unwrap_or("unnamed");
        let base = pack.base.key(&format!("manifests[{name}]"));
        if matches!(content.value, NodeValue::Mapping(_) | NodeValue::Sequence(_)) {
            let tree = rendered_tree(content, templates, report);
            take_pod_images(&tree, owner, facts, report);
            continue;
        }
        let Some(text) = content.to_text() else { continue };
        let text = templates.render(&text, &base.to_string(), report);
        let parsed = yaml::parse_documents(&text, &base);
        yaml::report_secrets_of(&parsed, &text, report);
        if parsed.complete || !text.as_str().contains("{{") {
            parsed.report_problems(report);
        } else {
            report
                .node(
                    &codes::MANIFEST_UNREADABLE,
                    manifest.get("name").unwrap_or(content),
                    format!(
                        "the manifest `{name}` of pack `{}` holds templates and is not YAML",
                        pack.name
                    ),
                )
                .help("list its images in `pack.content.images` of the pack");
        }
        for document in &parsed.documents {
            take_pod_images(document, owner, facts, report);
        }
    }
}
