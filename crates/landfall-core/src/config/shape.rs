//! Comparison of a YAML tree with the table of known keys: wrong types, empty values, unknown and misplaced keys.
//!
//! Later readers may silently skip what they do not understand, because each wrong value was reported here.
//! [`crate::config::near`] decides what an unknown key probably means.

use std::sync::Arc;

use crate::config::known_key::{Key, Shape, Unknown};
use crate::config::near::{self, Level, Meant, Tolerance};
use crate::config::node::{KeyPath, MappingEntry, Node, NodeValue};
use crate::config::report::Report;
use crate::config::{codes, keys};
use crate::quantity::{ByteSize, Seconds};
use crate::wording::nearest;

/// Words of an old key that became words of another key.
const OLD_WORDS: [(&str, &str); 2] = [("airgap", "local"), ("connected", "central")];

/// Reports all differences between `node` and `shape`.
pub(crate) fn check_shape(node: &Node, shape: &'static Shape, report: &mut Report) {
    let mut check = ShapeCheck {
        root: shape,
        levels: Vec::new(),
        report,
    };
    check.value(node, shape, "");
}

/// A walk over a tree and its table.
struct ShapeCheck<'r> {
    root: &'static Shape,
    /// The mappings from the root to the present one.
    levels: Vec<Level>,
    report: &'r mut Report,
}

impl ShapeCheck<'_> {
    /// Reports all differences between a value and its shape. `pattern` is the value's path in the table.
    fn value(&mut self, node: &Node, shape: &'static Shape, pattern: &str) {
        if node.is_unresolved() {
            return;
        }
        if node.is_null() {
            if !may_be_null(shape) {
                report_null(node, shape, self.report);
            }
            return;
        }
        let items = || format!("{pattern}[]");
        let fits = match shape {
            Shape::Any => true,
            Shape::Label => node.text().is_some(),
            Shape::Text => node.kind() == "a string",
            Shape::Bool => node.boolean().is_some(),
            Shape::Number(min, max) => return check_number(node, *min, *max, shape, self.report),
            Shape::Size(min, max) => return self.check_quantity(node, node.size(), (*min, *max), shape),
            Shape::Time(min, max) => return self.check_quantity(node, node.seconds(), (*min, *max), shape),
            Shape::Owner(_) => return check_number(node, 0, i64::from(u32::MAX), shape, self.report),
            Shape::Mode => return check_mode(node, shape, self.report),
            Shape::Word(words) => return check_word(node, words, shape, self.report),
            Shape::Map(keys, unknown) => {
                if matches!(node.value, NodeValue::Mapping(_)) {
                    return self.mapping(node, keys, *unknown, pattern);
                }
                false
            }
            Shape::MapOrValue(keys, unknown) => match &node.value {
                NodeValue::Mapping(_) => return self.mapping(node, keys, *unknown, pattern),
                _ => return self.value_for_mapping(node, keys, shape),
            },
            Shape::MapOf(inner) => {
                for entry in node.entries() {
                    // A key of a step in the place of a stage is reported with its name.
                    let is_step_key = entry.key.text().is_some_and(keys::is_step_key);
                    if !(is_step_key && pattern.ends_with(".stages")) {
                        self.value(&entry.value, inner, &near::join(pattern, "*"));
                    }
                }
                matches!(node.value, NodeValue::Mapping(_))
            }
            Shape::List(inner) | Shape::Steps(inner) => match &node.value {
                NodeValue::Sequence(list) => {
                    for item in list {
                        self.value(item, inner, &items());
                    }
                    true
                }
                _ if is_item(node, inner) => {
                    report_no_list(node, self.report);
                    return self.value(node, inner, &items());
                }
                _ => false,
            },
            Shape::OneOrMany(inner) => {
                if !matches!(node.value, NodeValue::Sequence(_)) {
                    return self.value(node, inner, pattern);
                }
                for item in node.items() {
                    self.value(item, inner, &items());
                }
                true
            }
            Shape::Foreign(inner) => {
                for item in node.items_or_self() {
                    if matches!(item.value, NodeValue::Mapping(_)) {
                        self.value(item, inner, pattern);
                    }
                }
                true
            }
            Shape::Yaml => node.text().is_some() || matches!(node.value, NodeValue::Mapping(_)),
        };
        if !fits {
            report_wrong_type(node, shape, self.report);
        }
    }

    fn mapping(&mut self, node: &Node, keys: &'static [Key], unknown: Unknown, pattern: &str) {
        self.levels.push(Level {
            pattern: pattern.to_owned(),
            path: node.path().clone(),
        });
        for entry in node.entries() {
            let Some(name) = entry.key.text() else { continue };
            match keys.iter().find(|key| key.name == name) {
                Some(key) => {
                    report_old_key(key, entry, self.report);
                    report_foreign_part(key, entry, self.report);
                    self.value(&entry.value, &key.shape, &near::join(pattern, name));
                }
                None => self.unknown_key(entry, name, keys, unknown),
            }
        }
        self.levels.pop();
    }

    /// Checks a size or a duration, in bytes or seconds.
    fn check_quantity(&mut self, node: &Node, quantity: Option<u64>, (min, max): (u64, u64), shape: &'static Shape) {
        match quantity {
            Some(number) if (min..=max).contains(&number) => {}
            Some(_) => report_out_of_range(node, shape, self.report),
            None => report_wrong_type(node, shape, self.report),
        }
    }

    /// Checks a value in the place of a mapping of which it is the first key's value.
    fn value_for_mapping(&mut self, node: &Node, keys: &'static [Key], shape: &'static Shape) {
        match (node.text(), keys.first()) {
            (Some(text), Some(key)) if node.kind() == "a string" => {
                let message = format!("`{}` is a string where a mapping belongs", node.path());
                let item = if node.path().to_string().ends_with(']') {
                    "- "
                } else {
                    ""
                };
                self.report
                    .node(&codes::VALUE_FOR_MAP, node, message)
                    .help(format!("write `{item}{}: {text}`", key.name));
            }
            _ => report_wrong_type(node, shape, self.report),
        }
    }

    fn unknown_key(&mut self, entry: &MappingEntry, name: &str, keys: &'static [Key], unknown: Unknown) {
        let meant = near::find_meant(
            name,
            &entry.value,
            keys,
            &self.levels,
            self.root,
            Tolerance::of(unknown),
        );
        let here = self
            .levels
            .last()
            .map_or_else(KeyPath::default, |level| level.path.clone());
        report_unknown(entry, name, &here, keys, unknown, meant, self.report);
    }
}

