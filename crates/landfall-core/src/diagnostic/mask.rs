//! Detection and masking of secrets in a text.
//!
//! There are two layers: the caller passes the ranges that the parser knows to be secret, and [`super::secrets`] finds
//! others by their look, because a file that does not parse must not leak secrets either.

use std::ops::Range;

use crate::diagnostic::Excerpt;
use crate::diagnostic::secrets::{find_secrets, is_reference, url_logins};

pub use crate::diagnostic::secrets::LineBreaks;

/// The replacement of a secret.
pub(crate) const MASK: &str = "****";
/// A line with more characters is cut around its mark.
const WIDTH_MAX: usize = 140;
const WIDTH_BEFORE_MARK: usize = 50;

/// Returns the byte ranges of a text that look like secrets, in ascending order and without overlaps.
#[must_use]
pub fn secret_ranges(text: &str, breaks: LineBreaks) -> Vec<Range<usize>> {
    let found = find_secrets(text, breaks);
    merged(found.into_iter().map(|secret| secret.range).collect())
}

fn merged(mut ranges: Vec<Range<usize>>) -> Vec<Range<usize>> {
    ranges.sort_by_key(|range| range.start);
    ranges.dedup_by(|next, last| {
        let overlaps = next.start <= last.end;
        if overlaps {
            last.end = last.end.max(next.end);
        }
        overlaps
    });
    ranges
}

/// Masks the user names and passwords of URLs in a free text (a message, a hint).
#[must_use]
pub fn mask_urls(text: &str) -> String {
    let mut masked = String::with_capacity(text.len());
    let mut shown = 0;
    for login in url_logins(text) {
        masked.push_str(&text[shown..login.start]);
        masked.push_str(MASK);
        shown = login.end;
    }
    masked.push_str(&text[shown..]);
    masked
}

/// Masks everything that looks like a secret in a message, which may quote an input.
#[must_use]
pub fn mask_message(message: &str) -> String {
    let mut masked = mask_urls(message);
    for secret in secret_ranges(&masked, LineBreaks::Real).into_iter().rev() {
        masked.replace_range(secret, MASK);
    }
    masked
}

/// Returns the printable line of `text` around `mark`. `secrets` are byte ranges of `text`, in any order.
#[must_use]
pub fn excerpt(text: &str, mark: Range<usize>, secrets: &[Range<usize>]) -> Excerpt {
    let start = text.floor_char_boundary(mark.start);
    let line_start = text[..start].rfind('\n').map_or(0, |newline| newline + 1);
    let line_end = text[start..].find('\n').map_or(text.len(), |newline| start + newline);
    let end = text.floor_char_boundary(mark.end).clamp(start, line_end);
    let hidden: Vec<Range<usize>> = secrets
        .iter()
        .filter(|range| range.start < line_end && line_start < range.end)
        .map(|range| {
            let from = text.floor_char_boundary(range.start).max(line_start);
            from..text.ceil_char_boundary(range.end).min(line_end)
        })
        .filter(|range| !range.is_empty() && !is_reference(&text[range.clone()]))
        .collect();
    let hidden = merged(hidden);
    let mut line = String::new();
    // A JSON file may be one line of a megabyte with a thousand findings, so only the printable part is walked.
    let mut length = 0;
    let (mut mark_start, mut mark_end) = (None, None);
    let mut at = first_shown(text, line_start, start, &hidden);
    let mut hidden = hidden.into_iter().peekable();
    while at < line_end && mark_start.is_none_or(|mark_start| length - mark_start <= WIDTH_MAX) {
        while hidden.next_if(|range| range.end <= at).is_some() {}
        let next = match hidden.peek() {
            Some(range) if range.start <= at => {
                let next = range.end;
                if start < next {
                    mark_start.get_or_insert(length);
                }
                line.push_str(MASK);
                length += MASK.len();
                next
            }
            _ => {
                if start <= at {
                    mark_start.get_or_insert(length);
                }
                let character = text[at..].chars().next().unwrap_or(' ');
                line.push(if is_invisible(character) { ' ' } else { character });
                length += 1;
                at + character.len_utf8()
            }
        };
        at = next;
        if end <= at {
            mark_end.get_or_insert(length);
        }
    }
    let mark_start = mark_start.unwrap_or(length);
    let mark_end = if end <= start {
        mark_start
    } else {
        mark_end.unwrap_or(length)
    };
    cut(&line, mark_start, mark_end.max(mark_start))
}

/// Returns the byte at which the walk over a line starts. It is far enough in front of the mark for [`cut`] to choose
/// its window. `hidden` is sorted and does not overlap.
fn first_shown(text: &str, line_start: usize, mark: usize, hidden: &[Range<usize>]) -> usize {
    let mut at = mark;
    let mut room = WIDTH_MAX + 1;
    while line_start < at && room > 0 {
        let before = hidden.partition_point(|range| range.start < at);
        let secret = before.checked_sub(1).and_then(|index| hidden.get(index));
        match secret.filter(|range| at <= range.end) {
            Some(range) => {
                at = range.start;
                room = room.saturating_sub(MASK.len());
            }
            None => {
                at = text.floor_char_boundary(at - 1);
                room -= 1;
            }
        }
    }
    at
}

