//! Builder of a tree of nodes from the parser's events, within limits.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use serde_saphyr::granit_parser::{ErrorKind, Event, Options, Parser, ScanError};

use crate::config::codes::{self, CodeDoc};
use crate::config::node::{KeyPath, MappingEntry, Node, NodeValue, Scalar, UNRESOLVED_END, UNRESOLVED_START};
use crate::config::report::Report;
use crate::config::text::{Span, Text};

/// The maximum size of a text, in bytes.
pub(crate) const TEXT_BYTES_MAX: usize = 16 * 1024 * 1024;
/// The maximum size of all texts together, in bytes.
pub(crate) const TEXTS_BYTES_MAX: usize = 64 * 1024 * 1024;
/// The maximum number of nodes in memory: of a text, or of a document if the documents are visited one by one. A node
/// takes about 300 bytes. Each use of an alias counts its nodes again.
const NODES_MAX: usize = 500_000;
/// The maximum nesting of blocks, and of brackets.
const DEPTH_MAX: usize = 100;
const MERGE_KEY: &str = "<<";

/// The documents and problems of a text.
#[derive(Debug)]
pub(crate) struct Parsed {
    /// The documents that could be parsed.
    pub(crate) documents: Vec<Node>,
    /// True if the text was parsed to its end; else the last problem has the reason.
    pub(crate) complete: bool,
    problems: Vec<Problem>,
}

#[derive(Debug)]
struct Problem {
    doc: &'static CodeDoc,
    span: Span,
    key: Arc<str>,
    message: String,
    help: Option<&'static str>,
    also: Option<Node>,
}

impl Parsed {
    /// Adds the problems to a report.
    pub(crate) fn report_problems(&self, report: &mut Report) {
        for problem in &self.problems {
            let draft = report.at(
                problem.doc,
                problem.span.clone(),
                problem.key.clone(),
                problem.message.clone(),
            );
            if let Some(help) = problem.help {
                draft.help(help);
            }
            if let Some(node) = &problem.also {
                draft.also(node, "first written here");
            }
        }
    }
}

/// The hint for a text that is too large.
const SPLIT: &str = "split the file, or remove what is generated";

/// Parses all documents of a text. `base` is the key path of the text itself.
pub(crate) fn parse_documents(text: &Text, base: &KeyPath) -> Parsed {
    build(text, base, None)
}

/// Parses the documents of a text one by one: only the one that `visit` gets is in memory. The documents that could be
/// parsed are visited, also if a later one cannot.
pub(crate) fn visit_documents(text: &Text, base: &KeyPath, mut visit: impl FnMut(&Node)) -> Parsed {
    build(text, base, Some(&mut visit))
}

fn build<'a>(text: &'a Text, base: &'a KeyPath, visit: Option<Visitor<'a>>) -> Parsed {
    let mut builder = Builder {
        text,
        base,
        stack: Vec::new(),
        anchors: HashMap::new(),
        nodes: 0,
        documents: Vec::new(),
        visit,
        problems: Vec::new(),
    };
    let complete = builder.run();
    Parsed {
        documents: builder.documents,
        complete,
        problems: builder.problems,
    }
}

/// A visitor of finished documents.
type Visitor<'a> = &'a mut (dyn FnMut(&Node) + 'a);

struct Builder<'a> {
    text: &'a Text,
    base: &'a KeyPath,
    stack: Vec<Frame>,
    /// Finished nodes with an anchor, and the number of nodes in each.
    anchors: HashMap<usize, (Node, usize)>,
    nodes: usize,
    documents: Vec<Node>,
    /// The visitor of finished documents, which are not kept then.
    visit: Option<Visitor<'a>>,
    problems: Vec<Problem>,
}

/// A collection that is not finished yet.
struct Frame {
    kind: FrameKind,
    anchor: usize,
    start: usize,
    key: Option<Range<usize>>,
    path: KeyPath,
    nodes_before: usize,
}

enum FrameKind {
    Sequence(Vec<Node>),
    Mapping {
        entries: Vec<MappingEntry>,
        seen: HashSet<Arc<str>>,
        pending_key: Option<Node>,
    },
}

