//! Commands that stay up: start, service and end.

#![expect(clippy::disallowed_methods, reason = "test set-up")]

mod common;

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use common::{Running, run, show, wait_for_file};

fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("the registry listens");
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n"
    )
    .expect("a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

#[test]
fn registry_serve_says_where_it_listens_answers_and_ends_on_sigterm() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let root = directory.path().to_str().expect("a UTF-8 path");
    let mut registry = Running::start(&["registry", "serve", "--root", root, "--listen", "127.0.0.1:0"]);
    let url = registry.line();
    let address = url.strip_prefix("http://").expect("a plain URL on loopback");
    assert!(get(address, "/v2/_catalog").contains(r#"{"repositories":[]}"#));
    assert_eq!(registry.terminate(), Some(0));
}

/// glibc raises this size by itself, and then never gives freed memory back.
#[test]
fn services_that_are_shipped_set_the_size_from_which_memory_goes_back_to_the_system() {
    let packaging = concat!(env!("CARGO_MANIFEST_DIR"), "/../../packaging");
    for (file, setting) in [
        (
            "systemd/landfall-agent.service",
            "Environment=MALLOC_MMAP_THRESHOLD_=131072\n",
        ),
        (
            "kubernetes/landfall.yaml",
            "- name: MALLOC_MMAP_THRESHOLD_\n              value: \"131072\"\n",
        ),
    ] {
        let text = std::fs::read_to_string(format!("{packaging}/{file}")).expect("a file that is shipped");
        assert!(text.contains(setting), "{file}");
    }
}

/// A leak of the agent or of a command of a stage must not take the host down.
#[test]
fn unit_of_the_agent_limits_its_resources_and_reloads() {
    let packaging = concat!(env!("CARGO_MANIFEST_DIR"), "/../../packaging");
    let text = std::fs::read_to_string(format!("{packaging}/systemd/landfall-agent.service")).expect("the unit");
    let keys: BTreeSet<&str> = text.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
    for key in [
        "MemoryHigh",
        "MemoryMax",
        "LimitNOFILE",
        "TasksMax",
        "ExecReload",
        "NoNewPrivileges",
    ] {
        assert!(keys.contains(key), "{key}");
    }
}

#[test]
fn registry_with_a_login_refuses_who_has_none() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let root = directory.path().to_str().expect("a UTF-8 path");
    let users = directory.path().join("htpasswd");
    std::fs::write(
        &users,
        "edge:$2y$05$tPzzn0nOGrbqNqTKWsCoJe5JYF9WvVvLg1V8Q9N2OhGTgJ5Q5Jx7S\n",
    )
    .expect("the users");
    let users = users.to_str().expect("a UTF-8 path");
    let mut registry = Running::start(&[
        "registry",
        "serve",
        "--root",
        root,
        "--listen",
        "127.0.0.1:0",
        "--htpasswd",
        users,
    ]);
    let url = registry.line();
    let address = url.strip_prefix("http://").expect("a plain URL on loopback");
    assert!(get(address, "/v2/").starts_with("HTTP/1.1 401"));
    assert_eq!(registry.terminate(), Some(0));
}

#[test]
fn registry_serve_wants_tls_and_a_login_where_others_can_reach_it() {
    insta::assert_snapshot!(show(&["registry", "serve", "--root", "/nowhere", "--listen", "0.0.0.0:0"]), @r"
    status 2
    --- stderr
    error: other machines can reach `0.0.0.0:0`
      hint: give `--tls-certificate`, `--tls-key` and `--htpasswd`, or listen on 127.0.0.1
    ");
}

#[test]
fn agent_refuses_inputs_that_it_cannot_watch() {
    insta::assert_snapshot!(show(&["agent", "--user-data", "-", "--once"]), @r"
    status 2
    --- stderr
    error: the agent watches its input files: stdin (`-`) cannot be watched
    ");
}

#[test]
fn offline_demo_takes_everything_from_a_bundle_and_serves_it_before_it_is_adopted() {
    let output = run(&["demo", "--offline", "--exit"]);
    let (data, talk) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert_eq!(output.status.code(), Some(0), "{data}\n{talk}");
    assert!(talk.contains("site.tar.zst_part00, signed, in 3 pieces"), "{talk}");
    let phases: Vec<&str> = talk.lines().filter_map(|line| line.strip_prefix("phase ")).collect();
    assert_eq!(phases.last(), Some(&"Running"), "{talk}");
    let filters = vec![
        (r"127\.0\.0\.1:\d+", "HOST:PORT"),
        (r"/\S+/user-data", "user-data"),
        (r"/\S+/site\.tar", "site.tar"),
        // The width of the columns depends on the ports of the run.
        (r" {2,}", "  "),
    ];
    let (plan, rest) = data.split_once("\n\n").expect("a plan");
    let (reasons, rest) = rest.split_once("a pod is created").expect("the webhook's answer");
    let (_, pulls) = rest.split_once("\n\n").expect("pulls");
    insta::with_settings!({filters => filters}, {
        insta::assert_snapshot!(format!("{plan}\n{reasons}{pulls}"), @r"
        #  ROLE  IMAGE  PULLED FROM  WHY  BECOMES
        1  provider  example.io/my-images/edge-os:v1.4.5  bundle:site.tar.zst_part00  [1]  example.io/my-images/edge-os:v1.4.5
        2  infra  us-docker.pkg.dev/palette-images/packs/calico/3.30.0/node:v3.30.0  bundle:site.tar.zst_part00  [1]  us-docker.pkg.dev/palette-images/packs/calico/3.30.0/node:v3.30.0
        3  infra  us-docker.pkg.dev/palette-images/packs/calico/3.30.0/cni:v3.30.0  bundle:site.tar.zst_part00  [1]  us-docker.pkg.dev/palette-images/packs/calico/3.30.0/cni:v3.30.0
        4  infra  docker.io/longhornio/longhorn-manager:v1.9.0  bundle:site.tar.zst_part00  [1]  docker.io/longhornio/longhorn-manager:v1.9.0
        5  app  docker.io/library/nginx:1.27  bundle:site.tar.zst_part00  [1]  HOST:PORT/spectro-images/docker.io/library/nginx:1.27
        6  app  ghcr.io/spectrocloud/hello-universe:1.2.0  bundle:site.tar.zst_part00  [1]  HOST:PORT/spectro-images/ghcr.io/spectrocloud/hello-universe:1.2.0
        7  app*  docker.io/library/busybox:1.37  bundle:site.tar.zst_part00  [1]  HOST:PORT/spectro-images/docker.io/library/busybox:1.37
        [1] the bundle `site.tar.zst_part00` has it: no network is needed
        * found in a manifest, not listed by its pack
        bundles have 7 of 7 images
        profile: demo-store 1.0.0
        7 images: 1 provider, 3 infrastructure, 3 application
        3 of them go to the primary registry HOST:PORT/spectro-images

        pulls from the primary registry, the first of them before the bundle was adopted:
          HOST:PORT/spectro-images/docker.io/library/redis:8  2.00 MiB, out of the bundle
          HOST:PORT/spectro-images/docker.io/library/busybox:1.37  257.04 KiB, from the registry's store
          HOST:PORT/spectro-images/docker.io/library/nginx:1.27  1.00 MiB, from the registry's store
        the bundle is adopted: 8 of 8 images are in the host's store, and a receipt is written
        ");
    });
}

#[test]
fn demo_goes_through_every_phase_and_ends_with_0() {
    let output = run(&["demo", "--exit"]);
    let (data, talk) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert_eq!(output.status.code(), Some(0), "{data}\n{talk}");
    let phases: Vec<&str> = talk.lines().filter_map(|line| line.strip_prefix("phase ")).collect();
    assert_eq!(
        phases,
        [
            "Validating",
            "ProviderImage",
            "CoreImages",
            "Images",
            "PrimaryRegistry",
            "Redirect",
            "Running"
        ],
        "{talk}"
    );
    // An image has a line in each phase that did something for it.
    let told: Vec<&str> = talk.lines().filter_map(|line| line.strip_prefix("  done ")).collect();
    assert_eq!(told.iter().collect::<BTreeSet<_>>().len(), 7, "{talk}");
    assert_eq!(
        told[0], "example.io/my-images/edge-os:v1.4.5",
        "the provider image is complete before any other"
    );
    assert!(!data.contains("only-for-the-demonstration") && !talk.contains("only-for-the-demonstration"));
    let filters = vec![
        (r"127\.0\.0\.1:\d+", "HOST:PORT"),
        (r"127\.0\.0\.1_\d+", "HOST_PORT"),
        (r"/\S+/user-data", "user-data"),
        // The width of the columns depends on the ports of the run.
        (r" {2,}", "  "),
    ];
    insta::with_settings!({filters => filters}, {
        insta::assert_snapshot!(data, @r#"
        #  ROLE  IMAGE  PULLED FROM  WHY  BECOMES
        1  provider  example.io/my-images/edge-os:v1.4.5  HOST:PORT/mirror/example.io/my-images/edge-os:v1.4.5  [1]  the same
        2  infra  us-docker.pkg.dev/palette-images/packs/calico/3.30.0/node:v3.30.0  HOST:PORT/mirror/us-docker.pkg.dev/palette-images/packs/calico/3.30.0/node:v3.30.0  [1]  the same
        3  infra  us-docker.pkg.dev/palette-images/packs/calico/3.30.0/cni:v3.30.0  HOST:PORT/mirror/us-docker.pkg.dev/palette-images/packs/calico/3.30.0/cni:v3.30.0  [1]  the same
        4  infra  docker.io/longhornio/longhorn-manager:v1.9.0  HOST:PORT/mirror/docker.io/longhornio/longhorn-manager:v1.9.0  [1]  the same
        5  app  docker.io/library/nginx:1.27  HOST:PORT/mirror/docker.io/library/nginx:1.27  [1]  HOST:PORT/spectro-images/HOST_PORT/mirror/docker.io/library/nginx:1.27
        6  app  ghcr.io/spectrocloud/hello-universe:1.2.0  HOST:PORT/mirror/ghcr.io/spectrocloud/hello-universe:1.2.0  [1]  HOST:PORT/spectro-images/HOST_PORT/mirror/ghcr.io/spectrocloud/hello-universe:1.2.0
        7  app*  docker.io/library/busybox:1.37  HOST:PORT/mirror/docker.io/library/busybox:1.37  [1]  HOST:PORT/spectro-images/HOST_PORT/mirror/docker.io/library/busybox:1.37

        [1] external registry `HOST:PORT/mirror` serves every image (user-data.yaml:4)
        * found in a manifest, not listed by its pack
        profile: demo-store 1.0.0
        7 images: 1 provider, 3 infrastructure, 3 application
        3 of them go to the primary registry HOST:PORT/spectro-images

        a pod is created; the webhook answers:
          /spec/initContainers/0/image  busybox:1.37 -> HOST:PORT/spectro-images/HOST_PORT/mirror/docker.io/library/busybox:1.37
          /spec/containers/0/image  nginx:1.27 -> HOST:PORT/spectro-images/HOST_PORT/mirror/docker.io/library/nginx:1.27
        as JSON Patch (RFC 6902):
        [
          {
          "op": "test",
          "path": "/spec/initContainers/0/image",
          "value": "busybox:1.37"
          },
          {
          "op": "replace",
          "path": "/spec/initContainers/0/image",
          "value": "HOST:PORT/spectro-images/HOST_PORT/mirror/docker.io/library/busybox:1.37"
          },
          {
          "op": "test",
          "path": "/spec/containers/0/image",
          "value": "nginx:1.27"
          },
          {
          "op": "replace",
          "path": "/spec/containers/0/image",
          "value": "HOST:PORT/spectro-images/HOST_PORT/mirror/docker.io/library/nginx:1.27"
          },
          {
          "op": "add",
          "path": "/metadata/annotations",
          "value": {
          "landfall.dev/original-images": "{\"wait\":{\"image\":\"busybox:1.37\",\"reason\":\"primary registry `HOST:PORT/spectro-images` holds application images (user-data.yaml:11)\"},\"web\":{\"image\":\"nginx:1.27\",\"reason\":\"primary registry `HOST:PORT/spectro-images` holds application images (user-data.yaml:11)\"}}"
          }
          }
        ]
        "#);
    });
}

/// Returns true if a JSON object names one of its keys twice, which strict readers refuse.
fn has_double_key(line: &str) -> bool {
    struct Keys;
    impl<'de> serde::de::Visitor<'de> for Keys {
        type Value = bool;
        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("an object")
        }
        fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<bool, A::Error> {
            let mut keys = BTreeSet::new();
            let mut twice = false;
            while let Some((key, _)) = map.next_entry::<String, serde_json::Value>()? {
                twice |= !keys.insert(key);
            }
            Ok(twice)
        }
    }
    let mut deserializer = serde_json::Deserializer::from_str(line);
    serde::Deserializer::deserialize_map(&mut deserializer, Keys).expect("a line of JSON")
}

/// Runs an agent without images once, and returns what it writes to stderr.
fn agent_stderr(more: &[&str]) -> String {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = |name: &str| directory.path().join(name).to_str().expect("a UTF-8 path").to_owned();
    std::fs::create_dir(path("root")).expect("a directory");
    let text = "#cloud-config\nstylus:\n  imageRedirectWebhook:\n    enable: false\nlandfall:\n  listen: 127.0.0.1:0\n  \
                containerd:\n    enable: false\n";
    std::fs::write(path("user-data.yaml"), text).expect("the user-data");
    let (user_data, state, root) = (path("user-data.yaml"), path("state"), path("root"));
    let arguments = [
        "agent",
        "--once",
        "--user-data",
        &user_data,
        "--state-dir",
        &state,
        "--root",
        &root,
    ];
    let output = run(&[&arguments[..], more].concat());
    let stderr = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    stderr
}

#[test]
fn quiet_agent_that_succeeds_says_nothing() {
    assert_eq!(agent_stderr(&["--quiet", "--progress", "none"]), "");
}

#[test]
fn every_line_of_an_agent_with_json_is_one_object_without_double_keys() {
    for arguments in [
        &["--log-format", "json", "--progress", "none"][..],
        &["--progress", "json"],
    ] {
        let stderr = agent_stderr(arguments);
        assert!(stderr.lines().count() > 5, "{stderr}");
        for line in stderr.lines() {
            assert!(!has_double_key(line), "{line}");
            let object: serde_json::Value = serde_json::from_str(line).expect("a line of JSON");
            let is_progress = object.get("type").is_some();
            assert_ne!(is_progress, object.get("level").is_some(), "{line}");
        }
    }
}

#[test]
fn service_goes_on_after_sighup() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let root = directory.path().to_str().expect("a UTF-8 path");
    let mut registry = Running::start(&["registry", "serve", "--root", root, "--listen", "127.0.0.1:0"]);
    let url = registry.line();
    let address = url.strip_prefix("http://").expect("a plain URL on loopback");
    registry.hang_up();
    for _ in 0..20 {
        assert!(get(address, "/v2/").starts_with("HTTP/1.1 200"));
    }
    assert_eq!(registry.terminate(), Some(0));
}

#[test]
fn agent_makes_a_pass_at_sighup() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = |name: &str| directory.path().join(name).to_str().expect("a UTF-8 path").to_owned();
    std::fs::create_dir(path("root")).expect("a directory");
    let text = "#cloud-config\nstylus:\n  imageRedirectWebhook:\n    enable: false\n  registryCredentials:\n    domain: \
                reg.example.com\n    username: u\n    password: p\nlandfall:\n  reconcileInterval: 3600\n  listen: \
                127.0.0.1:0\n  containerd:\n    enable: false\n";
    std::fs::write(path("user-data.yaml"), text).expect("the user-data");
    let (user_data, state, root) = (path("user-data.yaml"), path("state"), path("root"));
    let mut agent = Running::start(&[
        "agent",
        "--quiet",
        "--user-data",
        &user_data,
        "--state-dir",
        &state,
        "--root",
        &root,
    ]);
    let login = directory
        .path()
        .join("root/etc/kubernetes/registries/reg.example.com.json");
    for _ in 0..2 {
        wait_for_file(&login);
        std::fs::remove_file(&login).expect("a file of the agent");
        // No file that the agent watches changed, and the next pass without the signal is an hour away.
        agent.hang_up();
    }
    wait_for_file(&login);
    assert_eq!(agent.terminate(), Some(0));
}
