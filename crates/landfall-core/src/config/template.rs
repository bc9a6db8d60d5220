//! Templates of a profile: their values and their evaluation [spec:profile.templates].
//!
//! Templates are replaced in the text, before YAML is parsed, as Palette does. A template is a pipeline: a look-up
//! (`{{.spectro.macro.NAME}}`, `{{.spectro.var.NAME}}`, `{{.spectro.system.…}}` or `{{.spectro.pack.<pack>.<path>}}`)
//! and functions of sprig. A template without `.spectro` belongs to another tool and stays as it is.

mod evaluate;
mod functions;
mod packs;
mod parse;
mod scan;

use std::collections::BTreeMap;
use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};

use crate::config::text::Span;
use crate::config::values_file::parse_values_file;
use crate::diagnostic::{Diagnostics, NamedText, Severity};
use crate::settings::Unknown;

pub(crate) use evaluate::Templates;
pub(crate) use packs::PackTable;
pub(crate) use scan::marks;

/// The kinds of values that a user can give.
const SCOPES: [&str; 3] = ["macro", "var", "system"];

/// The values of `--set` and the values file. They may be passwords and are not printed.
#[derive(Debug, Clone, Default)]
pub struct TemplateValues {
    values: BTreeMap<String, GivenValue>,
    /// The position of every value of the values file.
    written: Vec<Span>,
    /// The values files that could not be parsed.
    unread: Vec<Unknown>,
}

#[derive(Debug, Clone)]
struct GivenValue {
    value: SecretString,
    /// The position in the values file; `None` for a value of `--set`.
    place: Option<(Span, Arc<str>)>,
}

/// Error of a `--set` that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateValueError {
    #[error("there is no `=`: write `macro.NAME=value`, `var.NAME=value` or `system.NAME=value`")]
    NoValue,
    #[error("`{name}` is not a template's name: write `macro.NAME`, `var.NAME` or `system.NAME`")]
    Name {
        /// The text before the `=`.
        name: String,
    },
}

impl TemplateValues {
    /// Adds the value of one `--set`: `macro.NAME=value`, `var.NAME=value` or `system.a.b=value`. It replaces an
    /// earlier one.
    ///
    /// # Errors
    /// If the text does not have that form. The error never contains the value.
    pub fn set(&mut self, assignment: &str) -> Result<(), TemplateValueError> {
        let (name, value) = assignment.split_once('=').ok_or(TemplateValueError::NoValue)?;
        let is_name = name
            .split_once('.')
            .is_some_and(|(scope, rest)| SCOPES.contains(&scope) && !rest.is_empty());
        if !is_name {
            return Err(TemplateValueError::Name { name: name.to_owned() });
        }
        let value = SecretString::from(value);
        self.values.insert(name.to_owned(), GivenValue { value, place: None });
        Ok(())
    }

    /// Adds the values of a file: YAML with the mappings `macro`, `var` and `system`, nested or with dots in the keys.
    /// Existing values, which come from `--set`, stay.
    #[must_use]
    pub fn add_file(&mut self, file: &NamedText) -> Diagnostics {
        let (values, diagnostics) = parse_values_file(file);
        let error = diagnostics.iter().find(|finding| finding.severity == Severity::Error);
        if let (None, Some(error)) = (&values, error) {
            self.unread.push(Unknown {
                location: error.primary.location.clone(),
                message: error.message.clone(),
                is_whole_file: true,
            });
        }
        let values = values.unwrap_or_default();
        for (name, node) in values {
            self.written.push(node.span());
            let given = || GivenValue {
                value: SecretString::from(node.raw_text().unwrap_or_default()),
                place: Some((node.span(), node.key_path())),
            };
            self.values.entry(name).or_insert_with(given);
        }
        diagnostics
    }

    /// Returns the value of `macro.NAME`, `var.NAME` or `system.NAME`.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(|given| given.value.expose_secret())
    }

    /// Returns the position of a value in the values file; `None` if `--set` gives it.
    pub(crate) fn place(&self, name: &str) -> Option<(Span, Arc<str>)> {
        self.values.get(name)?.place.clone()
    }

    /// Returns the values files that could not be parsed.
    pub(crate) fn unread(&self) -> &[Unknown] {
        &self.unread
    }

    /// Returns the positions of all values of the values file, which no excerpt may show.
    pub(crate) fn written(&self) -> &[Span] {
        &self.written
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_names_a_scope_and_a_value() {
        let mut values = TemplateValues::default();
        values.set("macro.provider-password=a=b").unwrap();
        values.set("system.cluster.uid=1").unwrap();
        assert_eq!(values.get("macro.provider-password"), Some("a=b"));
        assert_eq!(values.get("system.cluster.uid"), Some("1"));
        assert_eq!(values.set("macro.canary"), Err(TemplateValueError::NoValue));
        for wrong in ["pack.x=canary", "macro.=canary", "macro=canary"] {
            let error = values.set(wrong).unwrap_err().to_string();
            assert!(!error.contains("canary"), "{error}");
        }
        assert!(!format!("{values:?}").contains("a=b"));
    }

    #[test]
    fn a_values_file_may_nest_or_use_dots_and_yields_to_set() {
        let mut values = TemplateValues::default();
        values.set("var.region=set").unwrap();
        let file = NamedText::new(
            "values.yaml",
            "macro: {a-b: '1'}\nvar: {region: file, n: 012}\nsystem:\n  cluster: {uid: x}\n  kubernetes.version: 1.33\n",
        );
        assert!(values.add_file(&file).is_empty());
        for (name, value) in [
            ("macro.a-b", "1"),
            ("var.region", "set"),
            ("var.n", "012"),
            ("system.cluster.uid", "x"),
            ("system.kubernetes.version", "1.33"),
        ] {
            assert_eq!(values.get(name), Some(value), "{name}");
        }
        let wrong = values.add_file(&NamedText::new("values.yaml", "macros: {a: b}\nvar: [x]\n"));
        assert_eq!(wrong.len(), 2);
    }

    #[test]
    fn no_value_of_a_values_file_is_shown() {
        for text in [
            "macro: {a: canary\n",
            "macros: {a: canary}\n",
            "var: canary\n",
            "macro: [canary]\n",
            "macro:\n  a: canary\n  a: canary\n",
            "canary\n",
            "macro: {a: b}\n---\nmacro: {b: canary}\n",
        ] {
            let findings = TemplateValues::default().add_file(&NamedText::new("values.yaml", text));
            let shown = crate::diagnostic::render_text(&findings, false);
            assert!(!shown.is_empty() && !shown.contains("canary"), "{text:?}: {shown}");
        }
    }
}
