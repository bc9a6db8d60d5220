//! Mistakes of published examples and all other wrong inputs, each with the complete diagnostic as the user sees it.
#![expect(clippy::unwrap_used, reason = "test set-up")]

use landfall_core::config::{Inputs, parse_settings};
use landfall_core::diagnostic::{NamedText, render_text};

/// The text of every secret in these inputs.
const CANARY: &str = "canary";

/// Returns the rendered findings for one user-data and one profile; an empty text means that the file is missing.
fn findings(user_data: &str, profile: &str) -> String {
    let named = |name: &str, text: &str| match text {
        "" => Vec::new(),
        text => vec![NamedText::new(name, text)],
    };
    let inputs = Inputs {
        user_data: named("user-data", user_data),
        profiles: named("profile.yaml", profile),
        ..Inputs::default()
    };
    let (settings, diagnostics) = parse_settings(&inputs);
    for finding in &diagnostics {
        assert!(
            finding.help.is_some(),
            "nothing says what to write instead: {finding:?}"
        );
    }
    let shown = render_text(&diagnostics, false);
    let json = serde_json::to_string(&diagnostics).unwrap();
    for output in [
        &shown,
        &json,
        &render_text(&diagnostics, true),
        &format!("{settings:?}"),
    ] {
        assert!(!output.contains(CANARY), "a secret is shown:\n{output}");
    }
    shown
}

