//! Places: content in memory under the names of a server, with wrong bytes, and with a stick that is pulled.

#![expect(clippy::unwrap_used, reason = "test set-up")]

use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt};
use landfall_core::failure::FailureKind;
use landfall_core::oci_types::media_type;
use landfall_core::reference::{Digest, Repository};
use landfall_core::registry_path::ManifestSelector;
use landfall_oci::content::names::{RepositoryName, plain_names};
use landfall_oci::content::place::Place;
use landfall_oci::content::places::{PLACES_MAX, Places};
use landfall_oci::image::TransferError;
use landfall_testkit::fake_content::FakeContent;
use landfall_testkit::image_builder::{FixtureBuilder, ImageFixture, multi_platform, small_image};

const SHOP: &str = "reg.example:5000/shop/till:1.0";

/// Returns an image with a layer of more than one chunk, and the digest of that layer.
fn large_image() -> (ImageFixture, Digest) {
    let file: Vec<u8> = (0..200_000_u32).flat_map(u32::to_le_bytes).collect();
    let image = FixtureBuilder::new().plain_layer(&[("file", &file)]).build();
    let largest = image.blobs.iter().max_by_key(|(_, bytes)| bytes.len()).unwrap();
    let digest = largest.0.clone();
    (image, digest)
}

async fn open(content: &Arc<FakeContent>) -> Arc<Place> {
    Place::open(content.clone(), plain_names).await
}

/// Reads a part of a blob. Returns the bytes that came, and how the read ended.
async fn read(place: &Place, digest: &Digest, offset: u64, length: u64) -> (Vec<u8>, Result<(), TransferError>) {
    let mut stream = match place.open_blob(digest, offset, length).await {
        Ok(stream) => stream,
        Err(error) => return (Vec::new(), Err(error)),
    };
    let mut bytes = Vec::new();
    while let Some(chunk) = stream.next().await {
        match chunk {
            Ok(chunk) => bytes.extend_from_slice(&chunk),
            Err(error) => return (bytes, Err(error)),
        }
    }
    (bytes, Ok(()))
}

fn till() -> Repository {
    "shop/till".parse().unwrap()
}

fn tag(tag: &str) -> ManifestSelector {
    tag.parse().unwrap()
}

#[tokio::test]
async fn a_blob_and_its_parts_are_read() {
    let (image, large) = large_image();
    let content = Arc::new(FakeContent::new(&[(SHOP, &image)]));
    let place = open(&content).await;
    for (digest, bytes) in image.all_content() {
        let size = bytes.len() as u64;
        assert_eq!(place.blob_size(digest), Some(size));
        // The second time the blob is known to be right.
        for _ in 0..2 {
            for (offset, length) in [(3, size - 5), (0, size), (size, 0), (size - 1, 1)] {
                let (read, end) = read(&place, digest, offset, length).await;
                end.unwrap();
                let range = usize::try_from(offset).unwrap()..usize::try_from(offset + length).unwrap();
                assert!(read == bytes[range], "{digest} {offset} {length}");
            }
        }
        for (offset, length) in [(1, size), (size + 1, 0), (u64::MAX, 2)] {
            let (_, end) = read(&place, digest, offset, length).await;
            assert_eq!(end.unwrap_err().kind, FailureKind::NotFound, "{offset} {length}");
        }
    }
    assert!(
        image.blobs[&large].len() > 2 * 256 * 1024,
        "the test reads more than one chunk"
    );
}

#[tokio::test]
async fn wrong_bytes_never_make_a_whole_blob() {
    let (image, large) = large_image();
    let content = Arc::new(FakeContent::new(&[(SHOP, &image)]));
    let place = open(&content).await;
    let config = image.blobs.keys().find(|digest| **digest != large).unwrap();
    for digest in [&large, config] {
        content.damage(digest);
        let size = place.blob_size(digest).unwrap();
        let (bytes, end) = read(&place, digest, 0, size).await;
        let error = end.unwrap_err();
        assert_eq!(error.kind, FailureKind::Corrupt);
        assert!((bytes.len() as u64) < size && error.chain().contains("the fake stick"));
        // It is not offered again.
        assert_eq!(place.blob_size(digest), None);
    }
    assert_eq!(place.blob_size(&image.root.digest), Some(image.root.size));
}

#[tokio::test]
async fn a_part_of_a_small_blob_with_wrong_bytes_is_refused() {
    let image = small_image("a");
    let content = Arc::new(FakeContent::new(&[(SHOP, &image)]));
    let place = open(&content).await;
    let (digest, _) = image.blobs.first_key_value().unwrap();
    content.damage(digest);
    let (bytes, end) = read(&place, digest, 1, 2).await;
    assert_eq!((bytes.len(), end.unwrap_err().kind), (0, FailureKind::Corrupt));
}