/// Returns true for a shape whose null is an absent value.
fn may_be_null(shape: &Shape) -> bool {
    match shape {
        Shape::Label
        | Shape::Map(..)
        | Shape::MapOrValue(..)
        | Shape::MapOf(_)
        | Shape::List(_)
        | Shape::OneOrMany(_)
        | Shape::Steps(_)
        | Shape::Yaml
        | Shape::Foreign(_)
        | Shape::Any => true,
        Shape::Text
        | Shape::Bool
        | Shape::Number(..)
        | Shape::Size(..)
        | Shape::Time(..)
        | Shape::Owner(_)
        | Shape::Mode
        | Shape::Word(_) => false,
    }
}

/// Returns true if a node that is no list can be its only item.
fn is_item(node: &Node, item: &Shape) -> bool {
    match item {
        Shape::Map(..) => matches!(node.value, NodeValue::Mapping(_)),
        Shape::MapOrValue(..) | Shape::Foreign(_) | Shape::Any => true,
        _ => node.text().is_some(),
    }
}

/// Describes a shape, for messages.
pub(crate) fn describe(shape: &Shape) -> String {
    match shape {
        Shape::Text | Shape::Label => "a string".to_owned(),
        Shape::Bool => "`true` or `false`".to_owned(),
        Shape::Number(min, max) => format!("a whole number from {min} to {max}"),
        Shape::Size(min, u64::MAX) => {
            format!("a size of at least {}, e.g. `2MB` or `1GiB`", ByteSize::new(*min))
        }
        Shape::Size(min, max) => {
            let [min, max] = [min, max].map(|bytes| ByteSize::new(*bytes));
            format!("a size from {min} to {max}, e.g. `2MB` or `1GiB`")
        }
        Shape::Time(min, max) => {
            let [min, max] = [min, max].map(|seconds| Seconds::new(*seconds));
            format!("a duration from {min} to {max}, e.g. `30s` or `5m`")
        }
        Shape::Owner(_) => "the number of a user or group".to_owned(),
        Shape::Mode => "a file mode".to_owned(),
        Shape::Word(words) => one_of(words),
        Shape::Map(..) | Shape::MapOf(_) | Shape::MapOrValue(..) => "a mapping".to_owned(),
        Shape::List(_) | Shape::Steps(_) => "a list".to_owned(),
        Shape::OneOrMany(inner) => format!("{} or a list of them", describe(inner)),
        Shape::Yaml => "a mapping, or a string that holds one".to_owned(),
        Shape::Any | Shape::Foreign(_) => "any value".to_owned(),
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
    let text = node.text();
    match shape {
        Shape::Text if text.is_some() => draft.help("put the value in quotes"),
        Shape::Bool => draft.help(match text {
            Some("true" | "True" | "TRUE" | "false" | "False" | "FALSE") => {
                "write `true` or `false`, without quotes".to_owned()
            }
            Some("yes" | "Yes" | "YES" | "on" | "On" | "ON" | "y" | "Y") => {
                "write `true`: other words for it are strings".to_owned()
            }
            Some("no" | "No" | "NO" | "off" | "Off" | "OFF" | "n" | "N") => {
                "write `false`: other words for it are strings".to_owned()
            }
            _ => "write `true` or `false`".to_owned(),
        }),
        Shape::Owner(true) if text.is_some() => draft.help(match text.filter(|text| !is_digits(text)) {
            Some(text) => {
                let user = if node.path().to_string().ends_with(".group") {
                    "root:"
                } else {
                    ""
                };
                format!("write the name as `ownerstring: {user}{text}`, or its number here")
            }
            None => "write the digits, without quotes".to_owned(),
        }),
        Shape::Owner(false) if text.is_some_and(|text| !is_digits(text)) => {
            draft.help("write the number of the user or group, e.g. `0` for root")
        }
        Shape::Number(..) | Shape::Owner(_) if text.is_some() => {
            let text = text.unwrap_or_default();
            draft.help(match decimal_of(text) {
                Some(number) => format!("write the decimal number: `{number}`"),
                None if is_digits(text) => "write the digits, without quotes".to_owned(),
                None => format!("write {}", describe(shape)),
            })
        }
        Shape::List(_) | Shape::Steps(_) => draft.help("write each item on a line of its own, with `- ` in front"),
        _ => draft.help(format!("write {}", describe(shape))),
    };
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Returns the value of a number that is written in another form than decimal digits: `0x1F90`, `0o17`, `8_080`,
/// `8080.0`, `+80`.
fn decimal_of(text: &str) -> Option<u64> {
    let compact = text.replace('_', "");
    let radix = |prefix: &str, radix| {
        let digits = compact.strip_prefix(prefix)?;
        u64::from_str_radix(digits, radix).ok()
    };
    let plain = || {
        let bare = compact.strip_prefix('+').unwrap_or(&compact);
        let bare = bare.trim_end_matches('0').strip_suffix('.').unwrap_or(bare);
        (is_digits(bare) && bare != text).then(|| bare.parse().ok()).flatten()
    };
    radix("0x", 16)
        .or_else(|| radix("0X", 16))
        .or_else(|| radix("0o", 8))
        .or_else(|| radix("0b", 2))
        .or_else(plain)
}

/// Reports a value or a mapping in the place of a list, and the effect in the program that the file is for.
fn report_no_list(node: &Node, report: &mut Report) {
    let path = node.path().to_string();
    let others = if path.starts_with("stages.") || path.contains(".stages.") {
        ": Kairos drops all stages of the file for it"
    } else if path.starts_with("landfall.") {
        ""
    } else {
        ": Palette takes a list only"
    };
    let is_mapping = matches!(node.value, NodeValue::Mapping(_));
    let doc = if is_mapping {
        &codes::MAP_FOR_LIST
    } else {
        &codes::VALUE_FOR_LIST
    };
    let message = format!("`{path}` is {} where a list belongs{others}", node.kind());
    let draft = report.node(doc, node, message);
    match node.text().filter(|text| !text.contains('\n')) {
        _ if is_mapping => draft.help("put `- ` in front of its first key and indent the others by two"),
        Some(_) => draft.help("write it in brackets, or on a line of its own with `- ` in front"),
        None => draft.help("write it below the key, with `- ` in front"),
    };
}

/// Reports the old spelling of a key.
fn report_old_key(key: &Key, entry: &MappingEntry, report: &mut Report) {
    let Some(now) = key.replaced_by else { return };
    let word = entry.value.text().and_then(new_word);
    report
        .node(
            &codes::DEPRECATED,
            &entry.key,
            format!("`{}` is an old spelling", key.name),
        )
        .help(match word {
            Some(word) => format!("write `{now}: {word}`"),
            None => format!("write `{now}`"),
        });
}

fn new_word(old: &str) -> Option<&'static str> {
    OLD_WORDS.iter().find(|(word, _)| *word == old).map(|(_, new)| *new)
}

/// Reports a key that another program runs, and Landfall does not [spec:user-data.foreign-parts].
fn report_foreign_part(key: &Key, entry: &MappingEntry, report: &mut Report) {
    let value = &entry.value;
    let is_empty = value.is_null() || value.text().is_none() && value.entries().is_empty() && value.items().is_empty();
    let Some(runner) = key.run_by.filter(|_| !is_empty) else {
        return;
    };
    report
        .node(
            &codes::FOREIGN_PART,
            &entry.key,
            format!("Landfall does not run `{}`; it is run by {runner}", key.name),
        )
        .help("nothing is to do where that program runs; for Landfall write it as a step under `stages`");
}

fn check_number(node: &Node, min: i64, max: i64, shape: &Shape, report: &mut Report) {
    match node.integer() {
        Some(number) if (min..=max).contains(&number) => {}
        Some(_) => report_out_of_range(node, shape, report),
        None => report_wrong_type(node, shape, report),
    }
}

fn report_out_of_range(node: &Node, shape: &Shape, report: &mut Report) {
    let value = node.text().unwrap_or_default();
    report
        .node(
            &codes::OUT_OF_RANGE,
            node,
            format!("`{}` cannot be {value}", node.path()),
        )
        .help(format!("write {}", describe(shape)));
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
            let old = new_word(text).filter(|word| words.contains(word));
            draft.help(match old.or_else(|| nearest(text, words.iter().copied())) {
                Some(word) => format!("did you mean `{word}`? It takes {}", one_of(words)),
                None => format!("write {}", one_of(words)),
            });
        }
    }
}

