//! A text whose bytes can be traced to a file.
//!
//! A profile nests: a file contains `values`, a string of YAML, which contains `cluster.config`, again a string of
//! YAML. Templates are replaced in the text before it is parsed. Each such step derives a new [`Text`] from a piece of
//! another, with segments that map its bytes to the parent. So each diagnostic points into the file that the user can
//! edit.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use crate::diagnostic::{Location, NamedText};

/// A text and its mapping to the file that it comes from. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Text(Arc<TextInner>);

struct TextInner {
    content: Arc<str>,
    origin: Origin,
}

enum Origin {
    File(Arc<FileOrigin>),
    Derived { parent: Text, segments: Vec<Segment> },
}

/// A file with the offsets of its lines.
pub(crate) struct FileOrigin {
    pub(crate) name: Arc<str>,
    pub(crate) content: Arc<str>,
    line_starts: Vec<usize>,
    /// The number of characters in front of each block of [`BLOCK`] bytes: a file of megabytes may be one line, and
    /// counting from its start for each finding would be quadratic.
    block_starts: Vec<usize>,
}

/// The number of bytes between two counts of characters.
const BLOCK: usize = 4096;

/// A segment of a derived text, from `at` to the next segment. Its source starts at `parent_at` of the parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) at: usize,
    pub(crate) parent_at: usize,
    /// True if the bytes correspond one to one; else the whole segment comes from the one position `parent_at`.
    pub(crate) linear: bool,
}

/// A piece of a [`Text`].
#[derive(Debug, Clone)]
pub(crate) struct Span {
    pub(crate) text: Text,
    pub(crate) start: usize,
    pub(crate) end: usize,
}

impl Text {
    /// Creates the text of a whole file.
    pub(crate) fn of_file(file: &NamedText) -> Text {
        let line_starts = std::iter::once(0)
            .chain(file.text.match_indices('\n').map(|(at, _)| at + 1))
            .collect();
        Text(Arc::new(TextInner {
            content: file.text.clone(),
            origin: Origin::File(Arc::new(FileOrigin {
                name: file.name.clone(),
                content: file.text.clone(),
                line_starts,
                block_starts: count_blocks(&file.text),
            })),
        }))
    }

    /// Creates a text that is derived from `parent`. Segments are in ascending order of `at`.
    pub(crate) fn derived(parent: &Text, content: &str, segments: Vec<Segment>) -> Text {
        Text(Arc::new(TextInner {
            content: Arc::from(content),
            origin: Origin::Derived {
                parent: parent.clone(),
                segments,
            },
        }))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0.content
    }

    pub(crate) fn slice(&self, range: Range<usize>) -> Span {
        Span {
            text: self.clone(),
            start: range.start,
            end: range.end,
        }
    }

    /// Returns the file of a byte of this text, and the offset in the file.
    fn trace(&self, offset: usize) -> (Arc<FileOrigin>, usize) {
        self.trace_by(offset, |segments, offset| {
            let index = segments.partition_point(|segment| segment.at <= offset);
            match index.checked_sub(1).and_then(|index| segments.get(index)) {
                Some(segment) if segment.linear => segment.parent_at + (offset - segment.at),
                Some(segment) => segment.parent_at,
                None => 0,
            }
        })
    }

    /// Returns the offset in the file of an exclusive end. The segment of the byte before `end` counts.
    fn trace_end(&self, end: usize) -> usize {
        let (_, end) = self.trace_by(end, |segments, end| {
            let index = segments.partition_point(|segment| segment.at < end);
            match (
                index.checked_sub(1).and_then(|index| segments.get(index)),
                segments.get(index),
            ) {
                (Some(segment), _) if segment.linear => segment.parent_at + (end - segment.at),
                // A segment with one position ends where the next segment begins.
                (Some(_), Some(next)) => next.parent_at,
                (Some(segment), None) => segment.parent_at + 1,
                (None, _) => 0,
            }
        });
        end
    }

