//! Meaning of inputs: merging, defaults, precedence.
#![expect(clippy::unwrap_used, reason = "test set-up")]

use std::sync::Arc;

use landfall_core::bundle::policy::{ImageSignatures, UnsignedContent};
use landfall_core::config::{Inputs, parse_settings};
use landfall_core::diagnostic::{Diagnostics, NamedText};
use landfall_core::repave::{Approval, DrainPods, RepavePolicy};
use landfall_core::resolve::{BundleOffers, CandidateKind, Resolver};
use landfall_core::settings::{
    Compat, ImageRole, KeySource, ManagementMode, PrimaryKind, PrimaryTls, RegistryRole, RulePrefix, Settings,
    UpdateDriver,
};

fn parse_all(user_data: &[&str], profiles: &[&str], compat: Compat) -> (Settings, Diagnostics) {
    let named = |texts: &[&str]| {
        let files = texts.iter().enumerate();
        files
            .map(|(number, text)| NamedText::new(&format!("file-{number}"), text))
            .collect()
    };
    let (settings, diagnostics) = parse_settings(&Inputs {
        user_data: named(user_data),
        profiles: named(profiles),
        compat,
        ..Inputs::default()
    });
    (settings.unwrap(), diagnostics)
}

fn parse(user_data: &str) -> Settings {
    let (settings, diagnostics) = parse_all(&[&format!("#cloud-config\n{user_data}")], &[], Compat::None);
    assert!(diagnostics.is_empty(), "{diagnostics:?}");
    settings
}

fn profile(packs: &str) -> String {
    format!("metadata: {{name: edge}}\nspec:\n  packs:\n{packs}")
}

#[test]
fn no_input_at_all_means_the_defaults() {
    let (settings, diagnostics) = parse_settings(&Inputs::default());
    let settings = settings.unwrap();
    assert!(diagnostics.is_empty());
    assert_eq!(settings.management_mode, ManagementMode::Central);
    assert_eq!(
        (settings.webhook.enable, settings.webhook.port, settings.local_ui_port),
        (true, None, 5080)
    );
    assert_eq!(settings.landfall.state_dir, "/var/lib/landfall");
    assert!(settings.primary.is_none());
}

#[test]
fn an_unreadable_file_leaves_the_others() {
    let broken = "#cloud-config\nstylus: [\n";
    let good = "#cloud-config\nstylus: {managementMode: local}\n";
    let (settings, diagnostics) = parse_all(&[broken, good], &[], Compat::None);
    assert!(diagnostics.has_errors());
    assert_eq!(settings.management_mode, ManagementMode::Local);
    let (nothing, _) = parse_settings(&Inputs {
        user_data: vec![NamedText::new("broken", broken)],
        ..Inputs::default()
    });
    assert!(nothing.is_none());
}

#[test]
fn of_several_files_maps_merge_lists_replace_and_stages_append() {
    let base = "#cloud-config
stylus:
  externalRegistries:
    registries: [{domain: a:1}, {domain: b:1}]
    registryMappingRules: {x.io: a:1}
  localUI: {port: 6000}
stages:
  boot: [{name: one, commands: [a]}]
";
    let site = "#cloud-config
stylus:
  externalRegistries:
    registries: [{domain: c:1}]
    registryMappingRules: {y.io: c:1}
  site:
stages:
  boot: [{name: one, commands: [b]}]
  network: [{commands: [c]}]
";
    let (settings, _) = parse_all(&[base, site], &[], Compat::None);
    let hosts: Vec<_> = settings
        .registries
        .iter()
        .map(|registry| registry.host.as_str())
        .collect();
    assert_eq!(hosts, ["c:1"]);
    assert_eq!(settings.rules.len(), 2);
    assert_eq!(settings.local_ui_port, 6000);
    let names: Vec<_> = settings.stages["boot"].iter().map(|step| step.name.as_str()).collect();
    assert_eq!(
        names,
        ["one", "one-2"],
        "steps of one name would overwrite each other in Kairos"
    );
    assert_eq!(settings.stages["network"][0].name, "network");
}