#[tokio::test]
async fn a_read_ends_when_its_place_is_removed_or_its_medium_is_pulled() {
    let (image, large) = large_image();
    let content = Arc::new(FakeContent::new(&[(SHOP, &image)]));
    let places = Places::default();
    let place = open(&content).await;
    places.add(&place).unwrap();
    let till = till();
    let size = place.blob_size(&large).unwrap();
    content.get_stuck();
    let name = RepositoryName::Served(&till);
    let mut stream = places.open_blob(name, &large, 0, size).await.unwrap();
    assert!(!stream.try_next().await.unwrap().unwrap().is_empty());
    let removal = async { places.remove(&place) };
    let (next, ()) = tokio::join!(stream.try_next(), removal);
    assert_eq!(next.unwrap_err().kind, FailureKind::NotFound);
    assert!(places.is_empty() && places.blob_size(name, &large).is_none());
    drop((stream, place));
    assert_eq!(Arc::strong_count(&content), 1, "nothing holds the file open");

    let place = open(&content).await;
    places.add(&place).unwrap();
    let mut stream = places.open_blob(name, &large, 0, size).await.unwrap();
    stream.try_next().await.unwrap();
    content.pull();
    assert!(stream.try_next().await.is_err());
    assert!(
        places.open_blob(name, &large, 0, size).await.is_none(),
        "as if the blob was missing"
    );
    assert_eq!(
        places.blob_size(name, &large),
        Some(size),
        "a failed read proves nothing about the bytes"
    );
}

#[tokio::test]
async fn images_are_found_by_tag_and_digest_in_their_repositories_only() {
    let arm64 = FixtureBuilder::new().platform("linux", "arm64").build();
    let index = multi_platform(&[small_image("a"), arm64.clone()]);
    let content = Arc::new(FakeContent::new(&[
        (SHOP, &index),
        ("other.example/app:2", &small_image("b")),
    ]));
    content.leave_out(&arm64.root.digest);
    let places = Places::default();
    places.add(&open(&content).await).unwrap();
    let till = till();
    let name = RepositoryName::Served(&till);
    let (digest, manifest) = places.find_manifest(name, &tag("1.0")).unwrap();
    assert_eq!(
        (&digest, &*manifest.media_type),
        (&index.root.digest, media_type::OCI_INDEX)
    );
    let read = places.read_manifest(name, &digest).await.unwrap();
    assert_eq!(read.bytes, index.root_bytes());
    let find = |digest: &Digest| places.find_manifest(name, &ManifestSelector::Digest(digest.clone()));
    assert!(find(&small_image("a").root.digest).is_some());
    assert!(find(&arm64.root.digest).is_none(), "a platform that was left out");
    let layer = small_image("a").blobs.into_keys().next().unwrap();
    assert!(find(&layer).is_none(), "a blob is no manifest");
    assert!(places.find_manifest(name, &tag("2")).is_none());
    let unknown = "app/app".parse().unwrap();
    let name = RepositoryName::Served(&unknown);
    assert!(
        places
            .find_manifest(name, &ManifestSelector::Digest(digest.clone()))
            .is_none()
    );
    assert!(places.blob_size(name, &digest).is_none());
}

#[tokio::test]
async fn an_image_with_a_wrong_manifest_is_left_out_and_the_others_are_served() {
    let (good, bad) = (small_image("good"), small_image("bad"));
    let content = Arc::new(FakeContent::new(&[
        ("a.example/good:1", &good),
        ("a.example/bad:1", &bad),
    ]));
    content.damage(&bad.root.digest);
    let places = Places::default();
    places.add(&open(&content).await).unwrap();
    let find = |repository: &str| {
        let repository = repository.parse().unwrap();
        places.find_manifest(RepositoryName::Served(&repository), &tag("1"))
    };
    assert!(find("good").is_some() && find("bad").is_none());
}

#[tokio::test]
async fn the_first_place_wins_and_the_set_is_bounded() {
    let (old, new) = (small_image("old"), small_image("new"));
    let places = Places::default();
    let first = open(&Arc::new(FakeContent::new(&[(SHOP, &new)]))).await;
    places.add(&first).unwrap();
    let second = open(&Arc::new(FakeContent::new(&[(SHOP, &old)]))).await;
    places.add(&second).unwrap();
    let till = till();
    let name = RepositoryName::Served(&till);
    assert_eq!(places.find_manifest(name, &tag("1.0")).unwrap().0, new.root.digest);
    places.remove(&first);
    assert_eq!(places.find_manifest(name, &tag("1.0")).unwrap().0, old.root.digest);
    for _ in 1..PLACES_MAX {
        places.add(&second).unwrap();
    }
    assert!(places.add(&second).is_err());
}

#[tokio::test]
async fn a_follower_is_told_of_reads() {
    let image = small_image("a");
    let places = Places::default();
    places.note_read(&image.root.digest);
    let mut reads = places.watch_reads();
    places.note_read(&image.root.digest);
    assert_eq!(reads.recv().await.unwrap(), image.root.digest);
    assert_eq!((reads.is_empty(), places.reads()), (true, 2));
}
