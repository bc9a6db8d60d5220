//! Completion scripts and manual pages. Real shells and `man` read them in the interop tests.

#![expect(clippy::unwrap_used, reason = "test set-up")]

mod common;

use common::{run, shown};

fn stdout_of(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", shown(&output));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn every_shell_gets_a_script_that_knows_the_subcommands() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = stdout_of(&["completion", shell]);
        for word in ["inventory", "--user-data", "--dry-run"] {
            assert!(script.contains(word.trim_start_matches('-')), "{shell}: {word}");
        }
    }
}

#[test]
fn every_command_has_a_page_and_no_other_has() {
    let directory = tempfile::tempdir().unwrap();
    let pages = directory.path().join("man1");
    stdout_of(&["man", "--directory", pages.to_str().unwrap()]);
    let mut names: Vec<String> = fs_err::read_dir(&pages)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    for name in ["landfall.1", "landfall-bundle-create.1", "landfall-registry-serve.1"] {
        assert!(names.iter().any(|found| found == name), "{name} is missing: {names:?}");
    }
    assert!(!names.iter().any(|name| name.contains("-help")), "{names:?}");
    let page = fs_err::read_to_string(pages.join("landfall-bundle-create.1")).unwrap();
    assert!(page.contains(".TH landfall-bundle-create 1"), "{page}");
}

#[test]
fn the_version_is_a_report() {
    let report: serde_json::Value = serde_json::from_str(&stdout_of(&["version", "-o", "json"])).unwrap();
    assert_eq!(report["kind"], "Version");
    assert_eq!(report["version"], env!("CARGO_PKG_VERSION"));
    let platform = report["platform"].as_str().unwrap();
    assert_eq!(
        stdout_of(&["version"]),
        format!("landfall {} ({platform})\n", env!("CARGO_PKG_VERSION"))
    );
}
