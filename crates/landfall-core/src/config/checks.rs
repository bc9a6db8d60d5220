//! Checks of the whole configuration: values that are correct alone and wrong in combination [spec:combinations].

mod reporter;
mod written_files;

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap, HashSet};

use crate::config::codes::{self, CodeDoc};
use crate::config::facts::{Facts, ProviderImage, Sourced};
use crate::config::report::{Draft, Report};
use crate::diagnostic::Severity;
use crate::resolve::{Resolver, Warning, Why};
use crate::settings::{Compat, ImageRole, RegistryRole, RegistrySettings, RulePrefix, Settings};
use reporter::CheckReporter;

/// A check of everything that was read. It reports under one code.
pub(crate) struct Check {
    pub(crate) doc: &'static CodeDoc,
    run: fn(&Facts, &Settings, &mut CheckReporter<'_>),
}

/// All checks, in ascending order of their codes.
pub(crate) const CHECKS: &[Check] = &[
    check(&codes::RULE_WITHOUT_IMAGE, rules_match_images),
    check(&codes::IMAGE_WITHOUT_RULE, images_match_rules),
    check(&codes::SEVERAL_WITHOUT_RULE, images_have_one_registry),
    check(&codes::SEVERAL_PROVIDER_REGISTRIES, one_provider_registry),
    check(&codes::REGISTRY_TWICE, registries_differ),
    check(&codes::PROVIDER_HOST_DIFFERS, provider_login_fits_image),
    check(&codes::PROVIDER_AND_EXTERNAL, provider_login_beside_external),
    check(&codes::PROVIDER_AND_PRIMARY, provider_login_beside_primary),
    check(&codes::NAMELESS_HOST, targets_are_hosts_to_all),
    check(&codes::RULE_TWICE, rules_differ),
    check(&codes::BUNDLE_AND_EXTERNAL, bundle_beside_external),
    check(&codes::NO_PROVIDER_IMAGE, provider_image_is_there),
    check(&codes::SEVERAL_PROVIDER_IMAGES, one_provider_image),
    check(&codes::ALWAYS_PULL_IMAGES, no_always_pull_images),
    check(&codes::CONFIGS_ONLY, written_files::registries_yaml_redirects),
    check(&codes::NO_SOURCE, images_have_a_source),
    check(&codes::NODE_WITHOUT_FILES, written_files::node_has_mirror_files),
    check(
        &codes::MIRROR_FILES_READING,
        written_files::containerd_reads_mirror_files,
    ),
    check(&codes::KUBELET_WITHOUT_PLUGIN, written_files::kubelet_calls_the_plugin),
    check(&codes::REPLACING_DROP_IN, written_files::drop_ins_replace_nothing),
    check(&codes::MIRRORS_AND_CONFIG_PATH, written_files::config_path_stands_alone),
    check(&codes::CAPITAL_KUBELET, written_files::kubelet_is_in_small_letters),
    check(&codes::MATH_IMAGES, written_files::images_are_matched),
    check(
        &codes::WHOLE_CONTAINERD_CONFIG,
        written_files::containerd_config_is_a_drop_in,
    ),
    check(
        &codes::CREDENTIAL_DIRECTORY,
        written_files::credentials_are_where_they_are_read,
    ),
    check(
        &codes::REGISTRIES_YAML_PATH,
        written_files::registries_yaml_is_the_distribution_s,
    ),
    check(&codes::READABLE_CREDENTIAL, written_files::credentials_are_private),
    check(
        &codes::LATE_PROVIDER_CONFIG,
        written_files::provider_config_is_there_in_time,
    ),
    check(
        &codes::NO_CACHE_DURATION,
        written_files::providers_have_a_cache_duration,
    ),
];

const fn check(doc: &'static CodeDoc, run: fn(&Facts, &Settings, &mut CheckReporter<'_>)) -> Check {
    Check { doc, run }
}

pub(crate) fn run_checks(facts: &Facts, settings: &Settings, report: &mut Report) {
    for check in CHECKS {
        (check.run)(facts, settings, &mut CheckReporter { doc: check.doc, report });
    }
}

fn with_role(facts: &Facts, role: RegistryRole) -> impl Iterator<Item = &Sourced<RegistrySettings>> {
    facts
        .registries
        .iter()
        .filter(move |registry| registry.value.role == role)
}

/// Provider registries with a login, which Palette restricts.
fn private_providers(facts: &Facts) -> impl Iterator<Item = &Sourced<RegistrySettings>> {
    with_role(facts, RegistryRole::Provider).filter(|registry| registry.value.login.is_some())
}

