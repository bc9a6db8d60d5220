//! Evaluation of the templates in a text. Positions in the result are traced to the file.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::config::codes::{self, CodeDoc};
use crate::config::node::{UNRESOLVED_END, UNRESOLVED_START};
use crate::config::report::Report;
use crate::config::template::TemplateValues;
use crate::config::text::{Segment, Text};
use crate::config::yaml::TEXT_BYTES_MAX;

/// The maximum size of a template's value, in bytes. Options that refer to each other could multiply it.
const VALUE_BYTES_MAX: usize = 64 * 1024;

/// The `options` of all packs, by pack name: raw text with templates.
pub(crate) type PackOptions = BTreeMap<String, BTreeMap<String, String>>;

/// The evaluator of templates. It evaluates each name once.
#[derive(Debug)]
pub(crate) struct Templates<'a> {
    values: &'a TemplateValues,
    options: PackOptions,
    known: HashMap<String, Result<Arc<str>, Failure>>,
}

/// The reason why a template has no value.
#[derive(Debug, Clone)]
struct Failure {
    doc: &'static CodeDoc,
    message: String,
    help: String,
}

/// A template `{{…}}` in a text.
struct Found<'t> {
    start: usize,
    end: usize,
    /// The trimmed text between the braces.
    inner: &'t str,
}

