//! The examples of the repository: their meaning, the findings, and their acceptance by the schema.
#![expect(clippy::disallowed_methods, clippy::unwrap_used, reason = "test set-up reads files")]

use landfall_core::config::{Inputs, parse_settings, profile_schema, user_data_schema};
use landfall_core::diagnostic::{Diagnostics, NamedText};
use landfall_core::opt_out::OptOut;
use landfall_core::settings::{Finding, ImageRole, ManagementMode, PrimaryKind, RegistryRole, Settings};
use secrecy::ExposeSecret;

fn example(name: &str) -> NamedText {
    let path = format!("{}/../../examples/{name}", env!("CARGO_MANIFEST_DIR"));
    NamedText::new(name, &std::fs::read_to_string(path).unwrap())
}

fn parse_with_profile(user_data: &str) -> (Settings, Diagnostics) {
    let mut inputs = Inputs {
        user_data: vec![example(user_data)],
        profiles: vec![example("profile-edge.yaml")],
        ..Inputs::default()
    };
    inputs.values.set("macro.provider-password=provider-secret").unwrap();
    inputs.values.set("var.registryPassword=primary-secret").unwrap();
    let (settings, diagnostics) = parse_settings(&inputs);
    (settings.unwrap(), diagnostics)
}

fn codes(diagnostics: &Diagnostics) -> Vec<(&'static str, u32)> {
    diagnostics
        .iter()
        .map(|finding| (finding.code, finding.primary.location.line))
        .collect()
}

#[test]
fn the_profile_lists_every_image_once_with_its_place() {
    let (settings, _) = parse_with_profile("user-data-single.yaml");
    let images: Vec<_> = settings
        .images
        .iter()
        .map(|image| (image.source.as_str(), image.role, image.finding, image.location.line))
        .collect();
    let (declared, discovered) = (Finding::Declared, Finding::Discovered);
    let (infrastructure, application) = (ImageRole::Infrastructure, ImageRole::Application);
    assert_eq!(
        images,
        [
            (
                "example.io/my-images/example-custom-os:v1.4.5",
                ImageRole::Provider,
                declared,
                23
            ),
            (
                "us-docker.pkg.dev/palette-images/packs/calico/3.30.0/node:v3.30.0",
                infrastructure,
                declared,
                43
            ),
            (
                "us-docker.pkg.dev/palette-images/packs/calico/3.30.0/cni:v3.30.0",
                infrastructure,
                declared,
                44
            ),
            (
                "docker.io/longhornio/longhorn-manager:v1.9.0",
                infrastructure,
                declared,
                53
            ),
            ("nginx:1.27", application, declared, 80),
            ("ghcr.io/spectrocloud/hello-universe:1.2.0", application, declared, 81),
            ("busybox:1.37", application, discovered, 96),
            ("quay.io/prometheus/node-exporter:v1.9.1", application, discovered, 99),
        ]
    );
}

#[test]
fn the_single_form_gives_three_registries_and_an_embedded_primary() {
    let (settings, diagnostics) = parse_with_profile("user-data-single.yaml");
    let registries: Vec<_> = settings
        .registries
        .iter()
        .map(|registry| {
            let login = registry.login.as_ref().unwrap();
            (
                registry.role,
                registry.address(),
                login.username.as_str(),
                login.password.expose_secret(),
            )
        })
        .collect();
    assert_eq!(
        registries,
        [
            (
                RegistryRole::External,
                "10.10.254.254:8000/spectro-images".to_owned(),
                "ubuntu",
                "change-me"
            ),
            (
                RegistryRole::Provider,
                "example.io".to_owned(),
                "builder",
                "provider-secret"
            ),
            (
                RegistryRole::Primary,
                "127.0.0.1:30003".to_owned(),
                "admin",
                "primary-secret"
            ),
        ]
    );
    assert!(settings.registries[0].insecure);
    let primary = settings.primary.unwrap();
    assert_eq!(
        (primary.kind, primary.project.as_str(), primary.sync),
        (PrimaryKind::Embedded, "spectro-images", true)
    );
    assert_eq!(settings.management_mode, ManagementMode::Central);
    assert_eq!(settings.namespace_opt_outs["legacy"], OptOut::Disabled);
    assert_eq!(
        codes(&diagnostics),
        [("LF0318", 19), ("LF0319", 19), ("LF0530", 31), ("LF0501", 34)]
    );
}

