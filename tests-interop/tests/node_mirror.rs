//! The node-local mirror with real runtimes. containerd 1.6, 1.7 and 2.4 have one `_default/hosts.toml`, which leads
//! to the agent on loopback. The agent asks the primary registry, then the external one with TLS and a login,
//! and no other registry.

#![expect(clippy::disallowed_methods, reason = "test set-up")]

use std::io::ErrorKind;
use std::net::{TcpListener, TcpStream};

use camino::Utf8PathBuf;
use landfall_core::hostconf::containerd_config::ReadingState;
use landfall_core::status::Phase;
use landfall_testkit::image_builder::small_image;
use landfall_tests_interop::agent::LandfallAgent;
use landfall_tests_interop::canary_secrets::{EXTERNAL_PASSWORD, PRIMARY_PASSWORD, leaking_files, leaks};
use landfall_tests_interop::cri_runtime::{CriRuntime, Release, RuntimeDirectory, add_to_main_file};
use landfall_tests_interop::docker_registry::Account;
use landfall_tests_interop::images::NamedImage;
use landfall_tests_interop::poll::wait_for;
use landfall_tests_interop::port::free_port;
use landfall_tests_interop::site::Site;
use landfall_tests_interop::source_registry::SourceRegistry;
use landfall_tests_interop::user_data::STATE_DIR;

const EXTERNAL: Account<'static> = Account {
    user: "edge",
    password: EXTERNAL_PASSWORD,
};

/// The kubelet's login for the registry in the name of the image.
const KUBELETS: Account<'static> = Account {
    user: "origin",
    password: "canary-of-the-kubelet",
};

const NGINX: &str = "docker.io/library/nginx:1.27";

/// Mapping rules that send parts of one registry to several endpoints, which no mirror file can express.
const RULES: &str = "    registryMappingRules:
      docker.io/library: HOST/mirror/lib
      docker.io/curlimages: HOST/mirror/tools
";

/// An edge host with the mirror on: an external registry, an agent, and the registry in the names of the
/// images.
struct MirrorHost {
    site: Site,
    external: SourceRegistry,
    /// No client may ever connect to it.
    origin: TcpListener,
    mirror: String,
}

impl MirrorHost {
    fn new() -> MirrorHost {
        let origin = TcpListener::bind("127.0.0.1:0").expect("a free port");
        origin.set_nonblocking(true).expect("a socket of our own");
        let port = origin.local_addr().expect("it is bound").port();
        let of_a_port = format!("127.0.0.1_{port}/team/app:1");
        let names = [
            NGINX,
            "quay.io/team/app:1",
            of_a_port.leak(),
            "lib/nginx:1.27",
            "lib/busybox:1.37",
            "tools/curl:8",
        ];
        let images = names.map(|name| NamedImage {
            name,
            image: small_image(name),
        });
        MirrorHost {
            site: Site::on("/nonexistent/containerd.sock".into()),
            external: SourceRegistry::with(Some(EXTERNAL), "mirror/", images.into()),
            origin,
            mirror: format!("127.0.0.1:{}", free_port()),
        }
    }

    /// Writes user-data with a prefix for every image, or with these rules; `mirror` is its `landfall.mirror`.
    fn configure(&self, rules: &str, mirror: &str) {
        let pem: String = self
            .external
            .authority
            .pem()
            .lines()
            .map(|line| format!("          {line}\n"))
            .collect();
        let (host, ports) = (self.external.registry.host(), self.site.ports);
        let text = format!(
            "#cloud-config
stylus:
  imageRedirectWebhook: {{port: {webhook}}}
  localUI: {{port: {api}}}
  externalRegistries:
    registries:
      - domain: {host}{path}
        username: {user}
        password: {password}
        certificates: |
{pem}{rules}landfall:
  stateDir: {STATE_DIR}
  containerd: {{enable: false}}
  primary: {{endpoint: '127.0.0.1:{primary}', username: admin, password: {PRIMARY_PASSWORD}}}
  mirror: {mirror}
",
            path = if rules.is_empty() { "/mirror" } else { "" },
            webhook = ports.webhook,
            api = ports.api,
            primary = ports.primary,
            user = EXTERNAL.user,
            password = EXTERNAL.password,
            rules = rules.replace("HOST", &host),
        );
        std::fs::write(self.site.path("user-data.yaml"), text).expect("the user-data");
    }