fn rules_match_images(facts: &Facts, _: &Settings, draft: &mut CheckReporter<'_>) {
    if !facts.has_profile || facts.images.is_empty() {
        return;
    }
    // All prefixes of all images: the cost is the sum of rules and images, not the product.
    let mut prefixes: HashSet<(&str, &str)> = HashSet::new();
    for image in &facts.images {
        let reference = &image.value.reference;
        let path = reference.repository.as_str();
        let ends = path.match_indices('/').map(|(slash, _)| slash).chain([0, path.len()]);
        prefixes.extend(ends.map(|end| (reference.host.as_str(), &path[..end])));
    }
    for rule in &facts.rules {
        let RulePrefix::Path { host, path } = &rule.value.from else {
            continue;
        };
        if !prefixes.contains(&(host.as_str(), path.as_str())) {
            draft
                .node(
                    &rule.node,
                    format!(
                        "no image of the profiles is below `{}`",
                        rule.node.text().unwrap_or_default()
                    ),
                )
                .help("remove the rule, or correct the prefix; whole path segments are compared, from the start");
        }
    }
}

fn images_match_rules(facts: &Facts, settings: &Settings, draft: &mut CheckReporter<'_>) {
    for image in warned_images(facts, settings, Warning::NoRuleMatches) {
        draft
            .node(
                &image.node,
                format!(
                    "no mapping rule matches `{}`: it is pulled from where it is",
                    image.value.source
                ),
            )
            .help(format!("add a rule for `{}`", image.value.reference.host));
    }
}

fn images_have_one_registry(facts: &Facts, settings: &Settings, draft: &mut CheckReporter<'_>) {
    for image in warned_images(facts, settings, Warning::SeveralRegistriesNoRule) {
        draft
            .node(
                &image.node,
                format!(
                    "there are several external registries and no rule: `{}` is pulled from where it is",
                    image.value.source
                ),
            )
            .help("add `registryMappingRules` that say which registry has which images");
    }
}

/// Reports one finding for all images without a source, because they have one cause.
fn images_have_a_source(facts: &Facts, settings: &Settings, draft: &mut CheckReporter<'_>) {
    let resolver = Resolver::new(settings).offering(facts.bundles.clone());
    let mut without = facts.images.iter().filter(|image| {
        let resolution = resolver.resolve_on_host(&image.value.reference, image.value.role);
        resolution
            .candidates
            .iter()
            .all(|candidate| candidate.why == Why::Primary)
    });
    let Some(first) = without.next() else { return };
    let more = match without.count() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let in_no_bundle = match facts.bundles.is_empty() {
        true => "",
        false => ", and no bundle has them",
    };
    let message = format!(
        "`{}`{more} cannot be pulled from any registry: `content.sync.enable` is false and no external registry is \
         set{in_no_bundle}",
        first.value.source
    );
    draft.node(&first.node, message).help(
        "set `content.sync.enable: true`, or `stylus.registryCredentials`, or bring a bundle that has them, or push the \
         images to the primary registry by hand",
    );
}

fn warned_images<'f>(
    facts: &'f Facts,
    settings: &Settings,
    warning: Warning,
) -> Vec<&'f Sourced<crate::settings::ProfileImage>> {
    let resolver = Resolver::new(settings);
    let is_warned = |image: &&Sourced<crate::settings::ProfileImage>| {
        resolver.resolve(&image.value.reference, image.value.role).warning == Some(warning)
    };
    facts.images.iter().filter(is_warned).collect()
}

fn one_provider_registry(facts: &Facts, settings: &Settings, draft: &mut CheckReporter<'_>) {
    let mut providers = private_providers(facts);
    let Some(first) = providers.next() else { return };
    let first_host = &first.value.host;
    for other in providers.filter(|other| other.value.host != *first_host) {
        let finding = draft
            .node(&other.node, "a second provider registry with a login")
            .also(&first.node, "the first one");
        palette(
            finding,
            settings,
            "Palette supports one; Landfall uses each for its own images",
            "with `--compat palette` only the first is used",
        );
    }
}

fn registries_differ(facts: &Facts, _: &Settings, draft: &mut CheckReporter<'_>) {
    let mut seen = HashMap::new();
    for registry in with_role(facts, RegistryRole::External) {
        match seen.entry((&registry.value.host, &registry.value.path)) {
            Entry::Vacant(vacant) => {
                vacant.insert(registry);
            }
            Entry::Occupied(known) => {
                draft
                    .node(
                        &registry.node,
                        "this registry is written twice; the first entry is used",
                    )
                    .also(&known.get().node, "first written here")
                    .help("remove one of the entries");
            }
        }
    }
}

fn rules_differ(facts: &Facts, _: &Settings, draft: &mut CheckReporter<'_>) {
    let mut seen = HashMap::new();
    for rule in &facts.rules {
        let source = match &rule.value.from {
            RulePrefix::All => ("", ""),
            RulePrefix::Path { host, path } => (host.as_str(), path.as_str()),
        };
        match seen.entry(source) {
            Entry::Vacant(vacant) => {
                vacant.insert(rule);
            }
            Entry::Occupied(known) => {
                draft
                    .node(&rule.node, "a rule for this prefix is there already; the first one is used")
                    .also(&known.get().node, "the first one")
                    .help("remove one of the two; schemes, slashes at the end and aliases of `docker.io` make no difference");
            }
        }
    }
}

