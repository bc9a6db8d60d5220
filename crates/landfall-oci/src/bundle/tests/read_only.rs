//! A bundle as a place: everything in it is read where it lies, by every name.

use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use futures_util::StreamExt;
use landfall_core::failure::FailureKind;
use landfall_core::reference::Repository;
use landfall_core::registry_path::ManifestSelector;

use super::*;
use crate::content::names::{RepositoryName, plain_names};
use crate::content::place::Place;
use crate::content::places::Places;
use crate::image::TransferError;

/// Returns images as [`mk_images`] does, with a signature of the first by its subject, and one by cosign's tag.
fn mk_signed_images() -> Vec<(String, ImageFixture)> {
    let mut images: Vec<(String, ImageFixture)> = mk_images()
        .into_iter()
        .map(|(name, image)| (name.to_owned(), image))
        .collect();
    let subject = images[0].1.root.clone();
    let mut by_subject = FixtureBuilder::new().plain_layer(&[("signature", b"1")]).build();
    let mut document: serde_json::Value = serde_json::from_slice(&by_subject.root_bytes()).unwrap();
    document["subject"] = json!(subject);
    let bytes = bytes::Bytes::from(document.to_string());
    by_subject.root = Descriptor::new(media_type::OCI_MANIFEST, digest_of(&bytes), bytes.len() as u64);
    by_subject.manifests = vec![(by_subject.root.clone(), bytes)];
    let by_tag = FixtureBuilder::new().plain_layer(&[("signature", b"2")]).build();
    images.push((
        format!("reg.example:5000/shop/till@{}", by_subject.root.digest),
        by_subject,
    ));
    let tag = format!("sha256-{}.sig", subject.digest.hex());
    images.push((tag, by_tag));
    images
}

async fn mk_place(path: &Utf8Path) -> Arc<Place> {
    Place::open(
        Arc::new(BundleSource::new(BundleFile::open(path).unwrap())),
        plain_names,
    )
    .await
}

async fn read(place: &Place, digest: &Digest, offset: u64, length: u64) -> Result<Vec<u8>, TransferError> {
    let mut stream = place.open_blob(digest, offset, length).await?;
    let mut bytes = Vec::new();
    while let Some(chunk) = stream.next().await {
        bytes.extend_from_slice(&chunk?);
    }
    Ok(bytes)
}

fn content_of(images: &[(String, ImageFixture)]) -> Vec<(Digest, bytes::Bytes)> {
    let content = images.iter().flat_map(|(_, image)| image.all_content());
    content.map(|(digest, bytes)| (digest.clone(), bytes.clone())).collect()
}

#[tokio::test]
async fn a_bundle_serves_every_part_of_its_images_where_it_lies() {
    let site = mk_site();
    let images = mk_signed_images();
    let archive = site.path.join("images.tar");
    let named: Vec<_> = images.iter().map(|(name, image)| (name.as_str(), image)).collect();
    fs::write(&archive, oci_archive(&named)).unwrap();
    let opened = open_archive(&archive, &site.path).unwrap();
    assert_eq!(opened.len(), 2, "signatures are no images");
    for (form, options) in [("frames", BundleOptions::default()), ("plain", plain())] {
        let path = site.path.join(form);
        write_bundle(&opened, &path, options).await;
        let place = mk_place(&path).await;
        for (digest, bytes) in content_of(&images) {
            let size = bytes.len() as u64;
            assert_eq!(place.blob_size(&digest), Some(size), "{form}");
            for (offset, length) in [(size / 3, size / 2), (0, size), (size, 0)] {
                let range = offset as usize..(offset + length) as usize;
                let part = read(&place, &digest, offset, length).await.unwrap();
                assert!(part == bytes[range], "{form} {digest} {offset} {length}");
            }
        }
        let places = Places::default();
        places.add(&place).unwrap();
        let till: Repository = "reg.example_5000/shop/till".parse().unwrap();
        let name = RepositoryName::Served(&till);
        let find = |tag: &str| places.find_manifest(name, &tag.parse::<ManifestSelector>().unwrap());
        let (root, _) = find("1").unwrap();
        assert_eq!(root, images[0].1.root.digest);
        assert_eq!(
            find(&images[3].0).unwrap().0,
            images[3].1.root.digest,
            "by cosign's tag"
        );
        let referrers = places.referrers(name, &root);
        assert_eq!(
            referrers.into_keys().collect::<Vec<_>>(),
            [images[2].1.root.digest.clone()]
        );
    }
}

#[tokio::test]
async fn a_flipped_bit_in_a_bundle_never_reaches_a_client_as_a_whole_blob() {
    let site = mk_site();
    let images = mk_images();
    let path = site.path.join("bundle");
    write_bundle(&site.open(&images), &path, BundleOptions::default()).await;
    let (digest, size, at) = {
        let file = BundleFile::open(&path).unwrap();
        let blob = &file.placement.blobs[0];
        let (at, _) = file.placement.locate(blob, blob.size - 1);
        (blob.digest.clone(), blob.size, at)
    };
    let place = mk_place(&path).await;
    let file = fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
    let mut byte = [0];
    file.file().read_exact_at(&mut byte, at).unwrap();
    file.file().write_all_at(&[byte[0] ^ 1], at).unwrap();
    let error = read(&place, &digest, 0, size).await.unwrap_err();
    assert_eq!(error.kind, FailureKind::Corrupt);
    assert!(error.chain().contains(path.as_str()), "{}", error.chain());
    assert_eq!(place.blob_size(&digest), None);
}

#[tokio::test]
async fn a_bundle_that_is_cut_while_it_is_served_fails_and_does_not_panic() {
    let site = mk_site();
    let path = site.path.join("bundle");
    write_bundle(&site.open(&mk_images()), &path, BundleOptions::default()).await;
    let place = mk_place(&path).await;
    let last = BundleFile::open(&path).unwrap().placement.blobs.last().unwrap().clone();
    let length = fs::metadata(&path).unwrap().len();
    fs::OpenOptions::new()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(length / 2)
        .unwrap();
    let error = read(&place, &last.digest, 0, last.size).await.unwrap_err();
    assert_eq!(error.kind, FailureKind::Local);
    assert_eq!(place.blob_size(&last.digest), Some(last.size));
}
