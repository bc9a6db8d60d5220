//! Checks the direction of the dependencies between crates (ARCHITECTURE.md, "Workspace"): `landfall -> agent ->
//! {registry, oci, host} -> net -> core`, where the registry also knows `oci`. The core stays pure, nothing that ships
//! needs the test kit, and there is one crate per job. `net` depends on axum only with its feature `serve`, which `oci`
//! and `host` leave off: their trees show axum if that changes.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail};
use serde_json::Value;

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
            "landfall-net",
            "landfall-oci",
            "landfall-registry",
            "landfall-host",
            "landfall-agent",
            "landfall",
        ],
        because: "the core is pure: no I/O, no clock, no async",
    },
    Rule {
        crate_name: "landfall-net",
        forbidden: &[
            "landfall-oci",
            "landfall-registry",
            "landfall-host",
            "landfall-agent",
            "landfall",
            "kube",
            "reqwest",
            "tonic",
        ],
        because: "connections and durable files serve every API and know none",
    },
    Rule {
        crate_name: "landfall-oci",
        forbidden: &[
            "landfall-registry",
            "landfall-host",
            "landfall-agent",
            "landfall",
            "axum",
            "kube",
            "tonic",
        ],
        because: "the registry client and the stores know neither a server, nor this host, nor who uses them",
    },
    Rule {
        crate_name: "landfall-registry",
        forbidden: &["landfall-host", "landfall-agent", "landfall", "clap", "kube", "tonic"],
        because: "the registry server runs without this host and without an agent",
    },
    Rule {
        crate_name: "landfall-host",
        forbidden: &[
            "landfall-oci",
            "landfall-registry",
            "landfall-agent",
            "landfall",
            "axum",
            "kube",
            "reqwest",
        ],
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

/// Crates, each with a forbidden one that is part of its own job and that no other crate may use: the checksums of xz
/// are SHA-256 inside of the format.
const PARTS: &[(&str, &str)] = &[("lzma-rust2", "sha2")];

/// Crates below `crates/` that need no rule, because nothing that ships needs them.
const WITHOUT_RULE: &[&str] = &["landfall-testkit"];

/// Folder of the crates that ship.
const SHIPPED: &str = "crates/";

/// A crate of the workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) name: String,
    /// Folder below the workspace's root.
    pub(crate) folder: String,
    /// Normal dependencies, the optional ones among them.
    pub(crate) dependencies: Vec<String>,
}

/// Returns one line for each broken rule.
pub(crate) fn check_dependencies(root: &Path) -> anyhow::Result<Vec<String>> {
    let members = load_members(root)?;
    let mut broken = check_rules(RULES, &members);
    for rule in RULES {
        if members.iter().any(|member| member.name == rule.crate_name) {
            broken.extend(broken_by(rule, &load_tree(root, rule.crate_name)?)?);
        }
    }
    Ok(broken)
}

/// Loads the crates of the workspace.
pub(crate) fn load_members(root: &Path) -> anyhow::Result<Vec<Member>> {
    let arguments = ["metadata", "--locked", "--no-deps", "--format-version", "1"];
    parse_members(&run_cargo(root, &arguments)?)
}

/// Counts the direct dependencies of a crate that its rule forbids and that are crates of the workspace.
pub(crate) fn count_upward_dependencies(member: &Member, members: &[Member]) -> usize {
    let forbidden = RULES
        .iter()
        .find(|rule| rule.crate_name == member.name)
        .map_or(&[][..], |rule| rule.forbidden);
    let upward = member
        .dependencies
        .iter()
        .filter(|name| forbidden.contains(&name.as_str()));
    upward
        .filter(|name| members.iter().any(|other| other.name == **name))
        .count()
}

fn parse_members(metadata: &str) -> anyhow::Result<Vec<Member>> {
    let metadata: Value = serde_json::from_str(metadata).context("cannot parse the output of `cargo metadata`")?;
    let root = metadata["workspace_root"]
        .as_str()
        .context("`cargo metadata` names no root")?;
    let packages = metadata["packages"]
        .as_array()
        .context("`cargo metadata` lists no packages")?;
    packages.iter().map(|package| parse_member(package, root)).collect()
}

fn parse_member(package: &Value, root: &str) -> anyhow::Result<Member> {
    let manifest = package["manifest_path"].as_str().context("a package has no manifest")?;
    let folder = Path::new(manifest)
        .strip_prefix(root)
        .ok()
        .and_then(Path::parent)
        .and_then(Path::to_str)
        .with_context(|| format!("`{manifest}` lies outside of the workspace"))?;
    let dependencies = package["dependencies"]
        .as_array()
        .context("a package has no list of dependencies")?;
    Ok(Member {
        name: package["name"].as_str().context("a package has no name")?.to_owned(),
        folder: folder.to_owned(),
        // A normal dependency has no kind; the others are `dev` and `build`.
        dependencies: dependencies
            .iter()
            .filter(|dependency| dependency["kind"].is_null())
            .filter_map(|dependency| dependency["name"].as_str())
            .map(str::to_owned)
            .collect(),
    })
}

