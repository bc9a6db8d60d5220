//! The node: containerd with CRI, a bridge for the pods, and the kubelet. All their files are in one directory.

use std::process::Command;

use camino::{Utf8Path, Utf8PathBuf};
use landfall_testkit::image_builder::{ImageFixture, oci_archive};
use serde_json::json;

use super::credentials::{Credentials, NODE};
use super::host_resources::HostResources;
use super::images::waiting_image;
use crate::port::free_port;
use crate::program::run;

/// File name of containerd's socket in the directory of the cluster.
pub const CONTAINERD_SOCKET: &str = "containerd.sock";

/// Name of containerd's directory of mirror files in the directory of the cluster. It exists only if a test
/// asks for it.
pub(super) const CERTS_DIRECTORY: &str = "certs.d";

/// The image of pod sandboxes. It is imported, never pulled.
const PAUSE: &str = "landfall.invalid/pause:1";

/// Directory of Debian's CNI plug-ins.
const CNI_PLUGINS: &str = "/usr/lib/cni";

/// Larger than the number of pods of any test.
const MAX_PODS: u32 = 400;

/// The network of the node: a bridge with the address of the node, and a subnet for the pods.
#[derive(Debug, Clone)]
pub(super) struct Network {
    bridge: String,
    /// `10.x.y`, of a /24.
    prefix: String,
}

impl Network {
    /// Creates the bridge. It is outside of the cluster's namespaces: [`HostResources`] removes it.
    pub(super) fn create(host_resources: &HostResources) -> Network {
        let network = Network {
            bridge: host_resources.bridge().to_owned(),
            prefix: free_subnet(host_resources.seed()),
        };
        let bridge = network.bridge.as_str();
        ip(&["link", "add", bridge, "type", "bridge"]);
        ip(&[
            "address",
            "add",
            &format!("{}/24", network.node_address()),
            "dev",
            bridge,
        ]);
        let for_pods = format!("{}/24", network.api_server_address());
        ip(&["address", "add", &for_pods, "dev", bridge]);
        ip(&["link", "set", bridge, "up"]);
        network
    }

    /// Returns the range of service addresses: the end of the pods' subnet. The first address is routed, the
    /// others are not.
    pub(super) fn service_range(&self) -> String {
        format!("{}.192/26", self.prefix)
    }

    /// Returns the address of the service `kubernetes`, at which pods find the API server: the first of the
    /// range.
    pub(super) fn api_server_address(&self) -> String {
        format!("{}.193", self.prefix)
    }

    /// Returns the address of the node, at which the API server calls the kubelet.
    pub(super) fn node_address(&self) -> String {
        format!("{}.1", self.prefix)
    }

    fn write_configuration(&self, directory: &Utf8Path) {
        // Pods reach the node and each other. There is no route out, and the host's firewall is not touched.
        let configuration = json!({
            "cniVersion": "1.0.0",
            "name": "test-cluster",
            "plugins": [{
                "type": "bridge",
                "bridge": self.bridge,
                "ipam": {
                    "type": "host-local",
                    "dataDir": directory.join("addresses"),
                    "ranges": [[{
                        "subnet": format!("{}.0/24", self.prefix),
                        "rangeStart": format!("{}.2", self.prefix),
                        "rangeEnd": format!("{}.191", self.prefix),
                    }]],
                },
            }],
        });
        put(&directory.join("10-test-cluster.conflist"), &configuration.to_string());
    }
}

/// Returns a /24 of 10.0.0.0/8 that the machine has no route to.
fn free_subnet(seed: u32) -> String {
    let mut routes = Command::new("ip");
    routes.args(["route", "show"]);
    let routes = run(routes).succeeded().stdout();
    (seed..)
        .map(|number| format!("10.{}.{}", 100 + (number >> 8) % 100, number % 256))
        .find(|prefix| !routes.contains(&format!("{prefix}.")))
        .expect("a machine without a route to every subnet")
}

fn ip(arguments: &[&str]) {
    let mut command = Command::new("ip");
    command.args(arguments);
    drop(run(command).succeeded());
}

