//! Ranges and mounts of blobs.

use super::*;

#[tokio::test]
async fn a_part_of_a_blob_can_be_asked_for() {
    let fixture = mk_fixture();
    let digest = fixture.push_blob("a", b"0123456789").await;
    let path = format!("/v2/a/blobs/{digest}");
    for (range, status, body, content_range) in [
        ("bytes=2-4", 206, "234", "bytes 2-4/10"),
        ("bytes=7-", 206, "789", "bytes 7-9/10"),
        ("bytes=-3", 206, "789", "bytes 7-9/10"),
        ("bytes=0-99", 206, "0123456789", "bytes 0-9/10"),
    ] {
        let answer = fixture.send("GET", &path, &[("range", range)], Body::empty()).await;
        assert_eq!(
            (answer.status, answer.header("content-range")),
            (status, content_range),
            "{range}"
        );
        assert_eq!(answer.body, body, "{range}");
        let head = fixture.send("HEAD", &path, &[("range", range)], Body::empty()).await;
        assert_eq!(head.header("content-length"), body.len().to_string());
    }
    for range in ["bytes=10-", "bytes=4-2"] {
        let answer = fixture.send("GET", &path, &[("range", range)], Body::empty()).await;
        assert_eq!((answer.status, answer.header("content-range")), (416, "bytes */10"));
    }
    let etag = format!("\"{digest}\"");
    let answer = fixture
        .send("GET", &path, &[("if-none-match", &etag)], Body::empty())
        .await;
    assert_eq!((answer.status, answer.header("etag")), (304, etag.as_str()));
    let other = [("range", "bytes=2-4"), ("if-range", "\"sha256:other\"")];
    assert_eq!(fixture.send("GET", &path, &other, Body::empty()).await.status, 200);
}

#[tokio::test]
async fn a_blob_is_mounted_from_another_repository() {
    let fixture = mk_fixture();
    let digest = fixture.push_blob("a", b"shared").await;
    assert_eq!(
        fixture.get(&format!("/v2/b/blobs/{digest}")).await.code(),
        "BLOB_UNKNOWN"
    );
    for (name, query, status) in [
        ("b", format!("mount={digest}&from=a"), 201),
        ("c", format!("mount={digest}"), 201),
        ("d", format!("mount={digest}&from=nobody"), 202),
        ("d", format!("mount={}", digest_of(b"nobody has it")), 202),
    ] {
        let answer = fixture
            .send(
                "POST",
                &format!("/v2/{name}/blobs/uploads/?{query}"),
                &[],
                Body::empty(),
            )
            .await;
        assert_eq!(answer.status, status, "{query}");
    }
    assert_eq!(fixture.get(&format!("/v2/b/blobs/{digest}")).await.body, "shared");
    assert_eq!(fixture.get(&format!("/v2/d/blobs/{digest}")).await.status, 404);
}
