#![expect(clippy::disallowed_methods, reason = "test set-up")]

use axum::body::Body;
use base64::Engine;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::HeaderMap;
use http_body_util::BodyExt;
use landfall_core::oci_types::{Descriptor, media_type};
use landfall_testkit::image_builder::{FixtureBuilder, ImageFixture, digest_of, multi_platform, small_image};
use serde_json::{Value, json};
use tower::ServiceExt;

use std::time::{Duration, SystemTime};

use camino::Utf8Path;
use landfall_core::reference::{Digest, Repository};
use landfall_oci::store::ContentStore;

use super::*;
use crate::repository::record::Change;
use crate::{GRACE, Users, inspect};

struct Fixture {
    directory: tempfile::TempDir,
    registry: Arc<Registry>,
    router: Router,
}

fn mk_fixture() -> Fixture {
    mk_fixture_with(Policy::default())
}

fn mk_fixture_with(policy: Policy) -> Fixture {
    let directory = tempfile::tempdir().unwrap();
    let registry = open(&directory);
    Fixture {
        router: registry_service(registry.clone(), policy),
        directory,
        registry,
    }
}

fn open(directory: &tempfile::TempDir) -> Arc<Registry> {
    let root = Utf8Path::from_path(directory.path()).unwrap();
    let store = ContentStore::open(&root.join("store")).unwrap();
    Arc::new(Registry::open(store, &root.join("repositories")).unwrap())
}

#[derive(Debug)]
struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Bytes,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    fn code(&self) -> String {
        self.json()["errors"][0]["code"].as_str().unwrap().to_owned()
    }
}

impl Fixture {
    async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Answer {
        let mut request = http::Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = self
            .router
            .clone()
            .oneshot(request.body(body.into()).unwrap())
            .await
            .unwrap();
        let (parts, body) = response.into_parts();
        assert_eq!(parts.headers["docker-distribution-api-version"], "registry/2.0");
        Answer {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body: body.collect().await.unwrap().to_bytes(),
        }
    }

    async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], Body::empty()).await
    }

    async fn push_blob(&self, name: &str, bytes: &[u8]) -> Digest {
        let digest = digest_of(bytes);
        let path = format!("/v2/{name}/blobs/uploads/?digest={digest}");
        let answer = self.send("POST", &path, &[], bytes.to_vec()).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        digest
    }

    async fn push_manifest(&self, name: &str, selector: &str, descriptor: &Descriptor, bytes: &Bytes) -> Answer {
        let path = format!("/v2/{name}/manifests/{selector}");
        self.send("PUT", &path, &[("content-type", &descriptor.media_type)], bytes.clone())
            .await
    }

    async fn push(&self, name: &str, tag: &str, image: &ImageFixture) {
        for bytes in image.blobs.values() {
            self.push_blob(name, bytes).await;
        }
        for (descriptor, bytes) in &image.manifests {
            let answer = self
                .push_manifest(name, descriptor.digest.as_str(), descriptor, bytes)
                .await;
            assert_eq!(answer.status, 201, "{answer:?}");
        }
        let answer = self.push_manifest(name, tag, &image.root, &image.root_bytes()).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        assert_eq!(answer.header("docker-content-digest"), image.root.digest.as_str());
    }
}

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
async fn an_upload_in_two_requests_or_in_chunks_ends_in_the_blob() {
    let fixture = mk_fixture();
    let digest = digest_of(b"hello world");
    let start = async || {
        let answer = fixture.send("POST", "/v2/a/blobs/uploads/", &[], Body::empty()).await;
        assert_eq!((answer.status, answer.header("range")), (202, "0-0"));
        answer.header("location").to_owned()
    };
    let finish = async |location: &str, body: &'static str| {
        let path = format!("{location}?digest={digest}");
        let answer = fixture.send("PUT", &path, &[], body).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        assert_eq!(answer.header("location"), format!("/v2/a/blobs/{digest}"));
        assert_eq!(fixture.get(&format!("/v2/a/blobs/{digest}")).await.body, "hello world");
        assert_eq!(fixture.get(location).await.status, 404, "the upload is over");
    };
    let whole = start().await;
    finish(&whole, "hello world").await;

    let chunks = start().await;
    let chunk = [("content-range", "0-5"), ("content-length", "6")];
    let answer = fixture.send("PATCH", &chunks, &chunk, "hello ").await;
    assert_eq!((answer.status, answer.header("range")), (202, "0-5"));
    let status = fixture.get(&chunks).await;
    assert_eq!((status.status, status.header("range")), (204, "0-5"));
    for wrong in ["0-5", "7-9", "nonsense"] {
        let answer = fixture.send("PATCH", &chunks, &[("content-range", wrong)], "x").await;
        assert_eq!((answer.status, answer.header("range")), (416, "0-5"), "{wrong}");
        assert_eq!(answer.header("location"), chunks, "where to go on");
    }
    let lying = [("content-range", "6-10"), ("content-length", "1")];
    assert_eq!(fixture.send("PATCH", &chunks, &lying, "w").await.code(), "SIZE_INVALID");
    finish(&chunks, "world").await;

    let streamed = start().await;
    let body = Body::from_stream(stream::iter(["hello", " ", "world"].map(Ok::<_, std::io::Error>)));
    assert_eq!(fixture.send("PATCH", &streamed, &[], body).await.status, 202);
    finish(&streamed, "").await;
}

