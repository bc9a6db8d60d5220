//! Listings of repositories, tags and referrers.

use super::*;

#[tokio::test]
async fn lists_come_in_pages() {
    let fixture = mk_fixture();
    let image = small_image("a");
    for tag in ["v1", "v10", "v2", "latest"] {
        fixture.push("a/b", tag, &image).await;
    }
    fixture.push("c", "v1", &image).await;
    assert_eq!(
        fixture.get("/v2/a/b/tags/list").await.json(),
        json!({"name": "a/b", "tags": ["latest", "v1", "v10", "v2"]})
    );
    let page = fixture.get("/v2/a/b/tags/list?n=3").await;
    assert_eq!(page.json()["tags"], json!(["latest", "v1", "v10"]));
    assert_eq!(page.header("link"), "</v2/a/b/tags/list?n=3&last=v10>; rel=\"next\"");
    let rest = fixture.get("/v2/a/b/tags/list?n=3&last=v10").await;
    assert_eq!((rest.json()["tags"].clone(), rest.header("link")), (json!(["v2"]), ""));
    let first = fixture.get("/v2/_catalog?n=1").await;
    assert_eq!(first.json(), json!({"repositories": ["a/b"]}));
    assert_eq!(first.header("link"), "</v2/_catalog?n=1&last=a%2Fb>; rel=\"next\"");
    let next = fixture.get("/v2/_catalog?n=1&last=a%2Fb").await;
    assert_eq!((next.json(), next.header("link")), (json!({"repositories": ["c"]}), ""));
    assert_eq!(
        fixture.get("/v2/_catalog?n=0").await.json(),
        json!({"repositories": []})
    );
    assert_eq!(
        fixture.get("/v2/_catalog?n=x").await.code(),
        "PAGINATION_NUMBER_INVALID"
    );
    assert_eq!(fixture.get("/v2/nobody/tags/list").await.code(), "NAME_UNKNOWN");
}

#[tokio::test]
async fn referrers_of_a_manifest_are_listed_by_kind() {
    let fixture = mk_fixture();
    let image = small_image("a");
    let config = digest_of(b"{}");
    fixture.push_blob("a", b"{}").await;
    let mut pushed = Vec::new();
    for kind in ["application/sbom", "application/signature"] {
        let manifest = json!({
            "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "artifactType": kind,
            "config": Descriptor::new("application/vnd.oci.empty.v1+json", config.clone(), 2),
            "layers": [], "subject": image.root, "annotations": {"made": "today"},
        });
        let bytes = Bytes::from(manifest.to_string());
        let descriptor = Descriptor::new(media_type::OCI_MANIFEST, digest_of(&bytes), bytes.len() as u64);
        let answer = fixture
            .push_manifest("a", descriptor.digest.as_str(), &descriptor, &bytes)
            .await;
        // The subject may be pushed later.
        assert_eq!(
            (answer.status, answer.header("oci-subject")),
            (201, image.root.digest.as_str())
        );
        pushed.push((kind, descriptor));
    }
    let path = format!("/v2/a/referrers/{}", image.root.digest);
    let all = fixture.get(&path).await;
    assert_eq!((all.status, all.header("content-type")), (200, media_type::OCI_INDEX));
    assert_eq!(all.json()["manifests"].as_array().unwrap().len(), 2);
    let (kind, descriptor) = &pushed[1];
    let filtered = fixture.get(&format!("{path}?artifactType={kind}")).await;
    assert_eq!(filtered.header("oci-filters-applied"), "artifactType");
    let listed = &filtered.json()["manifests"];
    assert_eq!(listed.as_array().unwrap().len(), 1);
    assert_eq!(listed[0]["digest"], json!(descriptor.digest));
    assert_eq!(
        (&listed[0]["artifactType"], &listed[0]["annotations"]["made"]),
        (&json!(kind), &json!("today"))
    );
    let nothing = fixture.get(&format!("/v2/nobody/referrers/{config}")).await;
    assert_eq!((nothing.status, nothing.json()["manifests"].clone()), (200, json!([])));
}

#[tokio::test]
async fn a_link_to_the_next_page_is_made_of_checked_parts() {
    let fixture = mk_fixture();
    let image = small_image("a");
    fixture.push("a/b", "v1", &image).await;
    fixture.push("a/b", "v2", &image).await;
    let page = fixture.get("/v2/a%2Fb/tags%2Flist?n=1&x=%3E%0d%0a").await;
    assert_eq!(page.header("link"), "</v2/a/b/tags/list?n=1&last=v1>; rel=\"next\"");
}
