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

/// The word that was probably meant: at most a third of its letters differ.
#[must_use]
pub fn nearest<'w>(text: &str, words: impl Iterator<Item = &'w str>) -> Option<&'w str> {
    words
        .map(|word| {
            (
                edit_distance(&text.to_ascii_lowercase(), &word.to_ascii_lowercase()),
                word,
            )
        })
        .filter(|(distance, word)| *distance <= (word.chars().count() / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}

/// Levenshtein's distance, with a swap of neighbours as one edit.
#[must_use]
pub fn edit_distance(left: &str, right: &str) -> usize {
    let left: Vec<char> = left.chars().take(64).collect();
    let right: Vec<char> = right.chars().take(64).collect();
    let width = right.len() + 1;
    let mut table = vec![0; (left.len() + 1) * width];
    for row in 0..=left.len() {
        for column in 0..=right.len() {
            let at = row * width + column;
            table[at] = if row == 0 || column == 0 {
                row + column
            } else {
                let differs = usize::from(left[row - 1] != right[column - 1]);
                let mut best = (table[at - width] + 1)
                    .min(table[at - 1] + 1)
                    .min(table[at - width - 1] + differs);
                let swapped =
                    row > 1 && column > 1 && left[row - 1] == right[column - 2] && left[row - 2] == right[column - 1];
                if swapped {
                    best = best.min(table[at - 2 * width - 2] + 1);
                }
                best
            };
        }
    }
    table[table.len() - 1]
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

    #[test]
    fn near_words_are_found_and_far_ones_are_not() {
        let words = ["registryCredentials", "externalRegistries", "port", "enable"];
        for (text, expected) in [
            ("registryCredential", Some("registryCredentials")),
            ("externalRegistires", Some("externalRegistries")),
            ("Enable", Some("enable")),
            ("prot", Some("port")),
            ("edgeHostToken", None),
            ("", None),
        ] {
            assert_eq!(nearest(text, words.into_iter()), expected, "{text}");
        }
    }
}