#[test]
fn domains_lose_slashes_and_docker_hub_has_one_name() {
    for (domain, host, path) in [
        (
            "10.10.254.254:8000/spectro-images/",
            "10.10.254.254:8000",
            "spectro-images",
        ),
        ("Reg.Example.com", "reg.example.com", ""),
        ("registry-1.docker.io/a/b", "docker.io", "a/b"),
        ("'[fd00::1]:5000/p'", "[fd00::1]:5000", "p"),
    ] {
        let settings = parse(&format!("stylus: {{registryCredentials: {{domain: {domain}}}}}\n"));
        let registry = &settings.registries[0];
        assert_eq!(
            (registry.host.as_str(), registry.path.as_str()),
            (host, path),
            "{domain}"
        );
        assert!(registry.login.is_none(), "no user name is anonymous");
    }
}

#[test]
fn file_modes_are_octal_however_they_are_written() {
    for (written, mode) in [
        ("0644", 0o644),
        ("420", 0o644),
        ("\"0644\"", 0o644),
        ("0o644", 0o644),
        ("'755'", 0o755),
    ] {
        let text = format!("#cloud-config\nstages: {{boot: [{{files: [{{path: /a, permissions: {written}}}]}}]}}\n");
        let (settings, diagnostics) = parse_all(&[&text], &[], Compat::None);
        assert!(!diagnostics.has_errors(), "{written}");
        assert_eq!(settings.stages["boot"][0].files[0].mode, mode, "{written}");
    }
}

#[test]
fn omitted_modes_hide_credentials_and_show_the_rest() {
    let settings = parse(
        "stages:
  boot:
    - files:
        - {path: /etc/motd, content: hello}
        - {path: /etc/x.json, content: '{\"password\": \"x\"}'}
        - {path: /etc/kubernetes/registries/gcr.io.json, content: '{}'}
        - {path: /encoded, encoding: gz+b64, content: H4sIAAAAAAAAA8tIzcnJBwCGphA2BQAAAA==}
      directories: [{path: /d}]
",
    );
    let step = &settings.stages["boot"][0];
    let modes: Vec<_> = step.files.iter().map(|file| file.mode).collect();
    assert_eq!(modes, [0o644, 0o600, 0o600, 0o644]);
    assert_eq!(step.files[3].content.0, b"hello");
    assert_eq!(step.directories[0].mode, 0o755);
}

#[test]
fn our_own_settings_are_read() {
    let settings = parse(
        "landfall:
  stateDir: /s
  containerd: {enable: false, socket: /c.sock}
  concurrency: 3
  bandwidthLimit: 1000
  tokenServers: [reg:5000=auth.example.org]
  reconcileInterval: 60
  listen: 127.0.0.1:1
  webhook: {listen: 0.0.0.0}
  primary: {kind: zot, endpoint: 'reg:30003', listen: '0.0.0.0:1', tls: on, project: p, username: u, password: x, insecure: true}
",
    );
    let own = &settings.landfall;
    assert_eq!(
        (
            own.state_dir.as_str(),
            own.containerd_socket.as_str(),
            own.containerd_enable
        ),
        ("/s", "/c.sock", false)
    );
    assert_eq!(
        (own.concurrency, own.bandwidth_limit, own.reconcile_interval_seconds),
        (3, Some(1000), 60)
    );
    let servers: Vec<_> = own.token_servers.iter().map(ToString::to_string).collect();
    assert_eq!(servers, ["reg:5000=auth.example.org"]);
    assert_eq!(
        (own.listen.as_deref(), own.webhook_listen.as_str()),
        (Some("127.0.0.1:1"), "0.0.0.0")
    );
    assert_eq!(
        (own.primary_listen.as_deref(), own.primary_tls),
        (Some("0.0.0.0:1"), PrimaryTls::On)
    );
    let primary = settings.primary.unwrap();
    assert_eq!(
        (primary.kind, primary.endpoint.as_str(), primary.project.as_str()),
        (PrimaryKind::Registry, "reg:30003", "p")
    );
    let registry = &settings.registries[0];
    assert_eq!(
        (registry.role, registry.host.as_str(), registry.insecure),
        (RegistryRole::Primary, "reg:30003", true)
    );
}

