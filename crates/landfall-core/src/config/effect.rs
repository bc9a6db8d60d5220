//! Values of user-data and profiles on which a decision depends. A fault in any other value is a warning
//! [spec:user-data.severity].

use crate::config::node::{Node, NodeValue, is_unresolved};

/// A subtree of the values of a pack on which an image, a login, a rule or a stage depends.
struct Effect {
    /// The layers whose packs have the effect; empty for all.
    layers: &'static [&'static str],
    /// The key path from which on a value of a wrong type hides the subtree.
    hidden_from: &'static str,
    path: &'static str,
}

const fn effect(layers: &'static [&'static str], hidden_from: &'static str, path: &'static str) -> Effect {
    Effect {
        layers,
        hidden_from,
        path,
    }
}

const CONNECT: &str = "charts.registry-connect";

/// Labels of namespaces and pod specs are not in the table: the reader looks at each one.
const EFFECTS: [Effect; 9] = [
    effect(&[], "pack", "pack.content.images"),
    effect(&["os"], "pack", "pack.drainPods"),
    effect(&["os"], "options", "options.\"system.uri\""),
    effect(&["os"], "options", "options.system.uri"),
    effect(&["os"], "providerCredentials", "providerCredentials"),
    effect(&["os", "k8s"], "stages", "stages"),
    effect(&[], CONNECT, "charts.registry-connect.config.registry"),
    effect(&[], CONNECT, "charts.registry-connect.config.certificates"),
    effect(&[], CONNECT, "charts.registry-connect.config.content.sync"),
];

/// Key paths of a profile, without indices, on which images depend.
const OF_PROFILE: [&str; 9] = [
    "",
    "spec",
    "spec.packs",
    "spec.template",
    "spec.template.packs",
    "spec.published",
    "spec.published.packs",
    "values",
    "layer",
];

/// Key paths of user-data that are read as a whole, but whose other keys are Palette's own.
const WHOLE_IN_USER_DATA: [&str; 4] = ["", "stylus", "stylus.site", "stylus.site.network"];
/// Subtrees of user-data that are read.
const OF_USER_DATA: [&str; 16] = [
    "landfall",
    "content.signing.publicKey",
    "stages",
    "stylus.registryCredentials",
    "stylus.externalRegistries",
    "stylus.imageRedirectWebhook",
    "stylus.webhook",
    "stylus.managementMode",
    "stylus.installationMode",
    "stylus.localUI",
    "stylus.emcServer",
    "stylus.enableMultiNode",
    "stylus.site.caCerts",
    "stylus.site.network.httpProxy",
    "stylus.site.network.httpsProxy",
    "stylus.site.network.noProxy",
];

/// Returns true if a decision depends on the value at a key path of user-data.
pub(crate) fn decides_in_user_data(key: &str) -> bool {
    WHOLE_IN_USER_DATA.contains(&key) || OF_USER_DATA.iter().any(|path| is_at_or_below(key, path))
}

/// Returns true if a decision depends on the value at a key path of the values of a pack. `base` is the key path of the
/// values, and `is_provider_used` is false for `providerCredentials` without a registry.
pub(crate) fn decides_in_values(layer: &str, base: &str, key: &str, is_provider_used: bool) -> bool {
    let Some(relative) = key.strip_prefix(base) else {
        return true;
    };
    let relative = relative.trim_start_matches('.');
    // Without a key the values as a whole are meant.
    relative.is_empty()
        || EFFECTS
            .iter()
            .filter(|effect| effect.layers.is_empty() || effect.layers.contains(&layer))
            .filter(|effect| effect.path != "providerCredentials" || is_provider_used)
            .any(|effect| {
                is_at_or_below(relative, effect.path)
                    || (is_at_or_below(effect.path, relative) && is_at_or_below(relative, effect.hidden_from))
            })
}

