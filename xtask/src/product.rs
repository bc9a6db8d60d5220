//! Separates product code from test code inside a file: `#[cfg(test)]` items are cut out.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use crate::tokens::{Kind, Token, tokenize};

/// Keywords that begin an item with a body or a `;` at its end. Other things with an attribute end at a `,` as well.
const ITEM_KEYWORDS: [&str; 16] = [
    "async",
    "const",
    "enum",
    "extern",
    "fn",
    "impl",
    "let",
    "macro_rules",
    "mod",
    "static",
    "struct",
    "trait",
    "type",
    "union",
    "unsafe",
    "use",
];

/// A file without its test code.
#[derive(Debug)]
pub(crate) struct Product<'a> {
    pub(crate) tokens: Vec<Token<'a>>,
    /// Names of the modules that are declared for tests alone.
    pub(crate) test_modules: BTreeSet<&'a str>,
}

/// Lines of a file that hold something.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct LineCount {
    pub(crate) code: usize,
    /// Lines with a comment and nothing else.
    pub(crate) comment: usize,
}

/// Cuts the test code out of a source text.
pub(crate) fn select_product(source: &str) -> Product<'_> {
    let all = tokenize(source);
    let mut product = Product {
        tokens: Vec::new(),
        test_modules: BTreeSet::new(),
    };
    let mut at = 0;
    while at < all.len() {
        let Some(attribute) = read_attribute(&all, at) else {
            product.tokens.push(all[at]);
            at += 1;
            continue;
        };
        if !attribute.is_test {
            product.tokens.extend(&all[attribute.range.clone()]);
            at = attribute.range.end() + 1;
            continue;
        }
        if attribute.is_inner {
            // `#![cfg(test)]`: the whole file, or the whole inline module.
            product.tokens.clear();
            return product;
        }
        let item = skip_attributes(&all, attribute.range.end() + 1);
        let end = end_of_item(&all, item);
        for pair in all[item..end].windows(2) {
            if let (Kind::Name("mod"), Kind::Name(name)) = (pair[0].kind, pair[1].kind) {
                product.test_modules.insert(name);
            }
        }
        at = end;
    }
    product
}