#[test]
fn sizes_and_durations_have_units() {
    let settings = parse(
        "landfall:
  bandwidthLimit: 2MB
  reconcileInterval: 5m
  listen: ':5080'
  webhook: {timeoutSeconds: 3s, sweepInterval: 1m, rotationOverlap: '90'}
",
    );
    let own = &settings.landfall;
    assert_eq!(
        (own.bandwidth_limit, own.reconcile_interval_seconds),
        (Some(2_000_000), 300)
    );
    assert_eq!(own.listen.as_deref(), Some("0.0.0.0:5080"));
    let webhook = &own.webhook;
    assert_eq!(
        (
            webhook.timeout_seconds,
            webhook.sweep_interval_seconds,
            webhook.rotation_overlap_seconds
        ),
        (3, 60, 90)
    );
}

#[test]
fn sites_and_updates_are_read_and_the_os_pack_says_which_pods_leave() {
    let user_data = "#cloud-config
stylus: {enableMultiNode: true}
landfall:
  site: {leader: edge-1, address: 'fd00::5', port: 6000}
  primary: {endpoint: '10.0.0.9:30003'}
  update:
    approval: auto
    driver: command
    command: [/usr/local/bin/upgrade, --now]
    soak: 60
    windows: [{start: 0 2 * * Sat, timeZone: Europe/Berlin, hours: 4}]
    deadlines: {prefetch: 2h, preflight: 2m, drain: 300, upgrade: 900, reboot: 180, gate: 240}
";
    let pack = |drain: &str| {
        profile(&format!(
            "  - {{name: os, layer: os, values: {{pack: {{drainPods: {drain}}}, options: {{system.uri: NA}}}}}}\n"
        ))
    };
    let (settings, diagnostics) = parse_all(&[user_data], &[&pack("false")], Compat::None);
    assert!(diagnostics.is_empty(), "{diagnostics:?}");
    let site = &settings.landfall.site;
    let leader = site.leader.as_ref().map(ToString::to_string);
    assert_eq!(
        (site.enable, leader.as_deref(), site.port),
        (true, Some("edge-1"), 6000)
    );
    assert_eq!(site.address, Some("fd00::5".parse().unwrap()));
    let update = &settings.landfall.update;
    let command = ["/usr/local/bin/upgrade", "--now"].map(str::to_owned).to_vec();
    assert_eq!(update.driver, UpdateDriver::Command(command));
    let seconds = std::time::Duration::from_secs;
    let policy = RepavePolicy {
        approval: Approval::Auto,
        drain: DrainPods::Never,
        soak: seconds(60),
        prefetch_deadline: seconds(7200),
        preflight_deadline: seconds(120),
        drain_deadline: seconds(300),
        upgrade_deadline: seconds(900),
        reboot_deadline: seconds(180),
        gate_deadline: seconds(240),
        ..RepavePolicy::default()
    };
    assert_eq!(update.policy, policy);
    let windows: Vec<String> = update
        .windows
        .iter()
        .map(|window| format!("{} {} {}", window.start, window.zone, window.hours))
        .collect();
    assert_eq!(windows, ["0 2 * * Sat Europe/Berlin 4"]);
    for (drain, expected) in [
        ("true", DrainPods::Always),
        ("'auto'", DrainPods::Auto),
        ("", DrainPods::Auto),
    ] {
        let (settings, _) = parse_all(&[], &[&pack(drain)], Compat::None);
        assert_eq!(settings.landfall.update.policy.drain, expected, "{drain}");
    }
}

