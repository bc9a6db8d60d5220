//! The kinds of content that the conformance suite of the distribution specification pushes.

use aws_lc_rs::digest::{Algorithm, SHA256, SHA512, digest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

pub(crate) const OCI_IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const OCI_LAYER_PLAIN: &str = "application/vnd.oci.image.layer.v1.tar";
const OCI_EMPTY: &str = "application/vnd.oci.empty.v1+json";
const FOREIGN_LAYERS: [&str; 2] = [
    "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
    "application/vnd.oci.image.layer.nondistributable.v1.tar",
];
const KIND_1: &str = "application/vnd.example.landfall.v1";
const KIND_2: &str = "application/vnd.example.landfall.v2";

/// A hash algorithm of the image specification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hash {
    Sha256,
    Sha512,
}

impl Hash {
    pub(crate) fn of(self, bytes: &[u8]) -> String {
        let (name, algorithm): (&str, &'static Algorithm) = match self {
            Hash::Sha256 => ("sha256", &SHA256),
            Hash::Sha512 => ("sha512", &SHA512),
        };
        let hash = digest(algorithm, bytes);
        let hex: String = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{name}:{hex}")
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Hash::Sha256 => "sha256",
            Hash::Sha512 => "sha512",
        }
    }
}

/// Returns bytes that are the same in every run and differ for every number.
pub(crate) fn noise(number: u64, length: usize) -> Vec<u8> {
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let step = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[0]
    };
    std::iter::repeat_with(step).take(length).collect()
}

#[derive(Debug, Clone)]
pub(crate) struct Manifest {
    pub(crate) digest: String,
    pub(crate) media_type: String,
    pub(crate) bytes: Vec<u8>,
    /// Digest of the subject, and the descriptor that a referrers list must contain.
    pub(crate) refers: Option<(String, Value)>,
}

/// Manifests and blobs that belong together.
#[derive(Debug)]
pub(crate) struct Content {
    pub(crate) name: &'static str,
    hash: Hash,
    pub(crate) blobs: Vec<(String, Vec<u8>)>,
    /// In the order of the pushes.
    pub(crate) manifests: Vec<Manifest>,
    /// Tags, each with the index of its manifest.
    pub(crate) tags: Vec<(String, usize)>,
    /// True if tags are sent along with the digest (`?tag=`).
    pub(crate) tags_by_parameter: bool,
    /// True if descriptors embed their content.
    data_in_descriptors: bool,
    next: u64,
}

impl Content {
    fn new(name: &'static str, hash: Hash) -> Content {
        let seed = name
            .bytes()
            .fold(7, |seed: u64, byte| seed.wrapping_mul(31) ^ u64::from(byte))
            >> 1;
        Content {
            name,
            hash,
            blobs: Vec::new(),
            manifests: Vec::new(),
            tags: Vec::new(),
            tags_by_parameter: false,
            data_in_descriptors: false,
            next: seed,
        }
    }

    fn blob(&mut self, media_type: &str, bytes: Vec<u8>) -> Value {
        let digest = self.hash.of(&bytes);
        let mut descriptor = json!({"mediaType": media_type, "digest": digest, "size": bytes.len()});
        if self.data_in_descriptors {
            descriptor["data"] = json!(STANDARD.encode(&bytes));
        }
        self.blobs.push((digest, bytes));
        descriptor
    }

    fn layer(&mut self) -> Value {
        self.next += 1;
        self.blob(OCI_LAYER, noise(self.next, 900))
    }

    fn config(&mut self) -> Value {
        self.next += 1;
        let config = json!({"architecture": "amd64", "os": "linux", "author": self.next,
                            "rootfs": {"type": "layers", "diff_ids": []}});
        self.blob(OCI_CONFIG, config.to_string().into_bytes())
    }

    fn image_parts(&mut self) -> Value {
        let layers = json!([self.layer(), self.layer()]);
        json!({"schemaVersion": 2, "mediaType": OCI_IMAGE, "config": self.config(), "layers": layers})
    }

    fn artifact_parts(&mut self, kind: &str) -> Value {
        let config = self.blob(OCI_EMPTY, b"{}".to_vec());
        self.next += 1;
        let layer = self.blob(kind, noise(self.next, 400));
        json!({"schemaVersion": 2, "mediaType": OCI_IMAGE, "artifactType": kind, "config": config, "layers": [layer],
               "annotations": {"dev.landfall.test": "hello", "dev.landfall.number": self.next.to_string()}})
    }