#[test]
fn rules_beside_stylus_are_at_the_wrong_indentation() {
    let shown = findings(
        r#"#cloud-config
stylus:
  externalRegistries:
    registries:
      - domain: reg:5000
registryMappingRules:
  gcr.io: reg:5000
"#,
        "",
    );
    insta::assert_snapshot!(shown, @r###"
    error[LF0205]: `registryMappingRules` has no effect: the key belongs at `stylus.externalRegistries.registryMappingRules`
     --> user-data:6:1
      |
    6 | registryMappingRules:
      | ^^^^^^^^^^^^^^^^^^^^
      |
      = hint: indent it so that it stands at `stylus.externalRegistries.registryMappingRules`
    "###);
}

#[test]
fn external_registries_beside_stylus_are_at_the_wrong_indentation() {
    let shown = findings(
        r#"#cloud-config
stylus:
  site: {}
externalRegistries:
  registries:
    - domain: reg:5000
"#,
        "",
    );
    insta::assert_snapshot!(shown, @r###"
    error[LF0205]: `externalRegistries` has no effect: the key belongs at `stylus.externalRegistries`
     --> user-data:4:1
      |
    4 | externalRegistries:
      | ^^^^^^^^^^^^^^^^^^
      |
      = hint: indent it so that it stands at `stylus.externalRegistries`
    "###);
}

#[test]
fn other_keys_of_stylus_at_the_top_are_misplaced() {
    let shown = findings(
        r#"#cloud-config
registryCredentials:
  domain: reg:5000
imageRedirectWebhook:
  enable: false
"#,
        "",
    );
    insta::assert_snapshot!(shown, @r###"
    error[LF0205]: `registryCredentials` has no effect: the key belongs at `stylus.registryCredentials`
     --> user-data:2:1
      |
    2 | registryCredentials:
      | ^^^^^^^^^^^^^^^^^^^
      |
      = hint: indent it so that it stands at `stylus.registryCredentials`

    error[LF0205]: `imageRedirectWebhook` has no effect: the key belongs at `stylus.imageRedirectWebhook`
     --> user-data:4:1
      |
    4 | imageRedirectWebhook:
      | ^^^^^^^^^^^^^^^^^^^^
      |
      = hint: indent it so that it stands at `stylus.imageRedirectWebhook`
    "###);
}

#[test]
fn rules_directly_under_stylus_are_misplaced() {
    let shown = findings(
        r#"#cloud-config
stylus:
  registryMappingRules:
    gcr.io: reg:5000
"#,
        "",
    );
    insta::assert_snapshot!(shown, @r###"
    error[LF0205]: `stylus.registryMappingRules` has no effect: the key belongs at `stylus.externalRegistries.registryMappingRules`
     --> user-data:3:3
      |
    3 |   registryMappingRules:
      |   ^^^^^^^^^^^^^^^^^^^^
      |
      = hint: indent it so that it stands at `stylus.externalRegistries.registryMappingRules`
    "###);
}

#[test]
fn grc_io_is_a_slip_in_rules_and_domains() {
    let shown = findings(
        r#"#cloud-config
stylus:
  externalRegistries:
    registries:
      - domain: us.grc.io/p
    registryMappingRules:
      grc.io/spectro: reg:5000/p
"#,
        "",
    );
    insta::assert_snapshot!(shown, @r###"
    warning[LF0308]: `us.grc.io` is probably a typing error for `us.gcr.io`
     --> user-data:5:17
      |
    5 |       - domain: us.grc.io/p
      |                 ^^^^^^^^^^^
      |
      = hint: write `us.gcr.io`

    warning[LF0308]: `grc.io` is probably a typing error for `gcr.io`
     --> user-data:7:7
      |
    7 |       grc.io/spectro: reg:5000/p
      |       ^^^^^^^^^^^^^^
      |
      = hint: write `gcr.io`
    "###);
}

#[test]
fn unquoted_asterisks_are_an_alias() {
    let shown = findings(
        r#"#cloud-config
stylus:
  registryCredentials:
    domain: reg:5000
    username: admin
    password: ****
"#,
        "",
    );
    insta::assert_snapshot!(shown, @r###"
    error[LF0105]: a value that starts with `*` is a YAML alias, and there is no anchor of that name
     --> user-data:6:15
      |
    6 |     password: ****
      |               ^^^^
      |
      = hint: put the value in quotes, as in `password: "****"`
    "###);
}

#[test]
fn nothing_and_a_comment_are_null() {
    let shown = findings(
        r#"#cloud-config
stylus:
  registryCredentials:
    domain: reg:5000
    username:
    password: ####
"#,
        "",
    );
    insta::assert_snapshot!(shown, @r###"
    error[LF0202]: `stylus.registryCredentials.username` has no value, and needs a string
     --> user-data:5:5
      |
    5 |     username:
      |     ^^^^^^^^
      |
      = hint: write the value, `""` for an empty string, or remove the key

    error[LF0202]: `stylus.registryCredentials.password` has no value, and needs a string
     --> user-data:6:5
      |
    6 |     password: ****
      |     ^^^^^^^^
      |
      = hint: what follows a `#` is a comment: put the value in quotes
    "###);
}

#[test]
fn both_forms_exclude_each_other() {
    let shown = findings(
        r#"#cloud-config
stylus:
  registryCredentials:
    domain: reg:5000
  externalRegistries:
    registries:
      - domain: other:5000
"#,
        "",
    );
    insta::assert_snapshot!(shown, @r###"
    error[LF0307]: `registryCredentials` and `externalRegistries` exclude each other
     --> user-data:3:3
      |
    3 |   registryCredentials:
      |   ^^^^^^^^^^^^^^^^^^^
      |
     ::: user-data:5:3
      |
    5 |   externalRegistries:
      |   ------------------ the other form
      |
      = hint: use one of them: move the registry into `externalRegistries.registries`, or remove it
    "###);
}

#[test]
fn an_unknown_key_has_a_near_one() {
    let shown = findings(
        r#"#cloud-config
stylus:
  registryCredential:
    domain: reg:5000
  somethingElse: 1
"#,
        "",
    );
    insta::assert_snapshot!(shown, @r###"
    warning[LF0203]: unknown key `stylus.registryCredential`
     --> user-data:3:3
      |
    3 |   registryCredential:
      |   ^^^^^^^^^^^^^^^^^^
      |
      = hint: did you mean `registryCredentials`?

    warning[LF0203]: unknown key `stylus.somethingElse`
     --> user-data:5:3
      |
    5 |   somethingElse: 1
      |   ^^^^^^^^^^^^^
      |
      = hint: known keys here: registryCredentials, externalRegistries, imageRedirectWebhook, managementMode, localUI, site, path, featureGate, enableMultiNode, debug, trace, includeTui, imageOverride, vip, vpn, skipStylusUpgrade, disablePasswordUpdate, trustedBoot, users, diskPartition
    "###);
}

#[test]
fn old_spellings_are_named() {
    let shown = findings(
        r#"#cloud-config
stylus:
  installationMode: airgap
  webhook:
    enable: false
"#,
        "",
    );
    insta::assert_snapshot!(shown, @r###"
    warning[LF0206]: `installationMode` is an old spelling
     --> user-data:3:3
      |
    3 |   installationMode: airgap
      |   ^^^^^^^^^^^^^^^^
      |
      = hint: write `stylus.managementMode`

    warning[LF0206]: `webhook` is an old spelling
     --> user-data:4:3
      |
    4 |   webhook:
      |   ^^^^^^^
      |
      = hint: write `stylus.imageRedirectWebhook`
    "###);
}

#[test]
fn the_header_must_be_there() {
    let shown = findings(
        r#"stylus: {}
"#,
        "",
    );
    insta::assert_snapshot!(shown, @r###"
    error[LF0101]: the first line of user-data is not `#cloud-config`
     --> user-data:1:1
      |
    1 | stylus: {}
      | ^^^^^^^^^^
      |
      = hint: put `#cloud-config` above this line
    "###);
}

#[test]
fn the_header_has_no_space() {
    let shown = findings(
        r#"
# cloud-config
stylus: {}
"#,
        "",
    );
    insta::assert_snapshot!(shown, @r###"
    error[LF0101]: the first line of user-data is not `#cloud-config`
     --> user-data:2:1
      |
    2 | # cloud-config
      | ^^^^^^^^^^^^^^
      |
      = hint: write it without a space: `#cloud-config`
    "###);
}

#[test]
fn a_byte_order_mark_is_named() {
    let shown = findings("\u{FEFF}#cloud-config\nstylus: {}\n", "");
    insta::assert_snapshot!(shown, @r###"
    warning[LF0103]: the file starts with an invisible byte order mark
     --> user-data:1:1
      |
    1 |  #cloud-config
      | ^
      |
      = hint: save it as UTF-8 without BOM: cloud-init does not find `#cloud-config` behind it
    "###);
}

#[test]
fn tabs_are_named() {
    let shown = findings(
        r#"#cloud-config
stylus:
	site: {}
"#,
        "",
    );
    insta::assert_snapshot!(shown, @r###"
    error[LF0104]: a tab stands where YAML wants spaces
     --> user-data:3:1
      |
    3 |  site: {}
      | ^
      |
      = hint: indent with spaces only
    "###);
}

#[test]
fn schemes_are_left_out() {
    let shown = findings(
        r#"#cloud-config
stylus:
  externalRegistries:
    registries:
      - domain: http://reg:5000/p/
    registryMappingRules:
      https://gcr.io/a: https://reg:5000/p
"#,
        "",
    );
    insta::assert_snapshot!(shown, @r###"
    warning[LF0302]: the name of a registry has no scheme: `http://` is left out
     --> user-data:5:17
      |
    5 |       - domain: http://reg:5000/p/
      |                 ^^^^^^^^^^^^^^^^^^
      |
      = hint: remove it; for plain HTTP set `insecure: true`

    warning[LF0302]: the name of a registry has no scheme: `https://` is left out
     --> user-data:7:7
      |
    7 |       https://gcr.io/a: https://reg:5000/p
      |       ^^^^^^^^^^^^^^^^
      |
      = hint: remove it

    warning[LF0302]: the name of a registry has no scheme: `https://` is left out
     --> user-data:7:25
      |
    7 |       https://gcr.io/a: https://reg:5000/p
      |                         ^^^^^^^^^^^^^^^^^^
      |
      = hint: remove it
    "###);
}

#[test]
fn a_rule_needs_a_host() {
    let shown = findings(
        r#"#cloud-config
stylus:
  externalRegistries:
    registries: [{domain: reg:5000}]
    registryMappingRules:
      library/nginx: reg:5000/p
      ALL: reg:5000/p
"#,
        "",
    );
    insta::assert_snapshot!(shown, @r###"
    error[LF0309]: `library/nginx` does not start with a registry's host
     --> user-data:6:7
      |
    6 |       library/nginx: reg:5000/p
      |       ^^^^^^^^^^^^^
      |
      = hint: write the host too, e.g. `docker.io/library/nginx`

    error[LF0309]: `ALL` does not start with a registry's host
     --> user-data:7:7
      |
    7 |       ALL: reg:5000/p
      |       ^^^
      |
      = hint: the key for every image is `all`, in lower case
    "###);
}

#[test]
fn certificates_are_looked_at() {
    let shown = findings(
        r#"#cloud-config
stylus:
  externalRegistries:
    registries:
      - domain: a:5000
        certificates: none
      - domain: b:5000
        certificates:
          - |
            -----BEGIN CERTIFICATE-----
            REPLACE
            -----END CERTIFICATE-----
    registryMappingRules: {gcr.io: a:5000}
"#,
        "",
    );
    insta::assert_snapshot!(shown, @r###"
    error[LF0305]: `stylus.externalRegistries.registries[0].certificates` is not a PEM certificate
     --> user-data:6:23
      |
    6 |         certificates: none
      |                       ^^^^
      |
      = hint: write it as a block, from `-----BEGIN CERTIFICATE-----` to `-----END CERTIFICATE-----`

    warning[LF0306]: `stylus.externalRegistries.registries[1].certificates[0]` holds no certificate between its BEGIN and END lines
      --> user-data:10:13
       |
    10 |             -----BEGIN CERTIFICATE-----
       |             ^^^^^^^^^^^^^^^^^^^^^^^^^^^
       |
       = hint: put the certificate of the registry's CA there; without it only the system's are trusted
    "###);
}

#[test]
fn an_encoded_password_must_be_base64() {
    let shown = findings(
        r#"#cloud-config
stylus:
  registryCredentials:
    domain: reg:5000
    username: admin
    password: "canary-7f3a!"
    encodedPassword: true
"#,
        "",
    );
    insta::assert_snapshot!(shown, @r###"
    error[LF0304]: `stylus.registryCredentials.password` is not base64 of a text
     --> user-data:6:15
      |
    6 |     password: ****
      |               ^^^^
      |
      = hint: encode the password (`printf %s PASSWORD | base64`), or set `encodedPassword: false`
    "###);
}

#[test]
fn a_login_in_a_domain_is_refused_and_masked() {
    let shown = findings(
        r#"#cloud-config
stylus:
  registryCredentials:
    domain: https://admin:canary-7f3a@reg:5000
"#,
        "",
    );
    insta::assert_snapshot!(shown, @r###"
    warning[LF0302]: the name of a registry has no scheme: `https://` is left out
     --> user-data:4:13
      |
    4 |     domain: ****
      |             ^^^^
      |
      = hint: remove it

    error[LF0303]: `stylus.registryCredentials.domain` holds a user name or password
     --> user-data:4:13
      |
    4 |     domain: ****
      |             ^^^^
      |
      = hint: write `host[:port][/path]` here, and the login into keys of their own
    "###);
}

#[test]
fn a_domain_must_be_one() {
    let shown = findings(
        r#"#cloud-config
stylus:
  registryCredentials:
    domain: "reg :5000/Path"
"#,
        "",
    );
    insta::assert_snapshot!(shown, @r###"
    error[LF0301]: `reg :5000` is not a registry host
     --> user-data:4:13
      |
    4 |     domain: "reg :5000/Path"
      |             ^^^^^^^^^^^^^^^^
      |
      = hint: write `host[:port][/path]`, e.g. `10.10.254.254:8000/spectro-images`
    "###);
}

#[test]
fn wrong_types_are_all_found_at_once() {
    let shown = findings(
        r#"#cloud-config
stylus:
  registryCredentials:
    domain: [reg]
    username: 12
    password: 123456
    insecure: "yes"
  imageRedirectWebhook:
    port: 70000
  managementMode: locale
"#,
        "",
    );
    insta::assert_snapshot!(shown, @r###"
    error[LF0201]: `stylus.registryCredentials.domain` takes a string, and this is a list
     --> user-data:4:13
      |
    4 |     domain: [reg]
      |             ^^^^^
      |
      = hint: write a string

    error[LF0201]: `stylus.registryCredentials.username` takes a string, and this is a number
     --> user-data:5:15
      |
    5 |     username: 12
      |               ^^
      |
      = hint: put the value in quotes

    error[LF0201]: `stylus.registryCredentials.password` takes a string, and this is a number
     --> user-data:6:15
      |
    6 |     password: ****
      |               ^^^^
      |
      = hint: put the value in quotes

    error[LF0201]: `stylus.registryCredentials.insecure` takes `true` or `false`, and this is a string
     --> user-data:7:15
      |
    7 |     insecure: "yes"
      |               ^^^^^
      |
      = hint: write `true` or `false`, without quotes

    error[LF0207]: `stylus.imageRedirectWebhook.port` cannot be 70000
     --> user-data:9:11
      |
    9 |     port: 70000
      |           ^^^^^
      |
      = hint: write a whole number from 0 to 65535

    error[LF0208]: `stylus.managementMode` cannot be `locale`
      --> user-data:10:19
       |
    10 |   managementMode: locale
       |                   ^^^^^^
       |
       = hint: did you mean `local`? It takes `central` or `local`
    "###);
}

#[test]
fn a_key_may_stand_once() {
    let shown = findings(
        r#"#cloud-config
stylus:
  site: {}
  site:
    name: b
"#,
        "",
    );
    insta::assert_snapshot!(shown, @r###"
    error[LF0106]: the key `site` is written twice in one mapping
     --> user-data:4:3
      |
    4 |   site:
      |   ^^^^
      |
     ::: user-data:3:3
      |
    3 |   site: {}
      |   ---- first written here
      |
      = hint: remove one of the two; the first is used
    "###);
}

#[test]
fn a_second_document_is_not_read() {
    let shown = findings(
        r#"#cloud-config
stylus: {}
---
stylus: {}
"#,
        "",
    );
    insta::assert_snapshot!(shown, @r###"
    error[LF0108]: a second YAML document starts here and is not read
     --> user-data:4:1
      |
    4 | stylus: {}
      | ^^^^^^^^^^
      |
      = hint: write each document to a file of its own, or remove the `---` above
    "###);
}

#[test]
fn our_own_settings_have_no_unknown_keys() {
    let shown = findings(
        r#"#cloud-config
landfall:
  statedir: /x
  primary: {kind: harbour}
  concurrency: 0
"#,
        "",
    );
    insta::assert_snapshot!(shown, @r###"
    error[LF0204]: unknown key `landfall.statedir`
     --> user-data:3:3
      |
    3 |   statedir: /x
      |   ^^^^^^^^
      |
      = hint: did you mean `stateDir`?

    error[LF0208]: `landfall.primary.kind` cannot be `harbour`
     --> user-data:4:19
      |
    4 |   primary: {kind: harbour}
      |                   ^^^^^^^
      |
      = hint: did you mean `harbor`? It takes `embedded` or `registry` or `zot` or `harbor`

    error[LF0207]: `landfall.concurrency` cannot be 0
     --> user-data:5:16
      |
    5 |   concurrency: 0
      |                ^
      |
      = hint: write a whole number from 1 to 256
    "###);
}

#[test]
fn broken_yaml_is_shown_where_it_breaks() {
    let shown = findings(
        r#"#cloud-config
stylus:
  site:
    name: a: b
"#,
        "",
    );
    insta::assert_snapshot!(shown, @r###"
    error[LF0102]: cannot parse YAML: mapping values are not allowed in this context
     --> user-data:4:12
      |
    4 |     name: a: b
      |            ^
      |
      = hint: check the indentation, and put values with special characters (`: `, `@`, `%`, `{`) in quotes
    "###);
}

#[test]
fn stages_are_looked_at() {
    let shown = findings(
        r#"#cloud-config
stages:
  initramfz:
    name: one
    files:
      - path: etc/motd
        permissions: 644
      - path: /a
        permission: 0644
        encoding: b64
        content: "!canary-7f3a"
      - path: /b
        permissions: "0849"
"#,
        "",
    );
    insta::assert_snapshot!(shown, @r###"
    warning[LF0209]: `stages.initramfz` is a mapping where a list belongs
     --> user-data:3:3
      |
    3 |   initramfz:
      |   ^^^^^^^^^
      |
      = hint: put `- ` in front of its first key and indent the others by two

    warning[LF0601]: there is no stage `initramfz`
     --> user-data:3:3
      |
    3 |   initramfz:
      |   ^^^^^^^^^
      |
      = hint: did you mean `initramfs`?

    error[LF0606]: `stages.initramfz.files[0].path` is not an absolute path without `..`
     --> user-data:6:15
      |
    6 |       - path: etc/motd
      |               ^^^^^^^^
      |
      = hint: write the whole path, from `/` on

    warning[LF0604]: `644` is a decimal number here, and means the mode 1204
     --> user-data:7:22
      |
    7 |         permissions: 644
      |                      ^^^
      |
      = hint: write `0644`

    warning[LF0602]: `permission` is no key of a stage's file and has no effect
     --> user-data:9:9
      |
    9 |         permission: 0644
      |         ^^^^^^^^^^
      |
      = hint: write `permissions`

    error[LF0605]: the content of `/a` cannot be decoded: it is not base64
      --> user-data:11:18
       |
    11 |         content: ****
       |                  ^^^^
       |
       = hint: encode it as `encoding` says, or remove `encoding`

    error[LF0603]: `stages.initramfz.files[2].permissions` is not a file mode
      --> user-data:13:22
       |
    13 |         permissions: "0849"
       |                      ^^^^^^
       |
       = hint: write octal digits, such as `0644`
    "###);
}

#[test]
fn registries_yaml_with_configs_only_redirects_nothing() {
    let shown = findings(
        r#"#cloud-config
stages:
  boot:
    - files:
        - path: /etc/rancher/k3s/registries.yaml
          content: |
            configs:
              reg:
                auth: {username: a, password: canary-7f3a}
"#,
        "",
    );
    insta::assert_snapshot!(shown, @r###"
    warning[LF0502]: `/etc/rancher/k3s/registries.yaml` has `configs` and no `mirrors`: K3s gets logins, and redirects no pull
     --> user-data:7:13
      |
    7 |             configs:
      |             ^^^^^^^^
      |
      = hint: add `mirrors`, e.g. `mirrors: {gcr.io: {endpoint: ["https://reg.example.com"]}}`
    "###);
}

#[test]
fn always_pull_images_is_an_error_in_every_form() {
    let shown = findings(
        r#"#cloud-config
stylus:
  registryCredentials: {domain: reg:5000}
"#,
        r#"metadata: {name: edge}
spec:
  template:
    packs:
      - name: edge-k8s
        layer: k8s
        values: |
          cluster:
            config: |
              clusterConfiguration:
                apiServer:
                  extraArgs:
                    - name: enable-admission-plugins
                      value: NodeRestriction,AlwaysPullImages
      - name: edge-k3s
        layer: k8s
        values: |
          cluster:
            config: |
              kube-apiserver-arg:
                - anonymous-auth=true
                - enable-admission-plugins=AlwaysPullImages
      - name: edge-rke2
        layer: k8s
        values:
          cluster:
            config:
              kube-apiserver-arg: ["enable-admission-plugins=A,AlwaysPullImages,B"]
"#,
    );
    insta::assert_snapshot!(shown, @r###"
    error[LF0501]: `AlwaysPullImages` cannot be used with an external registry: preloaded core images could not start
      --> profile.yaml:14:30
       |
    14 |                       value: NodeRestriction,AlwaysPullImages
       |                              ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
       |
       = hint: write `value: NodeRestriction`; `landfall profile fix` does it

    error[LF0501]: `AlwaysPullImages` cannot be used with an external registry: preloaded core images could not start
      --> profile.yaml:22:19
       |
    22 |                 - enable-admission-plugins=AlwaysPullImages
       |                   ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
       |
       = hint: remove the flag; `landfall profile fix` does it

    error[LF0501]: `AlwaysPullImages` cannot be used with an external registry: preloaded core images could not start
      --> profile.yaml:28:36
       |
    28 |               kube-apiserver-arg: ["enable-admission-plugins=A,AlwaysPullImages,B"]
       |                                    ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
       |
       = hint: write `- enable-admission-plugins=A,B`; `landfall profile fix` does it
    "###);
}

#[test]
fn a_template_without_a_value_is_shown_in_its_place() {
    let shown = findings(
        "",
        r#"metadata: {name: edge}
spec:
  template:
    packs:
      - name: edge-native-byoi
        layer: os
        values: |
          options:
            system.uri: "{{ .spectro.pack.edge-native-byoi.options.system.registry }}/os:{{.spectro.var.tag}}"
            system.registry: "{{.spectro.macro.registry}}"
          providerCredentials:
            registry: example.io
            user: a
            password: {{.spectro.macro.provider-password}}
      - name: app
        layer: addon
        values: |
          pack:
            content:
              images:
                - image: "{{.spectro.var.a | upper}}"
                - image: "{{.spectro.pack.none.options.x}}"
"#,
    );
    insta::assert_snapshot!(shown, @r###"
    error[LF0401]: the template `{{.spectro.macro.registry}}` has no value
     --> profile.yaml:9:26
      |
    9 |             system.uri: "{{ .spectro.pack.edge-native-byoi.options.system.registry }}/os:{{.spectro.var.tag}}"
      |                          ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
      |
      = hint: give it one: `--set macro.registry=…`, or in a values file

    error[LF0401]: the template `{{.spectro.var.tag}}` has no value
     --> profile.yaml:9:90
      |
    9 |             system.uri: "{{ .spectro.pack.edge-native-byoi.options.system.registry }}/os:{{.spectro.var.tag}}"
      |                                                                                          ^^^^^^^^^^^^^^^^^^^^
      |
      = hint: give it one: `--set var.tag=…`, or in a values file

    error[LF0401]: the template `{{.spectro.macro.registry}}` has no value
      --> profile.yaml:10:31
       |
    10 |             system.registry: "{{.spectro.macro.registry}}"
       |                               ^^^^^^^^^^^^^^^^^^^^^^^^^^^
       |
       = hint: give it one: `--set macro.registry=…`, or in a values file

    error[LF0401]: the template `{{.spectro.macro.provider-password}}` has no value
      --> profile.yaml:14:23
       |
    14 |             password: {{.spectro.macro.provider-password}}
       |                       ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
       |
       = hint: give it one: `--set macro.provider-password=…`, or in a values file

    error[LF0402]: cannot evaluate this template: it is more than one name
      --> profile.yaml:21:27
       |
    21 |                 - image: "{{.spectro.var.a | upper}}"
       |                           ^^^^^^^^^^^^^^^^^^^^^^^^^^
       |
       = hint: write one look-up such as `{{.spectro.macro.NAME}}`, with the finished value in the macro

    error[LF0401]: the template `{{.spectro.pack.none.options.x}}` has no value
      --> profile.yaml:22:27
       |
    22 |                 - image: "{{.spectro.pack.none.options.x}}"
       |                           ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
       |
       = hint: no pack of the profiles has this name; write `.spectro.pack.<pack>.options.<key>`
    "###);
}

#[test]
fn images_in_nested_strings_are_shown_in_the_file() {
    let shown = findings(
        "",
        r#"metadata: {name: edge}
spec:
  template:
    packs:
      - name: os
        layer: OS
        values: "pack:\n  content:\n    images:\n    - image: Upper/case\n"
        manifests:
          - name: a
            content: |
              kind: Pod
              spec:
                containers:
                  - image: nginx:-1
                  - image: "{{ .Values.image }}"
                volumes:
                  - image: {reference: us.grc.io/a/b}
          - name: b
            content: |
              {{ if .Values.x }}
              a: [
"#,
    );
    insta::assert_snapshot!(shown, @r###"
    warning[LF0409]: pack `os` is in the unknown layer `OS`; it is treated as `addon`
     --> profile.yaml:6:16
      |
    6 |         layer: OS
      |                ^^
      |
      = hint: did you mean `os`?

    error[LF0404]: the image of pack `os` cannot be used: `-1` is not a tag: letters, digits, `_`, `.` and `-`, at most 128, not `.` or `-` first
      --> profile.yaml:14:28
       |
    14 |                   - image: nginx:-1
       |                            ^^^^^^^^
       |
       = hint: write `host/path:tag` or `host/path@sha256:…`

    warning[LF0404]: `{{ .Values.image }}` is a template of another tool; the image is not listed
      --> profile.yaml:15:28
       |
    15 |                   - image: "{{ .Values.image }}"
       |                            ^^^^^^^^^^^^^^^^^^^^^
       |
       = hint: list the finished image in `pack.content.images`

    warning[LF0308]: `us.grc.io` is probably a typing error for `us.gcr.io`
      --> profile.yaml:17:40
       |
    17 |                   - image: {reference: us.grc.io/a/b}
       |                                        ^^^^^^^^^^^^^
       |
       = hint: write `us.gcr.io`

    warning[LF0407]: the manifest `b` of pack `os` holds templates and is not YAML
      --> profile.yaml:18:19
       |
    18 |           - name: b
       |                   ^
       |
       = hint: list its images in `pack.content.images` of the pack
    "###);
}

#[test]
fn a_profile_in_json_is_shown_with_its_line_cut() {
    let shown = findings(
        "",
        r#"{"metadata": {"name": "edge"},
 "spec": {"template": {"packs": [{"name": "app", "layer": "addon", "values": "pack:\n  content:\n    images:\n      - image: nginx:1\n      - image: nginx:1:2\nx:\n  password: canary-7f3a\n  user: "}]}}}
"#,
    );
    insta::assert_snapshot!(shown, @r###"
    error[LF0404]: the image of pack `app` cannot be used: `1:2` is not a tag: letters, digits, `_`, `.` and `-`, at most 128, not `.` or `-` first
     --> profile.yaml:2:150
      |
     ::: 
    2 | …  images:\n      - image: nginx:1\n      - image: nginx:1:2\nx:\n  password: ****\n  user: "}]}}}
      |                                                    ^^^^^^^^^
      |
      = hint: write `host/path:tag` or `host/path@sha256:…`
    "###);
}

#[test]
fn a_file_without_packs_is_no_profile() {
    let shown = findings(
        "",
        r#"metadata: {name: x}
"#,
    );
    insta::assert_snapshot!(shown, @r###"
    error[LF0406]: there are no packs: this is not a cluster profile
     --> profile.yaml:1:1
      |
    1 | metadata: {name: x}
      | ^^^^^^^^^^^^^^^^^^^
      |
      = hint: give the profile as Palette's API exports it, with its packs at `spec.template.packs`
    "###);
}

#[test]
fn references_to_secrets_need_a_cluster() {
    let shown = findings(
        "",
        r#"metadata: {name: edge}
spec:
  template:
    packs:
      - name: registry-connect
        layer: addon
        values: |
          charts:
            registry-connect:
              config:
                registry:
                  inClusterRegistry:
                    credentials:
                      username: admin
                      passwordRef: {kind: Secret, name: x, key: y}
                  imageReplacementRules: |
                    gcr.io/a: https://reg:5000/b
                  credentials:
                    - domain: reg:5000
                      username: a
                      password: ""
"#,
    );
    insta::assert_snapshot!(shown, @r###"
    warning[LF0317]: `packs[registry-connect].values.charts.registry-connect.config.registry.inClusterRegistry.credentials.passwordRef` names an object of the cluster, which is not read here
      --> profile.yaml:15:36
       |
    15 |                       passwordRef: {kind: Secret, name: x, key: y}
       |                                    ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
       |
       = hint: write the value itself, e.g. by `{{.spectro.macro.NAME}}` and `--set macro.NAME=…`

    warning[LF0302]: the name of a registry has no scheme: `https://` is left out
      --> profile.yaml:17:31
       |
    17 |                     gcr.io/a: https://reg:5000/b
       |                               ^^^^^^^^^^^^^^^^^^
       |
       = hint: remove it
    "###);
}

#[test]
fn an_os_pack_needs_a_provider_image() {
    let shown = findings(
        "",
        r#"metadata: {name: edge}
spec:
  template:
    packs:
      - name: os
        layer: os
        values: |
          pack: {}
"#,
    );
    insta::assert_snapshot!(shown, @r###"
    warning[LF0405]: the OS pack `os` names no provider image
     --> profile.yaml:5:15
      |
    5 |       - name: os
      |               ^^
      |
      = hint: add `options: {system.uri: <image>}` to its values, or `system.uri: NA` if there is none
    "###);
}

#[test]
fn the_provider_login_is_for_one_registry() {
    let shown = findings(
        "",
        r#"metadata: {name: edge}
spec:
  template:
    packs:
      - name: os
        layer: os
        values: |
          options: {system.uri: "other.io/os:1"}
          providerCredentials: {registry: example.io, user: a, password: canary-7f3a}
"#,
    );
    insta::assert_snapshot!(shown, @r###"
    warning[LF0316]: the provider image is at `other.io`, not at `example.io`: this login is not used
     --> profile.yaml:9:43
      |
    9 |           providerCredentials: {registry: example.io, user: a, password: ****
      |                                           ^^^^^^^^^^
      |
     ::: profile.yaml:8:33
      |
    8 |           options: {system.uri: "other.io/os:1"}
      |                                 --------------- the provider image
      |
      = hint: write `registry: other.io`
    "###);
}

#[test]
fn several_registries_need_rules() {
    let shown = findings(
        r#"#cloud-config
stylus:
  externalRegistries:
    registries:
      - domain: a:5000
      - domain: b:5000
      - domain: a:5000/
"#,
        r#"metadata: {name: edge}
spec:
  template:
    packs:
      - name: app
        values: |
          pack: {content: {images: [{image: "nginx:1"}]}}
"#,
    );
    insta::assert_snapshot!(shown, @r###"
    warning[LF0315]: this registry is written twice; the first entry is used
     --> user-data:7:9
      |
    7 |       - domain: a:5000/
      |         ^^^^^^^^^^^^^^^
      |
     ::: user-data:5:9
      |
    5 |       - domain: a:5000
      |         -------------- first written here
      |
      = hint: remove one of the entries

    warning[LF0312]: there are several external registries and no rule: `nginx:1` is pulled from where it is
     --> profile.yaml:7:45
      |
    7 |           pack: {content: {images: [{image: "nginx:1"}]}}
      |                                             ^^^^^^^^^
      |
      = hint: add `registryMappingRules` that say which registry has which images
    "###);
}

#[test]
fn a_host_without_dot_or_port_is_docker_hub_to_others() {
    let shown = findings(
        "#cloud-config\nstylus:\n  registryCredentials:\n    domain: reg/images\n",
        "",
    );
    insta::assert_snapshot!(shown, @r#"
    error[LF0320]: other programs read `reg/…` as `docker.io/reg/…`
     --> user-data:4:13
      |
    4 |     domain: reg/images
      |             ^^^^^^^^^^
      |
      = hint: write the port too: `reg:443`, or the host's full name
    "#);
}

#[test]
fn addresses_of_our_own_that_cannot_be_used_are_found_before_the_agent_binds() {
    let shown = findings(
        r#"#cloud-config
landfall:
  listen: foo
  webhook: {listen: "127.0.0.1:9443"}
  primary: {listen: ":30003", project: Team/../b}
"#,
        "",
    );
    insta::assert_snapshot!(shown, @r###"
    error[LF0607]: `landfall.listen` is not `host:port`
     --> user-data:3:11
      |
    3 |   listen: foo
      |           ^^^
      |
      = hint: write e.g. `127.0.0.1:5080`, or `[::1]:5080`

    error[LF0607]: `landfall.webhook.listen` is not a host without a port
     --> user-data:4:21
      |
    4 |   webhook: {listen: "127.0.0.1:9443"}
      |                     ^^^^^^^^^^^^^^^^
      |
      = hint: write e.g. `127.0.0.1`; the port is `stylus.imageRedirectWebhook.port`

    error[LF0607]: `landfall.primary.listen` is not `host:port`
     --> user-data:5:21
      |
    5 |   primary: {listen: ":30003", project: Team/../b}
      |                     ^^^^^^^^
      |
      = hint: write e.g. `127.0.0.1:5080`, or `[::1]:5080`

    error[LF0607]: `landfall.primary.project` cannot be part of a repository's name
     --> user-data:5:40
      |
    5 |   primary: {listen: ":30003", project: Team/../b}
      |                                        ^^^^^^^^^
      |
      = hint: write it in lower case, with letters, digits, `-`, `_` and `.`, e.g. `spectro-images`
    "###);
}

#[test]
fn addresses_of_our_own_may_be_names_and_ipv6() {
    let shown = findings(
        r#"#cloud-config
landfall:
  listen: "[::]:5080"
  webhook: {listen: "::1"}
  primary: {listen: "localhost:30003", project: /team/images/}
"#,
        "",
    );
    assert_eq!(shown, "");
}

#[test]
fn two_rules_for_one_prefix_are_one_too_many() {
    let shown = findings(
        r#"#cloud-config
stylus:
  externalRegistries:
    registries: [{domain: reg.example.com}]
    registryMappingRules:
      docker.io: reg.example.com/a
      https://index.docker.io/: reg.example.com/b
      gcr.io/x: ""
"#,
        "",
    );
    insta::assert_snapshot!(shown, @r###"
    warning[LF0302]: the name of a registry has no scheme: `https://` is left out
     --> user-data:7:7
      |
    7 |       https://index.docker.io/: reg.example.com/b
      |       ^^^^^^^^^^^^^^^^^^^^^^^^
      |
      = hint: remove it

    warning[LF0321]: a rule for this prefix is there already; the first one is used
     --> user-data:7:7
      |
    7 |       https://index.docker.io/: reg.example.com/b
      |       ^^^^^^^^^^^^^^^^^^^^^^^^
      |
     ::: user-data:6:7
      |
    6 |       docker.io: reg.example.com/a
      |       --------- the first one
      |
      = hint: remove one of the two; schemes, slashes at the end and aliases of `docker.io` make no difference

    error[LF0309]: `stylus.externalRegistries.registryMappingRules."gcr.io/x"` is empty
     --> user-data:8:17
      |
    8 |       gcr.io/x: ""
      |                 ^^
      |
      = hint: write `host[:port][/path]`, or remove the rule
    "###);
}

#[test]
fn an_empty_profile_is_no_profile() {
    insta::assert_snapshot!(findings("", "# nothing\n---\n"), @r###"
    error[LF0406]: the profile is empty
     --> profile.yaml:1:1
      |
    1 | # nothing
      | ^
      |
      = hint: give the profile as Palette's API exports it, with its packs at `spec.template.packs`
    "###);
}

#[test]
fn an_empty_document_behind_the_first_loses_nothing() {
    assert_eq!(findings("#cloud-config\nstylus: {}\n---\n# the end\n", ""), "");
}

#[test]
fn an_unquoted_template_of_another_tool_is_said_to_hide_an_image() {
    let shown = findings(
        "",
        r#"spec:
  packs:
    - name: chart
      layer: addon
      manifests:
        - name: pod
          content: |
            spec:
              containers:
                - image: {{ .Values.image }}
"#,
    );
    insta::assert_snapshot!(shown, @r###"
    warning[LF0404]: `{{ .Values.image }}` is a template of another tool; the image is not listed
      --> profile.yaml:10:26
       |
    10 |                 - image: {{ .Values.image }}
       |                          ^^^^^^^^^^^^^^^^^^^
       |
       = hint: list the finished image in `pack.content.images`
    "###);
}

#[test]
fn a_secret_that_cannot_be_parsed_is_not_shown() {
    // The manifest is given as a block, which shows the wrong line, and as JSON, which shows a neighbour.
    let manifest = "kind: Secret\nstringData:\n  free: canary: x\n";
    let block = manifest.replace('\n', "\n            ");
    findings(
        "",
        &format!(
            "spec:\n  packs:\n    - name: a\n      manifests:\n        - name: s\n          content: |\n            {block}\n"
        ),
    );
    let json = serde_json::json!({"spec": {"packs": [{"name": "a", "layer": "nowhere", "manifests": [{"name": "s", "content": manifest}]}]}});
    findings("", &json.to_string());
}

#[test]
fn a_login_in_front_of_an_image_is_not_shown() {
    let shown = findings(
        "",
        r#"spec:
  packs:
    - name: a
      layer: addon
      values: |
        pack: {content: {images: [{image: "user:canary@reg.io/x:1"}]}}
"#,
    );
    insta::assert_snapshot!(shown, @r###"
    error[LF0404]: the image of pack `a` cannot be used: `reg.io/x:1` is not a digest: write `sha256:` or `sha512:` and the hexadecimal digits
     --> profile.yaml:6:43
      |
    6 |         pack: {content: {images: [{image: ****}]}}
      |                                           ^^^^
      |
      = hint: write `host/path:tag` or `host/path@sha256:…`
    "###);
}