fn targets_are_hosts_to_all(facts: &Facts, _: &Settings, draft: &mut CheckReporter<'_>) {
    let registries = with_role(facts, RegistryRole::External).map(|registry| {
        let node = registry.node.get("domain").unwrap_or(&registry.node);
        (&registry.value.host, node)
    });
    let rules = facts.rules.iter().map(|rule| (&rule.value.to_host, &rule.node));
    for (host, node) in registries.chain(rules).filter(|(host, _)| !host.is_unmistakable()) {
        draft
            .node(node, format!("other programs read `{host}/…` as `docker.io/{host}/…`"))
            .help(format!("write the port too: `{host}:443`, or the host's full name"));
    }
}

fn provider_login_fits_image(facts: &Facts, _: &Settings, draft: &mut CheckReporter<'_>) {
    let provider = facts
        .images
        .iter()
        .find(|image| image.value.role == ImageRole::Provider);
    let Some(image) = provider else { return };
    let hosts: BTreeSet<_> = with_role(facts, RegistryRole::Provider)
        .map(|registry| &registry.value.host)
        .collect();
    if hosts.is_empty() || hosts.contains(&image.value.reference.host) {
        return;
    }
    for registry in with_role(facts, RegistryRole::Provider) {
        draft
            .node(
                &registry.node,
                format!(
                    "the provider image is at `{}`, not at `{}`: this login is not used",
                    image.value.reference.host, registry.value.host
                ),
            )
            .also(&image.node, "the provider image")
            .help(format!("write `registry: {}`", image.value.reference.host));
    }
}

fn provider_login_beside_external(facts: &Facts, settings: &Settings, draft: &mut CheckReporter<'_>) {
    let Some(external) = with_role(facts, RegistryRole::External).next() else {
        return;
    };
    for provider in private_providers(facts) {
        let finding = draft
            .node(
                &provider.node,
                "a provider registry with a login beside an external registry",
            )
            .also(&external.node, "the external registry");
        palette(
            finding,
            settings,
            "Palette ignores the provider's login then; Landfall uses each login for its own registry",
            "with `--compat palette` the provider's login is ignored",
        );
    }
}

fn provider_login_beside_primary(facts: &Facts, settings: &Settings, draft: &mut CheckReporter<'_>) {
    if settings.primary.is_none() {
        return;
    }
    for provider in private_providers(facts) {
        let finding = draft.node(
            &provider.node,
            "a provider registry with a login beside a primary registry",
        );
        palette(
            finding,
            settings,
            "Palette does not support this; Landfall does",
            "Palette does not support this: remove one of the two",
        );
    }
}

fn bundle_beside_external(facts: &Facts, settings: &Settings, draft: &mut CheckReporter<'_>) {
    let external = with_role(facts, RegistryRole::External).next();
    let (Some(bundle), Some(external), None) = (facts.bundles.names().next(), external, &settings.primary) else {
        return;
    };
    let finding = draft.node(
        &external.node,
        format!("the bundle `{bundle}` beside an external registry, without a primary registry"),
    );
    palette(
        finding,
        settings,
        "Palette ignores bundles then; Landfall takes images from them first",
        "with `--compat palette` bundles are ignored",
    );
}

/// Adds the help about Palette's behaviour. With `--compat palette` the finding becomes a warning.
fn palette(finding: &mut Draft, settings: &Settings, note: &str, warning: &str) {
    match settings.compat {
        Compat::None => finding.help(note),
        Compat::Palette => finding.severity(Severity::Warning).help(warning),
    };
}

fn provider_image_is_there(facts: &Facts, _: &Settings, draft: &mut CheckReporter<'_>) {
    for pack in &facts.os_packs {
        if pack.provider == ProviderImage::Missing {
            draft
                .node(
                    &pack.node,
                    format!("the OS pack `{}` names no provider image", pack.name),
                )
                .help("add `options: {system.uri: <image>}` to its values, or `system.uri: NA` if there is none");
        }
    }
}

fn one_provider_image(facts: &Facts, _: &Settings, draft: &mut CheckReporter<'_>) {
    let mut providers = facts
        .images
        .iter()
        .filter(|image| image.value.role == ImageRole::Provider);
    let Some(first) = providers.next() else { return };
    for other in providers {
        draft
            .node(&other.node, "a second provider image; the first is used")
            .also(&first.node, "the first one")
            .help("keep one OS pack");
    }
}

fn no_always_pull_images(facts: &Facts, settings: &Settings, draft: &mut CheckReporter<'_>) {
    let external = with_role(facts, RegistryRole::External).next();
    let why = match (external, &settings.primary) {
        (Some(_), _) => "an external registry",
        (None, Some(_)) => "a primary registry",
        (None, None) => return,
    };
    for plugins in &facts.always_pull {
        let help = match &plugins.corrected {
            Some(corrected) => format!("write `{corrected}`; `landfall profile fix` does it"),
            None => "remove the flag; `landfall profile fix` does it".to_owned(),
        };
        draft
            .node(
                &plugins.node,
                format!("`AlwaysPullImages` cannot be used with {why}: preloaded core images could not start"),
            )
            .help(help);
    }
}
