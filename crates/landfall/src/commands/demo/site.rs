//! The demonstration's site: its images, its user-data and its profile. Values only.

use std::net::SocketAddr;

use landfall_oci::fixtures::{FixtureBuilder, ImageFixture, oci_archive, provider_image};

/// User of the site at its upstream registry.
pub(super) const UPSTREAM_USER: &str = "edge-host";
/// Password of that user. It gives access to generated images only, on loopback, while the demonstration runs.
pub(super) const UPSTREAM_PASSWORD: &str = "only-for-the-demonstration";
/// Path below which the upstream registry keeps its copies.
pub(super) const UPSTREAM_PATH: &str = "mirror";

const PROVIDER: &str = "example.io/my-images/edge-os:v1.4.5";

/// Core images. They are archives inside the provider image; no registry serves them.
const CORE: [&str; 4] = [
    "registry.k8s.io/kube-apiserver:v1.33.6",
    "registry.k8s.io/kube-controller-manager:v1.33.6",
    "registry.k8s.io/etcd:3.5.24-0",
    "registry.k8s.io/pause:3.10",
];

/// All other images in canonical form, with the size of their content in KiB.
const OTHERS: [(&str, usize); 6] = [
    (
        "us-docker.pkg.dev/palette-images/packs/calico/3.30.0/node:v3.30.0",
        3072,
    ),
    ("us-docker.pkg.dev/palette-images/packs/calico/3.30.0/cni:v3.30.0", 2048),
    ("docker.io/longhornio/longhorn-manager:v1.9.0", 1536),
    ("docker.io/library/nginx:1.27", 1024),
    ("ghcr.io/spectrocloud/hello-universe:1.2.0", 512),
    ("docker.io/library/busybox:1.37", 256),
];

/// An image that no profile names, with the size of its content in KiB: it comes with the bundle.
pub(super) const EXTRA: (&str, usize) = ("docker.io/library/redis:8", 2048);

/// Returns every image of the site: its canonical name and its content.
pub(super) fn all_images() -> Vec<(&'static str, ImageFixture)> {
    let mut images = vec![(PROVIDER, mk_provider_image())];
    for (name, kibibytes) in OTHERS {
        images.push((name, mk_image(name, kibibytes * 1024)));
    }
    images
}

fn mk_provider_image() -> ImageFixture {
    let archives: Vec<(String, Vec<u8>)> = CORE
        .iter()
        .map(|name| {
            let file = name.rsplit(['/', ':']).nth(1).unwrap_or(name);
            (
                format!("{file}.tar"),
                oci_archive(&[(name, &mk_image(name, 128 * 1024))]),
            )
        })
        .collect();
    let archives: Vec<(&str, &[u8])> = archives
        .iter()
        .map(|(file, bytes)| (file.as_str(), bytes.as_slice()))
        .collect();
    provider_image(&archives)
}

fn mk_image(name: &str, size: usize) -> ImageFixture {
    FixtureBuilder::new()
        .gzip_layer(&[("etc/image-name", name.as_bytes()), ("data", &noise(name, size))])
        .build()
}

/// Returns bytes that do not compress, so that the progress display has something to show. The same seed gives the same
/// bytes (xorshift64).
fn noise(seed: &str, size: usize) -> Vec<u8> {
    let mut state = seed.bytes().fold(0x9E37_79B9_7F4A_7C15_u64, |state, byte| {
        (state ^ u64::from(byte)).rotate_left(9)
    });
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(size);
    bytes
}

/// Renders the user-data of the demonstration's host.
pub(super) fn user_data(upstream: SocketAddr, primary: SocketAddr) -> String {
    format!(
        r#"#cloud-config
stylus:
  registryCredentials:
    domain: "{upstream}/{UPSTREAM_PATH}"
    username: "{UPSTREAM_USER}"
    password: "{UPSTREAM_PASSWORD}"
    insecure: true
landfall:
  containerd:
    enable: false
  primary:
    endpoint: "{primary}"
"#
    )
}

