//! Reporter of the findings of one check.

use crate::config::codes::CodeDoc;
use crate::config::node::Node;
use crate::config::report::{Draft, Report};
use crate::config::text::Span;

/// A report that adds findings under the code of one check.
pub(crate) struct CheckReporter<'a> {
    pub(super) doc: &'static CodeDoc,
    pub(super) report: &'a mut Report,
}

impl CheckReporter<'_> {
    pub(super) fn span(&mut self, span: Span, node: &Node, message: impl Into<String>) -> &mut Draft {
        self.report.at(self.doc, span, node.key_path(), message)
    }

    pub(super) fn node(&mut self, node: &Node, message: impl Into<String>) -> &mut Draft {
        self.report.node(self.doc, node, message)
    }
}
