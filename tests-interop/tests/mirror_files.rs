//! The mirror files as a real containerd reads them, Debian's 1.6 and the current 2.4, with `ctr` and CRI.
//! Pulls go through them to an authenticated registry with TLS from a private authority. The origins do not
//! exist here: every pulled image came from the mirror.

#![expect(clippy::disallowed_methods, reason = "test set-up")]

use camino::Utf8PathBuf;
use landfall_testkit::containerd_process::ContainerdProcess;
use landfall_testkit::image_builder::small_image;
use landfall_tests_interop::agent::run_landfall;
use landfall_tests_interop::cri_runtime::{CriRuntime, Release};
use landfall_tests_interop::docker_registry::Account;
use landfall_tests_interop::images::NamedImage;
use landfall_tests_interop::source_registry::SourceRegistry;

const ACCOUNT: Account<'_> = Account {
    user: "edge",
    password: "canary-mirror",
};

/// A registry, and the root of a host whose files are applied.
struct Node {
    source: SourceRegistry,
    directory: tempfile::TempDir,
}

/// A function by which a runtime pulls an image.
type Pull<'a> = &'a dyn Fn(&str) -> Result<String, String>;

impl Node {
    fn start() -> Node {
        let named = |name| NamedImage {
            name,
            image: small_image(name),
        };
        let images = vec![
            named("docker.io/library/nginx:1.27"),
            named("quay.io/team/app:1"),
            named("other.example.com_8443/team/app:1"),
        ];
        Node {
            source: SourceRegistry::with(Some(ACCOUNT), "mirror/", images),
            directory: tempfile::tempdir().expect("a temporary directory"),
        }
    }

    fn path(&self, name: &str) -> Utf8PathBuf {
        Utf8PathBuf::from_path_buf(self.directory.path().join(name)).expect("a UTF-8 path")
    }

    /// Applies the files for this configuration of the external registry.
    fn apply(&self, stylus: &str, hosts: &str) {
        self.redirect(&["apply", "--root", self.path("root").as_str()], stylus, hosts);
    }

    /// Runs a subcommand of `landfall redirect` for containerd and returns its output.
    fn redirect(&self, command: &[&str], stylus: &str, hosts: &str) -> String {
        let pem: String = self
            .source
            .authority
            .pem()
            .lines()
            .map(|line| format!("          {line}\n"))
            .collect();
        let stylus = stylus
            .replace("HOST", &self.source.registry.host())
            .replace("CERTIFICATE", &format!("|\n{pem}"));
        let user_data = format!("#cloud-config\nstylus:\n{stylus}landfall:\n  mirror: {{hosts: [{hosts}]}}\n");
        let file = self.path("user-data.yaml");
        std::fs::write(&file, user_data).expect("the user-data");
        std::fs::create_dir_all(self.path("root")).expect("a root");
        let arguments = ["--for", "containerd", "--user-data", file.as_str()];
        run_landfall(&[&["redirect"], command, &arguments].concat())
            .succeeded()
            .stdout()
    }

    /// Pulls with `ctr`, which uses the resolver of containerd's clients.
    fn ctr(&self, containerd: &ContainerdProcess, image: &str) -> Result<String, String> {
        let hosts = self.path("root/etc/containerd/certs.d");
        let arguments = [
            "images",
            "pull",
            "--snapshotter",
            "native",
            "--hosts-dir",
            hosts.as_str(),
            image,
        ];
        containerd.ctr(&arguments).map_err(|error| error.to_string())
    }

    /// Pulls a new image and returns the repository of the registry that served it.
    fn pulled_from(&self, pull: Pull<'_>, image: &str) -> String {
        let before = self.source.registry.requests().len();
        pull(image).unwrap_or_else(|problem| panic!("{image}: {problem}"));
        let requests = self.source.registry.requests().split_off(before);
        let asked = requests.iter().filter_map(|request| request.repository()).next();
        asked
            .unwrap_or_else(|| panic!("{image} came from elsewhere"))
            .to_owned()
    }

