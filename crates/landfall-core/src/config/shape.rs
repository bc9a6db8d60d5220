//! Comparison of a YAML tree with the table of known keys: wrong types, empty values, unknown and misplaced keys.
//!
//! Later readers may silently skip what they do not understand, because each wrong value was reported here.

use std::sync::Arc;

use crate::config::codes;
use crate::config::node::{MappingEntry, Node, NodeValue};
use crate::config::report::Report;
use crate::wording::nearest;

#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) shape: Shape,
    /// One sentence for the docs, the schema and editors.
    pub(crate) about: &'static str,
    /// The present spelling, if this is an old one.
    pub(crate) replaced_by: Option<&'static str>,
}

/// The expected form of a value.
#[derive(Debug)]
pub(crate) enum Shape {
    /// A string.
    Text,
    /// A string, number or boolean; may be null.
    Label,
    Bool,
    /// A whole number in this range.
    Number(i64, i64),
    /// A file mode.
    Mode,
    /// One of these words.
    Word(&'static [&'static str]),
    /// A mapping of these keys.
    Map(&'static [Key], Unknown),
    /// A mapping of any keys.
    MapOf(&'static Shape),
    List(&'static Shape),
    /// One value, or a list of them.
    OneOrMany(&'static Shape),
    /// A list; a single mapping is accepted with a warning.
    Steps(&'static Shape),
    /// A mapping, or a string of YAML that holds one.
    Yaml,
    /// Any value: another reader checks it, or Landfall does not use it.
    Any,
}

/// The severity of an unknown key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unknown {
    Silent,
    Warning,
    Error,
}

/// Keys that are often written at a wrong indentation, with the correct path.
const OFTEN_MISPLACED: [(&str, &str); 5] = [
    ("externalRegistries", "stylus.externalRegistries"),
    ("registryMappingRules", "stylus.externalRegistries.registryMappingRules"),
    ("registryCredentials", "stylus.registryCredentials"),
    ("imageRedirectWebhook", "stylus.imageRedirectWebhook"),
    ("managementMode", "stylus.managementMode"),
];

/// Reports all differences between `node` and `shape`.
pub(crate) fn check_shape(node: &Node, shape: &Shape, report: &mut Report) {
    if node.is_unresolved() {
        return;
    }
    let may_be_null = matches!(
        shape,
        Shape::Label | Shape::Map(..) | Shape::MapOf(_) | Shape::List(_) | Shape::Steps(_) | Shape::Yaml | Shape::Any
    );
    if node.is_null() {
        if !may_be_null {
            report_null(node, shape, report);
        }
        return;
    }
    let fits = match shape {
        Shape::Any => true,
        Shape::Label => node.text().is_some(),
        Shape::Text => node.kind() == "a string",
        Shape::Bool => node.boolean().is_some(),
        Shape::Number(min, max) => return check_number(node, *min, *max, shape, report),
        Shape::Mode => return check_mode(node, shape, report),
        Shape::Word(words) => return check_word(node, words, shape, report),
        Shape::Map(keys, unknown) => return check_map(node, keys, *unknown, shape, report),
        Shape::MapOf(inner) => {
            for entry in node.entries() {
                check_shape(&entry.value, inner, report);
            }
            matches!(node.value, NodeValue::Mapping(_))
        }
        Shape::List(inner) => {
            for item in node.items() {
                check_shape(item, inner, report);
            }
            matches!(node.value, NodeValue::Sequence(_))
        }
        Shape::OneOrMany(inner) => {
            if !matches!(node.value, NodeValue::Sequence(_)) {
                return check_shape(node, inner, report);
            }
            for item in node.items() {
                check_shape(item, inner, report);
            }
            true
        }
        Shape::Steps(inner) => {
            if matches!(node.value, NodeValue::Mapping(_)) {
                report
                    .node(
                        &codes::MAP_FOR_LIST,
                        node,
                        format!("`{}` is a mapping where a list belongs", node.path()),
                    )
                    .help("put `- ` in front of its first key and indent the others by two");
            }
            for item in node.items_or_self() {
                check_shape(item, inner, report);
            }
            matches!(node.value, NodeValue::Mapping(_) | NodeValue::Sequence(_))
        }
        Shape::Yaml => node.text().is_some() || matches!(node.value, NodeValue::Mapping(_)),
    };
    if !fits {
        report_wrong_type(node, shape, report);
    }
}

/// Describes a shape, for messages.
pub(crate) fn describe(shape: &Shape) -> String {
    match shape {
        Shape::Text | Shape::Label => "a string".to_owned(),
        Shape::Bool => "`true` or `false`".to_owned(),
        Shape::Number(min, max) => format!("a whole number from {min} to {max}"),
        Shape::Mode => "a file mode".to_owned(),
        Shape::Word(words) => one_of(words),
        Shape::Map(..) | Shape::MapOf(_) => "a mapping".to_owned(),
        Shape::List(_) | Shape::Steps(_) => "a list".to_owned(),
        Shape::OneOrMany(inner) => format!("{} or a list of them", describe(inner)),
        Shape::Yaml => "a mapping, or a string that holds one".to_owned(),
        Shape::Any => "any value".to_owned(),
    }
}

fn one_of(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    quoted.join(" or ")
}

fn report_null(node: &Node, shape: &Shape, report: &mut Report) {
    let draft = report.node(
        &codes::NULL,
        node,
        format!("`{}` has no value, and needs {}", node.path(), describe(shape)),
    );
    if comment_follows(node) {
        draft.help("what follows a `#` is a comment: put the value in quotes");
    } else if matches!(shape, Shape::Text) {
        draft.help("write the value, `\"\"` for an empty string, or remove the key");
    } else {
        draft.help("write the value, or remove the key");
    }
}

/// Returns true if a comment is in the place of the value.
fn comment_follows(node: &Node) -> bool {
    let span = node.span();
    let rest = span.text.as_str().get(span.end..).unwrap_or_default();
    let line = rest.lines().next().unwrap_or_default();
    line.trim_start_matches([':', ' ', '"', '\'']).starts_with('#')
}

fn report_wrong_type(node: &Node, shape: &Shape, report: &mut Report) {
    let draft = report.node(
        &codes::WRONG_TYPE,
        node,
        match node.path().to_string().as_str() {
            "" => format!("the file holds {}, and should hold {}", node.kind(), describe(shape)),
            path => format!("`{path}` takes {}, and this is {}", describe(shape), node.kind()),
        },
    );
    match shape {
        Shape::Text if node.text().is_some() => draft.help("put the value in quotes"),
        Shape::Bool => draft.help("write `true` or `false`, without quotes"),
        Shape::Number(..) if node.text().is_some() => draft.help("write the digits, without quotes"),
        Shape::List(_) => draft.help("write each item on a line of its own, with `- ` in front"),
        _ => draft.help(format!("write {}", describe(shape))),
    };
}

fn check_number(node: &Node, min: i64, max: i64, shape: &Shape, report: &mut Report) {
    match node.integer() {
        Some(number) if (min..=max).contains(&number) => {}
        Some(number) => {
            report
                .node(
                    &codes::OUT_OF_RANGE,
                    node,
                    format!("`{}` cannot be {number}", node.path()),
                )
                .help(format!("write {}", describe(shape)));
        }
        None => report_wrong_type(node, shape, report),
    }
}

fn check_mode(node: &Node, shape: &Shape, report: &mut Report) {
    if node.text().is_none() {
        report_wrong_type(node, shape, report);
        return;
    }
    let Some(mode) = node.mode() else {
        report
            .node(&codes::BAD_MODE, node, format!("`{}` is not a file mode", node.path()))
            .help("write octal digits, such as `0644`");
        return;
    };
    if node.is_quoted() {
        report
            .node(
                &codes::STRING_MODE,
                node,
                format!(
                    "`{}` is in quotes: Kairos then drops all stages of the file",
                    node.path()
                ),
            )
            .help(format!("write `{mode:04o}`, without quotes"));
    }
    // 644 in decimal is the mode 0o1204, which is certainly not meant.
    let decimal = node
        .integer()
        .filter(|_| !node.text().unwrap_or_default().starts_with('0'));
    if let Some(digits) = decimal.map(|number| number.to_string())
        && digits.len() == 3
        && digits.bytes().all(|digit| digit < b'8')
        && mode & 0o7000 != 0
    {
        report
            .node(
                &codes::DECIMAL_MODE,
                node,
                format!("`{digits}` is a decimal number here, and means the mode {mode:04o}"),
            )
            .help(format!("write `0{digits}`"));
    }
}

fn check_word(node: &Node, words: &[&str], shape: &Shape, report: &mut Report) {
    match node.text() {
        None => report_wrong_type(node, shape, report),
        Some(text) if words.contains(&text) => {}
        Some(text) => {
            let draft = report.node(
                &codes::UNKNOWN_WORD,
                node,
                format!("`{}` cannot be `{text}`", node.path()),
            );
            draft.help(match nearest(text, words.iter().copied()) {
                Some(word) => format!("did you mean `{word}`? It takes {}", one_of(words)),
                None => format!("write {}", one_of(words)),
            });
        }
    }
}

fn check_map(node: &Node, keys: &'static [Key], unknown: Unknown, shape: &Shape, report: &mut Report) {
    if !matches!(node.value, NodeValue::Mapping(_)) {
        report_wrong_type(node, shape, report);
        return;
    }
    for entry in node.entries() {
        let Some(name) = entry.key.text() else { continue };
        match keys.iter().find(|key| key.name == name) {
            Some(key) => {
                if let Some(now) = key.replaced_by {
                    report
                        .node(&codes::DEPRECATED, &entry.key, format!("`{name}` is an old spelling"))
                        .help(format!("write `{now}`"));
                }
                check_shape(&entry.value, &key.shape, report);
            }
            None => report_unknown(node, entry, name, keys, unknown, report),
        }
    }
}

fn report_unknown(
    node: &Node,
    entry: &MappingEntry,
    name: &str,
    keys: &'static [Key],
    unknown: Unknown,
    report: &mut Report,
) {
    let place = node.path().key(name);
    let misplaced = OFTEN_MISPLACED.iter().find(|(known, _)| *known == name);
    let span = entry.key.span();
    let key: Arc<str> = Arc::from(place.to_string());
    let is_ours = key.starts_with("landfall");
    if let Some((_, belongs)) = misplaced.filter(|_| !is_ours) {
        let message = format!("`{place}` has no effect: the key belongs at `{belongs}`");
        report
            .at(&codes::MISPLACED, span, key, message)
            .help(format!("indent it so that it stands at `{belongs}`"));
        return;
    }
    let doc = match unknown {
        Unknown::Silent => return,
        Unknown::Warning => &codes::UNKNOWN_KEY,
        Unknown::Error => &codes::UNKNOWN_OWN_KEY,
    };
    let current = keys.iter().filter(|key| key.replaced_by.is_none()).map(|key| key.name);
    let help = match nearest(name, current.clone()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("known keys here: {}", current.collect::<Vec<_>>().join(", ")),
    };
    report.at(doc, span, key, format!("unknown key `{place}`")).help(help);
}