    /// Adds a manifest and returns its descriptor.
    fn manifest(&mut self, manifest: &Value) -> Value {
        let bytes = manifest.to_string().into_bytes();
        let digest = self.hash.of(&bytes);
        let media_type = manifest["mediaType"].as_str().unwrap().to_owned();
        let descriptor = json!({"mediaType": media_type, "digest": digest, "size": bytes.len()});
        let refers = manifest["subject"]["digest"].as_str().map(|subject| {
            let mut shown = descriptor.clone();
            let kind = manifest
                .get("artifactType")
                .or_else(|| manifest["config"].get("mediaType"));
            if let Some(kind) = kind {
                shown["artifactType"] = kind.clone();
            }
            if let Some(annotations) = manifest.get("annotations") {
                shown["annotations"] = annotations.clone();
            }
            (subject.to_owned(), shown)
        });
        self.manifests.push(Manifest {
            digest,
            media_type,
            bytes,
            refers,
        });
        descriptor
    }

    fn image(&mut self) -> Value {
        let parts = self.image_parts();
        self.manifest(&parts)
    }

    fn index_of(&mut self, manifests: Vec<Value>) -> Value {
        json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests})
    }

    fn platforms(&mut self) -> Vec<Value> {
        ["amd64", "arm64"]
            .map(|architecture| {
                let mut descriptor = self.image();
                descriptor["platform"] = json!({"os": "linux", "architecture": architecture});
                descriptor
            })
            .into()
    }

    fn index(&mut self) -> Value {
        let platforms = self.platforms();
        let index = self.index_of(platforms);
        self.manifest(&index)
    }

    fn tagged(mut self, tag: &str) -> Content {
        self.tags.push((tag.to_owned(), self.manifests.len() - 1));
        self
    }
}

fn build(name: &'static str, hash: Hash, fill: impl FnOnce(&mut Content)) -> Content {
    let mut content = Content::new(name, hash);
    fill(&mut content);
    content
}

fn with(mut value: Value, key: &str, field: Value) -> Value {
    value[key] = field;
    value
}

/// Returns all content that the suite pushes.
pub(crate) fn everything() -> Vec<Content> {
    use Hash::{Sha256, Sha512};
    let parameters = |name, hash, tags: [&str; 4]| {
        let mut content = build(name, hash, |content| drop(content.index()));
        content.tags = vec![
            (tags[0].to_owned(), 2),
            (tags[1].to_owned(), 0),
            (tags[2].to_owned(), 1),
            (tags[3].to_owned(), 2),
        ];
        content.tags_by_parameter = true;
        content
    };
    vec![
        build("image", Sha256, |content| drop(content.image())).tagged("image"),
        build("uncompressed image", Sha256, |content| {
            content.next += 1;
            let layer = content.blob(OCI_LAYER_PLAIN, noise(content.next, 900));
            let parts = with(content.image_parts(), "layers", json!([layer]));
            content.manifest(&parts);
        })
        .tagged("image-uncompressed"),
        build("large manifest", Sha256, large_manifest).tagged("large-manifest"),
        build("index", Sha256, |content| drop(content.index())).tagged("index"),
        build("nested index", Sha256, nested_index).tagged("index-of-index"),
        build("empty index", Sha256, |content| {
            let index = content.index_of(Vec::new());
            content.manifest(&index);
        })
        .tagged("empty-index"),
        build("artifact", Sha256, |content| {
            let artifact = content.artifact_parts(KIND_1);
            content.manifest(&artifact);
        })
        .tagged("artifact"),
        build("index of artifacts", Sha256, artifact_index).tagged("artifact-index"),
        build("artifact without layers", Sha256, |content| {
            let empty = content.blob(OCI_EMPTY, b"{}".to_vec());
            content.manifest(
                &json!({"schemaVersion": 2, "mediaType": OCI_IMAGE, "artifactType": KIND_1,
                                     "config": empty, "layers": [empty]}),
            );
        })
        .tagged("artifact-without-layers"),
        build("image with referrers", Sha256, referrers).tagged("tagged-artifact"),
        build("index with referrers", Sha256, index_referrers).tagged("index-with-subject"),
        build("missing subject", Sha256, |content| {
            let missing = json!({"mediaType": OCI_IMAGE, "size": 123, "digest": Sha256.of(b"missing content")});
            let artifact = with(content.artifact_parts(KIND_1), "subject", missing);
            content.manifest(&artifact);
        })
        .tagged("missing-subject"),
        build("data field", Sha256, |content| {
            content.data_in_descriptors = true;
            content.image();
        })
        .tagged("data-field"),
        build("foreign layers", Sha256, foreign_layers).tagged("foreign-layers"),
        build("fields of others", Sha256, fields_of_others).tagged("custom-fields"),
        build("no layers", Sha256, |content| {
            let parts = with(content.image_parts(), "layers", json!([]));
            content.manifest(&parts);
        })
        .tagged("no-layers"),
        build("sparse image", Sha256, |content| {
            let mut parts = content.image_parts();
            parts["layers"][1]["digest"] = json!(Sha256.of(b"never pushed"));
            content.manifest(&parts);
        })
        .tagged("sparse-image"),
        build("sparse index", Sha256, |content| {
            let mut platforms = content.platforms();
            platforms[1]["digest"] = json!(Sha256.of(b"never pushed either"));
            let index = content.index_of(platforms);
            content.manifest(&index);
        })
        .tagged("sparse-index"),
        build("sha512", Sha512, |content| drop(content.index())),
        parameters("tag parameters", Sha256, ["p256", "p256-0", "p256-1", "p256-2"]),
        parameters("tag parameters sha512", Sha512, ["p512", "p512-0", "p512-1", "p512-2"]),
    ]
}

