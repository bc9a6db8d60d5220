//! Collection beside pushes: what a client pushed or was told of stays until its manifest is there.

use super::*;

const HOUR: Duration = Duration::from_secs(60 * 60);

/// Deletes the image's manifest, so that only the records of its blobs are left.
async fn delete_manifest(fixture: &Fixture, name: &str, image: &ImageFixture) {
    let path = format!("/v2/{name}/manifests/{}", image.root.digest);
    assert_eq!(fixture.send("DELETE", &path, &[], Body::empty()).await.status, 202);
}

async fn open_session(fixture: &Fixture, name: &str) -> String {
    let path = format!("/v2/{name}/blobs/uploads/");
    let answer = fixture.send("POST", &path, &[], Body::empty()).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    answer.header("location").to_owned()
}

#[tokio::test(start_paused = true)]
async fn collection_keeps_what_repositories_hold_and_what_was_just_pushed() {
    let fixture = mk_fixture();
    let image = small_image("a");
    fixture.push("a", "v1", &image).await;
    let loose = fixture.push_blob("a", b"waits for its manifest").await;
    let path = format!("/v2/a/blobs/{loose}");
    assert_eq!(fixture.collect(GRACE), 0);
    assert_eq!(fixture.head(&path).await, 200);
    assert_eq!(fixture.collect(Duration::ZERO), 0, "a client was told that it is here");
    fixture.run_for(HOUR / 2).await;
    assert_eq!(fixture.collect(Duration::ZERO), 1, "no client came for the loose one");
    assert_eq!(fixture.get(&path).await.status, 404);
    assert!(fixture.registry.store.is_complete(&image.root.digest).unwrap());
    delete_manifest(&fixture, "a", &image).await;
    assert_eq!(fixture.collect(Duration::ZERO), 3);
}

#[tokio::test(start_paused = true)]
async fn a_push_that_takes_two_days_loses_nothing() {
    let fixture = mk_fixture();
    let image = small_image("a");
    let (large, small) = image
        .blobs
        .iter()
        .next_back()
        .map(|(large, bytes)| (large.clone(), bytes.clone()))
        .unwrap();
    for bytes in image
        .blobs
        .iter()
        .filter(|(digest, _)| **digest != large)
        .map(|(_, bytes)| bytes)
    {
        fixture.push_blob("slow/app", bytes).await;
    }
    let session = open_session(&fixture, "slow/app").await;
    for hour in 0..48_usize {
        let rest = &small[small.len() * hour / 48..small.len() * (hour + 1) / 48];
        let answer = fixture.send("PATCH", &session, &[], rest.to_vec()).await;
        assert_eq!(answer.status, 202, "{answer:?}");
        fixture.run_for(HOUR).await;
        assert_eq!(fixture.collect(GRACE), 0, "hour {hour}");
    }
    let path = format!("{session}?digest={large}");
    assert_eq!(fixture.send("PUT", &path, &[], Body::empty()).await.status, 201);
    let answer = fixture
        .push_manifest("slow/app", "v1", &image.root, &image.root_bytes())
        .await;
    assert_eq!(answer.status, 201, "{answer:?}");
    for digest in image.blobs.keys() {
        assert_eq!(fixture.get(&format!("/v2/slow/app/blobs/{digest}")).await.status, 200);
    }
}

