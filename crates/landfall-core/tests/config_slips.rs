//! Golden tests of wrong inputs: mistakes of published examples and others, each with the complete findings as the user
//! sees them.
//!
//! Each folder of `data/slips` is a case: `user-data`, `profile.yaml` or both, and `expected` with the rendered
//! findings. `UPDATE_EXPECT=1` rewrites the expected texts.
#![expect(clippy::unwrap_used, reason = "test set-up")]
#![expect(
    clippy::disallowed_methods,
    reason = "the core reads no files; this test reads its cases"
)]

use std::fs;
use std::path::{Path, PathBuf};

use landfall_core::config::{Inputs, parse_settings};
use landfall_core::diagnostic::{NamedText, render_text};

/// The text of every secret in these inputs.
const CANARY: &str = "canary";

#[test]
fn each_wrong_input_has_exactly_the_expected_findings() {
    let update = std::env::var_os("UPDATE_EXPECT").is_some();
    let mut differing = Vec::new();
    for case in cases() {
        let shown = findings(&case);
        let expected = case.join("expected");
        if update {
            fs::write(&expected, shown).unwrap();
        } else if fs::read_to_string(&expected).unwrap_or_default() != shown {
            differing.push(format!("{}:\n{shown}", case.display()));
        }
    }
    assert!(
        differing.is_empty(),
        "run with UPDATE_EXPECT=1 to accept:\n{}",
        differing.join("\n")
    );
}

fn cases() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/slips");
    let mut cases: Vec<PathBuf> = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    assert!(!cases.is_empty());
    cases
}

/// Returns the rendered findings of a case. Each of them has a hint, and no output shows a secret.
fn findings(case: &Path) -> String {
    let named = |name: &str| match fs::read_to_string(case.join(name)) {
        Ok(text) => vec![NamedText::new(name, &text)],
        Err(_) => Vec::new(),
    };
    let inputs = Inputs {
        user_data: named("user-data"),
        profiles: named("profile.yaml"),
        ..Inputs::default()
    };
    let case = case.display();
    assert!(
        inputs.user_data.len() + inputs.profiles.len() > 0,
        "{case} has no input"
    );
    let (settings, diagnostics) = parse_settings(&inputs);
    for finding in &diagnostics {
        assert!(finding.help.is_some(), "{case}: no hint: {finding:?}");
    }
    let shown = render_text(&diagnostics, false);
    let json = serde_json::to_string(&diagnostics).unwrap();
    for output in [
        &shown,
        &json,
        &render_text(&diagnostics, true),
        &format!("{settings:?}"),
    ] {
        assert!(!output.contains(CANARY), "{case}: a secret is shown:\n{output}");
    }
    shown
}
