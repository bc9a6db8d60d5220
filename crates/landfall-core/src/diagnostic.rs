//! What is wrong with an input, said for the person who must mend it (SPEC section 3.1).
//!
//! A diagnostic is plain data: code, severity, place, message, hint. Rendering is a pure function; a source line that
//! holds a secret is shown with the secret masked.

use std::sync::Arc;

use serde::Serialize;

/// A text with the name that messages call it by.
#[derive(Debug, Clone)]
pub struct NamedText {
    /// The file name as the user gave it.
    pub name: Arc<str>,
    /// The whole content.
    pub text: Arc<str>,
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

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The input cannot be used as it is.
    Error,
    /// The input can be used, and probably does not do what its author thinks.
    Warning,
    /// Worth knowing.
    Note,
}
