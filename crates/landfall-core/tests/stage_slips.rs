//! Mistakes of published examples in stages and cluster configurations, each with the corrected text.

use landfall_core::config::{Inputs, parse_settings};
use landfall_core::diagnostic::{NamedText, render_text};

const CANARY: &str = "canary";

/// Returns the rendered findings for the stages of one user-data and, if given, a Kubernetes pack with this
/// `cluster.config`.
fn findings(stages: &str, kubernetes: Option<(&str, &str)>) -> String {
    let profiles = kubernetes.map(|(pack, config)| {
        let text = format!("spec:\n  packs:\n    - name: {pack}\n      layer: k8s\n      values: |\n        cluster:\n          config: |\n{config}");
        NamedText::new("profile.yaml", &text)
    });
    let inputs = Inputs {
        user_data: vec![NamedText::new(
            "user-data",
            &format!("#cloud-config\nstages:\n{stages}"),
        )],
        profiles: profiles.into_iter().collect(),
        ..Inputs::default()
    };
    let (_, diagnostics) = parse_settings(&inputs);
    let shown = render_text(&diagnostics, false);
    assert!(!shown.contains(CANARY), "a secret is shown:\n{shown}");
    assert!(
        diagnostics.iter().all(|finding| finding.help.is_some()),
        "nothing says what to write instead"
    );
    shown
}

const PROVIDER_CONFIG: &str = "  initramfs:
    - name: credential provider
      files:
        - path: /etc/kubernetes/credential-provider-config.yaml
          permissions: 0644
          content: |
            apiVersion: Kubelet.config.k8s.io/v1
            kind: CredentialProviderConfig
            providers:
              - name: generic-credential-provider
                apiVersion: credentialprovider.Kubelet.k8s.io/v1
                defaultCacheDuration: 5m0s
                mathImages:
                  - gcr.io
";

