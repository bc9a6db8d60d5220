//! The command `landfall profile fix` removes `AlwaysPullImages` and changes no other byte.
#![expect(clippy::disallowed_methods, clippy::unwrap_used, reason = "test set-up reads files")]

use landfall_core::config::fix_profile;
use landfall_core::diagnostic::NamedText;

fn fix(profile: &str) -> Option<String> {
    fix_profile(&NamedText::new("profile", profile)).unwrap()
}

/// Makes a Kubernetes pack in literal blocks around the lines of `cluster.config`.
fn nested(lines: &str) -> String {
    let indented: String = lines.lines().map(|line| format!("              {line}\n")).collect();
    format!(
        "# kept\nspec:\n  packs:\n    - name: \"k8s\"   # kept\n      layer: k8s\n      values: |\n        x: {{{{.spectro.macro.NONE}}}}\n        cluster:\n          config: |\n{indented}    - name: other\n"
    )
}

#[test]
fn the_plug_in_goes_and_the_others_keep_their_order() {
    for (before, after) in [
        (
            "AlwaysPullImages,NamespaceLifecycle,NodeRestriction",
            "NamespaceLifecycle,NodeRestriction",
        ),
        (
            "NamespaceLifecycle,AlwaysPullImages,NodeRestriction",
            "NamespaceLifecycle,NodeRestriction",
        ),
        (
            "NamespaceLifecycle,NodeRestriction,AlwaysPullImages",
            "NamespaceLifecycle,NodeRestriction",
        ),
        ("\"A, AlwaysPullImages, B\" # why", "\"A, B\" # why"),
        ("AlwaysPullImages,A,AlwaysPullImages", "A"),
        ("A,AlwaysPullImages,AlwaysPullImages", "A"),
    ] {
        for form in [
            "clusterConfiguration:\n  apiServer:\n    extraArgs:\n      enable-admission-plugins: LIST\n      other: x",
            "clusterConfiguration:\n  apiServer:\n    extraArgs:\n    - name: enable-admission-plugins\n      value: LIST\n    - name: other\n      value: x",
        ] {
            let fixed = fix(&nested(&form.replace("LIST", before)));
            assert_eq!(fixed, Some(nested(&form.replace("LIST", after))), "{before}");
        }
    }
    let k3s = "kube-apiserver-arg:\n  - anonymous-auth=true\n  - enable-admission-plugins=LIST\nkubelet-arg: []";
    let fixed = fix(&nested(&k3s.replace("LIST", "A,AlwaysPullImages,B")));
    assert_eq!(fixed, Some(nested(&k3s.replace("LIST", "A,B"))));
}

#[test]
fn a_flag_that_would_be_empty_goes_with_its_lines() {
    for (before, after) in [
        (
            "clusterConfiguration:\n  apiServer:\n    extraArgs:\n      a: b\n      enable-admission-plugins: AlwaysPullImages\n      c: d",
            "clusterConfiguration:\n  apiServer:\n    extraArgs:\n      a: b\n      c: d",
        ),
        (
            "clusterConfiguration:\n  apiServer:\n    extraArgs:\n    - name: enable-admission-plugins\n      value: AlwaysPullImages\n    - name: c\n      value: d",
            "clusterConfiguration:\n  apiServer:\n    extraArgs:\n    - name: c\n      value: d",
        ),
        (
            "kube-apiserver-arg:\n  - enable-admission-plugins=AlwaysPullImages # why\n  - c=d",
            "kube-apiserver-arg:\n  - c=d",
        ),
        (
            "clusterConfiguration: {apiServer: {extraArgs: {enable-admission-plugins: AlwaysPullImages, c: d}}}",
            "clusterConfiguration: {apiServer: {extraArgs: {enable-admission-plugins: \"\", c: d}}}",
        ),
    ] {
        assert_eq!(fix(&nested(before)), Some(nested(after)), "{before}");
    }
}

#[test]
fn a_profile_in_json_is_mended_inside_its_string() {
    let json = |list: &str| {
        format!(
            r#"{{"spec": {{"packs": [{{"name": "k8s", "layer": "k8s", "values": "cluster:\n  config: |\n    kube-apiserver-arg:\n    - \"a=ä\"\n{list}    - \"c=d\"\n"}}]}}}}"#
        )
    };
    let with = |plugins: &str| json(&format!(r#"    - \"enable-admission-plugins={plugins}\"\n"#));
    assert_eq!(fix(&with("A,AlwaysPullImages,B")), Some(with("A,B")));
    assert_eq!(fix(&with("AlwaysPullImages")), Some(json("")));
}

#[test]
fn the_example_differs_in_one_place_and_is_then_right() {
    let path = format!("{}/../../examples/profile-edge.yaml", env!("CARGO_MANIFEST_DIR"));
    let example = std::fs::read_to_string(path).unwrap();
    let fixed = fix(&example).unwrap();
    assert_eq!(fixed, example.replacen("AlwaysPullImages,", "", 1));
    assert_eq!(fix(&fixed), None, "there is nothing left to fix");
}

#[test]
fn without_the_plug_in_nothing_is_fixed() {
    let profile = nested("kube-apiserver-arg: [enable-admission-plugins=A]");
    assert_eq!(fix(&profile), None);
}

#[test]
fn a_template_without_a_value_does_not_hide_the_plug_in() {
    for (before, after) in [
        ("{{.spectro.macro.MORE}},AlwaysPullImages", "{{.spectro.macro.MORE}}"),
        ("AlwaysPullImages,{{.spectro.macro.MORE}}", "{{.spectro.macro.MORE}}"),
    ] {
        let lines = |list: &str| nested(&format!("kube-apiserver-arg:\n- enable-admission-plugins={list}"));
        assert_eq!(fix(&lines(before)), Some(lines(after)), "{before}");
    }
}

#[test]
fn what_is_no_profile_is_said_to_be_none_and_not_left_unfixed_in_silence() {
    for (text, code) in [
        ("", "LF0406"),
        ("# nothing\n---\n", "LF0406"),
        ("#cloud-config\nstylus: {}\n", "LF0406"),
        ("a: [b", "LF0102"),
    ] {
        let findings = fix_profile(&NamedText::new("profile", text)).unwrap_err();
        let codes: Vec<_> = findings.iter().map(|finding| finding.code).collect();
        assert_eq!(codes, [code], "{text:?}");
    }
}
