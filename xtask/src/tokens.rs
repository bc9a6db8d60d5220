//! Splits Rust source text into tokens, as far as the checks need it: comments, literals, names and punctuation, each
//! with its line. No parser, because the checks also need the paths inside macro calls, which a parser leaves opaque.

/// A piece of source text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Token<'a> {
    pub(crate) kind: Kind<'a>,
    /// First line, counted from 1.
    pub(crate) line: usize,
    /// Last line; it differs from `line` for a block comment and for a literal of several lines.
    pub(crate) end_line: usize,
}

/// Kind of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind<'a> {
    /// An identifier or a keyword; a raw identifier without its `r#`.
    Name(&'a str),
    /// `::`.
    PathSeparator,
    /// Any other punctuation, one character a token.
    Punctuation(char),
    /// The inside of a string literal of any kind, escapes as written.
    Text(&'a str),
    /// A comment that rustdoc ignores.
    Comment,
    /// The inside of a doc comment: a whole block, or one line of `///` or `//!`.
    Doc(&'a str, DocStyle),
    /// A number, a character or a lifetime.
    Other,
}

/// Notation of a doc comment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DocStyle {
    /// `///`.
    OuterLine,
    /// `//!`.
    InnerLine,
    /// `/** */` or `/*! */`.
    Block,
}

/// Splits a source text. Never fails: text that is no Rust gives tokens that match nothing.
pub(crate) fn tokenize(source: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let mut rest = source;
    let mut line = 1;
    while let Some(first) = rest.chars().next() {
        let (kind, length) = if first.is_whitespace() {
            (None, first.len_utf8())
        } else {
            let (kind, length) = read_token(rest, first);
            (Some(kind), length)
        };
        let (taken, left) = rest.split_at(length);
        let end_line = line + taken.matches('\n').count();
        if let Some(kind) = kind {
            tokens.push(Token { kind, line, end_line });
        }
        line = end_line;
        rest = left;
    }
    tokens
}

/// Returns the token at the start of the text and its length in bytes.
fn read_token(rest: &str, first: char) -> (Kind<'_>, usize) {
    if rest.starts_with("//") {
        return read_line_comment(rest);
    }
    if rest.starts_with("/*") {
        return read_block_comment(rest);
    }
    if let Some(literal) = read_string(rest) {
        return literal;
    }
    if first == '\'' {
        return (Kind::Other, quote_length(rest));
    }
    if first.is_ascii_digit() {
        return (Kind::Other, name_length(rest));
    }
    let raw = rest.strip_prefix("r#").filter(|name| name_length(name) > 0);
    if let Some(name) = raw {
        let length = name_length(name);
        return (Kind::Name(&name[..length]), length + 2);
    }
    match name_length(rest) {
        0 if rest.starts_with("::") => (Kind::PathSeparator, 2),
        0 => (Kind::Punctuation(first), first.len_utf8()),
        length => (Kind::Name(&rest[..length]), length),
    }
}

fn read_line_comment(rest: &str) -> (Kind<'_>, usize) {
    let length = rest.find('\n').unwrap_or(rest.len());
    let comment = &rest[..length];
    let kind = match comment.strip_prefix("///") {
        Some(text) if !text.starts_with('/') => Kind::Doc(text, DocStyle::OuterLine),
        _ => match comment.strip_prefix("//!") {
            Some(text) => Kind::Doc(text, DocStyle::InnerLine),
            None => Kind::Comment,
        },
    };
    (kind, length)
}

/// Block comments nest.
fn read_block_comment(rest: &str) -> (Kind<'_>, usize) {
    let mut depth = 0_usize;
    let mut at = 0;
    while at < rest.len() {
        let left = &rest[at..];
        if left.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if left.starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                break;
            }
        } else {
            at += left.chars().next().map_or(1, char::len_utf8);
        }
    }
    let comment = &rest[..at];
    let inside = comment.strip_suffix("*/").unwrap_or(comment);
    let kind = match inside.get(2..3) {
        Some("!") => Kind::Doc(&inside[3..], DocStyle::Block),
        Some("*") if !inside[3..].starts_with('*') => Kind::Doc(&inside[3..], DocStyle::Block),
        _ => Kind::Comment,
    };
    (kind, at)
}

