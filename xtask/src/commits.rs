//! Checks the subjects of commits (CONTRIBUTING.md): `area: verb …`, at most 72 characters, one topic.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, bail, ensure};

use crate::say;

/// Maximum length of a subject in characters: `git log` and mail programs show this many on one line.
const LONGEST_SUBJECT: usize = 72;

/// Fails with a line for each fault in the commits from `base`, exclusive, to `HEAD`.
pub(crate) fn check(root: &Path, base: &str) -> anyhow::Result<()> {
    let output = Command::new("git")
        .current_dir(root)
        .args([
            "log",
            "--no-merges",
            "--format=%h %s",
            "--end-of-options",
            &format!("{base}..HEAD"),
        ])
        .output()
        .context("cannot run `git log`")?;
    if !output.status.success() {
        bail!("`git log` failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let log = String::from_utf8(output.stdout).context("`git log` wrote no UTF-8")?;
    let faults = find_faults(&log);
    for fault in &faults {
        say(fault);
    }
    ensure!(
        faults.is_empty(),
        "{} subjects of commits need another look",
        faults.len()
    );
    Ok(())
}

/// Returns a line for each fault in lines of abbreviated commit and subject.
fn find_faults(log: &str) -> Vec<String> {
    let commits = log.lines().filter_map(|line| line.split_once(' '));
    commits
        .flat_map(|(commit, subject)| {
            let problems = find_problems(subject);
            problems
                .into_iter()
                .map(move |problem| format!("{commit} {problem}: {subject}"))
        })
        .collect()
}

fn find_problems(subject: &str) -> Vec<String> {
    let mut problems = Vec::new();
    let length = subject.chars().count();
    if length > LONGEST_SUBJECT {
        problems.push(format!("has {length} characters, {LONGEST_SUBJECT} at most"));
    }
    if subject.contains(';') {
        problems.push("has a `;`: one topic a commit".to_owned());
    }
    if !has_area(subject) {
        problems.push("does not begin with `area: verb`".to_owned());
    }
    problems
}

fn has_area(subject: &str) -> bool {
    subject.split_once(": ").is_some_and(|(area, rest)| {
        let is_area =
            |character: char| character.is_ascii_lowercase() || character.is_ascii_digit() || "-_/".contains(character);
        !area.is_empty() && area.chars().all(is_area) && rest.starts_with(|first: char| first.is_ascii_lowercase())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_of_area_and_verb_has_no_fault() {
        assert!(find_faults("abc1234 client: share the TLS probe between concurrent callers\n").is_empty());
        assert!(find_faults(&format!("abc1234 core: a{}", "b".repeat(65))).is_empty());
    }

    #[test]
    fn every_fault_is_named() {
        assert_eq!(
            find_faults("abc1234 Share the probe; print a command\n"),
            [
                "abc1234 has a `;`: one topic a commit: Share the probe; print a command",
                "abc1234 does not begin with `area: verb`: Share the probe; print a command",
            ]
        );
        assert_eq!(find_faults(&format!("abc1234 core: a{}", "ä".repeat(66))).len(), 1);
        assert_eq!(find_faults("abc1234 Core: add").len(), 1);
        assert_eq!(find_faults("abc1234 core: Add").len(), 1);
    }
}