#[test]
fn embedded_registry_at_the_address_of_another_host_needs_a_site() {
    for (user_data, is_wrong) in [
        (
            "landfall: {site: {address: 10.0.0.5}, primary: {endpoint: '10.0.0.6:30003'}}",
            true,
        ),
        (
            "landfall: {site: {address: 10.0.0.5}, primary: {endpoint: '10.0.0.5:30003'}}",
            false,
        ),
        (
            "landfall: {site: {address: 10.0.0.5}, primary: {endpoint: '127.0.0.1:30003'}}",
            false,
        ),
        (
            "landfall: {site: {address: 10.0.0.5}, primary: {endpoint: 'reg.local:30003'}}",
            false,
        ),
        (
            "landfall: {site: {address: 10.0.0.5}, primary: {kind: zot, endpoint: '10.0.0.6:30003'}}",
            false,
        ),
        ("landfall: {primary: {endpoint: '10.0.0.6:30003'}}", false),
        (
            "landfall: {site: {address: 'fd00::5'}, primary: {endpoint: '[fd00::6]:30003'}}",
            true,
        ),
        (
            "stylus: {enableMultiNode: true}\nlandfall: {site: {address: 10.0.0.5}, primary: {endpoint: '10.0.0.6:30003'}}",
            false,
        ),
    ] {
        let (_, diagnostics) = parse_all(&[&format!("#cloud-config\n{user_data}\n")], &[], Compat::None);
        assert_eq!(diagnostics.has_errors(), is_wrong, "{user_data}: {diagnostics:?}");
    }
}

#[test]
fn keys_of_bundles_are_read_in_every_form() {
    let pem = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n";
    let encoded = "LS0tLS1CRUdJTiBQVUJMSUMgS0VZLS0tLS0KTUNvd0JRWURLMlZ3QXlFQUdiOUVDV21FemY2RlFickJaOXc3bHNoUWhxb3d0cmJMREZ3NHJYQXhadUU9Ci0tLS0tRU5EIFBVQkxJQyBLRVktLS0tLQo=";
    let settings = parse(&format!(
        "content: {{signing: {{publicKey: {{base64EncodedValue: {encoded}}}}}}}
landfall:
  bundles:
    directory: /media
    sticks: false
    publicKeys: [{encoded}, /etc/landfall/site.pem]
    retiredKeys: {}
    policy: {{unsignedContent: allow, allowOlder: true}}
",
        "a".repeat(64)
    ));
    let bundles = &settings.landfall.bundles;
    let text = KeySource::Pem(pem.into());
    let file = KeySource::File("/etc/landfall/site.pem".into());
    assert_eq!(bundles.public_keys, [text.clone(), file, text]);
    assert_eq!((bundles.directory.as_str(), bundles.sticks), ("/media", false));
    assert_eq!(bundles.retired_keys.len(), 1);
    assert_eq!(bundles.unsigned_content(), UnsignedContent::Allow);
    assert!(bundles.policy.allow_older);

    // A key makes the host refuse what is not signed.
    let keyed = parse(&format!(
        "landfall: {{bundles: {{publicKeys: {encoded}, imageKeys: {encoded}}}}}\n"
    ));
    let bundles = &keyed.landfall.bundles;
    assert_eq!(bundles.unsigned_content(), UnsignedContent::Refuse);
    assert_eq!(bundles.image_signatures(), ImageSignatures::Require);
    let none = parse("landfall: {}\n").landfall.bundles;
    assert_eq!(none.unsigned_content(), UnsignedContent::Allow);
    assert_eq!(none.image_signatures(), ImageSignatures::Ignore);
    assert_eq!(
        (none.directory.as_str(), none.sticks),
        ("/opt/spectrocloud/content", true)
    );
}

#[test]
fn old_spellings_still_work_and_new_ones_win() {
    let text = "#cloud-config\nstylus: {installationMode: airgap, webhook: {enable: false, port: 99}}\n";
    let (settings, diagnostics) = parse_all(&[text], &[], Compat::None);
    assert_eq!(settings.management_mode, ManagementMode::Local);
    assert_eq!((settings.webhook.enable, settings.webhook.port), (false, Some(99)));
    assert!(!diagnostics.has_errors() && diagnostics.len() == 2);
    let both = "#cloud-config\nstylus: {webhook: {enable: false}, imageRedirectWebhook: {enable: true, port: 0}}\n";
    let (settings, _) = parse_all(&[both], &[], Compat::None);
    assert_eq!((settings.webhook.enable, settings.webhook.port), (true, None));
}

