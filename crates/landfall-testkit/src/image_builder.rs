//! Images for tests, made by `landfall_oci::fixtures`, with forms that only tests need: several platforms, `docker
//! save`.
//!
//! [`digest_of`] is computed here and not by the code under test, on purpose.

use std::collections::BTreeMap;

use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use landfall_core::oci_types::{Descriptor, media_type};
use landfall_core::reference::Digest;
pub use landfall_oci::fixtures::{
    FixtureBuilder, ImageFixture, KUBE_IMAGES, gzip, oci_archive, provider_image, tar_of,
};
use serde_json::json;

/// Returns one index of these images.
#[must_use]
pub fn multi_platform(images: &[ImageFixture]) -> ImageFixture {
    let entries: Vec<&Descriptor> = images.iter().map(|image| &image.root).collect();
    let index = to_bytes(&json!({
        "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": entries,
    }));
    let root = describe(media_type::OCI_INDEX, &index);
    let mut manifests: Vec<_> = images.iter().flat_map(|image| image.manifests.clone()).collect();
    manifests.push((root.clone(), index));
    ImageFixture {
        root,
        blobs: images.iter().flat_map(|image| image.blobs.clone()).collect(),
        manifests,
    }
}

/// Returns the same image in Docker's schema 2, with other media types and therefore other digests. Only for
/// images with gzip layers.
///
/// # Panics
/// Panics if the builder did not make the image.
#[must_use]
pub fn docker_form(image: &ImageFixture) -> ImageFixture {
    const FORMS: [(&str, &str); 4] = [
        (media_type::OCI_MANIFEST, media_type::DOCKER_MANIFEST),
        (media_type::OCI_INDEX, media_type::DOCKER_INDEX),
        (media_type::OCI_CONFIG, "application/vnd.docker.container.image.v1+json"),
        (
            media_type::OCI_LAYER_GZIP,
            "application/vnd.docker.image.rootfs.diff.tar.gzip",
        ),
    ];
    let docker = |text: &str| {
        FORMS
            .iter()
            .fold(text.to_owned(), |text, (oci, docker)| text.replace(oci, docker))
    };
    let mut renamed: BTreeMap<Digest, Descriptor> = BTreeMap::new();
    let mut manifests = Vec::new();
    for (descriptor, bytes) in &image.manifests {
        let text = docker(std::str::from_utf8(bytes).expect("the builder wrote JSON"));
        let mut document: serde_json::Value = serde_json::from_str(&text).expect("the builder wrote JSON");
        for entry in document["manifests"].as_array_mut().into_iter().flatten() {
            let former: Digest = serde_json::from_value(entry["digest"].clone()).expect("the builder wrote it");
            let now = &renamed[&former];
            entry["digest"] = json!(now.digest);
            entry["size"] = json!(now.size);
        }
        let bytes = to_bytes(&document);
        let mut now = describe(&docker(&descriptor.media_type), &bytes);
        now.platform.clone_from(&descriptor.platform);
        renamed.insert(descriptor.digest.clone(), now.clone());
        manifests.push((now, bytes));
    }
    ImageFixture {
        root: renamed[&image.root.digest].clone(),
        blobs: image.blobs.clone(),
        manifests,
    }
}

/// Returns an image for `linux/amd64` whose single layer is compressed with zstd.
///
/// # Panics
/// Never: memory takes all writes.
#[must_use]
pub fn zstd_image(files: &[(&str, &[u8])]) -> ImageFixture {
    let tar = tar_of(files.iter().copied());
    let compressed = zstd_frame(&tar);
    FixtureBuilder::new()
        .layer(media_type::OCI_LAYER_ZSTD, &tar, compressed)
        .build()
}

/// Returns an image for `linux/amd64` with one stored layer and one foreign layer, which its vendor serves at
/// `url`.
///
/// # Panics
/// Never: the builder's manifests are JSON.
#[must_use]
pub fn foreign_image(url: &str) -> ImageFixture {
    let mut image = docker_form(&small_image("beside the vendor's"));
    let (root, bytes) = image.manifests.pop().expect("an image has a manifest");
    let mut document: serde_json::Value = serde_json::from_slice(&bytes).expect("it is JSON");
    let vendors = json!({
        "mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        "digest": digest_of(b"the vendor's"), "size": 12, "urls": [url],
    });
    document["layers"]
        .as_array_mut()
        .expect("a list of layers")
        .push(vendors);
    let bytes = to_bytes(&document);
    let mut now = describe(&root.media_type, &bytes);
    now.platform = root.platform;
    image.root = now.clone();
    image.manifests.push((now, bytes));
    image
}

/// Returns an image whose single layer holds one file `name` with this text, for tests that only need images to
/// differ.
#[must_use]
pub fn small_image(name: &str) -> ImageFixture {
    FixtureBuilder::new()
        .gzip_layer(&[(&format!("app/{name}"), name.as_bytes())])
        .build()
}

/// Returns a builder of an image that can run: one layer with this program, executable for every user.
///
/// # Panics
/// Panics if the path is absolute or too long for a tar.
#[must_use]
pub fn program_image(path: &str, program: &[u8]) -> FixtureBuilder {
    programs_image(&[(path, program)])
}

