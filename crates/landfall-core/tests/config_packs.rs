//! Golden tests of profiles in the shapes of published packs: each folder of `data/packs` has a profile and `expected`,
//! its findings and its images. `UPDATE_EXPECT=1` rewrites the expected texts.
#![expect(clippy::unwrap_used, reason = "test set-up")]
#![expect(
    clippy::disallowed_methods,
    reason = "the core reads no files; this test reads its cases"
)]

use std::fs;
use std::path::{Path, PathBuf};

use landfall_core::config::{INPUT_BYTES_MAX, Inputs, TemplateValues, parse_settings};
use landfall_core::diagnostic::{Diagnostics, NamedText, render_text};
use landfall_core::report::NamespaceRow;
use landfall_core::settings::Settings;

/// The text of every secret in these inputs.
const CANARY: &str = "canary";
/// The profiles whose images, logins, rules and stages need a value.
const WITH_ERRORS: [&str; 1] = ["11-a-template-where-an-image-needs-it"];

fn parse(profile: &str, values: TemplateValues) -> (Settings, Diagnostics) {
    let (settings, diagnostics) = parse_settings(&Inputs {
        profiles: vec![NamedText::new("profile.yaml", profile)],
        values,
        ..Inputs::default()
    });
    (settings.unwrap(), diagnostics)
}

fn given(assignments: &[&str]) -> TemplateValues {
    let mut values = TemplateValues::default();
    for assignment in assignments {
        values.set(assignment).unwrap();
    }
    values
}

fn codes(diagnostics: &Diagnostics) -> Vec<&'static str> {
    diagnostics.iter().map(|finding| finding.code).collect()
}

fn images(settings: &Settings) -> Vec<String> {
    let images = settings.images.iter();
    images.map(|image| image.reference.canonical().to_string()).collect()
}

#[test]
fn each_pack_is_listed_and_only_what_is_needed_is_an_error() {
    let update = std::env::var_os("UPDATE_EXPECT").is_some();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/packs");
    let mut cases: Vec<PathBuf> = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    assert_eq!(cases.len(), 12);
    let mut differing = Vec::new();
    for case in cases {
        let profile = fs::read_to_string(case.join("profile.yaml")).unwrap();
        let (settings, diagnostics) = parse(&profile, TemplateValues::default());
        let name = case.file_name().unwrap().to_str().unwrap();
        assert_eq!(
            diagnostics.has_errors(),
            WITH_ERRORS.contains(&name),
            "{name}: {diagnostics:?}"
        );
        let findings = render_text(&diagnostics, false);
        let shown = format!(
            "{findings}\nimages: {}\nopted out: {:?}\n",
            images(&settings).join(" "),
            settings.namespace_opt_outs
        );
        for output in [shown.as_str(), &format!("{settings:?}")] {
            assert!(!output.contains(CANARY), "{name}: a secret is shown:\n{output}");
        }
        let expected = case.join("expected");
        if update {
            fs::write(&expected, shown).unwrap();
        } else if fs::read_to_string(&expected).unwrap_or_default() != shown {
            differing.push(format!("{name}:\n{shown}"));
        }
    }
    assert!(
        differing.is_empty(),
        "run with UPDATE_EXPECT=1 to accept:\n{}",
        differing.join("\n")
    );
}

