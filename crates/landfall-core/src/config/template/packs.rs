//! Look-ups into the values of packs: `{{.spectro.pack.<pack>.<path>}}` [spec:profile.templates].
//!
//! Names of packs and keys may hold dots, so the names that exist decide where one ends. The values of a pack are
//! parsed when a template first names the pack, with the templates in them protected from the parser.

use std::collections::HashMap;

use crate::config::node::{KeyPath, Node, NodeValue};
use crate::config::template::scan::Protected;
use crate::config::text::Text;
use crate::config::yaml;

/// The values of all packs, by the order in which the profiles name them.
#[derive(Debug, Default)]
pub(crate) struct PackTable {
    packs: Vec<PackEntry>,
    /// The index of the first pack of each name.
    index_of: HashMap<String, usize>,
}

#[derive(Debug)]
struct PackEntry {
    /// The number of the profile that holds the pack.
    profile: usize,
    /// The node of the values: a mapping, or a string of YAML.
    values: Option<Node>,
    /// The parsed values; `None` until a template names the pack.
    parsed: Option<Parsed>,
}

#[derive(Debug)]
enum Parsed {
    /// The values are not YAML.
    Unreadable,
    /// A mapping, whose scalars hold templates.
    Tree(Node),
    /// A parsed string, whose scalars hold marks in the place of templates.
    Text(Node, Protected),
}

/// The answer to a look-up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PackValue {
    /// The text of a value, with its templates, and the number of the profile that holds it.
    Found { raw: String, profile: usize },
    /// No pack has the name.
    NoPack,
    /// The values of the pack are not YAML.
    Unreadable { pack: String },
    /// The pack has no value at this path.
    NoValue { pack: String, path: String },
    /// The value at the path is empty, a list or a mapping.
    NotText {
        pack: String,
        path: String,
        kind: &'static str,
    },
}

impl PackTable {
    /// Adds a pack. Of several packs with one name, the first is looked up.
    pub(crate) fn add(&mut self, profile: usize, name: &str, values: Option<&Node>) {
        self.index_of.entry(name.to_owned()).or_insert(self.packs.len());
        self.packs.push(PackEntry {
            profile,
            values: values.cloned(),
            parsed: None,
        });
    }

    /// Looks up the text after `.spectro.pack.`.
    pub(super) fn look_up(&mut self, name: &str) -> PackValue {
        // Of `a` and `a.b`, the longer name wins.
        let ends = name.match_indices('.').map(|(dot, _)| dot).rev();
        let found = ends
            .filter_map(|dot| Some((*self.index_of.get(&name[..dot])?, dot)))
            .next();
        let Some((index, dot)) = found else {
            return PackValue::NoPack;
        };
        let (pack, path) = (name[..dot].to_owned(), name[dot + 1..].to_owned());
        let Some(entry) = self.packs.get_mut(index) else {
            return PackValue::NoPack;
        };
        let profile = entry.profile;
        let parsed = entry.parsed.get_or_insert_with(|| parse(entry.values.as_ref()));
        let (root, protected) = match parsed {
            Parsed::Unreadable => return PackValue::Unreadable { pack },
            Parsed::Tree(root) => (&*root, None),
            Parsed::Text(root, protected) => (&*root, Some(&*protected)),
        };
        let Some(node) = value_at(root, &path) else {
            return PackValue::NoValue { pack, path };
        };
        match node.raw_text().filter(|_| !node.is_null()) {
            Some(text) => PackValue::Found {
                raw: protected.map_or_else(|| text.to_owned(), |protected| protected.restore(text)),
                profile,
            },
            None => PackValue::NotText {
                pack,
                path,
                kind: node.kind(),
            },
        }
    }
}