#[tokio::test]
async fn an_upload_whose_body_breaks_off_goes_on_from_there() {
    let fixture = mk_fixture();
    let location = fixture.send("POST", "/v2/a/blobs/uploads/", &[], Body::empty()).await;
    let location = location.header("location");
    let broken = stream::iter([Ok("hello"), Err(std::io::Error::other("cut"))]);
    let answer = fixture.send("PATCH", location, &[], Body::from_stream(broken)).await;
    assert_eq!((answer.status, answer.code()), (400, "BLOB_UPLOAD_INVALID".to_owned()));
    assert_eq!(fixture.get(location).await.header("range"), "0-4");
    let answer = fixture
        .send("PATCH", location, &[("content-range", "5-10")], " world")
        .await;
    assert_eq!(answer.header("range"), "0-10");
    let path = format!("{location}?digest={}", digest_of(b"hello world"));
    assert_eq!(fixture.send("PUT", &path, &[], Body::empty()).await.status, 201);
}

#[tokio::test]
async fn whoever_asks_how_far_an_upload_got_waits_for_the_request_that_is_at_it() {
    let fixture = mk_fixture();
    let location = fixture.send("POST", "/v2/a/blobs/uploads/", &[], Body::empty()).await;
    let location = location.header("location");
    let (sender, body) = tokio::sync::mpsc::channel(1);
    let body = stream::unfold(body, async |mut body| Some((body.recv().await?, body)));
    let sending = fixture.send("PATCH", location, &[], Body::from_stream(body));
    let asking = async {
        sender.send(Ok("hello")).await.unwrap();
        let patient = fixture.get(location);
        let hang_up = async { sender.send(Err(std::io::Error::other("cut"))).await.unwrap() };
        tokio::join!(patient, hang_up).0
    };
    let (sent, answer) = tokio::join!(sending, asking);
    assert_eq!((sent.status, answer.header("range")), (400, "0-4"));
}

#[tokio::test]
async fn a_request_that_is_dropped_leaves_what_arrived_in_its_upload() {
    let fixture = mk_fixture();
    // In memory, and on the way to the disk.
    for headers in [[("content-length", "11")].as_slice(), &[]] {
        for method in ["PATCH", "PUT"] {
            let location = fixture.send("POST", "/v2/a/blobs/uploads/", &[], Body::empty()).await;
            let location = location.header("location");
            let last = format!("{location}?digest={}", digest_of(b"hello world"));
            let (sender, body) = tokio::sync::mpsc::channel(1);
            let body = stream::unfold(body, async |mut body| Some((body.recv().await?, body)));
            let body = Body::from_stream(body.map(Ok::<_, std::io::Error>));
            let path = if method == "PUT" { &last } else { location };
            let sending = fixture.send(method, path, headers, body);
            let all_is_taken = async {
                sender.send("hello").await.unwrap();
                drop(sender.reserve().await.unwrap());
            };
            tokio::select! {
                answer = sending => panic!("{answer:?} to half a body"),
                () = all_is_taken => {}
            }
            assert_eq!(
                fixture.get(location).await.header("range"),
                "0-4",
                "{method} {headers:?}"
            );
            assert_eq!(fixture.send("PUT", &last, &[], " world").await.status, 201);
        }
    }
}

