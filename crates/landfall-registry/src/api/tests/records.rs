//! Records after a restart or damage.

use super::*;

#[tokio::test]
async fn repositories_outlive_a_restart_and_a_damaged_record_loses_no_blob() {
    let fixture = mk_fixture();
    let image = small_image("a");
    fixture.push("a/b", "v1", &image).await;
    fixture.push("c", "v1", &image).await;
    let directory = fixture.stop();
    let record = directory.path().join("repositories/c/_record.jsonl");
    let text = std::fs::read_to_string(&record)
        .unwrap()
        .replace("addManifest", "addManif");
    std::fs::write(&record, text).unwrap();
    let registry = open(&directory);
    let find = |name: &str, tag: &str| registry.find_manifest(&name.parse().unwrap(), tag).unwrap();
    assert_eq!(find("a/b", "v1"), Some(image.root.digest.clone()));
    assert_eq!((find("a/b", "v2"), find("c", "v1")), (None, None));
    let fixture = Fixture {
        router: registry_service(registry.clone(), Policy::default()),
        directory,
        registry,
    };
    for (digest, bytes) in &image.blobs {
        assert_eq!(fixture.get(&format!("/v2/a/b/blobs/{digest}")).await.body, bytes);
        let path = format!("/v2/c/blobs/uploads/?mount={digest}");
        assert_eq!(fixture.send("POST", &path, &[], Body::empty()).await.status, 201);
    }
    assert_eq!(
        fixture
            .push_manifest("c", "v1", &image.root, &image.root_bytes())
            .await
            .status,
        201
    );
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_restart() {
    let fixture = mk_fixture();
    let pushed = fixture.push_blob("a", b"pushed").await;
    let path = format!("/v2/b/blobs/uploads/?mount={pushed}&from=a");
    assert_eq!(fixture.send("POST", &path, &[], Body::empty()).await.status, 201);
    let image = small_image("a");
    fixture.push("a", "v1", &image).await;
    let gone = fixture.push_blob("a", b"gone").await;
    let path = format!("/v2/a/blobs/{gone}");
    assert_eq!(fixture.send("DELETE", &path, &[], Body::empty()).await.status, 202);

    let directory = fixture.stop();
    let record = directory.path().join("repositories/a/_record.jsonl");
    let mut torn = std::fs::read(&record).unwrap();
    torn.extend(b"{\"addBlob\":{\"digest\":\"sha2");
    std::fs::write(&record, torn).unwrap();
    let registry = open(&directory);
    let fixture = Fixture {
        router: registry_service(registry.clone(), Policy::default()),
        directory,
        registry,
    };
    for path in [
        format!("/v2/a/blobs/{pushed}"),
        format!("/v2/b/blobs/{pushed}"),
        "/v2/a/manifests/v1".to_owned(),
    ] {
        assert_eq!(fixture.get(&path).await.status, 200, "{path}");
    }
    assert_eq!(fixture.get(&format!("/v2/a/blobs/{gone}")).await.status, 404);
    fixture.push_blob("a", b"goes on behind the torn line").await;
    let text = std::fs::read_to_string(record).unwrap();
    assert!(
        text.lines()
            .all(|line| serde_json::from_str::<RecordChange>(line).is_ok()),
        "{text}"
    );
}

#[tokio::test]
async fn a_record_that_grew_by_many_changes_shrinks_again() {
    let fixture = mk_fixture();
    let image = small_image("a");
    fixture.push("a", "v1", &image).await;
    for _ in 0..160 {
        for method in ["PUT", "DELETE"] {
            let headers = [("content-type", image.root.media_type.as_str())];
            let answer = fixture
                .send(method, "/v2/a/manifests/v2", &headers, image.root_bytes())
                .await;
            assert!(answer.status < 300, "{answer:?}");
        }
    }
    let record = fixture.directory.path().join("repositories/a/_record.jsonl");
    let lines = std::fs::read_to_string(record).unwrap().lines().count();
    assert!(lines < 280, "{lines}");
    assert_eq!(fixture.get("/v2/a/tags/list").await.json()["tags"], json!(["v1"]));
}
