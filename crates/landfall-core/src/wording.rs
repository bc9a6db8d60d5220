//! Texts for people: counts, lists of names, and the nearest of several words.

use std::fmt::Display;

/// Returns `1 image`, `2 images`, for nouns whose plural has an `s`.
#[must_use]
pub fn counted<N: Display + PartialEq + From<u8>>(count: N, noun: &str) -> String {
    let ending = if count == N::from(1) { "" } else { "s" };
    format!("{count} {noun}{ending}")
}

/// Returns names as a list: "`a`, `b`".
#[must_use]
pub fn quoted<T: Display>(names: impl IntoIterator<Item = T>) -> String {
    let texts: Vec<_> = names.into_iter().map(|name| format!("`{name}`")).collect();
    texts.join(", ")
}

/// Returns the beginning of a text of a document for a message: one line of at most `characters_max` characters.
#[must_use]
pub fn excerpt(text: &str, characters_max: usize) -> String {
    text.chars().filter(|c| !c.is_control()).take(characters_max).collect()
}

/// No known word has more characters.
const WORD_LENGTH_MAX: usize = 64;

/// Returns the word that the user probably meant: the one that is the fewest edits away, at most a third of its
/// letters. A swap of two neighbouring letters is one edit.
#[must_use]
pub fn nearest<'w>(text: &str, words: impl Iterator<Item = &'w str>) -> Option<&'w str> {
    let text = text.to_ascii_lowercase();
    words
        .filter_map(|word| {
            let edits_max = (word.chars().count() / 3).max(1);
            Some((edit_distance(&text, &word.to_ascii_lowercase(), edits_max)?, word))
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}

/// Returns true if at most `edits_max` edits turn one text into the other. A swap of two neighbouring letters is one
/// edit.
#[must_use]
pub fn is_near(left: &str, right: &str, edits_max: usize) -> bool {
    edit_distance(left, right, edits_max).is_some()
}

/// Returns the number of edits between two texts; `None` above `edits_max`.
pub(crate) fn edit_distance(left: &str, right: &str, edits_max: usize) -> Option<usize> {
    // The table of distances grows with both lengths, and a key of a file may be very long.
    if [left, right]
        .iter()
        .any(|text| text.chars().nth(WORD_LENGTH_MAX).is_some())
    {
        return None;
    }
    Some(strsim::osa_distance(left, right)).filter(|distance| *distance <= edits_max)
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
