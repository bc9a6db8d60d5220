//! Images that lost content: told by `verify`, not served, and repaired by a push.

use camino::Utf8PathBuf;
use inspect::{ContentProblem, RegistryInspector, Verification};

use super::*;

fn blob_path(fixture: &Fixture, digest: &Digest) -> Utf8PathBuf {
    fixture.registry.store.root().join("blobs/sha256").join(digest.hex())
}

fn verify(fixture: &Fixture) -> Verification {
    let root = Utf8Path::from_path(fixture.directory.path()).unwrap();
    let inspector = RegistryInspector::new(&root.join("store"), &root.join("repositories"));
    inspector.verify(|_| ()).unwrap()
}

fn problems(fixture: &Fixture) -> Vec<(Digest, ContentProblem, bool)> {
    let missing = verify(fixture).missing.into_iter();
    missing
        .map(|missing| (missing.digest, missing.problem, missing.allowed))
        .collect()
}

#[tokio::test]
async fn an_image_that_lost_a_layer_is_not_served_until_a_push_repairs_it() {
    for incomplete_images in [false, true] {
        let fixture = mk_fixture_with(Policy {
            incomplete_images,
            ..Policy::default()
        });
        let image = small_image("a");
        let other = FixtureBuilder::new().platform("linux", "arm64").build();
        let index = multi_platform(&[image.clone(), other.clone()]);
        fixture.push("a", "v1", &index).await;
        fixture.push("a", "single", &image).await;
        fixture.push("a", "again", &image).await;
        let (layer, bytes) = image
            .blobs
            .iter()
            .find(|(digest, _)| !other.blobs.contains_key(*digest))
            .unwrap();
        std::fs::write(blob_path(&fixture, layer), "rotten").unwrap();
        assert_eq!(verify(&fixture).damaged, std::slice::from_ref(layer));
        assert_eq!(fixture.registry.delete_damaged(layer).unwrap().files, 1);
        assert_eq!(
            problems(&fixture),
            [(layer.clone(), ContentProblem::Missing, false)],
            "{incomplete_images}"
        );
        for selector in ["single", "again", image.root.digest.as_str()] {
            let path = format!("/v2/a/manifests/{selector}");
            let answer = fixture.get(&path).await;
            assert_eq!(
                (answer.status, answer.code()),
                (404, "MANIFEST_UNKNOWN".to_owned()),
                "{selector}"
            );
            assert_eq!(fixture.head(&path).await, 404, "{selector}");
        }
        // The other platform can still be pulled, and a push of the index finds the entry that needs repair.
        for selector in ["v1", other.root.digest.as_str()] {
            assert_eq!(
                fixture.head(&format!("/v2/a/manifests/{selector}")).await,
                200,
                "{selector}"
            );
        }
        let name: Repository = "a".parse().unwrap();
        assert!(!fixture.registry.can_serve(&name, "v1").unwrap());
        assert!(!fixture.registry.can_serve(&name, "single").unwrap());
        assert!(fixture.registry.can_serve(&name, other.root.digest.as_str()).unwrap());
        fixture.collect(Duration::ZERO);
        fixture.push_blob("a", bytes).await;
        for selector in ["v1", "single", "again"] {
            let answer = fixture.get(&format!("/v2/a/manifests/{selector}")).await;
            assert_eq!(answer.status, 200, "{selector}");
            assert!(fixture.registry.can_serve(&name, selector).unwrap());
        }
        assert!(verify(&fixture).is_good());
    }
}

#[tokio::test]
async fn a_damaged_manifest_is_not_served_and_keeps_its_tags_and_its_layers() {
    let fixture = mk_fixture();
    let image = small_image("a");
    fixture.push("a", "v1", &image).await;
    fixture.push("a", "v2", &image).await;
    let file = blob_path(&fixture, &image.root.digest);
    std::fs::write(&file, "rotten").unwrap();
    assert_eq!(fixture.registry.delete_damaged(&image.root.digest).unwrap().files, 1);
    assert_eq!(fixture.head("/v2/a/manifests/v1").await, 404);
    assert_eq!(fixture.collect(Duration::ZERO), 0, "what it names is not known");
    assert_eq!(
        problems(&fixture),
        [(image.root.digest.clone(), ContentProblem::Missing, false)]
    );
    let answer = fixture.push_manifest("a", "v1", &image.root, &image.root_bytes()).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    assert_eq!(fixture.get("/v2/a/manifests/v2").await.body, image.root_bytes());
    assert!(verify(&fixture).is_good());
}

