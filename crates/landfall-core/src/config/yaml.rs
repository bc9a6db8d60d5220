//! The YAML parser. Only this module and `node` use the library.
//!
//! A document becomes a tree of [`Node`]s that keep the text of each scalar.
//!
//! The parser uses the event stream of serde-saphyr (its re-exported parser), not its serde interface: derived types
//! stop at the first wrong key, and lose positions inside strings of YAML.

mod build;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::config::node::{KeyPath, MappingEntry, Node, NodeValue};
use crate::config::report::{Draft, Report};
use crate::config::text::Text;
use crate::diagnostic::Severity;
use crate::diagnostic::secrets::is_secret_key;

pub(crate) use build::{Parsed, TEXT_BYTES_MAX, TEXTS_BYTES_MAX, parse_documents};

/// Parses a text of one document. Problems go to the report; `None` if the text is not YAML.
pub(crate) fn parse_document(text: &Text, base: &KeyPath, report: &mut Report) -> Option<Node> {
    let parsed = parse_documents(text, base);
    parsed.report_problems(report);
    // An empty document after a last `---` is ignored, because nothing is lost.
    let mut others = parsed.documents.iter().skip(1);
    if let Some(second) = others.find(|document| !document.is_null()) {
        report_second_document(second, report)
            .help("write each document to a file of its own, or remove the `---` above");
    }
    take_document(parsed, 0, report)
}

/// Parses the values of a pack. Of several documents the first that is not empty is read, as Helm does; a warning names
/// the second.
pub(crate) fn parse_pack_values(text: &Text, base: &KeyPath, report: &mut Report) -> Option<Node> {
    let parsed = parse_documents(text, base);
    parsed.report_problems(report);
    let mut filled = (0..parsed.documents.len()).filter(|index| !parsed.documents[*index].is_null());
    let first = filled.next()?;
    if let Some(second) = filled.next() {
        report_second_document(&parsed.documents[second], report)
            .severity(Severity::Warning)
            .help("move its keys into the first document, and remove the `---` above");
    }
    take_document(parsed, first, report)
}

fn report_second_document<'r>(second: &Node, report: &'r mut Report) -> &'r mut Draft {
    report.at(
        &crate::config::codes::SEVERAL_DOCUMENTS,
        second.span(),
        Arc::from(""),
        "a second YAML document starts here and is not read",
    )
}

fn take_document(mut parsed: Parsed, index: usize, report: &mut Report) -> Option<Node> {
    if !parsed.complete || index >= parsed.documents.len() {
        return None;
    }
    let document = parsed.documents.swap_remove(index);
    report_secrets(&document, report);
    Some(document)
}

/// Visits the documents of a text one by one, and marks their secrets. Problems stay in the result.
pub(crate) fn visit_documents(
    text: &Text,
    base: &KeyPath,
    report: &mut Report,
    mut visit: impl FnMut(&Node, &mut Report),
) -> Parsed {
    let parsed = build::visit_documents(text, base, |document| {
        report_secrets(document, report);
        visit(document, report);
    });
    report_secrets_of(&parsed, text, report);
    parsed
}

/// Returns true if a text has no YAML content: it is empty or has only comments.
pub(crate) fn is_blank(text: &Text) -> bool {
    text.as_str().lines().all(|line| {
        let line = line.trim_start_matches('\u{FEFF}').trim();
        line.is_empty() || line.starts_with('#') || line == "---"
    })
}

/// Marks the secrets of all documents of a text. If a Secret could not be parsed to its end, the whole text is marked,
/// because any line may hold a value.
pub(crate) fn report_secrets_of(parsed: &Parsed, text: &Text, report: &mut Report) {
    for document in &parsed.documents {
        report_secrets(document, report);
    }
    if !parsed.complete && text.as_str().contains("Secret") {
        report.secret(text.slice(0..text.as_str().len()));
    }
}

/// Marks the values of all secret keys below `node`, and the data of Kubernetes Secrets.
fn report_secrets(node: &Node, report: &mut Report) {
    match &node.value {
        NodeValue::Scalar(_) | NodeValue::Unknown => {}
        NodeValue::Sequence(items) => {
            for item in items {
                report_secrets(item, report);
            }
        }
        NodeValue::Mapping(entries) => {
            let is_secret =
                |entry: &MappingEntry| entry.key.text() == Some("kind") && entry.value.text() == Some("Secret");
            let is_secret_object = entries.iter().any(is_secret);
            for entry in entries {
                let key = entry.key.text().unwrap_or_default();
                let is_data = is_secret_object && matches!(key, "data" | "stringData");
                if is_data || is_secret_key(key) {
                    report_all_values(&entry.value, report);
                } else {
                    report_secrets(&entry.value, report);
                }
            }
        }
    }
}

/// Marks every value below `node` as a secret.
pub(crate) fn report_all_values(node: &Node, report: &mut Report) {
    match &node.value {
        NodeValue::Scalar(_) if node.is_null() => {}
        NodeValue::Scalar(_) => report.secret(node.span()),
        NodeValue::Unknown => {}
        NodeValue::Sequence(items) => {
            for item in items {
                report_all_values(item, report);
            }
        }
        NodeValue::Mapping(entries) => {
            for entry in entries {
                report_all_values(&entry.value, report);
            }
        }
    }
}
