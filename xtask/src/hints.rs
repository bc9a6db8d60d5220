//! Checks that every hint of the program is followed by a test: the test does what the hint says, and the message is
//! gone.
//!
//! A hint is a text of an implementation of `Hint`, the second argument of `Explanation::new` or `line_with_hint`, a
//! field or variable called `hint`, a text of a function whose name holds `hint` or `advice`, or a constant that one of these names. Helps of diagnostics
//! are not among them: the golden folders of slips hold them.
//!
//! A test follows hints if its name holds `followed_hint`. It follows those of which its body holds a part.

use std::collections::BTreeMap;

use crate::product::select_product;
use crate::sources::{SourceFile, Violation};
use crate::tokens::{Kind, Token, tokenize};

/// List of the hints that no test follows, one a line: `"beginning of the hint" = "reason"`.
const NOT_FOLLOWED: &str = "xtask/hints-not-followed.toml";

/// Part of the names of tests that follow hints.
const FOLLOWING: &str = "followed_hint";

/// Shortest part of a hint that tells it from others, in bytes, unless it is the whole hint.
const PART_MIN: usize = 12;

/// One text of advice in product code.
#[derive(Debug, Clone, PartialEq, Eq)]
struct HintText {
    path: String,
    line: usize,
    text: String,
}

impl HintText {
    /// Returns true if a text names this hint: it is a long part of it, or begins as it does, with values in their
    /// places.
    fn is_named_by(&self, text: &str) -> bool {
        let is_part = self.parts().any(|part| {
            (text.len() >= PART_MIN && part.contains(text)) || (part.len() >= PART_MIN && text.contains(part))
        });
        is_part || text == self.text || self.begins(text)
    }

    /// Returns true if a text holds all parts of the hint in their order, the first one at its start.
    fn begins(&self, text: &str) -> bool {
        let mut parts = self.parts();
        let rest = parts.next().and_then(|first| text.strip_prefix(first));
        let rest = parts.try_fold(rest, |rest, part| rest?.split_once(part).map(|(_, after)| Some(after)));
        rest.flatten().is_some() && self.parts().count() > 1
    }

    /// Returns the parts between the values of a format string.
    fn parts(&self) -> impl Iterator<Item = &str> {
        self.text
            .split('{')
            .enumerate()
            .map(|(at, piece)| match piece.split_once('}') {
                Some((_, after)) if at > 0 => after,
                _ => piece,
            })
    }
}

/// Returns a violation for each hint that no test follows and that is not listed, and for each line of the list that is
/// out of date.
pub(crate) fn check_hints(files: &[SourceFile]) -> Vec<Violation> {
    let list = files.iter().find(|file| file.path == NOT_FOLLOWED);
    let is_crate = |file: &&SourceFile| file.is_our_rust() && !file.path.starts_with("xtask/");
    let mut hints = Vec::new();
    let mut followed = Vec::new();
    for file in files.iter().filter(is_crate) {
        if is_product(&file.path) {
            hints.extend(find_hints(file));
        }
        followed.extend(find_followed(&file.text));
    }
    let listed: Vec<(usize, &str)> = list
        .map_or("", |list| &list.text)
        .lines()
        .enumerate()
        .filter_map(|(at, line)| Some((at + 1, line.strip_prefix('"')?.split_once("\" = ")?.0)))
        .collect();
    let mut violations = Vec::new();
    let mut used = vec![false; listed.len()];
    for hint in &hints {
        let is_followed = followed.iter().any(|text| hint.is_named_by(text));
        let on_list = listed.iter().position(|(_, text)| hint.text.starts_with(text));
        match (is_followed, on_list) {
            (false, Some(at)) => used[at] = true,
            (true, None) => {}
            (false, None) => violations.push(Violation {
                path: hint.path.clone(),
                line: hint.line,
                problem: format!(
                    "no test follows the hint `{}`: write one called `…{FOLLOWING}…`",
                    hint.text
                ),
            }),
            (true, Some(_)) => {}
        }
    }
    for ((line, text), _) in listed.iter().zip(used).filter(|(_, used)| !used) {
        violations.push(Violation {
            path: NOT_FOLLOWED.to_owned(),
            line: *line,
            problem: format!("`{text}` is a hint no more, or a test follows it: remove the line"),
        });
    }
    violations
}

/// True for code that users run. The demonstration and the tests' own crates are not.
fn is_product(path: &str) -> bool {
    path.starts_with("crates/")
        && path.contains("/src/")
        && !path.starts_with("crates/landfall-testkit/")
        && !path.contains("/tests/")
        && !path.ends_with("/tests.rs")
}

