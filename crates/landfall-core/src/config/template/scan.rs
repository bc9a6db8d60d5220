//! Search for templates in a text, and for the marks that stand in their place.

use crate::config::node::{UNRESOLVED_END, UNRESOLVED_START};

/// A template `{{…}}` in a text.
pub(super) struct Found<'t> {
    pub(super) start: usize,
    pub(super) end: usize,
    /// The trimmed text between the braces.
    pub(super) inner: &'t str,
}

/// A text whose templates are replaced by marks, which are not YAML syntax, so that it can be parsed before the
/// templates are evaluated. `restore` puts the templates back into a parsed text.
#[derive(Debug)]
pub(crate) struct Protected {
    pub(crate) content: String,
    originals: Vec<String>,
}

impl Protected {
    pub(crate) fn new(source: &str) -> Protected {
        let mut content = String::with_capacity(source.len());
        let mut originals = Vec::new();
        let mut copied = 0;
        for found in templates(source) {
            content.push_str(&source[copied..found.start]);
            content.push(UNRESOLVED_START);
            content.push_str(&originals.len().to_string());
            content.push(UNRESOLVED_END);
            originals.push(source[found.start..found.end].to_owned());
            copied = found.end;
        }
        content.push_str(&source[copied..]);
        Protected { content, originals }
    }

    pub(crate) fn restore(&self, text: &str) -> String {
        let mut restored = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, after)) = rest.split_once(UNRESOLVED_START) {
            restored.push_str(before);
            let mark = after.split_once(UNRESOLVED_END);
            let original = mark.and_then(|(number, _)| self.originals.get(number.parse::<usize>().ok()?));
            match (original, mark) {
                (Some(original), Some((_, behind))) => {
                    restored.push_str(original);
                    rest = behind;
                }
                _ => rest = after,
            }
        }
        restored.push_str(rest);
        restored
    }
}

/// Returns the numbers of the marks in a text.
pub(crate) fn marks(text: &str) -> impl Iterator<Item = usize> + '_ {
    let pieces = text.split(UNRESOLVED_START).skip(1);
    pieces.filter_map(|piece| piece.split_once(UNRESOLVED_END)?.0.parse().ok())
}

/// Returns the templates of a text that contain `.spectro.`, in order.
pub(super) fn templates(source: &str) -> impl Iterator<Item = Found<'_>> {
    let mut from = 0;
    std::iter::from_fn(move || {
        loop {
            let start = from + source[from..].find("{{")?;
            let end = start + source[start..].find("}}")? + 2;
            // `{{ {{ .x }}`: the last opening braces count.
            let start = start + source[start..end - 2].rfind("{{").unwrap_or(0);
            from = end;
            let inner = source[start + 2..end - 2].trim_matches('-').trim();
            if inner.contains(".spectro.") {
                return Some(Found { start, end, inner });
            }
        }
    })
}

/// Returns the range of a template, with the white space that its trim markers (`{{- ` and ` -}}`) remove. The text
/// before `copied` is rendered already.
pub(super) fn trimmed_range(source: &str, found: &Found<'_>, copied: usize) -> (usize, usize) {
    let written = &source[found.start + 2..found.end - 2];
    let start = match written.starts_with('-') {
        true => copied + source[copied..found.start].trim_end().len(),
        false => found.start,
    };
    let behind = &source[found.end..];
    let end = match written.ends_with('-') {
        true => found.end + (behind.len() - behind.trim_start().len()),
        false => found.end,
    };
    (start, end)
}

/// Returns true if the line is a YAML comment, where a template needs no value.
pub(super) fn is_comment(source: &str, at: usize) -> bool {
    let line = source[..at].rfind('\n').map_or(0, |newline| newline + 1);
    source[line..].trim_start().starts_with('#')
}
