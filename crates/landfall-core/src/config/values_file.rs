//! Parser of the file with the values for a profile's templates.

use crate::config::keys;
use crate::config::node::{KeyPath, Node};
use crate::config::report::Report;
use crate::config::shape::check_shape;
use crate::config::text::Text;
use crate::config::yaml::{self};
use crate::diagnostic::{Diagnostics, NamedText};

/// Parses a values file into names, such as `macro.NAME`, and the nodes of their values; `None` if it is not YAML.
pub(crate) fn parse_values_file(file: &NamedText) -> (Option<Vec<(String, Node)>>, Diagnostics) {
    let mut report = Report::default();
    let text = Text::of_file(file);
    let mut values = Vec::new();
    let root = yaml::parse_document(&text, &KeyPath::default(), &mut report);
    // Any value may be a password: no value is shown, and nothing of a file that could not be parsed to its end.
    match &root {
        Some(root) if report.is_empty() => yaml::report_all_values(root, &mut report),
        _ => report.secret(text.slice(0..text.as_str().len())),
    }
    if let Some(root) = &root {
        check_shape(root, &keys::VALUES, &mut report);
        for scope in root.entries() {
            if let Some(name) = scope.key.text() {
                flatten(&scope.value, name, &mut values);
            }
        }
    }
    // A file without a value is one.
    let is_read = root.is_some() || yaml::is_blank(&text);
    (is_read.then_some(values), report.finish([file]))
}

fn flatten(node: &Node, name: &str, values: &mut Vec<(String, Node)>) {
    if node.raw_text().is_some() && !node.is_null() {
        values.push((name.to_owned(), node.clone()));
    }
    for entry in node.entries() {
        if let Some(key) = entry.key.raw_text() {
            flatten(&entry.value, &format!("{name}.{key}"), values);
        }
    }
}