/// Finds the hints of a file.
fn find_hints(file: &SourceFile) -> Vec<HintText> {
    let tokens = code_of(select_product(&file.text).tokens);
    let constants = find_constants(&tokens);
    let mut found: BTreeMap<usize, HintText> = BTreeMap::new();
    for range in find_places(&tokens) {
        for at in range {
            let text = match tokens[at].kind {
                // A text that a field of a pattern is compared with is no hint.
                Kind::Text(_) if is_field_of_pattern(&tokens, at) => None,
                Kind::Text(text) => Some(text),
                Kind::Name(name) => constants.get(name).copied(),
                _ => None,
            };
            let text = text.map(unescape).filter(|text| is_advice(text));
            if let Some(text) = text {
                let line = tokens[at].line;
                let path = file.path.clone();
                found.insert(at, HintText { path, line, text });
            }
        }
    }
    found.into_values().collect()
}

/// Returns the ranges of tokens that give hints.
fn find_places(tokens: &[Token<'_>]) -> Vec<std::ops::Range<usize>> {
    let is_name = |at: usize, name: &str| tokens.get(at).is_some_and(|token| token.kind == Kind::Name(name));
    let mut places = Vec::new();
    for at in 0..tokens.len() {
        match tokens[at].kind {
            Kind::Name("Hint") if is_name(at + 1, "for") => places.push(group_after(tokens, at, '{')),
            Kind::Name("fn") if is_name_of_advice(tokens, at + 1) => places.push(group_after(tokens, at, '{')),
            Kind::Name("new") if is_name(at.wrapping_sub(2), "Explanation") => {
                let inside = group_after(tokens, at, '(');
                let comma = find_at_depth(tokens, inside.clone(), ',').unwrap_or(inside.end);
                places.push(comma..inside.end);
            }
            Kind::Name("line_with_hint") if is_punctuation(tokens, at + 1, '(') => {
                let inside = group_after(tokens, at, '(');
                let comma = find_at_depth(tokens, inside.clone(), ',').unwrap_or(inside.end);
                places.push(comma..inside.end);
            }
            Kind::Name("hint") if is_punctuation(tokens, at + 1, '=') => {
                let end = find_at_depth(tokens, at + 2..tokens.len(), ';');
                places.push(at + 2..end.unwrap_or(tokens.len()));
            }
            Kind::Name("hint") if is_punctuation(tokens, at + 1, ':') => {
                let end = find_at_depth(tokens, at + 2..tokens.len(), ',');
                places.push(at + 2..end.unwrap_or(tokens.len()));
            }
            _ => {}
        }
    }
    places
}

fn is_name_of_advice(tokens: &[Token<'_>], at: usize) -> bool {
    matches!(tokens.get(at).map(|token| token.kind),
        Some(Kind::Name(name)) if name.contains("hint") || name.contains("advice"))
}

/// Returns the inside of the next group with this opening bracket.
fn group_after(tokens: &[Token<'_>], from: usize, open: char) -> std::ops::Range<usize> {
    let Some(start) = (from..tokens.len()).find(|&at| is_punctuation(tokens, at, open)) else {
        return from..from;
    };
    let end = find_at_depth(tokens, start + 1..tokens.len(), '\0').unwrap_or(tokens.len());
    start + 1..end
}

/// Finds a character outside of the groups of a range, or the bracket that ends the group around it.
fn find_at_depth(tokens: &[Token<'_>], range: std::ops::Range<usize>, wanted: char) -> Option<usize> {
    let mut depth = 0_usize;
    for at in range {
        let Kind::Punctuation(character) = tokens[at].kind else {
            continue;
        };
        match character {
            _ if depth == 0 && character == wanted => return Some(at),
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' if depth == 0 => return Some(at),
            ')' | ']' | '}' => depth -= 1,
            _ => {}
        }
    }
    None
}

fn is_punctuation(tokens: &[Token<'_>], at: usize, wanted: char) -> bool {
    tokens
        .get(at)
        .is_some_and(|token| token.kind == Kind::Punctuation(wanted))
}

fn is_field_of_pattern(tokens: &[Token<'_>], at: usize) -> bool {
    is_punctuation(tokens, at.wrapping_sub(1), ':')
}

/// Returns the constants of a file that are texts.
fn find_constants<'a>(tokens: &[Token<'a>]) -> BTreeMap<&'a str, &'a str> {
    let mut constants = BTreeMap::new();
    for (at, token) in tokens.iter().enumerate() {
        if token.kind != Kind::Name("const") {
            continue;
        }
        let end = find_at_depth(tokens, at..tokens.len(), ';').unwrap_or(at);
        if let (Some(Kind::Name(name)), Some(Kind::Text(text))) = (
            tokens.get(at + 1).map(|token| token.kind),
            tokens.get(end.saturating_sub(1)).map(|token| token.kind),
        ) {
            constants.insert(name, text);
        }
    }
    constants
}

/// Returns the texts in the tests of a file that follow hints.
fn find_followed(source: &str) -> Vec<String> {
    let tokens = code_of(tokenize(source));
    let mut texts = Vec::new();
    for at in 0..tokens.len() {
        let is_following = tokens[at].kind == Kind::Name("fn")
            && matches!(tokens.get(at + 1).map(|token| token.kind), Some(Kind::Name(name)) if name.contains(FOLLOWING));
        if !is_following {
            continue;
        }
        for token in &tokens[group_after(&tokens, at, '{')] {
            if let Kind::Text(text) = token.kind {
                texts.push(unescape(text).trim_start_matches("hint: ").to_owned());
            }
        }
    }
    texts
}

/// Drops comments.
fn code_of(tokens: Vec<Token<'_>>) -> Vec<Token<'_>> {
    let is_code = |token: &Token<'_>| !matches!(token.kind, Kind::Comment | Kind::Doc(..));
    tokens.into_iter().filter(is_code).collect()
}

/// Returns a text without the escapes that hints hold: quotes, and ends of lines with the indentation after them.
fn unescape(text: &str) -> String {
    let mut lines = text.split("\\\n");
    let first = lines.next().unwrap_or_default().to_owned();
    let joined = lines.fold(first, |joined, line| joined + line.trim_start());
    joined.replace("\\\"", "\"")
}

/// True for an instruction, and not for a separator or a part of a command.
fn is_advice(text: &str) -> bool {
    text.contains(' ') && text.starts_with(|first: char| first.is_ascii_lowercase() || first == '`')
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRODUCT: &str = r#"
        const FREE: &str = "free some space";
        impl Hint for Problem {
            fn hint(&self) -> Option<Cow<'_, str>> {
                match self {
                    Problem::Kind { kind: "a directory", path } => format!("name a file in it: `{path}/NAME`").into(),
                    Problem::Other => "name another path".into(),
                    Problem::Full => FREE.into(),
                }
            }
        }
        fn refuse() -> Explanation {
            Explanation::new("nothing to copy", match x { 1 => "name FROM \
                and TO", _ => "name the file" })
        }
    "#;

    fn problems(test: &str, list: &str) -> Vec<String> {
        let files = [
            SourceFile::new("crates/a/src/lib.rs", PRODUCT),
            SourceFile::new("crates/a/tests/hints.rs", test),
            SourceFile::new(NOT_FOLLOWED, list),
        ];
        let violations = check_hints(&files);
        violations.into_iter().map(|found| found.problem).collect()
    }

    #[test]
    fn each_hint_needs_a_test_that_follows_it() {
        let all = problems("fn other() { \"name another path\" }", "");
        let hints: Vec<_> = all
            .iter()
            .map(|problem| problem.split(": write").next().unwrap())
            .collect();
        assert_eq!(
            hints,
            [
                "no test follows the hint `name a file in it: `{path}/NAME``",
                "no test follows the hint `name another path`",
                "no test follows the hint `free some space`",
                "no test follows the hint `name FROM and TO`",
                "no test follows the hint `name the file`",
            ]
        );
    }

    #[test]
    fn a_followed_part_or_a_line_of_the_list_is_enough() {
        let test = "#[test] fn a_followed_hint_is_true() { check([\"name a file in it\", \"hint: name another path\", \
                    \"name the file\"]); }";
        let list = "# why\n\n\"free some\" = \"needs another machine\"\n\"name FROM\" = \"not yet\"\n";
        assert_eq!(problems(test, list), [""; 0]);
    }

    #[test]
    fn a_short_part_and_a_line_without_a_hint_are_reported() {
        let test = "fn a_followed_hint() { [\"name\", \"name a file in it\", \"name another path\", \"free some space\", \
                    \"name FROM and TO\", \"name the file\"]; }";
        let list = "\"free some\" = \"followed by now\"\n\"no such\" = \"gone\"\n";
        assert_eq!(
            problems(test, list),
            [
                "`free some` is a hint no more, or a test follows it: remove the line",
                "`no such` is a hint no more, or a test follows it: remove the line",
            ]
        );
        assert_eq!(problems(&test.replace("\"name the file\"", ""), "").len(), 1);
    }
}