/// Adds a manifest close to the 4 MiB that every registry must accept.
fn large_manifest(content: &mut Content) {
    let annotations: serde_json::Map<String, Value> = (0..390)
        .map(|number| (format!("large-annotation-{number}"), json!("A".repeat(10_000))))
        .collect();
    let parts = with(content.image_parts(), "annotations", Value::Object(annotations));
    content.manifest(&parts);
}

fn nested_index(content: &mut Content) {
    let inner = vec![content.index(), content.index()];
    let index = content.index_of(inner);
    content.manifest(&index);
}

fn artifact_index(content: &mut Content) {
    let artifacts: Vec<Value> = (0..2)
        .map(|_| {
            let artifact = content.artifact_parts(KIND_1);
            content.manifest(&artifact)
        })
        .collect();
    let index = with(content.index_of(artifacts), "artifactType", json!(KIND_1));
    content.manifest(&index);
}

fn referrers(content: &mut Content) {
    let subject = content.image();
    let plain = with(content.image_parts(), "subject", subject.clone());
    content.manifest(&plain);
    for kind in [KIND_1, KIND_2] {
        let artifact = with(content.artifact_parts(kind), "subject", subject.clone());
        content.manifest(&artifact);
    }
}

/// Adds an index whose manifests, like itself, refer to another index as their subject.
fn index_referrers(content: &mut Content) {
    let subject = content.index();
    let mut platforms = Vec::new();
    for kind in [None, Some(KIND_1), Some(KIND_2)] {
        let parts = match kind {
            None => content.image_parts(),
            Some(kind) => content.artifact_parts(kind),
        };
        platforms.push(content.manifest(&with(parts, "subject", subject.clone())));
    }
    let index = with(content.index_of(platforms), "subject", subject);
    // An index without `artifactType` has none: there is no configuration media type to replace it.
    content.manifest(&index);
    let index = with(index, "artifactType", json!("application/vnd.example.landfall.index"));
    content.manifest(&with(index, "annotations", json!({"dev.landfall.test": "of an index"})));
}

/// Adds two foreign layers, which no registry stores, and one that is stored.
fn foreign_layers(content: &mut Content) {
    let mut parts = content.image_parts();
    for (number, media_type) in FOREIGN_LAYERS.iter().enumerate() {
        let elsewhere = format!("elsewhere {number}");
        let layer = json!({"mediaType": media_type, "size": 123_456, "digest": Hash::Sha256.of(elsewhere.as_bytes()),
                           "urls": ["https://store.example.com/blobs/elsewhere"]});
        parts["layers"].as_array_mut().unwrap().push(layer);
    }
    content.manifest(&parts);
}

/// Adds an index, an image and a configuration with an unknown field.
fn fields_of_others(content: &mut Content) {
    let unknown = || json!({"deep": [1, 2]});
    let config = json!({"architecture": "amd64", "os": "linux", "dev.landfall.unknown": unknown(),
                        "rootfs": {"type": "layers", "diff_ids": []}});
    let config = content.blob(OCI_CONFIG, config.to_string().into_bytes());
    let parts = with(content.image_parts(), "config", config);
    let image = content.manifest(&with(parts, "dev.landfall.unknown", unknown()));
    let index = content.index_of(vec![image]);
    content.manifest(&with(index, "dev.landfall.unknown", unknown()));
}
