//! `validate`, `plan`, `images` and `explain`: the output that a platform engineer sees on a workstation.

mod common;

use common::{VALUES, run_with_stdin, show, shown};

const SINGLE: [&str; 4] = [
    "--user-data",
    "examples/user-data-single.yaml",
    "--profile",
    "examples/profile-edge.yaml",
];
const MULTI: [&str; 4] = [
    "--user-data",
    "examples/user-data-multi.yaml",
    "--profile",
    "examples/profile-edge.yaml",
];

fn show_with(command: &[&str], inputs: &[&str]) -> String {
    show(&[command, inputs, &VALUES].concat())
}

#[test]
fn validate_says_what_to_write_instead() {
    insta::assert_snapshot!(show(&[&["validate"][..], &SINGLE].concat()), @r#"
    status 1
    --- stdout
    error[LF0401]: the template `{{.spectro.macro.provider-password}}` has no value
      --> examples/profile-edge.yaml:21:24
       |
    21 |             password: "{{.spectro.macro.provider-password}}"
       |                        ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
       |
       = hint: give it one: `--set macro.provider-password=…`, or in a values file

    note[LF0530]: registries have a login, and no kubelet is given `--image-credential-provider-config`: redirected pods cannot be pulled
      --> examples/profile-edge.yaml:31:15
       |
    31 |               clusterConfiguration:
       |               ^^^^^^^^^^^^^^^^^^^^^
       |
       = hint: `landfall redirect render --for kubelet` prints the flags for this place

    error[LF0501]: `AlwaysPullImages` cannot be used with an external registry: preloaded core images could not start
      --> examples/profile-edge.yaml:34:47
       |
    34 |                     enable-admission-plugins: AlwaysPullImages,NamespaceLifecycle,ServiceAccount,NodeRestriction
       |                                               ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
       |
       = hint: write `enable-admission-plugins: NamespaceLifecycle,ServiceAccount,NodeRestriction`; `landfall profile fix` does it

    error[LF0401]: the template `{{.spectro.var.registryPassword}}` has no value
      --> examples/profile-edge.yaml:71:34
       |
    71 |                       password: "{{.spectro.var.registryPassword}}"
       |                                  ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
       |
       = hint: give it one: `--set var.registryPassword=…`, or in a values file

    3 errors, 0 warnings, 1 note
    "#);
}

#[test]
fn validate_of_good_user_data_ends_with_0() {
    insta::assert_snapshot!(show(&["validate", "--user-data", "examples/user-data-single.yaml"]), @r"
    status 0
    --- stdout
    no findings
    ");
}

#[test]
fn validate_as_json_counts_and_lists_the_findings() {
    let output = run_with_stdin(
        &["validate", "--user-data", "-", "-o", "json"],
        "#cloud-config\nstylus:\n  managementMode: loca\n",
    );
    insta::assert_snapshot!(shown(&output), @r#"
    status 1
    --- stdout
    {
      "apiVersion": "landfall.dev/v1alpha1",
      "kind": "Validation",
      "errors": 1,
      "warnings": 0,
      "diagnostics": [
        {
          "severity": "error",
          "code": "LF0208",
          "message": "`stylus.managementMode` cannot be `loca`",
          "primary": {
            "file": "<stdin>",
            "line": 3,
            "column": 19,
            "key": "stylus.managementMode",
            "length": 4,
            "excerpt": {
              "line": "  managementMode: loca",
              "start": 18,
              "end": 22
            }
          },
          "help": "did you mean `local`? It takes `central` or `local`"
        }
      ],
      "mirrorFiles": null
    }
    "#);
}

#[test]
fn plan_prints_every_image_and_then_ends_with_1_because_of_the_finding() {
    insta::assert_snapshot!(show_with(&["plan", "--quiet"], &SINGLE), @r"
    status 1
    --- stdout
    #  ROLE      IMAGE                                                              PULLED FROM                                                                                          WHY  BECOMES
    1  provider  example.io/my-images/example-custom-os:v1.4.5                      10.10.254.254:8000/spectro-images/example.io/my-images/example-custom-os:v1.4.5                      [1]  the same
    2  infra     us-docker.pkg.dev/palette-images/packs/calico/3.30.0/node:v3.30.0  10.10.254.254:8000/spectro-images/us-docker.pkg.dev/palette-images/packs/calico/3.30.0/node:v3.30.0  [1]  the same
    3  infra     us-docker.pkg.dev/palette-images/packs/calico/3.30.0/cni:v3.30.0   10.10.254.254:8000/spectro-images/us-docker.pkg.dev/palette-images/packs/calico/3.30.0/cni:v3.30.0   [1]  the same
    4  infra     docker.io/longhornio/longhorn-manager:v1.9.0                       10.10.254.254:8000/spectro-images/docker.io/longhornio/longhorn-manager:v1.9.0                       [1]  the same
    5  app       docker.io/library/nginx:1.27                                       10.10.254.254:8000/spectro-images/docker.io/library/nginx:1.27                                       [1]  127.0.0.1:30003/spectro-images/10.10.254.254_8000/spectro-images/docker.io/library/nginx:1.27
    6  app       ghcr.io/spectrocloud/hello-universe:1.2.0                          10.10.254.254:8000/spectro-images/ghcr.io/spectrocloud/hello-universe:1.2.0                          [1]  127.0.0.1:30003/spectro-images/10.10.254.254_8000/spectro-images/ghcr.io/spectrocloud/hello-universe:1.2.0
    7  app*      docker.io/library/busybox:1.37                                     10.10.254.254:8000/spectro-images/docker.io/library/busybox:1.37                                     [1]  127.0.0.1:30003/spectro-images/10.10.254.254_8000/spectro-images/docker.io/library/busybox:1.37
    8  app*      quay.io/prometheus/node-exporter:v1.9.1                            10.10.254.254:8000/spectro-images/quay.io/prometheus/node-exporter:v1.9.1                            [1]  127.0.0.1:30003/spectro-images/10.10.254.254_8000/spectro-images/quay.io/prometheus/node-exporter:v1.9.1

    [1] external registry `10.10.254.254:8000/spectro-images` serves every image (examples/user-data-single.yaml:8)
    * found in a manifest, not listed by its pack
    profile: edge-store 1.0.0
    8 images: 1 provider, 3 infrastructure, 4 application
    4 of them go to the primary registry 127.0.0.1:30003/spectro-images
    --- stderr
    error[LF0501]: `AlwaysPullImages` cannot be used with an external registry: preloaded core images could not start
      --> examples/profile-edge.yaml:34:47
       |
    34 |                     enable-admission-plugins: AlwaysPullImages,NamespaceLifecycle,ServiceAccount,NodeRestriction
       |                                               ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
       |
       = hint: write `enable-admission-plugins: NamespaceLifecycle,ServiceAccount,NodeRestriction`; `landfall profile fix` does it
    ");
}

#[test]
fn plan_by_mapping_rules_warns_of_images_without_one() {
    insta::assert_snapshot!(show_with(&["plan", "--quiet"], &MULTI), @r"
    status 1
    --- stdout
    #  ROLE      IMAGE                                                              PULLED FROM                                                            WHY  BECOMES
    1  provider  example.io/my-images/example-custom-os:v1.4.5                      example.io/my-images/example-custom-os:v1.4.5                          [1]  the same
    2  infra     us-docker.pkg.dev/palette-images/packs/calico/3.30.0/node:v3.30.0  example.registry.com/internal-images/packs/calico/3.30.0/node:v3.30.0  [2]  the same
    3  infra     us-docker.pkg.dev/palette-images/packs/calico/3.30.0/cni:v3.30.0   example.registry.com/internal-images/packs/calico/3.30.0/cni:v3.30.0   [2]  the same
    4  infra     docker.io/longhornio/longhorn-manager:v1.9.0                       docker.io/longhornio/longhorn-manager:v1.9.0                           [1]  the same
    5  app       docker.io/library/nginx:1.27                                       docker.io/library/nginx:1.27                                           [1]  127.0.0.1:30003/spectro-images/docker.io/library/nginx:1.27
    6  app       ghcr.io/spectrocloud/hello-universe:1.2.0                          ghcr.io/spectrocloud/hello-universe:1.2.0                              [1]  127.0.0.1:30003/spectro-images/ghcr.io/spectrocloud/hello-universe:1.2.0
    7  app*      docker.io/library/busybox:1.37                                     docker.io/library/busybox:1.37                                         [1]  127.0.0.1:30003/spectro-images/docker.io/library/busybox:1.37
    8  app*      quay.io/prometheus/node-exporter:v1.9.1                            quay.io/prometheus/node-exporter:v1.9.1                                [1]  127.0.0.1:30003/spectro-images/quay.io/prometheus/node-exporter:v1.9.1

    [1] no mapping rule matches this image: unchanged
    [2] mapping rule `us-docker.pkg.dev/palette-images` to `example.registry.com/internal-images` (examples/user-data-multi.yaml:21)
    * found in a manifest, not listed by its pack
    profile: edge-store 1.0.0
    8 images: 1 provider, 3 infrastructure, 4 application
    4 of them go to the primary registry 127.0.0.1:30003/spectro-images
    --- stderr
    error[LF0501]: `AlwaysPullImages` cannot be used with an external registry: preloaded core images could not start
      --> examples/profile-edge.yaml:34:47
       |
    34 |                     enable-admission-plugins: AlwaysPullImages,NamespaceLifecycle,ServiceAccount,NodeRestriction
       |                                               ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
       |
       = hint: write `enable-admission-plugins: NamespaceLifecycle,ServiceAccount,NodeRestriction`; `landfall profile fix` does it
    ");
}

#[test]
fn plan_as_yaml_has_the_fields_of_the_json() {
    let profile = "metadata: {name: p}\nspec: {packs: [{name: a, layer: addon, values: 'pack: {content: {images: [{image: nginx}]}}'}]}\n";
    let output = run_with_stdin(&["plan", "--profile", "-", "-o", "yaml"], profile);
    insta::assert_snapshot!(shown(&output), @r#"
    status 0
    --- stdout
    apiVersion: landfall.dev/v1alpha1
    kind: Plan
    profiles:
    - name: p
      version: null
    redirection: true
    primaryRegistry: null
    bundles: []
    sourcesUnknown: null
    imagesIncomplete: null
    images:
    - source: nginx
      canonical: docker.io/library/nginx:latest
      role: application
      layer: addon
      pack: a
      profile: p
      finding: declared
      location:
        file: <stdin>
        line: 2
        column: 83
        key: packs[a].values.pack.content.images[0].image
      pull:
      - reference: docker.io/library/nginx:latest
        place: origin
        bundle: null
        why: "no external registry is set: the registry written in the profile"
        credentials: null
      primary: null
      runtime: docker.io/library/nginx:latest
      warning: null
    summary:
      provider: 0
      infrastructure: 0
      application: 1
      inBundles: 0
      toPrimary: 0
      warnings: 0
    "#);
}

#[test]
fn images_says_where_each_is_written() {
    insta::assert_snapshot!(show_with(&["images", "--quiet"], &SINGLE), @r"
    status 1
    --- stdout
    IMAGE                                                              LAYER  PACK              FINDING     WRITTEN AT
    example.io/my-images/example-custom-os:v1.4.5                      os     edge-native-byoi  declared    examples/profile-edge.yaml:23
    us-docker.pkg.dev/palette-images/packs/calico/3.30.0/node:v3.30.0  cni    cni-calico        declared    examples/profile-edge.yaml:43
    us-docker.pkg.dev/palette-images/packs/calico/3.30.0/cni:v3.30.0   cni    cni-calico        declared    examples/profile-edge.yaml:44
    docker.io/longhornio/longhorn-manager:v1.9.0                       csi    csi-longhorn      declared    examples/profile-edge.yaml:53
    docker.io/library/nginx:1.27                                       addon  hello-store       declared    examples/profile-edge.yaml:80
    ghcr.io/spectrocloud/hello-universe:1.2.0                          addon  hello-store       declared    examples/profile-edge.yaml:81
    docker.io/library/busybox:1.37                                     addon  hello-store       discovered  examples/profile-edge.yaml:96
    quay.io/prometheus/node-exporter:v1.9.1                            addon  hello-store       discovered  examples/profile-edge.yaml:99
    --- stderr
    error[LF0501]: `AlwaysPullImages` cannot be used with an external registry: preloaded core images could not start
      --> examples/profile-edge.yaml:34:47
       |
    34 |                     enable-admission-plugins: AlwaysPullImages,NamespaceLifecycle,ServiceAccount,NodeRestriction
       |                                               ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
       |
       = hint: write `enable-admission-plugins: NamespaceLifecycle,ServiceAccount,NodeRestriction`; `landfall profile fix` does it
    ");
}

#[test]
fn explain_names_rule_and_credentials_by_file_and_line() {
    insta::assert_snapshot!(show_with(&["explain", "nginx:1.27", "--quiet"], &SINGLE), @r"
    status 1
    --- stdout
    docker.io/library/nginx:1.27
      named: examples/profile-edge.yaml:80, pack hello-store, layer addon

    candidates, in order
      1. 127.0.0.1:30003/spectro-images/10.10.254.254_8000/spectro-images/docker.io/library/nginx:1.27
         why: primary registry `127.0.0.1:30003/spectro-images` holds application images (examples/profile-edge.yaml:68)
         credentials: admin at 127.0.0.1:30003 (examples/profile-edge.yaml:71)
      2. 10.10.254.254:8000/spectro-images/docker.io/library/nginx:1.27
         why: external registry `10.10.254.254:8000/spectro-images` serves every image (examples/user-data-single.yaml:8)
         credentials: ubuntu at 10.10.254.254:8000/spectro-images (examples/user-data-single.yaml:10)

    a pod's image becomes
      once everything is in place: 127.0.0.1:30003/spectro-images/10.10.254.254_8000/spectro-images/docker.io/library/nginx:1.27
      until the primary registry holds it: 10.10.254.254:8000/spectro-images/docker.io/library/nginx:1.27
    --- stderr
    error[LF0501]: `AlwaysPullImages` cannot be used with an external registry: preloaded core images could not start
      --> examples/profile-edge.yaml:34:47
       |
    34 |                     enable-admission-plugins: AlwaysPullImages,NamespaceLifecycle,ServiceAccount,NodeRestriction
       |                                               ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
       |
       = hint: write `enable-admission-plugins: NamespaceLifecycle,ServiceAccount,NodeRestriction`; `landfall profile fix` does it
    ");
}

#[test]
fn explain_knows_a_namespace_that_is_opted_out() {
    insta::assert_snapshot!(show_with(&["explain", "gcr.io/spectro-dev-public/x:1", "-n", "legacy", "--quiet"], &MULTI), @r"
    status 1
    --- stdout
    gcr.io/spectro-dev-public/x:1
      named: in no profile: treated as an application image
      namespace: left as it is: namespace `legacy` is opted out
        as far as the profiles say; `--kubeconfig` asks the cluster

    candidates, in order
      1. 127.0.0.1:30003/spectro-images/example.registry.com/internal-images/x:1
         why: primary registry `127.0.0.1:30003/spectro-images` holds application images (examples/profile-edge.yaml:68)
         credentials: admin at 127.0.0.1:30003 (examples/profile-edge.yaml:71)
      2. example.registry.com/internal-images/x:1
         why: mapping rule `gcr.io/spectro-dev-public` to `example.registry.com/internal-images` (examples/user-data-multi.yaml:22)
         credentials: admin at example.registry.com/internal-images (examples/user-data-multi.yaml:7)

    a pod's image becomes
      once everything is in place: gcr.io/spectro-dev-public/x:1
    --- stderr
    error[LF0501]: `AlwaysPullImages` cannot be used with an external registry: preloaded core images could not start
      --> examples/profile-edge.yaml:34:47
       |
    34 |                     enable-admission-plugins: AlwaysPullImages,NamespaceLifecycle,ServiceAccount,NodeRestriction
       |                                               ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
       |
       = hint: write `enable-admission-plugins: NamespaceLifecycle,ServiceAccount,NodeRestriction`; `landfall profile fix` does it
    ");
}

#[test]
fn explain_leaves_alone_what_the_webhook_leaves_alone() {
    insta::assert_snapshot!(show(&["explain", "auto", "--user-data", "examples/user-data-single.yaml"]), @r"
    status 0
    --- stdout
    auto
      left as it is: `auto` stands for an image that Istio fills in
    ");
    insta::assert_snapshot!(show(&["explain", "localhost/a:1", "--user-data", "examples/user-data-single.yaml"]), @r"
    status 0
    --- stdout
    localhost/a:1
      left as it is: `localhost/` names an image that was built on the node
    ");
}

#[test]
fn explain_refuses_what_is_no_image() {
    insta::assert_snapshot!(show_with(&["explain", "a b"], &SINGLE), @r"
    status 2
    --- stderr
    error: `a b` is not an image reference
      because: `a b` is not a repository path: components of `a-z` and `0-9`, joined by `/`, with single `.` or `_`, `__` or dashes inside
    ");
}

#[test]
fn profile_fix_changes_the_one_line() {
    let fixed = common::run(&["profile", "fix", "examples/profile-edge.yaml"]);
    let before = include_str!("../../../examples/profile-edge.yaml");
    let expected = before.replace("AlwaysPullImages,NamespaceLifecycle", "NamespaceLifecycle");
    assert_eq!(String::from_utf8_lossy(&fixed.stdout), expected);
    assert_eq!(fixed.status.code(), Some(0));
}

#[test]
fn a_fixed_profile_has_nothing_to_fix() {
    let fixed = common::run(&["profile", "fix", "examples/profile-edge.yaml"]);
    let text = String::from_utf8(fixed.stdout).expect("the profile is UTF-8");
    let again = run_with_stdin(&["profile", "fix", "-"], &text);
    assert_eq!(String::from_utf8_lossy(&again.stdout), text);
    assert_eq!(String::from_utf8_lossy(&again.stderr), "`<stdin>`: nothing to fix\n");
}

#[test]
fn names_are_listed_one_a_line_and_headings_can_be_left_out() {
    let profile = "metadata: {name: p}\nspec: {packs: [{name: a, layer: addon, values: 'pack: {content: {images: [{image: nginx}]}}'}]}\n";
    for command in ["images", "plan"] {
        let output = run_with_stdin(&[command, "--profile", "-", "-o", "name"], profile);
        assert_eq!(shown(&output), "status 0\n--- stdout\ndocker.io/library/nginx:latest\n");
    }
    let output = run_with_stdin(&["images", "--profile", "-", "--no-headers", "--wide"], profile);
    insta::assert_snapshot!(shown(&output), @r"
    status 0
    --- stdout
    docker.io/library/nginx:latest  addon  a  declared  <stdin>:2
    ");
}

#[test]
fn images_of_a_profile_in_json_are_told_apart_by_their_keys() {
    let profile = r#"{"metadata": {"name": "shop"}, "spec": {"template": {"packs": [{"name": "till", "layer": "addon",
        "values": "pack:\n  content:\n    images:\n      - image: nginx:1.27\n      - image: redis:7\n"}]}}}"#;
    insta::assert_snapshot!(shown(&run_with_stdin(&["images", "--profile", "-"], profile)), @r"
    status 0
    --- stdout
    IMAGE                         LAYER  PACK  FINDING   WRITTEN AT
    docker.io/library/nginx:1.27  addon  till  declared  <stdin>:2 packs[till].values.pack.content.images[0].image
    docker.io/library/redis:7     addon  till  declared  <stdin>:2 packs[till].values.pack.content.images[1].image
    ");
}
