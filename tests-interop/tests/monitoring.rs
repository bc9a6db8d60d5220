//! Alert rules and dashboard: Prometheus' own checker reads the rules, and every metric in them exists.
#![expect(clippy::unwrap_used, reason = "test set-up")]

use std::collections::BTreeSet;
use std::process::Command;

use camino::{Utf8Path, Utf8PathBuf};
use landfall_tests_interop::program;

fn workspace() -> &'static Utf8Path {
    Utf8Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn monitoring(name: &str) -> Utf8PathBuf {
    workspace().join("packaging/monitoring").join(name)
}

/// Returns the names of metrics in a text.
fn metrics_in(text: &str) -> BTreeSet<String> {
    let is_part = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_';
    text.split(|letter| !is_part(letter))
        .filter(|word| word.starts_with("landfall_"))
        .map(|word| word.trim_end_matches("_bucket").to_owned())
        .collect()
}

#[test]
fn prometheus_accepts_the_rules_and_they_pass_their_tests() {
    for (arguments, file) in [
        (["check", "rules"], "alerts.yaml"),
        (["test", "rules"], "alerts-test.yaml"),
    ] {
        let mut check = Command::new("promtool");
        check.args(arguments).arg(file).current_dir(monitoring(""));
        let checked = program::run(check).succeeded();
        let said = checked.stdout() + &checked.stderr();
        assert!(said.contains("SUCCESS"), "{checked}");
    }
}

#[test]
fn every_rule_has_a_test() {
    let rules = fs_err::read_to_string(monitoring("alerts.yaml")).unwrap();
    let tests = fs_err::read_to_string(monitoring("alerts-test.yaml")).unwrap();
    let names: Vec<&str> = rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "))
        .collect();
    assert!(names.len() > 5, "{names:?}");
    for name in names {
        let fires = format!("alertname: {name}\n        exp_alerts:");
        assert!(tests.contains(&fires), "no test makes {name} fire");
    }
}

#[test]
fn every_metric_of_rules_and_dashboard_exists() {
    let reference = fs_err::read_to_string(workspace().join("docs/reference/metrics.md")).unwrap();
    let known = metrics_in(&reference);
    for file in ["alerts.yaml", "alerts-test.yaml", "dashboard.json"] {
        let used = metrics_in(&fs_err::read_to_string(monitoring(file)).unwrap());
        assert!(!used.is_empty(), "{file}");
        let unknown: Vec<_> = used.difference(&known).collect();
        assert!(unknown.is_empty(), "{file}: {unknown:?}");
    }
    let dashboard: serde_json::Value =
        serde_json::from_str(&fs_err::read_to_string(monitoring("dashboard.json")).unwrap()).unwrap();
    assert_eq!(dashboard["title"], "Landfall");
}
