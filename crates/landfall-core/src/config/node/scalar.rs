//! Mapping of a scalar's text to its source, through YAML's folding, indentation and escapes.

use std::ops::Range;
use std::sync::Arc;

use serde_saphyr::granit_parser::ScalarStyle;

use crate::config::text::Segment;

/// A scalar with its escapes resolved and without a type.
#[derive(Clone)]
pub(crate) struct Scalar {
    pub(crate) text: Arc<str>,
    pub(crate) style: ScalarStyle,
    /// True if tagged `!!str`: a string although it is not quoted.
    pub(crate) is_string: bool,
}

/// Returns the segments of a scalar that the parser found at `range` of `source`. The range includes the quotes; in a
/// block scalar it starts at the first character that is not blank.
pub(super) fn align(source: &str, range: Range<usize>, scalar: &Scalar) -> Vec<Segment> {
    let block = |start| (source.get(start..range.end).unwrap_or_default(), start);
    match scalar.style {
        ScalarStyle::Literal => {
            let (body, offset) = block(block_start(source, range.start));
            literal(body, offset, &scalar.text)
        }
        ScalarStyle::Folded => {
            let (body, offset) = block(block_start(source, range.start));
            folded(body, offset, &scalar.text, ScalarStyle::Folded)
        }
        style => folded(
            source.get(range.clone()).unwrap_or_default(),
            range.start,
            &scalar.text,
            style,
        ),
    }
}

/// Returns the start of a block scalar's first line, with indentation and leading blank lines: the line after its
/// header.
fn block_start(source: &str, first_character: usize) -> usize {
    let mut start = line_start(source, first_character);
    while start > 0 {
        let above = line_start(source, start - 1);
        if !source[above..start].trim().is_empty() {
            break;
        }
        start = above;
    }
    start
}

fn line_start(source: &str, offset: usize) -> usize {
    source[..source.floor_char_boundary(offset)]
        .rfind('\n')
        .map_or(0, |newline| newline + 1)
}

/// Aligns a literal block, where each line of the text is a line of the source without its indentation.
fn literal(source: &str, offset: usize, text: &str) -> Vec<Segment> {
    let mut source_lines = lines_with_offsets(source);
    let mut segments = Vec::new();
    let mut at = 0;
    let mut indent = None;
    for line in text.split_inclusive('\n') {
        let Some((line_at, source_line)) = source_lines.next() else {
            break;
        };
        let content = line.trim_end_matches('\n');
        if indent.is_none() && !content.is_empty() {
            indent = Some(source_line.len().saturating_sub(content.len()));
        }
        segments.push(Segment {
            at,
            parent_at: offset + line_at + indent.unwrap_or(0).min(source_line.len()),
            linear: true,
        });
        at += line.len();
    }
    segments
}

fn lines_with_offsets(source: &str) -> impl Iterator<Item = (usize, &str)> {
    source.split_inclusive('\n').scan(0, |at, line| {
        let start = *at;
        *at += line.len();
        Some((start, line.trim_end_matches(['\n', '\r'])))
    })
}

/// Aligns any other scalar by comparing text and source in parallel: equal characters match, white space was folded,
/// and an escape stands for one character.
fn folded(source: &str, offset: usize, text: &str, style: ScalarStyle) -> Vec<Segment> {
    let mut cursor = match style {
        ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted => usize::from(source.starts_with(['"', '\''])),
        ScalarStyle::Plain | ScalarStyle::Literal | ScalarStyle::Folded => 0,
    };
    let mut segments: Vec<Segment> = Vec::new();
    let mut push = |at: usize, source_at: usize, linear: bool| {
        let next = Segment {
            at,
            parent_at: offset + source_at,
            linear,
        };
        let continues = segments.last().is_some_and(|last| {
            last.linear && linear && next.parent_at.checked_sub(last.parent_at) == Some(next.at - last.at)
        });
        if !continues {
            segments.push(next);
        }
    };
    for (at, character) in text.char_indices() {
        if style == ScalarStyle::DoubleQuoted {
            while let Some(length) = line_continuation(&source[cursor..]) {
                cursor += length;
            }
        }
        let rest = &source[cursor..];
        let Some(next) = rest.chars().next() else {
            push(at, source.len().saturating_sub(1), false);
            break;
        };
        if style == ScalarStyle::DoubleQuoted && next == '\\' {
            push(at, cursor, false);
            cursor += escape_length(rest);
        } else if style == ScalarStyle::SingleQuoted && rest.starts_with("''") {
            push(at, cursor, false);
            cursor += 2;
        } else if next == character && character != '\n' && !folds(rest) {
            push(at, cursor, true);
            cursor += next.len_utf8();
        } else if character.is_whitespace() && next.is_whitespace() {
            push(at, cursor, false);
            let more_follows = text[at + character.len_utf8()..].starts_with('\n');
            cursor += if more_follows {
                line_length(rest)
            } else {
                white_length(rest)
            };
        } else if character.is_whitespace() {
            // The white space in the source was consumed with the previous line break.
            push(at, cursor, false);
        } else {
            // The source has white space that is not in the text: indentation.
            cursor += white_length(rest);
            push(at, cursor, true);
            cursor += source[cursor..].chars().next().map_or(0, char::len_utf8);
        }
    }
    segments
}

/// Returns true if only blanks precede the next line break.
fn folds(rest: &str) -> bool {
    rest.starts_with([' ', '\t', '\r', '\n']) && rest.trim_start_matches([' ', '\t', '\r']).starts_with('\n')
}

fn white_length(rest: &str) -> usize {
    rest.len() - rest.trim_start().len()
}

fn line_length(rest: &str) -> usize {
    rest.find('\n').map_or(rest.len(), |newline| newline + 1)
}

/// Returns the length of a line continuation: a backslash before a line break joins the line to the next.
fn line_continuation(rest: &str) -> Option<usize> {
    let after = rest.strip_prefix('\\')?;
    let after = after.strip_prefix('\r').unwrap_or(after).strip_prefix('\n')?;
    Some(rest.len() - after.trim_start_matches([' ', '\t']).len())
}

fn escape_length(rest: &str) -> usize {
    let length = match rest.as_bytes().get(1) {
        Some(b'x') => 4,
        Some(b'u') => {
            // JSON writes a character beyond the basic multilingual plane as two escapes.
            let high = rest.get(2..6).and_then(|digits| u16::from_str_radix(digits, 16).ok());
            if high.is_some_and(|unit| (0xD800..0xDC00).contains(&unit)) {
                12
            } else {
                6
            }
        }
        Some(b'U') => 10,
        _ => 1 + rest.chars().nth(1).map_or(0, char::len_utf8),
    };
    rest.floor_char_boundary(length)
}
