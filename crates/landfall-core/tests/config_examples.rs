//! The examples of the repository: what they mean, what is found in them, and that the schema accepts them.
#![expect(clippy::disallowed_methods, reason = "test set-up reads files")]

use landfall_core::config::{Inputs, parse_settings};
use landfall_core::diagnostic::{NamedText, render_text};

fn example(name: &str) -> NamedText {
    let path = format!("{}/../../examples/{name}", env!("CARGO_MANIFEST_DIR"));
    NamedText::new(name, &std::fs::read_to_string(path).unwrap())
}

fn profile_inputs(user_data: &str) -> Inputs {
    let mut inputs = Inputs {
        user_data: vec![example(user_data)],
        profiles: vec![example("profile-edge.yaml")],
        ..Inputs::default()
    };
    inputs.values.set("macro.provider-password=canary-1").unwrap();
    inputs.values.set("var.registryPassword=canary-2").unwrap();
    inputs
}

#[test]
fn single() {
    let (settings, diagnostics) = parse_settings(&profile_inputs("user-data-single.yaml"));
    println!("{settings:#?}");
    println!("{}", render_text(&diagnostics, false));
    println!(
        "{}",
        render_text(&parse_settings(&profile_inputs("user-data-multi.yaml")).1, false)
    );
    println!(
        "{}",
        render_text(&parse_settings(&profile_inputs("user-data-webhook-off.yaml")).1, false)
    );
}
