//! Checks the references to the specification: each names an anchor of `docs/spec.md`.

use std::collections::BTreeSet;

use crate::sources::{SourceFile, Violation};

/// File of the specification.
const SPEC: &str = "docs/spec.md";

/// Beginning of a reference. A `]` ends it.
const REFERENCE: &str = "[spec:";

/// Beginning of an anchor in the specification. A `"` ends it.
const ANCHOR: &str = "<a id=\"";

/// Name in texts that explain the notation.
const PLACEHOLDER: &str = "ANCHOR";

/// Word that stood for the specification while it was outside of the repository.
const OLD_NAME: &str = "SPEC";

/// Path of this file. It names the words that it looks for.
const OWN_PATH: &str = "xtask/src/spec_anchors.rs";

/// Folder of texts for users, who do not read the specification.
const USER_TEXTS: &str = "docs/reference/";

/// Returns a violation for each reference that has no anchor, that is in a text for users or that has the old notation,
/// and for each anchor that exists twice.
pub(crate) fn check_spec_references(files: &[SourceFile]) -> Vec<Violation> {
    let mut anchors = BTreeSet::new();
    let mut violations = Vec::new();
    for file in files.iter().filter(|file| file.path == SPEC) {
        for (line, anchor) in find_marked(&file.text, ANCHOR, '"') {
            if !anchors.insert(anchor) {
                violations.push(violation(file, line, format!("the anchor `{anchor}` exists twice")));
            }
        }
    }
    for file in files {
        for (line, anchor) in find_marked(&file.text, REFERENCE, ']') {
            if file.path.starts_with(USER_TEXTS) {
                let problem = format!("a text for users refers to `{anchor}` of the specification");
                violations.push(violation(file, line, problem));
            } else if anchor != PLACEHOLDER && !anchors.contains(anchor) {
                violations.push(violation(file, line, format!("{SPEC} has no anchor `{anchor}`")));
            }
        }
        if file.path != SPEC && file.path != OWN_PATH {
            violations.extend(find_old_references(file));
        }
    }
    violations
}

/// Finds the words between a beginning and an end on one line, each with its line.
fn find_marked<'a>(text: &'a str, beginning: &str, end: char) -> Vec<(usize, &'a str)> {
    let mut found = Vec::new();
    for (at, line) in text.lines().enumerate() {
        for rest in line.split(beginning).skip(1) {
            // No anchor holds any other character, so a `beginning` in code that looks for it is no reference.
            let length = rest.find(|character: char| !character.is_ascii_alphanumeric() && !"-._".contains(character));
            let Some((word, after)) = length.map(|length| rest.split_at(length)) else {
                continue;
            };
            if !word.is_empty() && after.starts_with(end) {
                found.push((at + 1, word));
            }
        }
    }
    found
}

/// Finds the whole word `SPEC`. A section may follow on the next line, so the word alone counts.
fn find_old_references(file: &SourceFile) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (at, line) in file.text.lines().enumerate() {
        let mut words = line.split(|character: char| !character.is_alphanumeric() && character != '_');
        if words.any(|word| word == OLD_NAME) {
            let problem = format!("`{OLD_NAME}` names no file of this repository: write `{REFERENCE}{PLACEHOLDER}]`");
            violations.push(violation(file, at + 1, problem));
        }
    }
    violations
}

fn violation(file: &SourceFile, line: usize, problem: String) -> Violation {
    Violation {
        path: file.path.clone(),
        line,
        problem,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(files: &[(&str, &str)]) -> Vec<String> {
        let files: Vec<_> = files
            .iter()
            .map(|(path, text)| SourceFile {
                path: (*path).to_owned(),
                text: (*text).to_owned(),
            })
            .collect();
        check_spec_references(&files).iter().map(ToString::to_string).collect()
    }

    /// Text with a reference. Not written out, because this file is checked as well.
    fn refer(anchor: &str) -> String {
        format!("//! Resolves. {REFERENCE}{anchor}]\n")
    }

    #[test]
    fn a_reference_needs_its_anchor() {
        let spec = ("docs/spec.md", "<a id=\"agent\"></a>\n<a id=\"agent.order\"></a>\n");
        assert!(problems(&[spec, ("a.rs", &refer("agent.order"))]).is_empty());
        assert_eq!(
            problems(&[spec, ("a.rs", &refer("agent.retry"))]),
            ["a.rs:1: docs/spec.md has no anchor `agent.retry`"]
        );
        assert_eq!(problems(&[("a.rs", &refer("agent"))]).len(), 1);
    }

    #[test]
    fn texts_for_users_refer_to_nothing() {
        let spec = ("docs/spec.md", "<a id=\"agent\">");
        let found = problems(&[spec, ("docs/reference/cli.md", &refer("agent"))]);
        assert_eq!(
            found,
            ["docs/reference/cli.md:1: a text for users refers to `agent` of the specification"]
        );
    }

    #[test]
    fn the_placeholder_of_an_explanation_needs_no_anchor() {
        assert!(problems(&[("STYLE.md", &refer(PLACEHOLDER))]).is_empty());
    }

    #[test]
    fn an_anchor_exists_once() {
        assert_eq!(
            problems(&[("docs/spec.md", "<a id=\"x\">\n<a id=\"x\">")]),
            ["docs/spec.md:2: the anchor `x` exists twice"]
        );
    }

    #[test]
    fn references_in_the_old_notation_are_found_across_lines() {
        assert_eq!(
            problems(&[("a.rs", "/// As in SPEC\n/// section 7. MY_SPEC SPECIAL")]).len(),
            1
        );
        assert_eq!(problems(&[("STYLE.md", "(SPEC 3)")]).len(), 1);
    }
}
