//! `landfall stages run` on the example without the webhook, and on steps that fail.

#![expect(clippy::disallowed_methods, clippy::unwrap_used, reason = "test set-up")]

mod common;

use clap::Parser as _;
use common::{CANARY, run, shown};
use landfall_testkit::host_fixture::HostFixture;

const EXAMPLE: &str = "examples/user-data-webhook-off.yaml";

fn run_stage(stage: &str, user_data: &str, host: &HostFixture, more: &[&str]) -> String {
    let arguments = [
        "stages",
        "run",
        stage,
        "--user-data",
        user_data,
        "--root",
        host.root().as_str(),
    ];
    shown(&run(&[&arguments, more].concat()))
}

fn write(host: &HostFixture, text: &str) -> String {
    let path = host.path("/user-data");
    std::fs::write(&path, text).unwrap();
    path.into_string()
}

/// Lists files and directories with modes, owners and content.
fn listing(host: &HostFixture) -> String {
    let lines: Vec<String> = host.files().iter().map(ToString::to_string).collect();
    let own = format!(
        "{}:{}",
        rustix::process::geteuid().as_raw(),
        rustix::process::getegid().as_raw()
    );
    lines.join("\n").replace(&format!(" {own} "), " OWN ")
}

#[test]
fn the_example_gives_exactly_its_files_and_the_second_run_changes_nothing() {
    let host = HostFixture::mk();
    insta::assert_snapshot!(run_stage("initramfs", EXAMPLE, &host, &[]), @r"
    status 0
    --- stdout
    initramfs: Containerd drop-in (examples/user-data-webhook-off.yaml:11)
      created    file `/etc/containerd/conf.d/registry-config-path.toml`
    stage initramfs: 1 done
    ");
    insta::assert_snapshot!(run_stage("reconcile", EXAMPLE, &host, &[]), @r"
    status 0
    --- stdout
    reconcile: Redirect registries (examples/user-data-webhook-off.yaml:22)
      created    file `/etc/containerd/certs.d/gcr.io/hosts.toml`
    reconcile: Registry credential management (examples/user-data-webhook-off.yaml:32)
      created    file `/etc/kubernetes/registries/gcr.io.json`
    stage reconcile: 2 done
    ");
    insta::assert_snapshot!(listing(&host), @r#"
    0755 OWN /etc/
    0755 OWN /etc/containerd/
    0755 OWN /etc/containerd/certs.d/
    0755 OWN /etc/containerd/certs.d/gcr.io/
    0644 OWN /etc/containerd/certs.d/gcr.io/hosts.toml "server = \"https://gcr.io\"\n[host.\"https://gcr-io-mirror.company.local\"]\n  capabilities = [\"pull\", \"resolve\"]"
    0755 OWN /etc/containerd/conf.d/
    0644 OWN /etc/containerd/conf.d/registry-config-path.toml "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".registry]\n  config_path = \"/etc/containerd/certs.d\""
    0755 OWN /etc/kubernetes/
    0755 OWN /etc/kubernetes/registries/
    0600 OWN /etc/kubernetes/registries/gcr.io.json "{\"username\": \"proxy-access\", \"password\": \"change-me\", \"duration\": \"0h5m0s\"}"
    "#);
    let changed = |path: &str| std::fs::metadata(host.path(path)).unwrap().modified().unwrap();
    let before = changed("/etc/kubernetes/registries/gcr.io.json");
    insta::assert_snapshot!(run_stage("reconcile", EXAMPLE, &host, &[]), @r"
    status 0
    --- stdout
    reconcile: Redirect registries (examples/user-data-webhook-off.yaml:22)
      unchanged  file `/etc/containerd/certs.d/gcr.io/hosts.toml`
    reconcile: Registry credential management (examples/user-data-webhook-off.yaml:32)
      unchanged  file `/etc/kubernetes/registries/gcr.io.json`
    stage reconcile: 2 unchanged
    ");
    assert_eq!(changed("/etc/kubernetes/registries/gcr.io.json"), before);
}

#[test]
fn a_dry_run_shows_differences_and_writes_nothing() {
    let host = HostFixture::mk();
    host.put(
        "/etc/containerd/certs.d/gcr.io/hosts.toml",
        0o644,
        "server = \"https://gcr.io\"\n[host.\"https://old.local\"]\n",
    );
    let before = listing(&host);
    let shown = run_stage("reconcile", EXAMPLE, &host, &["--dry-run"]);
    let own = format!(
        "{}:{}",
        rustix::process::geteuid().as_raw(),
        rustix::process::getegid().as_raw()
    );
    insta::assert_snapshot!(shown.replace(&own, "OWN"), @r#"
    status 0
    --- stdout
    reconcile: Redirect registries (examples/user-data-webhook-off.yaml:22)
      would do   file `/etc/containerd/certs.d/gcr.io/hosts.toml`
        --- /etc/containerd/certs.d/gcr.io/hosts.toml
        +++ /etc/containerd/certs.d/gcr.io/hosts.toml
        @@ -1,2 +1,3 @@
         server = "https://gcr.io"
        -[host."https://old.local"]
        +[host."https://gcr-io-mirror.company.local"]
        +  capabilities = ["pull", "resolve"]
        \ No newline at end of file
    reconcile: Registry credential management (examples/user-data-webhook-off.yaml:32)
      would do   file `/etc/kubernetes/registries/gcr.io.json`
        --- /dev/null
        +++ /etc/kubernetes/registries/gcr.io.json
        new mode 0600 owner OWN
        (content not shown: only its owner may read it)
    stage reconcile: 2 would be done
    "#);
    assert_eq!(listing(&host), before);
}

#[test]
fn a_bad_step_is_told_and_the_rest_runs_and_no_link_leads_out_of_the_root() {
    let host = HostFixture::mk();
    let outside = HostFixture::mk();
    host.link("/etc/out", outside.root().as_str());
    host.link("/etc/up", "../../../../../../../../tmp");
    host.put("/busy/file", 0o644, "");
    let user_data = write(
        &host,
        "#cloud-config
stages:
  boot.before:
    - name: first
      files: [{path: /etc/first, content: '{{ .Values.node.hostname }}'}]
  boot:
    - name: bad
      files:
        - {path: /busy, content: a directory is there}
        - {path: /etc/../../escape, content: x}
        - {path: /etc/encoded, encoding: b64, content: '%%%'}
        - {path: /etc/good, ownerstring: ghost, content: x}
        - {path: /etc/out/file, content: x}
        - {path: /etc/up/file, content: x}
      commands: [touch touched]
    - name: conditional
      if: '[ -e /etc/first ]'
      files: [{path: /etc/conditional}]
  boot.after:
    - name: last
      environment: {SITE: '7'}
",
    );
    let shown = run_stage("boot", &user_data, &host, &[]).replace(host.root().as_str(), "ROOT");
    insta::assert_snapshot!(shown, @r"
    status 1
    --- stdout
    boot.before: first (ROOT/user-data:4)
      created    file `/etc/first`
    boot: bad (ROOT/user-data:7)
      failed     file `/busy`: cannot write `/busy`: it is there and is no regular file
      failed     file `/etc/good`: cannot find user `ghost` in `/etc/passwd`
      created    file `/etc/out/file`
      created    file `/etc/up/file`
      not run    command 1
    boot: conditional (ROOT/user-data:16)
      skipped    its condition cannot be asked below another root
    boot.after: last (ROOT/user-data:20)
      created    variables in `/etc/environment`
    stage boot: 4 done, 1 not run below this root, 2 failed
    --- stderr
    error[LF0606]: `stages.boot[0].files[1].path` is not an absolute path without `..`
      --> ROOT/user-data:10:18
       |
    10 |         - {path: /etc/../../escape, content: x}
       |                  ^^^^^^^^^^^^^^^^^
       |
       = hint: write the whole path, from `/` on

    error[LF0605]: the content of `/etc/encoded` cannot be decoded: it is not base64
      --> ROOT/user-data:11:56
       |
    11 |         - {path: /etc/encoded, encoding: b64, content: ****}
       |                                                        ^^^^
       |
       = hint: encode it as `encoding` says, or remove `encoding`
    ");
    assert_eq!(outside.files(), [], "the link's target outside is untouched");
    assert_eq!(
        host.file("/etc/first").content.as_deref(),
        Some("{{ .Values.node.hostname }}")
    );
}

#[test]
fn secrets_of_steps_are_in_no_output() {
    let host = HostFixture::mk();
    let user_data = write(
        &host,
        &format!(
            "#cloud-config
stages:
  boot:
    - name: secrets
      files: [{{path: /etc/a, permissions: 0644, content: 'password: {CANARY}'}}]
      commands: ['echo {CANARY}']
      environment: {{PROXY_PASSWORD: {CANARY}}}
      users: {{operator: {{passwd: {CANARY}}}}}
"
        ),
    );
    for more in [
        &["--dry-run"][..],
        &["--dry-run", "-o", "json"],
        &["-v"],
        &["-o", "yaml"],
    ] {
        let shown = run_stage("boot", &user_data, &host, more);
        assert!(!shown.contains(CANARY), "{shown}");
    }
}

#[test]
fn a_stage_that_is_none_is_said_with_those_there_are() {
    let host = HostFixture::mk();
    insta::assert_snapshot!(run_stage("boots", EXAMPLE, &host, &[]), @r"
    status 2
    --- stderr
    error: there is no stage `boots`, and the inputs have no steps under that name; did you mean `boot`?
    ");
    let said = run_stage("site-setup", EXAMPLE, &host, &[]);
    let expected =
        "error: there is no stage `site-setup`, and the inputs have no steps under that name; stages are rootfs, ";
    assert!(said.contains(expected) && said.starts_with("status 2\n"), "{said}");
}

#[test]
fn a_stage_that_kairos_does_not_have_runs_under_its_name() {
    let host = HostFixture::mk();
    let text = "#cloud-config\nstages:\n  site-setup: [{files: [{path: /site, content: a}]}]\n  \
                kairos-install.pre.before: [{files: [{path: /disk, content: a}]}]\n";
    let user_data = write(&host, text);
    for (stage, path) in [
        ("site-setup", "/site"),
        ("kairos-install.pre", "/disk"),
        ("kairos-install.pre.before", "/disk"),
    ] {
        let said = run_stage(stage, &user_data, &host, &[]);
        assert!(said.starts_with("status 0\n"), "{said}");
        assert!(said.contains(path), "{said}");
    }
}

#[test]
fn the_units_that_are_shipped_run_stages_that_there_are_with_arguments_that_there_are() {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/../../packaging/systemd");
    let mut stages = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let Some(stage) = name.strip_prefix("landfall-stages-") else {
            continue;
        };
        let text = std::fs::read_to_string(&path).unwrap();
        let command = text
            .lines()
            .find_map(|line| line.strip_prefix("ExecStart=/usr/bin/"))
            .unwrap();
        let arguments = command.split(' ').filter(|argument| !argument.starts_with('$'));
        let arguments: Vec<&str> = arguments.collect();
        landfall::cli::Cli::try_parse_from(&arguments).unwrap();
        assert_eq!(arguments[..3], ["landfall", "stages", "run"], "{name}");
        assert_eq!(arguments[3], stage, "{name}");
        stages.push(stage.to_owned());
    }
    stages.sort();
    assert_eq!(stages, ["boot", "fs", "initramfs", "network", "rootfs"]);
}
