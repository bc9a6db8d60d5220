//! Runs the checks of `cargo xtask check-layers`.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::ensure;

use crate::comments::check_doc_comments;
use crate::crates::{check_circles, group_crates};
use crate::hints::check_hints;
use crate::layers::{check_dependencies, load_members};
use crate::registry_paths::check_registry_paths;
use crate::report::render_report;
use crate::say;
use crate::sources::{SourceFile, Violation, load_sources};
use crate::spec_anchors::check_spec_references;

/// Runs every check. Fails with a line for each violation, and with their number for each rule and crate.
pub(crate) fn check(root: &Path) -> anyhow::Result<()> {
    let files = load_sources(root)?;
    let dependencies = check_dependencies(root)?;
    for line in &dependencies {
        say(line);
    }
    let mut sums = vec![format!("{} dependencies go the wrong way", dependencies.len())];
    let mut total = dependencies.len();
    for (rule, violations) in find_violations(&files) {
        for violation in &violations {
            say(&violation.to_string());
        }
        total += violations.len();
        sums.push(summarise(rule, &violations));
    }
    ensure!(total == 0, "{}", sums.join("\n"));
    Ok(())
}

/// Renders the figures of every crate.
pub(crate) fn report(root: &Path) -> anyhow::Result<String> {
    let files = load_sources(root)?;
    Ok(render_report(&group_crates(&files), &load_members(root)?))
}

/// Returns the violations of each rule on the text of the files.
fn find_violations(files: &[SourceFile]) -> [(&'static str, Vec<Violation>); 5] {
    [
        ("import circles inside crates", check_circles(&group_crates(files))),
        ("references to the specification", check_spec_references(files)),
        (
            "doc comments that begin with a forbidden word",
            check_doc_comments(files),
        ),
        ("paths of the registry's API", check_registry_paths(files)),
        ("hints", check_hints(files)),
    ]
}

/// Returns the number of violations of a rule, and that of each crate, as `3 import circles: bench 1, xtask 2`.
fn summarise(rule: &str, violations: &[Violation]) -> String {
    let mut by_crate: BTreeMap<&str, usize> = BTreeMap::new();
    for violation in violations {
        *by_crate.entry(crate_of(&violation.path)).or_default() += 1;
    }
    let parts: Vec<String> = by_crate
        .into_iter()
        .map(|(name, count)| format!("{name} {count}"))
        .collect();
    let separator = if parts.is_empty() { "" } else { ": " };
    format!("{} {rule}{separator}{}", violations.len(), parts.join(", "))
}

/// Returns the folder of a path that names its crate, or the first folder.
fn crate_of(path: &str) -> &str {
    let inside = path.strip_prefix("crates/").unwrap_or(path);
    inside.split('/').next().unwrap_or(inside)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_looks_at_the_files() {
        // The `E` is escaped, because this file is checked as well.
        let files = [
            SourceFile::new("crates/a/src/lib.rs", "mod b; mod c;"),
            SourceFile::new(
                "crates/a/src/b.rs",
                "use crate::c::C;\n/// Where it is, SP\u{45}C 1.\nconst D: &str = \"/v2/\";",
            ),
            SourceFile::new(
                "crates/a/src/c.rs",
                "use crate::b::B; fn d() { Explanation::new(\"it failed\", \"do it again\") }",
            ),
        ];
        for (rule, violations) in find_violations(&files) {
            assert_eq!(violations.len(), 1, "{rule}");
        }
    }

    #[test]
    fn violations_are_counted_for_each_crate() {
        let violation = |path: &str| Violation {
            path: path.to_owned(),
            line: 1,
            problem: String::new(),
        };
        let violations = ["crates/x/src/a.rs", "bench/src/b.rs", "crates/x/src/c.rs", "STYLE.md"].map(violation);
        assert_eq!(summarise("faults", &violations), "4 faults: STYLE.md 1, bench 1, x 2");
        assert_eq!(summarise("faults", &[]), "0 faults");
    }
}
