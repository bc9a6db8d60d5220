//! Indexes that are made again with some of their platforms.

#![expect(clippy::disallowed_methods, clippy::unwrap_used, reason = "test set-up")]

use std::sync::Arc;

use camino::Utf8Path;
use landfall_core::oci_types::{Descriptor, ManifestContent, Platform, media_type, parse_manifest};
use landfall_oci::archive::open_archive;
use landfall_oci::image::ImageSource;
use landfall_oci::narrowing::{NarrowedImage, narrow_image};
use landfall_testkit::image_builder::{FixtureBuilder, ImageFixture, docker_form, multi_platform, oci_archive};

fn mk_part(architecture: &str) -> ImageFixture {
    FixtureBuilder::new()
        .platform("linux", architecture)
        .gzip_layer(&[("name", architecture.as_bytes())])
        .build()
}

async fn narrow(image: &ImageFixture, platforms: &[&str]) -> Option<NarrowedImage> {
    let directory = tempfile::tempdir().unwrap();
    let path = Utf8Path::from_path(directory.path()).unwrap();
    let archive = path.join("image.tar");
    std::fs::write(&archive, oci_archive(&[("a.io/b:1", image)])).unwrap();
    let opened = open_archive(&archive, path).unwrap().remove(0);
    assert_eq!(opened.root.digest, image.root.digest);
    let source: Arc<dyn ImageSource> = opened.source;
    let platforms: Vec<Platform> = platforms.iter().map(|platform| platform.parse().unwrap()).collect();
    let narrowed = narrow_image(&source, image.root.digest.as_str(), &platforms)
        .await
        .unwrap();
    let again = narrow_image(&source, image.root.digest.as_str(), &platforms)
        .await
        .unwrap();
    assert_eq!(
        narrowed.as_ref().map(|narrowed| &narrowed.to),
        again.as_ref().map(|again| &again.to),
        "the same input gives the same bytes"
    );
    narrowed
}

/// Returns media type and entries of an index.
async fn read_index(narrowed: &NarrowedImage, selector: &str) -> (String, Vec<Descriptor>) {
    let manifest = narrowed.source.fetch_manifest(selector).await.unwrap();
    assert_eq!(manifest.digest.as_str(), selector);
    match parse_manifest(&manifest.bytes).unwrap() {
        ManifestContent::Index(index) => (manifest.media_type, index.manifests),
        ManifestContent::Image(_) => panic!("it is no index"),
    }
}

#[tokio::test]
async fn an_index_is_made_again_with_the_wanted_entries_unchanged() {
    let parts = ["amd64", "arm64", "s390x"].map(mk_part);
    let image = multi_platform(&parts);
    for (image, parts, index_type) in [
        (image.clone(), parts.clone(), media_type::OCI_INDEX),
        (
            docker_form(&image),
            parts.each_ref().map(docker_form),
            media_type::DOCKER_INDEX,
        ),
    ] {
        let narrowed = narrow(&image, &["linux/arm64", "linux/s390x"]).await.unwrap();
        assert_eq!(narrowed.from, image.root.digest);
        let (found_type, entries) = read_index(&narrowed, narrowed.to.as_str()).await;
        assert_eq!(found_type, index_type);
        assert_eq!(entries, [parts[1].root.clone(), parts[2].root.clone()]);
        let child = narrowed.source.fetch_manifest(entries[0].digest.as_str()).await;
        assert_eq!(child.unwrap().digest, parts[1].root.digest, "{index_type}");
        let old = narrowed.source.fetch_manifest(narrowed.from.as_str()).await.unwrap();
        assert_eq!(old.bytes, image.root_bytes(), "the old index can be read still");
    }
}

#[tokio::test]
async fn an_index_in_an_index_is_made_again_too() {
    let inner = multi_platform(&["amd64", "arm64"].map(mk_part));
    let outer = multi_platform(&[inner.clone(), mk_part("s390x")]);
    let narrowed = narrow(&outer, &["linux/arm64"]).await.unwrap();
    let (_, entries) = read_index(&narrowed, narrowed.to.as_str()).await;
    assert_eq!(entries.len(), 1);
    assert_ne!(entries[0].digest, inner.root.digest);
    let (_, entries) = read_index(&narrowed, entries[0].digest.as_str()).await;
    assert_eq!(entries, [mk_part("arm64").root]);
}

#[tokio::test]
async fn what_needs_no_change_stays_as_it_is() {
    let image = multi_platform(&["amd64", "arm64"].map(mk_part));
    for (case, image, platforms) in [
        ("an image without an index", &mk_part("amd64"), &["linux/amd64"][..]),
        ("all platforms", &image, &["linux/amd64", "linux/arm64"]),
        ("no platform", &image, &[]),
        (
            "a platform that it has not: the copy says so",
            &image,
            &["linux/riscv64"],
        ),
    ] {
        assert!(narrow(image, platforms).await.is_none(), "{case}");
    }
}