#[test]
fn a_capital_k_and_math_images_are_shown_where_they_are_written() {
    insta::assert_snapshot!(findings(PROVIDER_CONFIG, None), @r"
    error[LF0608]: `Kubelet.config.k8s.io` has a capital K: neither kubelet nor kubeadm knows it as `kubelet.config.k8s.io`
     --> user-data:9:25
      |
    9 |             apiVersion: Kubelet.config.k8s.io/v1
      |                         ^^^^^^^^^^^^^^^^^^^^^
      |
      = hint: write `kubelet.config.k8s.io`

    error[LF0608]: `credentialprovider.Kubelet.k8s.io` has a capital K: neither kubelet nor kubeadm knows it as `credentialprovider.kubelet.k8s.io`
      --> user-data:13:29
       |
    13 |                 apiVersion: credentialprovider.Kubelet.k8s.io/v1
       |                             ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
       |
       = hint: write `credentialprovider.kubelet.k8s.io`

    error[LF0609]: `mathImages` is no field of a credential provider; `matchImages` is
      --> user-data:15:17
       |
    15 |                 mathImages:
       |                 ^^^^^^^^^^
       |
       = hint: write `matchImages`
    ");
}

#[test]
fn a_capital_k_is_found_in_a_cluster_s_configuration() {
    let config = "            clusterConfiguration: {}\n            joinConfiguration:\n              nodeRegistration:\n                KubeletExtraArgs:\n                  image-credential-provider-bin-dir: /usr/local/bin\n";
    insta::assert_snapshot!(findings("  boot: []\n", Some(("edge-k8s", config))), @r"
    error[LF0608]: `KubeletExtraArgs` has a capital K: neither kubelet nor kubeadm knows it as `kubeletExtraArgs`
      --> profile.yaml:11:17
       |
    11 |                 KubeletExtraArgs:
       |                 ^^^^^^^^^^^^^^^^
       |
       = hint: write `kubeletExtraArgs`
    ");
}

#[test]
fn a_provider_configuration_comes_in_time_and_has_a_cache_duration() {
    let late = PROVIDER_CONFIG
        .replace("initramfs", "reconcile")
        .replace("Kubelet", "kubelet")
        .replace("math", "match")
        .replace("                defaultCacheDuration: 5m0s\n", "");
    insta::assert_snapshot!(findings(&late, None), @r"
    warning[LF0617]: kubelet reads this file at its start, minutes before `reconcile` writes it
     --> user-data:6:17
      |
    6 |         - path: /etc/kubernetes/credential-provider-config.yaml
      |                 ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
      |
      = hint: write it in the stage `initramfs`; the files with the logins may stay in `reconcile`

    error[LF0618]: the provider `generic-credential-provider` has no `defaultCacheDuration`: kubelet exits
     --> user-data:9:13
      |
    9 |             apiVersion: kubelet.config.k8s.io/v1
      |             ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
      |
      = hint: add `defaultCacheDuration: 5m0s` to it
    ");
}

#[test]
fn a_map_for_a_list_and_a_mode_in_quotes_make_kairos_drop_the_stages() {
    let stages =
        "  initramfs:\n    files:\n      - path: /etc/motd\n        permissions: \"0644\"\n        content: hello\n";
    insta::assert_snapshot!(findings(stages, None), @r#"
    warning[LF0209]: `stages.initramfs` is a mapping where a list belongs: Kairos drops all stages of the file for it
     --> user-data:3:3
      |
    3 |   initramfs:
      |   ^^^^^^^^^
      |
      = hint: put `- ` in front of its first key and indent the others by two

    warning[LF0615]: `stages.initramfs.files[0].permissions` is in quotes: Kairos then drops all stages of the file
     --> user-data:6:22
      |
    6 |         permissions: "0644"
      |                      ^^^^^^
      |
      = hint: write `0644`, without quotes
    "#);
}

#[test]
fn a_whole_containerd_configuration_is_left_to_the_host() {
    let stages = "  initramfs:\n    - files:\n        - path: /etc/containerd/config.toml\n          content: |\n            version = 2\n";
    insta::assert_snapshot!(findings(stages, None), @r"
    warning[LF0612]: the stage writes the whole `/etc/containerd/config.toml`
     --> user-data:5:17
      |
    5 |         - path: /etc/containerd/config.toml
      |                 ^^^^^^^^^^^^^^^^^^^^^^^^^^^
      |
      = hint: `landfall.mirror.files: [containerd]` looks at the host's own file, and sets or prints the lines that it needs
    ");
}

/// containerd's plug-in does not load with both, whichever file has which.
#[test]
fn config_path_of_one_stage_beside_mirrors_of_another_is_found() {
    let file = |path: &str, lines: &str| {
        format!("        - path: /etc/containerd/{path}\n          content: |\n            version = 3\n{lines}")
    };
    let table = "            [plugins.'io.containerd.cri.v1.images'.registry";
    let path = file(
        "conf.d/a.toml",
        &format!("{table}]\n            config_path = '/etc/containerd/certs.d'\n"),
    );
    let mirrors_at = |at: &str| {
        file(
            at,
            &format!("{table}.mirrors.'docker.io']\n            endpoint = ['https://old']\n"),
        )
    };
    for (files, found) in [
        (format!("{path}{}", mirrors_at("conf.d/b.toml")), true),
        (format!("{path}{}", mirrors_at("config.toml")), true),
        // containerd reads neither of these.
        (format!("{path}{}", mirrors_at("conf.d/b.toml.old")), false),
        (format!("{path}{}", mirrors_at("other/b.toml")), false),
        (path.clone(), false),
        (mirrors_at("conf.d/b.toml"), false),
    ] {
        let shown = findings(&format!("  initramfs:\n    - files:\n{files}"), None);
        let said = "warning[LF0641]: containerd's CRI plug-in does not load: `config_path` stands beside `registry.mirrors.\"docker.io\"`";
        assert_eq!(shown.contains(said), found, "{shown}");
    }
}

#[test]
fn a_drop_in_that_replaces_the_section_of_containerd_1_is_noted() {
    let stages = "  initramfs:\n    - files:\n        - path: /etc/containerd/conf.d/a.toml\n          content: |\n            version = 2\n            [plugins.\"io.containerd.grpc.v1.cri\".registry]\n            config_path = \"/etc/containerd/certs.d\"\n";
    insta::assert_snapshot!(findings(stages, None), @r"
    note[LF0640]: containerd 1.x replaces the whole section of the CRI plug-in by this file's; containerd 2 merges it, if `imports` of its main file names the file
     --> user-data:5:17
      |
    5 |         - path: /etc/containerd/conf.d/a.toml
      |                 ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
      |
      = hint: on containerd 1.x write the lines into the image's own `config.toml`; `landfall.mirror.files: [containerd]` prints them
    ");
    let of_containerd_2 = stages.replace("version = 2", "version = 3");
    assert!(!findings(&of_containerd_2, None).contains("LF0640"));
}

#[test]
fn a_kubelet_that_never_gets_the_logins_is_noted() {
    let login =
        "  boot: []\nstylus:\n  registryCredentials: {domain: reg.example.com, username: u, password: canary}\n";
    let without = "            kind: InitConfiguration\n";
    insta::assert_snapshot!(findings(login, Some(("kubernetes", without))), @r"
    note[LF0530]: registries have a login, and no kubelet is given `--image-credential-provider-config`: redirected pods cannot be pulled
     --> profile.yaml:8:13
      |
    8 |             kind: InitConfiguration
      |             ^^^^^^^^^^^^^^^^^^^^^^^
      |
      = hint: `landfall redirect render --for kubelet` prints the flags for this place
    ");
    let with = "            kind: InitConfiguration\n            nodeRegistration:\n              kubeletExtraArgs:\n                image-credential-provider-config: /etc/kubernetes/landfall-credential-provider.yaml\n";
    for (user_data, config) in [(login, with), ("  boot: []\n", without)] {
        let shown = findings(user_data, Some(("kubernetes", config)));
        assert!(!shown.contains("LF0530"), "{shown}");
    }
}

#[test]
fn registries_yaml_has_the_path_of_the_distribution() {
    let stages = "  initramfs:\n    - files:\n        - path: /etc/rancher/k3s/registries.yaml\n          content: |\n            mirrors: {gcr.io: {endpoint: [\"https://reg.example.com\"]}}\n";
    insta::assert_snapshot!(findings(stages, Some(("edge-rke2", "            cni: calico\n"))), @r"
    warning[LF0614]: the distribution of pack `edge-rke2` does not read `/etc/rancher/k3s/registries.yaml`
     --> user-data:5:17
      |
    5 |         - path: /etc/rancher/k3s/registries.yaml
      |                 ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
      |
      = hint: write `path: /etc/rancher/rke2/registries.yaml`
    ");
    let of_rke2 = stages.replace("k3s", "rke2");
    for (stages, pack, found) in [
        (stages, "edge-k3s", false),
        (&of_rke2, "edge-k3s", true),
        (&of_rke2, "edge-rke2", false),
        (&of_rke2, "kubernetes", false),
    ] {
        let shown = findings(stages, Some((pack, "            cni: calico\n")));
        assert_eq!(shown.contains("LF0614"), found, "{pack}: {shown}");
        assert_eq!(shown.is_empty(), !found, "{pack}: {shown}");
    }
}

#[test]
fn credential_files_are_private_and_where_they_are_read() {
    let stages = "  reconcile:\n    - files:\n        - path: /etc/kubernetes/registry/gcr.io.json\n          permissions: 0644\n          content: '{\"username\": \"u\", \"password\": \"canary\"}'\n";
    insta::assert_snapshot!(findings(stages, None), @r"
    warning[LF0613]: no credential provider reads `/etc/kubernetes/registry/gcr.io.json`
     --> user-data:5:17
      |
    5 |         - path: /etc/kubernetes/registry/gcr.io.json
      |                 ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
      |
      = hint: write `path: /etc/kubernetes/registries/gcr.io.json`

    warning[LF0616]: `/etc/kubernetes/registry/gcr.io.json` holds a login, and every user of the host can read it
     --> user-data:6:24
      |
    6 |           permissions: 0644
      |                        ^^^^
      |
      = hint: write `permissions: 0600`
    ");
}

#[test]
fn keys_that_kairos_ignores_are_named() {
    let stages = "  boot:\n    - files:\n        - path: /etc/motd\n          permission: 0644\n          owner_string: root\n          content: hello\n";
    insta::assert_snapshot!(findings(stages, None), @r"
    warning[LF0602]: `stages.boot[0].files[0].permission` has no effect: Kairos and Landfall know no key `permission` here
     --> user-data:6:11
      |
    6 |           permission: 0644
      |           ^^^^^^^^^^
      |
      = hint: did you mean `permissions`?

    warning[LF0602]: `stages.boot[0].files[0].owner_string` has no effect: Kairos and Landfall know no key `owner_string` here
     --> user-data:7:11
      |
    7 |           owner_string: root
      |           ^^^^^^^^^^^^
      |
      = hint: did you mean `ownerstring`?
    ");
}

#[test]
fn what_landfall_does_not_run_is_said_and_a_step_with_a_foreign_condition_is_left_out() {
    let stages = "  boot:\n    - only_arch: arm64\n      commands: [\"true\"]\n    - hostname: edge-1\n";
    insta::assert_snapshot!(findings(stages, None), @r"
    warning[LF0610]: Landfall does not evaluate `only_arch`: the step is left out
     --> user-data:4:7
      |
    4 |     - only_arch: arm64
      |       ^^^^^^^^^
      |
      = hint: write the condition as a command: `if: …`

    warning[LF0611]: Landfall does not run `hostname` of a step
     --> user-data:6:7
      |
    6 |     - hostname: edge-1
      |       ^^^^^^^^
      |
      = hint: write it as `files` or `commands`, or leave it to Kairos
    ");
    let text = format!("#cloud-config\nstages:\n{stages}");
    let inputs = Inputs {
        user_data: vec![NamedText::new("user-data", &text)],
        ..Inputs::default()
    };
    let settings = parse_settings(&inputs).0.expect("there are no errors");
    assert_eq!(settings.stages["boot"].len(), 1);
}

/// As a command the template would fail, and the step would count as one whose condition is not met.
#[test]
fn a_step_whose_condition_is_a_template_is_left_out_and_said() {
    let stages = "  boot:\n    - if: '[ \"{{ .Values.os.name }}\" = x ]'\n      commands: [\"true\"]\n    - commands: [\"true\"]\n";
    insta::assert_snapshot!(findings(stages, None), @r#"
    warning[LF0610]: Landfall does not evaluate the Go template in `stages.boot[0].if`: the step is left out
     --> user-data:4:15
      |
    4 |     - if: '[ "{{ .Values.os.name }}" = x ]'
      |               ^^^^^^^^^^^^^^^^^^^^^
      |
      = hint: write the condition as a command without a template, or leave this step to Kairos
    "#);
    let text = format!("#cloud-config\nstages:\n{stages}");
    let inputs = Inputs {
        user_data: vec![NamedText::new("user-data", &text)],
        ..Inputs::default()
    };
    let settings = parse_settings(&inputs).0.expect("there are no errors");
    assert_eq!(settings.stages["boot"].len(), 1);
    assert_eq!(settings.stages["boot"][0].condition, None);
}

#[test]
fn users_units_and_variables_that_cannot_be_are_said() {
    let stages = "  boot:
    - users:
        -root: {passwd: canary}
        kairos: {homedir: home, passwd: canary}
        operator: {uid: many, ssh_authorized_keys: ['github:somebody']}
      systemctl:
        enable: ['--force', a/b]
        overrides: [{service: kubelet, name: 'x y', content: ''}]
      environment: {A: x}
      environment_file: etc/environment
    - environment: {1A: x, GOOD: \"a\\nb\"}
      users: {operator: {ssh_authorized_keys: ['github:somebody']}}
    - if: [a, list]
      commands: [\"true\"]
";
    insta::assert_snapshot!(findings(stages, None), @r#"
    error[LF0619]: `-root` cannot be a login name
     --> user-data:5:9
      |
    5 |         -root: {passwd: ****}
      |         ^^^^^
      |
      = hint: write letters, digits, `_`, `-` and `.`, a letter first, at most 32

    error[LF0619]: the home directory of user `kairos` is not an absolute path without `..`
     --> user-data:6:27
      |
    6 |         kairos: {homedir: home, passwd: ****}
      |                           ^^^^
      |
      = hint: write the whole path, from `/` on

    error[LF0619]: `uid` of user `operator` is no number
     --> user-data:7:25
      |
    7 |         operator: {uid: many, ssh_authorized_keys: ['github:somebody']}
      |                         ^^^^
      |
      = hint: write a number, e.g. `uid: 2000`, or leave it out

    error[LF0621]: `--force` is not the name of a unit
     --> user-data:9:18
      |
    9 |         enable: ['--force', a/b]
      |                  ^^^^^^^^^
      |
      = hint: write the unit's name, e.g. `landfall-agent.service`

    error[LF0621]: `a/b` is not the name of a unit
     --> user-data:9:29
      |
    9 |         enable: ['--force', a/b]
      |                             ^^^
      |
      = hint: write the unit's name, e.g. `landfall-agent.service`

    error[LF0621]: `x y` is not the name of a unit
      --> user-data:10:46
       |
    10 |         overrides: [{service: kubelet, name: 'x y', content: ''}]
       |                                              ^^^^^
       |
       = hint: write the unit's name, e.g. `landfall-agent.service`

    error[LF0606]: `stages.boot[0].environment_file` is not an absolute path without `..`
      --> user-data:12:25
       |
    12 |       environment_file: etc/environment
       |                         ^^^^^^^^^^^^^^^
       |
       = hint: write the whole path, from `/` on

    error[LF0620]: `1A` cannot be written as a variable
      --> user-data:13:21
       |
    13 |     - environment: {1A: x, GOOD: "a\nb"}
       |                     ^^
       |
       = hint: write `NAME: value` with letters, digits and `_` in the name, and one line as the value

    error[LF0620]: `GOOD` cannot be written as a variable
      --> user-data:13:28
       |
    13 |     - environment: {1A: x, GOOD: "a\nb"}
       |                            ^^^^
       |
       = hint: write `NAME: value` with letters, digits and `_` in the name, and one line as the value

    warning[LF0622]: `github:somebody` is the name of keys, not a key
      --> user-data:14:48
       |
    14 |       users: {operator: {ssh_authorized_keys: ['github:somebody']}}
       |                                                ^^^^^^^^^^^^^^^^^
       |
       = hint: write the public key itself, as in `~/.ssh/id_ed25519.pub`

    error[LF0201]: `stages.boot[2].if` takes a string, and this is a list
      --> user-data:15:11
       |
    15 |     - if: [a, list]
       |           ^^^^^^^^^
       |
       = hint: write a string
    "#);
}

/// Returns the findings about the values of registry-connect, with this user-data.
fn connect_findings(user_data: &str, config: &str) -> String {
    let profile = format!(
        "spec:\n  packs:\n    - name: registry-connect\n      layer: addon\n      values:\n        charts:\n          registry-connect:\n            config: {config}\n"
    );
    let inputs = Inputs {
        user_data: vec![NamedText::new("user-data", &format!("#cloud-config\n{user_data}"))],
        profiles: vec![NamedText::new("profile.yaml", &profile)],
        ..Inputs::default()
    };
    render_text(&parse_settings(&inputs).1, false)
}

#[test]
fn rules_of_a_profile_replace_those_of_the_user_data_with_a_note() {
    let user_data = "stylus: {externalRegistries: {registries: [{domain: reg.example.com}], registryMappingRules: {gcr.io: reg.example.com/a}}}\n";
    let config = "{registry: {imageReplacementRules: {quay.io: reg.example.com/b}}}";
    insta::assert_snapshot!(connect_findings(user_data, config), @r"
    note[LF0322]: `imageReplacementRules` replaces the rules of the user-data: none of them has an effect
     --> profile.yaml:8:56
      |
    8 |             config: {registry: {imageReplacementRules: {quay.io: reg.example.com/b}}}
      |                                                        ^^^^^^^^^^^^^^^^^^^^^^^^^^^^
      |
     ::: user-data:2:95
      |
    2 | stylus: {externalRegistries: {registries: [{domain: reg.example.com}], registryMappingRules: {gcr.io: reg.example.com/a}}}
      |                                                                                               ------ the first of them
      |
      = hint: write all rules in one place: those of `registryMappingRules` have no effect
    ");
}

#[test]
fn sync_without_a_primary_registry_has_no_effect() {
    insta::assert_snapshot!(connect_findings("stylus: {}\n", "{content: {sync: {enable: false}}}"), @r"
    warning[LF0323]: `content.sync.enable: false` has no effect without `registry.inClusterRegistry`
     --> profile.yaml:8:47
      |
    8 |             config: {content: {sync: {enable: false}}}
      |                                               ^^^^^
      |
      = hint: add `registry: {inClusterRegistry: {…}}`, or leave `content.sync` out
    ");
}

#[test]
fn a_rule_of_the_wrong_type_is_said_once() {
    let user_data = "stylus: {externalRegistries: {registries: [{domain: reg.example.com}], registryMappingRules: {gcr.io: true}}}\n";
    insta::assert_snapshot!(connect_findings(user_data, "{registry: {imageReplacementRules: {quay.io: 5}}}"), @r#"
    error[LF0201]: `stylus.externalRegistries.registryMappingRules."gcr.io"` takes a string, and this is a boolean
     --> user-data:2:103
      |
    2 | stylus: {externalRegistries: {registries: [{domain: reg.example.com}], registryMappingRules: {gcr.io: true}}}
      |                                                                                                       ^^^^
      |
      = hint: put the value in quotes

    error[LF0201]: `spec.packs[0].values.charts.registry-connect.config.registry.imageReplacementRules."quay.io"` takes a string, and this is a number
     --> profile.yaml:8:66
      |
    8 |             config: {registry: {imageReplacementRules: {quay.io: 5}}}
      |                                                                  ^
      |
      = hint: write the target as `host[:port][/path]`
    "#);
}

/// Returns the findings for a profile that leaves namespaces to the node, with these lines of user-data.
fn namespace_findings(user_data: &str) -> String {
    let profile = "spec:
  packs:
    - name: web
      layer: addon
      values: |
        pack:
          namespaceLabels:
            operators: landfall.dev/redirect=node
            others: stylus.io/imageswap=disable
";
    let inputs = Inputs {
        user_data: vec![NamedText::new("user-data", &format!("#cloud-config\n{user_data}"))],
        profiles: vec![NamedText::new("profile.yaml", profile)],
        ..Inputs::default()
    };
    render_text(&parse_settings(&inputs).1, false)
}

#[test]
fn a_namespace_left_to_the_node_needs_mirror_files_there() {
    insta::assert_snapshot!(namespace_findings("stylus: {}\n"), @r"
    warning[LF0504]: pods of namespace `operators` are left to the node, and no mirror file is written there
     --> profile.yaml:8:24
      |
    8 |             operators: landfall.dev/redirect=node
      |                        ^^^^^^^^^^^^^^^^^^^^^^^^^^
      |
      = hint: write `landfall.mirror.files: [containerd]` (or `k3s`, `rke2`) into the user-data, with `landfall.mirror.enable: true` for rules that its format cannot express
    ");
    for has_files in [
        "landfall: {mirror: {files: [k3s]}}\n",
        "stages: {boot: [{files: [{path: /etc/containerd/certs.d/quay.io/hosts.toml}]}]}\n",
    ] {
        let found = namespace_findings(has_files);
        assert!(!found.contains("LF0504"), "{found}");
    }
}