#[test]
fn image_replacement_rules_replace_the_rules_of_user_data() {
    let user_data = "#cloud-config
stylus: {externalRegistries: {registries: [{domain: a:1}], registryMappingRules: {x.io: a:1, z.io: a:1}}}
landfall: {primary: {endpoint: 'vip:30003'}}
";
    let connect = profile(
        "    - name: registry-connect
      layer: addon
      values:
        charts:
          registry-connect:
            config:
              content: {sync: {enable: false, projects: {images: other}}}
              registry:
                inClusterRegistry: {credentials: [{username: u, password: p}]}
                imageReplacementRules: |
                  all: b.example.com/i
                credentials: [{domain: 'c:1/p', username: u, password: ''}]
",
    );
    let (settings, diagnostics) = parse_all(&[user_data], &[&connect], Compat::None);
    let codes: Vec<_> = diagnostics.iter().map(|finding| finding.code).collect();
    assert_eq!(codes, ["LF0322"], "it is a note: {diagnostics:?}");
    assert_eq!(settings.rules.len(), 1);
    assert_eq!(settings.rules[0].from, RulePrefix::All);
    assert_eq!(
        (settings.rules[0].to_host.as_str(), settings.rules[0].to_path.as_str()),
        ("b.example.com", "i")
    );
    let roles: Vec<_> = settings
        .registries
        .iter()
        .map(|registry| (registry.role, registry.address()))
        .collect();
    assert_eq!(
        roles,
        [
            (RegistryRole::External, "a:1".to_owned()),
            (RegistryRole::Pack, "c:1/p".to_owned()),
            (RegistryRole::Primary, "vip:30003".to_owned()),
        ]
    );
    let primary = settings.primary.unwrap();
    assert_eq!(
        (primary.project.as_str(), primary.sync, primary.endpoint.as_str()),
        ("other", false, "vip:30003")
    );
}

