//! The host's files: from user-data to the rendered text.

use landfall_core::config::{Inputs, parse_settings};
use landfall_core::diagnostic::NamedText;
use landfall_core::hostconf::kubelet::render_logins;
use landfall_core::hostconf::{HEADER, Rendering, is_ours, render};
use landfall_core::settings::{Dialect, Settings};

fn settings_of(user_data: &str) -> Settings {
    let inputs = Inputs {
        user_data: vec![NamedText {
            name: "user-data.yaml".into(),
            text: user_data.into(),
        }],
        ..Inputs::default()
    };
    parse_settings(&inputs).0.expect("the user-data can be read")
}

#[test]
fn each_registry_with_a_login_has_a_file_that_only_root_reads() {
    let settings = settings_of(
        "#cloud-config
stylus:
  externalRegistries:
    registries:
      - {domain: 'reg:5000', username: all, password: one}
      - {domain: 'reg:5000/team/', username: team, password: two}
      - {domain: open.example.com}
landfall:
  primary: {endpoint: '10.0.0.1:30003', username: admin, password: three}
",
    );
    let files = render_logins(&settings);
    let shown: String = files
        .iter()
        .map(|file| format!("{} {:04o}\n{}", file.path, file.mode, *file.content))
        .collect();
    insta::assert_snapshot!(shown, @r#"
    /etc/kubernetes/registries/10.0.0.1:30003.json 0600
    {
      "managedBy": "landfall",
      "username": "admin",
      "password": "three",
      "duration": "0h5m0s",
      "subdomains": false
    }
    /etc/kubernetes/registries/reg:5000.json 0600
    {
      "managedBy": "landfall",
      "username": "all",
      "password": "one",
      "duration": "0h5m0s",
      "subdomains": false,
      "paths": {
        "team": {
          "username": "team",
          "password": "two"
        }
      }
    }
    "#);
    assert!(!format!("{files:?}").contains("one"), "a password is printed");
}

/// Joins files, fragments and gaps to one text.
fn shown(rendering: &Rendering) -> String {
    let files = rendering
        .files
        .iter()
        .map(|file| format!("==> {} {:04o}\n{}", file.path, file.mode, *file.content));
    let gaps = rendering.gaps.iter().map(|gap| format!("gap: {gap}\n"));
    let fragments = rendering
        .fragments
        .iter()
        .map(|part| format!("==> for {}\n{}", part.place, part.text));
    let text: String = files.chain(fragments).chain(gaps).collect();
    text.replace(HEADER, "# (header)\n")
}

const PREPEND: &str = "#cloud-config
stylus:
  registryCredentials: {domain: 'ext.example.com:8000/spectro-images/', username: edge, password: secret}
landfall:
  primary: {endpoint: '10.0.0.1:30003', username: admin, password: other}
  mirror: {hosts: [quay.io, 'other:8443']}
";

const RULES: &str = "#cloud-config
stylus:
  externalRegistries:
    registries:
      - {domain: ex.example.com/internal, username: edge, password: secret, certificates: \"-----BEGIN CERTIFICATE-----\\nMIIB\\n-----END CERTIFICATE-----\"}
      - {domain: 'plain:5000', insecure: true}
    registryMappingRules:
      gcr.io: ex.example.com/internal/gcr
      us-docker.pkg.dev/palette-images: ex.example.com/internal
      us-docker.pkg.dev/other: ex.example.com/internal
      quay.io/team: plain:5000/mirror/team
";

#[test]
fn prepending_is_a_url_with_override_path_and_the_origin_is_never_the_server() {
    insta::assert_snapshot!(shown(&render(&settings_of(PREPEND), Dialect::Containerd)), @r#"
    ==> /etc/containerd/certs.d/other:8443/hosts.toml 0600
    # (header)
    server = "https://ext.example.com:8000/v2/spectro-images/other_8443"
    capabilities = ["pull", "resolve"]
    override_path = true

    [header]
    authorization = "Basic ZWRnZTpzZWNyZXQ="

    [host."https://10.0.0.1:30003/v2/spectro-images/ext.example.com_8000/spectro-images/other_8443"]
      capabilities = ["pull", "resolve"]
      override_path = true
      ca = "/var/lib/landfall/primary/ca.crt"

    [host."https://10.0.0.1:30003/v2/spectro-images/ext.example.com_8000/spectro-images/other_8443".header]
      authorization = "Basic YWRtaW46b3RoZXI="
    ==> /etc/containerd/certs.d/quay.io/hosts.toml 0600
    # (header)
    server = "https://ext.example.com:8000/v2/spectro-images/quay.io"
    capabilities = ["pull", "resolve"]
    override_path = true

    [header]
    authorization = "Basic ZWRnZTpzZWNyZXQ="

    [host."https://10.0.0.1:30003/v2/spectro-images/ext.example.com_8000/spectro-images/quay.io"]
      capabilities = ["pull", "resolve"]
      override_path = true
      ca = "/var/lib/landfall/primary/ca.crt"

    [host."https://10.0.0.1:30003/v2/spectro-images/ext.example.com_8000/spectro-images/quay.io".header]
      authorization = "Basic YWRtaW46b3RoZXI="
    ==> /etc/containerd/certs.d/10.0.0.1:30003/hosts.toml 0644
    # (header)
    server = "https://10.0.0.1:30003"
    capabilities = ["pull", "resolve"]
    ca = "/var/lib/landfall/primary/ca.crt"

    [host]
    ==> for `/etc/containerd/config.toml`, if it has `version = 2` (all of containerd 1.x); then restart containerd
    [plugins."io.containerd.grpc.v1.cri".registry]
      config_path = "/etc/containerd/certs.d"
    ==> for `/etc/containerd/config.toml`, if it has `version = 3` or more (containerd 2); then restart containerd
    [plugins."io.containerd.cri.v1.images".registry]
      config_path = "/etc/containerd/certs.d"
    gap: images of registries that neither the profiles nor the rules name are pulled as they are written; hint: `landfall.mirror.hosts` names more, `landfall.mirror.enable` covers all
    gap: it is not known if containerd reads `/etc/containerd/certs.d`: the host was not looked at
    "#);
}

#[test]
fn rules_for_whole_registries_are_said_to_containerd_and_others_are_gaps() {
    insta::assert_snapshot!(shown(&render(&settings_of(RULES), Dialect::Containerd)), @r#"
    ==> /etc/containerd/certs.d/gcr.io/ex.example.com-landfall-ca.crt 0644
    # (header)
    -----BEGIN CERTIFICATE-----
    MIIB
    -----END CERTIFICATE-----
    ==> /etc/containerd/certs.d/gcr.io/hosts.toml 0600
    # (header)
    server = "https://ex.example.com/v2/internal/gcr"
    capabilities = ["pull", "resolve"]
    override_path = true
    ca = "ex.example.com-landfall-ca.crt"

    [header]
    authorization = "Basic ZWRnZTpzZWNyZXQ="

    [host]
    ==> /etc/containerd/certs.d/quay.io/hosts.toml 0644
    # (header)
    server = "https://quay.io"
    capabilities = ["pull", "resolve"]

    [host."https://plain:5000/v2/mirror"]
      capabilities = ["pull", "resolve"]
      override_path = true
      skip_verify = true

    [host."http://plain:5000/v2/mirror"]
      capabilities = ["pull", "resolve"]
      override_path = true
    ==> /etc/containerd/certs.d/ex.example.com/ex.example.com-landfall-ca.crt 0644
    # (header)
    -----BEGIN CERTIFICATE-----
    MIIB
    -----END CERTIFICATE-----
    ==> /etc/containerd/certs.d/ex.example.com/hosts.toml 0644
    # (header)
    server = "https://ex.example.com"
    capabilities = ["pull", "resolve"]
    ca = "ex.example.com-landfall-ca.crt"

    [host]
    ==> /etc/containerd/certs.d/plain:5000/hosts.toml 0644
    # (header)
    server = "http://plain:5000"
    capabilities = ["pull", "resolve"]

    [host."https://plain:5000"]
      capabilities = ["pull", "resolve"]
      skip_verify = true
    ==> for `/etc/containerd/config.toml`, if it has `version = 2` (all of containerd 1.x); then restart containerd
    [plugins."io.containerd.grpc.v1.cri".registry]
      config_path = "/etc/containerd/certs.d"
    ==> for `/etc/containerd/config.toml`, if it has `version = 3` or more (containerd 2); then restart containerd
    [plugins."io.containerd.cri.v1.images".registry]
      config_path = "/etc/containerd/certs.d"
    gap: the rule for `quay.io/team` is for a part of a registry: all of `quay.io` is asked for at its target first, and at the registry itself where it is not there
    gap: the rules for `us-docker.pkg.dev/other`, `us-docker.pkg.dev/palette-images` are for parts of a registry, and `hosts.toml` knows registries only: images of `us-docker.pkg.dev` are pulled as they are written; hint: `landfall.mirror.enable` follows every rule
    gap: images of registries that neither the profiles nor the rules name are pulled as they are written; hint: `landfall.mirror.hosts` names more, `landfall.mirror.enable` covers all
    gap: it is not known if containerd reads `/etc/containerd/certs.d`: the host was not looked at
    "#);
}

#[test]
fn registries_yaml_has_mirrors_rewrites_and_logins() {
    insta::assert_snapshot!(shown(&render(&settings_of(PREPEND), Dialect::K3s)), @r#"
    ==> /etc/rancher/k3s/registries.yaml 0600
    # (header)
    mirrors:
      "docker.io":
        endpoint:
          - "https://10.0.0.1:30003/v2/spectro-images/ext.example.com_8000"
          - "https://ext.example.com:8000"
        rewrite:
          "^(.*)$": "spectro-images/docker.io/$1"
      "index.docker.io":
        endpoint:
          - "https://10.0.0.1:30003/v2/spectro-images/ext.example.com_8000"
          - "https://ext.example.com:8000"
        rewrite:
          "^(.*)$": "spectro-images/docker.io/$1"
      "registry-1.docker.io":
        endpoint:
          - "https://10.0.0.1:30003/v2/spectro-images/ext.example.com_8000"
          - "https://ext.example.com:8000"
        rewrite:
          "^(.*)$": "spectro-images/docker.io/$1"
      "other:8443":
        endpoint:
          - "https://10.0.0.1:30003/v2/spectro-images/ext.example.com_8000"
          - "https://ext.example.com:8000"
        rewrite:
          "^(.*)$": "spectro-images/other_8443/$1"
      "quay.io":
        endpoint:
          - "https://10.0.0.1:30003/v2/spectro-images/ext.example.com_8000"
          - "https://ext.example.com:8000"
        rewrite:
          "^(.*)$": "spectro-images/quay.io/$1"
    configs:
      "10.0.0.1:30003":
        auth:
          username: "admin"
          password: "other"
        tls:
          ca_file: "/var/lib/landfall/primary/ca.crt"
      "ext.example.com:8000":
        auth:
          username: "edge"
          password: "secret"
    ==> for /etc/rancher/k3s/config.yaml.d/90-landfall.yaml, where the registries themselves must not be asked
    disable-default-registry-endpoint: true
    gap: images of registries that neither the profiles nor the rules name are pulled as they are written; hint: `landfall.mirror.hosts` names more, `landfall.mirror.enable` covers all
    gap: k3s asks the registry itself where no mirror has an image; hint: `disable-default-registry-endpoint: true` in its configuration forbids that
    gap: `system-default-registry` takes a registry without a path, and the core images are below `ext.example.com:8000/spectro-images/docker.io`: leave it out, the mirror of `docker.io` serves them
    gap: k3s reads `registries.yaml` when it starts: restart it after a change
    "#);
    insta::assert_snapshot!(shown(&render(&settings_of(RULES), Dialect::Rke2)), @r#"
    ==> /etc/rancher/rke2/landfall-ex.example.com-ca.crt 0644
    # (header)
    -----BEGIN CERTIFICATE-----
    MIIB
    -----END CERTIFICATE-----
    ==> /etc/rancher/rke2/registries.yaml 0600
    # (header)
    mirrors:
      "gcr.io":
        endpoint:
          - "https://ex.example.com"
        rewrite:
          "^(.*)$": "internal/gcr/$1"
      "quay.io":
        endpoint:
          - "https://plain:5000"
          - "http://plain:5000"
        rewrite:
          "^team/(.*)$": "mirror/team/$1"
      "us-docker.pkg.dev":
        endpoint:
          - "https://ex.example.com"
        rewrite:
          "^other/(.*)$": "internal/$1"
          "^palette-images/(.*)$": "internal/$1"
    configs:
      "ex.example.com":
        auth:
          username: "edge"
          password: "secret"
        tls:
          ca_file: "/etc/rancher/rke2/landfall-ex.example.com-ca.crt"
      "plain:5000":
        tls:
          insecure_skip_verify: true
    gap: the other images of `quay.io` are asked for at the rules' target as well, under their own names, before the registry itself
    gap: the other images of `us-docker.pkg.dev` are asked for at the rules' target as well, under their own names, before the registry itself
    gap: images of registries that neither the profiles nor the rules name are pulled as they are written; hint: `landfall.mirror.hosts` names more, `landfall.mirror.enable` covers all
    gap: rke2 asks the registry itself where no mirror has an image, and nothing may forbid that: images of `quay.io`, `us-docker.pkg.dev` without a rule are there only
    gap: rke2 reads `registries.yaml` when it starts: restart it after a change
    "#);
}

#[test]
fn kubeadm_gets_its_image_repository_with_corednss_sub_path() {
    let rendering = render(&settings_of(PREPEND), Dialect::Kubeadm);
    insta::assert_snapshot!(rendering.fragments[0].text, @r"
    kind: ClusterConfiguration
    imageRepository: ext.example.com:8000/spectro-images/registry.k8s.io
    dns:
      imageRepository: ext.example.com:8000/spectro-images/registry.k8s.io/coredns
    ");
}

#[test]
fn with_the_node_local_mirror_one_file_is_enough() {
    let with_mirror =
        |more: &str| settings_of(&format!("{more}  mirror: {{enable: true, listen: '127.0.0.1:5081'}}\n"));
    let forbidden = with_mirror(
        "#cloud-config\nstylus:\n  registryCredentials: {domain: 'ext:5000'}\nlandfall:\n  concurrency: 1\n",
    );
    insta::assert_snapshot!(shown(&render(&forbidden, Dialect::Containerd)), @r#"
    ==> /etc/containerd/certs.d/_default/hosts.toml 0644
    # (header)
    server = "http://127.0.0.1:5081"
    capabilities = ["pull", "resolve"]

    [host]
    ==> /etc/containerd/certs.d/ext:5000/hosts.toml 0644
    # (header)
    server = "https://ext:5000"
    capabilities = ["pull", "resolve"]

    [host]
    ==> for `/etc/containerd/config.toml`, if it has `version = 2` (all of containerd 1.x); then restart containerd
    [plugins."io.containerd.grpc.v1.cri".registry]
      config_path = "/etc/containerd/certs.d"
    ==> for `/etc/containerd/config.toml`, if it has `version = 3` or more (containerd 2); then restart containerd
    [plugins."io.containerd.cri.v1.images".registry]
      config_path = "/etc/containerd/certs.d"
    gap: it is not known if containerd reads `/etc/containerd/certs.d`: the host was not looked at
    "#);
    let allowed = with_mirror("#cloud-config\nlandfall:\n  concurrency: 1\n");
    insta::assert_snapshot!(shown(&render(&allowed, Dialect::K3s)), @r#"
    ==> /etc/rancher/k3s/registries.yaml 0600
    # (header)
    mirrors:
      "*":
        endpoint:
          - "http://127.0.0.1:5081"
    gap: k3s reads `registries.yaml` when it starts: restart it after a change
    "#);
}

#[test]
fn every_file_is_marked_as_ours_and_a_file_with_a_login_is_roots() {
    for user_data in [PREPEND, RULES] {
        for dialect in [Dialect::Containerd, Dialect::K3s, Dialect::Rke2, Dialect::Kubelet] {
            for file in render(&settings_of(user_data), dialect).files {
                assert!(is_ours(file.content.as_bytes()), "{}", file.path);
                let encoded = "ZWRnZTpzZWNyZXQ="; // edge:secret
                let has_login = file.content.contains("secret") || file.content.contains(encoded);
                assert!(!has_login || file.mode == 0o600, "{} {:04o}", file.path, file.mode);
            }
        }
    }
}
