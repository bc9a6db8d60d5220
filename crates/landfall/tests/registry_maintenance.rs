//! `landfall registry ls|stats|verify|rm|gc` with and without a server.

#![expect(clippy::disallowed_methods, reason = "test set-up")]

mod common;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};

use common::{Running, run, show};

const INDEX: &str = r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;

struct Fixture {
    directory: tempfile::TempDir,
    registry: Running,
    address: String,
}

impl Fixture {
    /// Starts a registry that has an index under two tags.
    fn start() -> Fixture {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let root = directory.path().to_str().expect("a UTF-8 path");
        let mut registry = Running::start(&["registry", "serve", "--root", root, "--listen", "127.0.0.1:0"]);
        let url = registry.line();
        let address = url.strip_prefix("http://").expect("a plain URL on loopback").to_owned();
        let fixture = Fixture {
            directory,
            registry,
            address,
        };
        for tag in ["v1", "v2"] {
            let path = format!("/v2/team/app/manifests/{tag}");
            assert!(fixture.send("PUT", &path, INDEX).starts_with("HTTP/1.1 201"));
        }
        fixture
    }

    fn root(&self) -> &Path {
        self.directory.path()
    }

    fn send(&self, method: &str, path: &str, body: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).expect("the registry listens");
        let length = body.len();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
        )
        .expect("a request");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        answer
    }

    fn maintain(&self, command: &str, further: &[&str]) -> String {
        let root = self.root().to_str().expect("a UTF-8 path");
        let arguments = [&["registry", command, "--root", root], further].concat();
        show(&arguments).replace(root, "ROOT")
    }

    fn blobs(&self) -> Vec<PathBuf> {
        let files = fs::read_dir(self.root().join("blobs/sha256")).expect("the store's directory");
        files.map(|file| file.expect("a file").path()).collect()
    }
}

