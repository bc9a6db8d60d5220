//! Resolution: each row of the table in the specification [spec:resolution.examples], the rules that the table does not
//! show, and general properties.

mod common;

use common::{mk_reference, with_external, with_image, with_primary, with_registry, with_rule, without_redirection};
use landfall_core::reference::parse_reference;
use landfall_core::resolve::{CandidateKind, Resolution, Resolver, Warning, Why};
use landfall_core::settings::{ImageRole, RegistryRole, Settings};
use proptest::prelude::*;

const PRIMARY: &str = "10.10.100.45:30003";

fn resolve(settings: &Settings, source: &str, role: ImageRole) -> Resolution {
    Resolver::new(settings).resolve(&mk_reference(source), role)
}

fn places(resolution: &Resolution) -> Vec<(CandidateKind, String)> {
    resolution
        .candidates
        .iter()
        .map(|candidate| (candidate.kind, candidate.reference.to_string()))
        .collect()
}

#[test]
fn the_table_of_the_specification_holds_row_by_row() {
    let digest = format!("sha256:{}", "a".repeat(64));
    let kairos = "quay.io/kairos/core-ubuntu-20-lts-rke2:v1.25.2-rke2r1";
    let spectro = "10.10.254.254:8000/spectro-images";
    let two_rules = with_rule(
        with_rule(Settings::default(), "gcr.io/spectro-dev", "first.example"),
        "gcr.io/spectro-dev-public",
        "second.example",
    );
    let rows: [(Settings, String, String); 8] = [
        (
            with_external(Settings::default(), spectro),
            kairos.to_owned(),
            format!("{spectro}/{kairos}"),
        ),
        (
            with_external(Settings::default(), &format!("{spectro}/")),
            kairos.to_owned(),
            format!("{spectro}/{kairos}"),
        ),
        (
            with_external(Settings::default(), "reg:5000"),
            "nginx".to_owned(),
            "reg:5000/docker.io/library/nginx:latest".to_owned(),
        ),
        (
            with_external(Settings::default(), "reg:5000"),
            format!("gcr.io/a/b@{digest}"),
            format!("reg:5000/gcr.io/a/b@{digest}"),
        ),
        (
            with_rule(
                Settings::default(),
                "somedomain.com/somepath",
                "targetdomain.com/other/path",
            ),
            "somedomain.com/somepath/example-repo/alpine:latest".to_owned(),
            "targetdomain.com/other/path/example-repo/alpine:latest".to_owned(),
        ),
        (
            two_rules,
            "gcr.io/spectro-dev-public/x:1".to_owned(),
            "second.example/x:1".to_owned(),
        ),
        (
            with_primary(
                with_rule(Settings::default(), "us-docker.pkg.dev/p", "ex.com/p"),
                PRIMARY,
                true,
            ),
            "us-docker.pkg.dev/p/x:1".to_owned(),
            format!("{PRIMARY}/spectro-images/ex.com/p/x:1"),
        ),
        (
            with_rule(Settings::default(), "all", "ex.com/i"),
            "us-docker.pkg.dev/p/x:1".to_owned(),
            "ex.com/i/us-docker.pkg.dev/p/x:1".to_owned(),
        ),
    ];
    for (settings, source, expected) in rows {
        // The plan shows canonical references.
        let source = mk_reference(&source).canonical();
        let resolution = Resolver::new(&settings).resolve(&source, ImageRole::Application);
        assert_eq!(resolution.runtime(true).reference.to_string(), expected, "{source}");
        assert_eq!(resolution.warning, None, "{source}");
    }
}