impl Builder<'_> {
    fn run(&mut self) -> bool {
        let content = self.text.as_str();
        if content.len() > TEXT_BYTES_MAX {
            self.problem(
                &codes::TOO_LARGE,
                0..0,
                format!("the text has {} bytes; the limit is {TEXT_BYTES_MAX}", content.len()),
                Some(SPLIT),
            );
            return false;
        }
        let mut options = Options::default();
        options.set_emit_comments(false);
        options.emit_unresolved_aliases = true;
        options.block_nesting_limit = DEPTH_MAX;
        options.flow_nesting_limit = DEPTH_MAX;
        let parser = Parser::new_from_str_with_options(content, options);
        for step in parser {
            let (event, span) = match step {
                Ok(step) => step,
                Err(error) => {
                    self.syntax_error(&error);
                    return false;
                }
            };
            let start = span.start.byte_offset().unwrap_or(0);
            let end = span.end.byte_offset().unwrap_or(start);
            self.event(event, start, end);
            if self.nodes > NODES_MAX {
                self.problem(
                    &codes::TOO_LARGE,
                    start..end,
                    format!("the text has more than {NODES_MAX} YAML nodes"),
                    Some(SPLIT),
                );
                return false;
            }
        }
        true
    }

    fn event(&mut self, event: Event<'_>, start: usize, end: usize) {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let is_string = tag.is_some_and(|tag| tag.core_suffix() == Some("str"));
                let value = NodeValue::Scalar(Scalar {
                    text: Arc::from(&*text),
                    style,
                    is_string,
                });
                let node = self.node(value, start, end);
                self.finished(node, anchor, 1);
            }
            Event::SequenceStart(_, anchor, _) => self.open(FrameKind::Sequence(Vec::new()), anchor, start),
            Event::MappingStart(_, anchor, _) => {
                let kind = FrameKind::Mapping {
                    entries: Vec::new(),
                    seen: HashSet::new(),
                    pending_key: None,
                };
                self.open(kind, anchor, start);
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(end),
            Event::Alias(id) => self.alias(id, start, end),
            Event::UnresolvedAlias(_) => self.unresolved_alias(start, end),
            Event::DocumentStart(..) => {
                self.anchors.clear();
                if self.visit.is_some() {
                    self.nodes = 0;
                }
            }
            // StreamStart, StreamEnd, DocumentEnd and comments carry no value.
            _ => {}
        }
    }

    fn open(&mut self, kind: FrameKind, anchor: usize, start: usize) {
        let (path, key) = self.next_path_and_key();
        self.stack.push(Frame {
            kind,
            anchor,
            start,
            key,
            path,
            nodes_before: self.nodes,
        });
    }

    fn close(&mut self, end: usize) {
        let Some(frame) = self.stack.pop() else { return };
        let value = match frame.kind {
            FrameKind::Sequence(items) => NodeValue::Sequence(items),
            FrameKind::Mapping { entries, .. } => NodeValue::Mapping(merged(entries)),
        };
        let node = Node::new(value, self.text, frame.start..end, frame.key, frame.path);
        let weight = self.nodes - frame.nodes_before + 1;
        self.finished(node, frame.anchor, weight);
    }

    fn alias(&mut self, id: usize, start: usize, end: usize) {
        let Some((target, weight)) = self.anchors.get(&id) else {
            // The anchored node is not finished: the alias is inside the node that it refers to.
            self.unresolved_alias(start, end);
            return;
        };
        let weight = *weight;
        self.nodes += weight;
        if self.nodes <= NODES_MAX {
            let node = target.clone();
            self.attach(node);
        }
    }

    fn unresolved_alias(&mut self, start: usize, end: usize) {
        let node = self.node(NodeValue::Unknown, start, end);
        self.problems.push(Problem {
            doc: &codes::ALIAS,
            span: node.span(),
            key: node.key_path(),
            message: "a value that starts with `*` is a YAML alias, and there is no anchor of that name".to_owned(),
            help: Some("put the value in quotes, as in `password: \"****\"`"),
            also: None,
        });
        self.finished(node, 0, 1);
    }

    /// Returns path and key of the next node.
    fn next_path_and_key(&self) -> (KeyPath, Option<Range<usize>>) {
        match self.stack.last() {
            None => (self.base.clone(), None),
            Some(frame) => match &frame.kind {
                FrameKind::Sequence(items) => (frame.path.index(items.len()), None),
                FrameKind::Mapping {
                    pending_key: Some(key), ..
                } => (frame.path.key(key.text().unwrap_or("?")), Some(key.range())),
                FrameKind::Mapping { pending_key: None, .. } => (frame.path.clone(), None),
            },
        }
    }

    fn node(&self, value: NodeValue, start: usize, end: usize) -> Node {
        let (path, key) = self.next_path_and_key();
        Node::new(value, self.text, start..end, key, path)
    }

    fn finished(&mut self, node: Node, anchor: usize, weight: usize) {
        self.nodes += 1;
        if anchor != 0 {
            self.anchors.insert(anchor, (node.clone(), weight));
        }
        self.attach(node);
    }

    fn attach(&mut self, node: Node) {
        let Some(frame) = self.stack.last_mut() else {
            match &mut self.visit {
                Some(visit) => visit(&node),
                None => self.documents.push(node),
            }
            return;
        };
        match &mut frame.kind {
            FrameKind::Sequence(items) => items.push(node),
            FrameKind::Mapping {
                entries,
                seen,
                pending_key,
            } => match pending_key.take() {
                None => *pending_key = Some(node),
                Some(key) => {
                    if let Some(text) = key.text()
                        && text != MERGE_KEY
                        && !seen.insert(Arc::from(text))
                    {
                        let first = entries.iter().find(|entry| entry.key.text() == Some(text));
                        self.problems.push(Problem {
                            doc: &codes::DUPLICATE_KEY,
                            span: key.span(),
                            key: Arc::from(frame.path.key(text).to_string()),
                            message: format!("the key `{text}` is written twice in one mapping"),
                            help: Some("remove one of the two; the first is used"),
                            also: first.map(|entry| entry.key.clone()),
                        });
                        return;
                    }
                    entries.push(MappingEntry { key, value: node });
                }
            },
        }
    }

    fn syntax_error(&mut self, error: &ScanError) {
        let content = self.text.as_str();
        let offset = error.marker().byte_offset().unwrap_or(0).min(content.len());
        // An error at the end is shown at the last character that is not blank.
        let offset = if content[content.floor_char_boundary(offset)..].trim().is_empty() {
            content.trim_end().char_indices().next_back().map_or(0, |(at, _)| at)
        } else {
            content.floor_char_boundary(offset)
        };
        let (doc, message, mut help) = explain(error.kind());
        let line = content[..offset].rfind('\n').map_or(0, |newline| newline + 1);
        if follows_template_line(content, offset) {
            help = Some(
                "a template on a line of its own, such as `if`, `range` or `end`, is not evaluated: write the YAML that it makes",
            );
        }
        let offset = match content[line..offset].rfind('\t') {
            // The parser stops after the tab.
            Some(tab) if std::ptr::eq(doc, &codes::TAB) => line + tab,
            _ => offset,
        };
        let length = content[offset..].chars().next().map_or(0, char::len_utf8);
        self.problem(doc, offset..offset + length, message, help);
    }

    fn problem(&mut self, doc: &'static CodeDoc, range: Range<usize>, message: String, help: Option<&'static str>) {
        self.problems.push(Problem {
            doc,
            span: self.text.slice(range),
            key: Arc::from(self.base.to_string()),
            message,
            help,
            also: None,
        });
    }
}

