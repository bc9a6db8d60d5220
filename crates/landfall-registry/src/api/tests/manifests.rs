//! Push and pull of manifests.

use super::*;

#[tokio::test]
async fn what_was_pushed_is_pulled_byte_for_byte() {
    let fixture = mk_fixture();
    let image = multi_platform(&[
        small_image("a"),
        FixtureBuilder::new().platform("linux", "arm64").build(),
    ]);
    fixture.push("spectro-images/a/b", "v1", &image).await;
    assert_eq!(fixture.get("/v2/").await.status, 200);
    for selector in ["v1", image.root.digest.as_str()] {
        let path = format!("/v2/spectro-images/a/b/manifests/{selector}");
        let answer = fixture.get(&path).await;
        assert_eq!(
            (answer.status, answer.header("content-type")),
            (200, media_type::OCI_INDEX)
        );
        assert_eq!(answer.body, image.root_bytes());
        let head = fixture.send("HEAD", &path, &[], Body::empty()).await;
        assert_eq!(head.header("content-length"), image.root.size.to_string());
        assert_eq!(head.header("docker-content-digest"), image.root.digest.as_str());
        assert!(head.body.is_empty());
    }
    for (digest, bytes) in &image.blobs {
        let answer = fixture.get(&format!("/v2/spectro-images/a/b/blobs/{digest}")).await;
        assert_eq!((answer.status, &answer.body), (200, bytes));
        assert_eq!(answer.header("content-length"), bytes.len().to_string());
    }
}

#[tokio::test]
async fn a_manifest_is_refused_for_what_is_wrong_with_it() {
    let fixture = mk_fixture();
    let image = small_image("a");
    let put = async |selector: &str, content_type: &str, body: Vec<u8>| {
        let path = format!("/v2/a/manifests/{selector}");
        let answer = fixture
            .send("PUT", &path, &[("content-type", content_type)], body)
            .await;
        (answer.status, answer.code())
    };
    let bytes = image.root_bytes().to_vec();
    let expect = |status: u16, code: &str| (status, code.to_owned());
    let oci = media_type::OCI_MANIFEST;
    assert_eq!(
        put("v1", oci, bytes.clone()).await,
        expect(400, "MANIFEST_BLOB_UNKNOWN")
    );
    for blob in image.blobs.values() {
        fixture.push_blob("other", blob).await;
    }
    assert_eq!(
        put("v1", oci, bytes.clone()).await,
        expect(400, "MANIFEST_BLOB_UNKNOWN"),
        "another repository's"
    );
    for blob in image.blobs.values() {
        fixture.push_blob("a", blob).await;
    }
    assert_eq!(put("v1", oci, b"{".to_vec()).await, expect(400, "MANIFEST_INVALID"));
    assert_eq!(
        put("v1", media_type::OCI_INDEX, bytes.clone()).await,
        expect(400, "MANIFEST_INVALID")
    );
    assert_eq!(put("-v1", oci, bytes.clone()).await, expect(400, "TAG_INVALID"));
    assert_eq!(
        put(digest_of(b"x").as_str(), oci, bytes.clone()).await,
        expect(400, "DIGEST_INVALID")
    );
    assert_eq!(
        put("v1", oci, vec![b' '; (4 << 20) + 1]).await,
        expect(413, "SIZE_INVALID")
    );
    let mut lying: Value = serde_json::from_slice(&bytes).unwrap();
    lying["config"]["size"] = json!(1);
    assert_eq!(
        put("v1", oci, lying.to_string().into_bytes()).await,
        expect(400, "MANIFEST_BLOB_UNKNOWN")
    );
    assert_eq!(
        fixture.get("/v2/a/tags/list").await.code(),
        "NAME_UNKNOWN",
        "nothing was kept"
    );
}

#[tokio::test]
async fn an_index_may_name_manifests_that_are_not_here_and_an_image_lack_layers_where_that_is_allowed() {
    let sparse = multi_platform(&[
        small_image("a"),
        FixtureBuilder::new().platform("linux", "arm64").build(),
    ]);
    let fixture = mk_fixture();
    let answer = fixture
        .push_manifest("a", "v1", &sparse.root, &sparse.root_bytes())
        .await;
    assert_eq!(answer.status, 201, "{answer:?}");
    let image = small_image("a");
    for (incomplete_images, status) in [(false, 400), (true, 201)] {
        let fixture = mk_fixture_with(Policy {
            incomplete_images,
            ..Policy::default()
        });
        let answer = fixture.push_manifest("a", "v1", &image.root, &image.root_bytes()).await;
        assert_eq!(answer.status, status, "{answer:?}");
    }
}