#[test]
fn what_no_rule_reaches_stays_and_is_warned_about() {
    let rules = with_external(with_rule(Settings::default(), "gcr.io/a", "ex.com/a"), "ex.com/a");
    let two = with_external(with_external(Settings::default(), "one.example"), "two.example");
    let longest = format!("quay.io/{}:1", vec!["abcdefgh"; 28].join("/"));
    let single = with_external(Settings::default(), "reg:5000/a-project-of-ours");
    for (settings, source, why, warning) in [
        (&rules, "gcr.io/ab/x:1", Why::NoRule, Some(Warning::NoRuleMatches)),
        (&rules, "ex.com/a/x:1", Why::AlreadyThere, None),
        (&two, "nginx", Why::NoRule, Some(Warning::SeveralRegistriesNoRule)),
        (&two, "two.example/nginx", Why::AlreadyThere, None),
        (
            &single,
            "reg:5000/a-project-of-ours/quay.io/x:1",
            Why::AlreadyThere,
            None,
        ),
        (&single, &longest, Why::NotPossible, Some(Warning::NameNotPossible)),
        (&Settings::default(), "nginx", Why::NoExternal, None),
    ] {
        let resolution = resolve(settings, source, ImageRole::Application);
        assert_eq!(resolution.candidates.len(), 1, "{source}");
        assert_eq!(resolution.candidates[0].reference, mk_reference(source), "{source}");
        assert_eq!(resolution.candidates[0].why, why, "{source}");
        assert_eq!(resolution.warning, warning, "{source}");
    }
}

#[test]
fn a_sibling_of_the_target_is_not_already_there() {
    let settings = with_external(Settings::default(), "reg:5000/p");
    for (source, expected) in [
        ("reg:5000/pq/x:1", "reg:5000/p/reg_5000/pq/x:1"),
        ("reg:5000/x:1", "reg:5000/p/reg_5000/x:1"),
        ("reg.example/x:1", "reg:5000/p/reg.example/x:1"),
    ] {
        let resolution = resolve(&settings, source, ImageRole::Application);
        assert_eq!(resolution.runtime(true).reference.to_string(), expected);
    }
}

#[test]
fn an_original_host_with_a_port_becomes_one_path_component() {
    let settings = with_external(Settings::default(), "reg.example");
    for (source, expected) in [
        ("other:8443/a/b:1", "reg.example/other_8443/a/b:1"),
        ("[2001:db8::1]:5000/a:1", "reg.example/2001-db8--1_5000/a:1"),
        ("[::1]/a:1", "reg.example/1/a:1"),
    ] {
        let resolution = resolve(&settings, source, ImageRole::Infrastructure);
        assert_eq!(resolution.runtime(true).reference.to_string(), expected);
    }
}

#[test]
fn docker_hub_is_one_registry_under_all_its_names() {
    for key in ["docker.io", "index.docker.io/library", "registry-1.docker.io"] {
        let settings = with_rule(Settings::default(), key, "ex.com/hub");
        for source in ["nginx", "docker.io/nginx", "index.docker.io/library/nginx"] {
            let resolution = resolve(&settings, source, ImageRole::Application);
            assert_eq!(resolution.candidates[0].why, Why::Rule(0), "{key}: {source}");
        }
    }
}

#[test]
fn a_specific_rule_beats_all() {
    let settings = with_rule(
        with_rule(Settings::default(), "all", "ex.com/all"),
        "quay.io",
        "ex.com/quay",
    );
    for (source, expected) in [
        ("quay.io/a:1", "ex.com/quay/a:1"),
        ("ghcr.io/a:1", "ex.com/all/ghcr.io/a:1"),
    ] {
        let resolution = resolve(&settings, source, ImageRole::Application);
        assert_eq!(resolution.candidates[0].reference.to_string(), expected);
    }
}