/// Returns true if images depend on the value at a key path of a profile, outside of the values of its packs.
pub(crate) fn decides_in_profile(key: &str) -> bool {
    let plain = without_indices(key);
    let pack = ["spec.template.packs.", "spec.packs.", "spec.published.packs."]
        .iter()
        .find_map(|prefix| plain.strip_prefix(prefix));
    match pack {
        Some(key) => matches!(key, "values" | "layer" | "manifests" | "manifests.content"),
        None => OF_PROFILE.contains(&plain.as_str()),
    }
}

/// Visits the scalars below a node that hold a template without a value.
pub(crate) fn visit_unresolved(node: &Node, visit: &mut impl FnMut(&Node)) {
    match &node.value {
        NodeValue::Scalar(scalar) => {
            if is_unresolved(&scalar.text) {
                visit(node);
            }
        }
        NodeValue::Sequence(items) => {
            for item in items {
                visit_unresolved(item, visit);
            }
        }
        NodeValue::Mapping(entries) => {
            for entry in entries {
                visit_unresolved(&entry.key, visit);
                visit_unresolved(&entry.value, visit);
            }
        }
        NodeValue::Unknown => {}
    }
}

/// Returns true if `path` is `above`, or a path below it.
pub(crate) fn is_at_or_below(path: &str, above: &str) -> bool {
    path.strip_prefix(above)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

/// Turns `a[0].b` into `a.b`.
fn without_indices(path: &str) -> String {
    let mut plain = String::with_capacity(path.len());
    let mut in_index = false;
    for character in path.chars() {
        match character {
            '[' => in_index = true,
            ']' if in_index => in_index = false,
            other if !in_index => plain.push(other),
            _ => {}
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_logins_rules_and_stages_decide_and_other_values_do_not() {
        for (layer, key, expected) in [
            ("addon", "", true),
            ("addon", "pack", true),
            ("addon", "pack.content", true),
            ("addon", "pack.content.images[3].image", true),
            ("addon", "pack.namespaceLabels", false),
            ("addon", "pack.content.charts", false),
            ("os", "options.\"system.uri\"", true),
            ("os", "options", true),
            ("os", "options.other", false),
            ("addon", "options", false),
            ("os", "providerCredentials.password", true),
            ("k8s", "providerCredentials.password", false),
            ("k8s", "stages.boot[0].files[0].content", true),
            ("addon", "stages", false),
            ("addon", "charts", false),
            ("addon", "charts.registry-connect", true),
            ("addon", "charts.registry-connect.config.registry.credentials", true),
            ("addon", "charts.registry-connect.config.other", false),
            ("addon", "charts.registry-connect-2", false),
        ] {
            let full = match key {
                "" => "packs[p].values".to_owned(),
                key => format!("packs[p].values.{key}"),
            };
            assert_eq!(
                decides_in_values(layer, "packs[p].values", &full, true),
                expected,
                "{layer} {key}"
            );
        }
        let password = "packs[p].values.providerCredentials.password";
        assert!(!decides_in_values("os", "packs[p].values", password, false));
    }

    #[test]
    fn of_user_data_only_what_is_read_decides() {
        for (key, expected) in [
            ("", true),
            ("stylus", true),
            ("stylus.registryCredentials.password", true),
            ("stylus.externalRegistries.registries[0].domain", true),
            ("stylus.site", true),
            ("stylus.site.caCerts[0]", true),
            ("stylus.site.network.noProxy", true),
            ("stylus.site.network.interfaces", false),
            ("stylus.site.edgeHostToken", false),
            ("stylus.debug", false),
            ("landfall.concurrency", true),
            ("stages.boot[0].name", true),
            ("install.device", false),
        ] {
            assert_eq!(decides_in_user_data(key), expected, "{key}");
        }
    }

    #[test]
    fn of_a_profile_the_packs_decide() {
        for (key, expected) in [
            ("", true),
            ("spec.template.packs", true),
            ("spec.template.packs[0].values", true),
            ("spec.packs[2].manifests[0].content", true),
            ("spec.packs[2].manifests[0].name", false),
            ("spec.version", false),
            ("metadata.name", false),
            ("spec.template.packs[0].tag", false),
            ("spec.variables[0].name", false),
        ] {
            assert_eq!(decides_in_profile(key), expected, "{key}");
        }
    }
}
