//! Collector of findings while the inputs are parsed. It turns them into [`Diagnostics`] once all secrets are known.

use std::ops::Range;
use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};

use crate::config::codes::CodeDoc;
use crate::config::node::Node;
use crate::config::text::{FileOrigin, Span};
use crate::diagnostic::mask::{self, LineBreaks};
use crate::diagnostic::{Diagnostic, Diagnostics, Label, NamedText, Severity};

/// The minimum size of a secret text that messages are searched for, in bytes.
const SECRET_TEXT_BYTES_MIN: usize = 4;

/// An error among the findings.
pub(crate) struct FoundError<'r> {
    pub(crate) doc: &'static CodeDoc,
    pub(crate) span: &'r Span,
    /// The key path as far as it is known.
    pub(crate) key: &'r Arc<str>,
    pub(crate) message: &'r str,
}

/// The findings so far.
#[derive(Debug, Default)]
pub(crate) struct Report {
    drafts: Vec<Draft>,
    secrets: Vec<Span>,
    /// Texts that no message may hold.
    secret_texts: Vec<SecretString>,
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

    /// Marks a text as secret: no message and no hint will hold it. A text of fewer than four bytes is not searched for.
    pub(crate) fn secret_text(&mut self, text: &str) {
        if text.len() >= SECRET_TEXT_BYTES_MIN {
            self.secret_texts.push(SecretString::from(text));
        }
    }

    /// Adds the findings of another report. An error stays one if `decides` returns true for its code and key path;
    /// otherwise it becomes a warning, because nothing depends on the value [spec:user-data.severity].
    pub(crate) fn absorb(&mut self, other: Report, decides: impl Fn(&CodeDoc, &str) -> bool) {
        self.secrets.extend(other.secrets);
        self.secret_texts.extend(other.secret_texts);
        self.drafts.extend(other.drafts.into_iter().map(|mut draft| {
            let key = draft.labels.first().map_or("", |label| &label.key);
            if draft.severity == Severity::Error && !decides(draft.doc, key) {
                draft.severity = Severity::Warning;
            }
            draft
        }));
    }

    /// Returns the errors so far: code, position and message.
    pub(crate) fn errors(&self) -> impl Iterator<Item = FoundError<'_>> {
        self.found(|draft| draft.severity == Severity::Error)
    }

    /// Returns the findings of these codes so far, of any severity.
    pub(crate) fn of_codes<'a>(&'a self, codes: &'a [&'static CodeDoc]) -> impl Iterator<Item = FoundError<'a>> {
        self.found(|draft| codes.contains(&draft.doc))
    }

    fn found<'a>(&'a self, wanted: impl Fn(&Draft) -> bool + 'a) -> impl Iterator<Item = FoundError<'a>> {
        let found = self.drafts.iter().filter(move |draft| wanted(draft));
        found.filter_map(|draft| {
            let label = draft.labels.first()?;
            Some(FoundError {
                doc: draft.doc,
                span: &label.span,
                key: &label.key,
                message: &draft.message,
            })
        })
    }

    /// Masks a message, which may quote an input.
    pub(crate) fn mask(&self, message: &str) -> String {
        mask_texts(mask::mask_message(message), &self.secret_texts)
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
                message: mask_texts(mask::mask_message(&draft.message), &self.secret_texts),
                primary,
                secondary: labels.collect(),
                help: draft
                    .help
                    .as_deref()
                    .map(|help| mask_texts(mask::mask_urls(help), &self.secret_texts)),
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

    /// Adds the position of a piece of text that belongs to the finding.
    pub(crate) fn also_at(&mut self, span: Span, key: Arc<str>, text: &str) -> &mut Draft {
        let text = text.to_owned();
        self.labels.push(LabelDraft { span, key, text });
        self
    }

    /// Sets a severity other than the usual one.
    pub(crate) fn severity(&mut self, severity: Severity) -> &mut Draft {
        self.severity = severity;
        self
    }
}

fn mask_texts(mut message: String, secrets: &[SecretString]) -> String {
    for secret in secrets {
        message = message.replace(secret.expose_secret(), mask::MASK);
    }
    message
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