#[test]
fn candidates_are_primary_then_mapped_then_the_origin_where_it_is_allowed() {
    let primary = format!("{PRIMARY}/spectro-images");
    let mapped = || with_rule(Settings::default(), "quay.io", "ex.com/q");
    let in_primary = (CandidateKind::Primary, format!("{primary}/ex.com/q/x:1"));
    let external = (CandidateKind::External, "ex.com/q/x:1".to_owned());
    let origin = (CandidateKind::Origin, "quay.io/x:1".to_owned());
    let plain_primary = (CandidateKind::Primary, format!("{primary}/quay.io/x:1"));
    for (case, settings, role, expected) in [
        (
            "sync allowed",
            with_primary(mapped(), PRIMARY, true),
            ImageRole::Application,
            vec![in_primary.clone(), external.clone(), origin.clone()],
        ),
        (
            "sync forbidden",
            with_primary(mapped(), PRIMARY, false),
            ImageRole::Application,
            vec![in_primary.clone(), external.clone()],
        ),
        (
            "an external registry is set",
            with_external(with_primary(mapped(), PRIMARY, true), "ex.com"),
            ImageRole::Application,
            vec![in_primary, external.clone()],
        ),
        (
            "infrastructure",
            with_primary(mapped(), PRIMARY, true),
            ImageRole::Infrastructure,
            vec![external.clone()],
        ),
        (
            "provider",
            with_primary(mapped(), PRIMARY, true),
            ImageRole::Provider,
            vec![external],
        ),
        (
            "nothing but a primary",
            with_primary(Settings::default(), PRIMARY, true),
            ImageRole::Application,
            vec![plain_primary.clone(), origin.clone()],
        ),
        (
            "nothing but a primary, sync forbidden",
            with_primary(Settings::default(), PRIMARY, false),
            ImageRole::Application,
            vec![plain_primary],
        ),
        (
            "infrastructure, sync forbidden",
            with_primary(Settings::default(), PRIMARY, false),
            ImageRole::Infrastructure,
            vec![origin],
        ),
    ] {
        assert_eq!(places(&resolve(&settings, "quay.io/x:1", role)), expected, "{case}");
    }
}

#[test]
fn a_pod_uses_the_primary_registry_only_once_it_holds_the_image() {
    let settings = with_primary(with_external(Settings::default(), "ex.com"), PRIMARY, true);
    let resolution = resolve(&settings, "quay.io/x:1", ImageRole::Application);
    assert_eq!(resolution.runtime(false).kind, CandidateKind::External);
    assert_eq!(resolution.runtime(true).kind, CandidateKind::Primary);
}

#[test]
fn with_sync_forbidden_a_pod_waits_for_the_primary_registry() {
    let settings = with_primary(Settings::default(), PRIMARY, false);
    let resolution = resolve(&settings, "quay.io/x:1", ImageRole::Application);
    assert_eq!(resolution.runtime(false).kind, CandidateKind::Primary);
}

#[test]
fn an_external_registry_inside_the_primary_is_used_as_it_is() {
    let settings = with_primary(Settings::default(), PRIMARY, true);
    let settings = with_external(settings, &format!("{PRIMARY}/spectro-images"));
    let resolution = resolve(&settings, "quay.io/x:1", ImageRole::Application);
    let expected = format!("{PRIMARY}/spectro-images/quay.io/x:1");
    assert_eq!(places(&resolution), [(CandidateKind::External, expected)]);
}

#[test]
fn a_name_too_long_for_the_primary_registry_is_served_from_elsewhere() {
    let source = format!("quay.io/{}:1", vec!["abcdefgh"; 27].join("/"));
    let settings = with_primary(Settings::default(), PRIMARY, false);
    let resolution = resolve(&settings, &source, ImageRole::Application);
    assert_eq!(places(&resolution), [(CandidateKind::Origin, source.clone())]);
    assert_eq!(resolution.warning, Some(Warning::PrimaryNameNotPossible));
    let resolver = Resolver::new(&settings);
    assert_eq!(
        resolver.primary_target(&mk_reference(&source), ImageRole::Application),
        None
    );
}

#[test]
fn with_redirection_off_nothing_is_redirected_and_the_primary_is_filled_all_the_same() {
    let settings = with_primary(with_external(Settings::default(), "ex.com/i"), PRIMARY, true);
    let settings = without_redirection(settings);
    let resolver = Resolver::new(&settings);
    let source = mk_reference("quay.io/x:1");
    let resolution = resolver.resolve(&source, ImageRole::Application);
    assert_eq!(places(&resolution), [(CandidateKind::Origin, "quay.io/x:1".to_owned())]);
    assert_eq!(resolution.candidates[0].why, Why::RedirectionOff);
    assert_eq!(
        resolver.primary_target(&source, ImageRole::Application),
        Some(mk_reference(&format!("{PRIMARY}/spectro-images/ex.com/i/quay.io/x:1")))
    );
}

