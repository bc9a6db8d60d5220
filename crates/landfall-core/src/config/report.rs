//! Collector of findings while the inputs are parsed. It turns them into [`Diagnostics`] once all secrets are known.

use std::ops::Range;
use std::sync::Arc;

use crate::config::codes::CodeDoc;
use crate::config::node::Node;
use crate::config::text::{FileOrigin, Span};
use crate::diagnostic::mask::{self, LineBreaks};
use crate::diagnostic::{Diagnostic, Diagnostics, Label, NamedText, Severity};

/// The findings so far.
#[derive(Debug, Default)]
pub(crate) struct Report {
    drafts: Vec<Draft>,
    secrets: Vec<Span>,
}

/// A finding without excerpts. Its methods add to it, like those of a builder.
#[derive(Debug)]
pub(crate) struct Draft {
    doc: &'static CodeDoc,
    severity: Severity,
    message: String,
    labels: Vec<LabelDraft>,
    help: Option<String>,
}

#[derive(Debug)]
struct LabelDraft {
    span: Span,
    key: Arc<str>,
    text: String,
}

impl Report {
    /// Adds a finding about a node of YAML.
    pub(crate) fn node(&mut self, doc: &'static CodeDoc, node: &Node, message: impl Into<String>) -> &mut Draft {
        self.at(doc, node.span(), node.key_path(), message)
    }

    /// Adds a finding about a piece of text; `key` is the key path as far as it is known.
    pub(crate) fn at(
        &mut self,
        doc: &'static CodeDoc,
        span: Span,
        key: Arc<str>,
        message: impl Into<String>,
    ) -> &mut Draft {
        self.drafts.push(Draft {
            doc,
            severity: doc.severity,
            message: message.into(),
            labels: vec![LabelDraft {
                span,
                key,
                text: String::new(),
            }],
            help: None,
        });
        let last = self.drafts.len() - 1;
        &mut self.drafts[last]
    }

    /// Returns true if there are no findings so far.
    pub(crate) fn is_empty(&self) -> bool {
        self.drafts.is_empty()
    }

    /// Marks a piece of text as secret: no excerpt will show it.
    pub(crate) fn secret(&mut self, span: Span) {
        self.secrets.push(span);
    }

    /// Cuts and masks the excerpts, and sorts the findings by file, in the order of `files`.
    pub(crate) fn finish<'f>(self, files: impl IntoIterator<Item = &'f NamedText>) -> Diagnostics {
        let secrets: Vec<(Arc<FileOrigin>, Range<usize>)> = self.secrets.iter().map(Span::in_file).collect();
        let mut cache: Vec<(Arc<FileOrigin>, Vec<Range<usize>>)> = Vec::new();
        let mut diagnostics = Diagnostics::new();
        for draft in self.drafts {
            let mut labels = draft.labels.into_iter().map(|draft| label(draft, &secrets, &mut cache));
            let Some(primary) = labels.next() else { continue };
            diagnostics.push(Diagnostic {
                severity: draft.severity,
                code: draft.doc.code,
                message: mask::mask_message(&draft.message),
                primary,
                secondary: labels.collect(),
                help: draft.help.as_deref().map(mask::mask_urls),
            });
        }
        let files: Vec<Arc<str>> = files.into_iter().map(|file| file.name.clone()).collect();
        diagnostics.sort(&files);
        diagnostics
    }
}

impl Draft {
    /// Sets the hint that says what to do.
    pub(crate) fn help(&mut self, help: impl Into<String>) -> &mut Draft {
        self.help = Some(help.into());
        self
    }

    /// Adds another position that belongs to the finding.
    pub(crate) fn also(&mut self, node: &Node, text: &str) -> &mut Draft {
        self.labels.push(LabelDraft {
            span: node.span(),
            key: node.key_path(),
            text: text.to_owned(),
        });
        self
    }

    /// Sets a severity other than the usual one.
    pub(crate) fn severity(&mut self, severity: Severity) -> &mut Draft {
        self.severity = severity;
        self
    }
}

fn label(
    draft: LabelDraft,
    secrets: &[(Arc<FileOrigin>, Range<usize>)],
    cache: &mut Vec<(Arc<FileOrigin>, Vec<Range<usize>>)>,
) -> Label {
    let location = draft.span.location(draft.key);
    let (file, range) = draft.span.in_file();
    let known = cache.iter().position(|(cached, _)| Arc::ptr_eq(cached, &file));
    let index = known.unwrap_or_else(|| {
        let mut ranges: Vec<Range<usize>> = secrets
            .iter()
            .filter(|(owner, _)| Arc::ptr_eq(owner, &file))
            .map(|(_, range)| range.clone())
            .collect();
        let is_json = file.content.trim_start().starts_with(['{', '[']);
        let breaks = if is_json { LineBreaks::Escaped } else { LineBreaks::Real };
        ranges.extend(mask::secret_ranges(&file.content, breaks));
        cache.push((file.clone(), ranges));
        cache.len() - 1
    });
    let line_end = file.content[range.start..]
        .find('\n')
        .map_or(file.content.len(), |newline| range.start + newline);
    let covered = &file.content[range.start..range.end.clamp(range.start, line_end)];
    let excerpt = (!file.content.is_empty()).then(|| mask::excerpt(&file.content, range.clone(), &cache[index].1));
    Label {
        length: u32::try_from(covered.trim_end().chars().count()).unwrap_or(u32::MAX),
        location,
        text: draft.text,
        excerpt,
    }
}
