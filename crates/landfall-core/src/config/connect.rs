//! Reader of the values of the pack registry-connect: the primary registry, mapping rules and logins of a profile.

use crate::config::address::read_project;
use crate::config::codes;
use crate::config::facts::{Facts, Sourced};
use crate::config::node::{Node, NodeValue};
use crate::config::registry::{self, RegistryKeys, read_certificates, read_registry, read_rule, registry_at};
use crate::config::report::Report;
use crate::config::user_data::default_primary;
use crate::config::yaml::{self};
use crate::settings::RegistryRole;

/// Reads `charts.registry-connect.config`.
pub(crate) fn read_connect(config: &Node, facts: &mut Facts, report: &mut Report) {
    read_rules(config, facts, report);
    for node in config
        .at(&["registry", "credentials"])
        .map(Node::items_or_self)
        .unwrap_or_default()
    {
        if let Some(value) = read_registry(node, registry::PACK, report) {
            facts.registries.push(Sourced::new(value, node));
        }
    }
    if let Some(in_cluster) = config.at(&["registry", "inClusterRegistry"]) {
        read_primary(config, in_cluster, facts, report);
    } else if let Some(sync) = config
        .at(&["content", "sync", "enable"])
        .filter(|sync| sync.boolean() == Some(false))
    {
        report
            .node(
                &codes::SYNC_WITHOUT_PRIMARY,
                sync,
                "`content.sync.enable: false` has no effect without `registry.inClusterRegistry`",
            )
            .help("add `registry: {inClusterRegistry: {…}}`, or leave `content.sync` out");
    }
}

/// Reads `imageReplacementRules`, which replaces the rules of the user-data as a whole [spec:resolution.mapping].
fn read_rules(config: &Node, facts: &mut Facts, report: &mut Report) {
    let Some(node) = config
        .at(&["registry", "imageReplacementRules"])
        .filter(|node| !node.is_null() && !node.is_unresolved())
    else {
        return;
    };
    let parsed;
    let rules = if matches!(node.value, NodeValue::Mapping(_)) {
        node
    } else {
        let Some(text) = node.to_text().filter(|text| !text.as_str().trim().is_empty()) else {
            return;
        };
        let Some(tree) = yaml::parse_document(&text, node.path(), report) else {
            return;
        };
        parsed = tree;
        &parsed
    };
    if !matches!(rules.value, NodeValue::Mapping(_)) {
        if !rules.is_null() {
            report
                .node(
                    &codes::WRONG_TYPE,
                    rules,
                    format!("`{}` takes a mapping of prefixes", rules.path()),
                )
                .help("write `source.host/path: target.host/path`, one a line");
        }
        return;
    }
    if let Some(first) = facts.rules.first().filter(|_| !rules.entries().is_empty()) {
        report
            .node(
                &codes::RULES_REPLACED,
                node,
                "`imageReplacementRules` replaces the rules of the user-data: none of them has an effect",
            )
            .also(&first.node, "the first of them")
            .help("write all rules in one place: those of `registryMappingRules` have no effect");
    }
    facts.rules.clear();
    for entry in rules.entries() {
        if entry.value.kind() != "a string" && !entry.value.is_unresolved() {
            let message = format!(
                "`{}` takes a string, and this is {}",
                entry.value.path(),
                entry.value.kind()
            );
            report
                .node(&codes::WRONG_TYPE, &entry.value, message)
                .help("write the target as `host[:port][/path]`");
        }
        if let Some(value) = read_rule(entry, report) {
            facts.rules.push(Sourced::new(value, &entry.key));
        }
    }
}

fn read_primary(config: &Node, in_cluster: &Node, facts: &mut Facts, report: &mut Report) {
    let mut primary = facts.settings.primary.take().unwrap_or_else(default_primary);
    primary.location = Some(in_cluster.location());
    let project = config
        .at(&["content", "sync", "projects", "images"])
        .or_else(|| in_cluster.at(&["projects", "images"]))
        // The older form: one name, or a list that begins with the project of the images.
        .or_else(|| in_cluster.get("projects"))
        .map(|node| node.items().first().unwrap_or(node));
    if let Some(project) = read_project(project, report) {
        primary.project = project;
    }
    primary.sync = config
        .at(&["content", "sync", "enable"])
        .and_then(Node::boolean)
        .unwrap_or(primary.sync);
    let keys = RegistryKeys {
        domain: "endpoint",
        username: "username",
        role: RegistryRole::Primary,
    };
    let credentials = in_cluster
        .get("credentials")
        .map(Node::items_or_self)
        .unwrap_or_default();
    let node = credentials.first().unwrap_or(in_cluster);
    let mut value = registry_at(node, primary.endpoint.clone(), String::new(), keys, report);
    if let Some(certificates) = config.get("certificates").filter(|list| !list.is_null()) {
        value.certificates.extend(read_certificates(certificates, report));
    }
    facts.registries.push(Sourced::new(value, node));
    facts.settings.primary = Some(primary);
}
