//! Deletion, garbage collection and inspection.

use super::*;

#[tokio::test]
async fn tags_manifests_and_blobs_can_be_deleted() {
    let fixture = mk_fixture();
    let image = small_image("a");
    fixture.push("a", "v1", &image).await;
    fixture.push("a", "v2", &image).await;
    let delete = async |path: String| fixture.send("DELETE", &path, &[], Body::empty()).await.status;
    let layer = image.blobs.keys().next().unwrap();
    assert_eq!(delete(format!("/v2/a/blobs/{layer}")).await, 405, "a manifest needs it");
    assert_eq!(delete("/v2/a/manifests/v1".to_owned()).await, 202);
    assert_eq!(delete("/v2/a/manifests/v1".to_owned()).await, 404);
    assert_eq!(fixture.get("/v2/a/manifests/v2").await.status, 200);
    assert_eq!(delete(format!("/v2/a/manifests/{}", image.root.digest)).await, 202);
    let gone = fixture.get("/v2/a/manifests/v2").await;
    assert_eq!((gone.status, gone.code()), (404, "MANIFEST_UNKNOWN".to_owned()));
    assert_eq!(delete(format!("/v2/a/blobs/{layer}")).await, 202);
    assert_eq!(delete(format!("/v2/a/blobs/{layer}")).await, 404);
    assert_eq!(delete("/v2/nobody/manifests/v1".to_owned()).await, 404);
}

#[tokio::test]
async fn what_is_held_is_listed_counted_verified_and_taken_away() {
    let fixture = mk_fixture();
    let image = small_image("a");
    fixture.push("a/b", "v1", &image).await;
    fixture.push("a/b", "v2", &image).await;
    let root = Utf8Path::from_path(fixture.directory.path()).unwrap();
    let inspect = || inspect::RegistryInspector::new(&root.join("store"), &root.join("repositories"));
    let listed = inspect().repositories().unwrap();
    assert_eq!((listed.len(), listed[0].untagged), (1, 0));
    assert_eq!(listed[0].tags.keys().collect::<Vec<_>>(), ["v1", "v2"]);
    let stats = inspect().stats().unwrap();
    assert_eq!((stats.tags, stats.manifests, stats.blobs), (2, 1, 3));
    assert_eq!(stats.blob_bytes, listed[0].bytes);
    let found = inspect().verify(|_| ()).unwrap();
    assert!(found.is_good() && found.blobs == 3, "{found:?}");

    let (layer, bytes) = image.blobs.iter().next_back().unwrap();
    let file = root.join("store/blobs/sha256").join(layer.hex());
    let mut rotten = bytes.to_vec();
    rotten[0] ^= 1;
    std::fs::write(&file, rotten).unwrap();
    let found = inspect().verify(|_| ()).unwrap();
    assert_eq!((found.damaged, found.missing.len()), (vec![layer.clone()], 0));
    assert!(fixture.registry.store.delete_damaged(layer).unwrap());
    let found = inspect().verify(|_| ()).unwrap();
    assert!(!found.is_good() && found.missing[0].digest == *layer, "{found:?}");
    fixture.push_blob("a/b", bytes).await;
    assert!(!fixture.registry.store.delete_damaged(layer).unwrap());
    assert!(inspect().verify(|_| ()).unwrap().is_good());

    let name: Repository = "a/b".parse().unwrap();
    let remove = |selector: Option<&str>| {
        let removed = fixture.registry.remove(&name, selector).unwrap();
        (removed.tags, removed.manifests)
    };
    assert_eq!((remove(Some("v1")), remove(Some("v1"))), ((1, 0), (0, 0)));
    assert_eq!(remove(Some(image.root.digest.as_str())), (1, 1));
    assert_eq!(remove(None), (0, 0));
    assert_eq!(inspect().repositories().unwrap(), []);
    assert_eq!(
        fixture.registry.gc(Duration::ZERO, SystemTime::now()).unwrap().deleted,
        3
    );
}
