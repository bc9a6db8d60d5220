//! What we rely on of YAML, whichever library reads it.

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
        let loaded = load(&Text::of_file(&NamedText::new("f", text)), &KeyPath::default());
        let mut report = Report::default();
        loaded.report_problems(&mut report);
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
