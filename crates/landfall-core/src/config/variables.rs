//! Variables of a profile: their definitions, and the rules for their values [spec:profile.variables].
//!
//! A value that breaks a rule of its variable is an error only where the value is used; the evaluator of templates
//! decides that. Contradictions in a definition are warnings.

mod format;
mod pattern;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use regex::Regex;

use crate::config::codes;
use crate::config::node::Node;
use crate::config::report::Report;
use crate::config::template::TemplateValues;
use crate::config::text::Span;
use crate::wording::nearest;
use format::{FORMATS, Format};

/// The value of `inputType` for a choice among options.
const DROPDOWN: &str = "dropdown";

/// The variables of all profiles.
#[derive(Debug, Default)]
pub(crate) struct Variables(BTreeMap<(usize, String), Variable>);

/// A variable of one profile.
#[derive(Debug)]
pub(crate) struct Variable {
    pub(crate) name: String,
    /// The entry in `spec.variables`.
    node: Node,
    format: Format,
    pattern: Option<Regex>,
    /// The values of a dropdown.
    options: Option<Vec<String>>,
    is_required: bool,
    is_read_only: bool,
    is_sensitive: bool,
    /// The default, if it is not empty.
    default: Option<Node>,
}

impl Variable {
    /// Returns the default; `None` if there is none.
    pub(crate) fn default_text(&self) -> Option<&str> {
        self.default.as_ref().and_then(Node::raw_text)
    }

    /// Returns the position of the default, or of the definition.
    pub(crate) fn place(&self) -> (Span, Arc<str>) {
        let node = self.default.as_ref().or(self.node.get("name")).unwrap_or(&self.node);
        (node.span(), node.key_path())
    }

    /// Checks a value against the rules of the variable.
    ///
    /// # Errors
    /// The rule that it breaks, as a clause without subject. It never holds the value.
    pub(crate) fn check(&self, value: &str) -> Result<(), String> {
        if value.is_empty() {
            return match self.is_required {
                true => Err("is empty, and the variable is required".to_owned()),
                false => Ok(()),
            };
        }
        if let Some(options) = &self.options {
            if options.iter().any(|option| option == value) {
                return Ok(());
            }
            return Err(match self.is_sensitive {
                true => "is none of its options".to_owned(),
                false => format!("is none of its options, which are {}", quoted(options)),
            });
        }
        if !self.format.accepts(value) {
            return Err(format!("is not {}", self.format.describe()));
        }
        match &self.pattern {
            Some(pattern) if !pattern.is_match(value) => Err("does not match its `regex`".to_owned()),
            _ => Ok(()),
        }
    }
}

impl Variables {
    /// Returns a variable of a profile, or of another profile if that one does not define it.
    pub(crate) fn get(&self, profile: usize, name: &str) -> Option<&Variable> {
        let own = self.0.get(&(profile, name.to_owned()));
        own.or_else(|| self.0.values().find(|variable| variable.name == name))
    }

    /// Reads `spec.variables` of one profile.
    pub(crate) fn read(&mut self, root: &Node, profile: usize, values: &TemplateValues, report: &mut Report) {
        let list = root.at(&["spec", "variables"]).map(Node::items).unwrap_or_default();
        for node in list.iter().filter(|node| !node.entries().is_empty()) {
            let Some(name) = node.get("name").and_then(Node::text) else {
                warn(node, "a variable has no name", "add `name`", report);
                continue;
            };
            let variable = read_variable(name, node, report);
            if variable.is_sensitive {
                if let Some(default) = &variable.default {
                    report.secret(default.span());
                }
                let given = values.get(&format!("var.{name}"));
                for secret in [given, variable.default_text()].into_iter().flatten() {
                    report.secret_text(secret);
                }
            }
            variable.check_definition(report);
            if let (true, Some(given)) = (variable.is_read_only, values.get(&format!("var.{name}")))
                && variable.default_text().is_some_and(|default| default != given)
            {
                report
                    .node(
                        &codes::READ_ONLY_VARIABLE,
                        node.get("name").unwrap_or(node),
                        format!("the variable `{name}` is read-only (`immutable`), and another value is given for it"),
                    )
                    .help("leave the value out, or change `defaultValue`");
            }
            self.0.entry((profile, name.to_owned())).or_insert(variable);
        }
    }