/// Returns a line for each rule without its crate, and for each crate that ships without its rule.
fn check_rules(rules: &[Rule], members: &[Member]) -> Vec<String> {
    let mut broken = Vec::new();
    for rule in rules {
        if !members.iter().any(|member| member.name == rule.crate_name) {
            let name = rule.crate_name;
            broken.push(format!(
                "`{name}` has a rule in xtask/src/layers.rs and is no crate of the workspace"
            ));
        }
    }
    for member in members.iter().filter(|member| member.folder.starts_with(SHIPPED)) {
        let name = member.name.as_str();
        if !WITHOUT_RULE.contains(&name) && !rules.iter().any(|rule| rule.crate_name == name) {
            broken.push(format!("`{name}` has no rule in xtask/src/layers.rs"));
        }
    }
    broken
}

/// Loads the normal (neither dev nor build) dependencies of a crate as `cargo tree` draws them, with the depth in front
/// of each name. Not `cargo metadata`: that one lists optional dependencies of features that nobody turned on.
fn load_tree(root: &Path, crate_name: &str) -> anyhow::Result<String> {
    let arguments = [
        "tree",
        "--locked",
        "--edges",
        "normal",
        "--prefix",
        "depth",
        "--package",
        crate_name,
    ];
    run_cargo(root, &arguments)
}

fn run_cargo(root: &Path, arguments: &[&str]) -> anyhow::Result<String> {
    let command = arguments[0];
    let output = Command::new(env!("CARGO"))
        .current_dir(root)
        .args(arguments)
        .output()
        .with_context(|| format!("cannot run `cargo {command}`"))?;
    if !output.status.success() {
        bail!(
            "`cargo {}` failed: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    String::from_utf8(output.stdout).with_context(|| format!("`cargo {command}` wrote no UTF-8"))
}

/// Returns the first way to each forbidden crate, as `core -> helper -> tokio (because)`.
fn broken_by(rule: &Rule, tree: &str) -> anyhow::Result<Vec<String>> {
    let mut found: BTreeMap<&str, String> = BTreeMap::new();
    let mut way: Vec<&str> = Vec::new();
    for line in tree.lines().filter(|line| !line.is_empty()) {
        let (depth, name) = parse_line(line).with_context(|| format!("cannot read `{line}` of `cargo tree`"))?;
        way.truncate(depth);
        way.push(name);
        let is_part = depth > 0 && PARTS.contains(&(way[depth - 1], name));
        if rule.forbidden.contains(&name) && !is_part {
            found
                .entry(name)
                .or_insert_with(|| format!("{} ({})", way.join(" -> "), rule.because));
        }
    }
    Ok(found.into_values().collect())
}

/// Parses `2tokio v1.54.1 (*)` as depth 2 and `tokio`.
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

    fn mk_member(name: &str, dependencies: &[&str]) -> Member {
        Member {
            name: name.to_owned(),
            folder: format!("crates/{name}"),
            dependencies: dependencies.iter().map(|name| (*name).to_owned()).collect(),
        }
    }

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

    #[test]
    fn a_rule_without_its_crate_and_a_crate_without_its_rule_are_reported() {
        let members = [mk_member("helper", &[]), mk_member("landfall-testkit", &[])];
        assert_eq!(
            check_rules(&[PURE], &members),
            [
                "`core` has a rule in xtask/src/layers.rs and is no crate of the workspace",
                "`helper` has no rule in xtask/src/layers.rs",
            ]
        );
        assert!(check_rules(&[PURE], &[mk_member("core", &[])]).is_empty());
    }

    #[test]
    fn members_are_parsed_with_their_normal_dependencies() {
        let metadata = r#"{"workspace_root": "/w", "packages": [{
            "name": "landfall-oci", "manifest_path": "/w/crates/landfall-oci/Cargo.toml",
            "dependencies": [{"name": "a", "kind": null}, {"name": "b", "kind": "dev"}, {"name": "c", "kind": "build"}]
        }]}"#;
        assert_eq!(parse_members(metadata).unwrap(), [mk_member("landfall-oci", &["a"])]);
        assert!(parse_members("{}").is_err());
    }

    #[test]
    fn upward_dependencies_are_those_that_the_rule_forbids() {
        let oci = mk_member("landfall-oci", &["landfall-core", "landfall-host", "axum"]);
        let members = [
            oci.clone(),
            mk_member("landfall-host", &[]),
            mk_member("landfall-core", &[]),
        ];
        assert_eq!(count_upward_dependencies(&oci, &members), 1);
        assert_eq!(count_upward_dependencies(&members[1], &members), 0);
    }
}