/// Returns a builder of an image that can run: one layer with these programs and libraries, executable for
/// every user.
///
/// # Panics
/// Panics if a path is absolute or too long for a tar.
#[must_use]
pub fn programs_image(files: &[(&str, &[u8])]) -> FixtureBuilder {
    let mut layer = tar::Builder::new(Vec::new());
    for (path, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o755);
        header.set_size(content.len() as u64);
        header.set_mtime(0);
        layer
            .append_data(&mut header, path, *content)
            .expect("a short relative path, and memory takes all writes");
    }
    let layer = layer.into_inner().expect("memory takes all writes");
    FixtureBuilder::new().layer(media_type::OCI_LAYER_GZIP, &layer, gzip(&layer))
}

/// Returns the archive that `docker save` writes: `manifest.json`, configurations, and uncompressed layers.
/// Only for images with plain layers.
#[must_use]
pub fn docker_archive(images: &[(&[&str], &ImageFixture)]) -> Vec<u8> {
    let mut files: BTreeMap<String, Bytes> = BTreeMap::new();
    let mut entries = Vec::new();
    for (names, image) in images {
        let manifest: serde_json::Value =
            serde_json::from_slice(&image.root_bytes()).expect("the builder wrote this manifest");
        let mut member = |descriptor: &serde_json::Value, name: &dyn Fn(&str) -> String| {
            let digest: Digest = serde_json::from_value(descriptor["digest"].clone()).expect("the builder wrote it");
            let path = name(digest.hex());
            files.insert(path.clone(), image.blobs[&digest].clone());
            path
        };
        let config = member(&manifest["config"], &|hex| format!("{hex}.json"));
        let layers: Vec<String> = manifest["layers"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|layer| member(layer, &|hex| format!("{hex}/layer.tar")))
            .collect();
        entries.push(json!({"Config": config, "RepoTags": names, "Layers": layers}));
    }
    files.insert("manifest.json".to_owned(), to_bytes(&json!(entries)));
    tar_of(&files)
}

/// Returns bytes as one zstd frame, as `zstd FILE` writes it: with a checksum, without a seek table.
///
/// # Panics
/// Never: memory takes all writes.
#[must_use]
pub fn zstd_frame(bytes: &[u8]) -> Vec<u8> {
    let encode = || {
        let mut encoder = zstd::Encoder::new(Vec::new(), 1)?;
        encoder.include_checksum(true)?;
        std::io::Write::write_all(&mut encoder, bytes)?;
        encoder.finish()
    };
    encode().expect("memory takes all writes")
}

/// Returns a tar of symbolic links, without its end, so that another tar can follow. Each name has this length.
///
/// # Panics
/// Panics if the length is below 10.
#[must_use]
pub fn links_tar(count: usize, name_length: usize) -> Vec<u8> {
    let mut links = tar::Builder::new(Vec::new());
    for number in 0..count {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        let name = format!("{number:0>name_length$}");
        links
            .append_link(&mut header, name, "target")
            .expect("a relative path, and memory takes all writes");
    }
    let mut bytes = links.into_inner().expect("memory takes all writes");
    bytes.truncate(bytes.len() - END_OF_TAR);
    bytes
}

/// Length of the zeros at the end of a tar, in bytes.
const END_OF_TAR: usize = 1024;

/// Returns the SHA-256 digest of bytes.
#[must_use]
pub fn digest_of(bytes: &[u8]) -> Digest {
    let hex: String = digest(&SHA256, bytes)
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("sha256:{hex}")
        .parse()
        .expect("64 hexadecimal digits are a digest")
}

fn describe(media_type: &str, bytes: &[u8]) -> Descriptor {
    Descriptor::new(media_type, digest_of(bytes), bytes.len() as u64)
}

fn to_bytes(value: &serde_json::Value) -> Bytes {
    value.to_string().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_input_makes_the_same_bytes() {
        assert_eq!(small_image("a"), small_image("a"));
        assert_ne!(small_image("a").root.digest, small_image("b").root.digest);
        let provider = || provider_image(&[("pause.tar", b"tar")]);
        assert_eq!(provider(), provider());
    }

    #[test]
    fn every_blob_has_the_digest_that_it_is_listed_under() {
        let image = multi_platform(&[
            small_image("a"),
            FixtureBuilder::new()
                .platform("linux", "arm64")
                .plain_layer(&[("b", b"b")])
                .build(),
        ]);
        assert_eq!(image.manifests.len(), 3);
        assert_eq!(image.all_content().count(), 7);
        for (digest, bytes) in image.all_content() {
            assert_eq!(*digest, digest_of(bytes));
        }
    }

    #[test]
    fn archives_hold_an_entry_for_each_part() {
        let image = FixtureBuilder::new().plain_layer(&[("a", b"a")]).build();
        let names = |tar: &[u8]| -> Vec<String> {
            tar::Archive::new(tar)
                .entries()
                .unwrap()
                .map(|entry| entry.unwrap().path().unwrap().display().to_string())
                .collect()
        };
        let docker = names(&docker_archive(&[(&["a/b:1"], &image)]));
        assert_eq!(docker.len(), 3);
        assert!(docker.contains(&"manifest.json".to_owned()), "{docker:?}");
        assert_eq!(names(&oci_archive(&[("a/b:1", &image)])).len(), 5);
    }
}
