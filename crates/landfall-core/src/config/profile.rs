//! Reader of cluster profiles: YAML files with strings of YAML, which contain strings of YAML in turn.

use std::sync::Arc;

use crate::config::admission_plugins::{Plugins, find_always_pull};
use crate::config::charts::report_charts;
use crate::config::connect::read_connect;
use crate::config::effect::{decides_in_profile, decides_in_values, visit_unresolved};
use crate::config::facts::{Facts, OsPack, ProviderImage, Sourced};
use crate::config::images::{NO_IMAGE, Owner, take_embedded_pod_images, take_image, take_pod_images};
use crate::config::node::{KeyPath, Node, NodeValue, is_unresolved};
use crate::config::registry::{self, read_registry};
use crate::config::report::Report;
use crate::config::shape::check_shape;
use crate::config::site::read_drain_pods;
use crate::config::stages::read_stages;
use crate::config::template::{PackTable, TemplateValues, Templates, marks};
use crate::config::text::Text;
use crate::config::unknown::UnreadFile;
use crate::config::variables::Variables;
use crate::config::version::is_semantic_version;
use crate::config::yaml::{self};
use crate::config::{codes, keys};
use crate::diagnostic::NamedText;
use crate::opt_out::OptOut;
use crate::settings::{Finding, ImageRole, ProfileName};
use crate::wording::nearest;

/// The layers, infrastructure first; add-ons last.
const LAYERS: [&str; 7] = ["os", "k8s", "kernel", "cloud-config", "cni", "csi", "addon"];
/// The layers whose stages run, in the order of their runs.
const STAGE_LAYERS: [&str; 2] = ["os", "k8s"];
const ADDON: &str = "addon";
const KUBERNETES: &str = "k8s";
/// The places of the packs in a profile: the export, the answer of the API, the short form.
const PACK_PLACES: [&[&str]; 3] = [
    &["spec", "template", "packs"],
    &["spec", "published", "packs"],
    &["spec", "packs"],
];

/// A parsed profile file.
struct Profile {
    /// The number among the profiles that could be read.
    number: usize,
    root: Node,
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

/// Reads all profiles. Adds the files that are not profiles to `unread`.
pub(crate) fn read_profiles<'f>(
    files: &'f [NamedText],
    values: &TemplateValues,
    unread: &mut Vec<UnreadFile<'f>>,
    facts: &mut Facts,
    report: &mut Report,
) {
    let mut profiles = Vec::new();
    for file in files {
        match parse_profile(file, profiles.len(), report) {
            Some(profile) => profiles.push(profile),
            None => unread.push(UnreadFile {
                name: &file.name,
                is_profile: true,
            }),
        }
    }
    facts.has_profile = !profiles.is_empty();
    let mut variables = Variables::default();
    for profile in &profiles {
        variables.read(&profile.root, profile.number, values, report);
        facts.settings.profiles.push(read_name(profile, report));
    }
    let mut templates = Templates::new(values, pack_table(&profiles), &variables, kubernetes_version(&profiles));
    // Stages run in the order OS pack, Kubernetes pack, in whatever order the profile lists them
    // [spec:user-data.merge].
    let mut stages = Vec::new();
    for profile in &profiles {
        for pack in &profile.packs {
            let owner = owner_of(profile, pack);
            let images_before = facts.images.len();
            let values = pack_values(profile, pack, &mut templates, facts, report);
            if let Some(values) = &values {
                read_values(pack, values, owner, facts, report);
                let order = STAGE_LAYERS.iter().position(|layer| *layer == pack.layer);
                if let (Some(order), Some(node)) = (order, values.get("stages")) {
                    stages.push((order, node.clone()));
                }
            }
            // A pack of manifests may have no values.
            read_manifests(profile, pack, owner, &mut templates, facts, report);
            if let Some(values) = &values {
                report_charts(&pack.name, &pack.node, values, &facts.images[images_before..], report);
            }
        }
    }
    templates.report_problems(&facts.used_marks, report);
    stages.sort_by_key(|(order, _)| *order);
    for (_, node) in &stages {
        read_stages(node, facts, report);
    }
}

