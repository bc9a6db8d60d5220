//! Builds small, valid images in memory, for the demonstration and for tests: the same input makes the same bytes.
//!
//! It is no image builder for people: everything is in memory, and there is no history.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use bytes::Bytes;
use flate2::{Compression, GzBuilder};
use landfall_core::oci_types::{Descriptor, Platform, media_type};
use landfall_core::reference::Digest;
use serde_json::json;

use crate::digest::digest_of;

/// The directory of the provider image that holds the core images' archives.
pub const KUBE_IMAGES: &str = "opt/kube-images";

/// An image, or an index of several, with all its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageFixture {
    /// The manifest or index at the top.
    pub root: Descriptor,
    /// Configurations and layers.
    pub blobs: BTreeMap<Digest, Bytes>,
    /// Manifests and indexes with their media types, each after those that it names: the order in which they are pushed.
    pub manifests: Vec<(Descriptor, Bytes)>,
}

/// Builds one image of one platform.
#[derive(Debug, Clone)]
pub struct FixtureBuilder {
    platform: Platform,
    layers: Vec<Layer>,
    command: Vec<String>,
}

#[derive(Debug, Clone)]
struct Layer {
    media_type: String,
    content: Bytes,
    /// The digest of the layer when it is not compressed, which the configuration lists.
    diff_id: Digest,
}

impl Default for FixtureBuilder {
    fn default() -> FixtureBuilder {
        FixtureBuilder::new()
    }
}

impl FixtureBuilder {
    /// An image for `linux/amd64` without layers.
    #[must_use]
    pub fn new() -> FixtureBuilder {
        FixtureBuilder {
            platform: mk_platform("linux", "amd64"),
            layers: Vec::new(),
            command: Vec::new(),
        }
    }

    /// Sets the platform.
    #[must_use]
    pub fn platform(mut self, os: &str, architecture: &str) -> FixtureBuilder {
        self.platform = mk_platform(os, architecture);
        self
    }

    /// Sets what a container of this image runs.
    #[must_use]
    pub fn command(mut self, command: &[&str]) -> FixtureBuilder {
        self.command = command.iter().map(|&word| word.to_owned()).collect();
        self
    }

    /// Adds a gzip layer of these files, `(path, content)`.
    #[must_use]
    pub fn gzip_layer(self, files: &[(&str, &[u8])]) -> FixtureBuilder {
        let tar = tar_of(files.iter().copied());
        let compressed = gzip(&tar);
        self.layer(media_type::OCI_LAYER_GZIP, &tar, compressed)
    }

    /// Adds an uncompressed layer of these files, `(path, content)`.
    #[must_use]
    pub fn plain_layer(self, files: &[(&str, &[u8])]) -> FixtureBuilder {
        let tar = tar_of(files.iter().copied());
        self.layer(media_type::OCI_LAYER, &tar, tar.clone())
    }

    /// Adds a layer that the caller made: `tar` as it is unpacked, `content` as it is stored.
    #[must_use]
    pub fn layer(mut self, media_type: &str, tar: &[u8], content: Vec<u8>) -> FixtureBuilder {
        self.layers.push(Layer {
            media_type: media_type.to_owned(),
            content: content.into(),
            diff_id: digest_of(tar),
        });
        self
    }

    /// The image.
    #[must_use]
    pub fn build(&self) -> ImageFixture {
        let config = json!({
            "created": "1970-01-01T00:00:00Z",
            "os": self.platform.os,
            "architecture": self.platform.architecture,
            "config": {"Cmd": self.command},
            "rootfs": {
                "type": "layers",
                "diff_ids": self.layers.iter().map(|layer| &layer.diff_id).collect::<Vec<_>>(),
            },
        });
        let mut blobs = BTreeMap::new();
        let mut add = |media_type: &str, content: Bytes| {
            let descriptor = describe(media_type, &content);
            blobs.insert(descriptor.digest.clone(), content);
            descriptor
        };
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": media_type::OCI_MANIFEST,
            "config": add(media_type::OCI_CONFIG, to_bytes(&config)),
            "layers": self
                .layers
                .iter()
                .map(|layer| add(&layer.media_type, layer.content.clone()))
                .collect::<Vec<_>>(),
        });
        let manifest = to_bytes(&manifest);
        let mut root = describe(media_type::OCI_MANIFEST, &manifest);
        root.platform = Some(self.platform.clone());
        ImageFixture {
            manifests: vec![(root.clone(), manifest)],
            root,
            blobs,
        }
    }
}

impl ImageFixture {
    /// The bytes of the manifest or index at the top.
    #[must_use]
    pub fn root_bytes(&self) -> Bytes {
        self.manifests
            .last()
            .map(|(_, bytes)| bytes.clone())
            .unwrap_or_default()
    }

    /// Configurations and layers, each with the digest and size that a push names.
    pub fn described_blobs(&self) -> impl Iterator<Item = (Descriptor, &Bytes)> {
        let describe = |digest: &Digest, bytes: &Bytes| {
            Descriptor::new("application/octet-stream", digest.clone(), bytes.len() as u64)
        };
        self.blobs
            .iter()
            .map(move |(digest, bytes)| (describe(digest, bytes), bytes))
    }

