//! The Helm chart, checked by helm itself: it lints, refuses wrong values, renders the manifests that are
//! checked in, and renders a configuration that `landfall` accepts.

#![expect(clippy::disallowed_methods, reason = "test set-up")]

use std::process::Command;

use camino::{Utf8Path, Utf8PathBuf};
use landfall_tests_interop::agent::run_landfall;
use landfall_tests_interop::go_tool::tool;
use landfall_tests_interop::program::run;

fn in_project(path: &str) -> Utf8PathBuf {
    Utf8Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

fn helm(arguments: &[&str]) -> Command {
    let mut command = Command::new(tool("helm"));
    command
        .args(arguments)
        .args(["--kube-version", "1.33.0"])
        .current_dir(in_project("charts/landfall"));
    command
}

fn render(more: &[&str]) -> String {
    let arguments = [
        "template",
        "landfall",
        ".",
        "--namespace",
        "landfall",
        "--values",
        "ci/example-values.yaml",
    ];
    run(helm(&[&arguments, more].concat())).succeeded().stdout()
}

#[test]
fn chart_lints_with_the_example_values() {
    let linted = run(helm(&["lint", ".", "--strict", "--values", "ci/example-values.yaml"]));
    assert_eq!(linted.code(), Some(0), "{}{}", linted.stdout(), linted.stderr());
}

#[test]
fn plain_manifests_are_what_the_chart_renders() {
    let checked_in = std::fs::read_to_string(in_project("packaging/kubernetes/landfall.yaml")).unwrap();
    assert!(
        render(&[]) == checked_in,
        "packaging/kubernetes/landfall.yaml differs: run `make manifests`"
    );
}

#[test]
fn wrong_and_unknown_values_are_refused_by_name() {
    for (value, named) in [
        ("webhook.failurePolicy=ignore", "failurePolicy"),
        ("webhook.timeoutSeconds=31", "timeoutSeconds"),
        ("replicas=0", "replicas"),
        ("webhok.observeOnly=true", "webhok"),
        ("image.digest=sha256:short", "digest"),
        ("config.existingSecret=,config.userData=stylus:", "userData"),
        ("config.existingSecret=", "config.userData or config.existingSecret"),
    ] {
        let refused = run(helm(&[
            "template",
            ".",
            "--values",
            "ci/example-values.yaml",
            "--set",
            value,
        ]));
        assert_ne!(refused.code(), Some(0), "{value}");
        assert!(refused.stderr().contains(named), "{value}: {}", refused.stderr());
    }
}

#[test]
fn without_the_sweeper_nobody_may_touch_pods() {
    let rules = |more: &[&str]| render(&[&["--show-only", "templates/rbac.yaml"], more].concat());
    assert!(rules(&[]).contains("resources: [pods]"));
    let without = rules(&["--set", "sweeper.enabled=false"]);
    assert!(!without.contains("pods") && !without.contains("patch"), "{without}");
}

#[test]
fn refused_user_data_is_not_printed() {
    let directory = tempfile::tempdir().unwrap();
    let file = Utf8Path::from_path(directory.path()).unwrap().join("user-data.yaml");
    let set = format!("config.userData={file}");
    for text in [
        "# store 12\n#cloud-config\nstylus:\n  password: canary-s3cr3t\n",
        "stylus:\n  password: canary-s3cr3t\n",
        "#cloud-configuration canary-s3cr3t\n",
    ] {
        std::fs::write(&file, text).unwrap();
        for arguments in [&["template", "."][..], &["lint", "."]] {
            let more = ["--set", "image.repository=r/landfall", "--set-file", &set];
            let refused = run(helm(&[arguments, &more].concat()));
            let said = format!("{}{}", refused.stdout(), refused.stderr());
            assert!(said.contains("its first line has to be `#cloud-config`"), "{said}");
            assert!(!said.contains("canary"), "{said}");
            // `helm lint` tells the `fail` of a template, and goes on.
            let is_refused = refused.code() != Some(0);
            assert_eq!(is_refused, arguments[0] == "template", "{text}{said}");
        }
    }
}

#[test]
fn status_port_is_open_to_those_alone_that_the_values_name() {
    let shown = |template: &str, more: &[&str]| render(&[&["--show-only", template], more].concat());
    let service = "templates/service.yaml";
    assert!(!shown(service, &[]).contains("5080"));
    assert!(shown(service, &["--set", "service.status=true"]).contains("port: 5080"));
    let policy = "templates/networkpolicy.yaml";
    let closed = shown(policy, &[]);
    assert!(closed.contains("port: 10280") && !closed.contains("5080"), "{closed}");
    let peer = "networkPolicy.statusFrom[0].namespaceSelector.matchLabels.team=monitoring";
    let opened = shown(policy, &["--set", peer]);
    assert!(
        opened.contains("team: monitoring") && opened.contains("port: 5080"),
        "{opened}"
    );
    let whole = |value: &str| render(&["--set", value]);
    for value in ["networkPolicy.enabled=false", "hostNetwork=true"] {
        assert!(!whole(value).contains("kind: NetworkPolicy"), "{value}");
    }
}

#[test]
fn configuration_that_the_chart_makes_is_one_that_the_program_takes() {
    let mine = "#cloud-config\nstylus:\n  registryCredentials:\n    domain: reg.example:5000\n";
    let directory = tempfile::tempdir().unwrap();
    let directory = Utf8Path::from_path(directory.path()).unwrap();
    let (user_data, cluster) = (directory.join("user-data.yaml"), directory.join("cluster.yaml"));
    std::fs::write(&user_data, mine).unwrap();
    for more in [
        &[][..],
        &[
            "--set",
            "sweeper.enabled=false,webhook.failurePolicy=Fail,webhook.observeOnly=true",
        ],
    ] {
        let rendered = render(&[&["--show-only", "templates/configuration.yaml"], more].concat());
        let (_, block) = rendered.split_once("  cluster.yaml: |\n").unwrap();
        let lines = block.lines().take_while(|line| line.starts_with("    "));
        let text: String = lines.map(|line| format!("{}\n", &line[4..])).collect();
        std::fs::write(&cluster, &text).unwrap();
        let files = ["--user-data", user_data.as_str(), "--user-data", cluster.as_str()];
        let checked = run_landfall(&[&["validate"][..], &files].concat());
        assert_eq!(checked.code(), Some(0), "{text}\n{}", checked.stderr());
    }
}