#[tokio::test]
async fn a_request_that_crawls_is_ended_by_the_next_one_which_learns_where_to_go_on() {
    let fixture = mk_fixture();
    let last = |location: &str| format!("{location}?digest={}", digest_of(b"hello world"));
    // In memory, and on the way to the disk; with and without a word on where the next one begins.
    for headers in [[("content-length", "11")].as_slice(), &[]] {
        for begins in [[("content-range", "0-10")].as_slice(), &[]] {
            for method in ["PATCH", "PUT"] {
                let location = fixture.send("POST", "/v2/a/blobs/uploads/", &[], Body::empty()).await;
                let location = location.header("location");
                let (sender, body) = tokio::sync::mpsc::channel(1);
                let body = stream::unfold(body, async |mut body| Some((body.recv().await?, body)));
                let body = Body::from_stream(body.map(Ok::<_, std::io::Error>));
                let path = if method == "PUT" { &last(location) } else { location };
                let crawling = fixture.send(method, path, headers, body);
                let next = async {
                    // The end of this is the end of the body.
                    let sender = sender;
                    sender.send("hello").await.unwrap();
                    drop(sender.reserve().await.unwrap());
                    let refused = fixture.send("PUT", &last(location), begins, "hello world").await;
                    assert_eq!((refused.status, refused.header("range")), (416, "0-4"));
                    fixture
                        .send("PUT", &last(location), &[("content-range", "5-10")], " world")
                        .await
                };
                let (ended, finished) = tokio::join!(crawling, next);
                assert_eq!(
                    (ended.status, finished.status),
                    (400, 201),
                    "{method} {headers:?} {begins:?}"
                );
            }
        }
    }
}

#[tokio::test]
async fn uploads_that_go_wrong_say_how_and_leave_nothing() {
    let fixture = mk_fixture();
    let location = fixture.send("POST", "/v2/a/blobs/uploads/", &[], Body::empty()).await;
    let location = location.header("location");
    let put = |digest: &str| format!("{location}?digest={digest}");
    assert_eq!(fixture.send("PUT", location, &[], "x").await.code(), "DIGEST_INVALID");
    assert_eq!(
        fixture.send("PUT", &put("sha256:x"), &[], "x").await.code(),
        "DIGEST_INVALID"
    );
    assert_eq!(
        fixture.get(&location.replace("/a/", "/b/")).await.code(),
        "BLOB_UPLOAD_UNKNOWN"
    );
    let other = digest_of(b"y");
    assert_eq!(
        fixture.send("PUT", &put(other.as_str()), &[], "x").await.code(),
        "DIGEST_INVALID"
    );
    assert_eq!(
        fixture.get(location).await.code(),
        "BLOB_UPLOAD_UNKNOWN",
        "a wrong digest ends the upload"
    );
    let answer = fixture
        .send("POST", &format!("/v2/a/blobs/uploads/?digest={other}"), &[], "x")
        .await;
    assert_eq!((answer.status, answer.code()), (400, "DIGEST_INVALID".to_owned()));
    let cancelled = fixture.send("POST", "/v2/a/blobs/uploads/", &[], Body::empty()).await;
    let cancelled = cancelled.header("location");
    assert_eq!(fixture.send("DELETE", cancelled, &[], Body::empty()).await.status, 204);
    assert_eq!(fixture.get(cancelled).await.status, 404);
    let ingest = fixture.directory.path().join("store/ingest");
    assert_eq!(std::fs::read_dir(ingest).unwrap().count(), 0);
}