    fn trace_by(&self, offset: usize, step: impl Fn(&[Segment], usize) -> usize) -> (Arc<FileOrigin>, usize) {
        let mut text = self;
        let mut offset = offset;
        loop {
            match &text.0.origin {
                Origin::File(file) => return (file.clone(), offset.min(file.content.len())),
                Origin::Derived { parent, segments } => {
                    offset = step(segments, offset);
                    text = parent;
                }
            }
        }
    }
}

impl fmt::Debug for Text {
    // The content may hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Text({} bytes)", self.as_str().len())
    }
}

impl Span {
    /// Returns the file and the covered byte range in it. Empty spans stay empty.
    pub(crate) fn in_file(&self) -> (Arc<FileOrigin>, Range<usize>) {
        let (file, start) = self.text.trace(self.start);
        if self.end <= self.start {
            return (file, start..start);
        }
        let end = file.content.ceil_char_boundary(self.text.trace_end(self.end));
        (file, start..end.max(start))
    }

    /// Returns the position of the start, for messages.
    pub(crate) fn location(&self, key: Arc<str>) -> Location {
        let (file, range) = self.in_file();
        let (line, column) = file.line_and_column(range.start);
        Location {
            file: file.name.clone(),
            line,
            column,
            key,
        }
    }
}

/// Returns the number of characters in front of each block.
fn count_blocks(content: &str) -> Vec<usize> {
    let mut counted = 0;
    let blocks = content.as_bytes().chunks(BLOCK);
    blocks
        .map(|block| {
            let before = counted;
            counted += starts_of_characters(block);
            before
        })
        .collect()
}

/// Returns the number of bytes with which a character of UTF-8 starts.
fn starts_of_characters(bytes: &[u8]) -> usize {
    bytes.iter().filter(|byte| **byte & 0xC0 != 0x80).count()
}

impl FileOrigin {
    /// Returns the number of characters that start in front of a byte. Looks at one block.
    fn characters_before(&self, offset: usize) -> usize {
        let offset = offset.min(self.content.len());
        let block = (offset / BLOCK).min(self.block_starts.len().saturating_sub(1));
        let start = block * BLOCK;
        let counted = self.block_starts.get(block).copied().unwrap_or(0);
        counted + starts_of_characters(&self.content.as_bytes()[start..offset])
    }

    fn line_and_column(&self, offset: usize) -> (u32, u32) {
        let line = self.line_starts.partition_point(|start| *start <= offset).max(1);
        let start = self.line_starts.get(line - 1).copied().unwrap_or(0);
        let before = self.characters_before(self.content.floor_char_boundary(offset));
        let column = before.saturating_sub(self.characters_before(start));
        let narrow = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        (narrow(line), narrow(column + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_count_characters_across_blocks() {
        let line = format!("{}é{}", "a".repeat(BLOCK - 1), "ü".repeat(3 * BLOCK));
        let text = format!("first\n{line}\nlast");
        let file = Text::of_file(&NamedText::new("f", &text));
        for (offset, _) in text.char_indices().step_by(777) {
            let location = file.slice(offset..offset).location(Arc::from(""));
            let line_start = text[..offset].rfind('\n').map_or(0, |newline| newline + 1);
            let column = u32::try_from(text[line_start..offset].chars().count()).unwrap() + 1;
            assert_eq!(location.column, column, "offset {offset}");
        }
    }

    #[test]
    fn a_place_is_traced_through_two_texts_to_the_file() {
        let file = Text::of_file(&NamedText::new("f", "one\ntwö three\n"));
        let inner = Text::derived(
            &file,
            "three",
            vec![Segment {
                at: 0,
                parent_at: 9,
                linear: true,
            }],
        );
        let filled = Text::derived(
            &inner,
            "thVALUEee",
            vec![
                Segment {
                    at: 0,
                    parent_at: 0,
                    linear: true,
                },
                Segment {
                    at: 2,
                    parent_at: 2,
                    linear: false,
                },
                Segment {
                    at: 7,
                    parent_at: 3,
                    linear: true,
                },
            ],
        );
        for (offset, column) in [(0, 5), (1, 6), (2, 7), (6, 7), (7, 8), (8, 9)] {
            let location = filled.slice(offset..offset + 1).location(Arc::from(""));
            assert_eq!((location.line, location.column), (2, column), "offset {offset}");
        }
    }
}
