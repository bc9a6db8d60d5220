//! YAML: the only place that knows which library reads it.
//!
//! A document becomes a tree of [`Node`]s that keep each scalar as it is written.
//!
//! This reads serde-saphyr's event stream (its re-exported parser) and not its serde front: derived types stop at the
//! first wrong key, and lose positions inside strings of YAML.

mod build;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::config::node::{KeyPath, Node, Value};
use crate::config::report::Report;
use crate::config::text::Text;

pub(crate) use build::{Loaded, TEXT_BYTES_MAX, load};

/// Parses a text of one document. Problems go to the report; `None` when the text is not YAML.
pub(crate) fn parse_document(text: &Text, base: &KeyPath, report: &mut Report) -> Option<Node> {
    let loaded = load(text, base);
    // What is behind a last `---` is an empty document: nothing is lost.
    let mut others = loaded.documents.iter().skip(1);
    let second = others.find(|document| !document.is_null()).map(Node::span);
    loaded.report_problems(report);
    if let Some(span) = second {
        report
            .at(
                &crate::config::codes::SEVERAL_DOCUMENTS,
                span,
                Arc::from(""),
                "a second YAML document starts here and is not read",
            )
            .help("write each document to a file of its own, or remove the `---` above");
    }
    let mut documents = loaded.documents;
    if documents.is_empty() || !loaded.complete {
        return None;
    }
    let document = documents.swap_remove(0);
    report_secrets(&document, false, report);
    Some(document)
}

/// Whether a text holds no YAML at all: nothing, or only comments.
pub(crate) fn is_blank(text: &Text) -> bool {
    text.as_str().lines().all(|line| {
        let line = line.trim_start_matches('\u{FEFF}').trim();
        line.is_empty() || line.starts_with('#') || line == "---"
    })
}

/// Marks the secrets of all documents of a text. Where a Secret could not be read to its end, nobody knows which of its
/// lines are secret: all are.
pub(crate) fn report_secrets_of(loaded: &Loaded, text: &Text, report: &mut Report) {
    for document in &loaded.documents {
        report_secrets(document, false, report);
    }
    if !loaded.complete && text.as_str().contains("Secret") {
        report.secret(text.slice(0..text.as_str().len()));
    }
}

/// Marks every value of a secret key below `node`.
pub(crate) fn report_secrets(node: &Node, secret: bool, report: &mut Report) {
    match &node.value {
        Value::Scalar(_) if secret && !node.is_null() => report.secret(node.span()),
        Value::Scalar(_) | Value::Unknown => {}
        Value::Sequence(items) => {
            for item in items {
                report_secrets(item, secret, report);
            }
        }
        Value::Mapping(entries) => {
            let is_secret_object = node.get("kind").and_then(Node::text) == Some("Secret");
            for entry in entries {
                let key = entry.key.text().unwrap_or_default();
                let secret = secret
                    || crate::diagnostic::mask::is_secret_key(key)
                    || (is_secret_object && matches!(key, "data" | "stringData"));
                report_secrets(&entry.value, secret, report);
            }
        }
    }
}
