//! Images in a registry for bundles: two that share a layer, an index of two platforms, a chart, a signature that is found
//! by its tag, and one that is found by its subject.

use std::process::Command;

use camino::{Utf8Path, Utf8PathBuf};
use landfall_core::oci_types::{Descriptor, media_type};
use landfall_testkit::fake_registry::FakeRegistry;
use landfall_testkit::image_builder::{FixtureBuilder, ImageFixture, digest_of, multi_platform};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::agent::landfall;
use crate::images::noise;
use crate::program::{Finished, run};

/// Names of the images in bundles. Readers with Docker's rules take the part before the first `/` for a host.
pub const TILL: &str = "registry.example.com:5000/shop/till:1.0";
/// Shares its base with [`TILL`].
pub const WEB: &str = "registry.example.com:5000/shop/web:2.0";
/// Has `linux/amd64` and `linux/arm64`.
pub const BOTH: &str = "registry.example.com:5000/shop/both:3";
/// A Helm chart, which is no image that could run.
pub const CHART: &str = "registry.example.com:5000/charts/shop:1.2.0";

/// All images, with their repositories and tags in the registry.
pub const NAMES: [(&str, &str, &str); 4] = [
    (TILL, "shop/till", "1.0"),
    (WEB, "shop/web", "2.0"),
    (BOTH, "shop/both", "3"),
    (CHART, "charts/shop", "1.2.0"),
];

const KIB: usize = 1024;

/// A registry with the images, a directory for bundles, and a key pair.
#[derive(Debug)]
pub struct BundleDesk {
    pub registry: FakeRegistry,
    pub till: ImageFixture,
    pub web: ImageFixture,
    pub both: ImageFixture,
    directory: TempDir,
}

impl BundleDesk {
    /// Fills a registry, and makes a key with openssl.
    ///
    /// # Panics
    /// Panics if openssl fails.
    #[must_use]
    pub fn new() -> BundleDesk {
        let image = |name: &str, architecture: &str| {
            FixtureBuilder::new()
                .platform("linux", architecture)
                .gzip_layer(&[("usr/lib/base", &noise("base", 900 * KIB))])
                .gzip_layer(&[("usr/bin/program", &noise(&format!("{name} {architecture}"), 400 * KIB))])
                .gzip_layer(&[("etc/name", name.as_bytes())])
                .command(&["/usr/bin/program"])
                .build()
        };
        let desk = BundleDesk {
            registry: FakeRegistry::start(),
            till: image("till", "amd64"),
            web: image("web", "amd64"),
            both: multi_platform(&[image("both", "amd64"), image("both", "arm64")]),
            directory: tempfile::tempdir().expect("a temporary directory"),
        };
        for (image, (_, repository, tag)) in [&desk.till, &desk.web, &desk.both].into_iter().zip(NAMES) {
            desk.registry.add_image(repository, tag, image);
        }
        desk.add_chart();
        desk.add_signature_by_tag();
        desk.add_signature_by_subject();
        let mut list = String::new();
        for (name, repository, tag) in NAMES {
            list += &format!("{}/{repository}:{tag} {name}\n", desk.registry.host());
        }
        fs_err::write(desk.path("images.txt"), list).expect("a file in our own directory");
        let mut keys = Command::new("sh");
        keys.current_dir(desk.directory()).args([
            "-euc",
            "openssl genpkey -algorithm ed25519 -out bundle.key; openssl pkey -in bundle.key -pubout -out bundle.pub",
        ]);
        drop(run(keys).succeeded());
        desk
    }

    /// # Panics
    /// Never: temporary directories have UTF-8 names.
    #[must_use]
    pub fn directory(&self) -> &Utf8Path {
        Utf8Path::from_path(self.directory.path()).expect("a temporary directory with a UTF-8 name")
    }

    #[must_use]
    pub fn path(&self, name: &str) -> Utf8PathBuf {
        self.directory().join(name)
    }

