use proptest::prelude::*;

use super::*;
use crate::config::node::{KeyPath, Node};
use crate::config::template::scan::{Protected, marks};
use crate::config::yaml;
use crate::diagnostic::NamedText;

/// The values of the pack `os-pack`.
const VALUES: &str = "
options:
  system.uri: '{{ .spectro.pack.os-pack.options.system.registry }}/os:{{.spectro.var.tag}}'
  system.registry: reg.example.com
  loop: '{{.spectro.pack.os-pack.options.loop}}'
charts: {app: {role: '{{.spectro.pack.os-pack.account}}'}}
account: 12
";

fn tree(text: &str) -> Node {
    let text = Text::of_file(&NamedText::new("values", text));
    yaml::parse_document(&text, &KeyPath::default(), &mut Report::default()).unwrap()
}

fn given() -> TemplateValues {
    let mut values = TemplateValues::default();
    values.set("macro.NAME=value").unwrap();
    values.set("var.tag=v1").unwrap();
    values
}

/// Renders a text; all marks count as used.
fn rendered_with(source: &str, packs: &[(&str, &str)]) -> (String, Vec<(&'static str, String)>) {
    let mut table = PackTable::default();
    for (name, values) in packs {
        table.add(0, name, Some(&tree(values)));
    }
    let (values, variables) = (given(), Variables::default());
    let mut templates = Templates::new(&values, table, &variables, Some("1.33.6".to_owned()));
    let mut report = Report::default();
    let text = templates.render(&Text::of_file(&NamedText::new("f", source)), "k", 0, &mut report);
    let used = marks(text.as_str()).map(|mark| (mark, Arc::from("k"))).collect();
    templates.report_problems(&used, &mut report);
    let findings = report.finish([]);
    let findings = findings.iter().map(|finding| (finding.code, finding.message.clone()));
    (text.as_str().to_owned(), findings.collect())
}

fn rendered(source: &str) -> (String, Vec<&'static str>) {
    let (text, findings) = rendered_with(source, &[("os-pack", VALUES)]);
    (text, findings.into_iter().map(|(code, _)| code).collect())
}

#[test]
fn templates_are_replaced_by_text() {
    for (source, expected) in [
        ("a {{.spectro.macro.NAME}} b", "a value b"),
        ("{{ .spectro.macro.NAME }}{{- .spectro.var.tag -}}", "valuev1"),
        ("a {{- .spectro.var.tag -}} \n b {{ .spectro.var.tag }}", "av1b v1"),
        ("{{.spectro.pack.os-pack.options.system.uri}}", "reg.example.com/os:v1"),
        ("{{.spectro.pack.os-pack.charts.app.role}}", "12"),
        ("{{ .Values.x }} {{ .spectro.var.tag }}", "{{ .Values.x }} v1"),
        ("{{ unclosed .spectro.", "{{ unclosed .spectro."),
        ("# {{.spectro.macro.UNKNOWN}}\nx", "# {{.spectro.macro.UNKNOWN}}\nx"),
        ("{{/* .spectro.macro.UNKNOWN */}}x", "x"),
        ("{{ .spectro.system.kubernetes.version | substr 0 4 }}", "1.33"),
        ("{{ .spectro.macro.NAME | upper | trunc 3 | quote }}", "\"VAL\""),
        ("{{ default \"x\" (lower .spectro.macro.NAME) }}", "value"),
    ] {
        assert_eq!(rendered(source), (expected.to_owned(), vec![]), "{source}");
    }
}

#[test]
fn a_template_without_a_value_is_one_finding_and_a_mark() {
    let mark = format!("{UNRESOLVED_START}0{UNRESOLVED_END}");
    for (source, code) in [
        ("{{.spectro.macro.UNKNOWN}}", "LF0401"),
        ("{{.spectro.macro.UNKNOWN | upper}}", "LF0401"),
        ("{{.spectro.pack.os-pack.options.none}}", "LF0401"),
        ("{{.spectro.pack.os-pack.charts}}", "LF0401"),
        ("{{.spectro.pack.none.options.x}}", "LF0401"),
        ("{{.spectro.macro.NAME | genCA}}", "LF0402"),
        ("{{.spectro.macro.UNKNOWN | default (genCA 1) | quote}}", "LF0402"),
        ("{{.spectro.macro.NAME | substr 9 12}}", "LF0402"),
        ("{{.spectro.pack.os-pack.options.loop}}", "LF0403"),
    ] {
        assert_eq!(rendered(source), (mark.clone(), vec![code]), "{source}");
    }
}

#[test]
fn a_default_replaces_what_has_no_value_and_says_so() {
    assert_eq!(
        rendered_with("{{ .spectro.var.none | default \"x\" }}", &[]),
        (
            "x".to_owned(),
            vec![(
                "LF0410",
                "the template `{{.spectro.var.none}}` has no value, so its default is used".to_owned()
            )]
        )
    );
}

#[test]
fn one_reason_at_many_places_is_one_finding() {
    let (_, findings) = rendered_with(&"{{.spectro.macro.X}}\n".repeat(4), &[]);
    assert_eq!(
        findings,
        [(
            "LF0401",
            "the template `{{.spectro.macro.X}}` has no value, here and at 3 further places".to_owned()
        )]
    );
}

#[test]
fn values_that_multiply_each_other_are_stopped() {
    let mut values = "options:\n  l0: x\n".to_owned();
    for level in 1..40 {
        let inner = format!("{{{{.spectro.pack.p.options.l{}}}}}", level - 1);
        values.push_str(&format!("  l{level}: '{}'\n", inner.repeat(10)));
    }
    let (_, findings) = rendered_with("{{.spectro.pack.p.options.l39}}", &[("p", &values)]);
    assert_eq!(findings.iter().map(|(code, _)| *code).collect::<Vec<_>>(), ["LF0107"]);
}

#[test]
fn templates_that_make_many_large_texts_are_stopped_together() {
    let mut values = TemplateValues::default();
    let kibibyte = "x".repeat(1024);
    values.set(&format!("var.long={}", kibibyte.repeat(60))).unwrap();
    let variables = Variables::default();
    let mut templates = Templates::new(&values, PackTable::default(), &variables, None);
    let mut report = Report::default();
    // Each text has 15 MB, and may.
    let source = Text::of_file(&NamedText::new("f", &"{{.spectro.var.long}}".repeat(250)));
    let sizes: Vec<usize> = (0..6)
        .map(|_| templates.render(&source, "k", 0, &mut report).as_str().len())
        .collect();
    assert_eq!(sizes[..4], [15_360_000; 4]);
    assert!(
        sizes.iter().sum::<usize>() <= TEXTS_BYTES_MAX + 2 * source.as_str().len(),
        "{sizes:?}"
    );
    let codes: Vec<_> = report.finish([]).iter().map(|finding| finding.code).collect();
    assert!(codes.contains(&"LF0107"), "{codes:?}");
}

#[test]
fn a_long_chain_of_values_ends_without_recursing_further() {
    let mut values = "l0: x\n".to_owned();
    for level in 1..10_000 {
        values.push_str(&format!("l{level}: '{{{{.spectro.pack.p.l{}}}}}'\n", level - 1));
    }
    let (_, findings) = rendered_with("{{.spectro.pack.p.l9999}}", &[("p", &values)]);
    assert_eq!(findings.iter().map(|(code, _)| *code).collect::<Vec<_>>(), ["LF0107"]);
    assert_eq!(
        rendered_with("{{.spectro.pack.p.l90}}", &[("p", &values)]),
        ("x".to_owned(), vec![])
    );
}

proptest! {
    #[test]
    fn protecting_and_restoring_gives_the_text_back(source in "(\\{\\{|\\}\\}|\\.spectro\\.|[a-z .\n]){0,12}") {
        let protected = Protected::new(&source);
        prop_assert_eq!(protected.restore(&protected.content), source);
    }

    #[test]
    fn a_text_without_templates_of_ours_stays(source in "(\\{\\{|\\}\\}|[a-z .\n]){0,12}") {
        prop_assert_eq!(rendered(&source), (source, vec![]));
    }

    #[test]
    fn any_template_is_rendered_without_panic(inner in "(\\.spectro\\.[a-z.]{0,4}|[a-z\"`()| .0-9-]|substr|default){0,12}") {
        let _ = rendered(&format!("{{{{{inner}}}}}"));
    }
}
