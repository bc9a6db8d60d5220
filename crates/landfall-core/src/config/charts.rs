//! Search for images in the values of Helm charts. Landfall renders no charts: it names such images, but neither lists
//! nor pulls them [spec:profile.charts].

use std::collections::BTreeSet;

use crate::config::codes;
use crate::config::facts::Sourced;
use crate::config::images::NO_IMAGE;
use crate::config::node::{Node, NodeValue};
use crate::config::report::Report;
use crate::reference::{ImageReference, parse_reference};
use crate::settings::ProfileImage;
use crate::wording::counted;

/// The type of a pack that is a Helm chart, whose values are those of the pack.
const HELM: &str = "helm";
/// Keys of the values of a pack that have a reader of their own.
const OWN_KEYS: [&str; 7] = [
    "charts",
    "cluster",
    "manifests",
    "options",
    "pack",
    "providerCredentials",
    "stages",
];
/// The chart that connects the primary registry.
const CONNECT: &str = "registry-connect";
/// The number of images that a finding names.
const NAMED_MAX: usize = 5;

/// Reports that a pack has charts and lists no images, or that the values of its charts seem to name images that it
/// does not list: at most one finding a pack. `listed` are the images of the pack.
pub(crate) fn report_charts(
    name: &str,
    pack: &Node,
    values: &Node,
    listed: &[Sourced<ProfileImage>],
    report: &mut Report,
) {
    let place = pack.get("name").unwrap_or(pack);
    let others = values.entries().iter();
    let others = others.filter(|entry| entry.key.text().is_none_or(|key| !OWN_KEYS.contains(&key)));
    let charts = values.get("charts").map(Node::entries).unwrap_or_default().iter();
    // Landfall does the work of the chart that connects the primary registry.
    let charts: Vec<_> = charts.filter(|chart| chart.key.text() != Some(CONNECT)).collect();
    let has_charts = !charts.is_empty() || pack.get("type").and_then(Node::text) == Some(HELM);
    let mut suspected = Vec::new();
    for entry in charts.into_iter().chain(others) {
        match entry.value.text().filter(|_| entry.key.text() == Some("image")) {
            Some(text) => suspected.extend(full_reference(text)),
            None => find_images(&entry.value, &mut suspected),
        }
    }
    let known: BTreeSet<ImageReference> = listed.iter().map(|image| image.value.reference.canonical()).collect();
    let mut seen = BTreeSet::new();
    suspected.retain(|image| !known.contains(image) && seen.insert(image.clone()));
    let names: Vec<String> = suspected
        .iter()
        .take(NAMED_MAX)
        .map(|image| format!("`{image}`"))
        .collect();
    let more = match suspected.len().saturating_sub(NAMED_MAX) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let has_list = values
        .at(&["pack", "content", "images"])
        .is_some_and(|list| !list.is_null());
    if has_charts && listed.is_empty() && !has_list {
        let seem = match names.is_empty() {
            true => String::new(),
            false => format!("; their values seem to name {}{more}", names.join(", ")),
        };
        report
            .node(
                &codes::CHARTS_WITHOUT_IMAGES,
                place,
                format!("the pack `{name}` has charts and lists no images: those of its charts are not known{seem}"),
            )
            .help("list them in `pack.content.images` of the pack; `images: []` if there are none");
    } else if !names.is_empty() {
        report
            .node(
                &codes::SUSPECTED_IMAGES,
                place,
                format!(
                    "the values of pack `{name}` seem to name {} that the pack does not list: {}{more}",
                    counted(suspected.len(), "image"),
                    names.join(", ")
                ),
            )
            .help("list those that its charts use in `pack.content.images` of the pack");
    }
}

/// Collects the images that the usual keys of charts name: `image: NAME`, and `repository` with `tag` or `digest` and
/// maybe `registry`.
fn find_images(node: &Node, found: &mut Vec<ImageReference>) {
    match &node.value {
        NodeValue::Sequence(items) => {
            for item in items {
                find_images(item, found);
            }
        }
        NodeValue::Mapping(entries) => {
            found.extend(image_of_parts(node));
            for entry in entries {
                let is_image = entry.key.text() == Some("image");
                match entry.value.text().filter(|_| is_image) {
                    Some(text) => found.extend(full_reference(text)),
                    None => find_images(&entry.value, found),
                }
            }
        }
        NodeValue::Scalar(_) | NodeValue::Unknown => {}
    }
}

/// Returns the image of a mapping with `repository`, and `tag` or `digest`.
fn image_of_parts(node: &Node) -> Option<ImageReference> {
    let part = |key: &str| node.get(key).and_then(Node::text).filter(|text| !text.is_empty());
    let repository = part("repository")?;
    let registry = part("registry")
        .map(|registry| format!("{registry}/"))
        .unwrap_or_default();
    let suffix = match (part("digest"), part("tag")) {
        (Some(digest), _) => format!("@{digest}"),
        (None, Some(tag)) => format!(":{tag}"),
        (None, None) => return None,
    };
    full_reference(&format!("{registry}{repository}{suffix}"))
}

/// Parses a reference with a tag or a digest: a bare word is rarely an image.
fn full_reference(text: &str) -> Option<ImageReference> {
    let text = text.trim();
    let name_start = text.rfind('/').map_or(0, |slash| slash + 1);
    let is_full = text != NO_IMAGE && text[name_start..].contains([':', '@']);
    let reference = is_full.then(|| parse_reference(text).ok()).flatten()?;
    Some(reference.canonical())
}
