//! What is wrong with an input, said for the person who must mend it (SPEC section 3.1).
//!
//! A diagnostic is plain data: code, severity, place, message, hint. Rendering is a pure function. The source line that
//! it shows is cut out and masked when the diagnostic is made ([`mask`]), so that no later step can print a secret.

use std::sync::Arc;

use serde::Serialize;

pub mod mask;
pub mod render;

pub use render::render_text;

/// A text with the name that messages call it by.
#[derive(Debug, Clone)]
pub struct NamedText {
    /// The file name as the user gave it.
    pub name: Arc<str>,
    /// The whole content.
    pub text: Arc<str>,
}

impl NamedText {
    /// Names a text.
    #[must_use]
    pub fn new(name: &str, text: &str) -> NamedText {
        NamedText {
            name: Arc::from(name),
            text: Arc::from(text),
        }
    }
}

/// A place in an input file. Line and column count from 1; the column counts characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, schemars::JsonSchema)]
pub struct Location {
    /// The file name as the user gave it.
    pub file: Arc<str>,
    /// The line, from 1.
    pub line: u32,
    /// The column in characters, from 1.
    pub column: u32,
    /// The key path, e.g. `stylus.registryCredentials.password`, when known.
    pub key: Arc<str>,
}

impl std::fmt::Display for Location {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The input cannot be used as it is.
    Error,
    /// The input can be used, and probably does not do what its author thinks.
    Warning,
    /// Worth knowing.
    Note,
}

/// One finding about an input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// The stable code, e.g. `LF0101`.
    pub code: &'static str,
    /// What is wrong, in one clause.
    pub message: String,
    /// Where.
    pub primary: Label,
    /// Other places that belong to it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub secondary: Vec<Label>,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
}

/// A marked piece of one line of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct Label {
    /// Where it starts in the file.
    #[serde(flatten)]
    pub location: Location,
    /// How many characters it covers on its first line.
    pub length: u32,
    /// A word at the mark.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub text: String,
    /// The line, with secrets masked and cut to a readable width; `None` where a file has no such line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub excerpt: Option<Excerpt>,
}

/// A source line as it may be shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct Excerpt {
    /// The line: secrets are `****`, far ends are cut.
    pub line: String,
    /// Where the mark starts in `line`, in characters from 0.
    pub start: usize,
    /// Where the mark ends in `line`, in characters from 0; at least `start`.
    pub end: usize,
}

/// All findings about the inputs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(transparent)]
pub struct Diagnostics(Vec<Diagnostic>);

impl Diagnostics {
    /// No findings.
    #[must_use]
    pub fn new() -> Diagnostics {
        Diagnostics::default()
    }

    /// Adds one.
    pub fn push(&mut self, diagnostic: Diagnostic) {
        self.0.push(diagnostic);
    }

    /// Whether one of them is an error.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.count(Severity::Error) > 0
    }

    /// How many are this bad.
    #[must_use]
    pub fn count(&self, severity: Severity) -> usize {
        self.0.iter().filter(|finding| finding.severity == severity).count()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// All of them, in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Diagnostic> {
        self.0.iter()
    }

    /// Orders them by file, in the order of `files`, then by line and column; findings at one place stay as they were
    /// found. Drops repetitions.
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
