//! The command lines of the control plane.

use std::process::Command;

use camino::Utf8Path;

use super::credentials::Credentials;
use super::node::Network;
use crate::port::free_port;
use crate::program::run;

/// Returns the paths of tools, and builds those that are missing.
///
/// # Panics
/// Panics if one cannot be built.
pub(super) fn tools<const N: usize>(names: [&str; N]) -> [camino::Utf8PathBuf; N] {
    let script = Utf8Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/tools.sh");
    let mut command = Command::new(script);
    command.args(names);
    let output = run(command).succeeded().stdout();
    let paths: Vec<camino::Utf8PathBuf> = output.lines().map(camino::Utf8PathBuf::from).collect();
    paths.try_into().expect("tools.sh prints a line for each name")
}

/// Returns the command of etcd on loopback. Its data need not survive a power cut.
pub(super) fn etcd(program: &Utf8Path, directory: &Utf8Path, port: u16) -> Command {
    let client = format!("http://127.0.0.1:{port}");
    let peer = format!("http://127.0.0.1:{}", free_port());
    let mut command = Command::new(program);
    command
        .arg("--unsafe-no-fsync")
        .args(["--data-dir", directory.join("etcd").as_str()])
        .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
        .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
        .args(["--initial-cluster", &format!("default={peer}")]);
    command
}

/// Audit policy: keeps every write to a pod, above all the annotations of webhooks.
pub(super) const AUDIT_POLICY: &str = r#"{"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": [
  {"level": "Metadata", "omitStages": ["RequestReceived"], "verbs": ["create", "update", "patch"],
   "resources": [{"group": "", "resources": ["pods", "pods/ephemeralcontainers"]}]},
  {"level": "None"}]}"#;

/// Returns the command of the API server. It calls webhooks and the kubelet of the node, nothing else.
pub(super) fn apiserver(
    program: &Utf8Path,
    files: &Credentials,
    port: u16,
    etcd_port: u16,
    audit: &Utf8Path,
    network: &Network,
) -> Command {
    let mut command = Command::new(program);
    let flags = [
        ("etcd-servers", format!("http://127.0.0.1:{etcd_port}")),
        ("bind-address", "127.0.0.1".to_owned()),
        ("advertise-address", "127.0.0.1".to_owned()),
        ("secure-port", port.to_string()),
        ("endpoint-reconciler-type", "none".to_owned()),
        ("service-cluster-ip-range", network.service_range()),
        // There is no kube-proxy: the API server calls the webhook of a service at one of its pods.
        ("enable-aggregator-routing", "true".to_owned()),
        ("authorization-mode", "Node,RBAC".to_owned()),
        ("enable-admission-plugins", "NodeRestriction".to_owned()),
        ("client-ca-file", files.path("ca.pem").into_string()),
        ("tls-cert-file", files.path("apiserver.pem").into_string()),
        ("tls-private-key-file", files.path("apiserver.key").into_string()),
        // No name server knows the name of the node.
        ("kubelet-preferred-address-types", "InternalIP".to_owned()),
        (
            "kubelet-client-certificate",
            files.path("apiserver-kubelet-client.pem").into_string(),
        ),
        (
            "kubelet-client-key",
            files.path("apiserver-kubelet-client.key").into_string(),
        ),
        (
            "service-account-issuer",
            "https://kubernetes.default.svc.cluster.local".to_owned(),
        ),
        (
            "service-account-key-file",
            files.path("service-accounts.pem").into_string(),
        ),
        (
            "service-account-signing-key-file",
            files.path("service-accounts.key").into_string(),
        ),
        ("audit-policy-file", audit.join("audit-policy.json").into_string()),
        ("audit-log-path", audit.join("audit.log").into_string()),
        ("allow-privileged", "true".to_owned()),
    ];
    command.args(flags.map(|(flag, value)| format!("--{flag}={value}")));
    command
}

pub(super) fn controller_manager(program: &Utf8Path, files: &Credentials) -> Command {
    let mut command = Command::new(program);
    let flags = [
        ("kubeconfig", files.path("controller-manager.kubeconfig").into_string()),
        ("bind-address", "127.0.0.1".to_owned()),
        ("secure-port", free_port().to_string()),
        ("leader-elect", "false".to_owned()),
        // Each controller has the rights of its own role; the role of the program has few.
        ("use-service-account-credentials", "true".to_owned()),
        ("root-ca-file", files.path("ca.pem").into_string()),
        (
            "service-account-private-key-file",
            files.path("service-accounts.key").into_string(),
        ),
    ];
    command.args(flags.map(|(flag, value)| format!("--{flag}={value}")));
    command
}

pub(super) fn scheduler(program: &Utf8Path, files: &Credentials) -> Command {
    let mut command = Command::new(program);
    let flags = [
        ("kubeconfig", files.path("scheduler.kubeconfig").into_string()),
        ("bind-address", "127.0.0.1".to_owned()),
        ("secure-port", free_port().to_string()),
        ("leader-elect", "false".to_owned()),
    ];
    command.args(flags.map(|(flag, value)| format!("--{flag}={value}")));
    command
}
