//! The mirror files as a real containerd reads them: pulls through them from an authenticated registry with TLS from a
//! private authority. The origins do not exist here: what is pulled came from the mirror.

#![expect(clippy::disallowed_methods, reason = "test set-up")]

use camino::Utf8PathBuf;
use landfall_testkit::containerd_process::ContainerdProcess;
use landfall_testkit::image_builder::small_image;
use landfall_tests_interop::agent::run_landfall;
use landfall_tests_interop::docker_registry::Account;
use landfall_tests_interop::images::NamedImage;
use landfall_tests_interop::source::SourceRegistry;

const ACCOUNT: Account<'_> = Account {
    user: "edge",
    password: "canary-mirror",
};

/// A registry, a containerd, and the root of a host whose files are applied.
struct Node {
    source: SourceRegistry,
    containerd: ContainerdProcess,
    directory: tempfile::TempDir,
}

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
            containerd: ContainerdProcess::start().expect("containerd starts"),
            directory: tempfile::tempdir().expect("a temporary directory"),
        }
    }

    fn path(&self, name: &str) -> Utf8PathBuf {
        Utf8PathBuf::from_path_buf(self.directory.path().join(name)).expect("a UTF-8 path")
    }

    /// Applies the files that this configuration of the external registry means.
    fn apply(&self, stylus: &str, hosts: &str) {
        let pem: String = self
            .source
            .authority
            .pem()
            .lines()
            .map(|line| format!("          {line}\n"))
            .collect();
        let host = self.source.registry.host();
        let stylus = stylus
            .replace("HOST", &host)
            .replace("CERTIFICATE", &format!("|\n{pem}"));
        let user_data = format!("#cloud-config\nstylus:\n{stylus}landfall:\n  mirror: {{hosts: [{hosts}]}}\n");
        std::fs::write(self.path("user-data.yaml"), user_data).expect("the user-data");
        std::fs::create_dir_all(self.path("root")).expect("a root");
        let arguments = ["redirect", "apply", "--for", "containerd", "--root"];
        let inputs = ["--user-data", self.path("user-data.yaml").as_str()].map(ToOwned::to_owned);
        let root = self.path("root");
        let line: Vec<&str> = arguments
            .into_iter()
            .chain([root.as_str()])
            .chain(inputs.iter().map(String::as_str))
            .collect();
        drop(run_landfall(&line).succeeded());
    }

    fn pull(&self, image: &str) -> Result<String, String> {
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
        self.containerd.ctr(&arguments).map_err(|error| error.to_string())
    }

    /// Pulls an image that has not been here, and says which repository of the registry it came from.
    fn pulled_from(&self, image: &str) -> String {
        let before = self.source.registry.requests().len();
        self.pull(image).unwrap_or_else(|problem| panic!("{image}: {problem}"));
        let requests = self.source.registry.requests().split_off(before);
        let asked = requests.iter().filter_map(|request| request.repository()).next();
        asked
            .unwrap_or_else(|| panic!("{image} came from elsewhere"))
            .to_owned()
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
    node.apply(PREPEND, "docker.io, quay.io, 'other.example.com:8443'");
    let digest = node.source.digest("quay.io/team/app:1");
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
        assert_eq!(node.pulled_from(&image), repository, "{image}");
    }

    // Other rules in the same files, read at the next pull: containerd goes on running.
    node.apply(RULES, "docker.io");
    for (image, repository) in [
        ("gcr.io/team/app:1", "mirror/quay.io/team/app"),
        ("ghcr.io/library/nginx:1.27", "mirror/docker.io/library/nginx"),
    ] {
        assert_eq!(node.pulled_from(image), repository, "{image}");
    }
    assert!(
        !node.path("root/etc/containerd/certs.d/other.example.com:8443").exists(),
        "rotated out"
    );

    node.apply(PREPEND, "quay.io");
    node.source.registry.stop();
    let problem = node.pull("quay.io/team/app:1").expect_err("the mirror is down");
    let mirror = format!("https://{}/v2/mirror/quay.io/team/app", node.source.registry.host());
    assert!(
        problem.contains(&mirror) && !problem.contains("https://quay.io"),
        "{problem}"
    );
    assert!(!problem.contains("canary"), "{problem}");
    node.source.registry.start_again();
    assert_eq!(node.pulled_from("quay.io/team/app:1"), "mirror/quay.io/team/app");
}