fn cut(line: &str, start: usize, end: usize) -> Excerpt {
    let length = line.chars().count();
    if length <= WIDTH_MAX {
        let line = line.trim_end().to_owned();
        let length = line.chars().count();
        return Excerpt {
            start: start.min(length),
            end: end.clamp(start.min(length), length),
            line,
        };
    }
    let from = start.saturating_sub(WIDTH_BEFORE_MARK);
    let to = (from + WIDTH_MAX).min(length);
    let head = if from > 0 { "…" } else { "" };
    let tail = if to < length { "…" } else { "" };
    let window: String = line.chars().skip(from).take(to - from).collect();
    let shift = |position: usize| position.clamp(from, to) - from + head.chars().count();
    Excerpt {
        line: format!("{head}{window}{tail}"),
        start: shift(start),
        end: shift(end),
    }
}

/// Returns true for invisible characters. Tabs and control characters would shift the text or colour the terminal; byte
/// order marks and direction marks would hide text.
fn is_invisible(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{FEFF}' | '\u{200B}'..='\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CANARY: &str = "canary-7f3a";

    fn shown(text: &str, at: usize) -> String {
        excerpt(text, at..at + 1, &secret_ranges(text, LineBreaks::Real)).line
    }

    #[test]
    fn every_line_of_a_secret_is_masked() {
        for text in [
            "password: canary-7f3a",
            "  edgeHostToken: 'canary-7f3a'",
            "- {name: a, password: \"x y, canary-7f3a\", b: c}",
            "password:\n  canary-7f3a",
            "password: |\n  one\n\n  canary-7f3a\nnext: 1",
            "\"password\" : \"canary-7f3a\"",
            "_json_key: canary-7f3a",
            "export TOKEN=canary-7f3a",
            "proxy: http://user:canary-7f3a@proxy:3128",
            "proxy: http://canary-7f3a@proxy:3128",
            "-----BEGIN RSA PRIVATE KEY-----\ncanary-7f3a\n-----END RSA PRIVATE KEY-----",
            "a:\n  tls.key: -----BEGIN PRIVATE KEY----- canary-7f3a -----END PRIVATE KEY-----",
        ] {
            for (at, _) in text.char_indices() {
                let shown = shown(text, at);
                assert!(!shown.contains(CANARY), "{text:?} at {at} shows {shown:?}");
            }
        }
    }

    #[test]
    fn harmless_neighbours_stay_readable() {
        for text in [
            "encodedPassword: true",
            "passwordRef: {kind: Secret}",
            "secretName: tls",
            "domain: reg:5000/path",
            "image: a/b:1@sha256:00",
            "password: \"{{ .spectro.macro.provider-password }}\"",
        ] {
            assert_eq!(shown(text, 0), text);
        }
        assert_eq!(shown("password: |\n  x\nnext: 1", 16), "next: 1");
    }

    #[test]
    fn the_mark_follows_what_is_masked_and_cut() {
        let text = "{password: abc, x: y}";
        let masked = excerpt(text, 11..14, &secret_ranges(text, LineBreaks::Real));
        assert_eq!(
            (masked.line.as_str(), masked.start, masked.end),
            ("{password: ****, x: y}", 11, 15)
        );
        let long = format!("{}MARK{}", "a".repeat(300), "b".repeat(300));
        let cut = excerpt(&long, 300..304, &[]);
        let marked: String = cut.line.chars().skip(cut.start).take(cut.end - cut.start).collect();
        assert_eq!(marked, "MARK");
        assert_eq!(cut.line.chars().count(), WIDTH_MAX + 2);
    }

    #[test]
    fn a_thousand_findings_on_one_line_of_a_megabyte_cost_what_they_show() {
        // A walk over the whole line for each finding would visit 10^9 characters: minutes in a debug build.
        let text = "x".repeat(1024 * 1024);
        for start in (0..text.len()).step_by(1024) {
            let excerpt = excerpt(&text, start..start + 1, &[]);
            assert!(excerpt.line.chars().count() <= WIDTH_MAX + 2);
        }
    }

    #[test]
    fn secrets_far_and_near_are_masked_on_a_long_line() {
        let secret = "canary-7f3a ".repeat(100);
        let text = format!("{}{secret}MARK{secret}{}", "a".repeat(300), "b".repeat(300));
        let (first, mark) = (300..300 + secret.len(), 300 + secret.len()..304 + secret.len());
        let second = mark.end..mark.end + secret.len();
        let shown = excerpt(&text, mark, &[second, first]);
        let marked: String = shown
            .line
            .chars()
            .skip(shown.start)
            .take(shown.end - shown.start)
            .collect();
        assert_eq!(marked, "MARK");
        assert_eq!(
            shown.line,
            format!("…{}****MARK****{}…", "a".repeat(46), "b".repeat(82))
        );
    }

    #[test]
    fn in_json_only_the_line_of_the_secret_is_masked() {
        let text = r#"{"values": "a: 1\npassword: canary-7f3a\nimage: x"}"#;
        let line = excerpt(text, 45..46, &secret_ranges(text, LineBreaks::Escaped)).line;
        assert_eq!(line, r#"{"values": "a: 1\npassword: ****\nimage: x"}"#);
    }

    #[test]
    fn urls_in_messages_lose_their_logins() {
        assert_eq!(
            mask_urls("see https://a:b@c/d and https://e/f@g"),
            "see https://****@c/d and https://e/f@g"
        );
    }

    proptest! {
        #[test]
        fn any_text_and_any_mark_make_an_excerpt(text in "(?s).{0,80}", start in 0usize..100, length in 0usize..100, from in 0usize..90, to in 0usize..90) {
            let range = from.min(to)..from.max(to);
            let excerpt = excerpt(&text, start..start + length, &[range]);
            prop_assert!(excerpt.start <= excerpt.end);
            prop_assert!(excerpt.end <= excerpt.line.chars().count());
            prop_assert!(!excerpt.line.contains('\n'));
        }
    }
}
