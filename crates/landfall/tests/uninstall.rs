//! `landfall uninstall`: the host after it is the host before Landfall came, and nothing of the user's is gone.

#![expect(clippy::disallowed_methods, clippy::unwrap_used, reason = "test set-up")]

mod common;

use common::{Running, run, show};
use landfall_testkit::fake_api_server::{FakeApiServer, Scenario};
use landfall_testkit::host_fixture::HostFixture;
use serde_json::{Value, json};

const UNIT: &str = include_str!("../../../packaging/systemd/landfall-agent.service");

/// Makes a host with files of the user's own beside those of Landfall.
fn mk_host() -> HostFixture {
    let host = HostFixture::mk();
    for path in [
        "/etc/rancher/k3s/config.yaml",
        "/etc/kubernetes/registries/mine.example.com.json",
        "/etc/systemd/system/landfall-agent.service.d/override.conf",
        "/etc/systemd/system/multi-user.target.wants/mine.service",
        "/usr/libexec/landfall/mine",
        "/opt/spectrocloud/content/site.bundle",
    ] {
        host.put(path, 0o640, "the user's\n");
    }
    host
}

/// Lets an agent run on the host until everything is in place, and installs its unit and its link as the guide says.
fn install(host: &HostFixture) {
    let directory = tempfile::tempdir().unwrap();
    let user_data = directory.path().join("user-data");
    let text = "#cloud-config\nstylus:\n  imageRedirectWebhook: {enable: false}\n  registryCredentials: {domain: \
                'reg.example.com', username: edge, password: secret}\nlandfall:\n  listen: 127.0.0.1:0\n  containerd: \
                {enable: false}\n  mirror: {files: [k3s], hosts: [quay.io]}\n";
    std::fs::write(&user_data, text).unwrap();
    let output = run(&[
        "agent",
        "--once",
        "--quiet",
        "--user-data",
        user_data.to_str().unwrap(),
        "--state-dir",
        host.path("/var/lib/landfall").as_str(),
        "--root",
        host.root().as_str(),
    ]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    host.put("/etc/systemd/system/landfall-agent.service", 0o644, UNIT);
    let unit = "/etc/systemd/system/landfall-agent.service";
    host.link(
        "/etc/systemd/system/multi-user.target.wants/landfall-agent.service",
        unit,
    );
    let program = "/usr/bin/landfall";
    host.link("/usr/libexec/landfall/landfall-credential-provider", program);
    host.put("/opt/spectrocloud/content/.landfall-uploads/a.part", 0o600, "a part");
}

fn listing(host: &HostFixture) -> Vec<String> {
    // The directories of `put` and `link` are the fixture's, and those of the agent go with their last file.
    let files = host.files().into_iter().filter(|file| file.content.is_some());
    files.map(|file| file.to_string()).collect()
}

fn uninstall(host: &HostFixture, more: &[&str]) -> String {
    let root = host.root().as_str();
    let shown = show(&[&["uninstall", "--root", root], more].concat());
    shown.replace(root, "ROOT")
}

fn report(host: &HostFixture, more: &[&str]) -> Value {
    let arguments = ["uninstall", "--root", host.root().as_str(), "-o", "json"];
    serde_json::from_slice(&run(&[&arguments[..], more].concat()).stdout).unwrap()
}

fn names(report: &Value, state: &str) -> Vec<String> {
    let rows = report["items"].as_array().unwrap().iter();
    let rows = rows.filter(|row| row["state"] == state);
    rows.map(|row| row["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn host_is_as_it_was_before_landfall_came() {
    let host = mk_host();
    let before = listing(&host);
    install(&host);
    let installed = listing(&host);

    let foreseen = report(&host, &["--dry-run"]);
    assert_eq!(listing(&host), installed, "a dry run removes nothing");
    let removed = report(&host, &[]);
    assert_eq!(listing(&host), before);
    let state = host.path("/var/lib/landfall");
    assert!(!state.exists());
    for name in [
        "/etc/kubernetes/registries/reg.example.com.json",
        "/etc/kubernetes/landfall-credential-provider.yaml",
        "/etc/rancher/k3s/registries.yaml",
        "/usr/libexec/landfall/landfall-credential-provider",
        "/etc/systemd/system/multi-user.target.wants/landfall-agent.service",
        "/etc/systemd/system/landfall-agent.service",
        state.join("store").as_str(),
        state.as_str(),
    ] {
        assert!(
            names(&removed, "removed").iter().any(|found| found == name),
            "{name}: {removed:#}"
        );
    }
    // The lock of the agent is made by the run itself, if the agent left none.
    assert_eq!(names(&foreseen, "wouldRemove"), names(&removed, "removed"));
    assert_eq!(removed["summary"]["kept"], 0);

    insta::assert_snapshot!(uninstall(&host, &[]), @r"
    status 0
    --- stdout
    nothing of Landfall's is here
    ");
}

#[test]
fn images_stay_if_asked_and_other_files_of_the_state_directory_always() {
    let host = mk_host();
    install(&host);
    host.put("/var/lib/landfall/notes.txt", 0o600, "the user's\n");
    host.put("/etc/rancher/k3s/registries.yaml", 0o600, "mirrors: {}\n");
    let kept = report(&host, &["--keep-images"]);
    let state = host.path("/var/lib/landfall");
    let path = |name: &str| state.join(name).to_string();
    let expected = [
        "/etc/rancher/k3s/registries.yaml".to_owned(),
        path("notes.txt"),
        path("store"),
    ];
    assert_eq!(names(&kept, "kept"), expected, "{kept:#}");
    assert!(state.join("store/blobs").is_dir());
    let output = uninstall(&host, &[]);
    insta::assert_snapshot!(output, @r"
    status 0
    --- stdout
    kept ROOT/var/lib/landfall/notes.txt: it is not Landfall's
    removed ROOT/var/lib/landfall/store
    ");
    assert!(!state.join("store").exists());
    assert_eq!(
        host.file("/var/lib/landfall/notes.txt").content.unwrap(),
        "the user's\n"
    );
}

#[test]
fn what_a_running_kubelet_needs_is_left_until_its_followed_hint_ends_that() {
    let host = mk_host();
    install(&host);
    host.put(
        "/proc/17/cmdline",
        0o444,
        "/usr/bin/kubelet\0--image-credential-provider-config=/etc/kubernetes/landfall-credential-provider.yaml\0",
    );
    let left = report(&host, &[]);
    let expected = [
        "/etc/kubernetes/landfall-credential-provider.yaml",
        "/usr/libexec/landfall/landfall-credential-provider",
    ];
    assert_eq!(names(&left, "left"), expected, "{left:#}");
    assert!(!host.path("/var/lib/landfall/store").exists(), "the rest goes");
    insta::assert_snapshot!(uninstall(&host, &[]), @r"
    status 1
    --- stdout
    left /etc/kubernetes/landfall-credential-provider.yaml: `kubelet` runs with `--image-credential-provider-config`, and would not start without it; hint: take the two flags of the plug-in away, restart the kubelet, and run the command again
    left /usr/libexec/landfall/landfall-credential-provider: `kubelet` runs with `--image-credential-provider-config`, and would not start without it; hint: take the two flags of the plug-in away, restart the kubelet, and run the command again
    kept ROOT/var/lib/landfall/last-good.json: the next run needs it, because something could not be removed
    kept ROOT/var/lib/landfall/managed-files.json: the next run needs it, because something could not be removed
    --- stderr
    2 of 2 could not be removed
    ");
    // The kubelet was started again without the flags.
    host.put("/proc/17/cmdline", 0o444, "/usr/bin/kubelet\0");
    assert!(uninstall(&host, &[]).starts_with("status 0\n"));
    assert!(!host.path(expected[0]).exists() && !host.path("/var/lib/landfall").exists());
}

#[test]
fn nothing_is_removed_while_an_agent_runs_and_a_followed_hint_ends_that() {
    let host = mk_host();
    let user_data = host.path("/oem/user-data");
    host.put(
        "/oem/user-data",
        0o600,
        "#cloud-config\nlandfall: {listen: 127.0.0.1:0, containerd: {enable: false}}\n",
    );
    let state = host.path("/var/lib/landfall");
    let root = host.root().as_str();
    let arguments = [
        "agent",
        "--user-data",
        user_data.as_str(),
        "--state-dir",
        state.as_str(),
        "--root",
        root,
    ];
    let mut agent = Running::start(&arguments);
    common::wait_for_file(state.join("status.json").as_std_path());
    insta::assert_snapshot!(uninstall(&host, &[]), @r"
    status 2
    --- stderr
    error: nothing is removed: an agent runs with the state directory `ROOT/var/lib/landfall`
      hint: stop it (`systemctl stop landfall-agent`), and run the command again
    ");
    assert!(state.join("status.json").exists());
    agent.terminate();
    assert!(uninstall(&host, &[]).starts_with("status 0\n"));
    assert!(!state.exists());
}

const CONFIGURATION: &str = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/landfall";
const SECRET: &str = "/api/v1/namespaces/kube-system/secrets/landfall-webhook-ca";
const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/landfall-webhook";

/// Starts a cluster in which an agent registered the webhook and gave the Lease up.
fn mk_cluster(host: &HostFixture, manager_of_secret: &str) -> FakeApiServer {
    let api = FakeApiServer::start();
    let labels = |manager: &str| json!({"app.kubernetes.io/managed-by": manager});
    api.put(
        CONFIGURATION,
        json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
               "metadata": {"name": "landfall", "labels": labels("landfall")}, "webhooks": []}),
    );
    api.put(
        SECRET,
        json!({"apiVersion": "v1", "kind": "Secret",
               "metadata": {"name": "landfall-webhook-ca", "labels": labels(manager_of_secret)}}),
    );
    api.put(
        LEASE,
        json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "landfall-webhook"},
               "spec": {"holderIdentity": "", "leaseDurationSeconds": 15}}),
    );
    host.put("/etc/kubernetes/admin.conf", 0o600, &api.kubeconfig());
    api
}

#[test]
fn cluster_is_cleared_only_if_asked_and_with_it_nothing_of_another_manager() {
    let host = HostFixture::mk();
    let api = mk_cluster(&host, "landfall");
    insta::assert_snapshot!(uninstall(&host, &[]), @r"
    status 0
    --- stdout
    nothing of Landfall's is here
    --- stderr
    the cluster of `ROOT/etc/kubernetes/admin.conf` was not asked: `--cluster` also removes the registration of the webhook
    ");
    insta::assert_snapshot!(uninstall(&host, &["--cluster", "--dry-run"]), @r"
    status 0
    --- stdout
    would remove MutatingWebhookConfiguration landfall
    would remove Secret kube-system/landfall-webhook-ca
    would remove Lease kube-system/landfall-webhook
    --- stderr
    nothing was done: `--dry-run`
    ");
    assert_eq!(
        [CONFIGURATION, SECRET, LEASE].map(|path| api.get(path).is_some()),
        [true; 3]
    );
    insta::assert_snapshot!(uninstall(&host, &["--cluster"]), @r"
    status 0
    --- stdout
    removed MutatingWebhookConfiguration landfall
    removed Secret kube-system/landfall-webhook-ca
    removed Lease kube-system/landfall-webhook
    ");
    assert_eq!(
        [CONFIGURATION, SECRET, LEASE].map(|path| api.get(path).is_some()),
        [false; 3]
    );
    insta::assert_snapshot!(uninstall(&host, &["--cluster"]), @r"
    status 0
    --- stdout
    nothing of Landfall's is here
    ");

    let api = mk_cluster(&host, "helm");
    insta::assert_snapshot!(uninstall(&host, &["--cluster"]), @r"
    status 0
    --- stdout
    removed MutatingWebhookConfiguration landfall
    removed Lease kube-system/landfall-webhook
    kept Secret kube-system/landfall-webhook-ca: its label `app.kubernetes.io/managed-by` is not `landfall`
    ");
    assert!(api.get(SECRET).is_some());
}

#[test]
fn cluster_that_does_not_answer_is_left_and_the_host_is_cleared() {
    let host = mk_host();
    install(&host);
    let api = mk_cluster(&host, "landfall");
    api.play(Scenario::Unavailable);
    let left = report(&host, &["--cluster"]);
    assert_eq!(names(&left, "left"), ["the webhook's registration"], "{left:#}");
    let state = host.path("/var/lib/landfall");
    assert!(state.join("last-good.json").exists() && !state.join("store").exists());
    api.play(Scenario::Healthy);
    assert!(uninstall(&host, &["--cluster"]).starts_with("status 0\n"));
    assert!(api.get(CONFIGURATION).is_none() && !state.exists());
}

#[test]
fn cluster_without_a_kubeconfig_is_left_until_its_followed_hint_ends_that() {
    let host = HostFixture::mk();
    insta::assert_snapshot!(uninstall(&host, &["--cluster"]), @r"
    status 1
    --- stdout
    left the webhook's registration: there is no kubeconfig on this host; hint: name one with `--kubeconfig`
    --- stderr
    1 of 1 could not be removed
    ");
    let api = FakeApiServer::start();
    host.put("/home/kubeconfig", 0o600, &api.kubeconfig());
    let kubeconfig = host.path("/home/kubeconfig");
    let shown = uninstall(&host, &["--cluster", "--kubeconfig", kubeconfig.as_str()]);
    assert!(shown.starts_with("status 0\n"), "{shown}");
}
