//! Findings about an input, for the person who has to fix it [spec:user-data.severity].
//!
//! A diagnostic is plain data: code, severity, location, message, hint. Rendering is a pure function. The source line
//! is cut out and masked when the diagnostic is created ([`mask`]), so that no later step can print a secret.

use std::borrow::Cow;
use std::sync::Arc;

use serde::Serialize;

use crate::failure::Hint;

pub mod mask;
pub mod render;
pub mod secrets;

pub use render::render_text;

/// A text with its name in messages.
#[derive(Debug, Clone)]
pub struct NamedText {
    /// The file name as the user gave it.
    pub name: Arc<str>,
    pub text: Arc<str>,
}

impl NamedText {
    #[must_use]
    pub fn new(name: &str, text: &str) -> NamedText {
        NamedText {
            name: Arc::from(name),
            text: Arc::from(text),
        }
    }
}

/// A position in an input file. Line and column count from 1; the column counts characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, schemars::JsonSchema)]
pub struct Location {
    /// The file name as the user gave it.
    pub file: Arc<str>,
    /// The line, from 1.
    pub line: u32,
    /// The column in characters, from 1.
    pub column: u32,
    /// The key path, e.g. `stylus.registryCredentials.password`, if known.
    pub key: Arc<str>,
}

impl std::fmt::Display for Location {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// Severity of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The input cannot be used as it is.
    Error,
    /// The input can be used, but probably does not do what its author intends.
    Warning,
    /// Information that needs no change.
    Note,
}

/// One finding about an input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct Diagnostic {
    pub severity: Severity,
    /// The stable code, e.g. `LF0101`.
    pub code: &'static str,
    /// The problem, in one clause.
    pub message: String,
    /// The location of the problem.
    pub primary: Label,
    /// Other locations that belong to the problem.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub secondary: Vec<Label>,
    /// A hint for the solution.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
}

impl Hint for Diagnostic {
    fn hint(&self) -> Option<Cow<'_, str>> {
        self.help.as_deref().map(Cow::Borrowed)
    }
}

/// A marked part of one line of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct Label {
    /// The start of the marked part.
    #[serde(flatten)]
    pub location: Location,
    /// The number of characters that it covers on its first line.
    pub length: u32,
    /// A short text at the mark.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub text: String,
    /// The line, with secrets masked and cut to a readable width; missing if the file has no such line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub excerpt: Option<Excerpt>,
}

/// A source line in its printable form.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct Excerpt {
    /// The line: secrets are replaced by `****`, long lines are cut at both ends.
    pub line: String,
    /// The start of the mark in `line`, in characters from 0.
    pub start: usize,
    /// The end of the mark in `line`, in characters from 0; at least `start`.
    pub end: usize,
}

/// All findings about the inputs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(transparent)]
pub struct Diagnostics(Vec<Diagnostic>);

impl Diagnostics {
    /// Creates an empty list.
    #[must_use]
    pub fn new() -> Diagnostics {
        Diagnostics::default()
    }

    pub fn push(&mut self, diagnostic: Diagnostic) {
        self.0.push(diagnostic);
    }

    /// Returns true if at least one finding is an error.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.count(Severity::Error) > 0
    }

    /// Returns the number of findings of this severity.
    #[must_use]
    pub fn count(&self, severity: Severity) -> usize {
        self.0.iter().filter(|finding| finding.severity == severity).count()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn iter(&self) -> std::slice::Iter<'_, Diagnostic> {
        self.0.iter()
    }

    /// Orders the findings by file, in the order of `files`, then by line and column. Findings at the same position
    /// keep their order. Removes duplicates.
    pub fn sort(&mut self, files: &[Arc<str>]) {
        self.0.sort_by_key(|finding| {
            let location = &finding.primary.location;
            let file = files.iter().position(|file| *file == location.file);
            (file, location.line, location.column)
        });
        self.0.dedup();
    }
}

impl<'a> IntoIterator for &'a Diagnostics {
    type Item = &'a Diagnostic;
    type IntoIter = std::slice::Iter<'a, Diagnostic>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl Extend<Diagnostic> for Diagnostics {
    fn extend<T: IntoIterator<Item = Diagnostic>>(&mut self, findings: T) {
        self.0.extend(findings);
    }
}