/// Finds the lists of admission plug-ins that contain `AlwaysPullImages` in one profile, without values for its
/// templates; `None`, with the findings in `report`, if the text is not a profile.
pub(crate) fn find_always_pull_in(file: &NamedText, report: &mut Report) -> Option<Vec<Plugins>> {
    parse_profile(file, 0, report)?;
    let mut facts = Facts::default();
    // `landfall validate` reports the other findings.
    read_profiles(
        std::slice::from_ref(file),
        &TemplateValues::default(),
        &mut Vec::new(),
        &mut facts,
        &mut Report::default(),
    );
    Some(facts.always_pull)
}

fn parse_profile(file: &NamedText, number: usize, report: &mut Report) -> Option<Profile> {
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
    let mut found = Report::default();
    let root = yaml::parse_document(&text, &KeyPath::default(), &mut found);
    if let Some(root) = &root {
        check_shape(root, &keys::PROFILE, &mut found);
    }
    report.absorb(found, |_, key| root.is_none() || decides_in_profile(key));
    let root = root?;
    let list = PACK_PLACES
        .iter()
        .find_map(|place| root.at(place).filter(|packs| !packs.is_null()));
    let list = list.or_else(|| PACK_PLACES.iter().find_map(|place| root.at(place)));
    let Some(list) = list else {
        let help = match root.get("stylus") {
            Some(_) => "this looks like a user-data: were `--user-data` and `--profile` swapped?",
            None => "give the profile as Palette's API exports it, with its packs at `spec.template.packs`",
        };
        report
            .node(
                &codes::NO_PACKS,
                &root,
                "there are no packs: this is not a cluster profile",
            )
            .help(help);
        return None;
    };
    let packs = list
        .items_or_self()
        .iter()
        .filter(|node| matches!(node.value, NodeValue::Mapping(_)))
        .map(|node| read_pack(node, report))
        .collect();
    Some(Profile {
        number,
        name: root
            .at(&["metadata", "name"])
            .and_then(Node::text)
            .unwrap_or(&file.name)
            .to_owned(),
        packs,
        root,
    })
}

/// Reads name and version. A version that is none is a warning: nothing depends on it [spec:profile.version].
fn read_name(profile: &Profile, report: &mut Report) -> ProfileName {
    let version = profile
        .root
        .at(&["spec", "version"])
        .filter(|version| !version.is_null());
    if let Some(node) = version
        && let Some(text) = node.text().filter(|text| !is_semantic_version(text))
    {
        let bare = text.strip_prefix('v').unwrap_or(text);
        let dots = bare.matches('.').count();
        let full = format!("{bare}{}", ".0".repeat(2_usize.saturating_sub(dots)));
        let draft = report.node(
            &codes::BAD_VERSION,
            node,
            format!("`{text}` is not a version of a profile: Palette takes semantic versions only"),
        );
        draft.help(match is_semantic_version(&full) {
            true => format!("write `{full}`"),
            false => "write three numbers, such as `1.0.0`".to_owned(),
        });
    }
    ProfileName {
        name: profile.name.clone(),
        version: version.and_then(Node::text).map(str::to_owned),
    }
}

/// Returns the version of Kubernetes that the first pack of that layer names by its tag: digits with dots between them,
/// and maybe a suffix.
fn kubernetes_version(profiles: &[Profile]) -> Option<String> {
    let mut packs = profiles.iter().flat_map(|profile| &profile.packs);
    let pack = packs.find(|pack| pack.layer == KUBERNETES)?;
    let named = ["tag", "version"].iter().find_map(|key| pack.node.get(key)?.raw_text());
    let version = named.map(|text| text.strip_prefix('v').unwrap_or(text))?;
    let numbers = version.split(['-', '+']).next()?.split('.');
    let is_version = numbers
        .clone()
        .all(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()));
    (is_version && numbers.count() > 1).then(|| version.to_owned())
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

/// Collects the values of all packs, for templates that look into them.
fn pack_table(profiles: &[Profile]) -> PackTable {
    let mut table = PackTable::default();
    for profile in profiles {
        for pack in &profile.packs {
            table.add(profile.number, &pack.name, pack.node.get("values"));
        }
    }
    table
}

/// Returns the entries of a list of images, or its only one.
fn each_image(images: &Node) -> &[Node] {
    match images.value {
        NodeValue::Mapping(_) => images.items_or_self(),
        _ => images.values(),
    }
}

