//! Builds small images from nothing, for the demonstration and for tests: the same input gives the same bytes.
//!
//! It is no image builder for people: whole layers in memory, no history, no commands.

use std::io::{self, Write as _};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use landfall_core::oci_types::{Descriptor, Platform, media_type};
use serde_json::{Value, json};

use crate::digest::digest_of;
use crate::image::RawManifest;
use crate::store::ContentStore;
use crate::store::error::StoreError;

/// An image in memory: its manifest, and the blobs that it names.
#[derive(Debug, Clone)]
pub struct BuiltImage {
    /// The manifest.
    pub manifest: RawManifest,
    /// Configuration first, then the layers from the bottom up.
    pub blobs: Vec<BuiltBlob>,
}

/// A blob in memory.
#[derive(Debug, Clone)]
pub struct BuiltBlob {
    /// What the manifest says of it.
    pub descriptor: Descriptor,
    /// Its bytes.
    pub bytes: Bytes,
}

/// A tar with these files, by path relative to the root of the file system.
///
/// # Errors
/// When a path cannot stand in a tar, e.g. because it is absolute.
pub fn build_tar(files: &[(&str, &[u8])]) -> io::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    for (path, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, path, *content)?;
    }
    archive.into_inner()
}

/// An image for a platform with these layers, each a tar, from the bottom up. Layers are compressed with gzip.
///
/// # Errors
/// Never for what fits into memory; compressing is fallible by its type.
pub fn build_image(platform: &Platform, layers: &[Vec<u8>]) -> io::Result<BuiltImage> {
    let diff_ids: Vec<String> = layers.iter().map(|layer| digest_of(layer).to_string()).collect();
    let config = json!({
        "architecture": platform.architecture,
        "os": platform.os,
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    let mut blobs = vec![mk_blob(media_type::OCI_CONFIG, config.to_string().into_bytes())];
    for layer in layers {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(layer)?;
        blobs.push(mk_blob(media_type::OCI_LAYER_GZIP, gzip.finish()?));
    }
    let layers: Vec<&Descriptor> = blobs[1..].iter().map(|blob| &blob.descriptor).collect();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": media_type::OCI_MANIFEST,
        "config": blobs[0].descriptor,
        "layers": layers,
    });
    Ok(BuiltImage {
        manifest: mk_manifest(media_type::OCI_MANIFEST, &manifest),
        blobs,
    })
}

/// A tar of an OCI image layout that holds these images under these names, as `ctr images import` reads it.
///
/// # Errors
/// Never for what fits into memory; writing is fallible by its type.
pub fn build_archive(images: &[(&str, &BuiltImage)]) -> io::Result<Vec<u8>> {
    let manifests: Vec<Value> = images
        .iter()
        .map(|(name, image)| index_entry(name, &image.manifest))
        .collect();
    let index = json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": manifests});
    let mut files: Vec<(String, Bytes)> = vec![
        (
            "oci-layout".to_owned(),
            Bytes::from_static(br#"{"imageLayoutVersion":"1.0.0"}"#),
        ),
        ("index.json".to_owned(), index.to_string().into()),
    ];
    for (_, image) in images {
        files.push((
            blob_path(&image.manifest.digest.to_string()),
            image.manifest.bytes.clone(),
        ));
        for blob in &image.blobs {
            files.push((blob_path(&blob.descriptor.digest.to_string()), blob.bytes.clone()));
        }
    }
    let files: Vec<(&str, &[u8])> = files
        .iter()
        .map(|(path, bytes)| (path.as_str(), bytes.as_ref()))
        .collect();
    build_tar(&files)
}

impl BuiltImage {
    /// What points to the manifest.
    #[must_use]
    pub fn descriptor(&self) -> Descriptor {
        let RawManifest {
            bytes,
            media_type,
            digest,
        } = &self.manifest;
        Descriptor::new(media_type, digest.clone(), bytes.len() as u64)
    }

    /// Writes the image into a store, without a name.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn store_in(&self, store: &ContentStore) -> Result<(), StoreError> {
        for blob in &self.blobs {
            store.write_blob_bytes(&blob.descriptor, &blob.bytes)?;
        }
        store.write_blob_bytes(&self.descriptor(), &self.manifest.bytes)
    }
}

fn mk_blob(media_type: &str, bytes: Vec<u8>) -> BuiltBlob {
    let descriptor = Descriptor::new(media_type, digest_of(&bytes), bytes.len() as u64);
    BuiltBlob {
        descriptor,
        bytes: bytes.into(),
    }
}

fn mk_manifest(media_type: &str, manifest: &Value) -> RawManifest {
    let bytes = Bytes::from(manifest.to_string());
    RawManifest {
        digest: digest_of(&bytes),
        bytes,
        media_type: media_type.to_owned(),
    }
}

fn index_entry(name: &str, manifest: &RawManifest) -> Value {
    json!({
        "mediaType": manifest.media_type,
        "digest": manifest.digest,
        "size": manifest.bytes.len(),
        "annotations": {"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name},
    })
}

fn blob_path(digest: &str) -> String {
    format!("blobs/{}", digest.replacen(':', "/", 1))
}

#[cfg(test)]
mod tests {
    use landfall_core::oci_types::parse_manifest;

    use super::*;

    fn mk_image(content: &[u8]) -> BuiltImage {
        let platform = Platform {
            os: "linux".into(),
            architecture: "amd64".into(),
            variant: None,
        };
        build_image(&platform, &[build_tar(&[("etc/motd", content)]).unwrap()]).unwrap()
    }

    #[test]
    fn the_same_input_gives_the_same_bytes() {
        assert_eq!(mk_image(b"hello").manifest, mk_image(b"hello").manifest);
        assert_ne!(mk_image(b"hello").manifest, mk_image(b"world").manifest);
    }

    #[test]
    fn the_manifest_names_exactly_the_blobs() {
        let image = mk_image(b"hello");
        let content = parse_manifest(&image.manifest.bytes).unwrap();
        let children: Vec<&Descriptor> = content.children().collect();
        let blobs: Vec<&Descriptor> = image.blobs.iter().map(|blob| &blob.descriptor).collect();
        assert_eq!(children, blobs);
    }

    #[test]
    fn an_archive_is_an_oci_layout_with_a_file_per_blob() {
        let image = mk_image(b"hello");
        let archive = build_archive(&[("docker.io/library/hello:1", &image)]).unwrap();
        let mut paths = Vec::new();
        for entry in tar::Archive::new(archive.as_slice()).entries().unwrap() {
            paths.push(entry.unwrap().path().unwrap().display().to_string());
        }
        let mut expected = vec!["oci-layout".to_owned(), "index.json".to_owned()];
        expected.push(blob_path(&image.manifest.digest.to_string()));
        expected.extend(
            image
                .blobs
                .iter()
                .map(|blob| blob_path(&blob.descriptor.digest.to_string())),
        );
        assert_eq!(paths, expected);
    }
}
