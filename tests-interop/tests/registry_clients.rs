//! Clients of other projects with Landfall's registry, TLS and a login: push, pull, copy, list, delete. skopeo
//! and containerd are Debian's, crane and regctl are built from their Go modules.
#![expect(clippy::unwrap_used, reason = "test set-up")]

use std::process::Command;

use camino::{Utf8Path, Utf8PathBuf};
use landfall_testkit::containerd_process::ContainerdProcess;
use landfall_testkit::image_builder::{FixtureBuilder, multi_platform, small_image};
use landfall_tests_interop::agent::run_landfall;
use landfall_tests_interop::docker_registry::Account;
use landfall_tests_interop::go_tool::tool;
use landfall_tests_interop::images::write_layout;
use landfall_tests_interop::landfall_registry::LandfallRegistry;
use landfall_tests_interop::program::{Finished, run};
use landfall_tests_interop::raw_http::RawHttp;
use landfall_tests_interop::skopeo::{Access, Skopeo};
use landfall_tests_interop::tls::PrivateAuthority;
use serde_json::json;

const ACCOUNT: Account<'_> = Account {
    user: "edge",
    password: "canary-of-clients",
};

/// A registry with TLS and a login. It has an image of two platforms, pushed by skopeo.
struct Fixture {
    authority: PrivateAuthority,
    registry: LandfallRegistry,
    directory: tempfile::TempDir,
    /// Digest of the image's index.
    root: String,
}

impl Fixture {
    fn start() -> Fixture {
        let authority = PrivateAuthority::generate("registry clients");
        let registry = LandfallRegistry::start_with(Some(&authority), Some(ACCOUNT), None, &["--access-log"]);
        let directory = tempfile::tempdir().unwrap();
        let fixture = Fixture {
            authority,
            registry,
            directory,
            root: String::new(),
        };
        fs_err::write(fixture.path("ca.pem"), fixture.authority.pem()).unwrap();
        let image = multi_platform(&[
            small_image("a"),
            FixtureBuilder::new().platform("linux", "arm64").build(),
        ]);
        let layout = fixture.path("layout");
        fs_err::create_dir(&layout).unwrap();
        write_layout(&layout, &image);
        Skopeo::default().push_layout(&layout, "image", fixture.access(), "team/app:v1");
        Fixture {
            root: image.root.digest.to_string(),
            ..fixture
        }
    }

    fn path(&self, name: &str) -> Utf8PathBuf {
        Utf8Path::from_path(self.directory.path()).unwrap().join(name)
    }

    fn access(&self) -> Access<'_> {
        Access {
            host: self.registry.host(),
            authority: Some(self.authority.pem()),
            account: Some(ACCOUNT),
        }
    }

    fn http(&self) -> RawHttp {
        RawHttp::new(self.registry.url(), Some(self.authority.pem()), Some(ACCOUNT))
    }

    /// Returns the digest of a tag in the registry; empty if there is no such tag.
    fn digest(&self, repository: &str, tag: &str) -> String {
        let response = self.http().get(&format!("/v2/{repository}/manifests/{tag}"));
        response.header("docker-content-digest").to_owned()
    }

    /// Returns a command that has its own home directory and trusts the authority of the test.
    fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.directory.path())
            .env("SSL_CERT_FILE", self.path("ca.pem"))
            .args(arguments);
        command
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Finished {
        run(self.command(program, arguments)).succeeded()
    }

    /// Checks the result of every client: an image that verifies, and no password in the log.
    fn finish(mut self) {
        let log = self.registry.program().output();
        assert!(log.contains("registry request"), "there is an access log: {log}");
        assert!(!log.contains(ACCOUNT.password), "{log}");
        let root = self.registry.root();
        drop(run_landfall(&["registry", "verify", "--root", root.as_str()]).succeeded());
    }
}

#[test]
fn skopeo_pushes_pulls_copies_lists_and_deletes() {
    let fixture = Fixture::start();
    let skopeo = Skopeo::default();
    assert_eq!(skopeo.pull(fixture.access(), "team/app:v1"), fixture.root);
    let layout = fixture.path("layout");
    skopeo.push_layout(&layout, "image", fixture.access(), "team/copy:v2");
    assert_eq!(skopeo.tags(fixture.access(), "team/copy"), ["v2"]);
    let credentials = format!("--creds={}:{}", ACCOUNT.user, ACCOUNT.password);
    let at = |image: &str| format!("docker://{}/{image}", fixture.registry.host());
    let certificates = fixture.path("certs.d");
    fs_err::create_dir(&certificates).unwrap();
    fs_err::copy(fixture.path("ca.pem"), certificates.join("ca.crt")).unwrap();
    let directory = format!("--cert-dir={certificates}");
    let both = ["src", "dest"].map(|end| credentials.replace("--", &format!("--{end}-")));
    let trust = ["src", "dest"].map(|end| directory.replace("--", &format!("--{end}-")));
    let mut arguments = vec!["--insecure-policy", "copy", "--all"];
    arguments.extend(both.iter().chain(&trust).map(String::as_str));
    let ends = [at("team/app:v1"), at("team/second/copy:v3")];
    arguments.extend(ends.iter().map(String::as_str));
    drop(fixture.run("skopeo", &arguments));
    assert_eq!(fixture.digest("team/second/copy", "v3"), fixture.root);
    drop(fixture.run(
        "skopeo",
        &[
            "--insecure-policy",
            "delete",
            &credentials,
            &directory,
            &at("team/copy:v2"),
        ],
    ));
    assert_eq!(fixture.digest("team/copy", "v2"), "");
    assert_eq!(fixture.digest("team/app", "v1"), fixture.root);
    fixture.finish();
}