/// Reads `"…"`, `r"…"`, `r#"…"#` and the same after `b` or `c`.
fn read_string(rest: &str) -> Option<(Kind<'_>, usize)> {
    let after_prefix = rest.strip_prefix(['b', 'c']).unwrap_or(rest);
    let raw = after_prefix.strip_prefix('r');
    let after_raw = raw.unwrap_or(after_prefix);
    let hashes = if raw.is_some() {
        after_raw.len() - after_raw.trim_start_matches('#').len()
    } else {
        0
    };
    let inside = after_raw[hashes..].strip_prefix('"')?;
    let length = if raw.is_some() {
        inside.find(&format!("\"{}", "#".repeat(hashes)))
    } else {
        end_of_escaped(inside)
    }
    .unwrap_or(inside.len());
    let before = rest.len() - inside.len();
    let total = (before + length + 1 + hashes).min(rest.len());
    Some((Kind::Text(&inside[..length]), total))
}

/// Returns the place of the quote that ends a string with escapes.
fn end_of_escaped(inside: &str) -> Option<usize> {
    let mut escaped = false;
    for (at, character) in inside.char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return Some(at),
            _ => {}
        }
    }
    None
}

/// Returns the length of a character literal or a lifetime. `'a'` is the former, `'a` the latter.
fn quote_length(rest: &str) -> usize {
    let mut characters = rest.char_indices().skip(1);
    let Some((_, first)) = characters.next() else {
        return 1;
    };
    if first == '\\' {
        // The escaped character may itself be a quote.
        let end = rest.char_indices().skip(3).find(|(_, character)| *character == '\'');
        return end.map_or(rest.len(), |(at, _)| at + 1);
    }
    match characters.next() {
        Some((at, '\'')) => at + 1,
        _ => 1 + name_length(&rest[1..]),
    }
}

fn name_length(rest: &str) -> usize {
    rest.find(|character: char| !character.is_alphanumeric() && character != '_')
        .unwrap_or(rest.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(source: &str) -> Vec<Kind<'_>> {
        tokenize(source).into_iter().map(|token| token.kind).collect()
    }

    #[test]
    fn strings_hide_comments_and_comments_hide_strings() {
        assert_eq!(
            kinds("\"// no \\\" comment\" // \"no string\nx"),
            [Kind::Text("// no \\\" comment"), Kind::Comment, Kind::Name("x")]
        );
    }

    #[test]
    fn raw_and_byte_strings_end_at_their_own_mark() {
        assert_eq!(
            kinds("r#\"a \" b\"# b\"c\" br\"d\\\" r#type"),
            [
                Kind::Text("a \" b"),
                Kind::Text("c"),
                Kind::Text("d\\"),
                Kind::Name("type")
            ]
        );
    }

    #[test]
    fn a_quote_begins_a_character_or_a_lifetime() {
        let others = [Kind::Other, Kind::Other, Kind::Other, Kind::Other, Kind::Name("x")];
        assert_eq!(kinds("'\"' '\\'' 'a '\\u{e4}' x"), others);
    }

    #[test]
    fn doc_comments_are_told_from_others() {
        assert_eq!(
            kinds("/// a\n//! b\n/** c */ /*! d */\n//// e\n/*** f */ /**/ /* g /* h */ */"),
            [
                Kind::Doc(" a", DocStyle::OuterLine),
                Kind::Doc(" b", DocStyle::InnerLine),
                Kind::Doc(" c ", DocStyle::Block),
                Kind::Doc(" d ", DocStyle::Block),
                Kind::Comment,
                Kind::Comment,
                Kind::Comment,
                Kind::Comment,
            ]
        );
    }

    #[test]
    fn lines_are_counted_through_literals_and_comments() {
        let tokens = tokenize("\"a\nb\"\n/* c\n*/ d");
        let lines: Vec<_> = tokens.iter().map(|token| (token.line, token.end_line)).collect();
        assert_eq!(lines, [(1, 2), (3, 4), (4, 4)]);
    }
}