/// Returns the values of a pack as a tree, with templates evaluated. A fault in a value that no decision depends on is
/// a warning [spec:user-data.severity].
fn pack_values(
    profile: &Profile,
    pack: &Pack,
    templates: &mut Templates<'_>,
    facts: &mut Facts,
    report: &mut Report,
) -> Option<Node> {
    let written = pack.node.get("values").filter(|values| !values.is_null())?;
    let base = pack.base.key("values");
    let mut found = Report::default();
    let values = if matches!(written.value, NodeValue::Mapping(_) | NodeValue::Sequence(_)) {
        Some(rendered_tree(written, profile.number, templates, &mut found))
    } else {
        let text = written.to_text()?;
        let text = templates.render(&text, &base.to_string(), profile.number, &mut found);
        yaml::parse_pack_values(&text, &base, &mut found)
    };
    if let Some(values) = &values {
        check_shape(values, &keys::PACK_VALUES, &mut found);
    }
    let base = values
        .as_ref()
        .map_or_else(|| base.to_string(), |values| values.path().to_string());
    let is_provider_used = values.as_ref().is_some_and(names_provider);
    let decides = |key: &str| decides_in_values(&pack.layer, &base, key, is_provider_used);
    report.absorb(found, |_, key| values.is_none() || decides(key));
    let values = values?;
    visit_unresolved(&values, &mut |node| {
        if decides(&node.key_path()) {
            facts.depend_on(node);
        }
    });
    Some(values)
}

/// Returns true if `providerCredentials` names a registry.
fn names_provider(values: &Node) -> bool {
    values
        .at(&["providerCredentials", "registry"])
        .is_some_and(|registry| !registry.is_null() && registry.raw_text() != Some(""))
}

/// Returns a tree with the templates of each scalar evaluated.
fn rendered_tree(node: &Node, profile: usize, templates: &mut Templates<'_>, report: &mut Report) -> Node {
    let mut rendered = node.clone();
    match &mut rendered.value {
        NodeValue::Scalar(scalar) => {
            if scalar.text.contains("{{")
                && let Some(text) = node.to_text()
            {
                return node.with_scalar(&templates.render(&text, &node.key_path(), profile, report));
            }
        }
        NodeValue::Sequence(items) => {
            for item in items {
                *item = rendered_tree(item, profile, templates, report);
            }
        }
        NodeValue::Mapping(entries) => {
            for entry in entries {
                entry.value = rendered_tree(&entry.value, profile, templates, report);
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
    if let Some(drain) = read_drain_pods(values, report) {
        facts.settings.landfall.update.policy.drain = drain;
    }
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
    let credentials = values.get("providerCredentials").filter(|_| names_provider(values));
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
        let written = entry.value.raw_text().filter(|_| !entry.value.is_null());
        let labels: Vec<(&str, &str)> = written
            .unwrap_or_default()
            .split(',')
            .filter_map(|label| label.trim().split_once('='))
            .collect();
        // Of labels without a value, only those that choose a redirection matter.
        for (key, value) in labels.iter().filter(|(key, _)| OptOut::is_key(key)) {
            for mark in marks(key).chain(marks(value)) {
                facts.used_marks.entry(mark).or_insert_with(|| entry.value.key_path());
            }
        }
        let known = labels.iter().copied().filter(|(_, value)| !is_unresolved(value));
        let Some(choice) = OptOut::of_labels(known) else {
            continue;
        };
        facts.depend_on(&entry.key);
        if let Some(namespace) = entry.key.text() {
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
    // Nothing but checks depends on the configuration of Kubernetes.
    report_as_warnings(&parsed, report);
    yaml::report_secrets_of(&parsed, &text, report);
    for document in &parsed.documents {
        facts.always_pull.extend(find_always_pull(document));
    }
    facts.cluster_configs.extend(parsed.documents);
}

fn report_as_warnings(parsed: &yaml::Parsed, report: &mut Report) {
    let mut problems = Report::default();
    parsed.report_problems(&mut problems);
    report.absorb(problems, |_, _| false);
}

fn read_manifests(
    profile: &Profile,
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
            let tree = rendered_tree(content, profile.number, templates, report);
            take_pod_images(&tree, owner, facts, report);
            continue;
        }
        let Some(text) = content.to_text() else { continue };
        let text = templates.render(&text, &base.to_string(), profile.number, report);
        let parsed = yaml::visit_documents(&text, &base, report, |document, report| {
            take_pod_images(document, owner, facts, report);
        });
        if parsed.complete {
            // Programs differ in the key that they use of two, but pods are found.
            report_as_warnings(&parsed, report);
        } else if !text.as_str().contains("{{") {
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
    }
}