#[test]
fn crane_pulls_pushes_copies_lists_and_deletes() {
    let fixture = Fixture::start();
    let (crane, host) = (tool("crane").into_string(), fixture.registry.host().to_owned());
    let crane = |arguments: &[&str]| fixture.run(&crane, arguments).stdout().trim().to_owned();
    drop(crane(&[
        "auth",
        "login",
        &host,
        "-u",
        ACCOUNT.user,
        "-p",
        ACCOUNT.password,
    ]));
    let source = format!("{host}/team/app:v1");
    assert_eq!(crane(&["digest", &source]), fixture.root);
    drop(crane(&["validate", "--remote", &source]));
    drop(crane(&["copy", &source, &format!("{host}/team/crane:v1")]));
    assert_eq!(fixture.digest("team/crane", "v1"), fixture.root);
    let layout = fixture.path("pulled");
    drop(crane(&["pull", "--format", "oci", &source, layout.as_str()]));
    drop(crane(&[
        "push",
        "--index",
        layout.as_str(),
        &format!("{host}/team/pushed:v1"),
    ]));
    assert_eq!(crane(&["ls", &format!("{host}/team/pushed")]), "v1");
    assert_eq!(crane(&["catalog", &host]), "team/app\nteam/crane\nteam/pushed");
    drop(crane(&["delete", &format!("{host}/team/crane@{}", fixture.root)]));
    assert_eq!(fixture.digest("team/crane", "v1"), "");
    fixture.finish();
}

#[test]
fn regctl_pulls_pushes_copies_with_referrers_lists_and_deletes() {
    let fixture = Fixture::start();
    let (regctl, host) = (tool("regctl").into_string(), fixture.registry.host().to_owned());
    let regctl = |arguments: &[&str]| fixture.run(&regctl, arguments).stdout().trim().to_owned();
    let authority = fixture.authority.pem().to_owned();
    drop(regctl(&[
        "registry",
        "set",
        &host,
        "--cacert",
        &authority,
        "--skip-check",
    ]));
    drop(regctl(&[
        "registry",
        "login",
        &host,
        "-u",
        ACCOUNT.user,
        "-p",
        ACCOUNT.password,
    ]));
    let source = format!("{host}/team/app:v1");
    assert_eq!(regctl(&["image", "digest", &source]), fixture.root);
    let note = fixture.path("note.txt");
    fs_err::write(&note, "signed by nobody").unwrap();
    let kind = "application/vnd.example.note";
    drop(regctl(&[
        "artifact",
        "put",
        "--artifact-type",
        kind,
        "--subject",
        &source,
        "-f",
        note.as_str(),
    ]));
    let layout = format!("ocidir://{}:v1", fixture.path("pulled"));
    drop(regctl(&["image", "copy", &source, &layout]));
    drop(regctl(&[
        "image",
        "copy",
        &layout,
        &format!("{host}/team/from-layout:v1"),
    ]));
    assert_eq!(fixture.digest("team/from-layout", "v1"), fixture.root);
    let copy = format!("{host}/team/regctl:v1");
    drop(regctl(&["image", "copy", "--referrers", &source, &copy]));
    assert_eq!(fixture.digest("team/regctl", "v1"), fixture.root);
    let referrers = fixture
        .http()
        .get(&format!("/v2/team/regctl/referrers/{}", fixture.root))
        .json();
    assert_eq!(referrers["manifests"][0]["artifactType"], json!(kind));
    assert_eq!(regctl(&["tag", "ls", &format!("{host}/team/regctl")]), "v1");
    assert_eq!(
        regctl(&["repo", "ls", &host]),
        "team/app\nteam/from-layout\nteam/regctl"
    );
    drop(regctl(&["tag", "rm", &copy]));
    assert_eq!(fixture.digest("team/regctl", "v1"), "");
    assert_eq!(
        fixture.digest("team/regctl", &fixture.root),
        fixture.root,
        "a tag alone goes"
    );
    fixture.finish();
}

#[test]
fn containerd_pulls_and_pushes() {
    let fixture = Fixture::start();
    let containerd = ContainerdProcess::start().unwrap();
    let source = format!("{}/team/app:v1", fixture.registry.host());
    let pushed = format!("{}/team/containerd:v1", fixture.registry.host());
    let user = format!("{}:{}", ACCOUNT.user, ACCOUNT.password);
    // Without configuration, containerd speaks plain HTTP to loopback.
    let hosts = fixture.path("hosts");
    let host = hosts.join(fixture.registry.host());
    fs_err::create_dir_all(&host).unwrap();
    let (url, authority) = (fixture.registry.url(), fixture.path("ca.pem"));
    let text = format!("server = \"{url}\"\n[host.\"{url}\"]\nca = \"{authority}\"\n");
    fs_err::write(host.join("hosts.toml"), text).unwrap();
    let ctr = |verb: &str, further: &[&str]| {
        let socket = containerd.socket();
        let mut arguments = vec!["--address", socket.as_str(), "--namespace", "k8s.io", "images", verb];
        arguments.extend(["--user", &user, "--hosts-dir", hosts.as_str()]);
        arguments.extend(further);
        drop(fixture.run("ctr", &arguments));
    };
    ctr("pull", &["--all-platforms", "--snapshotter", "native", &source]);
    ctr("push", &[&pushed, &source]);
    assert_eq!(fixture.digest("team/containerd", "v1"), fixture.root);
    fixture.finish();
}
