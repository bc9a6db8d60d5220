//! Templates of a profile: their values and their evaluation [spec:profile.templates].
//!
//! Templates are replaced in the text, before YAML is parsed, as Palette does. One template is one look-up:
//! `{{.spectro.macro.NAME}}`, `{{.spectro.var.NAME}}`, `{{.spectro.system.…}}` or
//! `{{.spectro.pack.<pack>.options.<key>}}`, where pack names hold hyphens and keys hold dots. Functions and pipelines
//! are refused. A template without `.spectro` belongs to another tool and stays as it is.

mod evaluate;

use std::collections::BTreeMap;

use secrecy::{ExposeSecret, SecretString};

use crate::config::values_file::parse_values_file;
use crate::diagnostic::{Diagnostics, NamedText};

pub(crate) use evaluate::{PackOptions, Protected, Templates};

/// The kinds of values that a user can give.
const SCOPES: [&str; 3] = ["macro", "var", "system"];

/// The values of `--set` and the values file. They may be passwords and are not printed.
#[derive(Debug, Clone, Default)]
pub struct TemplateValues(BTreeMap<String, SecretString>);

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
        self.0.insert(name.to_owned(), SecretString::from(value));
        Ok(())
    }

    /// Adds the values of a file: YAML with the mappings `macro`, `var` and `system`, nested or with dots in the keys.
    /// Existing values, which come from `--set`, stay.
    #[must_use]
    pub fn add_file(&mut self, file: &NamedText) -> Diagnostics {
        let (values, diagnostics) = parse_values_file(file);
        for (name, value) in values {
            self.0.entry(name).or_insert(value);
        }
        diagnostics
    }

    /// Returns the value of `macro.NAME`, `var.NAME` or `system.NAME`.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(ExposeSecret::expose_secret)
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