fn report_unknown(
    entry: &MappingEntry,
    name: &str,
    here: &KeyPath,
    keys: &'static [Key],
    unknown: Unknown,
    meant: Meant,
    report: &mut Report,
) {
    let place = here.key(name);
    let span = entry.key.span();
    let key: Arc<str> = Arc::from(place.to_string());
    let at = |places: &[String]| {
        let quoted = places.iter().map(|place| match place.contains('.') {
            true => format!("`{place}`"),
            false => format!("`{place}`, at the top level"),
        });
        quoted.collect::<Vec<String>>().join(" or ")
    };
    let mut finding = |doc, message: String, help: String| {
        report.at(doc, span.clone(), key.clone(), message).help(help);
    };
    match (meant, unknown) {
        (Meant::Here(near), Unknown::Error) => finding(
            &codes::UNKNOWN_OWN_KEY,
            format!("unknown key `{place}`"),
            format!("did you mean `{near}`?"),
        ),
        (Meant::Here(near), Unknown::Step) => finding(
            &codes::IGNORED_STAGE_KEY,
            format!("`{place}` has no effect: Kairos and Landfall know no key `{name}` here"),
            format!("did you mean `{near}`?"),
        ),
        (Meant::Here(near), Unknown::Note | Unknown::Silent) => finding(
            &codes::UNKNOWN_KEY,
            format!("unknown key `{place}`"),
            format!("did you mean `{near}`?"),
        ),
        (Meant::At(places), Unknown::Error) => finding(
            &codes::UNKNOWN_OWN_KEY,
            format!("unknown key `{place}`: it belongs at {}", at(&places)),
            format!("indent it so that it stands at {}", at(&places)),
        ),
        (Meant::At(places), Unknown::Step | Unknown::Note | Unknown::Silent) => finding(
            &codes::MISPLACED,
            format!(
                "`{place}` is at the wrong indentation and has no effect: it belongs at {}",
                at(&places)
            ),
            format!("indent it so that it stands at {}", at(&places)),
        ),
        (Meant::Nothing, Unknown::Silent) => {}
        (Meant::Nothing, Unknown::Note) => finding(
            &codes::UNLISTED_KEY,
            format!("Landfall does not know the key `{place}`"),
            format!("known keys here: {}", names(keys)),
        ),
        (Meant::Nothing, Unknown::Step) => finding(
            &codes::UNLISTED_STEP_KEY,
            format!("Landfall and Kairos know no key `{place}`"),
            format!("known keys here: {}", names(keys)),
        ),
        (Meant::Nothing, Unknown::Error) => finding(
            &codes::UNKNOWN_OWN_KEY,
            format!("unknown key `{place}`"),
            format!("known keys here: {}", names(keys)),
        ),
    }
}

fn names(keys: &[Key]) -> String {
    let current = keys.iter().filter(|key| key.replaced_by.is_none()).map(|key| key.name);
    current.collect::<Vec<_>>().join(", ")
}