/// Renders the user-data of the host without a network, which takes bundles that this key signed.
pub(super) fn offline_user_data(primary: SocketAddr, public_key: &str) -> String {
    let key = public_key.trim_end().replace('\n', "\n        ");
    format!(
        r#"#cloud-config
stylus:
  managementMode: local
landfall:
  containerd:
    enable: false
  primary:
    endpoint: "{primary}"
  bundles:
    sticks: false
    publicKeys:
      - |
        {key}
"#
    )
}

/// Returns the images of the bundle: those of the site, and one more.
pub(super) fn bundled_images() -> Vec<(&'static str, ImageFixture)> {
    let mut images = all_images();
    let (name, kibibytes) = EXTRA;
    images.push((name, mk_image(name, kibibytes * 1024)));
    images
}

/// Cluster profile of the demonstration.
pub(super) const PROFILE: &str = r#"metadata:
  name: demo-store
spec:
  version: 1.0.0
  template:
    packs:
      - name: edge-native-byoi
        layer: os
        tag: 2.1.0
        values: |
          pack:
            content:
              images:
                - image: "{{.spectro.pack.edge-native-byoi.options.system.uri}}"
          options:
            system.uri: example.io/my-images/edge-os:v1.4.5
      - name: cni-calico
        layer: cni
        tag: 3.30.0
        values: |
          pack:
            content:
              images:
                - image: us-docker.pkg.dev/palette-images/packs/calico/3.30.0/node:v3.30.0
                - image: us-docker.pkg.dev/palette-images/packs/calico/3.30.0/cni:v3.30.0
      - name: csi-longhorn
        layer: csi
        tag: 1.9.0
        values: |
          pack:
            content:
              images:
                - image: docker.io/longhornio/longhorn-manager:v1.9.0
      - name: hello-store
        layer: addon
        tag: 1.0.0
        values: |
          pack:
            content:
              images:
                - image: nginx:1.27
                - image: ghcr.io/spectrocloud/hello-universe:1.2.0
        manifests:
          - name: store
            content: |
              apiVersion: v1
              kind: Pod
              metadata: {name: store, namespace: store}
              spec:
                initContainers:
                  - {name: wait, image: "busybox:1.37"}
                containers:
                  - {name: web, image: "nginx:1.27"}
"#;

/// Request of an AdmissionReview (`admission.k8s.io/v1`) for a pod as a user would create it.
pub(super) const ADMISSION_REVIEW: &str = r#"{
  "apiVersion": "admission.k8s.io/v1",
  "kind": "AdmissionReview",
  "request": {
    "uid": "6f1c8a52-4d7e-4b8e-9a4e-0c8b5d3f2a10",
    "kind": {"group": "", "version": "v1", "kind": "Pod"},
    "resource": {"group": "", "version": "v1", "resource": "pods"},
    "namespace": "store",
    "operation": "CREATE",
    "object": {
      "apiVersion": "v1",
      "kind": "Pod",
      "metadata": {"name": "store", "namespace": "store"},
      "spec": {
        "initContainers": [{"name": "wait", "image": "busybox:1.37"}],
        "containers": [{"name": "web", "image": "nginx:1.27"}]
      }
    }
  }
}"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_upstream_has_every_image_that_the_profile_names_and_no_core_image() {
        let names: Vec<&str> = all_images().iter().map(|(name, _)| *name).collect();
        for name in [
            PROVIDER,
            "docker.io/library/nginx:1.27",
            "docker.io/library/busybox:1.37",
        ] {
            assert!(names.contains(&name), "{name}");
        }
        assert!(CORE.iter().all(|core| !names.contains(core)));
    }

    #[test]
    fn noise_is_the_same_for_the_same_seed_only() {
        assert_eq!(noise("a", 100), noise("a", 100));
        assert_ne!(noise("a", 100), noise("b", 100));
    }
}