#[tokio::test]
async fn a_manifest_that_is_put_by_digest_takes_tags_along() {
    let fixture = mk_fixture();
    let image = small_image("a");
    fixture.push("a", "v1", &image).await;
    let selector = format!("{}?tag=v2&tag=v3", image.root.digest);
    let answer = fixture
        .push_manifest("a", &selector, &image.root, &image.root_bytes())
        .await;
    let tags: Vec<_> = answer.headers.get_all("oci-tag").iter().collect();
    assert_eq!((answer.status, tags.len()), (201, 2));
    assert!(tags[0] == "v2" && tags[1] == "v3", "{tags:?}");
    assert_eq!(
        fixture.get("/v2/a/tags/list").await.json()["tags"],
        json!(["v1", "v2", "v3"])
    );
    for (query, status, code) in [
        ("tag=-bad".to_owned(), 400, "TAG_INVALID"),
        (vec!["tag=x"; 65].join("&"), 414, "TAG_INVALID"),
    ] {
        let selector = format!("{}?{query}", image.root.digest);
        let answer = fixture
            .push_manifest("a", &selector, &image.root, &image.root_bytes())
            .await;
        assert_eq!((answer.status, answer.code().as_str()), (status, code));
    }
}

#[tokio::test]
async fn a_media_type_that_cannot_be_served_is_refused_and_an_old_one_is_not_served() {
    let fixture = mk_fixture();
    fixture.push_blob("old", b"{}").await;
    let config = fixture.push_blob("a", b"{}").await;
    let mk_manifest = |own: &str| {
        let config = json!({"mediaType": "application/x", "digest": config, "size": 2});
        json!({"schemaVersion": 2, "mediaType": own, "config": config, "layers": []}).to_string()
    };
    for own in [
        "a\nb",
        "a\0b",
        "\u{7f}",
        "\tx",
        "é",
        "",
        " ",
        "text/html",
        "image/svg+xml",
        "application/x\r\nX-Evil: 1",
        &"x".repeat(70_000),
    ] {
        let answer = fixture.send("PUT", "/v2/a/manifests/x", &[], mk_manifest(own)).await;
        assert_eq!(
            (answer.status, answer.code()),
            (400, "MANIFEST_INVALID".to_owned()),
            "{own:.30?}"
        );
        // An older release has taken it.
        let bytes = Bytes::from(mk_manifest(own));
        let digest = digest_of(&bytes);
        let content = landfall_core::oci_types::parse_manifest(&bytes).unwrap();
        let blob = Descriptor::new("", digest.clone(), bytes.len() as u64);
        fixture.registry.store.write_blob_bytes(&blob, &bytes).unwrap();
        let entry = crate::repository::record::ManifestEntry::new(own.to_owned(), blob.size, &content);
        let name: Repository = "old".parse().unwrap();
        let add = RecordChange::AddManifest {
            digest: digest.clone(),
            entry,
        };
        fixture.registry.records.change(&name, |_| (vec![add], ())).unwrap();
        for method in ["GET", "HEAD"] {
            let answer = fixture
                .send(method, &format!("/v2/old/manifests/{digest}"), &[], Body::empty())
                .await;
            assert_eq!(
                (answer.status, answer.header("content-type")),
                (200, "application/octet-stream"),
                "{own:.30?}"
            );
        }
    }
    for (stated, status) in [
        (None, 201),
        (Some("application/json"), 400),
        (Some("nothing"), 400),
        (Some(""), 400),
        (Some("application/vnd.docker.distribution.manifest.v2+json"), 400),
    ] {
        let headers: Vec<(&str, &str)> = stated.iter().map(|stated| ("content-type", *stated)).collect();
        let body = mk_manifest(media_type::OCI_MANIFEST);
        let answer = fixture.send("PUT", "/v2/a/manifests/x", &headers, body).await;
        assert_eq!(answer.status, status, "{stated:?}");
    }
}