#[tokio::test]
async fn a_blob_is_mounted_from_another_repository_or_from_the_store() {
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
    let own = Descriptor::new("", digest_of(b"the agent's"), 11);
    fixture.registry.store.write_blob_bytes(&own, b"the agent's").unwrap();
    let path = format!("/v2/e/blobs/uploads/?mount={}", own.digest);
    assert_eq!(fixture.send("POST", &path, &[], Body::empty()).await.status, 201);
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
        // The subject may come later.
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
async fn repositories_outlive_a_restart_and_a_damaged_record_loses_no_blob() {
    let fixture = mk_fixture();
    let image = small_image("a");
    fixture.push("a/b", "v1", &image).await;
    fixture.push("c", "v1", &image).await;
    let Fixture {
        directory,
        registry,
        router,
    } = fixture;
    drop((registry, router));
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

#[tokio::test(start_paused = true)]
async fn collection_keeps_what_repositories_hold_and_what_was_just_pushed() {
    let fixture = mk_fixture();
    let image = small_image("a");
    fixture.push("a", "v1", &image).await;
    let loose = fixture.push_blob("a", b"waits for its manifest").await;
    let path = format!("/v2/a/blobs/{loose}");
    let gc = |grace: Duration| fixture.registry.gc(grace, SystemTime::now()).unwrap().deleted;
    assert_eq!(gc(GRACE), 0);
    assert_eq!(fixture.send("HEAD", &path, &[], Body::empty()).await.status, 200);
    assert_eq!(gc(Duration::ZERO), 0, "a client was told that it is here");
    tokio::time::advance(GRACE).await;
    assert_eq!(gc(Duration::ZERO), 1, "nobody came for the loose one");
    assert_eq!(fixture.get(&path).await.status, 404);
    assert!(fixture.registry.store.is_complete(&image.root.digest).unwrap());
    let manifest = format!("/v2/a/manifests/{}", image.root.digest);
    assert_eq!(fixture.send("DELETE", &manifest, &[], Body::empty()).await.status, 202);
    assert_eq!(gc(Duration::ZERO), 3);
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

    let Fixture {
        directory,
        registry,
        router,
    } = fixture;
    drop((registry, router));
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
        text.lines().all(|line| serde_json::from_str::<Change>(line).is_ok()),
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
async fn a_full_disk_refuses_uploads_and_goes_on_serving() {
    let fixture = mk_fixture();
    let image = small_image("a");
    fixture.push("a", "v1", &image).await;
    let Fixture {
        directory,
        registry,
        router,
    } = fixture;
    drop((registry, router));
    let root = Utf8Path::from_path(directory.path()).unwrap();
    let store = ContentStore::open(&root.join("store")).unwrap();
    let registry = Registry::open(store, &root.join("repositories")).unwrap();
    // No disk has that much room for one upload.
    let huge = u64::MAX.to_string();
    let registry = Arc::new(registry);
    let fixture = Fixture {
        router: registry_service(registry.clone(), Policy::default()),
        directory,
        registry,
    };
    let path = format!("/v2/a/blobs/uploads/?digest={}", digest_of(b"x"));
    let answer = fixture.send("POST", &path, &[("content-length", &huge)], "x").await;
    assert_eq!((answer.status, answer.code()), (507, "UNKNOWN".to_owned()));
    let message = answer.json()["errors"][0]["message"].to_string();
    assert!(message.contains("landfall registry gc"), "{message}");
    assert_eq!(fixture.get("/v2/a/manifests/v1").await.status, 200);
    assert_eq!(
        fixture.send("POST", &path, &[], "x").await.status,
        201,
        "there is room for this one"
    );
}

fn basic(user: &str, password: &str) -> String {
    let encoded = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
    format!("Basic {encoded}")
}

#[tokio::test]
async fn only_users_get_in_and_reading_may_be_open_to_all() {
    let hash = bcrypt::hash("canary", 4).unwrap();
    let htpasswd = || Users::parse_htpasswd(&format!("# users\n\nother:{hash}\nedge:{hash}\n")).unwrap();
    let user = || Users::User {
        name: "edge".to_owned(),
        password: "canary".into(),
    };
    for login in [htpasswd(), user()] {
        for anonymous_pull in [false, true] {
            let policy = Policy {
                login: Some(login.clone()),
                anonymous_pull,
                read_only: false,
                ..Policy::default()
            };
            assert!(!format!("{policy:?}").contains("canary"));
            let fixture = mk_fixture_with(policy);
            let good = basic("edge", "canary");
            for (method, path, authorization, status) in [
                ("GET", "/v2/", None, 401),
                ("GET", "/v2/", Some(basic("edge", "wrong")), 401),
                ("GET", "/v2/", Some(basic("nobody", "canary")), 401),
                ("GET", "/v2/", Some("Basic !!!".to_owned()), 401),
                ("GET", "/v2/", Some("Bearer x".to_owned()), 401),
                ("GET", "/v2/", Some(good.clone()), 200),
                ("GET", "/v2/_catalog", None, if anonymous_pull { 200 } else { 401 }),
                (
                    "GET",
                    "/v2/_catalog",
                    Some(basic("", "")),
                    if anonymous_pull { 200 } else { 401 },
                ),
                ("GET", "/v2/_catalog", Some(basic("edge", "wrong")), 401),
                ("POST", "/v2/a/blobs/uploads/", Some(basic("", "")), 401),
                ("POST", "/v2/a/blobs/uploads/", None, 401),
                ("POST", "/v2/a/blobs/uploads/", Some(good.clone()), 202),
                ("POST", "/v2/a/blobs/uploads/", Some(good.clone()), 202),
            ] {
                let headers: Vec<(&str, &str)> = authorization
                    .iter()
                    .map(|value| ("authorization", value.as_str()))
                    .collect();
                let answer = fixture.send(method, path, &headers, Body::empty()).await;
                assert_eq!(answer.status, status, "{method} {path} {authorization:?}");
                if status == 401 {
                    assert_eq!(answer.code(), "UNAUTHORIZED");
                    assert_eq!(
                        answer.header("www-authenticate"),
                        "Basic realm=\"landfall\", charset=\"UTF-8\""
                    );
                }
            }
        }
    }
}

#[test]
fn an_htpasswd_line_that_cannot_be_used_is_named_and_not_shown() {
    for text in ["edge:$apr1$x$canary", "edge", "a:$2y$05$x\n:$2y$05$canary"] {
        let error = Users::parse_htpasswd(text).unwrap_err();
        assert_eq!(error.line, text.lines().count());
        assert!(!format!("{error} {error:?}").contains("canary"));
    }
}

#[tokio::test]
async fn a_read_only_registry_changes_nothing_and_other_methods_are_not_known() {
    let fixture = mk_fixture_with(Policy {
        read_only: true,
        ..Policy::default()
    });
    let answer = fixture.send("POST", "/v2/a/blobs/uploads/", &[], Body::empty()).await;
    assert_eq!((answer.status, answer.code()), (403, "DENIED".to_owned()));
    assert_eq!(fixture.get("/v2/_catalog").await.status, 200);
    let answer = mk_fixture().send("PATCH", "/v2/_catalog", &[], Body::empty()).await;
    assert_eq!((answer.status, answer.code()), (405, "UNSUPPORTED".to_owned()));
}

#[tokio::test]
async fn logins_are_replaced_while_the_registry_is_served_and_guesses_are_slowed_down() {
    let line = |password: &str| format!("edge:{}", bcrypt::hash(password, 4).unwrap());
    let users = Users::parse_htpasswd(&line("old")).unwrap();
    let fixture = mk_fixture_with(Policy {
        login: Some(users.clone()),
        ..Policy::default()
    });
    let ping = async |password: &str| {
        let authorization = basic("edge", password);
        let answer = fixture
            .send("GET", "/v2/", &[("authorization", &authorization)], Body::empty())
            .await;
        (answer.status, answer.header("retry-after").to_owned())
    };
    assert_eq!(ping("old").await.0, 200);
    users.replace(&line("new")).unwrap();
    users.replace("edge:plain").unwrap_err();
    assert_eq!((ping("old").await.0, ping("new").await.0), (401, 200));
    for guess in 0..19 {
        assert_eq!(ping(&format!("guess {guess}")).await.0, 401);
    }
    assert_eq!(ping("guess 0").await.0, 401, "the same once more costs nothing");
    let (status, wait) = ping("guess 20").await;
    assert!(
        status == 429 && (1..=60).contains(&wait.parse::<u64>().unwrap()),
        "{status} {wait}"
    );
    assert_eq!(ping("new").await.0, 200, "who is known goes on");
}

#[tokio::test]
async fn metrics_are_served_to_whoever_may_pull_and_where_they_are_asked_for() {
    let login = Some(Users::User {
        name: "edge".to_owned(),
        password: "canary".to_owned().into(),
    });
    assert_eq!(mk_fixture().get("/metrics").await.status, 404);
    let fixture = mk_fixture_with(Policy {
        login,
        metrics: true,
        ..Policy::default()
    });
    assert_eq!(fixture.get("/metrics").await.status, 401);
    let authorization = [("authorization", basic("edge", "canary"))];
    let headers: Vec<(&str, &str)> = authorization
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    assert_eq!(fixture.send("GET", "/v2/", &headers, Body::empty()).await.status, 200);
    let answer = fixture.send("GET", "/metrics", &headers, Body::empty()).await;
    let text = String::from_utf8(answer.body.to_vec()).unwrap();
    for line in [
        "landfall_registry_requests_total{method=\"GET\",content=\"ping\",status=\"200\"} 1",
        "landfall_registry_requests_under_way 1",
    ] {
        assert!(text.lines().any(|shown| shown == line), "{line} is not in\n{text}");
    }
}

#[tokio::test]
async fn more_requests_than_are_allowed_at_once_are_asked_to_come_again() {
    let fixture = mk_fixture_with(Policy {
        requests_max: Some(0),
        ..Policy::default()
    });
    let answer = fixture.get("/v2/").await;
    assert_eq!((answer.status, answer.code()), (429, "TOOMANYREQUESTS".to_owned()));
    assert_eq!(answer.header("retry-after"), "1");
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
