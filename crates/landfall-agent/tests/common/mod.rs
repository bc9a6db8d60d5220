//! A miniature site: an upstream registry with a provider image, an infrastructure image and an application image,
//! user-data and a profile that name them, and an agent in a directory of its own. Everything is on loopback, on free
//! ports.

#![allow(
    clippy::unwrap_used,
    dead_code,
    unreachable_pub,
    reason = "a module of several test programs, none of which uses every part"
)]

pub mod agent;
pub mod bundles;

use std::sync::Arc;
use std::time::Duration;

use camino::Utf8PathBuf;
use landfall_agent::{AgentOptions, AgentOutcome, Listeners, Timing, run_agent};
use landfall_core::failure::RetryPolicy;
use landfall_core::status::{AgentStatus, Event, NoProgress, Phase};
use landfall_testkit::fake_registry::{Access, FakeRegistry, FakeRegistryOptions, FakeTls};
use landfall_testkit::image_builder::{FixtureBuilder, ImageFixture, docker_archive, provider_image, small_image};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// A password that must not appear outside the inputs and their copy of mode 0600.
pub const CANARY: &str = "canary-Pa55w0rd-42";

/// A site. The user-data has the port of a listener that the test binds itself.
pub struct Site {
    pub upstream: FakeRegistry,
    pub dir: tempfile::TempDir,
    pub primary_port: u16,
}

/// The differences between the site's user-data and the usual one.
#[derive(Debug, Clone, Default)]
pub struct Differences {
    /// Lines below `registryCredentials`, beside `domain`; `insecure: true` when empty.
    pub credentials: Vec<String>,
    /// Lines at the end of the file.
    pub more: Vec<String>,
    /// `imageRedirectWebhook.enable`.
    pub webhook_off: bool,
    /// The domain of the external registry, if it is not the upstream registry.
    pub domain: Option<String>,
}

pub fn pause_image() -> ImageFixture {
    FixtureBuilder::new().plain_layer(&[("pause", b"pause")]).build()
}

/// Returns an archive with one core image.
pub fn core_archive() -> Vec<u8> {
    docker_archive(&[(&["registry.k8s.io/pause:3.9"], &pause_image())])
}

/// Returns the image of the operating system, with one archive of core images in it.
pub fn os_image() -> ImageFixture {
    provider_image(&[("core.tar", &core_archive())])
}

impl Site {
    /// Returns a site with an open upstream registry that has every image of the profile.
    pub fn new() -> Site {
        Site::with_access(Access::Open, None)
    }

    pub fn with_access(access: Access, tls: Option<FakeTls>) -> Site {
        let upstream = FakeRegistry::start_with(FakeRegistryOptions {
            access,
            tls,
            ..FakeRegistryOptions::default()
        });
        upstream.add_image("example.io/os", "1", &os_image());
        upstream.add_image("example.io/calico", "1", &small_image("calico"));
        upstream.add_image("docker.io/library/nginx", "1.27", &small_image("nginx"));
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let site = Site {
            upstream,
            dir: tempfile::tempdir().unwrap(),
            primary_port: free.local_addr().unwrap().port(),
        };
        site.write_profile(&["nginx:1.27"]);
        site.write_user_data(&Differences::default());
        site
    }

    pub fn path(&self, name: &str) -> Utf8PathBuf {
        Utf8PathBuf::from_path_buf(self.dir.path().join(name)).unwrap()
    }

    pub fn state_dir(&self) -> Utf8PathBuf {
        self.path("state")
    }

    pub fn write_user_data(&self, differences: &Differences) {
        let domain = differences
            .domain
            .clone()
            .unwrap_or_else(|| self.upstream.host().to_string());
        let mut lines = vec![
            "#cloud-config".to_owned(),
            "stylus:".to_owned(),
            "  registryCredentials:".to_owned(),
            format!("    domain: \"{domain}\""),
        ];
        if differences.credentials.is_empty() {
            lines.push("    insecure: true".to_owned());
        }
        lines.extend(differences.credentials.iter().map(|line| format!("    {line}")));
        if differences.webhook_off {
            lines.push("  imageRedirectWebhook:\n    enable: false".to_owned());
        }
        lines.push("landfall:\n  reconcileInterval: 3600\n  containerd:\n    enable: false".to_owned());
        lines.push(format!("  primary:\n    endpoint: \"127.0.0.1:{}\"", self.primary_port));
        lines.extend(differences.more.iter().cloned());
        std::fs::write(self.path("user-data.yaml"), lines.join("\n") + "\n").unwrap();
    }

