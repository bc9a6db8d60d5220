//! Regular expressions of variables. Palette writes them for Go, whose syntax (RE2) differs in a few places from that of
//! the crate `regex`.

use regex::{Regex, RegexBuilder};

/// The maximum size of a compiled expression, in bytes.
const COMPILED_BYTES_MAX: usize = 1024 * 1024;
/// The maximum size of an expression, in bytes.
const PATTERN_BYTES_MAX: usize = 4 * 1024;

/// Compiles an expression of Go; `None` if it is not one, or is too large.
pub(super) fn compile(pattern: &str) -> Option<Regex> {
    if pattern.len() > PATTERN_BYTES_MAX {
        return None;
    }
    RegexBuilder::new(&translated(pattern)?)
        .size_limit(COMPILED_BYTES_MAX)
        .dfa_size_limit(COMPILED_BYTES_MAX)
        .nest_limit(100)
        .build()
        .ok()
}

/// Translates from Go's syntax. Go's classes `\d`, `\s`, `\w` and `\b` are ASCII, `\Q…\E` quotes, and neither `[` nor
/// `&&`, `--` and `~~` mean anything inside of brackets.
fn translated(pattern: &str) -> Option<String> {
    let mut text = String::with_capacity(pattern.len() * 2);
    let mut rest = pattern;
    let mut in_class = false;
    while let Some(character) = rest.chars().next() {
        rest = &rest[character.len_utf8()..];
        match character {
            '\\' => {
                let escaped = rest.chars().next()?;
                rest = &rest[escaped.len_utf8()..];
                match escaped {
                    'Q' if !in_class => {
                        let (literal, behind) = rest.split_once("\\E").unwrap_or((rest, ""));
                        text.push_str(&regex::escape(literal));
                        rest = behind;
                    }
                    'd' => text.push_str(if in_class { "0-9" } else { "[0-9]" }),
                    'D' => text.push_str("[^0-9]"),
                    's' => text.push_str(if in_class { "\\t\\n\\f\\r " } else { "[\\t\\n\\f\\r ]" }),
                    'S' => text.push_str("[^\\t\\n\\f\\r ]"),
                    'w' => text.push_str(if in_class { "0-9A-Za-z_" } else { "[0-9A-Za-z_]" }),
                    'W' => text.push_str("[^0-9A-Za-z_]"),
                    'b' | 'B' if !in_class => text.push_str(&format!("(?-u:\\{escaped})")),
                    _ => {
                        text.push('\\');
                        text.push(escaped);
                    }
                }
            }
            '[' if !in_class => {
                in_class = true;
                text.push('[');
                if let Some(behind) = rest.strip_prefix('^') {
                    text.push('^');
                    rest = behind;
                }
                // A bracket in the first place is a character.
                if let Some(behind) = rest.strip_prefix(']') {
                    text.push_str("\\]");
                    rest = behind;
                }
            }
            '[' if rest.starts_with(':') => {
                let (name, behind) = rest.split_once(":]")?;
                text.push_str(&format!("[{name}:]"));
                rest = behind;
            }
            '[' => text.push_str("\\["),
            ']' => {
                in_class = false;
                text.push(']');
            }
            '&' | '~' if in_class => {
                text.push('\\');
                text.push(character);
            }
            '-' if in_class && rest.starts_with('-') => {
                text.push_str("\\-\\-");
                rest = &rest[1..];
            }
            other => text.push(other),
        }
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_mean_the_same_as_in_go() {
        for (pattern, good, bad) in [
            // Unanchored, as Go's MatchString is.
            ("b+", vec!["abbc"], vec!["ac"]),
            ("^[a-z]{1,3}$", vec!["abc"], vec!["abcd", "A"]),
            (r"^\d+$", vec!["12"], vec!["١٢", "a"]),
            (r"^[\d\w]+$", vec!["a1_"], vec!["é"]),
            (r"^[^\d]$", vec!["a"], vec!["1"]),
            (r"^\Qa.b\E$", vec!["a.b"], vec!["axb"]),
            ("^[[a]$", vec!["[", "a"], vec!["b"]),
            ("^[a&&b]+$", vec!["&", "ab"], vec!["c"]),
            ("^[]a]+$", vec!["]a"], vec!["b"]),
            ("^[[:alpha:]]+$", vec!["ab"], vec!["1"]),
            (r"\bx\b", vec!["a x b"], vec!["axb"]),
            ("(?i)^abc$", vec!["ABC"], vec!["ab"]),
        ] {
            let compiled = compile(pattern).unwrap_or_else(|| panic!("{pattern}"));
            for value in good {
                assert!(compiled.is_match(value), "{pattern} {value}");
            }
            for value in bad {
                assert!(!compiled.is_match(value), "{pattern} {value}");
            }
        }
    }

    #[test]
    fn an_expression_that_is_none_or_too_large_is_refused() {
        let long = "a".repeat(PATTERN_BYTES_MAX + 1);
        for pattern in ["(", "a{1000}{1000}", r"\", "(?=a)", r"(a)\1", &long] {
            assert!(compile(pattern).is_none(), "{pattern}");
        }
    }
}
