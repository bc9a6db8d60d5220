//! Properties of the configuration: no input panics, no secret is shown, and merging twice changes nothing.
#![expect(clippy::disallowed_methods, clippy::unwrap_used, reason = "test set-up reads files")]

use landfall_core::config::{Inputs, fix_profile, parse_settings};
use landfall_core::diagnostic::{Diagnostics, NamedText, render_text};
use proptest::prelude::*;

const CANARY: &str = "canary-7f3a";

fn example(name: &str) -> String {
    std::fs::read_to_string(format!("{}/../../examples/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

fn parse(user_data: &[String], profiles: &[String]) -> (String, Diagnostics) {
    let named = |texts: &[String]| texts.iter().map(|text| NamedText::new("file", text)).collect();
    let (settings, diagnostics) = parse_settings(&Inputs {
        user_data: named(user_data),
        profiles: named(profiles),
        ..Inputs::default()
    });
    (format!("{settings:?}"), diagnostics)
}

/// Generates texts of pieces that lead a parser to its edge cases.
fn yaml_soup() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "stylus:",
        "registryCredentials:",
        "domain:",
        "password:",
        "stages:",
        "boot:",
        "files:",
        "spec:",
        "packs:",
        "values:",
        "options:",
        "pack:",
        "content:",
        "images:",
        "image:",
        "- ",
        "\n",
        "\n  ",
        "\n    ",
        "\n      ",
        " ",
        "|\n",
        ">-\n",
        "\"",
        "'",
        "{",
        "}",
        "[",
        "]",
        ",",
        ": ",
        "&a ",
        "*a",
        "<<: ",
        "!!str ",
        "#",
        "\t",
        "\\n",
        "{{.spectro.macro.x}}",
        "{{.spectro.pack.a.options.b}}",
        "{{",
        "}}",
        "é",
        "\u{FEFF}",
        "0644",
        "~",
        "---\n",
        "reg:5000/a",
        "nginx",
        "AlwaysPullImages",
        "kube-apiserver-arg:",
        "cluster:",
        "config:",
        "- name: a\n",
        "layer: os",
    ]);
    prop::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}

/// Generates an example with a piece cut out and another text inserted.
fn damaged(name: &str) -> impl Strategy<Value = String> + use<> {
    let text = example(name);
    (any::<prop::sample::Index>(), 0usize..40, yaml_soup()).prop_map(move |(at, length, insert)| {
        let start = text.floor_char_boundary(at.index(text.len() + 1));
        let end = text.floor_char_boundary(start + length).max(start);
        format!("{}{insert}{}", &text[..start], &text[end..])
    })
}

proptest! {
    #[test]
    fn any_text_is_read_without_panic(user_data in "(?s).{0,200}", profile in "(?s).{0,200}") {
        let _ = fix_profile(&NamedText::new("file", &profile));
        let (_, diagnostics) = parse(&[user_data], &[profile]);
        let _ = render_text(&diagnostics, true);
    }

    #[test]
    fn any_near_yaml_is_read_without_panic(user_data in yaml_soup(), profile in yaml_soup()) {
        let _ = fix_profile(&NamedText::new("file", &profile));
        let (_, diagnostics) = parse(&[format!("#cloud-config\n{user_data}")], &[profile]);
        let _ = render_text(&diagnostics, false);
    }

    #[test]
    fn a_damaged_example_still_gets_findings_with_places(
        user_data in damaged("user-data-multi.yaml"),
        stages in damaged("user-data-webhook-off.yaml"),
        profile in damaged("profile-edge.yaml"),
    ) {
        let _ = fix_profile(&NamedText::new("file", &profile));
        let lines = [&user_data, &stages, &profile].map(|text| text.lines().count()).into_iter().max().unwrap();
        let (_, diagnostics) = parse(&[user_data, stages], &[profile]);
        for finding in &diagnostics {
            let location = &finding.primary.location;
            prop_assert!(location.line >= 1 && location.line as usize <= lines + 1, "{finding:?}");
        }
        let _ = render_text(&diagnostics, false);
    }

    #[test]
    fn merging_a_file_with_itself_changes_nothing(user_data in damaged("user-data-multi.yaml")) {
        let (once, _) = parse(std::slice::from_ref(&user_data), &[]);
        let (twice, _) = parse(&[user_data.clone(), user_data], &[]);
        prop_assert_eq!(once, twice);
    }

    #[test]
    fn no_damage_makes_a_secret_visible(insert in yaml_soup(), at in any::<prop::sample::Index>()) {
        let text = format!(
            "#cloud-config\nstylus:\n  site: {{edgeHostToken: {CANARY}}}\n  registryCredentials:\n    domain: reg\n    username: a\n    password: {CANARY}\n"
        );
        // A secret inside the name of a key is no secret of the configuration any more, so texts are inserted at line
        // starts.
        let line_starts: Vec<usize> = text.match_indices('\n').map(|(newline, _)| newline + 1).collect();
        let start = *at.get(&line_starts);
        let (settings, diagnostics) = parse(&[format!("{}{insert}\n{}", &text[..start], &text[start..])], &[]);
        for shown in [render_text(&diagnostics, false), serde_json::to_string(&diagnostics).unwrap(), settings] {
            prop_assert!(!shown.contains(CANARY), "{}", shown);
        }
    }

    #[test]
    fn a_fixed_profile_needs_no_fix(profile in damaged("profile-edge.yaml")) {
        if let Ok(Some(fixed)) = fix_profile(&NamedText::new("file", &profile)) {
            prop_assert!(fixed.len() < profile.len());
            prop_assert_eq!(fix_profile(&NamedText::new("file", &fixed)), Ok(None));
        }
    }
}

#[test]
fn inputs_beyond_the_limits_are_refused_in_time() {
    let bombs = [
        format!("#cloud-config\na: {}", "x".repeat(16 * 1024 * 1024)),
        format!("#cloud-config\n{}", "- 1\n".repeat(600_000)),
        format!("#cloud-config\na: {}1{}", "[".repeat(200), "]".repeat(200)),
        {
            let mut text = "#cloud-config\na0: &a0 [1, 2]\n".to_owned();
            for level in 1..40 {
                let alias = format!("*a{}", level - 1);
                text.push_str(&format!("a{level}: &a{level} [{}]\n", [alias.as_str(); 9].join(", ")));
            }
            text
        },
    ];
    for bomb in bombs {
        let (_, diagnostics) = parse(&[bomb], &[]);
        let codes: Vec<_> = diagnostics.iter().map(|finding| finding.code).collect();
        assert_eq!(codes, ["LF0107"]);
    }
}
