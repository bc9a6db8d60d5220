//! Runtimes and clients of other projects that pull out of a bundle: skopeo by its plain names, containerd through a
//! mirror file.
#![expect(clippy::unwrap_used, reason = "test set-up")]

use camino::{Utf8Path, Utf8PathBuf};
use landfall_testkit::containerd_process::ContainerdProcess;
use landfall_testkit::image_builder::{FixtureBuilder, ImageFixture, multi_platform, oci_archive, small_image};
use landfall_tests_interop::agent::run_landfall;
use landfall_tests_interop::landfall_registry::start_listening;
use landfall_tests_interop::program::Program;
use landfall_tests_interop::skopeo::{Access, Skopeo};

const NAME: &str = "reg.example:5000/shop/till:1";

/// A bundle with an image of two platforms, and its server.
struct Fixture {
    directory: tempfile::TempDir,
    image: ImageFixture,
    server: Option<Program>,
    host: String,
}

impl Fixture {
    fn start() -> Fixture {
        let file: Vec<u8> = (0..200_000_u32).flat_map(u32::to_le_bytes).collect();
        let large = FixtureBuilder::new().plain_layer(&[("file", &file)]).build();
        let arm64 = FixtureBuilder::new().platform("linux", "arm64").build();
        let mut fixture = Fixture {
            directory: tempfile::tempdir().unwrap(),
            image: multi_platform(&[large, arm64]),
            server: None,
            host: String::new(),
        };
        let archive = fixture.path("images.tar");
        fs_err::write(&archive, oci_archive(&[(NAME, &fixture.image)])).unwrap();
        let bundle = fixture.path("site.tar.zst");
        let source = format!("oci-archive:{archive}");
        drop(run_landfall(&["bundle", "create", bundle.as_str(), "--image", &source]).succeeded());
        let arguments = ["bundle", "serve", bundle.as_str(), "--listen", "127.0.0.1:0"].map(str::to_owned);
        let (server, url) = start_listening(&fixture.path("."), &arguments);
        fixture.server = Some(server);
        url.strip_prefix("http://").unwrap().clone_into(&mut fixture.host);
        fixture
    }

    fn path(&self, name: &str) -> Utf8PathBuf {
        Utf8Path::from_path(self.directory.path()).unwrap().join(name)
    }

    fn access(&self) -> Access<'_> {
        Access {
            host: &self.host,
            authority: None,
            account: None,
        }
    }
}

#[test]
fn skopeo_pulls_every_platform_out_of_a_bundle() {
    let fixture = Fixture::start();
    for name in ["shop/till", "reg.example_5000/shop/till"] {
        let digest = Skopeo::default().pull(fixture.access(), &format!("{name}:1"));
        assert_eq!(digest, fixture.image.root.digest.as_str(), "{name}");
        assert_eq!(Skopeo::default().tags(fixture.access(), name), ["1"]);
    }
}

#[test]
fn containerd_takes_the_server_of_a_bundle_for_a_mirror() {
    let fixture = Fixture::start();
    let containerd = ContainerdProcess::start().unwrap();
    let hosts = fixture.path("hosts");
    let host = hosts.join("reg.example:5000");
    fs_err::create_dir_all(&host).unwrap();
    // Nothing listens at the registry itself.
    let text = format!(
        "server = \"http://127.0.0.1:1\"\n[host.\"http://{}\"]\ncapabilities = [\"pull\", \"resolve\"]\n",
        fixture.host
    );
    fs_err::write(host.join("hosts.toml"), text).unwrap();
    let pull = |name: &str| {
        let arguments = [
            "images",
            "pull",
            "--hosts-dir",
            hosts.as_str(),
            "--all-platforms",
            "--snapshotter",
            "native",
        ];
        containerd.ctr(&[&arguments[..], &[name]].concat())
    };
    pull(NAME).unwrap();
    let images = containerd.ctr(&["images", "ls"]).unwrap();
    assert!(images.contains(fixture.image.root.digest.as_str()), "{images}");
    let unknown = pull("reg.example:5000/shop/unknown:1").unwrap_err().to_string();
    assert!(unknown.contains("unknown"), "{unknown}");
}

#[test]
fn skopeo_is_told_that_a_bundle_takes_nothing() {
    let fixture = Fixture::start();
    let archive = fixture.path("other.tar");
    fs_err::write(&archive, oci_archive(&[("reg.example/other:1", &small_image("other"))])).unwrap();
    let mut command = std::process::Command::new("skopeo");
    command.args(["copy", "--dest-tls-verify=false"]);
    command.arg(format!("oci-archive:{archive}:reg.example/other:1"));
    command.arg(format!("docker://{}/other:1", fixture.host));
    let pushed = landfall_tests_interop::program::run(command);
    assert_eq!(pushed.code(), Some(1), "{}", pushed.stderr());
    assert!(pushed.stderr().contains("nothing can be pushed"), "{}", pushed.stderr());
}