/// Writes containerd's configuration and returns its command.
pub(super) fn containerd(program: &Utf8Path, shim: &Utf8Path, directory: &Utf8Path, network: &Network) -> Command {
    let cni = directory.join("cni");
    fs_err::create_dir_all(&cni).expect("a directory of our own");
    network.write_configuration(&cni);
    // Lowering the OOM score needs a capability that virtual machines of builds do not have. With
    // `restrict_oom_score_adj`, sandboxes keep the score with which they are started.
    let configuration = format!(
        r#"version = 3
root = "{directory}/root"
state = "{directory}/state"
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.erofs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.blockfile",
  "io.containerd.nri.v1.nri", "io.containerd.internal.v1.tracing"]

[grpc]
  address = "{directory}/{CONTAINERD_SOCKET}"

[ttrpc]
  address = "{directory}/{CONTAINERD_SOCKET}.ttrpc"

[plugins."io.containerd.cri.v1.images"]
  snapshotter = "overlayfs"
  [plugins."io.containerd.cri.v1.images".pinned_images]
    sandbox = "{PAUSE}"
  [plugins."io.containerd.cri.v1.images".registry]
    config_path = "{directory}/{CERTS_DIRECTORY}"

[plugins."io.containerd.cri.v1.runtime"]
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  [plugins."io.containerd.cri.v1.runtime".cni]
    bin_dirs = ["{CNI_PLUGINS}"]
    conf_dir = "{cni}"
  [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
      SystemdCgroup = false
"#
    );
    let file = directory.join("config.toml");
    put(&file, &configuration);
    let mut command = Command::new(program);
    let path = std::env::var("PATH").unwrap_or_default();
    let shim = shim.parent().expect("a program lies in a directory");
    command
        .args(["--config", file.as_str()])
        .env("PATH", format!("{shim}:{path}:/usr/sbin:/sbin"));
    command
}

/// Writes the pause image and returns the command that imports it. The command fails until containerd answers.
pub(super) fn import_pause_image(directory: &Utf8Path) -> impl Fn() -> Command + use<> {
    import_image(directory, PAUSE, &waiting_image(PAUSE))
}

/// Writes an image and returns the command that imports it into the containerd of this directory.
pub(super) fn import_image(directory: &Utf8Path, name: &str, image: &ImageFixture) -> impl Fn() -> Command + use<> {
    let archive = directory.join("import.tar");
    fs_err::write(&archive, oci_archive(&[(name, image)])).expect("a file in our own directory");
    let socket = directory.join(CONTAINERD_SOCKET);
    move || {
        let mut command = Command::new("ctr");
        command
            .args([
                "--address",
                socket.as_str(),
                "--namespace",
                "k8s.io",
                "images",
                "import",
            ])
            .arg(&archive);
        command
    }
}

/// Writes the kubelet's configuration and returns its command, and the port of its health check.
pub(super) fn kubelet(
    program: &Utf8Path,
    directory: &Utf8Path,
    files: &Credentials,
    network: &Network,
    host_resources: &HostResources,
    flags: &[&str],
) -> (Command, u16) {
    let health_port = free_port();
    let containerd = directory
        .parent()
        .expect("the kubelet's directory is below the cluster's");
    let configuration = json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": network.node_address(),
        "port": free_port(),
        "healthzBindAddress": "127.0.0.1",
        "healthzPort": health_port,
        "authentication": {
            "anonymous": {"enabled": false},
            "webhook": {"enabled": true},
            "x509": {"clientCAFile": files.path("ca.pem")},
        },
        "authorization": {"mode": "Webhook"},
        "containerRuntimeEndpoint": format!("unix://{containerd}/containerd/{CONTAINERD_SOCKET}"),
        // The machine's control groups are mostly v1 where tests run. The kubelet only names a parent group.
        "cgroupDriver": "cgroupfs",
        "cgroupsPerQOS": false,
        "enforceNodeAllocatable": [],
        "cgroupRoot": host_resources.control_group(),
        "failCgroupV1": false,
        "failSwapOn": false,
        "localStorageCapacityIsolation": false,
        "makeIPTablesUtilChains": false,
        "resolvConf": directory.join("resolv.conf"),
        // A full disk of the developer must not evict the pods of the tests.
        "evictionHard": {"memory.available": "0%", "nodefs.available": "0%", "nodefs.inodesFree": "0%", "imagefs.available": "0%"},
        "imageGCHighThresholdPercent": 100,
        "maxPods": MAX_PODS,
        "podLogsDir": directory.join("logs"),
        "serializeImagePulls": false,
        "registryPullQPS": 0,
        "kubeAPIQPS": 200,
        "kubeAPIBurst": 400,
        "syncFrequency": "10s",
    });
    fs_err::create_dir_all(directory.join("logs")).expect("a directory of our own");
    let file = directory.join("config.json");
    put(&file, &configuration.to_string());
    let mut command = Command::new(program);
    command
        .arg(format!("--config={file}"))
        .arg(format!("--kubeconfig={}", files.path("kubelet.kubeconfig")))
        .arg(format!("--root-dir={directory}/root"))
        .arg(format!("--cert-dir={directory}/pki"))
        .arg(format!("--hostname-override={NODE}"))
        .arg(format!("--node-ip={}", network.node_address()))
        .args(flags)
        .env(
            "PATH",
            format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default()),
        );
    (command, health_port)
}

fn put(path: &Utf8PathBuf, content: &str) {
    fs_err::write(path, content).expect("a file in our own directory");
}