const ONE_IMAGE: &str = "
spec:
  packs:
    - name: app
      layer: addon
      values: |
        pack: {content: {images: [{image: \"reg.example.com/app:{{.spectro.var.tag}}\"}]}}
        more: \"{{.spectro.var.other}}\"
";

fn with_variables(variables: &str) -> String {
    format!("{ONE_IMAGE}  variables:\n{variables}")
}

#[test]
fn a_wrong_type_in_user_data_is_an_error_only_where_it_is_read() {
    for (user_data, is_error) in [
        (
            "stylus: {debug: 'x', includeTui: 5, site: {name: 5, edgeHostToken: *a, projectUid: }}",
            false,
        ),
        ("stylus: {site: {name: a, name: b}}", false),
        ("install: {device: a, device: b}", false),
        ("stylus: {site: {network: {httpProxy: 5}}}", true),
        ("stylus: {managementMode: 5}", true),
        ("stylus: {registryCredentials: {domain: 5}}", true),
        ("stylus: {registryCredentials: {domain: a.io, domain: b.io}}", true),
        ("landfall: {concurrency: x}", true),
        ("stages: {boot: [{files: [{path: 5}]}]}", true),
    ] {
        let (_, diagnostics) = parse_settings(&Inputs {
            user_data: vec![NamedText::new("user-data", &format!("#cloud-config\n{user_data}\n"))],
            ..Inputs::default()
        });
        assert!(!diagnostics.is_empty(), "{user_data}");
        assert_eq!(diagnostics.has_errors(), is_error, "{user_data}: {diagnostics:?}");
    }
}

#[test]
fn a_default_is_below_the_values_that_are_given() {
    let profile = with_variables("    - {name: tag, defaultValue: \"1\"}\n    - {name: other, defaultValue: x}\n");
    for (values, image) in [
        (vec![], "reg.example.com/app:1"),
        (vec!["var.tag=2"], "reg.example.com/app:2"),
    ] {
        let (settings, diagnostics) = parse(&profile, given(&values));
        assert_eq!(
            (images(&settings), codes(&diagnostics)),
            (vec![image.to_owned()], vec![])
        );
    }
}

#[test]
fn a_value_that_breaks_its_rule_is_an_error_only_where_it_is_used() {
    let profile = with_variables(
        "    - {name: tag, format: number}\n    - {name: other, format: boolean, defaultValue: \"true\"}\n",
    );
    let (_, diagnostics) = parse(&profile, given(&["var.tag=1", "var.other=yes"]));
    assert_eq!((codes(&diagnostics), diagnostics.has_errors()), (vec!["LF0411"], false));
    let (settings, diagnostics) = parse(&profile, given(&["var.tag=one"]));
    assert_eq!((codes(&diagnostics), diagnostics.has_errors()), (vec!["LF0411"], true));
    assert_eq!(images(&settings), Vec::<String>::new());
    assert_eq!(settings.unknown.images.len(), 1);
}

#[test]
fn a_wrong_value_of_a_values_file_is_shown_there_and_masked() {
    let profile = with_variables("    - {name: tag, regex: '^v[0-9]+$'}\n    - {name: other, defaultValue: x}\n");
    let mut values = TemplateValues::default();
    let file = "var: {other: canary, tag: canary-1}\n";
    assert!(values.add_file(&NamedText::new("values.yaml", file)).is_empty());
    let (_, diagnostics) = parse(&profile, values);
    insta::assert_snapshot!(render_text(&diagnostics, false), @r#"
    error[LF0411]: the value of the variable `tag` does not match its `regex`
     --> values.yaml:1:27
      |
    1 | var: {other: ****, tag: ****}
      |                         ^^^^
      |
     ::: profile.yaml:7:64
      |
    7 |         pack: {content: {images: [{image: "reg.example.com/app:{{.spectro.var.tag}}"}]}}
      |                                                                -------------------- used here
      |
      = hint: give another value: by `--set`, or in the values file
    "#);
}

#[test]
fn the_absence_of_what_could_not_be_read_is_no_statement() {
    let good = "#cloud-config\nstylus: {registryCredentials: {domain: 'reg:5000', password: 5, username: a}}\n";
    let profile = profile_of("reg.example.com/app:1");
    for (user_data, profiles, sources, images) in [
        (good, vec![profile.as_str()], None, 0),
        (
            "#cloud-config\nfoo: [\n",
            vec![&profile],
            Some("`user-data` cannot be read: "),
            0,
        ),
        (
            "#cloud-config\nstylus: {registryCredentials: {domain: 'a b'}}\n",
            vec![&profile],
            Some("user-data:2: "),
            0,
        ),
        (
            "#cloud-config\nstylus: {registryCredentials: {domain: }}\n",
            vec![&profile],
            Some("user-data:2: "),
            0,
        ),
        ("#cloud-config\nstylus: [a]\n", vec![&profile], Some("user-data:2: "), 0),
        (
            "#cloud-config\nstylus: {externalRegistries: {registryMappingRules: {gcr.io: 5}}}\n",
            vec![&profile],
            Some("user-data:2: "),
            0,
        ),
        (
            "#cloud-config\nregistryMappingRules: {gcr.io: 'reg:5000'}\n",
            vec![&profile],
            Some("user-data:2: "),
            0,
        ),
        (
            "#cloud-config\nstylus: {externalRegistry: {registryMappingRules: {gcr.io: 'reg:5000'}}}\n",
            vec![&profile],
            Some("user-data:2: "),
            0,
        ),
        (
            "#cloud-config\nlandfall: {primary: {endpoint: 'a b'}}\n",
            vec![&profile],
            Some("user-data:2: "),
            0,
        ),
        ("#cloud-config\nlandfall: {concurrency: x}\n", vec![&profile], None, 0),
        (
            "#cloud-config\nstages: [\n",
            vec![],
            Some("`user-data` cannot be read: "),
            0,
        ),
        (good, vec![&profile, "spec: ["], Some("`profile-1` cannot be read: "), 1),
        (good, vec![&profile, "a: b"], Some("`profile-1` cannot be read: "), 1),
        (good, vec![&profile_of("{{.spectro.var.image}}")], None, 1),
        (good, vec![&profile_of("NOT AN IMAGE")], None, 1),
        (
            good,
            vec!["spec: {packs: [{name: a, layer: addon, values: 'pack: ['}]}"],
            None,
            1,
        ),
    ] {
        let names = ["profile-0", "profile-1"].into_iter();
        let (settings, _) = parse_settings(&Inputs {
            user_data: vec![NamedText::new("user-data", user_data)],
            profiles: names
                .zip(&profiles)
                .map(|(name, text)| NamedText::new(name, text))
                .collect(),
            ..Inputs::default()
        });
        let unknown = settings.map(|settings| settings.unknown).unwrap_or_default();
        let case = format!("{user_data} {profiles:?}: {unknown:?}");
        let first = unknown.sources.first().map(ToString::to_string);
        match sources.filter(|_| !profiles.is_empty()) {
            Some(start) => assert!(first.is_some_and(|first| first.starts_with(start)), "{case}"),
            None => assert_eq!(first, None, "{case}"),
        }
        assert_eq!(unknown.images.len(), images, "{case}");
    }
}

fn profile_of(image: &str) -> String {
    format!(
        "spec: {{packs: [{{name: a, layer: addon, values: 'pack: {{content: {{images: [{{image: \"{image}\"}}]}}}}'}}]}}"
    )
}

#[test]
fn a_values_file_that_cannot_be_parsed_leaves_sources_and_images_unknown() {
    let mut values = TemplateValues::default();
    assert!(
        values
            .add_file(&NamedText::new("values.yaml", "macro: {a: ["))
            .has_errors()
    );
    let (settings, _) = parse(&profile_of("nginx:1"), values);
    let stops = settings.unknown.stops().unwrap().to_string();
    assert!(stops.starts_with("`values.yaml` cannot be read: "), "{stops}");
    assert_eq!((settings.unknown.sources.len(), settings.unknown.images.len()), (1, 1));
}

#[test]
fn labels_of_a_namespace_that_have_no_value_are_unknown() {
    let profile = "spec: {packs: [{name: a, layer: addon, values: {pack: {content: {images: []}, namespaceLabels: {web: 'stylus.io/imageswap={{.spectro.var.x}}'}}}}]}";
    let (settings, diagnostics) = parse(profile, TemplateValues::default());
    assert_eq!((codes(&diagnostics), diagnostics.has_errors()), (vec!["LF0401"], true));
    let row = NamespaceRow::new(&settings, "web", None);
    assert!(
        row.unknown
            .is_some_and(|reason| reason.contains("`{{.spectro.var.x}}`"))
    );
    assert_eq!(settings.unknown.images, []);
}

#[test]
fn a_sensitive_value_is_in_no_message() {
    let profile = with_variables("    - {name: tag, isSensitive: true}\n    - {name: other, defaultValue: x}\n");
    let (settings, diagnostics) = parse(&profile, given(&["var.tag=canary/UPPER"]));
    assert_eq!(codes(&diagnostics), ["LF0404"]);
    let shown = format!("{}{:?}", render_text(&diagnostics, false), settings.unknown);
    assert!(!shown.contains(CANARY), "{shown}");
}

#[test]
fn an_input_is_read_up_to_the_limit_and_all_together_up_to_theirs() {
    let padded = |size: usize| {
        let pack =
            "spec: {packs: [{name: a, layer: addon, values: 'pack: {content: {images: [{image: nginx:1}]}}'}]}\n#";
        format!("{pack}{}", "x".repeat(size - pack.len()))
    };
    let (settings, diagnostics) = parse(&padded(INPUT_BYTES_MAX), TemplateValues::default());
    assert_eq!((images(&settings).len(), diagnostics.len()), (1, 0));
    // The parser stops at the first character of these.
    let wrong = format!("]{}", "x".repeat(INPUT_BYTES_MAX - 1));
    let mut profiles = vec![NamedText::new("good.yaml", &padded(1000))];
    profiles.extend(["1", "2", "3", "4"].map(|name| NamedText::new(name, &wrong)));
    let (settings, diagnostics) = parse_settings(&Inputs {
        profiles,
        ..Inputs::default()
    });
    let files = diagnostics
        .iter()
        .map(|finding| (finding.code, &*finding.primary.location.file));
    assert_eq!(
        files.collect::<Vec<_>>(),
        [("LF0102", "1"), ("LF0102", "2"), ("LF0102", "3"), ("LF0107", "4")]
    );
    assert!(settings.unwrap().unknown.stops().is_some());
}

#[test]
fn a_manifest_of_many_documents_may_have_more_nodes_than_one_document() {
    let document = format!("kind: A\nlist: [{}]\n---\n", "1, ".repeat(1000));
    let pod = "kind: Pod\nspec: {containers: [{name: a, image: nginx:1}]}\n";
    let manifest = serde_json::to_string(&format!("{}{pod}", document.repeat(520))).unwrap();
    let profile = format!(
        "{{\"spec\": {{\"packs\": [{{\"name\": \"a\", \"layer\": \"addon\", \"manifests\": [{{\"content\": {manifest}}}]}}]}}}}"
    );
    let (settings, diagnostics) = parse(&profile, TemplateValues::default());
    assert_eq!((images(&settings).len(), codes(&diagnostics)), (1, vec![]));
}