    /// Returns the command that makes a bundle of all images at `path`.
    #[must_use]
    pub fn create(&self, path: &Utf8Path, further: &[&str]) -> Command {
        let (list, key, host) = (self.path("images.txt"), self.path("bundle.key"), self.registry.host());
        let arguments = [
            "bundle",
            "create",
            path.as_str(),
            "--from-file",
            list.as_str(),
            "--key",
            key.as_str(),
            "--insecure",
            host.as_str(),
            "--progress",
            "none",
        ];
        landfall(&[&arguments, further].concat())
    }

    /// Makes a bundle of all images, and returns its path.
    ///
    /// # Panics
    /// Panics if that fails.
    pub fn bundle(&self, name: &str, further: &[&str]) -> Utf8PathBuf {
        let path = self.path(name);
        drop(run(self.create(&path, further)).succeeded());
        path
    }

    /// Runs a line of a shell in the directory.
    #[must_use]
    pub fn line(&self, line: &str) -> Finished {
        let mut command = Command::new("sh");
        command.args(["-euc", line]).current_dir(self.directory());
        run(command)
    }

    fn add_chart(&self) {
        let config = self
            .registry
            .add_blob("application/vnd.cncf.helm.config.v1+json", r#"{"name":"shop"}"#);
        let chart = self.registry.add_blob(
            "application/vnd.cncf.helm.chart.content.v1.tar+gzip",
            noise("chart", 100 * KIB),
        );
        let manifest = mk_manifest(&json!({"config": config, "layers": [chart]}));
        self.registry
            .add_manifest("charts/shop", "1.2.0", media_type::OCI_MANIFEST, manifest);
    }

    /// Adds a signature as cosign 2 does: an image of its own, with a tag made from the digest.
    fn add_signature_by_tag(&self) {
        let digest = &self.till.root.digest;
        let payload = json!({"critical": {"image": {"docker-manifest-digest": digest}}}).to_string();
        let config = self.registry.add_blob(media_type::OCI_CONFIG, "{}");
        let layer = self
            .registry
            .add_blob("application/vnd.dev.cosign.simplesigning.v1+json", payload);
        let manifest = mk_manifest(&json!({"config": config, "layers": [layer]}));
        let tag = format!("sha256-{}.sig", digest.hex());
        self.registry
            .add_manifest("shop/till", &tag, media_type::OCI_MANIFEST, manifest);
    }

    /// Adds a signature as cosign 3 does: a referrer, in the list that stands in for the referrers API.
    fn add_signature_by_subject(&self) {
        const KIND: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
        let subject = &self.both.root;
        let config = self.registry.add_blob("application/vnd.oci.empty.v1+json", "{}");
        let layer = self.registry.add_blob(KIND, r#"{"dsseEnvelope":{}}"#);
        let manifest = mk_manifest(&json!({
            "artifactType": KIND, "config": config, "layers": [layer],
            "subject": Descriptor::new(&subject.media_type, subject.digest.clone(), subject.size),
        }));
        let mut entry = json!(Descriptor::new(
            media_type::OCI_MANIFEST,
            digest_of(manifest.as_bytes()),
            manifest.len() as u64
        ));
        entry["artifactType"] = json!(KIND);
        let digest = entry["digest"].as_str().unwrap_or_default().to_owned();
        let list = json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": [entry]}).to_string();
        let tag = subject.digest.as_str().replace(':', "-");
        self.registry
            .add_manifest("shop/both", &digest, media_type::OCI_MANIFEST, manifest);
        self.registry
            .add_manifest("shop/both", &tag, media_type::OCI_INDEX, list);
    }
}

impl Default for BundleDesk {
    fn default() -> BundleDesk {
        BundleDesk::new()
    }
}

fn mk_manifest(fields: &Value) -> String {
    let mut manifest = fields.clone();
    manifest["schemaVersion"] = json!(2);
    manifest["mediaType"] = json!(media_type::OCI_MANIFEST);
    manifest.to_string()
}