#[test]
fn credentials_are_chosen_by_host_port_and_longest_path() {
    let mut settings = Settings::default();
    for (role, address) in [
        (RegistryRole::Pack, "ex.com"),
        (RegistryRole::External, "ex.com"),
        (RegistryRole::External, "ex.com/team"),
        (RegistryRole::Provider, "prov.example/os"),
        (RegistryRole::Provider, "ex.com"),
        (RegistryRole::Pack, "registry-1.docker.io"),
        (RegistryRole::External, "ex.com:5000"),
    ] {
        settings = with_registry(settings, role, address);
    }
    let resolver = Resolver::new(&settings);
    for (reference, role, expected) in [
        ("ex.com/x", ImageRole::Application, Some(1)),
        ("ex.com/teams/x", ImageRole::Application, Some(1)),
        ("ex.com/team/x", ImageRole::Application, Some(2)),
        ("ex.com/x", ImageRole::Provider, Some(4)),
        ("ex.com/team/x", ImageRole::Provider, Some(2)),
        ("prov.example/os/x", ImageRole::Provider, Some(3)),
        ("prov.example/os/x", ImageRole::Infrastructure, None),
        ("nginx", ImageRole::Application, Some(5)),
        ("ex.com:5000/x", ImageRole::Application, Some(6)),
        ("ex.com:5001/x", ImageRole::Application, None),
    ] {
        assert_eq!(
            resolver.registry_for(&mk_reference(reference), role),
            expected,
            "{reference} {role:?}"
        );
    }
}

#[test]
fn an_image_has_its_role_from_the_profile_and_is_an_applications_otherwise() {
    let settings = with_image(Settings::default(), ImageRole::Infrastructure, "calico/node");
    let resolver = Resolver::new(&settings);
    for (reference, expected) in [
        ("docker.io/calico/node:latest", ImageRole::Infrastructure),
        ("calico/node:other", ImageRole::Application),
        ("unknown", ImageRole::Application),
    ] {
        assert_eq!(resolver.role_of(&mk_reference(reference)), expected, "{reference}");
    }
}

