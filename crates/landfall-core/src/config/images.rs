//! Collector of the images of a pack: those declared in its values and those discovered in pod specs.

use crate::config::codes;
use crate::config::facts::{Facts, Sourced};
use crate::config::node::{Node, NodeValue};
use crate::config::registry::check_grc_io;
use crate::config::report::Report;
use crate::config::yaml::{self};
use crate::diagnostic::Severity;
use crate::pod_image::{PULL_NEVER, PodImage, read_pod_image};
use crate::reference::parse_reference;
use crate::settings::{Finding, ImageRole, ProfileImage};

/// The value of `system.uri` for "no image". It also occurs in image lists with that template.
pub(crate) const NO_IMAGE: &str = "NA";
const CONTAINER_LISTS: [&str; 3] = ["containers", "initContainers", "ephemeralContainers"];

/// The pack whose images are collected.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Owner<'a> {
    pub(crate) profile: &'a str,
    pub(crate) pack: &'a str,
    pub(crate) layer: &'a str,
    pub(crate) role: ImageRole,
}

/// Collects the image that a node names.
pub(crate) fn take_image(node: &Node, owner: Owner<'_>, finding: Finding, facts: &mut Facts, report: &mut Report) {
    facts.depend_on(node);
    let unquoted = unquoted_template(node);
    let Some(source) = node.text().map(str::trim).or(unquoted.as_deref()) else {
        return;
    };
    if source == NO_IMAGE {
        return;
    }
    if source.contains("{{") {
        report
            .node(
                &codes::BAD_IMAGE,
                node,
                format!("`{source}` is a template of another tool; the image is not listed"),
            )
            .severity(Severity::Warning)
            .help("list the finished image in `pack.content.images`");
        return;
    }
    match parse_reference(source) {
        Ok(reference) => {
            check_grc_io(node, reference.host.as_str(), report);
            let image = ProfileImage {
                source: source.to_owned(),
                reference,
                role: owner.role,
                layer: owner.layer.to_owned(),
                pack: owner.pack.to_owned(),
                profile: owner.profile.to_owned(),
                finding,
                location: node.location(),
            };
            facts.images.push(Sourced::new(image, node));
        }
        Err(error) => {
            // `user:password@host/path` is not a reference. It holds a password and must not be shown.
            if source.split_once('@').is_some_and(|(_, behind)| behind.contains('/')) {
                report.secret(node.span());
            }
            report
                .node(
                    &codes::BAD_IMAGE,
                    node,
                    format!("the image of pack `{}` cannot be used: {error}", owner.pack),
                )
                .help("write `host/path:tag` or `host/path@sha256:…`");
        }
    }
}

/// Returns the text of a node that is `{{ … }}` without quotes, which YAML parses as a mapping in a mapping.
fn unquoted_template(node: &Node) -> Option<String> {
    let span = node.span();
    let written = span.text.as_str().get(span.start..span.end)?;
    let is_template = matches!(node.value, NodeValue::Mapping(_)) && written.starts_with("{{");
    is_template.then(|| written.trim_end().to_owned())
}

/// Collects the images of manifests that are strings in the values of a pack, as in Palette's pack for custom manifests
/// (`manifests.<name>.contents`). A string that is not YAML may be any configuration, and is no finding.
pub(crate) fn take_embedded_pod_images(node: &Node, owner: Owner<'_>, facts: &mut Facts, report: &mut Report) {
    match &node.value {
        NodeValue::Scalar(scalar) if scalar.text.contains('\n') => {
            let Some(text) = node.to_text() else { return };
            yaml::visit_documents(&text, node.path(), report, |document, report| {
                take_pod_images(document, owner, facts, report);
            });
        }
        NodeValue::Sequence(items) => {
            for item in items {
                take_embedded_pod_images(item, owner, facts, report);
            }
        }
        NodeValue::Mapping(entries) => {
            for entry in entries {
                take_embedded_pod_images(&entry.value, owner, facts, report);
            }
        }
        NodeValue::Scalar(_) | NodeValue::Unknown => {}
    }
}

/// Collects the images of all pod specs at or below a node.
pub(crate) fn take_pod_images(node: &Node, owner: Owner<'_>, facts: &mut Facts, report: &mut Report) {
    match &node.value {
        NodeValue::Sequence(items) => {
            for item in items {
                take_pod_images(item, owner, facts, report);
            }
        }
        NodeValue::Mapping(entries) => {
            for entry in entries {
                let key = entry.key.text().unwrap_or_default();
                for item in entry.value.items() {
                    let (image, pull_policy) = if CONTAINER_LISTS.contains(&key) {
                        (item.get("image"), item.get("imagePullPolicy"))
                    } else if key == "volumes" {
                        (item.at(&["image", "reference"]), item.at(&["image", "pullPolicy"]))
                    } else {
                        (None, None)
                    };
                    if let Some(image) = image.filter(|image| is_fetched(image, pull_policy)) {
                        take_image(image, owner, Finding::Discovered, facts, report);
                    }
                }
                take_pod_images(&entry.value, owner, facts, report);
            }
        }
        NodeValue::Scalar(_) | NodeValue::Unknown => {}
    }
}

/// Returns true if a node of the cluster pulls the image. Images that the webhook leaves unchanged are in no registry.
fn is_fetched(image: &Node, pull_policy: Option<&Node>) -> bool {
    let is_left_alone = |text: &str| matches!(read_pod_image(text.trim()), Ok(PodImage::LeftAlone(_)));
    pull_policy.and_then(Node::text) != Some(PULL_NEVER) && !image.text().is_some_and(is_left_alone)
}

/// Returns each image once, in the order of processing: the provider image first, then by first occurrence. An image
/// gets the most infrastructural of its roles.
pub(crate) fn merge_images(images: Vec<Sourced<ProfileImage>>) -> Vec<Sourced<ProfileImage>> {
    let mut merged: Vec<Sourced<ProfileImage>> = Vec::new();
    let mut index_of = std::collections::HashMap::new();
    let (provider, others): (Vec<_>, Vec<_>) = images
        .into_iter()
        .partition(|image| image.value.role == ImageRole::Provider);
    for image in provider.into_iter().chain(others) {
        match index_of.entry(image.value.reference.canonical()) {
            std::collections::hash_map::Entry::Vacant(vacant) => {
                vacant.insert(merged.len());
                merged.push(image);
            }
            std::collections::hash_map::Entry::Occupied(occupied) => {
                if let Some(known) = merged.get_mut(*occupied.get()) {
                    known.value.role = known.value.role.min(image.value.role);
                    if image.value.finding == Finding::Declared {
                        known.value.finding = Finding::Declared;
                    }
                }
            }
        }
    }
    merged
}
