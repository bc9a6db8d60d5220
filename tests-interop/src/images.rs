//! Generated images for everything that `examples/profile-edge.yaml` needs: the provider image with core images
//! inside, images with several layers that share a base, and one with two platforms.

use camino::Utf8Path;
use landfall_testkit::image_builder::{
    FixtureBuilder, ImageFixture, KUBE_IMAGES, docker_archive, multi_platform, oci_archive,
};
use serde_json::json;

use crate::skopeo::{Access, Skopeo};

pub const PROVIDER: &str = "example.io/my-images/example-custom-os:v1.4.5";

/// Names of the core images in containerd. No registry of these tests serves them.
pub const CORE: [&str; 3] = [
    "registry.k8s.io/kube-apiserver:v1.33.6",
    "registry.k8s.io/etcd:3.5.24-0",
    "registry.k8s.io/pause:3.10",
];

/// Images of the infrastructure layers, except the provider image.
pub const INFRASTRUCTURE: [&str; 3] = [
    "us-docker.pkg.dev/palette-images/packs/calico/3.30.0/node:v3.30.0",
    "us-docker.pkg.dev/palette-images/packs/calico/3.30.0/cni:v3.30.0",
    "docker.io/longhornio/longhorn-manager:v1.9.0",
];

/// Images of the add-on layers, declared and discovered.
pub const APPLICATIONS: [&str; 4] = [
    "docker.io/library/nginx:1.27",
    "ghcr.io/spectrocloud/hello-universe:1.2.0",
    "docker.io/library/busybox:1.37",
    "quay.io/prometheus/node-exporter:v1.9.1",
];

/// Directory that may hold more core images, in addition to [`KUBE_IMAGES`].
const CONTENT_IMAGES: &str = "opt/content/images";

const KIB: usize = 1024;

#[derive(Debug, Clone)]
pub struct NamedImage {
    /// Canonical name, for example `docker.io/library/nginx:1.27`.
    pub name: &'static str,
    pub image: ImageFixture,
}

/// Returns all images that a registry has to serve, the provider image first.
#[must_use]
pub fn profile_images() -> Vec<NamedImage> {
    let mut images = vec![NamedImage {
        name: PROVIDER,
        image: provider(),
    }];
    let names = INFRASTRUCTURE.into_iter().chain(APPLICATIONS);
    images.extend(names.map(|name| NamedImage {
        name,
        image: ordinary(name),
    }));
    images
}

/// Pushes each image to `prefix` followed by its canonical name.
///
/// # Panics
/// Panics if skopeo fails.
pub fn push_images(skopeo: &Skopeo, access: Access<'_>, prefix: &str, images: &[NamedImage]) {
    for NamedImage { name, image } in images {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let layout = Utf8Path::from_path(directory.path()).expect("a temporary directory with a UTF-8 name");
        write_layout(layout, image);
        skopeo.push_layout(layout, "image", access, &format!("{prefix}{name}"));
    }
}

/// Returns the core images, as the provider image holds them.
#[must_use]
pub fn core_images() -> [ImageFixture; 3] {
    CORE.map(|name| {
        FixtureBuilder::new()
            .plain_layer(&[("bin/core", &noise(name, 300 * KIB))])
            .build()
    })
}

fn provider() -> ImageFixture {
    let [apiserver, etcd, pause] = core_images();
    let apiserver = docker_archive(&[(&[CORE[0]], &apiserver)]);
    let etcd = oci_archive(&[(CORE[1], &etcd)]);
    let pause = docker_archive(&[(&[CORE[2]], &pause)]);
    FixtureBuilder::new()
        .gzip_layer(&[
            ("etc/os-release", b"ID=landfall-test\n"),
            ("usr/lib/kernel", &noise(PROVIDER, 1_500 * KIB)),
        ])
        .gzip_layer(&[
            (&format!("{KUBE_IMAGES}/kube-apiserver.tar"), &apiserver),
            (&format!("{KUBE_IMAGES}/etcd.tar"), &etcd),
        ])
        .gzip_layer(&[(&format!("{CONTENT_IMAGES}/pause.tar"), &pause)])
        .build()
}

fn ordinary(name: &str) -> ImageFixture {
    let one = |architecture: &str| {
        FixtureBuilder::new()
            .platform("linux", architecture)
            .gzip_layer(&[("usr/lib/base", &noise("base", 1_000 * KIB))])
            .gzip_layer(&[("usr/bin/program", &noise(&format!("{name} {architecture}"), 600 * KIB))])
            .build()
    };
    if name.contains("nginx") {
        multi_platform(&[one("amd64"), one("arm64")])
    } else {
        one("amd64")
    }
}

/// Returns incompressible bytes, the same each time: an xorshift generator, seeded from the name.
#[must_use]
pub fn noise(name: &str, length: usize) -> Vec<u8> {
    // FNV-1a; never 0, where xorshift would stay.
    let mut state = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    }) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// Checks that a layout holds every manifest and blob of an image, byte for byte.
///
/// # Panics
/// Panics if something is missing or differs.
pub fn assert_in_layout(layout: &Utf8Path, image: &ImageFixture) {
    for (digest, bytes) in image.all_content() {
        let path = layout.join("blobs/sha256").join(digest.hex());
        let found = fs_err::read(&path).expect("a blob of the layout");
        assert!(found == bytes.as_ref(), "`{path}` has other bytes");
    }
}

/// Writes an image as an OCI layout, named `image`.
///
/// # Panics
/// Panics if the disk refuses it.
pub fn write_layout(layout: &Utf8Path, image: &ImageFixture) {
    let blobs = layout.join("blobs/sha256");
    fs_err::create_dir_all(&blobs).expect("a directory of our own");
    for (digest, bytes) in image.all_content() {
        fs_err::write(blobs.join(digest.hex()), bytes).expect("a file in our own directory");
    }
    let mut root = image.root.clone();
    root.annotations
        .insert("org.opencontainers.image.ref.name".to_owned(), "image".to_owned());
    let index = json!({"schemaVersion": 2, "manifests": [root]});
    fs_err::write(layout.join("index.json"), index.to_string()).expect("a file in our own directory");
    fs_err::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).expect("a file in our own directory");
}
