//! Parser of the file with the values for a profile's templates.

use secrecy::SecretString;

use crate::config::keys;
use crate::config::node::{KeyPath, Node};
use crate::config::report::Report;
use crate::config::shape::check_shape;
use crate::config::text::Text;
use crate::config::yaml::{self};
use crate::diagnostic::{Diagnostics, NamedText};

/// Parses a values file into names, such as `macro.NAME`, and values.
pub(crate) fn parse_values_file(file: &NamedText) -> (Vec<(String, SecretString)>, Diagnostics) {
    let mut report = Report::default();
    let text = Text::of_file(file);
    let mut values = Vec::new();
    let root = yaml::parse_document(&text, &KeyPath::default(), &mut report);
    // Any value may be a password: no value is shown, and nothing of a file that could not be parsed to its end.
    match &root {
        Some(root) if report.is_empty() => yaml::report_all_values(root, &mut report),
        _ => report.secret(text.slice(0..text.as_str().len())),
    }
    if let Some(root) = root {
        check_shape(&root, &keys::VALUES, &mut report);
        for scope in root.entries() {
            if let Some(name) = scope.key.text() {
                flatten(&scope.value, name, &mut values);
            }
        }
    }
    (values, report.finish([file]))
}

fn flatten(node: &Node, name: &str, values: &mut Vec<(String, SecretString)>) {
    if let Some(text) = node.raw_text().filter(|_| !node.is_null()) {
        values.push((name.to_owned(), SecretString::from(text)));
    }
    for entry in node.entries() {
        if let Some(key) = entry.key.raw_text() {
            flatten(&entry.value, &format!("{name}.{key}"), values);
        }
    }
}
