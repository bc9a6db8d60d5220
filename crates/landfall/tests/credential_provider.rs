//! The built program, started under the name by which the kubelet calls it.

#![expect(clippy::disallowed_methods, reason = "test set-up")]

mod common;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use common::{CANARY, shown};

/// Directory with a link to the program, and the login files.
struct Plugin {
    directory: tempfile::TempDir,
}

impl Plugin {
    fn new() -> Plugin {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let link = directory.path().join("landfall-credential-provider");
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_landfall"), link).expect("a link to the program");
        std::fs::create_dir(directory.path().join("registries")).expect("a directory for login files");
        Plugin { directory }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join("registries").join(name)
    }

    fn with(self, name: &str, text: &str) -> Plugin {
        std::fs::write(self.file(name), text).expect("a login file");
        self
    }

    /// Returns status, stdout and stderr; the directory is shown as `DIR`.
    fn call(&self, arguments: &[&str], request: &str) -> String {
        let mut child = Command::new(self.directory.path().join("landfall-credential-provider"))
            .env_clear()
            .arg("--credroot")
            .arg(self.directory.path().join("registries"))
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the plug-in starts");
        // With `--version` the plug-in does not read stdin.
        let _unread = child
            .stdin
            .take()
            .expect("stdin is piped")
            .write_all(request.as_bytes());
        let output = child.wait_with_output().expect("the plug-in ends");
        shown(&output).replace(&self.directory.path().display().to_string(), "DIR")
    }

    fn ask(&self, image: &str) -> String {
        self.call(&[], &request(image))
    }
}

fn request(image: &str) -> String {
    format!(
        r#"{{"kind":"CredentialProviderRequest","apiVersion":"credentialprovider.kubelet.k8s.io/v1","image":"{image}"}}"#
    )
}