#[tokio::test(start_paused = true)]
async fn each_kind_of_push_activity_keeps_the_other_blobs_of_the_repository() {
    for activity in ["HEAD", "POST", "mount", "session", "status"] {
        let fixture = mk_fixture();
        let loose = fixture.push_blob("a", b"early layer").await;
        let other = fixture.push_blob("a", b"another layer").await;
        let elsewhere = fixture.push_blob("b", b"of another repository").await;
        let session = open_session(&fixture, "a").await;
        for _ in 0..3 {
            fixture.run_for(HOUR * 20).await;
            let status = match activity {
                "HEAD" => fixture.head(&format!("/v2/a/blobs/{other}")).await,
                "POST" => {
                    fixture.push_blob("a", b"another layer").await;
                    200
                }
                "mount" => {
                    let path = format!("/v2/a/blobs/uploads/?mount={other}&from=a");
                    fixture.send("POST", &path, &[], Body::empty()).await.status
                }
                "session" => fixture.send("PATCH", &session, &[], "x").await.status,
                _ => fixture.get(&session).await.status,
            };
            assert!(status < 300, "{activity}: {status}");
            fixture.collect(GRACE);
        }
        assert_eq!(
            fixture.get(&format!("/v2/a/blobs/{loose}")).await.status,
            200,
            "{activity}"
        );
        assert_eq!(
            fixture.get(&format!("/v2/b/blobs/{elsewhere}")).await.status,
            404,
            "no client came for it"
        );
        fixture.send("DELETE", &session, &[], Body::empty()).await;
        fixture.run_for(GRACE + HOUR).await;
        assert_eq!(fixture.collect(GRACE), 2, "{activity}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_link_of_a_blob_that_a_client_was_told_of_outlives_a_collection() {
    let fixture = mk_fixture();
    let (old, layer) = (small_image("old"), b"a layer of two images".as_slice());
    let digest = fixture.push_blob("a", layer).await;
    fixture.push("a", "v1", &old).await;
    fixture.run_for(GRACE * 2).await;
    delete_manifest(&fixture, "a", &old).await;
    for digest in old.blobs.keys().chain([&digest]) {
        assert_eq!(fixture.head(&format!("/v2/a/blobs/{digest}")).await, 200);
    }
    // The manifest's own file goes.
    assert_eq!(fixture.collect(Duration::from_secs(5)), 1);
    let answer = fixture.push_manifest("a", "v2", &old.root, &old.root_bytes()).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    for digest in old.blobs.keys() {
        assert_eq!(fixture.get(&format!("/v2/a/blobs/{digest}")).await.status, 200);
    }
}

#[tokio::test(start_paused = true)]
async fn neither_a_jump_of_the_clock_nor_a_time_without_power_makes_blobs_old() {
    let fixture = mk_fixture();
    let loose = fixture.push_blob("a", b"waits for its manifest").await;
    let later = SystemTime::now() + GRACE * 10;
    assert_eq!(
        fixture.registry.gc(GRACE, later).unwrap().deleted,
        0,
        "the system's clock jumps"
    );
    tokio::time::advance(GRACE * 10).await;
    assert_eq!(fixture.collect(GRACE), 0, "the monotonic clock jumps");
    let directory = fixture.stop();
    tokio::time::advance(GRACE * 10).await;
    let registry = open(&directory);
    let fixture = Fixture {
        router: registry_service(registry.clone(), Policy::default()),
        directory,
        registry,
    };
    assert_eq!(fixture.collect(GRACE), 0, "the registry was off");
    assert_eq!(fixture.get(&format!("/v2/a/blobs/{loose}")).await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn ages_add_up_over_restarts() {
    let mut fixture = mk_fixture();
    fixture.push_blob("a", b"waits for its manifest").await;
    let mut deleted = Vec::new();
    for _ in 0..3 {
        fixture.collect(GRACE);
        fixture.run_for(GRACE * 2 / 5).await;
        let directory = fixture.stop();
        let registry = open(&directory);
        fixture = Fixture {
            router: registry_service(registry.clone(), Policy::default()),
            directory,
            registry,
        };
        deleted.push(fixture.collect(GRACE));
    }
    assert_eq!(deleted, [0, 0, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_repository_that_is_always_pushed_to_keeps_no_garbage_for_ever() {
    let fixture = mk_fixture();
    let image = small_image("a");
    fixture.push("a", "v1", &image).await;
    delete_manifest(&fixture, "a", &image).await;
    let loose = fixture.push_blob("a", b"of a push that was given up").await;
    let deleted = image.blobs.keys().next().unwrap();
    let is_here = |digest: &Digest| fixture.registry.store.blob_size(digest).unwrap().is_some();
    let (mut half_days, mut image_went) = (0, None);
    while is_here(&loose) {
        fixture.run_for(GRACE / 2).await;
        fixture.push_blob("a", format!("build {half_days}").as_bytes()).await;
        fixture.collect(GRACE);
        half_days += 1;
        image_went = image_went.or((!is_here(deleted)).then_some(half_days));
        assert!(half_days < 20);
    }
    assert_eq!((image_went, half_days), (Some(2), 14));
}

#[tokio::test]
async fn a_blob_that_a_head_request_reported_is_there_however_the_collection_runs() {
    let fixture = mk_fixture();
    let mut told = 0;
    for round in 0..60_u32 {
        let digest = fixture.push_blob("a", format!("layer {round}").as_bytes()).await;
        let path = format!("/v2/a/blobs/{digest}");
        let registry = fixture.registry.clone();
        let collection = tokio::task::spawn_blocking(move || registry.gc(Duration::ZERO, SystemTime::now()).unwrap());
        let statuses = [fixture.head(&path).await, fixture.head(&path).await];
        collection.await.unwrap();
        let after = fixture.get(&path).await.status;
        if statuses.contains(&200) {
            told += 1;
            assert_eq!(after, 200, "round {round}: {statuses:?}");
        }
    }
    assert!(told > 0);
}

#[tokio::test]
async fn a_layer_that_is_also_a_manifest_stays_when_the_manifest_is_deleted() {
    let fixture = mk_fixture();
    let image = small_image("a");
    fixture.push("a", "v1", &image).await;
    let config = fixture.push_blob("a", b"{}").await;
    let artifact = json!({
        "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "artifactType": "application/x.kept",
        "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": config, "size": 2},
        "layers": [{"mediaType": "application/json", "digest": image.root.digest, "size": image.root.size}],
    });
    let bytes = Bytes::from(artifact.to_string());
    let descriptor = Descriptor::new(media_type::OCI_MANIFEST, digest_of(&bytes), bytes.len() as u64);
    let answer = fixture.push_manifest("a", "kept", &descriptor, &bytes).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    delete_manifest(&fixture, "a", &image).await;
    fixture.collect(Duration::ZERO);
    let layer = fixture.get(&format!("/v2/a/blobs/{}", image.root.digest)).await;
    assert_eq!((layer.status, layer.body), (200, image.root_bytes()));
}

#[tokio::test]
async fn a_blob_of_the_store_alone_is_not_mounted() {
    let fixture = mk_fixture();
    let secret = b"an image of the agent";
    let digest = digest_of(secret);
    let blob = Descriptor::new("", digest.clone(), secret.len() as u64);
    fixture.registry.store.write_blob_bytes(&blob, secret).unwrap();
    let path = format!("/v2/a/blobs/uploads/?mount={digest}");
    assert_eq!(fixture.send("POST", &path, &[], Body::empty()).await.status, 202);
    assert_eq!(fixture.get(&format!("/v2/a/blobs/{digest}")).await.status, 404);
    fixture.push_blob("b", secret).await;
    assert_eq!(fixture.send("POST", &path, &[], Body::empty()).await.status, 201);
    assert_eq!(fixture.get(&format!("/v2/a/blobs/{digest}")).await.status, 200);
}