    /// Returns `landfall.mirror` with the mirror on.
    fn on(&self) -> String {
        format!("{{enable: true, files: [containerd], listen: '{}'}}", self.mirror)
    }

    /// Starts the agent, which fills the primary registry with the only image of its profile. Returns also the lines
    /// that it wants in containerd's main file.
    fn start_agent(&self) -> (LandfallAgent, String) {
        let profile = "metadata: {name: store}\nspec:\n  template:\n    packs:\n    - name: web\n      layer: addon\n      \
                       values: |\n        pack:\n          content:\n            images:\n            - image: nginx:1.27\n";
        self.site.write_profile(|_| profile.to_owned());
        let mut agent = self.site.start_agent(&[]);
        let status = agent.wait_for_phase(Phase::Running);
        let files = status.mirror_files.expect("the mirror files' state");
        assert_eq!(files.state, ReadingState::NotRead, "{files:?}");
        let [lines] = &files.lines[..] else {
            panic!("one main file, so one form of the lines: {files:?}");
        };
        (agent, lines.clone())
    }

    fn etc(&self) -> Utf8PathBuf {
        self.site.root().join("etc/containerd")
    }

    /// Starts a runtime whose main file has the lines that the agent wants.
    fn start_runtime(&self, release: Release, version: u8, lines: &str) -> CriRuntime {
        let directory = RuntimeDirectory::new(version, "", &self.etc());
        add_to_main_file(&self.etc(), lines);
        CriRuntime::start(release, directory, &self.etc())
    }

    fn certs_directory(&self) -> Utf8PathBuf {
        self.etc().join("certs.d")
    }

    /// Pulls as the kubelet does, with a login for the registry in the name of the image. Returns the
    /// repositories of the external registry that were read, each with the user.
    fn pull(&self, runtime: &CriRuntime, image: &str) -> Vec<(String, Option<String>)> {
        let before = self.external.registry.requests().len();
        runtime
            .pull(image, Some(KUBELETS))
            .unwrap_or_else(|problem| panic!("{image}: {problem}"));
        let requests = self.external.registry.requests().split_off(before);
        let mut read: Vec<_> = requests
            .into_iter()
            .filter(|request| request.status == 200)
            .filter_map(|request| Some((request.repository()?.to_owned(), request.user)))
            .collect();
        read.dedup();
        read
    }

    fn assert_origin_was_not_asked(&self) {
        let came = self.origin.accept().map(|(_, from)| from);
        assert_eq!(came.map_err(|error| error.kind()), Err(ErrorKind::WouldBlock));
    }

    fn assert_no_login_left_the_agent(&self, runtime: &CriRuntime) {
        assert_eq!(leaks(&runtime.output(), EXTERNAL.user), Vec::<&str>::new());
        for directory in [&self.etc(), runtime.directory()] {
            let leaking = leaking_files(directory, EXTERNAL.user, &[]);
            assert_eq!(leaking, Vec::<Utf8PathBuf>::new());
        }
    }
}

