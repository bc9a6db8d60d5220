//! Counts what was looked at, and keeps what was wrong for the end: one failure hides no other.

use std::fmt::{Debug, Display};

use landfall_tests_interop::wire::Reply;

/// What was looked at so far.
#[derive(Debug, Default)]
pub(crate) struct Checks {
    passed: usize,
    failed: Vec<String>,
}

impl Checks {
    /// One fact.
    pub(crate) fn that(&mut self, what: impl Display, holds: bool, seen: impl Debug) {
        if holds {
            self.passed += 1;
        } else {
            self.failed.push(format!("{what}: {seen:?}"));
        }
    }

    /// Two values that must be the same.
    pub(crate) fn same<T: PartialEq + Debug>(&mut self, what: impl Display, seen: T, expected: T) {
        let holds = seen == expected;
        self.that(what, holds, format!("{seen:?} instead of {expected:?}"));
    }

    /// A status, and the body of an error.
    pub(crate) fn status(&mut self, what: impl Display, reply: &Reply, expected: u16) {
        self.that(
            format!("{what}: status {expected}"),
            reply.status == expected,
            (reply.status, String::from_utf8_lossy(&reply.body)),
        );
    }

    /// A header with exactly this value.
    pub(crate) fn header(&mut self, what: impl Display, reply: &Reply, name: &str, expected: &str) {
        self.same(format!("{what}: `{name}`"), reply.header(name), expected);
    }

    /// An error in the envelope of the specification.
    pub(crate) fn error(&mut self, what: impl Display, reply: &Reply, status: u16, code: &str) {
        self.status(&what, reply, status);
        let error = &reply.json()["errors"][0];
        self.same(format!("{what}: code"), error["code"].as_str(), Some(code));
        let told = error["message"].as_str().is_some_and(|message| !message.is_empty());
        self.that(format!("{what}: message"), told, &reply.body);
    }

    /// How many there were.
    ///
    /// # Panics
    /// When one failed, or fewer were made than there are: a loop that looks at nothing passes nothing.
    pub(crate) fn finish(self, least: usize) {
        assert!(
            self.failed.is_empty(),
            "{} of {} checks failed:\n{}",
            self.failed.len(),
            self.failed.len() + self.passed,
            self.failed.join("\n")
        );
        assert!(self.passed >= least, "only {} checks were made", self.passed);
    }
}
