//! The tree of a YAML document: values with their original text and their position.
//!
//! A scalar has no type until a reader asks for one. So `012`, `y` and `0644` keep their text, all wrong types of a
//! file are found in one pass, and each node has its position.

#[cfg(test)]
mod asked;
mod key_path;
mod scalar;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use serde_saphyr::granit_parser::ScalarStyle;

use crate::config::text::{Span, Text};
use crate::diagnostic::Location;
use crate::quantity::{ByteSize, Seconds};

#[cfg(test)]
pub(crate) use asked::asked_keys;
pub(crate) use key_path::KeyPath;
pub(crate) use scalar::Scalar;

/// The start of the mark that stands for a template without a value; see [`crate::config::template`].
pub(crate) const UNRESOLVED_START: char = '\u{F8FE}';
/// The end of such a mark.
pub(crate) const UNRESOLVED_END: char = '\u{F8FF}';

/// A YAML value and its position.
#[derive(Clone)]
pub(crate) struct Node {
    pub(crate) value: NodeValue,
    text: Text,
    start: usize,
    end: usize,
    /// The range of the value's key, which is the position of an empty value.
    key: Option<(usize, usize)>,
    path: KeyPath,
}

#[derive(Clone)]
pub(crate) enum NodeValue {
    Scalar(Scalar),
    Sequence(Vec<Node>),
    Mapping(Vec<MappingEntry>),
    /// An alias without an anchor, which was reported.
    Unknown,
}

#[derive(Clone)]
pub(crate) struct MappingEntry {
    pub(crate) key: Node,
    pub(crate) value: Node,
}

impl Node {
    /// Creates the node of the value at `path`, written at `range` of `text`; `key` is the range of its key.
    pub(crate) fn new(
        value: NodeValue,
        text: &Text,
        range: Range<usize>,
        key: Option<Range<usize>>,
        path: KeyPath,
    ) -> Node {
        Node {
            value,
            text: text.clone(),
            start: range.start,
            end: range.end.max(range.start),
            key: key.map(|key| (key.start, key.end)),
            path,
        }
    }

    /// Returns the byte range in the text.
    pub(crate) fn range(&self) -> Range<usize> {
        self.start..self.end
    }

    /// Returns the position. For an empty value, and for a collection that starts on its own line, it is that of the
    /// key.
    pub(crate) fn span(&self) -> Span {
        let own = self.text.slice(self.start..self.end);
        let Some((key_start, key_end)) = self.key else {
            return own;
        };
        let between = self.text.as_str().get(key_end..self.start).unwrap_or_default();
        let is_below = !matches!(self.value, NodeValue::Scalar(_)) && between.contains('\n');
        if self.start >= self.end || is_below {
            self.text.slice(key_start..key_end)
        } else {
            own
        }
    }

    pub(crate) fn key_path(&self) -> Arc<str> {
        Arc::from(self.path.to_string())
    }

    pub(crate) fn path(&self) -> &KeyPath {
        &self.path
    }

    pub(crate) fn location(&self) -> Location {
        self.span().location(self.key_path())
    }

    /// Returns the value of a key; the first, if a key occurs twice.
    pub(crate) fn get(&self, key: &str) -> Option<&Node> {
        #[cfg(test)]
        asked::record(&self.path, key);
        self.entries()
            .iter()
            .find(|entry| entry.key.text() == Some(key))
            .map(|entry| &entry.value)
    }

    /// Returns the value at a path of keys.
    pub(crate) fn at(&self, keys: &[&str]) -> Option<&Node> {
        keys.iter().try_fold(self, |node, key| node.get(key))
    }

    /// Returns the entries of a mapping; none for other values.
    pub(crate) fn entries(&self) -> &[MappingEntry] {
        match &self.value {
            NodeValue::Mapping(entries) => entries,
            _ => &[],
        }
    }

    /// Returns the items of a sequence; none for other values.
    pub(crate) fn items(&self) -> &[Node] {
        match &self.value {
            NodeValue::Sequence(items) => items,
            _ => &[],
        }
    }

    /// Returns the items of a sequence; a mapping counts as a list of one.
    pub(crate) fn items_or_self(&self) -> &[Node] {
        match &self.value {
            NodeValue::Sequence(items) => items,
            NodeValue::Mapping(_) => std::slice::from_ref(self),
            _ => &[],
        }
    }

    /// Returns the items of a list of single values; one value counts as a list of one, and null as none
    /// [spec:user-data.lenient-lists].
    pub(crate) fn values(&self) -> &[Node] {
        match &self.value {
            NodeValue::Sequence(items) => items,
            NodeValue::Scalar(_) if !self.is_null() => std::slice::from_ref(self),
            _ => &[],
        }
    }

    fn scalar(&self) -> Option<&Scalar> {
        match &self.value {
            NodeValue::Scalar(scalar) => Some(scalar),
            _ => None,
        }
    }