    /// All content by digest, manifests included.
    pub fn all_content(&self) -> impl Iterator<Item = (&Digest, &Bytes)> {
        let manifests = self
            .manifests
            .iter()
            .map(|(descriptor, bytes)| (&descriptor.digest, bytes));
        self.blobs.iter().chain(manifests)
    }
}

/// A provider image: an operating system's file or two, and these archives, `(file name, bytes)`, in
/// `/opt/kube-images` of a layer of their own.
#[must_use]
pub fn provider_image(core: &[(&str, &[u8])]) -> ImageFixture {
    let paths: Vec<String> = core.iter().map(|(file, _)| format!("{KUBE_IMAGES}/{file}")).collect();
    let files: Vec<(&str, &[u8])> = paths
        .iter()
        .zip(core)
        .map(|(path, (_, bytes))| (path.as_str(), *bytes))
        .collect();
    FixtureBuilder::new()
        .gzip_layer(&[("etc/os-release", b"ID=landfall\n"), ("etc/hostname", b"edge\n")])
        .gzip_layer(&files)
        .build()
}

/// An OCI image layout in a tar, as `skopeo copy … oci-archive:` and `ctr images export` write it.
#[must_use]
pub fn oci_archive(images: &[(&str, &ImageFixture)]) -> Vec<u8> {
    let mut files: BTreeMap<String, Bytes> = BTreeMap::new();
    files.insert(
        "oci-layout".to_owned(),
        Bytes::from_static(br#"{"imageLayoutVersion":"1.0.0"}"#),
    );
    let mut entries = Vec::new();
    for (name, image) in images {
        for (digest, bytes) in image.all_content() {
            files.insert(format!("blobs/{}/{}", digest.algorithm(), digest.hex()), bytes.clone());
        }
        let mut entry = image.root.clone();
        for annotation in ["org.opencontainers.image.ref.name", "io.containerd.image.name"] {
            entry.annotations.insert(annotation.to_owned(), (*name).to_owned());
        }
        entries.push(entry);
    }
    let index = json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": entries});
    files.insert("index.json".to_owned(), to_bytes(&index));
    tar_of(&files)
}

/// A tar of regular files, `(path, content)`, in the given order, owned by root at time 0.
///
/// # Panics
/// When a path is absolute or holds `..`: the paths of the images built here are written in the code.
#[must_use]
pub fn tar_of<P: AsRef<Path>, C: AsRef<[u8]>>(files: impl IntoIterator<Item = (P, C)>) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, content) in files {
        let content = content.as_ref();
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Regular);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(content.len() as u64);
        tar.append_data(&mut header, path, content)
            .expect("the paths of small images fit into a tar, and memory takes all writes");
    }
    tar.into_inner().expect("memory takes all writes")
}

/// Compresses as gzip, without a time or a name in the header.
#[must_use]
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzBuilder::new().mtime(0).write(Vec::new(), Compression::fast());
    encoder.write_all(bytes).expect("memory takes all writes");
    encoder.finish().expect("memory takes all writes")
}

fn describe(media_type: &str, bytes: &[u8]) -> Descriptor {
    Descriptor::new(media_type, digest_of(bytes), bytes.len() as u64)
}

fn mk_platform(os: &str, architecture: &str) -> Platform {
    Platform {
        os: os.to_owned(),
        architecture: architecture.to_owned(),
        variant: None,
    }
}

fn to_bytes(value: &serde_json::Value) -> Bytes {
    value.to_string().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_input_makes_the_same_bytes() {
        let provider = |content: &[u8]| provider_image(&[("pause.tar", content)]);
        assert_eq!(provider(b"a"), provider(b"a"));
        assert_ne!(provider(b"a").root.digest, provider(b"b").root.digest);
    }

    #[test]
    fn every_blob_has_the_digest_that_it_is_listed_under() {
        let image = provider_image(&[("pause.tar", b"tar")]);
        assert_eq!(image.all_content().count(), 4);
        for (digest, bytes) in image.all_content() {
            assert_eq!(*digest, digest_of(bytes));
        }
    }

    #[test]
    fn an_archive_is_a_layout_with_a_file_for_each_blob() {
        let image = FixtureBuilder::new().plain_layer(&[("a", b"a")]).build();
        let archive = oci_archive(&[("a/b:1", &image)]);
        let mut paths: Vec<String> = tar::Archive::new(archive.as_slice())
            .entries()
            .unwrap()
            .map(|entry| entry.unwrap().path().unwrap().display().to_string())
            .collect();
        paths.sort();
        let blobs = image
            .all_content()
            .map(|(digest, _)| format!("blobs/sha256/{}", digest.hex()));
        let mut expected: Vec<String> = blobs
            .chain(["index.json".to_owned(), "oci-layout".to_owned()])
            .collect();
        expected.sort();
        assert_eq!(paths, expected);
    }
}