const TWO_OS_PACKS: &str = "    - name: os-a
      layer: os
      values: |
        options: {system.uri: \"a.io/os:1\"}
        providerCredentials: {registry: a.io, user: u, password: p}
        stages: {boot: [{name: from-os}]}
    - name: k8s
      layer: k8s
      values: |
        stages: {boot: [{name: from-k8s}]}
    - name: os-b
      layer: os
      values: |
        options: {system.uri: NA}
        pack: {content: {images: [{image: \"{{.spectro.pack.os-b.options.system.uri}}\"}]}}
        providerCredentials: {registry: b.io, user: u, password: p}
        stages: {boot: [{name: from-os-b}]}
";

#[test]
fn palette_compatibility_drops_what_palette_ignores() {
    let user_data =
        "#cloud-config\nstylus: {registryCredentials: {domain: ext:1}}\nstages: {boot: [{name: from-user}]}\n";
    let profile = profile(TWO_OS_PACKS);
    let count = |user_data: &[&str], compat| {
        let (settings, diagnostics) = parse_all(user_data, &[&profile], compat);
        let providers = settings
            .registries
            .iter()
            .filter(|registry| registry.role == RegistryRole::Provider)
            .count();
        let codes: Vec<_> = diagnostics
            .iter()
            .map(|finding| format!("{:?} {}", finding.severity, finding.code))
            .collect();
        (providers, codes.join(", "))
    };
    let first = |providers, codes: &str| (providers, codes.to_owned());
    assert_eq!(
        count(&[user_data], Compat::None),
        first(2, "Note LF0318, Note LF0313, Note LF0318")
    );
    assert_eq!(count(&[user_data], Compat::Palette).0, 0);
    assert_eq!(count(&[], Compat::Palette).0, 1);
    assert!(count(&[], Compat::Palette).1.contains("Warning LF0313"));
}

#[test]
fn palette_ignores_bundles_beside_an_external_registry_without_a_primary_registry() {
    let external = "stylus: {registryCredentials: {domain: \"ext:1\"}}";
    let primary = "landfall: {primary: {endpoint: \"prim:1\"}}";
    let mut bundles = BundleOffers::default();
    bundles.add("site.tar.zst".to_owned(), ["nginx:1".parse().unwrap()]);
    let bundles = Arc::new(bundles);
    /// Name, user-data, product, the findings about bundles, and if bundles are ignored.
    type Case<'a> = (&'a str, &'a [&'a str], Compat, &'a [&'a str], bool);
    let cases: [Case<'_>; 5] = [
        ("no registry", &[], Compat::Palette, &[], false),
        ("external", &[external], Compat::None, &["Note LF0325"], false),
        (
            "external, as Palette",
            &[external],
            Compat::Palette,
            &["Warning LF0325"],
            true,
        ),
        ("both, as Palette", &[external, primary], Compat::Palette, &[], false),
        ("primary, as Palette", &[primary], Compat::Palette, &[], false),
    ];
    for (case, lines, compat, expected, ignored) in cases {
        let user_data = format!("#cloud-config\n{}\nhostname: x\n", lines.join("\n"));
        let (settings, diagnostics) = parse_settings(&Inputs {
            user_data: vec![NamedText::new("user-data.yaml", user_data.as_str())],
            compat,
            bundles: bundles.clone(),
            ..Inputs::default()
        });
        let settings = settings.unwrap();
        let found = diagnostics.iter().filter(|finding| finding.code == "LF0325");
        let found: Vec<_> = found
            .map(|finding| format!("{:?} {}", finding.severity, finding.code))
            .collect();
        assert_eq!(found, expected, "{case}");
        assert_eq!(settings.ignores_bundles(), ignored, "{case}");
        let resolver = Resolver::new(&settings).offering(bundles.clone());
        let resolution = resolver.resolve_on_host(&"nginx:1".parse().unwrap(), ImageRole::Application);
        let in_bundle = resolution
            .candidates
            .iter()
            .any(|candidate| candidate.kind == CandidateKind::Bundle);
        assert_eq!(in_bundle, !ignored, "{case}");
    }
}

#[test]
fn stages_run_user_data_then_os_then_kubernetes() {
    let user_data = "#cloud-config\nstages: {boot: [{name: from-user}]}\n";
    let (settings, _) = parse_all(&[user_data], &[&profile(TWO_OS_PACKS)], Compat::None);
    let names: Vec<_> = settings.stages["boot"].iter().map(|step| step.name.as_str()).collect();
    assert_eq!(names, ["from-user", "from-os", "from-os-b", "from-k8s"]);
    assert_eq!(settings.images.len(), 1, "NA is no image");
}

#[test]
fn an_image_has_its_most_infrastructural_role_at_its_first_place() {
    let text = profile(
        "    - name: app
      layer: addon
      values: {pack: {content: {images: [{image: nginx}, {image: os.io/os:1}]}}}
    - name: cni
      layer: cni
      values: {pack: {content: {images: [{image: 'docker.io/library/nginx:latest'}]}}}
    - name: os
      layer: os
      values: {options: {system.uri: 'os.io/os:1'}}
",
    );
    let (settings, _) = parse_all(&[], &[&text], Compat::None);
    let images: Vec<_> = settings
        .images
        .iter()
        .map(|image| (image.source.as_str(), image.role, image.pack.as_str()))
        .collect();
    assert_eq!(
        images,
        [
            ("os.io/os:1", ImageRole::Provider, "os"),
            ("nginx", ImageRole::Infrastructure, "app")
        ]
    );
}

#[test]
fn images_are_discovered_in_all_containers_and_image_volumes() {
    let text = profile(
        "    - name: app
      layer: addon
      values: |
        manifests:
          web: {spec: {template: {spec: {containers: [{image: 'a.io/1'}]}}}}
      manifests:
        - name: many
          content: |
            kind: Pod
            spec:
              initContainers: [{image: a.io/2}]
              ephemeralContainers: [{image: a.io/3}]
              volumes: [{image: {reference: a.io/4}}, {emptyDir: {}}, {image: {reference: a.io/no, pullPolicy: Never}}]
              containers: [{image: auto}, {image: localhost/a}, {image: a.io/no, imagePullPolicy: Never}]
            ---
            kind: CronJob
            spec: {jobTemplate: {spec: {template: {spec: {containers: [{image: a.io/5}]}}}}}
            ---
            kind: ConfigMap
            data: {image: a.io/no}
",
    );
    let (settings, diagnostics) = parse_all(&[], &[&text], Compat::None);
    assert!(diagnostics.is_empty(), "{diagnostics:?}");
    let sources: Vec<_> = settings.images.iter().map(|image| image.source.as_str()).collect();
    assert_eq!(sources, ["a.io/1", "a.io/2", "a.io/3", "a.io/4", "a.io/5"]);
}

#[test]
fn a_pack_of_manifests_needs_no_values() {
    for values in [
        "",
        "      values: ''\n",
        "      values: null\n",
        "      values: '# none'\n",
    ] {
        let text = profile(&format!(
            "    - name: app\n      layer: addon\n{values}      manifests:\n        - name: pod\n          content: 'spec: {{containers: [{{image: a.io/1}}]}}'\n"
        ));
        let (settings, diagnostics) = parse_all(&[], &[&text], Compat::None);
        assert!(diagnostics.is_empty(), "{values}: {diagnostics:?}");
        let sources: Vec<_> = settings.images.iter().map(|image| image.source.as_str()).collect();
        assert_eq!(sources, ["a.io/1"], "{values}");
    }
}

#[test]
fn images_are_discovered_in_manifests_that_the_values_hold_as_text() {
    let text = profile(
        "    - name: byo-manifest
      layer: addon
      values: |
        manifests:
          byo-manifest:
            contents: |
              kind: Pod
              spec: {containers: [{image: a.io/1}]}
              ---
              kind: Pod
              spec: {containers: [{image: a.io/2}]}
            settings: |
              [not yaml
              image = a.io/no
",
    );
    let (settings, diagnostics) = parse_all(&[], &[&text], Compat::None);
    assert!(diagnostics.is_empty(), "{diagnostics:?}");
    let found: Vec<_> = settings
        .images
        .iter()
        .map(|image| (image.source.as_str(), image.location.line))
        .collect();
    assert_eq!(found, [("a.io/1", 11), ("a.io/2", 14)]);
}

#[test]
fn a_profile_in_json_reads_as_one_in_yaml() {
    let json = r#"{"metadata": {"name": "edge"}, "spec": {"template": {"packs": [{"name": "os", "layer": "os", "tag": null,
        "values": "options:\n  system.uri: \"{{ .spectro.pack.os.options.system.registry }}/os:1\"\n  system.registry: r.io\n",
        "manifests": null}]}}}"#;
    let (settings, diagnostics) = parse_all(&[], &[json], Compat::None);
    assert!(diagnostics.is_empty(), "{diagnostics:?}");
    assert_eq!(settings.images[0].source, "r.io/os:1");
    assert_eq!(
        (settings.images[0].location.line, settings.images[0].location.column),
        (2, 44)
    );
}

