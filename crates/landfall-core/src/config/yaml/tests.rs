//! Properties of the YAML parser that the readers rely on.

use std::sync::Arc;

use super::*;
use crate::diagnostic::NamedText;

fn parse(text: &str) -> Node {
    let mut report = Report::default();
    let file = NamedText::new("f", text);
    let node = parse_document(&Text::of_file(&file), &KeyPath::default(), &mut report);
    let findings = report.finish([&file]);
    assert!(findings.is_empty(), "{text}: {findings:?}");
    node.expect("a text without findings is a document")
}

#[test]
fn a_scalar_has_a_type_only_where_one_is_asked_for() {
    for (written, text, boolean, integer, kind) in [
        ("012", Some("012"), None, Some(12), "a number"),
        ("y", Some("y"), None, None, "a string"),
        ("no", Some("no"), None, None, "a string"),
        ("true", Some("true"), Some(true), None, "a boolean"),
        ("'true'", Some("true"), None, None, "a string"),
        ("!!str true", Some("true"), None, None, "a string"),
        ("1.30", Some("1.30"), None, None, "a number"),
        ("-5", Some("-5"), None, Some(-5), "a number"),
        ("1e3", Some("1e3"), None, None, "a number"),
        ("'12'", Some("12"), None, None, "a string"),
        ("~", None, None, None, "nothing (null)"),
        ("", None, None, None, "nothing (null)"),
        ("''", Some(""), None, None, "a string"),
        ("2001-01-01", Some("2001-01-01"), None, None, "a string"),
    ] {
        let root = parse(&format!("a: {written}\n"));
        let node = root.get("a").unwrap();
        assert_eq!(
            (node.text(), node.boolean(), node.integer(), node.kind()),
            (text, boolean, integer, kind),
            "{written}"
        );
    }
}

#[test]
fn a_mode_is_octal_unless_it_is_a_plain_decimal() {
    for (written, mode) in [
        ("0644", Some(0o644)),
        ("0o644", Some(0o644)),
        ("\"0644\"", Some(0o644)),
        ("'644'", Some(0o644)),
        ("420", Some(0o644)),
        ("0", Some(0)),
        ("07777", Some(0o7777)),
        ("010000", None),
        ("0849", None),
        ("-1", None),
        ("rw", None),
    ] {
        assert_eq!(
            parse(&format!("a: {written}")).get("a").unwrap().mode(),
            mode,
            "{written}"
        );
    }
}

#[test]
fn anchors_and_merge_keys_are_followed() {
    let root = parse("base: &b {x: 1, y: 2}\nown: {<<: *b, y: 3}\nlist: {<<: [*b, {z: 4}]}\nsame: *b\n");
    let number = |keys: &[&str]| root.at(keys).and_then(Node::integer);
    assert_eq!((number(&["own", "x"]), number(&["own", "y"])), (Some(1), Some(3)));
    assert_eq!((number(&["list", "z"]), number(&["same", "y"])), (Some(4), Some(2)));
}

#[test]
fn an_anchor_does_not_reach_into_itself_or_the_next_document() {
    for text in ["a: &a [*a]", "--- &a 1\n--- *a"] {
        let parsed = parse_documents(&Text::of_file(&NamedText::new("f", text)), &KeyPath::default());
        let mut report = Report::default();
        parsed.report_problems(&mut report);
        let findings = report.finish([]);
        assert_eq!(
            findings.iter().map(|finding| finding.code).collect::<Vec<_>>(),
            ["LF0105"],
            "{text}"
        );
    }
}

#[test]
fn a_key_path_reads_like_the_file() {
    let root = parse("a:\n  - b.c:\n      d: [x, y]\n");
    let node = &root.at(&["a"]).unwrap().items()[0].at(&["b.c", "d"]).unwrap().items()[1];
    assert_eq!(&*node.key_path(), "a[0].\"b.c\".d[1]");
}

fn first_value(file: &str) -> Node {
    let parsed = parse_documents(&Text::of_file(&NamedText::new("f", file)), &KeyPath::default());
    assert!(parsed.complete, "{file:?}");
    parsed.documents[0].entries()[0].value.clone()
}

/// Line and column of the first `needle` inside the scalar's text.
fn place_of(file: &str, needle: &str) -> (u32, u32) {
    let text = first_value(file).to_text().unwrap();
    let at = text
        .as_str()
        .find(needle)
        .unwrap_or_else(|| panic!("{:?} in {:?}", needle, text.as_str()));
    let location = text.slice(at..at + 1).location(Arc::from(""));
    (location.line, location.column)
}

#[test]
fn words_inside_a_scalar_are_found_where_they_are_written() {
    for (file, needle, place) in [
        ("a: plain word", "word", (1, 10)),
        ("a: plain\n  on two\n  lines", "lines", (3, 3)),
        ("a: 'it''s  word'", "word", (1, 12)),
        ("a: 'one\n\n  two word'", "word", (3, 7)),
        ("a: \"x\\ty word\"", "word", (1, 10)),
        ("a: \"x\\n\\u00e4\\n word\"", "word", (1, 17)),
        ("a: \"\\ud83d\\ude00 word\"", "word", (1, 18)),
        ("a: \"one \\\n    two word\"", "word", (2, 9)),
        ("a: |\n  one\n  two word\n", "word", (3, 7)),
        ("a: |-\n\n  one\n\n    two word\n", "word", (5, 9)),
        ("a: |2\n   one\n  two word\n", "word", (3, 7)),
        ("a: | # note\n  one\r\n  two word\r\n", "word", (3, 7)),
        ("a: >\n  one\n  two word\n", "word", (3, 7)),
        ("a: >-\n  one\n\n  two\n    more word\n  end\n", "word", (5, 10)),
        ("a: >-\n  one\n\n  two\n    more word\n  end\n", "end", (6, 3)),
        ("a: |\n  ä word\n", "word", (2, 5)),
        ("{\"a\": \"x: 1\\n  image: word\\n\"}", "word", (1, 23)),
    ] {
        assert_eq!(place_of(file, needle), place, "{needle:?} in {file:?}");
    }
}

#[test]
fn nested_strings_of_yaml_lead_back_to_the_file() {
    let outer = first_value("values: |\n  cluster:\n    config: |\n      a: b\n      c: word\n");
    let parsed = parse_documents(&outer.to_text().unwrap(), &KeyPath::default());
    let config = parsed.documents[0].at(&["cluster", "config"]).unwrap();
    let inner = parse_documents(&config.to_text().unwrap(), &KeyPath::default());
    let word = inner.documents[0].get("c").unwrap();
    assert_eq!((word.location().line, word.location().column), (5, 10));
    assert_eq!(&*word.location().key, "c");
}