    /// Returns the text of a scalar that is not null and contains no template without a value.
    pub(crate) fn text(&self) -> Option<&str> {
        self.scalar()
            .filter(|_| !self.is_null() && !self.is_unresolved())
            .map(|scalar| &*scalar.text)
    }

    /// Returns the text of any scalar, with the marks of templates.
    pub(crate) fn raw_text(&self) -> Option<&str> {
        self.scalar().map(|scalar| &*scalar.text)
    }

    /// Returns true for null: no value, `~` or `null`.
    pub(crate) fn is_null(&self) -> bool {
        self.plain()
            .is_some_and(|text| matches!(text, "" | "~" | "null" | "Null" | "NULL"))
    }

    /// Returns true for a value that contains a template without a value, and for an alias without an anchor. Both were
    /// reported already.
    pub(crate) fn is_unresolved(&self) -> bool {
        match &self.value {
            NodeValue::Scalar(scalar) => is_unresolved(&scalar.text),
            NodeValue::Unknown => true,
            NodeValue::Sequence(_) | NodeValue::Mapping(_) => false,
        }
    }

    /// Returns the text of an unquoted scalar.
    fn plain(&self) -> Option<&str> {
        self.scalar()
            .filter(|scalar| scalar.style == ScalarStyle::Plain && !scalar.is_string)
            .map(|scalar| &*scalar.text)
    }

    /// Returns true for a scalar that can only be a string.
    pub(crate) fn is_quoted(&self) -> bool {
        self.scalar().is_some() && self.plain().is_none()
    }

    pub(crate) fn boolean(&self) -> Option<bool> {
        match self.plain()? {
            "true" | "True" | "TRUE" => Some(true),
            "false" | "False" | "FALSE" => Some(false),
            _ => None,
        }
    }

    /// Returns the value of a decimal number.
    pub(crate) fn integer(&self) -> Option<i64> {
        self.plain()
            .filter(|text| !text.starts_with('+'))
            .and_then(|text| text.parse().ok())
    }

    /// Returns a size in bytes.
    pub(crate) fn size(&self) -> Option<u64> {
        self.text()?.parse().ok().map(ByteSize::bytes)
    }

    /// Returns a duration in seconds.
    pub(crate) fn seconds(&self) -> Option<u64> {
        self.text()?.parse().ok().map(Seconds::get)
    }

    /// Returns the value of a file mode: `0644`, `0o644` and `"0644"` are octal, and `420` is decimal.
    pub(crate) fn mode(&self) -> Option<u32> {
        let text = self.text()?;
        let octal = |digits: &str| {
            let good = !digits.is_empty() && digits.bytes().all(|byte| matches!(byte, b'0'..=b'7'));
            good.then(|| u32::from_str_radix(digits, 8).ok()).flatten()
        };
        let mode = match text.strip_prefix("0o") {
            Some(digits) => octal(digits),
            None if self.plain().is_none() || text.starts_with('0') => octal(text),
            None => self.integer().and_then(|number| u32::try_from(number).ok()),
        };
        mode.filter(|mode| *mode <= 0o7777)
    }

    /// Returns the kind of the value, for messages.
    pub(crate) fn kind(&self) -> &'static str {
        match &self.value {
            NodeValue::Sequence(_) => "a list",
            NodeValue::Mapping(_) => "a mapping",
            NodeValue::Unknown => "an alias",
            NodeValue::Scalar(_) if self.is_null() => "nothing (null)",
            NodeValue::Scalar(_) if self.boolean().is_some() => "a boolean",
            NodeValue::Scalar(_) if self.plain().is_some_and(|text| text.parse::<f64>().is_ok()) => "a number",
            NodeValue::Scalar(_) => "a string",
        }
    }

    /// Returns the scalar as a text whose positions are traced to the file.
    pub(crate) fn to_text(&self) -> Option<Text> {
        let scalar = self.scalar()?;
        let segments = scalar::align(self.text.as_str(), self.start..self.end, scalar);
        Some(Text::derived(&self.text, &scalar.text, segments))
    }

    /// Returns the node with another text, e.g. after its templates were evaluated.
    pub(crate) fn with_scalar(&self, text: &Text) -> Node {
        let Some(scalar) = self.scalar() else {
            return self.clone();
        };
        Node {
            value: NodeValue::Scalar(Scalar {
                text: Arc::from(text.as_str()),
                ..scalar.clone()
            }),
            ..self.clone()
        }
    }

    /// Returns the position of the bytes `range` of this scalar's text.
    pub(crate) fn inner_span(&self, range: Range<usize>) -> Span {
        match self.to_text() {
            Some(text) => text.slice(range),
            None => self.span(),
        }
    }
}

impl fmt::Debug for Node {
    // Values may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Node({}: {})", self.path, self.kind())
    }
}

/// Returns true if a text contains the mark of a template without a value.
pub(crate) fn is_unresolved(text: &str) -> bool {
    text.contains(UNRESOLVED_START)
}
