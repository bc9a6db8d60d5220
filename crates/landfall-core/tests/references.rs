//! Properties of references, and a test with every reference of `data/image-refs.txt` (names that real packs use).

use std::collections::BTreeSet;
use std::str::FromStr;

use landfall_core::reference::{parse_grammar, parse_reference};
use proptest::prelude::*;

const REFERENCES: &str = include_str!("data/image-refs.txt");

#[test]
fn every_reference_of_real_packs_parses_as_the_oracle_does() {
    let mut rows = 0;
    for line in REFERENCES.lines() {
        let reference = parse_reference(line).unwrap_or_else(|error| panic!("`{line}`: {error}"));
        let oracle = oci_spec::distribution::Reference::from_str(line).unwrap();
        assert_eq!(reference.host.as_str(), oracle.registry(), "{line}");
        assert_eq!(reference.repository.as_str(), oracle.repository(), "{line}");
        assert_eq!(
            reference.digest.as_ref().map(|digest| digest.as_str()),
            oracle.digest(),
            "{line}"
        );
        assert_eq!(
            reference.canonical().tag.as_ref().map(|tag| tag.as_str()),
            oracle.tag(),
            "{line}"
        );
        rows += 1;
    }
    assert_eq!(rows, 288);
}

#[test]
fn every_reference_of_real_packs_is_one_image_of_its_own() {
    let canonical: BTreeSet<_> = REFERENCES
        .lines()
        .map(|line| parse_reference(line).unwrap().canonical())
        .collect();
    assert_eq!(canonical.len(), 288);
}

#[test]
fn a_host_that_is_one_by_its_capitals_keeps_them() {
    for (text, expected) in [
        ("Reg/a", "Reg/a"),
        ("Reg.IO/a", "reg.io/a"),
        ("Reg:5000/a", "reg:5000/a"),
        ("LOCALHOST/a", "localhost/a"),
        ("Index.Docker.io/a", "docker.io/library/a"),
    ] {
        assert_eq!(parse_reference(text).unwrap().to_string(), expected);
    }
}

/// Generates references as people write them: familiar names, hosts with ports, IPv6, tags and digests in every
/// combination.
fn reference_text() -> impl Strategy<Value = String> {
    let host = prop_oneof![
        Just(String::new()),
        Just("localhost/".to_owned()),
        "(index\\.|registry-1\\.)?docker\\.io/",
        "[a-z0-9]{1,8}\\.[a-z]{2,3}(:[1-9][0-9]{1,3})?/",
        Just("[2001:db8::1]:5000/".to_owned()),
        "[A-Za-z]{0,3}[A-Z](\\.io)?/",
    ];
    let path = "[a-z0-9]{1,6}([._-][a-z0-9]{1,4})?(/[a-z0-9]{1,6}(__[a-z0-9]{1,3})?){0,4}";
    let tag = "(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,12})?";
    let digest = "(@sha256:[0-9a-f]{64}|@sha512:[0-9a-f]{128})?";
    (host, path, tag, digest).prop_map(|(host, path, tag, digest)| format!("{host}{path}{tag}{digest}"))
}

proptest! {
    #[test]
    fn parsing_what_was_printed_gives_the_same_reference(text in reference_text()) {
        let reference = parse_reference(&text).unwrap();
        prop_assert_eq!(parse_reference(&reference.to_string()).unwrap(), reference.clone());
        let canonical = reference.canonical();
        prop_assert_eq!(parse_reference(&canonical.to_string()).unwrap(), canonical);
    }

    #[test]
    fn printing_keeps_the_suffix_as_it_was_written(text in reference_text()) {
        let reference = parse_reference(&text).unwrap();
        let suffix = text.rsplit('/').next().unwrap();
        let suffix = &suffix[suffix.find([':', '@']).unwrap_or(suffix.len())..];
        prop_assert!(reference.to_string().ends_with(suffix));
    }

    #[test]
    fn canonicalising_twice_changes_nothing(text in reference_text()) {
        let once = parse_reference(&text).unwrap().canonical();
        prop_assert_eq!(once.canonical(), once);
    }

    #[test]
    fn a_host_becomes_one_valid_path_component(text in reference_text()) {
        let reference = parse_reference(&text).unwrap();
        let component = reference.host.as_path_component();
        prop_assert!(!component.contains('/'));
        let joined = reference.in_repository(&reference.host, &[&component, "/x"].concat());
        prop_assert!(joined.is_ok());
    }

    #[test]
    fn no_text_makes_the_parsers_panic(text in "\\PC*") {
        let _ = parse_reference(&text);
        let _ = parse_grammar(&text);
    }

    #[test]
    fn no_text_of_a_references_own_characters_makes_the_parsers_panic(text in "[a-z0-9A-Z:@/.\\[\\]_-]{0,40}") {
        if let Ok(reference) = parse_reference(&text) {
            prop_assert_eq!(parse_reference(&reference.to_string()), Ok(reference));
        }
        let _ = parse_grammar(&text);
    }
}