    pub fn write_profile(&self, applications: &[&str]) {
        let images: String = applications
            .iter()
            .map(|image| format!("                - image: {image}\n"))
            .collect();
        let text = format!(
            r#"metadata:
  name: store
spec:
  template:
    packs:
      - name: os
        layer: os
        values: |
          options:
            system.uri: example.io/os:1
      - name: cni
        layer: cni
        values: |
          pack:
            content:
              images:
                - image: example.io/calico:1
      - name: web
        layer: addon
        values: |
          pack:
            content:
              images:
{images}"#
        );
        std::fs::write(self.path("profile.yaml"), text).unwrap();
    }

    pub async fn options(&self) -> AgentOptions {
        // Between two runs of a site, another test may get the port for a connection of its own.
        let bind = async || loop {
            if let Ok(primary) = TcpListener::bind(("127.0.0.1", self.primary_port)).await {
                return primary;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        let primary = tokio::time::timeout(Duration::from_secs(20), bind()).await.unwrap();
        self.options_with_primary(Some(primary)).await
    }

    /// Returns the options of an agent that gets this socket for its primary registry, or binds it itself.
    pub async fn options_with_primary(&self, primary: Option<TcpListener>) -> AgentOptions {
        std::fs::create_dir_all(self.path("root")).unwrap();
        AgentOptions {
            state_dir: Some(self.state_dir()),
            root: self.path("root"),
            once: true,
            listeners: Listeners {
                status: Some(TcpListener::bind("127.0.0.1:0").await.unwrap()),
                webhook: Some(TcpListener::bind("127.0.0.1:0").await.unwrap()),
                primary,
                mirror: Some(TcpListener::bind("127.0.0.1:0").await.unwrap()),
            },
            timing: Timing {
                file_poll: Duration::from_millis(20),
                degraded_retry: Duration::from_millis(50),
                retry: RetryPolicy {
                    attempts: 2,
                    first_delay: Duration::from_millis(1),
                    ..RetryPolicy::default()
                },
                shutdown_deadline: Duration::from_secs(10),
            },
            ..AgentOptions::new(vec![self.path("user-data.yaml")], vec![self.path("profile.yaml")])
        }
    }

    /// Runs the agent once.
    pub async fn run(&self) -> AgentOutcome {
        let options = self.options().await;
        run_agent(options, Arc::new(NoProgress), CancellationToken::new())
            .await
            .unwrap()
    }

    /// Runs the agent once and expects a failure. Returns the first phase that failed, with its message without ports and
    /// paths.
    pub async fn failure(&self) -> (Phase, String) {
        match self.run().await {
            AgentOutcome::Failed { failures } => (failures[0].phase, self.readable(&failures[0].message)),
            other => panic!("the agent ended with {other:?}"),
        }
    }

    /// Returns a text without the parts that differ between runs.
    pub fn readable(&self, text: &str) -> String {
        text.replace(self.upstream.host().as_str(), "REGISTRY")
            .replace(&format!("127.0.0.1:{}", self.primary_port), "PRIMARY")
            .replace(self.dir.path().to_str().unwrap(), "DIR")
    }

    pub fn status(&self) -> AgentStatus {
        landfall_agent::status::read_status(&self.state_dir()).unwrap().unwrap()
    }

    pub fn events(&self) -> Vec<Event> {
        landfall_agent::events::read_events(&self.state_dir(), 0).unwrap()
    }

    /// Returns the paths of the blobs and manifests that were fetched from the upstream registry, in order.
    pub fn fetched(&self) -> Vec<String> {
        let requests = self.upstream.requests();
        let answered = requests
            .iter()
            .filter(|request| request.method == "GET" && request.status == Some(200));
        answered
            .map(|request| request.path.clone())
            .filter(|path| path != "/v2/")
            .collect()
    }
}