#[test]
fn the_kubelet_gets_the_login_of_the_registry_port_included() {
    let plugin = Plugin::new().with("10.10.100.45:30003.json", r#"{"username":"admin","password":"s"}"#);
    insta::assert_snapshot!(plugin.ask("10.10.100.45:30003/spectro-images/gcr.io/a:1"), @r#"
    status 0
    --- stdout
    {"kind":"CredentialProviderResponse","apiVersion":"credentialprovider.kubelet.k8s.io/v1","cacheKeyType":"Registry","cacheDuration":"0h5m0s","auth":{"10.10.100.45:30003":{"username":"admin","password":"s"}}}
    "#);
    let plugin = Plugin::new().with("reg.json", r#"{"username":"ann","password":"s","duration":"1m"}"#);
    insta::assert_snapshot!(plugin.ask("reg:5000/a@sha256:6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b"), @r#"
    status 0
    --- stdout
    {"kind":"CredentialProviderResponse","apiVersion":"credentialprovider.kubelet.k8s.io/v1","cacheKeyType":"Registry","cacheDuration":"1m","auth":{"reg:5000":{"username":"ann","password":"s"}}}
    "#);
}

#[test]
fn a_login_never_goes_to_a_sibling_a_whole_top_level_domain_or_a_part_of_an_address() {
    let plugin = Plugin::new()
        .with(
            "us.gcr.io.json",
            &format!(r#"{{"username":"u","password":"{CANARY}"}}"#),
        )
        .with("io.json", &format!(r#"{{"username":"u","password":"{CANARY}"}}"#))
        .with("1.1.json", &format!(r#"{{"username":"u","password":"{CANARY}"}}"#))
        .with("reg:5000.json", &format!(r#"{{"username":"u","password":"{CANARY}"}}"#))
        .with(
            "ours.example.com.json",
            &format!(r#"{{"username":"u","password":"{CANARY}","subdomains":false}}"#),
        );
    for image in [
        "eu.gcr.io/a",
        "gcr.io/a",
        "quay.io/a",
        "10.10.1.1/a",
        "reg:5001/a",
        "reg/a",
        "x.ours.example.com/a",
    ] {
        let said = plugin.ask(image);
        assert!(
            said.starts_with("status 0\n") && said.contains(r#""auth":{}"#),
            "{image}: {said}"
        );
        assert!(!said.contains(CANARY), "{image}: {said}");
    }
    for (image, arguments) in [
        ("us.gcr.io/a", &[][..]),
        ("eu.us.gcr.io/a", &[]),
        ("quay.io/a", &["--any-suffix"]),
    ] {
        assert!(
            plugin.call(arguments, &request(image)).contains(CANARY),
            "{image} has a login"
        );
    }
}

#[test]
fn no_file_is_a_valid_empty_answer() {
    insta::assert_snapshot!(Plugin::new().ask("quay.io/a"), @r#"
    status 0
    --- stdout
    {"kind":"CredentialProviderResponse","apiVersion":"credentialprovider.kubelet.k8s.io/v1","cacheKeyType":"Registry","cacheDuration":"0s","auth":{}}--- stderr
    landfall-credential-provider: no login for `quay.io`: there is no `quay.io.json` in `DIR/registries`; the image is pulled without a login
    "#);
}

#[test]
fn a_file_that_cannot_be_used_is_named_and_no_other_takes_its_place() {
    let plugin = Plugin::new()
        .with("us.gcr.io.json", &format!("username: u\npassword: {CANARY}\n"))
        .with("gcr.io.json", r#"{"username":"parent","password":"s"}"#);
    insta::assert_snapshot!(plugin.ask("us.gcr.io/a"), @r#"
    status 0
    --- stdout
    {"kind":"CredentialProviderResponse","apiVersion":"credentialprovider.kubelet.k8s.io/v1","cacheKeyType":"Registry","cacheDuration":"0s","auth":{}}--- stderr
    landfall-credential-provider: cannot use `DIR/registries/us.gcr.io.json`: line 1, column 1: this is not JSON; the image is pulled without a login; hint: write {"username": "…", "password": "…"}
    "#);
    let plugin = Plugin::new();
    std::fs::create_dir(plugin.file("quay.io.json")).expect("a directory in the place of the file");
    insta::assert_snapshot!(plugin.ask("quay.io/a"), @r#"
    status 0
    --- stdout
    {"kind":"CredentialProviderResponse","apiVersion":"credentialprovider.kubelet.k8s.io/v1","cacheKeyType":"Registry","cacheDuration":"0s","auth":{}}--- stderr
    landfall-credential-provider: cannot read `DIR/registries/quay.io.json`: is a directory; the image is pulled without a login; hint: it has to be a file that root can read
    "#);
}

#[test]
fn a_request_that_cannot_be_understood_is_refused() {
    let plugin = Plugin::new();
    insta::assert_snapshot!(plugin.call(&[], "nonsense"), @r"
    status 1
    --- stderr
    landfall-credential-provider: error: cannot read the request on stdin: line 1, column 2: expected ident
    ");
    insta::assert_snapshot!(plugin.call(&["--nonsense"], &request("a")), @r"
    status 1
    --- stderr
    landfall-credential-provider: error: the argument `--nonsense` is not known; hint: see `landfall-credential-provider --help`
    ");
}

#[test]
fn debug_says_which_files_are_looked_at_and_no_password() {
    let plugin = Plugin::new().with(
        "gcr.io.json",
        &format!(r#"{{"username":"ann","password":"{CANARY}","duration":5}}"#),
    );
    let said = plugin.call(&["--debug"], &request("us.gcr.io/a:1"));
    let talk = said.split_once("--- stderr\n").expect("it talks").1;
    insta::assert_snapshot!(talk, @r"
    landfall-credential-provider: there is no `DIR/registries/us.gcr.io.json`
    landfall-credential-provider: the `duration` in `DIR/registries/gcr.io.json` is no duration that Go can parse; hint: write it as `5m0s`, at most `2562047h`
    landfall-credential-provider: `DIR/registries/gcr.io.json` has the login of user `ann` for `us.gcr.io/a:1`
    ");
}

#[test]
fn a_file_without_a_whole_login_is_said_without_its_text() {
    let docker = format!(r#"{{"auths":{{"gcr.io":{{"auth":"{CANARY}"}}}}}}"#);
    let spelling = format!(r#"{{"Username":"ann","password":"{CANARY}"}}"#);
    let plugin = Plugin::new()
        .with("gcr.io.json", &docker)
        .with("quay.io.json", &spelling);
    let talk = |image: &str| {
        let said = plugin.ask(image);
        assert!(!said.contains(CANARY) || image.starts_with("quay.io"), "{said}");
        said.split_once("--- stderr\n").expect("it talks").1.to_owned()
    };
    insta::assert_snapshot!(talk("gcr.io/a:1"), @r#"
    landfall-credential-provider: `DIR/registries/gcr.io.json` gives no whole login: it is a `config.json` of docker, and no login file; hint: write {"username": "…", "password": "…"}
    "#);
    insta::assert_snapshot!(talk("quay.io/a:1"), @r#"
    landfall-credential-provider: `DIR/registries/quay.io.json` gives no whole login: its `username` is spelt in another way; hint: write {"username": "…", "password": "…"}
    "#);
}

#[test]
fn the_version_is_the_programs() {
    let said = Plugin::new().call(&["--version"], "");
    assert_eq!(
        said,
        format!(
            "status 0\n--- stdout\nlandfall-credential-provider version {}\n",
            env!("CARGO_PKG_VERSION")
        )
    );
}

#[test]
fn a_followed_hint_of_the_plug_in_ends_its_message() {
    let right = format!(r#"{{"username": "ann", "password": "{CANARY}"}}"#);
    for (name, wrong, message, hint) in [
        (
            "no JSON",
            "username: ann\n".to_owned(),
            "this is not JSON",
            r#"write {"username": "…", "password": "…"}"#,
        ),
        (
            "no whole login",
            r#"{"username": "ann"}"#.to_owned(),
            "gives no whole login",
            r#"write {"username": "…", "password": "…"}"#,
        ),
        (
            "no duration",
            format!(r#"{{"username": "ann", "password": "{CANARY}", "duration": 5}}"#),
            "is no duration that Go can parse",
            "write it as `5m0s`, at most `2562047h`",
        ),
    ] {
        let plugin = Plugin::new().with("quay.io.json", &wrong);
        let said = plugin.ask("quay.io/a");
        assert!(said.contains(message) && said.contains(hint), "{name}: {said}");
        let mended = match name {
            "no duration" => format!(r#"{{"username": "ann", "password": "{CANARY}", "duration": "5m0s"}}"#),
            _ => right.clone(),
        };
        let said = plugin.with("quay.io.json", &mended).ask("quay.io/a");
        assert!(said.contains(CANARY) && !said.contains("--- stderr"), "{name}: {said}");
    }
    let plugin = Plugin::new();
    std::fs::create_dir(plugin.file("quay.io.json")).expect("a directory in the place of the file");
    let said = plugin.ask("quay.io/a");
    assert!(said.contains("hint: it has to be a file that root can read"), "{said}");
    std::fs::remove_dir(plugin.file("quay.io.json")).expect("an empty directory");
    let plugin = plugin.with("quay.io.json", &right);
    let said = plugin.ask("quay.io/a");
    assert!(said.contains(CANARY) && !said.contains("--- stderr"), "{said}");
    let said = plugin.call(&["--nonsense"], &request("quay.io/a"));
    assert!(said.contains("see `landfall-credential-provider --help`"), "{said}");
    let said = plugin.call(&["--help"], "");
    assert!(said.starts_with("status 0\n") && said.contains("--credroot"), "{said}");
}