#[tokio::test]
async fn a_blob_that_the_repository_no_longer_lists_is_found_by_verify_and_by_a_push() {
    let fixture = mk_fixture();
    let image = small_image("a");
    fixture.push("a", "v1", &image).await;
    fixture.push("b", "v1", &image).await;
    let layer = image.blobs.keys().next_back().unwrap();
    fixture
        .registry
        .records
        .drop_blobs(&"a".parse().unwrap(), |_, _| vec![layer.clone()])
        .unwrap();
    assert_eq!(problems(&fixture), [(layer.clone(), ContentProblem::Unlisted, false)]);
    assert!(!verify(&fixture).is_good());
    assert_eq!(fixture.head("/v2/a/manifests/v1").await, 404);
    assert_eq!(fixture.head("/v2/b/manifests/v1").await, 200);
    let refused = fixture.push_manifest("a", "v1", &image.root, &image.root_bytes()).await;
    assert_eq!(
        (refused.status, refused.code()),
        (400, "MANIFEST_BLOB_UNKNOWN".to_owned())
    );
    assert!(String::from_utf8_lossy(&refused.body).contains(layer.as_str()));
    let path = format!("/v2/a/blobs/uploads/?mount={layer}&from=b");
    assert_eq!(fixture.send("POST", &path, &[], Body::empty()).await.status, 201);
    assert_eq!(fixture.head("/v2/a/manifests/v1").await, 200);
    assert!(verify(&fixture).is_good());
}

#[tokio::test]
async fn links_and_pipes_among_the_blobs_are_not_served_and_are_told() {
    let fixture = mk_fixture();
    let link = fixture.push_blob("a", b"link").await;
    let pipe = fixture.push_blob("a", b"pipe").await;
    for digest in [&link, &pipe] {
        std::fs::remove_file(blob_path(&fixture, digest)).unwrap();
    }
    let outside = fixture.directory.path().join("outside");
    std::fs::write(&outside, "link").unwrap();
    std::os::unix::fs::symlink(&outside, blob_path(&fixture, &link)).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        blob_path(&fixture, &pipe).as_std_path(),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RWXU,
        0,
    )
    .unwrap();
    let mut damaged = verify(&fixture).damaged;
    damaged.sort();
    let mut expected = vec![link.clone(), pipe.clone()];
    expected.sort();
    assert_eq!(damaged, expected);
    for (digest, bytes) in [(link, b"link"), (pipe, b"pipe")] {
        let path = format!("/v2/a/blobs/{digest}");
        assert_eq!((fixture.get(&path).await.status, fixture.head(&path).await), (404, 404));
        assert_eq!(fixture.registry.delete_damaged(&digest).unwrap().files, 1);
        fixture.push_blob("a", bytes).await;
        assert_eq!(fixture.get(&path).await.body, bytes.as_slice());
    }
    assert!(outside.exists() && verify(&fixture).damaged.is_empty());
}

#[tokio::test]
async fn a_manifest_that_cannot_be_understood_does_not_end_the_verification() {
    let fixture = mk_fixture();
    let (image, odd) = (small_image("a"), fixture.push_blob("a", b"no manifest").await);
    fixture.push("a", "v1", &image).await;
    let entry = serde_json::from_value(json!({"mediaType": media_type::OCI_MANIFEST, "size": 11})).unwrap();
    let add = RecordChange::AddManifest {
        digest: odd.clone(),
        entry,
    };
    let name: Repository = "a".parse().unwrap();
    fixture.registry.records.change(&name, |_| (vec![add], ())).unwrap();
    std::fs::remove_file(blob_path(&fixture, image.blobs.keys().next().unwrap())).unwrap();
    let mut found: Vec<ContentProblem> = problems(&fixture).into_iter().map(|(_, problem, _)| problem).collect();
    found.sort_by_key(|problem| *problem != ContentProblem::Missing);
    assert_eq!(found, [ContentProblem::Missing, ContentProblem::Unreadable]);
}

/// An entry that was pushed and is lost is a loss; one that was never pushed is none.
#[tokio::test]
async fn an_entry_of_an_index_may_be_missing_only_if_it_was_never_pushed() {
    let fixture = mk_fixture_with(Policy {
        incomplete_images: true,
        ..Policy::default()
    });
    let [pushed, never] = ["amd64", "arm64"].map(|architecture| {
        FixtureBuilder::new()
            .platform("linux", architecture)
            .plain_layer(&[("program", architecture.as_bytes())])
            .build()
    });
    let index = multi_platform(&[pushed.clone(), never.clone()]);
    fixture.push("a", pushed.root.digest.as_str(), &pushed).await;
    let answer = fixture.push_manifest("a", "v1", &index.root, &index.root_bytes()).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    let missing = |image: &ImageFixture, allowed| (image.root.digest.clone(), ContentProblem::Missing, allowed);
    assert_eq!(problems(&fixture), [missing(&never, true)]);
    let read = verify(&fixture);
    assert!(read.is_good());
    let blobs = pushed
        .blobs
        .values()
        .chain([&index.root_bytes()])
        .map(|bytes| bytes.len() as u64)
        .sum::<u64>();
    assert_eq!((read.blobs, read.bytes), (4, blobs + pushed.root.size));

    std::fs::remove_file(blob_path(&fixture, &pushed.root.digest)).unwrap();
    let found = problems(&fixture);
    assert!(found.contains(&missing(&never, true)), "{found:?}");
    assert_eq!(
        found.iter().filter(|found| **found == missing(&pushed, false)).count(),
        2
    );
    assert!(!verify(&fixture).is_good());
}
