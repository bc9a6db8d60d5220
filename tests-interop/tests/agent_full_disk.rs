//! An agent on a small file system that is full: the content store leaves a reserve, and an agent whose state cannot be
//! written starts, serves and says why.
#![expect(clippy::unwrap_used, reason = "test set-up")]

use camino::{Utf8Path, Utf8PathBuf};
use landfall_testkit::fake_registry::FakeRegistry;
use landfall_testkit::image_builder::{FixtureBuilder, small_image};
use landfall_tests_interop::agent::{landfall, run_landfall};
use landfall_tests_interop::poll::wait_for;
use landfall_tests_interop::port::free_port;
use landfall_tests_interop::program::Program;
use landfall_tests_interop::small_disk::SmallDisk;
use rustix::process::Signal;
use serde_json::Value;

const MIB: usize = 1024 * 1024;

/// An agent with one image that fits on the disk and one that does not.
struct Host {
    disk: SmallDisk,
    directory: tempfile::TempDir,
    upstream: FakeRegistry,
}

impl Host {
    fn new() -> Host {
        let upstream = FakeRegistry::start();
        upstream.add_image("docker.io/library/small", "1", &small_image("small"));
        let noise: Vec<u8> = (0..40 * MIB as u64)
            .map(|at| (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8)
            .collect();
        let big = FixtureBuilder::new().plain_layer(&[("big", &noise)]).build();
        upstream.add_image("docker.io/library/big", "1", &big);
        let host = Host {
            disk: SmallDisk::mount("size=24m"),
            directory: tempfile::tempdir().unwrap(),
            upstream,
        };
        let user_data = format!(
            "#cloud-config\nstylus:\n  registryCredentials:\n    domain: \"{}\"\n    insecure: true\n  imageRedirectWebhook:\n    \
             port: {}\nlandfall:\n  listen: 127.0.0.1:{}\n  reconcileInterval: 1\n  containerd:\n    enable: false\n  primary:\n    \
             endpoint: \"127.0.0.1:{}\"\n",
            host.upstream.host(),
            free_port(),
            free_port(),
            free_port(),
        );
        let profile = "metadata: {name: store}\nspec:\n  template:\n    packs:\n    - name: web\n      layer: addon\n      values: |\n        \
                       pack:\n          content:\n            images:\n              - image: small:1\n              - image: big:1\n";
        fs_err::create_dir(host.path("root")).unwrap();
        fs_err::write(host.path("user-data.yaml"), user_data).unwrap();
        fs_err::write(host.path("profile.yaml"), profile).unwrap();
        host
    }

    fn path(&self, name: &str) -> Utf8PathBuf {
        Utf8Path::from_path(self.directory.path()).unwrap().join(name)
    }

    fn state_dir(&self) -> Utf8PathBuf {
        self.disk.path().join("state")
    }

    fn start(&self) -> Program {
        let paths = ["user-data.yaml", "profile.yaml", "root"].map(|name| self.path(name));
        let state_dir = self.state_dir();
        let arguments = [
            "agent",
            "--user-data",
            paths[0].as_str(),
            "--profile",
            paths[1].as_str(),
            "--root",
            paths[2].as_str(),
            "--state-dir",
            state_dir.as_str(),
        ];
        Program::start(
            "landfall",
            Utf8Path::from_path(self.directory.path()).unwrap(),
            landfall(&arguments),
        )
    }

    fn status(&self) -> Value {
        let state_dir = self.state_dir();
        let shown = run_landfall(&["status", "--state-dir", state_dir.as_str(), "-o", "json"]);
        serde_json::from_str(&shown.stdout()).unwrap_or_default()
    }

    fn wait_for_status(&self, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        wait_for(what, || Some(self.status()).filter(|status| is(status)))
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[test]
fn a_followed_hint_about_a_full_disk_ends_its_message_and_no_service_stays_away() {
    let host = Host::new();
    let mut agent = host.start();
    let status = host.wait_for_status("degraded", |status| status["phase"] == "Degraded");
    let message = text(&status["message"]);
    assert!(message.contains("no room for"), "{message}");
    assert!(message.contains("hint: free space on this disk"), "{message}");
    let is_serving = |status: &Value| status["webhook"].is_object() && status["primary"].is_object();
    assert!(is_serving(&status), "{status:#}");
    assert_eq!(status["images"]["docker.io/library/small:1"]["inPrimary"], true);
    assert_eq!(status.get("stateError"), None);
    assert!(host.disk.free() >= MIB as u64, "{} bytes are left", host.disk.free());

    // Another program takes the reserve, and the agent starts again.
    agent.signal(Signal::TERM);
    agent.wait();
    let hog = host.disk.path().join("hog");
    assert!(fs_err::write(&hog, vec![0; 24 * MIB]).is_err(), "the disk is full");
    let mut agent = host.start();
    let status = host.wait_for_status("a start on the full disk", |status| {
        is_serving(status) && status["stateError"].is_string()
    });
    let error = text(&status["stateError"]);
    assert!(
        error.contains("No space left") && error.contains("hint: free space on its disk"),
        "{error}"
    );
    assert_eq!(status["running"], true);

    // Room comes back without a word to the agent.
    fs_err::remove_file(&hog).unwrap();
    host.wait_for_status("the state is written again", |status| {
        status.get("stateError").is_none()
    });
    let state_dir = host.state_dir();
    let events = run_landfall(&["events", "--state-dir", state_dir.as_str(), "-o", "json"]).succeeded();
    assert_eq!(
        events.stdout().matches("StateUnwritable").count(),
        2,
        "{}",
        events.stdout()
    );
    agent.signal(Signal::TERM);
    agent.wait();
}
