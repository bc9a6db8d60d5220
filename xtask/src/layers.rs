//! Checks the direction of the dependencies (ARCHITECTURE.md, "Workspace"): the core stays pure, `landfall-oci` and
//! `landfall-host` do not know each other, nothing that ships needs the test kit, and there is one crate per job.

use std::collections::BTreeMap;
use std::process::Command;

use anyhow::{Context, bail, ensure};

use crate::say;

/// A crate must not reach any of these others by normal dependencies, directly or not.
struct Rule {
    crate_name: &'static str,
    forbidden: &'static [&'static str],
    because: &'static str,
}

const RULES: &[Rule] = &[
    Rule {
        crate_name: "landfall-core",
        forbidden: &[
            "aws-lc-rs",
            "axum",
            "fs-err",
            "http",
            "hyper",
            "kube",
            "mio",
            "reqwest",
            "rustix",
            "rustls",
            "tempfile",
            "tokio",
            "tracing",
            "landfall-oci",
            "landfall-host",
            "landfall-agent",
            "landfall",
        ],
        because: "the core is pure: no I/O, no clock, no async",
    },
    Rule {
        crate_name: "landfall-oci",
        forbidden: &["landfall-host", "landfall-agent", "landfall", "kube", "tonic"],
        because: "registries and stores know neither this host nor who uses them",
    },
    Rule {
        crate_name: "landfall-host",
        forbidden: &["landfall-oci", "landfall-agent", "landfall", "kube", "reqwest", "axum"],
        because: "the host's side knows no registry; they meet as byte streams and core types",
    },
    Rule {
        crate_name: "landfall-agent",
        forbidden: &["landfall", "clap"],
        because: "the agent knows no command line",
    },
    Rule {
        crate_name: "landfall",
        forbidden: &[
            "landfall-testkit",
            "ring",
            "openssl-sys",
            "sha2",
            "chrono",
            "serde_yaml",
            "serde_yml",
            "rustls-pemfile",
        ],
        because: "what ships has one crate per job and nothing of the tests",
    },
];

/// Fails with one line per broken rule.
pub(crate) fn check() -> anyhow::Result<()> {
    let mut broken = Vec::new();
    for rule in RULES {
        broken.extend(broken_by(rule, &load_tree(rule.crate_name)?)?);
    }
    for line in &broken {
        say(line);
    }
    ensure!(broken.is_empty(), "{} dependencies go the wrong way", broken.len());
    Ok(())
}

/// The normal (neither dev nor build) dependencies of a crate as `cargo tree` draws them, with the depth in front of
/// each name. Not `cargo metadata`: that one lists optional dependencies of features that nobody turned on.
fn load_tree(crate_name: &str) -> anyhow::Result<String> {
    let output = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--locked",
            "--edges",
            "normal",
            "--prefix",
            "depth",
            "--package",
            crate_name,
        ])
        .output()
        .context("cannot run `cargo tree`")?;
    if !output.status.success() {
        bail!(
            "`cargo tree` of `{crate_name}` failed: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    String::from_utf8(output.stdout).context("`cargo tree` wrote no UTF-8")
}

/// The first way to each forbidden crate, as `core -> helper -> tokio (because)`.
fn broken_by(rule: &Rule, tree: &str) -> anyhow::Result<Vec<String>> {
    let mut found: BTreeMap<&str, String> = BTreeMap::new();
    let mut way: Vec<&str> = Vec::new();
    for line in tree.lines().filter(|line| !line.is_empty()) {
        let (depth, name) = parse_line(line).with_context(|| format!("cannot read `{line}` of `cargo tree`"))?;
        way.truncate(depth);
        way.push(name);
        if rule.forbidden.contains(&name) {
            found
                .entry(name)
                .or_insert_with(|| format!("{} ({})", way.join(" -> "), rule.because));
        }
    }
    Ok(found.into_values().collect())
}

/// `2tokio v1.54.1 (*)` is depth 2, `tokio`.
fn parse_line(line: &str) -> Option<(usize, &str)> {
    let name_at = line.find(|character: char| !character.is_ascii_digit())?;
    let (depth, rest) = line.split_at(name_at);
    Some((depth.parse().ok()?, rest.split_whitespace().next()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PURE: Rule = Rule {
        crate_name: "core",
        forbidden: &["tokio"],
        because: "pure",
    };

    #[test]
    fn a_forbidden_crate_behind_another_is_found_with_the_way_to_it() {
        let tree = "0core v0.1.0 (/src/core)\n1serde v1.0.0\n1helper v2.0.0\n2tokio v1.0.0\n1tokio v1.0.0 (*)\n";
        assert_eq!(broken_by(&PURE, tree).unwrap(), ["core -> helper -> tokio (pure)"]);
    }

    #[test]
    fn a_clean_tree_breaks_no_rule() {
        assert!(
            broken_by(&PURE, "0core v0.1.0 (/src/core)\n1tokio-like v1.0.0\n")
                .unwrap()
                .is_empty()
        );
    }

    #[test]
    fn a_line_that_is_no_crate_is_an_error_and_not_silence() {
        assert!(broken_by(&PURE, "core v0.1.0\n").is_err());
    }
}