    /// Reports wrong values of the variables that no template named, as warnings: nothing depends on them.
    pub(crate) fn report_unused(&self, named: &BTreeSet<(usize, &str)>, values: &TemplateValues, report: &mut Report) {
        for ((profile, name), variable) in &self.0 {
            if named.contains(&(*profile, name.as_str())) {
                continue;
            }
            let full_name = format!("var.{name}");
            let given = values.get(&full_name);
            let place = given.and_then(|_| values.place(&full_name));
            let (span, key) = place.unwrap_or_else(|| variable.place());
            let Some(value) = given.or(variable.default_text()) else {
                if variable.is_required {
                    report
                        .at(
                            &codes::VARIABLE_MISSING,
                            span,
                            key,
                            format!("the variable `{name}` is required and has no value"),
                        )
                        .help(format!("give it one: `--set {full_name}=…`, or in a values file"));
                }
                continue;
            };
            if let Err(reason) = variable.check(value) {
                report
                    .at(
                        &codes::VARIABLE_VALUE,
                        span,
                        key,
                        format!("the value of the variable `{name}` {reason}"),
                    )
                    .severity(crate::diagnostic::Severity::Warning)
                    .help("correct the value; no template of the profile uses it");
            }
        }
    }
}

impl Variable {
    /// Reports contradictions between the rules of the definition.
    fn check_definition(&self, report: &mut Report) {
        let (name, has_default) = (&self.name, self.default.is_some());
        let is_hidden = self.node.get("hidden").is_some_and(is_true);
        let is_dropdown = self.options.is_some();
        let kind = match () {
            () if has_default => return,
            () if is_hidden && self.is_required => "hidden and required",
            () if self.is_read_only => "read-only (`immutable`)",
            () if is_dropdown => "a dropdown",
            () => return,
        };
        let place = self.node.get("name").unwrap_or(&self.node);
        let message = format!("the variable `{name}` is {kind}, and has no default");
        warn(place, &message, "add `defaultValue`", report);
    }
}

fn read_variable(name: &str, node: &Node, report: &mut Report) -> Variable {
    let default = node
        .get("defaultValue")
        .filter(|default| !default.is_null() && default.raw_text().is_some_and(|text| !text.is_empty()));
    Variable {
        name: name.to_owned(),
        node: node.clone(),
        format: read_format(node, report),
        pattern: read_pattern(node, report),
        options: read_options(node, report),
        is_required: node.get("required").is_some_and(is_true),
        is_read_only: node.get("immutable").is_some_and(is_true),
        is_sensitive: node.get("isSensitive").is_some_and(is_true),
        default: default.cloned(),
    }
}

fn read_format(node: &Node, report: &mut Report) -> Format {
    let Some(written) = node.get("format") else {
        return Format::String;
    };
    let text = written.text().unwrap_or_default();
    if text.is_empty() {
        return Format::String;
    }
    Format::of_word(text).unwrap_or_else(|| {
        let help = match nearest(text, FORMATS.into_iter()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("formats are: {}", FORMATS.join(", ")),
        };
        warn(
            written,
            &format!("a variable cannot have the format `{text}`; its values are not checked"),
            &help,
            report,
        );
        Format::String
    })
}

fn read_pattern(node: &Node, report: &mut Report) -> Option<Regex> {
    let written = node.get("regex")?;
    let text = written.text().filter(|text| !text.is_empty())?;
    let pattern = pattern::compile(text);
    if pattern.is_none() {
        let message = "a variable's `regex` cannot be used; its values are not checked against it";
        let help = "write a regular expression as Go reads it (RE2), of moderate size";
        warn(written, message, help, report);
    }
    pattern
}

fn read_options(node: &Node, report: &mut Report) -> Option<Vec<String>> {
    let input = node.get("inputType")?;
    if input.text() != Some(DROPDOWN) {
        return None;
    }
    let items = node.get("options").map(Node::items).unwrap_or_default();
    let options: Vec<String> = items
        .iter()
        .filter_map(|item| item.get("value").unwrap_or(item).text())
        .map(str::to_owned)
        .collect();
    if options.is_empty() {
        warn(
            input,
            "a dropdown has no options",
            "add `options: [{value: …}]`",
            report,
        );
        return None;
    }
    Some(options)
}

/// Returns true for `true`, also in quotes, as some exports write it.
fn is_true(node: &Node) -> bool {
    node.boolean() == Some(true) || node.text() == Some("true")
}

fn quoted(options: &[String]) -> String {
    let quoted: Vec<String> = options.iter().map(|option| format!("`{option}`")).collect();
    quoted.join(", ")
}

fn warn(node: &Node, message: &str, help: &str, report: &mut Report) {
    report.node(&codes::VARIABLE_DEFINITION, node, message).help(help);
}