#[test]
fn every_reason_is_said_with_its_place() {
    let mapped = with_primary(with_rule(Settings::default(), "quay.io", "ex.com/q"), PRIMARY, true);
    let all = with_rule(Settings::default(), "all", "ex.com/q");
    let single = with_external(Settings::default(), "reg:5000/p");
    let off = without_redirection(Settings::default());
    let mut said = String::new();
    for (settings, source) in [
        (&mapped, "quay.io/x:1"),
        (&mapped, "ghcr.io/x:1"),
        (&all, "quay.io/x:1"),
        (&single, "quay.io/x:1"),
        (&single, "reg:5000/p/x:1"),
        (&off, "quay.io/x:1"),
        (&Settings::default(), "quay.io/x:1"),
    ] {
        let resolver = Resolver::new(settings);
        let resolution = resolver.resolve(&mk_reference(source), ImageRole::Application);
        for candidate in &resolution.candidates {
            said.push_str(&format!("{}: {}\n", candidate.reference, resolver.explain(candidate)));
        }
        if let Some(warning) = resolution.warning {
            said.push_str(&format!(
                "warning: {}\n",
                resolver.explain_warning(&mk_reference(source), warning)
            ));
        }
    }
    insta::assert_snapshot!(said, @r"
    10.10.100.45:30003/spectro-images/ex.com/q/x:1: primary registry `10.10.100.45:30003/spectro-images` holds application images
    ex.com/q/x:1: mapping rule `quay.io` to `ex.com/q` (user-data.yaml:20)
    quay.io/x:1: tried last: no external registry is set, and sync from the origin is allowed
    10.10.100.45:30003/spectro-images/ghcr.io/x:1: primary registry `10.10.100.45:30003/spectro-images` holds application images
    ghcr.io/x:1: no mapping rule matches this image: unchanged
    warning: no mapping rule matches `ghcr.io/x:1`: it is pulled as it is written
    ex.com/q/quay.io/x:1: rule `all` prepends `ex.com/q` (user-data.yaml:20)
    reg:5000/p/quay.io/x:1: external registry `reg:5000/p` serves every image (user-data.yaml:5)
    reg:5000/p/x:1: the image names its target already
    quay.io/x:1: redirection is off (`stylus.imageRedirectWebhook.enable: false`)
    quay.io/x:1: no external registry is set: the registry written in the profile
    ");
}

/// Generates configurations of every form. They use few names, so that rules, targets and sources overlap.
fn settings() -> impl Strategy<Value = Settings> {
    let address = prop_oneof!["[ab]\\.io(/[ab]){0,2}", "[ab]\\.io:5000(/[ab]){0,2}"];
    let rules = proptest::collection::vec(
        (prop_oneof![Just("all".to_owned()), address.clone()], address.clone()),
        0..4,
    );
    let externals = proptest::collection::vec(address, 0..3);
    (rules, externals, any::<Option<bool>>(), any::<bool>()).prop_map(|(rules, externals, primary, redirection)| {
        let mut settings = Settings::default();
        for (from, to) in rules {
            settings = with_rule(settings, &from, &to);
        }
        for external in externals {
            settings = with_external(settings, &external);
        }
        if let Some(sync) = primary {
            settings = with_primary(settings, "a.io:5000", sync);
        }
        settings.webhook.enable = redirection;
        settings
    })
}

fn source() -> impl Strategy<Value = String> {
    "([ab]\\.io(:5000)?/|\\[::1\\]:5/|a\\.io:5000/spectro-images/)?[ab](/[ab]){0,3}(:[0-9])?(@sha256:[a-f]{64})?"
}

fn role() -> impl Strategy<Value = ImageRole> {
    prop_oneof![
        Just(ImageRole::Provider),
        Just(ImageRole::Infrastructure),
        Just(ImageRole::Application)
    ]
}

proptest! {
    #[test]
    fn resolving_a_result_again_gives_itself(
        settings in settings(), source in source(), role in role(), held in any::<bool>()
    ) {
        let resolver = Resolver::new(&settings);
        let once = resolver.resolve(&mk_reference(&source), role);
        let once = &once.runtime(held).reference;
        let twice = resolver.resolve(once, role);
        prop_assert_eq!(&twice.runtime(held).reference, once);
    }

    #[test]
    fn there_is_always_a_candidate_and_the_suffix_is_the_sources(
        settings in settings(), source in source(), role in role()
    ) {
        let source = mk_reference(&source);
        let resolution = Resolver::new(&settings).resolve(&source, role);
        prop_assert!(!resolution.candidates.is_empty());
        for candidate in &resolution.candidates {
            prop_assert_eq!(&candidate.reference.tag, &source.tag);
            prop_assert_eq!(&candidate.reference.digest, &source.digest);
            // The printed form can be parsed again: no rule makes an invalid name.
            prop_assert_eq!(parse_reference(&candidate.reference.to_string()).unwrap(), candidate.reference.clone());
        }
    }

    #[test]
    fn only_applications_are_kept_in_the_primary_registry(settings in settings(), source in source(), role in role()) {
        let resolver = Resolver::new(&settings);
        let reference = mk_reference(&source);
        let kept = resolver.resolve(&reference, role).candidates.iter().any(|candidate| candidate.why == Why::Primary);
        prop_assert!(!kept || role == ImageRole::Application);
        prop_assert!(resolver.primary_target(&reference, role).is_none() || role == ImageRole::Application);
    }

    #[test]
    fn every_candidate_can_be_explained(settings in settings(), source in source(), role in role()) {
        let resolver = Resolver::new(&settings);
        for candidate in resolver.resolve(&mk_reference(&source), role).candidates {
            prop_assert!(!resolver.explain(&candidate).is_empty());
        }
    }
}
