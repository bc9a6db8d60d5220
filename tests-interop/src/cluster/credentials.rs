//! Certificates and kubeconfigs of the cluster. One authority signs every certificate.

use camino::{Utf8Path, Utf8PathBuf};
use serde_json::json;

use crate::tls::PrivateAuthority;

pub(super) const NODE: &str = "edge";

/// Files for the programs of the cluster, in one directory.
#[derive(Debug)]
pub(super) struct Credentials {
    directory: Utf8PathBuf,
}

impl Credentials {
    /// Writes all files. The API server listens on this port of 127.0.0.1, and pods reach it at
    /// `address_for_pods`.
    pub(super) fn write(directory: &Utf8Path, api_port: u16, address_for_pods: &str) -> Credentials {
        fs_err::create_dir_all(directory).expect("a directory of our own");
        let credentials = Credentials {
            directory: directory.to_owned(),
        };
        let authority = PrivateAuthority::generate("Landfall test cluster");
        credentials.put("ca.pem", authority.pem());
        // `system:masters` may ask the kubelet anything, as with kubeadm.
        let pairs: [(&str, &str, Option<&str>, &[&str]); 3] = [
            (
                "apiserver",
                "kube-apiserver",
                None,
                &["127.0.0.1", "localhost", "kubernetes.default.svc", address_for_pods],
            ),
            (
                "apiserver-kubelet-client",
                "kube-apiserver",
                Some("system:masters"),
                &[],
            ),
            // This key signs the tokens of service accounts. Its certificate only identifies the key.
            ("service-accounts", "service-accounts", None, &[]),
        ];
        for (file, name, group, addresses) in pairs {
            let issued = authority.issue(name, group, addresses);
            credentials.put(&format!("{file}.pem"), &issued.certificate);
            credentials.put(&format!("{file}.key"), &issued.key);
        }
        let node = format!("system:node:{NODE}");
        let users = [
            ("admin", "kubernetes-admin", Some("system:masters")),
            ("controller-manager", "system:kube-controller-manager", None),
            ("scheduler", "system:kube-scheduler", None),
            ("kubelet", node.as_str(), Some("system:nodes")),
        ];
        for (file, name, group) in users {
            let issued = authority.issue(name, group, &[]);
            let kubeconfig = json!({
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "test-cluster", "cluster": {
                    "server": format!("https://127.0.0.1:{api_port}"),
                    "certificate-authority-data": base64(authority.pem()),
                }}],
                "users": [{"name": name, "user": {
                    "client-certificate-data": base64(&issued.certificate),
                    "client-key-data": base64(&issued.key),
                }}],
                "contexts": [{"name": "test-cluster", "context": {"cluster": "test-cluster", "user": name}}],
                "current-context": "test-cluster",
            });
            credentials.put(&format!("{file}.kubeconfig"), &format!("{kubeconfig:#}\n"));
        }
        credentials
    }

    pub(super) fn path(&self, file: &str) -> Utf8PathBuf {
        self.directory.join(file)
    }

    fn put(&self, file: &str, content: &str) {
        fs_err::write(self.path(file), content).expect("a file in our own directory");
    }
}

fn base64(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}