#[test]
fn a_registry_is_cared_for_while_it_is_served() {
    let mut fixture = Fixture::start();
    insta::assert_snapshot!(fixture.maintain("ls", &[]), @r"
    status 0
    --- stdout
    REPOSITORY  TAG  DIGEST                                                                   REPOSITORY SIZE
    team/app    v1   sha256:dff9de10919148711140d349bf03f1a99eb06f94b03e51715ccebfa7cdc518e2  88 B
    team/app    v2   sha256:dff9de10919148711140d349bf03f1a99eb06f94b03e51715ccebfa7cdc518e2  88 B
    ");
    insta::assert_snapshot!(fixture.maintain("rm", &["team/app:v1"]), @r"
    status 0
    --- stdout
    1 tag and 0 manifests deleted
    ");
    insta::assert_snapshot!(fixture.maintain("rm", &["team/app:v1"]), @r"
    status 1
    --- stdout
    there is no `team/app:v1` in the registry
    ");
    insta::assert_snapshot!(fixture.maintain("rm", &["nobody/app"]), @r"
    status 1
    --- stdout
    there is no `nobody/app` in the registry
    ");
    insta::assert_snapshot!(fixture.maintain("ls", &["nobody/app"]), @r"
    status 1
    --- stdout
    there is no repository `nobody/app`
    ");
    for (target, problem) in [
        ("team/app:../../x", "`../../x` is not a tag"),
        ("team/app@v1", "`v1` is not a digest"),
        ("../../x", "`../../x` is not a repository"),
    ] {
        let shown = fixture.maintain("rm", &[target]);
        assert!(shown.starts_with("status 2") && shown.contains(problem), "{shown}");
    }
    assert!(
        fixture
            .send("GET", "/v2/team/app/tags/list", "")
            .ends_with(r#""tags":["v2"]}"#)
    );
    insta::assert_snapshot!(fixture.maintain("gc", &["--grace", "0"]), @r"
    status 0
    --- stdout
    0 files deleted, 0 B
    ");
    insta::assert_snapshot!(fixture.maintain("rm", &["team/app"]), @r"
    status 0
    --- stdout
    1 tag and 1 manifest deleted
    ");
    insta::assert_snapshot!(fixture.maintain("gc", &["--grace", "0", "-o", "json"]), @r#"
    status 0
    --- stdout
    {
      "deleted": 1,
      "bytes": 88
    }
    "#);
    assert_eq!(fixture.blobs(), Vec::<PathBuf>::new());
    assert_eq!(fixture.registry.terminate(), Some(0));
}

#[test]
fn a_damaged_manifest_is_pushed_anew_after_it_was_deleted() {
    let fixture = Fixture::start();
    let file = fixture.blobs().remove(0);
    fs::write(&file, INDEX.replace('2', "3")).expect("our own file");
    insta::assert_snapshot!(fixture.maintain("verify", &["--delete-damaged"]), @r"
    status 1
    --- stdout
    1 blob read, 88 B
    damaged: `sha256:dff9de10919148711140d349bf03f1a99eb06f94b03e51715ccebfa7cdc518e2`; delete it with `--delete-damaged` and push an image that has it again
    --- stderr
    deleted `sha256:dff9de10919148711140d349bf03f1a99eb06f94b03e51715ccebfa7cdc518e2`
    ");
    assert!(
        fixture
            .send("HEAD", "/v2/team/app/manifests/v1", "")
            .starts_with("HTTP/1.1 404")
    );
    assert!(
        fixture
            .send("PUT", "/v2/team/app/manifests/v1", INDEX)
            .starts_with("HTTP/1.1 201")
    );
    insta::assert_snapshot!(fixture.maintain("verify", &[]), @r"
    status 0
    --- stdout
    1 blob read, 88 B
    ");
}

#[test]
fn a_registry_is_cared_for_when_it_is_not_served() {
    let mut fixture = Fixture::start();
    // A killed server leaves its admin socket behind, which must not block the commands.
    fixture.registry.child.kill().expect("it runs");
    drop(fixture.registry.child.wait());
    assert!(fixture.root().join("orders").exists());
    let tags = ["team/app:v1", "team/app:v2"].map(|tag| fixture.maintain("rm", &[tag]));
    insta::assert_snapshot!(tags.concat(), @r"
    status 0
    --- stdout
    1 tag and 0 manifests deleted
    status 0
    --- stdout
    1 tag and 0 manifests deleted
    --- stderr
    the image stays, without a tag; to delete it, give `team/app@sha256:dff9de10919148711140d349bf03f1a99eb06f94b03e51715ccebfa7cdc518e2` instead of `team/app:v2`
    ");
    insta::assert_snapshot!(fixture.maintain("rm", &["team/app"]), @r"
    status 0
    --- stdout
    0 tags and 1 manifest deleted
    ");
    insta::assert_snapshot!(fixture.maintain("gc", &["--grace", "0"]), @r"
    status 0
    --- stdout
    1 file deleted, 88 B
    ");
}

#[test]
fn the_registry_of_an_agent_is_found_by_its_state_directory() {
    let fixture = Fixture::start();
    let state = fixture.root().join("state");
    for part in ["store/blobs/sha256", "registry/a"] {
        fs::create_dir_all(state.join(part)).expect("our own directory");
    }
    let hex = fixture.blobs().remove(0);
    fs::copy(
        &hex,
        state
            .join("store/blobs/sha256")
            .join(hex.file_name().expect("a digest")),
    )
    .expect("our own file");
    let record = fixture.root().join("repositories/team/app/_record.jsonl");
    fs::copy(record, state.join("registry/a/_record.jsonl")).expect("our own file");
    for root in [&state, &state.join("store")] {
        let root = root.to_str().expect("a UTF-8 path");
        let deleted = run(&["registry", "gc", "--root", root, "--grace", "0"]);
        assert_eq!(deleted.stdout, b"0 files deleted, 0 B\n");
        assert!(String::from_utf8_lossy(&run(&["registry", "ls", "--root", root]).stdout).contains("v2"));
    }
}