impl<'a> Templates<'a> {
    pub(crate) fn new(values: &'a TemplateValues, options: PackOptions) -> Templates<'a> {
        Templates {
            values,
            options,
            known: HashMap::new(),
        }
    }

    /// Returns the text with its templates replaced. A template without a value is reported and becomes a mark, which
    /// is a plain character for YAML.
    pub(crate) fn render(&mut self, text: &Text, key: &str, report: &mut Report) -> Text {
        let source = text.as_str();
        if !source.contains("{{") {
            return text.clone();
        }
        let mut rendered = String::with_capacity(source.len());
        let mut segments = Vec::new();
        let mut copied = 0;
        for found in templates(source) {
            let value = match self.evaluate(found.inner, &mut Vec::new()) {
                Ok(value) => value,
                Err(_) if is_comment(source, found.start) => continue,
                Err(failure) => {
                    report
                        .at(
                            failure.doc,
                            text.slice(found.start..found.end),
                            Arc::from(key),
                            failure.message,
                        )
                        .help(failure.help);
                    Arc::from(format!("{UNRESOLVED_START}{UNRESOLVED_END}"))
                }
            };
            if rendered.len() + value.len() + (source.len() - copied) > TEXT_BYTES_MAX {
                report
                    .at(
                        &codes::TOO_LARGE,
                        text.slice(found.start..found.end),
                        Arc::from(key),
                        format!("the values of its templates make the text larger than {TEXT_BYTES_MAX} bytes"),
                    )
                    .help("shorten the values that its templates stand for");
                break;
            }
            push(&mut segments, rendered.len(), copied, true);
            rendered.push_str(&source[copied..found.start]);
            push(&mut segments, rendered.len(), found.start, false);
            rendered.push_str(&value);
            copied = found.end;
        }
        push(&mut segments, rendered.len(), copied, true);
        rendered.push_str(&source[copied..]);
        Text::derived(text, &rendered, segments)
    }

    fn evaluate(&mut self, inner: &str, stack: &mut Vec<String>) -> Result<Arc<str>, Failure> {
        let name = inner
            .strip_prefix(".spectro.")
            .filter(|name| !name.is_empty() && name.chars().all(is_name_character))
            .ok_or_else(|| Failure {
                doc: &codes::UNSUPPORTED_TEMPLATE,
                message: "cannot evaluate this template: it is more than one name".to_owned(),
                help: "write one look-up such as `{{.spectro.macro.NAME}}`, with the finished value in the macro"
                    .to_owned(),
            })?;
        if let Some(known) = self.known.get(name) {
            return known.clone();
        }
        if stack.iter().any(|open| open == name) {
            return Err(Failure {
                doc: &codes::TEMPLATE_CYCLE,
                message: format!("the template `{{{{.spectro.{name}}}}}` refers to itself"),
                help: "write a value without a template into one of the options".to_owned(),
            });
        }
        stack.push(name.to_owned());
        let value = self.look_up(name, stack);
        stack.pop();
        self.known.insert(name.to_owned(), value.clone());
        value
    }

    fn look_up(&mut self, name: &str, stack: &mut Vec<String>) -> Result<Arc<str>, Failure> {
        let Some(rest) = name.strip_prefix("pack.") else {
            return self.values.get(name).map(Arc::from).ok_or_else(|| Failure {
                doc: &codes::UNRESOLVED_TEMPLATE,
                message: format!("the template `{{{{.spectro.{name}}}}}` has no value"),
                help: match name.split_once('.') {
                    Some(("macro" | "var" | "system", _)) => {
                        format!("give it one: `--set {name}=…`, or in a values file")
                    }
                    _ => "templates are `.spectro.macro.`, `.spectro.var.`, `.spectro.system.` and \
                          `.spectro.pack.<pack>.options.`"
                        .to_owned(),
                },
            });
        };
        // Pack name and key may both contain dots, so the existing packs decide where the name ends.
        let found = self.options.iter().find_map(|(pack, options)| {
            let key = rest.strip_prefix(pack.as_str())?.strip_prefix(".options.")?;
            Some(options.get(key).cloned().ok_or((pack.clone(), key.to_owned())))
        });
        let raw = match found {
            Some(Ok(raw)) => raw,
            Some(Err((pack, key))) => {
                return Err(Failure {
                    doc: &codes::UNRESOLVED_TEMPLATE,
                    message: format!("the template `{{{{.spectro.{name}}}}}` has no value"),
                    help: format!("the pack `{pack}` has no option `{key}`: add it below `options` in its values"),
                });
            }
            None => {
                return Err(Failure {
                    doc: &codes::UNRESOLVED_TEMPLATE,
                    message: format!("the template `{{{{.spectro.{name}}}}}` has no value"),
                    help: "no pack of the profiles has this name; write `.spectro.pack.<pack>.options.<key>`"
                        .to_owned(),
                });
            }
        };
        let mut value = String::new();
        let mut copied = 0;
        for found in templates(&raw) {
            value.push_str(&raw[copied..found.start]);
            value.push_str(&self.evaluate(found.inner, stack)?);
            copied = found.end;
            if value.len() > VALUE_BYTES_MAX {
                return Err(Failure {
                    doc: &codes::TOO_LARGE,
                    message: format!("the value of `{{{{.spectro.{name}}}}}` has more than {VALUE_BYTES_MAX} bytes"),
                    help: "shorten the options that it is made of".to_owned(),
                });
            }
        }
        value.push_str(&raw[copied..]);
        Ok(Arc::from(value))
    }
}

/// A text whose templates are replaced by marks, which are not YAML syntax, so that it can be parsed before the
/// templates are evaluated. `restore` puts the templates back into a parsed text.
pub(crate) struct Protected {
    pub(crate) content: String,
    originals: Vec<String>,
}

impl Protected {
    pub(crate) fn new(source: &str) -> Protected {
        let mut content = String::with_capacity(source.len());
        let mut originals = Vec::new();
        let mut copied = 0;
        for found in templates(source) {
            content.push_str(&source[copied..found.start]);
            content.push(UNRESOLVED_START);
            content.push_str(&originals.len().to_string());
            content.push(UNRESOLVED_END);
            originals.push(source[found.start..found.end].to_owned());
            copied = found.end;
        }
        content.push_str(&source[copied..]);
        Protected { content, originals }
    }

    pub(crate) fn restore(&self, text: &str) -> String {
        let mut restored = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, after)) = rest.split_once(UNRESOLVED_START) {
            restored.push_str(before);
            let mark = after.split_once(UNRESOLVED_END);
            let original = mark.and_then(|(number, _)| self.originals.get(number.parse::<usize>().ok()?));
            match (original, mark) {
                (Some(original), Some((_, behind))) => {
                    restored.push_str(original);
                    rest = behind;
                }
                _ => rest = after,
            }
        }
        restored.push_str(rest);
        restored
    }
}

fn push(segments: &mut Vec<Segment>, at: usize, parent_at: usize, linear: bool) {
    // An empty piece has no position.
    if segments.last().is_some_and(|last: &Segment| last.at == at) {
        segments.pop();
    }
    segments.push(Segment { at, parent_at, linear });
}

