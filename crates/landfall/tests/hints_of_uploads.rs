//! Hints about uploads to a host and its status API, followed: what a hint says is done, and its message is gone.

#![expect(clippy::disallowed_methods, reason = "test set-up")]

mod common;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::thread;
use std::time::Duration;

use camino::Utf8Path;
use common::desk::Desk;
use common::followed::{Followed, words};
use common::{Running, run, show, shown};
use landfall_testkit::fake_registry::FakeRegistry;
use serde_json::json;

/// An agent that takes uploads.
struct Host {
    directory: tempfile::TempDir,
    _agent: Running,
    address: String,
}

impl Host {
    /// Starts an agent with its status API at this address.
    fn start(listen: &str) -> Host {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = |name: &str| directory.path().join(name).display().to_string();
        fs::create_dir_all(directory.path().join("root/opt/spectrocloud/content")).expect("a directory");
        let text = format!(
            "#cloud-config\nstylus:\n  managementMode: local\n  imageRedirectWebhook:\n    enable: false\nlandfall:\n  \
             listen: {listen}\n  reconcileInterval: 3600\n  containerd:\n    enable: false\n"
        );
        fs::write(path("user-data.yaml"), text).expect("the user-data");
        let (user_data, state, root) = (path("user-data.yaml"), path("state"), path("root"));
        let arguments = ["--user-data", &user_data, "--state-dir", &state, "--root", &root];
        let agent = Running::start(&[&["agent", "--quiet"], &arguments[..]].concat());
        let address = find_api(Utf8Path::new(&state));
        Host {
            directory,
            _agent: agent,
            address,
        }
    }

    fn path(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }

    fn token(&self) -> String {
        self.path("state/upload-token")
    }

    /// Returns the address of the status API with another scheme and host.
    fn address_at(&self, host: &str) -> String {
        let (_, port) = self.address.rsplit_once(':').expect("an address with a port");
        format!("{host}:{port}")
    }

    /// Returns the fingerprint that `landfall status` shows on the host.
    fn fingerprint(&self) -> String {
        let status = show(&["status", "--state-dir", &self.path("state")]);
        let (_, after) = status.split_once("authority sha256:").expect("a fingerprint");
        let digits = after.split_whitespace().next().expect("a fingerprint");
        format!("sha256:{digits}")
    }

    fn content(&self, name: &str) -> String {
        self.path(&format!("root/opt/spectrocloud/content/{name}"))
    }

    /// Begins the upload of a file, and sends nothing of it.
    fn begin(&self, file: &str) {
        let size = fs::metadata(file).expect("the file").len();
        let name = Path::new(file).file_name().and_then(|name| name.to_str());
        let body = json!({"name": name, "size": size}).to_string();
        let token = fs::read_to_string(self.token()).expect("the token");
        let address = self.address.trim_start_matches("http://");
        let mut stream = TcpStream::connect(address).expect("the agent listens");
        write!(
            stream,
            "POST /api/v1/uploads HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\nauthorization: Bearer {}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            token.trim(),
            body.len()
        )
        .expect("a request");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
}

/// Returns the address of an agent's status API, once it listens.
fn find_api(state: &Utf8Path) -> String {
    for _ in 0..1_000 {
        let status = landfall_agent::status::read_status(state);
        if let Some(address) = status.ok().flatten().and_then(|status| status.api) {
            return address;
        }
        thread::sleep(Duration::from_millis(20));
    }
    panic!("the status API never came");
}

/// Starts a server that answers one request, and is no status API.
fn start_another_server() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        let mut request = [0; 4096];
        let _read = stream.read(&mut request).expect("a request");
        let page = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 13\r\n\r\n<html></html>";
        stream.write_all(page.as_bytes()).expect("an answer");
    });
    format!("http://{address}")
}

