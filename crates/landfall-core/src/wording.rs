//! Numbers and names of things in texts for people.

use std::fmt::Display;

/// `1 image`, `2 images`: for nouns that take an `s`.
#[must_use]
pub fn counted<N: Display + PartialEq + From<u8>>(count: N, noun: &str) -> String {
    let ending = if count == N::from(1) { "" } else { "s" };
    format!("{count} {noun}{ending}")
}

/// Names as a list: "`a`, `b`".
#[must_use]
pub fn quoted<T: Display>(names: impl IntoIterator<Item = T>) -> String {
    let texts: Vec<_> = names.into_iter().map(|name| format!("`{name}`")).collect();
    texts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_thing_is_singular_and_no_thing_is_plural() {
        assert_eq!(
            [0_usize, 1, 2].map(|count| counted(count, "image")),
            ["0 images", "1 image", "2 images"]
        );
        assert_eq!(counted(1_u64, "byte"), "1 byte");
    }

    #[test]
    fn names_are_quoted_one_by_one() {
        assert_eq!(
            (quoted(["a", "b"]), quoted(["a"]), quoted([""; 0])),
            ("`a`, `b`".to_owned(), "`a`".to_owned(), String::new())
        );
    }
}
