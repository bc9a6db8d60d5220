//! Grammar of names, implemented independently of the parsers.

use landfall_core::reference::{Digest, Repository, Tag};

/// Checks a repository against the grammar of the OCI distribution specification ("Pulling manifests"), independently
/// of the parser.
pub(crate) fn check_repository(repository: &Repository) {
    let name = repository.as_str();
    assert!(name.len() <= 255, "`{name}` is too long");
    for component in name.split('/') {
        let mut separator = String::new();
        let mut last_was_word = false;
        for character in component.chars() {
            if character.is_ascii_lowercase() || character.is_ascii_digit() {
                let is_separator =
                    matches!(separator.as_str(), "" | "." | "_" | "__") || separator.bytes().all(|byte| byte == b'-');
                assert!(is_separator, "`{separator}` in `{name}`");
                separator.clear();
                last_was_word = true;
            } else {
                assert!(last_was_word, "`{component}` begins with a separator");
                separator.push(character);
            }
        }
        assert!(last_was_word && separator.is_empty(), "`{component}` in `{name}`");
    }
}

pub(crate) fn check_tag(tag: &Tag) {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let bytes = tag.as_str().as_bytes();
    assert!((1..=128).contains(&bytes.len()) && word(bytes[0]), "`{tag}`");
    assert!(
        bytes.iter().all(|&byte| word(byte) || matches!(byte, b'.' | b'-')),
        "`{tag}`"
    );
}

pub(crate) fn check_digest(digest: &Digest) {
    let length = match digest.algorithm() {
        "sha256" => 64,
        "sha512" => 128,
        other => panic!("`{other}` is no algorithm that we know"),
    };
    assert_eq!(digest.hex().len(), length, "`{digest}`");
    let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    assert!(digest.hex().bytes().all(is_hex), "`{digest}`");
}
