//! Checks the first word of doc comments: a verb or a noun, and no word that begins a riddle.

use crate::sources::{SourceFile, Violation};
use crate::tokens::{DocStyle, Kind, Token, tokenize};

/// Words that begin no doc comment.
const FORBIDDEN: [&str; 11] = [
    "what",
    "where",
    "whether",
    "who",
    "how",
    "when",
    "why",
    "that",
    "whatever",
    "whoever",
    "whichever",
];

/// Returns a violation for each doc comment that begins with a forbidden word.
pub(crate) fn check_doc_comments(files: &[SourceFile]) -> Vec<Violation> {
    let ours = files.iter().filter(|file| file.is_our_rust());
    ours.flat_map(check_file).collect()
}

fn check_file(file: &SourceFile) -> Vec<Violation> {
    let tokens = tokenize(&file.text);
    let mut violations = Vec::new();
    let mut before: Option<Token<'_>> = None;
    for token in tokens {
        if let Kind::Doc(text, style) = token.kind
            && !continues(before, token, style)
            && let Some(word) = first_word(text)
            && FORBIDDEN.contains(&word.to_lowercase().as_str())
        {
            violations.push(Violation {
                path: file.path.clone(),
                line: token.line,
                problem: format!(
                    "a doc comment begins with `{word}`; begin with a verb or a noun (STYLE.md, section 9)"
                ),
            });
        }
        before = Some(token);
    }
    violations
}

/// True if a line of doc comment goes on the one of the line before.
fn continues(before: Option<Token<'_>>, token: Token<'_>, style: DocStyle) -> bool {
    before.is_some_and(|before| {
        let same_style = matches!(before.kind, Kind::Doc(_, its_style) if its_style == style);
        same_style && style != DocStyle::Block && before.end_line + 1 == token.line
    })
}

/// Returns the first word, without emphasis around it. Code is no word.
fn first_word(text: &str) -> Option<&str> {
    let start = text.trim_start_matches(|character: char| character.is_whitespace() || "*_\"(".contains(character));
    let length = start
        .find(|character: char| !character.is_alphabetic())
        .unwrap_or(start.len());
    Some(&start[..length]).filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: [usize; 0] = [];

    /// Lines with a violation.
    fn lines(text: &str) -> Vec<usize> {
        let file = SourceFile {
            path: "a.rs".to_owned(),
            text: text.to_owned(),
        };
        check_doc_comments(&[file])
            .into_iter()
            .map(|violation| violation.line)
            .collect()
    }

    #[test]
    fn every_notation_of_a_doc_comment_is_checked() {
        assert_eq!(
            lines("//! What it is.\n\n/// where it is\n/** *Whether* it is. */\n/**\n * Who it is.\n */"),
            [1, 3, 4, 5]
        );
    }

    #[test]
    fn the_first_line_alone_counts() {
        assert_eq!(
            lines("/// Returns a name.\n/// Whether it is there is of no interest.\n///\n/// When not, none.\nfn a();"),
            NONE
        );
        assert_eq!(lines("/// Why.\nb: C,\n/// How.\nd: E,"), [1, 3]);
    }

    #[test]
    fn words_are_compared_whole() {
        assert_eq!(
            lines("/// Whatsoever.\n\n/// `what`\n\n/// Whoever.\n\n/// That's it.\n\n/// Thatched."),
            [5, 7]
        );
    }

    #[test]
    fn other_comments_and_texts_are_free() {
        assert_eq!(lines("// What it is.\n//// What it is.\nlet a = \"/// What\";"), NONE);
    }
}