#[test]
fn one_default_file_leads_every_pull_to_the_agent_which_follows_every_rule() {
    for (release, version) in [(Release::V1_6, 2), (Release::V1_7, 2), (Release::V2_4, 3)] {
        let mut edge = MirrorHost::new();
        edge.configure("", &edge.on());
        let directory = RuntimeDirectory::new(version, "", &edge.etc());
        let (mut agent, lines) = edge.start_agent();
        drop(directory);
        let runtime = edge.start_runtime(release, version, &lines);
        let origin = edge.origin.local_addr().expect("it is bound");
        let from = |repository: &str| vec![(repository.to_owned(), Some(EXTERNAL.user.to_owned()))];

        // With a prefix, from a host with a port, by digest.
        let digest = edge.external.digest("quay.io/team/app:1");
        for (image, repository) in [
            (
                format!("{origin}/team/app:1"),
                format!("mirror/127.0.0.1_{}/team/app", origin.port()),
            ),
            (
                format!("quay.io/team/app@{digest}"),
                "mirror/quay.io/team/app".to_owned(),
            ),
        ] {
            assert_eq!(edge.pull(&runtime, &image), from(&repository), "{release:?}: {image}");
        }
        assert_eq!(edge.pull(&runtime, "nginx:1.27"), [], "the primary registry has it");

        // An image that no allowed endpoint has cannot be pulled, whatever registry its name contains.
        let problem = runtime
            .pull(&format!("{origin}/team/missing:1"), None)
            .expect_err("nobody has it");
        assert!(problem.contains("not found"), "{problem}");

        // The running agent loads rules for parts of a registry.
        edge.configure(RULES, &edge.on());
        wait_for("the new rules", || runtime.pull("busybox:1.37", None).ok());
        assert_eq!(edge.pull(&runtime, "curlimages/curl:8"), from("mirror/tools/curl"));
        edge.assert_no_login_left_the_agent(&runtime);

        turned_off_and_on(&edge);
        primary_serves_without_the_external_registry(&mut edge, release, version, &lines);
        mirror_that_is_down_is_named(&edge, &runtime, &mut agent);
        edge.assert_origin_was_not_asked();
    }
}

/// Turning the mirror off on a running host removes its file and closes its address; turning it on reverses
/// that.
fn turned_off_and_on(edge: &MirrorHost) {
    let default = edge.certs_directory().join("_default/hosts.toml");
    let of_the_user = edge.certs_directory().join("gcr.io/hosts.toml");
    std::fs::create_dir_all(of_the_user.parent().expect("a directory")).expect("a directory");
    std::fs::write(&of_the_user, "server = \"https://gcr.io\"\n").expect("a file of the user's");
    edge.configure(RULES, "{enable: false}");
    wait_for("the mirror's end", || {
        let refused = TcpStream::connect(&edge.mirror).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused);
        (refused && !default.exists()).then_some(())
    });
    assert_eq!(
        std::fs::read_to_string(&of_the_user).expect("the user's file"),
        "server = \"https://gcr.io\"\n"
    );
    edge.configure("", &edge.on());
    wait_for("the mirror", || {
        (TcpStream::connect(&edge.mirror).is_ok() && default.exists()).then_some(())
    });
}

/// With the external registry stopped, the primary one serves a runtime that has no images yet.
fn primary_serves_without_the_external_registry(edge: &mut MirrorHost, release: Release, version: u8, lines: &str) {
    edge.external.registry.stop();
    let fresh = edge.start_runtime(release, version, lines);
    // The new rules apply a moment after the mirror starts.
    wait_for("nginx from the primary registry", || {
        fresh.pull("nginx:1.27", Some(KUBELETS)).ok()
    });
    let problem = fresh
        .pull("quay.io/team/app:1", Some(KUBELETS))
        .expect_err("the external registry is down");
    assert!(problem.contains("502") && !problem.contains("canary"), "{problem}");
    edge.assert_no_login_left_the_agent(&fresh);
}

fn mirror_that_is_down_is_named(edge: &MirrorHost, runtime: &CriRuntime, agent: &mut LandfallAgent) {
    assert_eq!(agent.terminate(), Some(0));
    let origin = edge.origin.local_addr().expect("it is bound");
    let problem = runtime
        .pull(&format!("{origin}/team/other:1"), Some(KUBELETS))
        .expect_err("nobody listens");
    assert!(
        problem.contains(&format!("http://{}/v2/team/other", edge.mirror)),
        "{problem}"
    );
}
