//! Counts checks, and reports the failed ones at the end: one failure hides no other.

use std::fmt::{Debug, Display};

use aws_lc_rs::digest::{SHA256, digest};
use landfall_tests_interop::raw_http::RawResponse;

/// Returns the digest of bytes as registries write it.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    let hash = digest(&SHA256, bytes);
    let hex: String = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// The checks so far.
#[derive(Debug, Default)]
pub(crate) struct Checks {
    passed: usize,
    failed: Vec<String>,
}

impl Checks {
    /// Checks one fact.
    pub(crate) fn that(&mut self, what: impl Display, holds: bool, seen: impl Debug) {
        if holds {
            self.passed += 1;
        } else {
            self.failed.push(format!("{what}: {seen:?}"));
        }
    }

    /// Checks that two values are equal.
    pub(crate) fn same<T: PartialEq + Debug>(&mut self, what: impl Display, seen: T, expected: T) {
        let holds = seen == expected;
        self.that(what, holds, format!("{seen:?} instead of {expected:?}"));
    }

    /// Checks a status; a failure shows the body of the error.
    pub(crate) fn status(&mut self, what: impl Display, response: &RawResponse, expected: u16) {
        self.that(
            format!("{what}: status {expected}"),
            response.status == expected,
            (response.status, String::from_utf8_lossy(&response.body)),
        );
    }

    /// Checks that a header has exactly this value.
    pub(crate) fn header(&mut self, what: impl Display, response: &RawResponse, name: &str, expected: &str) {
        self.same(format!("{what}: `{name}`"), response.header(name), expected);
    }

    /// Checks an error in the envelope of the distribution specification.
    pub(crate) fn error(&mut self, what: impl Display, response: &RawResponse, status: u16, code: &str) {
        self.status(&what, response, status);
        let error = &response.json()["errors"][0];
        self.same(format!("{what}: code"), error["code"].as_str(), Some(code));
        let told = error["message"].as_str().is_some_and(|message| !message.is_empty());
        self.that(format!("{what}: message"), told, &response.body);
    }

    /// Reports the failures and the number of checks.
    ///
    /// # Panics
    /// Panics if one failed, or fewer were made than there are: a loop that looks at nothing passes nothing.
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