    /// Pulls with a prefix, by digest and from a host with a port, then by other rules in the same files. The
    /// running runtime reads them at the next pull.
    fn assert_pulls_come_from_the_mirror(&self, pull: Pull<'_>) {
        self.apply(PREPEND, "docker.io, quay.io, 'other.example.com:8443'");
        let digest = self.source.digest("quay.io/team/app:1");
        for (image, repository) in [
            (
                "docker.io/library/nginx:1.27".to_owned(),
                "mirror/docker.io/library/nginx",
            ),
            (format!("quay.io/team/app@{digest}"), "mirror/quay.io/team/app"),
            (
                "other.example.com:8443/team/app:1".to_owned(),
                "mirror/other.example.com_8443/team/app",
            ),
        ] {
            assert_eq!(self.pulled_from(pull, &image), repository, "{image}");
        }

        self.apply(RULES, "docker.io");
        for (image, repository) in [
            ("gcr.io/team/app:1", "mirror/quay.io/team/app"),
            ("ghcr.io/library/nginx:1.27", "mirror/docker.io/library/nginx"),
        ] {
            assert_eq!(self.pulled_from(pull, image), repository, "{image}");
        }
        let rotated_out = self.path("root/etc/containerd/certs.d/other.example.com:8443");
        assert!(!rotated_out.exists(), "{rotated_out} is of the rules before");
    }
}

const PREPEND: &str = "  registryCredentials:
    domain: HOST/mirror
    username: edge
    password: canary-mirror
    certificates: CERTIFICATE";

const RULES: &str = "  externalRegistries:
    registries:
      - domain: HOST
        username: edge
        password: canary-mirror
        certificates: CERTIFICATE
    registryMappingRules:
      gcr.io: HOST/mirror/quay.io
      ghcr.io/library: HOST/mirror/docker.io/library
";

#[test]
fn containerd_pulls_through_the_files_and_from_nowhere_else() {
    let mut node = Node::start();
    let containerd = ContainerdProcess::start().expect("containerd starts");
    node.assert_pulls_come_from_the_mirror(&|image| node.ctr(&containerd, image));
    node.apply(PREPEND, "quay.io");
    node.source.registry.stop();
    let problem = node
        .ctr(&containerd, "quay.io/team/app:1")
        .expect_err("the mirror is down");
    assert_only_the_mirror_was_asked(&node, &problem);
    node.source.registry.start_again();
    let pull = |image: &str| node.ctr(&containerd, image);
    assert_eq!(node.pulled_from(&pull, "quay.io/team/app:1"), "mirror/quay.io/team/app");
}

/// Both releases accept the applied drop-in with any version of the main file. The variant shown for version 3
/// has the same effect.
#[test]
fn cri_takes_the_drop_in_and_reads_changed_files_without_a_restart() {
    for (release, version, drop_in) in [
        (Release::V1_6, 2, "50-landfall.toml"),
        (Release::V2_4, 2, "50-landfall.toml"),
        (Release::V2_4, 3, "50-landfall.toml"),
        (Release::V2_4, 3, "60-registry.toml"),
    ] {
        let mut node = Node::start();
        node.apply(PREPEND, "docker.io");
        let directory = node.path("root/etc/containerd");
        let shown = node.redirect(&["render"], PREPEND, "docker.io");
        let (_, shown) = shown
            .split_once("/etc/containerd/conf.d/60-registry.toml\n")
            .expect("a drop-in is shown");
        std::fs::write(directory.join("conf.d/60-registry.toml"), shown).expect("the drop-in");
        let runtime = CriRuntime::start(release, version, drop_in, &directory);
        let pull = |image: &str| runtime.pull(image, None);
        node.assert_pulls_come_from_the_mirror(&pull);
        node.apply(PREPEND, "quay.io");
        node.source.registry.stop();
        let problem = pull("quay.io/other/app:1").expect_err("the mirror is down");
        assert_only_the_mirror_was_asked(&node, &problem);
        assert!(!runtime.output().contains(ACCOUNT.password), "{}", runtime.output());
    }
}

/// Checks with the runtime's message that it asked the mirror, and not the registry itself.
fn assert_only_the_mirror_was_asked(node: &Node, problem: &str) {
    let mirror = format!("https://{}/v2/mirror/quay.io/", node.source.registry.host());
    assert!(
        problem.contains(&mirror) && !problem.contains("https://quay.io"),
        "{problem}"
    );
    assert!(!problem.contains("canary"), "{problem}");
}
