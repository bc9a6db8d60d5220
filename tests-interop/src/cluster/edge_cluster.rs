//! A cluster with Landfall on its node. An external registry holds images that run, and the agent has the
//! rights of the cluster's administrator, as on a control-plane host.

use camino::{Utf8Path, Utf8PathBuf};
use landfall_core::status::Phase;
use reqwest::Method;
use serde_json::{Value, json};

use super::client::{KubeClient, wait_for};
use super::handle::Cluster;
use super::images::{finishing_image, waiting_image};
use crate::agent::{LandfallAgent, binary};
use crate::images::{APPLICATIONS, NamedImage, profile_images};
use crate::site::Site;
use crate::source_registry::SourceRegistry;
use crate::topology::{ACCOUNT, Topology};

/// API path of the webhook's registration.
pub const REGISTRATION: &str = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/landfall";
/// API path of the Secret with the webhook's authority.
pub const AUTHORITY: &str = "/api/v1/namespaces/kube-system/secrets/landfall-webhook-ca";

/// Path below the host's root at which the agent finds the kubeconfig.
const KUBECONFIG: &str = "etc/kubernetes/admin.conf";
/// Path below the host's root of the file that the agent writes for the kubelet.
const CREDENTIAL_PROVIDER_CONFIG: &str = "etc/kubernetes/landfall-credential-provider.yaml";
const LOGINS: &str = "etc/kubernetes/registries";
const CREDENTIAL_PROVIDER: &str = "landfall-credential-provider";
const MIRROR_FILES: &str = "etc/containerd/certs.d";
/// Short intervals for a test, and mirror files in addition to the webhook.
const SETTINGS: &str = "  webhook: {sweepInterval: 1, rotationOverlap: 3}\n  mirror: {files: [containerd]}\n";
/// Image of the profile whose container ends at once: the image of an init container.
const FINISHING: &str = "docker.io/library/busybox:1.37";

/// A cluster, a registry and a host. The test starts the agent.
#[derive(Debug)]
pub struct EdgeCluster {
    /// The external registry, and the node as a host of Landfall.
    pub topology: Topology,
    pub cluster: Cluster,
    /// A client with every right in the cluster.
    pub client: KubeClient,
}

impl EdgeCluster {
    /// Starts everything except the kubelet and the agent; `program` is the path of `landfall-test-cluster`.
    ///
    /// # Panics
    /// Panics if a program is missing or fails.
    #[must_use]
    pub fn start(program: &Utf8Path) -> EdgeCluster {
        let cluster = Cluster::start(program);
        let source = SourceRegistry::with(Some(ACCOUNT), "landfall/", running_images());
        let topology = Topology::of(source, Site::on(&cluster.containerd_socket()));
        let edge = EdgeCluster {
            client: cluster.client(),
            topology,
            cluster,
        };
        edge.prepare(&edge.topology.site);
        let mirror_files = edge.topology.site.root().join(MIRROR_FILES);
        edge.cluster.read_mirror_files_from(&mirror_files);
        edge
    }

    /// Returns another host of the same cluster, with nothing on it.
    #[must_use]
    pub fn another_site(&self) -> Site {
        let site = Site::on(&self.cluster.containerd_socket());
        self.prepare(&site);
        site
    }

    /// Starts the agent of the node, and waits until it is `Running` and the webhook is registered.
    ///
    /// # Panics
    /// Panics after the deadline.
    #[must_use]
    pub fn start_agent(&self) -> LandfallAgent {
        let mut agent = self.topology.site.start_agent(&[]);
        agent.wait_for_phase(Phase::Running);
        let port = format!(":{}/", self.topology.site.ports.webhook);
        self.client.wait(REGISTRATION, "the webhook registered", |found| {
            let webhook = &found["webhooks"][0]["clientConfig"];
            webhook["caBundle"].is_string() && webhook["url"].as_str().is_some_and(|url| url.contains(&port))
        });
        agent
    }

    /// Starts the kubelet with the credential provider that the agent configured.
    ///
    /// # Panics
    /// Panics if the agent has not configured it, or the kubelet does not become ready.
    pub fn start_kubelet(&self) {
        let root = self.topology.site.root();
        let config = fs_err::read_to_string(root.join(CREDENTIAL_PROVIDER_CONFIG))
            .expect("the agent writes the kubelet's CredentialProviderConfig");
        // The host's root is a directory here, and the plug-in needs its path.
        let config = format!("{config}    args:\n      - \"--credroot={}\"\n", root.join(LOGINS));
        let programs = self.path("plugins");
        fs_err::create_dir_all(&programs).expect("a directory of our own");
        fs_err::os::unix::fs::symlink(binary(), programs.join(CREDENTIAL_PROVIDER)).expect("a link of our own");
        let file = self.path("credential-provider.yaml");
        fs_err::write(&file, config).expect("a file in our own directory");
        self.cluster.start_kubelet(&[
            &format!("--image-credential-provider-config={file}"),
            &format!("--image-credential-provider-bin-dir={programs}"),
        ]);
    }

    /// Returns the redirected image of an application, for example of `docker.io/library/nginx:1.27`.
    #[must_use]
    pub fn redirected(&self, canonical: &str) -> String {
        format!(
            "{}/{}",
            self.topology.site.primary_host(),
            self.topology.primary_repository(canonical)
        )
    }

    /// Changes `imageRedirectWebhook.enable` under the running agent, and waits until its registration is
    /// withdrawn or back.
    ///
    /// # Panics
    /// Panics after the deadline.
    pub fn turn_webhook(&self, on: bool) {
        self.write_user_data(&self.topology.site);
        if !on {
            let file = self.path("user-data.yaml");
            let text = fs_err::read_to_string(&file).expect("it was just written");
            let off = text.replace(
                "  imageRedirectWebhook:\n",
                "  imageRedirectWebhook:\n    enable: false\n",
            );
            fs_err::write(&file, off).expect("a file in our own directory");
        }
        wait_for("the webhook's registration", || {
            let found = self.client.request(Method::GET, REGISTRATION, None).ok()?;
            ((found.status == 200) == on).then_some(())
        });
    }

    fn write_user_data(&self, site: &Site) {
        site.write_user_data(crate::user_data::UserData {
            more: SETTINGS,
            ..self.topology.user_data_of(site)
        });
    }

    fn prepare(&self, site: &Site) {
        self.write_user_data(site);
        let kubeconfig = site.root().join(KUBECONFIG);
        fs_err::create_dir_all(kubeconfig.parent().expect("a path with a directory")).expect("a directory of our own");
        fs_err::copy(self.cluster.kubeconfig(), kubeconfig).expect("a file in our own directory");
    }

    fn path(&self, name: &str) -> Utf8PathBuf {
        self.topology.site.path(name)
    }
}

/// Returns a pod that no node takes. The test only reads what the API server makes of it.
#[must_use]
pub fn unschedulable_pod(name: &str, image: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "nodeSelector": {"landfall.invalid/none": "true"},
            "containers": [{"name": "main", "image": image}],
        },
    })
}

/// Returns the images of the profile; those of the applications can run.
fn running_images() -> Vec<NamedImage> {
    let mut images = profile_images();
    for named in &mut images {
        if APPLICATIONS.contains(&named.name) {
            named.image = if named.name == FINISHING {
                finishing_image(named.name)
            } else {
                waiting_image(named.name)
            };
        }
    }
    images
}