/// Returns true if the line at an offset, or the last one before it that is not blank, is a template and nothing else.
fn follows_template_line(content: &str, offset: usize) -> bool {
    let end = content[offset..]
        .find('\n')
        .map_or(content.len(), |length| offset + length);
    let lines = content[..end].lines().rev().map(str::trim);
    let mut last = lines.filter(|line| !line.is_empty()).take(2);
    last.any(|line| {
        let is_marked = line.starts_with(UNRESOLVED_START) && line.ends_with(UNRESOLVED_END);
        is_marked || (line.starts_with("{{") && line.ends_with("}}"))
    })
}

fn explain(kind: &ErrorKind) -> (&'static CodeDoc, String, Option<&'static str>) {
    match kind {
        ErrorKind::TabNotAllowed
        | ErrorKind::TabInBlockIndentation
        | ErrorKind::TabInIndentation
        | ErrorKind::TabAtBlockScalarStart
        | ErrorKind::TabInPlainScalar => (
            &codes::TAB,
            "a tab stands where YAML wants spaces".to_owned(),
            Some("indent with spaces only"),
        ),
        ErrorKind::RecursionLimitExceeded => (
            &codes::TOO_LARGE,
            format!("the YAML is nested deeper than {DEPTH_MAX} levels"),
            Some("write it flatter, or remove what is generated"),
        ),
        ErrorKind::MissingAnchorOrAliasName | ErrorKind::UnknownAnchor => (
            &codes::ALIAS,
            "a value that starts with `*` or `&` is a YAML alias or anchor".to_owned(),
            Some("put the value in quotes"),
        ),
        ErrorKind::UnexpectedCharacter { .. } | ErrorKind::MappingValueNotAllowed => (
            &codes::YAML_SYNTAX,
            format!("cannot parse YAML: {kind}"),
            Some("check the indentation, and put values with special characters (`: `, `@`, `%`, `{`) in quotes"),
        ),
        _ => (
            &codes::YAML_SYNTAX,
            format!("cannot parse YAML: {kind}"),
            Some("check the indentation and the quotes around this place"),
        ),
    }
}

/// Resolves merge keys (`<<`): appends their entries to the mapping's own entries, which win.
fn merged(entries: Vec<MappingEntry>) -> Vec<MappingEntry> {
    if !entries.iter().any(|entry| entry.key.text() == Some(MERGE_KEY)) {
        return entries;
    }
    let (merges, mut entries): (Vec<MappingEntry>, Vec<MappingEntry>) = entries
        .into_iter()
        .partition(|entry| entry.key.text() == Some(MERGE_KEY));
    let mut seen: HashSet<Arc<str>> = entries
        .iter()
        .filter_map(|entry| entry.key.text())
        .map(Arc::from)
        .collect();
    for merge in merges {
        let sources = match &merge.value.value {
            NodeValue::Sequence(items) => items.as_slice(),
            _ => std::slice::from_ref(&merge.value),
        };
        for entry in sources.iter().flat_map(Node::entries) {
            if entry.key.text().is_some_and(|key| seen.insert(Arc::from(key))) {
                entries.push(entry.clone());
            }
        }
    }
    entries
}
