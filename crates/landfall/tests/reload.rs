//! `landfall reload`: the running agent reads its files at once, and says which configuration is active.

mod common;

use common::{Running, run, show, wait_for_file};
use landfall_testkit::host_fixture::HostFixture;
use serde_json::Value;

/// Writes the user-data of a host without a cluster. `more` is a line of `landfall`.
fn put_user_data(host: &HostFixture, more: &str) {
    let text = format!(
        "#cloud-config\nstylus:\n  imageRedirectWebhook: {{enable: false}}\nlandfall:\n  listen: 127.0.0.1:0\n  \
         containerd: {{enable: false}}\n  {more}\n"
    );
    host.put("/oem/user-data", 0o600, &text);
}

fn configuration_of(report: &Value) -> &Value {
    &report["configuration"]
}

#[test]
fn agent_reads_its_files_and_a_followed_hint_starts_one_that_does() {
    let host = HostFixture::mk();
    put_user_data(&host, "reconcileInterval: 3600");
    let (user_data, state) = (host.path("/oem/user-data"), host.path("/state"));
    let root = host.root().as_str();
    let inputs = ["--user-data", user_data.as_str(), "--root", root];
    let of_state = ["--state-dir", state.as_str()];
    let mut agent = Running::start(&[&["agent", "--quiet"], &inputs[..], &of_state[..]].concat());
    wait_for_file(state.join("status.json").as_std_path());
    let reload = || {
        let output = run(&[&["reload", "-o", "json"], &of_state[..]].concat());
        let report: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
        (output.status.code(), report)
    };
    let (status, first) = reload();
    assert_eq!((status, &first["generation"]), (Some(0), &Value::from(1)), "{first:#}");
    assert_eq!(first["pid"], agent.child.id());
    let (status, same) = reload();
    assert_eq!((status, &same["changed"]), (Some(0), &Value::from(false)), "{same:#}");

    put_user_data(&host, "reconcileInterval: 1800");
    let (status, second) = reload();
    assert_eq!(
        (status, &second["generation"]),
        (Some(0), &Value::from(2)),
        "{second:#}"
    );
    assert_ne!(configuration_of(&second), configuration_of(&first));

    put_user_data(&host, "reconcileInterval: soon");
    let (status, broken) = reload();
    assert_eq!(
        (status, &broken["generation"]),
        (Some(1), &Value::from(2)),
        "{broken:#}"
    );
    assert_eq!(
        configuration_of(&broken),
        configuration_of(&second),
        "the last valid one stays"
    );
    assert!(broken["error"].is_string(), "{broken:#}");

    assert_eq!(agent.terminate(), Some(0));
    let shown = show(&[&["reload"], &of_state[..]].concat()).replace(root, "ROOT");
    insta::assert_snapshot!(shown, @r"
    status 2
    --- stderr
    error: no agent runs with the state directory `ROOT/state`
      hint: start it (`systemctl start landfall-agent`), or name its directory with `--state-dir`
    ");
    let mut agent = Running::start(&[&["agent", "--quiet"], &inputs[..], &of_state[..]].concat());
    let started = || run(&[&["status"], &of_state[..]].concat()).stdout;
    while !String::from_utf8_lossy(&started()).contains(&format!("process {}", agent.child.id())) {
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert_eq!(reload().0, Some(1), "the files are still broken");
    assert_eq!(agent.terminate(), Some(0));
}