#[test]
fn a_followed_hint_about_an_upload_ends_its_message() {
    let desk = Desk::new();
    let host = Host::start("127.0.0.1:0");
    let registry = FakeRegistry::start();
    let empty = desk.path("upload-token");
    fs::write(&empty, "\n").expect("a file");
    let upload = |file: &str, to: &str, token: &str| {
        let arguments = ["bundle", "upload", file, "--to", to, "--token-file", token];
        words(&[&arguments[..], &["--progress=none"]].concat())
    };
    let make = |name: &str| {
        let series = format!("--series={name}");
        desk.make(name, &[&series, "--sequence=1"])
    };
    for (name, message, hint, to, token) in [
        (
            "no-token.tar.zst",
            "holds no token",
            "copy the file `upload-token` out of the agent's state directory",
            host.address.clone(),
            empty,
        ),
        (
            "no-answer.tar.zst",
            "is not that of a status API",
            "name the address of `landfall.listen`, or port 5080 of the host",
            start_another_server(),
            host.token(),
        ),
        (
            "no-uploads.tar.zst",
            "the address has nothing of this kind",
            "name the status API of a Landfall agent that is as new as this program",
            registry.url(),
            host.token(),
        ),
    ] {
        let file = make(name);
        Followed {
            name,
            message,
            hint,
            before: upload(&file, &to, &token),
            after: upload(&file, &host.address, &host.token()),
        }
        .assert_mended();
        assert!(fs::read(host.content(name)).expect("it was uploaded") == fs::read(&file).expect("the file"));
    }

    for (name, is_removed) in [("removed.tar.zst", true), ("replaced.tar.zst", false)] {
        let file = make(name);
        host.begin(&file);
        let target = host.content(name);
        fs::write(&target, "of somebody else").expect("a file of the host");
        let again = upload(&file, &host.address, &host.token());
        let mut replacing = again.clone();
        replacing.push("--replace".to_owned());
        Followed {
            name,
            message: "is on the host, where another file has the name",
            hint: "remove that file there, or replace it with `--replace`",
            before: again.clone(),
            after: if is_removed { again } else { replacing },
        }
        .assert_mended_by(|| {
            if is_removed {
                fs::remove_file(&target).expect("the file of the host");
            }
        });
        assert!(fs::read(&target).expect("it was uploaded") == fs::read(&file).expect("the file"));
    }
}

#[test]
fn a_followed_hint_about_a_clear_text_address_ends_its_message() {
    let desk = Desk::new();
    let host = Host::start("0.0.0.0:0");
    let (authority, fingerprint) = (host.path("state/api/ca.crt"), host.fingerprint());
    for (name, hint, to, trust) in [
        (
            "by-fingerprint.tar.zst",
            "write `https://`, with `--fingerprint` (`landfall status` shows it on the host)",
            host.address_at("https://0.0.0.0"),
            vec!["--fingerprint", &fingerprint],
        ),
        (
            "by-authority.tar.zst",
            "or with `--ca` (the file `api/ca.crt` of the agent's state directory)",
            host.address_at("https://127.0.0.1"),
            vec!["--ca", &authority],
        ),
        (
            "by-tunnel.tar.zst",
            "or go through a tunnel to the host's loopback",
            host.address_at("http://127.0.0.1"),
            vec![],
        ),
    ] {
        let file = desk.make(name, &[&format!("--series={name}"), "--sequence=1"]);
        let upload = |to: &str, trust: &[&str]| {
            let token = host.token();
            let arguments = ["bundle", "upload", &file, "--to", to, "--token-file", &token];
            words(&[&arguments[..], &["--progress=none"], trust].concat())
        };
        // The connection reaches the agent, and the program takes all addresses but those of loopback for remote ones.
        let before = upload(&host.address_at("http://0.0.0.0"), &[]);
        Followed {
            name,
            message: "others on the network could read the token",
            hint,
            before,
            after: upload(&to, &trust),
        }
        .assert_mended();
        assert!(fs::read(host.content(name)).expect("it was uploaded") == fs::read(&file).expect("the file"));
    }
}

#[test]
fn a_followed_hint_about_the_certificate_of_a_host_ends_its_message() {
    let host = Host::start("0.0.0.0:0");
    let (authority, fingerprint) = (host.path("state/api/ca.crt"), host.fingerprint());
    let address = host.address_at("https://127.0.0.1");
    let status = |trust: &[&str]| words(&[&["status", "--from", &address], trust].concat());
    for (name, hint, trust) in [
        (
            "by its fingerprint",
            "trust the host by `--fingerprint` (`landfall status` shows it there)",
            ["--fingerprint", &fingerprint],
        ),
        (
            "by its authority",
            "or by `--ca` (the file `api/ca.crt` of the agent's state directory)",
            ["--ca", &authority],
        ),
    ] {
        Followed {
            name,
            message: "does not answer: ",
            hint,
            before: status(&[]),
            after: status(&trust),
        }
        .assert_mended();
    }
}

#[test]
fn an_upload_to_an_untrusted_host_fails_at_its_first_attempt() {
    let desk = Desk::new();
    let host = Host::start("0.0.0.0:0");
    let file = desk.make("site.tar.zst", &["--series=site", "--sequence=1"]);
    let (address, token) = (host.address_at("https://127.0.0.1"), host.token());
    let arguments = ["bundle", "upload", &file, "--to", &address, "--token-file", &token];
    let output = run(&[&arguments[..], &["--progress=plain"]].concat());
    assert_eq!(output.status.code(), Some(2), "{}", shown(&output));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("trust the host by `--fingerprint`"), "{said}");
    assert!(!said.contains("attempt"), "{said}");
}