/// Returns the templates of a text that contain `.spectro.`, in order.
fn templates(source: &str) -> impl Iterator<Item = Found<'_>> {
    let mut from = 0;
    std::iter::from_fn(move || {
        loop {
            let start = from + source[from..].find("{{")?;
            let end = start + source[start..].find("}}")? + 2;
            // `{{ {{ .x }}`: the last opening braces count.
            let start = start + source[start..end - 2].rfind("{{").unwrap_or(0);
            from = end;
            let inner = source[start + 2..end - 2].trim_matches('-').trim();
            if inner.contains(".spectro.") {
                return Some(Found { start, end, inner });
            }
        }
    })
}

fn is_name_character(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '.' | '-' | '_')
}

/// Returns true if the line is a YAML comment, where a template needs no value.
fn is_comment(source: &str, at: usize) -> bool {
    let line = source[..at].rfind('\n').map_or(0, |newline| newline + 1);
    source[line..].trim_start().starts_with('#')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::diagnostic::NamedText;

    fn options() -> PackOptions {
        let edge = [
            (
                "system.uri",
                "{{ .spectro.pack.os-pack.options.system.registry }}/os:{{.spectro.var.tag}}",
            ),
            ("system.registry", "reg.example.com"),
            ("loop", "{{.spectro.pack.os-pack.options.loop}}"),
        ];
        BTreeMap::from([(
            "os-pack".to_owned(),
            edge.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
        )])
    }

    fn rendered(source: &str) -> (String, Vec<&'static str>) {
        let mut values = TemplateValues::default();
        values.set("macro.NAME=value").unwrap();
        values.set("var.tag=v1").unwrap();
        let mut report = Report::default();
        let text =
            Templates::new(&values, options()).render(&Text::of_file(&NamedText::new("f", source)), "k", &mut report);
        let codes = report.finish([]).iter().map(|finding| finding.code).collect();
        (text.as_str().to_owned(), codes)
    }

    #[test]
    fn templates_are_replaced_by_text() {
        for (source, expected) in [
            ("a {{.spectro.macro.NAME}} b", "a value b"),
            ("{{ .spectro.macro.NAME }}{{- .spectro.var.tag -}}", "valuev1"),
            ("{{.spectro.pack.os-pack.options.system.uri}}", "reg.example.com/os:v1"),
            ("{{ .Values.x }} {{ .spectro.var.tag }}", "{{ .Values.x }} v1"),
            ("{{ unclosed .spectro.", "{{ unclosed .spectro."),
            ("# {{.spectro.macro.UNKNOWN}}\nx", "# {{.spectro.macro.UNKNOWN}}\nx"),
        ] {
            assert_eq!(rendered(source), (expected.to_owned(), vec![]), "{source}");
        }
    }

    #[test]
    fn a_template_without_a_value_is_one_finding_and_a_mark() {
        let mark = format!("{UNRESOLVED_START}{UNRESOLVED_END}");
        for (source, code) in [
            ("{{.spectro.macro.UNKNOWN}}", "LF0401"),
            ("{{.spectro.pack.os-pack.options.none}}", "LF0401"),
            ("{{.spectro.pack.none.options.x}}", "LF0401"),
            ("{{.spectro.macro.NAME | upper}}", "LF0402"),
            ("{{.spectro.pack.os-pack.options.loop}}", "LF0403"),
        ] {
            assert_eq!(rendered(source), (mark.clone(), vec![code]), "{source}");
        }
    }

    #[test]
    fn options_that_multiply_each_other_are_stopped() {
        let mut pack = BTreeMap::new();
        for level in 1..40 {
            let inner = format!("{{{{.spectro.pack.p.options.l{}}}}}", level - 1);
            pack.insert(format!("l{level}"), inner.repeat(10));
        }
        pack.insert("l0".to_owned(), "x".to_owned());
        let values = TemplateValues::default();
        let mut report = Report::default();
        let file = Text::of_file(&NamedText::new("f", "{{.spectro.pack.p.options.l39}}"));
        Templates::new(&values, BTreeMap::from([("p".to_owned(), pack)])).render(&file, "k", &mut report);
        assert_eq!(
            report.finish([]).iter().map(|finding| finding.code).collect::<Vec<_>>(),
            ["LF0107"]
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
    }
}