#[test]
fn image_without_any_source_is_a_finding_that_names_the_key() {
    let packs = |sync: bool| {
        profile(&format!(
            "  - name: registry-connect\n    layer: addon\n    values: |\n      pack: {{content: {{images: [{{image: \"nginx:1\"}}, \
             {{image: \"redis:7\"}}]}}}}\n      charts: {{registry-connect: {{config: {{content: {{sync: {{enable: {sync}}}}}, \
             registry: {{inClusterRegistry: {{credentials: []}}}}}}}}}}\n"
        ))
    };
    let found = |sync: bool, external: &str| {
        let user_data = format!("#cloud-config\nstylus:\n  site: {{name: x}}\n{external}");
        let (_, diagnostics) = parse_all(&[&user_data], &[&packs(sync)], Compat::None);
        let found = diagnostics.iter().filter(|diagnostic| diagnostic.code == "LF0503");
        found.map(|diagnostic| diagnostic.message.clone()).collect::<Vec<_>>()
    };
    let expected = "`nginx:1` and 1 more cannot be pulled from any registry: `content.sync.enable` is false and no external registry is set";
    assert_eq!(found(false, ""), [expected]);
    assert_eq!(found(true, ""), [""; 0]);
    assert_eq!(found(false, "  registryCredentials: {domain: \"reg:5000\"}\n"), [""; 0]);
}