fn parse(values: Option<&Node>) -> Parsed {
    let Some(values) = values else {
        return Parsed::Unreadable;
    };
    if matches!(values.value, NodeValue::Mapping(_)) {
        return Parsed::Tree(values.clone());
    }
    let Some(text) = values.to_text() else {
        return Parsed::Unreadable;
    };
    let protected = Protected::new(text.as_str());
    let text = Text::derived(&text, &protected.content, Vec::new());
    let documents = yaml::parse_documents(&text, &KeyPath::default()).documents;
    match documents.into_iter().find(|document| !document.is_null()) {
        Some(root) => Parsed::Text(root, protected),
        None => Parsed::Unreadable,
    }
}

/// Returns the value at a path of keys with dots between them, where keys may hold dots: the longest key that leads to
/// a value wins. Items of lists are numbered from 0.
fn value_at<'n>(node: &'n Node, path: &str) -> Option<&'n Node> {
    let ends = path.match_indices('.').map(|(dot, _)| dot).chain([path.len()]).rev();
    for end in ends {
        let key = &path[..end];
        let below = match &node.value {
            NodeValue::Mapping(entries) => entries
                .iter()
                .find(|entry| entry.key.raw_text() == Some(key))
                .map(|entry| &entry.value),
            NodeValue::Sequence(items) => key.parse::<usize>().ok().and_then(|index| items.get(index)),
            NodeValue::Scalar(_) | NodeValue::Unknown => None,
        };
        let Some(below) = below else { continue };
        if end == path.len() {
            return Some(below);
        }
        if let Some(found) = value_at(below, &path[end + 1..]) {
            return Some(found);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::report::Report;
    use crate::diagnostic::NamedText;

    fn table() -> PackTable {
        let text = "
- |
  account: 12
  options: {system.uri: 'a:{{.spectro.var.x}}'}
  charts:
    karpenter: {version: '1.2', empty: }
    list: [{image: x}]
- options: {system: {uri: nested}}
- 'a: [b'
";
        let text = Text::of_file(&NamedText::new("f", text));
        let root = yaml::parse_document(&text, &KeyPath::default(), &mut Report::default()).unwrap();
        let mut table = PackTable::default();
        for (name, index) in [("karpenter-1", 0), ("os.pack", 1), ("broken", 2)] {
            table.add(index, name, root.items().get(index));
        }
        table.add(3, "karpenter-1", None);
        table.add(3, "bare", None);
        table
    }

    #[test]
    fn any_path_into_the_values_is_looked_up() {
        for (name, raw, profile) in [
            ("karpenter-1.account", "12", 0),
            ("karpenter-1.charts.karpenter.version", "1.2", 0),
            ("karpenter-1.options.system.uri", "a:{{.spectro.var.x}}", 0),
            ("karpenter-1.charts.list.0.image", "x", 0),
            ("os.pack.options.system.uri", "nested", 1),
        ] {
            let found = PackValue::Found {
                raw: raw.to_owned(),
                profile,
            };
            assert_eq!(table().look_up(name), found, "{name}");
        }
    }

    #[test]
    fn a_missing_pack_and_a_missing_path_are_told_apart() {
        for (name, expected) in [
            ("karpenter.account", PackValue::NoPack),
            ("karpenter-1", PackValue::NoPack),
            (
                "karpenter-1.charts.karpenter.role",
                PackValue::NoValue {
                    pack: "karpenter-1".to_owned(),
                    path: "charts.karpenter.role".to_owned(),
                },
            ),
            (
                "karpenter-1.charts.karpenter",
                PackValue::NotText {
                    pack: "karpenter-1".to_owned(),
                    path: "charts.karpenter".to_owned(),
                    kind: "a mapping",
                },
            ),
            (
                "karpenter-1.charts.karpenter.empty",
                PackValue::NotText {
                    pack: "karpenter-1".to_owned(),
                    path: "charts.karpenter.empty".to_owned(),
                    kind: "nothing (null)",
                },
            ),
            (
                "broken.a",
                PackValue::Unreadable {
                    pack: "broken".to_owned(),
                },
            ),
            (
                "bare.a",
                PackValue::Unreadable {
                    pack: "bare".to_owned(),
                },
            ),
        ] {
            assert_eq!(table().look_up(name), expected, "{name}");
        }
    }
}