/// Counts the lines that the tokens cover.
pub(crate) fn count_lines(tokens: &[Token<'_>]) -> LineCount {
    let mut code = BTreeSet::new();
    let mut comment = BTreeSet::new();
    for token in tokens {
        let lines = match token.kind {
            Kind::Comment | Kind::Doc(..) => &mut comment,
            _ => &mut code,
        };
        lines.extend(token.line..=token.end_line);
    }
    LineCount {
        code: code.len(),
        comment: comment.difference(&code).count(),
    }
}

struct Attribute {
    range: RangeInclusive<usize>,
    is_inner: bool,
    is_test: bool,
}

fn read_attribute(tokens: &[Token<'_>], at: usize) -> Option<Attribute> {
    if !is_punctuation(tokens, at, '#') {
        return None;
    }
    let is_inner = is_punctuation(tokens, at + 1, '!');
    let open = at + 1 + usize::from(is_inner);
    if !is_punctuation(tokens, open, '[') {
        return None;
    }
    let end = end_of_group(tokens, open);
    let inside = tokens.get(open + 1..end).unwrap_or_default();
    Some(Attribute {
        range: at..=end.min(tokens.len() - 1),
        is_inner,
        is_test: is_test_condition(inside),
    })
}

/// True for `cfg(test)`, `cfg(all(test, …))` and `cfg(any(test, …))`: the last is help for tests that a feature lends
/// to the fuzzer.
fn is_test_condition(inside: &[Token<'_>]) -> bool {
    let Some((first, condition)) = inside.split_first() else {
        return false;
    };
    let names: Vec<Kind<'_>> = condition
        .iter()
        .map(|token| token.kind)
        .filter(|kind| matches!(kind, Kind::Name(_)))
        .collect();
    let test_at = names.iter().position(|name| *name == Kind::Name("test"));
    first.kind == Kind::Name("cfg")
        && test_at.is_some_and(|at| {
            at.checked_sub(1)
                .is_none_or(|before| names[before] != Kind::Name("not"))
        })
}

fn skip_attributes(tokens: &[Token<'_>], mut at: usize) -> usize {
    loop {
        if let Some(attribute) = read_attribute(tokens, at) {
            at = attribute.range.end() + 1;
        } else if matches!(tokens.get(at), Some(token) if matches!(token.kind, Kind::Comment | Kind::Doc(..))) {
            at += 1;
        } else {
            return at;
        }
    }
}

/// Returns the index behind the item, field, variant or statement that begins at `start`.
fn end_of_item(tokens: &[Token<'_>], start: usize) -> usize {
    let mut at = start;
    if tokens.get(at).is_some_and(|token| token.kind == Kind::Name("pub")) {
        at += 1;
        if is_punctuation(tokens, at, '(') {
            at = end_of_group(tokens, at) + 1;
        }
    }
    let is_item = matches!(tokens.get(at), Some(token) if matches!(token.kind, Kind::Name(name) if ITEM_KEYWORDS.contains(&name)));
    // `use a::{b, c};` and `let x = S { … };` go on behind their braces.
    let ends_at_semicolon = matches!(tokens.get(at), Some(token) if matches!(token.kind, Kind::Name("use" | "let" | "const" | "static" | "type")))
        && !matches!(tokens.get(at + 1), Some(token) if matches!(token.kind, Kind::Name("fn" | "unsafe" | "async")));
    while let Some(token) = tokens.get(at) {
        match token.kind {
            Kind::Punctuation('}' | ')' | ']') => return at,
            Kind::Punctuation(';') => return at + 1,
            Kind::Punctuation(',') if !is_item => return at + 1,
            Kind::Punctuation('{') if is_item && !ends_at_semicolon => return end_of_group(tokens, at) + 1,
            Kind::Punctuation('{' | '(' | '[') => at = end_of_group(tokens, at) + 1,
            _ => at += 1,
        }
    }
    tokens.len()
}

/// Returns the index of the bracket that closes the one at `open`, or the number of tokens.
fn end_of_group(tokens: &[Token<'_>], open: usize) -> usize {
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate().skip(open) {
        match token.kind {
            Kind::Punctuation('{' | '(' | '[') => depth += 1,
            Kind::Punctuation('}' | ')' | ']') => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return at;
                }
            }
            _ => {}
        }
    }
    tokens.len()
}

fn is_punctuation(tokens: &[Token<'_>], at: usize, character: char) -> bool {
    tokens
        .get(at)
        .is_some_and(|token| token.kind == Kind::Punctuation(character))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(source: &str) -> Vec<&str> {
        select_product(source)
            .tokens
            .into_iter()
            .filter_map(|token| match token.kind {
                Kind::Name(name) => Some(name),
                _ => None,
            })
            .collect()
    }

    #[test]
    fn items_of_tests_are_cut_out_and_their_neighbours_stay() {
        assert_eq!(
            names("a; #[cfg(test)] mod tests { b } c; #[cfg(test)] #[derive(D)] pub(crate) fn d<E, F>() { g } h"),
            ["a", "c", "h"]
        );
        assert_eq!(names("#[cfg(test)] use a::{b, c}; d"), ["d"]);
        assert_eq!(names("#[cfg(all(test, x))] const A: [u8; 2] = B; d"), ["d"]);
        assert_eq!(names("#[cfg(test)] const fn a() { b } d"), ["d"]);
    }

    #[test]
    fn fields_of_tests_are_cut_out() {
        assert_eq!(names("struct A { #[cfg(test)] b: C, d: E }"), ["struct", "A", "d", "E"]);
        assert_eq!(names("A { d: e, #[cfg(test)] b: f() }; g"), ["A", "d", "e", "g"]);
    }

    #[test]
    fn other_conditions_are_product_code() {
        assert_eq!(names("#[cfg(not(test))] fn a() {}"), ["cfg", "not", "test", "fn", "a"]);
        assert_eq!(names("#[cfg_attr(test, x)] fn a() {}").len(), 5);
        assert_eq!(names("#![cfg(test)] fn a() {}"), Vec::<&str>::new());
    }

    #[test]
    fn modules_of_tests_are_named() {
        let product = select_product("mod a; #[cfg(test)] mod tests; #[cfg(any(test, feature = \"x\"))] mod b;");
        assert_eq!(product.test_modules, ["b", "tests"].into());
    }

    #[test]
    fn a_line_is_code_or_comment_and_never_both() {
        let source = "//! a\n\n/* b\n*/ fn c() {} // d\nlet e = \"\n\n\";\n#[cfg(test)]\nmod tests {\n// f\n}\n";
        let count = count_lines(&select_product(source).tokens);
        assert_eq!(count, LineCount { code: 4, comment: 2 });
    }
}
