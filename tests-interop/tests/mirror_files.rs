//! The mirror files as a real containerd reads them, Debian's 1.6, 1.7, 2.0 and the current 2.4, with `ctr` and CRI, and
//! as the readers of K3s and Go's HTTP client do. Pulls go through them to an authenticated registry with TLS from a private authority. The origins do not
//! exist here: every pulled image came from the mirror.

#![expect(clippy::disallowed_methods, reason = "test set-up")]

#[path = "../../crates/landfall-core/tests/one_truth/configurations.rs"]
mod configurations;

use camino::Utf8PathBuf;
use configurations::{configurations, images};
use landfall_core::hostconf::containerd_config::{
    ContainerdRelease, ReadingState, read_mirror_files, render_config_path,
};
use landfall_core::hostconf::{HostFacts, render_for};
use landfall_core::settings::Dialect;
use landfall_host::node_facts::find_containerd_of;
use landfall_host::root::HostRoot;
use landfall_testkit::containerd_process::ContainerdProcess;
use landfall_testkit::image_builder::small_image;
use landfall_tests_interop::agent::run_landfall;
use landfall_tests_interop::cri_runtime::{CriRuntime, Release, RuntimeDirectory, add_to_main_file, dump};
use landfall_tests_interop::docker_registry::Account;
use landfall_tests_interop::go_tool::tool;
use landfall_tests_interop::images::NamedImage;
use landfall_tests_interop::port::free_port;
use landfall_tests_interop::program::{Finished, run};
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
        let root = self.path("root");
        drop(self.redirect(
            &["apply", "--root", root.as_str(), "--for", "containerd"],
            stylus,
            hosts,
        ));
    }

    /// Applies the files on a host with this release, and returns what is printed for the user to do.
    fn apply_on(&self, release: Release, stylus: &str, hosts: &str) -> String {
        let root = self.path("root");
        let release = ["--containerd-version", release.number()];
        let command = ["apply", "--root", root.as_str(), "--for", "containerd"];
        self.redirect(&[&command[..], &release].concat(), stylus, hosts)
            .stderr()
    }

    /// Runs a subcommand of `landfall redirect`.
    fn redirect(&self, command: &[&str], stylus: &str, hosts: &str) -> Finished {
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
        run_landfall(&[&["redirect"], command, &["--user-data", file.as_str()]].concat()).succeeded()
    }

    fn etc(&self) -> Utf8PathBuf {
        self.path("root/etc/containerd")
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

    /// A registry at an IPv6 address is asked, though nothing listens there.
    fn assert_an_ipv6_address_is_asked(&self, release: Release, pull: Pull<'_>) {
        let stylus = format!("  registryCredentials: {{domain: '[::1]:{}/mirror'}}\n", free_port());
        self.apply(&stylus, "quay.io");
        let problem = pull("quay.io/team/six:1").expect_err("nothing listens");
        assert!(
            problem.contains("https://[::1]:") && problem.contains("/v2/mirror/quay.io/team/six"),
            "{release:?}: {problem}"
        );
    }

    /// Pulls with a prefix, by digest and from a host with a port, then by other rules in the same files. The
    /// running runtime reads them at the next pull.
    fn assert_pulls_come_from_the_mirror(&self, pull: Pull<'_>) {
        self.apply(PREPEND, "docker.io, Quay.io, 'other.example.com:8443'");
        let digest = self.source.digest("quay.io/team/app:1");
        for (image, repository) in [
            (
                "docker.io/library/nginx:1.27".to_owned(),
                "mirror/docker.io/library/nginx",
            ),
            (format!("quay.io/team/app@{digest}"), "mirror/quay.io/team/app"),
            // The runtime looks for a file by the name as it is written.
            ("Quay.io/team/app:1".to_owned(), "mirror/quay.io/team/app"),
            (
                "registry-1.docker.io/library/nginx:1.27".to_owned(),
                "mirror/docker.io/library/nginx",
            ),
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

/// The way in which containerd is made to read the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// The lines that are printed, in the main file.
    Lines,
    /// The drop-in.
    DropIn,
}

const IMPORTS: &str = "imports = [\"/etc/containerd/conf.d/*.toml\"]\n";
const DROP_IN: &str = "conf.d/50-landfall.toml";

/// Returns the lines for the main file among what `apply` prints, of which there is one fragment.
fn printed_lines(printed: &str) -> &str {
    let at = printed.find("[plugins.").expect("lines are printed");
    let end = printed[at..].find("certs.d\"").expect("the directory") + "certs.d\"".len();
    &printed[at..at + end]
}

#[test]
fn each_release_reads_the_files_in_the_way_that_apply_chooses_and_changed_ones_without_a_restart() {
    for (release, version, top, way) in [
        (Release::V1_6, 2, IMPORTS, Way::Lines),
        (Release::V1_7, 2, IMPORTS, Way::Lines),
        (Release::V2_0, 2, IMPORTS, Way::DropIn),
        (Release::V2_0, 3, "", Way::Lines),
        (Release::V2_4, 2, IMPORTS, Way::DropIn),
        (Release::V2_4, 3, "", Way::Lines),
    ] {
        let case = format!("{release:?}, version {version}, {way:?}");
        let mut node = Node::start();
        let etc = node.etc();
        let directory = RuntimeDirectory::new(version, top, &etc);
        let printed = node.apply_on(release, PREPEND, "docker.io");
        assert_eq!(printed.contains("[plugins."), way == Way::Lines, "{case}: {printed}");
        assert_eq!(etc.join(DROP_IN).exists(), way == Way::DropIn, "{case}");
        if way == Way::Lines {
            add_to_main_file(&etc, printed_lines(&printed));
        }
        let runtime = CriRuntime::start(release, directory, &etc);
        let pull = |image: &str| runtime.pull(image, None);
        node.assert_pulls_come_from_the_mirror(&pull);
        node.assert_an_ipv6_address_is_asked(release, &pull);
        node.apply(PREPEND, "quay.io");
        node.source.registry.stop();
        let problem = pull("quay.io/other/app:1").expect_err("the mirror is down");
        assert_only_the_mirror_was_asked(&node, &problem);
        assert!(
            !runtime.output().contains(ACCOUNT.password),
            "{case}: {}",
            runtime.output()
        );
    }
}

/// A drop-in beside a main file that imports nothing would not be read, not even by 2.4, whose default configuration has
/// `imports`.
#[test]
fn a_drop_in_that_no_import_names_is_not_written_and_would_not_be_read() {
    for release in [Release::V2_0, Release::V2_4] {
        let node = Node::start();
        let etc = node.etc();
        let _directory = RuntimeDirectory::new(3, "", &etc);
        node.apply(PREPEND, "docker.io");
        assert!(!etc.join(DROP_IN).exists(), "{release:?}");
        fs_err::create_dir_all(etc.join("conf.d")).expect("a directory");
        let other = "version = 3\n[plugins.'io.containerd.cri.v1.images'.registry]\n  config_path = '/seen'\n";
        std::fs::write(etc.join(DROP_IN), other).expect("a drop-in");
        assert!(!dump(release, &etc).contains("/seen"), "{release:?}");
    }
}

/// The user's settings in the CRI section stay, whichever way is taken.
#[test]
fn the_users_section_is_kept() {
    let v2 = "[plugins.\"io.containerd.grpc.v1.cri\"]
  sandbox_image = \"registry.site.example:5000/pause:3.9\"
  [plugins.\"io.containerd.grpc.v1.cri\".cni]
    bin_dir = \"/opt/site/cni\"
  [plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc]
    runtime_type = \"io.containerd.runc.v2\"
    [plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc.options]
      SystemdCgroup = true
";
    let v3 = "[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = 'registry.site.example:5000/pause:3.9'
[plugins.'io.containerd.cri.v1.runtime'.cni]
  conf_dir = '/opt/site/cni'
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
  SystemdCgroup = true
";
    for (release, version, section) in [
        (Release::V1_6, 2, v2),
        (Release::V1_7, 2, v2),
        (Release::V2_0, 3, v3),
        (Release::V2_4, 2, v2),
        (Release::V2_4, 3, v3),
    ] {
        let node = Node::start();
        let etc = node.etc();
        let _directory = RuntimeDirectory::new(version, IMPORTS, &etc);
        add_to_main_file(&etc, section);
        // Without a release `apply` follows what it finds, and a file of version 3 or an import shows containerd 2.
        let printed = match version {
            2 => node.apply_on(release, PREPEND, "docker.io"),
            _ => {
                node.apply(PREPEND, "docker.io");
                String::new()
            }
        };
        if printed.contains("[plugins.") {
            add_to_main_file(&etc, printed_lines(&printed));
        }
        let dump = dump(release, &etc);
        for kept in [
            "registry.site.example:5000/pause:3.9",
            "/opt/site/cni",
            "SystemdCgroup = true",
        ] {
            assert!(
                dump.contains(kept),
                "{release:?}, version {version}: {kept} is lost\n{dump}"
            );
        }
        let is_set = dump.contains("config_path = \"/etc/containerd/certs.d\"")
            || dump.contains("config_path = '/etc/containerd/certs.d'");
        assert!(is_set, "{release:?}, version {version}\n{dump}");
    }
}

/// Inline mirrors of the user and `config_path` exclude each other: containerd's CRI plug-in would not load.
#[test]
fn inline_mirrors_of_the_user_are_named_and_nothing_stands_beside_them() {
    let mirrors = "[plugins.\"io.containerd.grpc.v1.cri\".registry.mirrors.\"docker.io\"]\n  \
                   endpoint = [\"https://old.example\"]\n";
    for release in [Release::V1_6, Release::V1_7, Release::V2_0, Release::V2_4] {
        let node = Node::start();
        let etc = node.etc();
        let directory = RuntimeDirectory::new(2, IMPORTS, &etc);
        add_to_main_file(&etc, mirrors);
        let printed = node.apply_on(release, PREPEND, "docker.io");
        assert!(
            printed.contains("`registry.mirrors.\"docker.io\"`"),
            "{release:?}: {printed}"
        );
        assert!(!etc.join(DROP_IN).exists(), "{release:?}");
        // It starts, and answers CRI.
        drop(CriRuntime::start(release, directory, &etc));
    }
}

/// The reading of a real dump and main file is what the program does with them.
#[test]
fn the_effective_configuration_is_read_from_the_program() {
    let own = |version: i64| render_config_path(version, "/etc/containerd/certs.d");
    let tokio = tokio::runtime::Runtime::new().expect("a runtime");
    for (release, version, more, state) in [
        (Release::V1_6, 2, String::new(), ReadingState::NotRead),
        (Release::V1_6, 2, own(2), ReadingState::Read),
        (Release::V1_7, 2, own(2), ReadingState::Read),
        (Release::V2_0, 2, String::new(), ReadingState::NotRead),
        (Release::V2_0, 2, own(2), ReadingState::Read),
        (Release::V2_0, 3, own(3), ReadingState::Read),
        (Release::V2_4, 3, String::new(), ReadingState::NotRead),
        (Release::V2_4, 2, own(2), ReadingState::Read),
        (
            Release::V2_4,
            2,
            own(2).replace("certs.d", "other.d"),
            ReadingState::NotRead,
        ),
    ] {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let etc = Utf8PathBuf::from_path_buf(directory.path().to_owned()).expect("a UTF-8 path");
        let _runtime = RuntimeDirectory::new(version, "", &etc);
        add_to_main_file(&etc, &more);
        let program = release.program();
        let main_file = etc.join("config.toml");
        let root = HostRoot::new("/");
        let facts = tokio.block_on(find_containerd_of(program.as_str(), &root, &main_file, None));
        assert!(facts.dump.is_some(), "{release:?}");
        let reading = read_mirror_files(&facts);
        assert_eq!(
            reading.state, state,
            "{release:?}, version {version}: {}",
            reading.message
        );
    }
}

/// Logins reach the registry through Go's HTTP client as they are.
#[test]
fn go_sends_the_headers_of_the_files() {
    let node = Node::start();
    node.apply(PREPEND, "docker.io");
    let mut command = std::process::Command::new(tool("http-headers"));
    command.arg(node.etc().join("certs.d/docker.io/hosts.toml"));
    // edge:canary-mirror
    assert_eq!(
        run(command).succeeded().stdout(),
        "authorization: Basic ZWRnZTpjYW5hcnktbWlycm9y\n"
    );
}

/// K3s' parser takes every file, and TOML made of it in K3s' way asks for the names that the rules say.
#[test]
fn k3s_makes_of_registries_yaml_what_the_rules_say() {
    let images = images();
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("registries.yaml");
    for configuration in configurations(&images) {
        for settings in [&configuration.settings, &configuration.with_mirror] {
            let rendering = render_for(
                settings,
                Dialect::K3s,
                &HostFacts::of_release(ContainerdRelease::parse("2")),
            );
            let registries = rendering
                .files
                .iter()
                .find(|file| file.path.ends_with("registries.yaml"));
            std::fs::write(&file, registries.expect("registries.yaml").content.as_bytes()).expect("a file");
            let names = [
                "gcr.io/google.com/tool_a-b/x:1",
                "GCR.IO/google.com/tool_a-b/x:1",
                "gcr.io/googlexcom/tool_a-b/x:1",
            ];
            let mut command = std::process::Command::new(tool("registries-yaml"));
            command.arg(&file).args(names);
            let repositories = run(command).succeeded().stdout();
            if configuration.name == "dots" && !settings.landfall.mirror.enable {
                assert_eq!(
                    repositories, "t.o/x\nt.o/x\ngooglexcom/tool_a-b/x\n",
                    "{}",
                    configuration.name
                );
            }
        }
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