#[test]
fn the_form_with_several_registries_decodes_and_keeps_its_rules_in_order() {
    let (settings, diagnostics) = parse_with_profile("user-data-multi.yaml");
    let first = &settings.registries[0];
    assert_eq!(first.login.as_ref().unwrap().password.expose_secret(), "change-me");
    assert_eq!(first.repository_name.as_deref(), Some("example-repository-private"));
    assert_eq!(first.certificates.len(), 0, "a placeholder is no certificate");
    let targets: Vec<_> = settings
        .rules
        .iter()
        .map(|rule| (rule.to_host.as_str(), rule.to_path.as_str(), rule.location.line))
        .collect();
    assert_eq!(
        targets,
        [
            ("example.registry.com", "internal-images", 20),
            ("example.registry.com", "internal-images", 21),
            ("example.registry.com", "internal-images", 22),
            ("10.10.11.60:3899", "security-images", 23),
        ]
    );
    let user_data: Vec<_> = codes(&diagnostics).into_iter().take(4).collect();
    assert_eq!(
        user_data,
        [("LF0306", 12), ("LF0310", 20), ("LF0310", 22), ("LF0310", 23)]
    );
}

#[test]
fn without_the_webhook_stages_write_the_mirrors() {
    let (settings, diagnostics) = parse_with_profile("user-data-webhook-off.yaml");
    assert!(!settings.webhook.enable);
    let modes: Vec<_> = settings
        .stages
        .values()
        .flatten()
        .map(|step| (step.name.as_str(), step.files[0].mode, step.files[0].content.0.len()))
        .collect();
    assert_eq!(
        modes,
        [
            ("Containerd drop-in", 0o644, 100),
            ("Redirect registries", 0o644, 107),
            ("Registry credential management", 0o600, 75),
        ]
    );
    let stages: Vec<_> = settings.stages.keys().collect();
    assert_eq!(stages, ["initramfs", "reconcile"]);
    assert_eq!(codes(&diagnostics), [("LF0640", 13), ("LF0319", 19), ("LF0501", 34)]);
}

#[test]
fn the_schemas_accept_the_examples_and_reject_slips() {
    let user_data = jsonschema::validator_for(&user_data_schema()).unwrap();
    let profile = jsonschema::validator_for(&profile_schema()).unwrap();
    for (name, validator) in [
        ("user-data-single.yaml", &user_data),
        ("user-data-multi.yaml", &user_data),
        ("user-data-webhook-off.yaml", &user_data),
        ("profile-edge.yaml", &profile),
    ] {
        let value: serde_json::Value = serde_saphyr::from_str(&example(name).text).unwrap();
        let errors: Vec<_> = validator.iter_errors(&value).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{name}: {errors:?}");
    }
    for (wrong, reason) in [
        (
            serde_json::json!({"landfall": {"statedir": "/x"}}),
            "an unknown key of ours",
        ),
        (
            serde_json::json!({"stylus": {"registryCredentials": {"password": null}}}),
            "a password that is null",
        ),
        (
            serde_json::json!({"stylus": {"managementMode": "locale"}}),
            "an unknown word",
        ),
    ] {
        assert!(!user_data.is_valid(&wrong), "{reason}");
    }
    let unknown = serde_json::json!({"stylus": {"somethingOfPalettes": 1}, "hostname": "x"});
    assert!(user_data.is_valid(&unknown), "Palette has keys that we do not know");
}

#[test]
fn every_key_of_the_schema_is_described() {
    fn walk(schema: &serde_json::Value, path: &str) {
        if let Some(properties) = schema["properties"].as_object() {
            for (name, property) in properties {
                assert!(property["description"].is_string(), "{path}.{name}");
                walk(property, &format!("{path}.{name}"));
            }
        }
        for inner in ["items", "additionalProperties"] {
            if schema[inner].is_object() {
                walk(&schema[inner], path);
            }
        }
    }
    walk(&user_data_schema(), "");
    walk(&profile_schema(), "");
}
