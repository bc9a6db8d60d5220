//! Images out of a place: alone, half and half with the store, and through a push.

use landfall_oci::content::names::plain_names;
use landfall_oci::content::place::Place;
use landfall_oci::header_names::IN_PLACE;
use landfall_testkit::fake_content::FakeContent;

use super::*;

/// Name of the image in the place, and the repository that the server gives it.
const NAME: &str = "reg.example/shop/till:1";
const TILL: &str = "shop/till";

async fn add_place(fixture: &Fixture, images: &[(&str, &ImageFixture)]) -> (Arc<FakeContent>, Arc<Place>) {
    let content = Arc::new(FakeContent::new(images));
    let place = Place::open(content.clone(), |image| vec![image.repository.clone()]).await;
    fixture.registry.add_place(&place).unwrap();
    (content, place)
}

fn is_marked(answer: &Answer) -> bool {
    answer.headers.contains_key(IN_PLACE)
}

/// Pulls an image as a runtime does: the manifest by tag, then by digest, then each blob. Returns false if any is
/// missing.
async fn pull(fixture: &Fixture, name: &str, tag: &str, image: &ImageFixture) -> bool {
    let mut wanted = vec![(format!("/v2/{name}/manifests/{tag}"), image.root_bytes())];
    let path = |kind: &str, digest: &Digest| format!("/v2/{name}/{kind}/{digest}");
    wanted.extend(
        image
            .manifests
            .iter()
            .map(|(manifest, bytes)| (path("manifests", &manifest.digest), bytes.clone())),
    );
    wanted.extend(
        image
            .blobs
            .iter()
            .map(|(digest, bytes)| (path("blobs", digest), bytes.clone())),
    );
    for (path, bytes) in wanted {
        let head = fixture.send("HEAD", &path, &[], Body::empty()).await;
        let answer = fixture.get(&path).await;
        assert_eq!(head.status, answer.status, "{path}");
        if answer.status != 200 {
            assert_eq!(answer.status, 404, "{path}");
            return false;
        }
        assert_eq!(answer.body, bytes, "{path}");
        assert_eq!(head.header("content-length"), bytes.len().to_string(), "{path}");
        assert_eq!(
            head.header("docker-content-digest"),
            answer.header("docker-content-digest")
        );
        assert_eq!(
            (head.headers.get("etag"), is_marked(&head)),
            (answer.headers.get("etag"), is_marked(&answer))
        );
    }
    true
}

#[tokio::test]
async fn an_image_of_a_place_is_pulled_until_the_place_is_gone() {
    let fixture = mk_fixture();
    let arm64 = FixtureBuilder::new().platform("linux", "arm64").build();
    let index = multi_platform(&[small_image("a"), arm64]);
    assert!(!pull(&fixture, TILL, "1", &index).await);
    let (_, place) = add_place(&fixture, &[(NAME, &index)]).await;
    let mut reads = fixture.registry.places().watch_reads();
    assert!(pull(&fixture, TILL, "1", &index).await);
    assert_eq!(
        reads.recv().await.unwrap(),
        index.root.digest,
        "the first thing that was asked for"
    );
    let till: Repository = TILL.parse().unwrap();
    assert!(fixture.registry.can_serve(&till, "1").unwrap());
    assert_eq!(
        fixture.get(&format!("/v2/{TILL}/tags/list")).await.json()["tags"],
        json!(["1"])
    );
    assert_eq!(fixture.get("/v2/_catalog").await.json()["repositories"], json!([TILL]));
    for path in ["other/manifests/1", "shop/till/manifests/2", "shop/till/manifests/a:b"] {
        assert_eq!(fixture.get(&format!("/v2/{path}")).await.status, 404, "{path}");
    }
    let mut losses = fixture.registry.watch_losses();
    fixture.registry.remove_place(&place);
    assert!(losses.has_changed().unwrap() && *losses.borrow_and_update() == 1);
    assert!(!pull(&fixture, TILL, "1", &index).await);
    assert!(!fixture.registry.can_serve(&till, "1").unwrap());
    assert_eq!(fixture.get(&format!("/v2/{TILL}/tags/list")).await.status, 404);
}

#[tokio::test]
async fn a_part_of_a_blob_comes_out_of_a_place() {
    let fixture = mk_fixture();
    let image = small_image("a");
    add_place(&fixture, &[(NAME, &image)]).await;
    let (digest, bytes) = image.blobs.iter().max_by_key(|(_, bytes)| bytes.len()).unwrap();
    let path = format!("/v2/{TILL}/blobs/{digest}");
    for (range, status, expected) in [
        ("bytes=2-5", 206, &bytes[2..6]),
        ("bytes=7-", 206, &bytes[7..]),
        ("bytes=-3", 206, &bytes[bytes.len() - 3..]),
        ("bytes=0-", 206, &bytes[..]),
    ] {
        let answer = fixture.send("GET", &path, &[("range", range)], Body::empty()).await;
        assert_eq!((answer.status, &answer.body[..]), (status, expected), "{range}");
        let total = format!("/{}", bytes.len());
        assert!(answer.header("content-range").ends_with(&total), "{range}");
    }
    let outside = format!("bytes={}-", bytes.len());
    let answer = fixture.send("GET", &path, &[("range", &outside)], Body::empty()).await;
    assert_eq!(answer.status, 416);
    let known = format!("\"{digest}\"");
    let answer = fixture
        .send("GET", &path, &[("if-none-match", &known)], Body::empty())
        .await;
    assert_eq!(answer.status, 304);
}

#[tokio::test]
async fn store_and_place_make_one_image() {
    let fixture = mk_fixture();
    let image = FixtureBuilder::new()
        .gzip_layer(&[("a", b"a")])
        .gzip_layer(&[("b", b"b")])
        .build();
    fixture.push(TILL, "1", &image).await;
    let lost = image.blobs.keys().next().unwrap();
    std::fs::remove_file(fixture.registry.store.root().join("blobs/sha256").join(lost.hex())).unwrap();
    let till: Repository = TILL.parse().unwrap();
    assert!(!fixture.registry.can_serve(&till, "1").unwrap());
    assert!(!pull(&fixture, TILL, "1", &image).await);
    let (content, place) = add_place(&fixture, &[(NAME, &image)]).await;
    // The place has one blob, and the rest comes from the store.
    for digest in image
        .all_content()
        .map(|(digest, _)| digest)
        .filter(|digest| *digest != lost)
    {
        content.leave_out(digest);
    }
    assert!(fixture.registry.can_serve(&till, "1").unwrap());
    assert!(pull(&fixture, TILL, "1", &image).await);
    let head = fixture
        .send("HEAD", &format!("/v2/{TILL}/manifests/1"), &[], Body::empty())
        .await;
    assert!(is_marked(&head), "a push has to repair it");
    let own = image.blobs.keys().nth(1).unwrap();
    let head = fixture
        .send("HEAD", &format!("/v2/{TILL}/blobs/{own}"), &[], Body::empty())
        .await;
    assert!(!is_marked(&head));
    fixture.registry.remove_place(&place);
    assert!(!fixture.registry.can_serve(&till, "1").unwrap());
    assert!(!pull(&fixture, TILL, "1", &image).await);
}

#[tokio::test]
async fn a_delta_counts_on_blobs_of_another_repository() {
    let fixture = mk_fixture();
    let image = small_image("a");
    fixture.push("elsewhere", "1", &image).await;
    let (content, _) = add_place(&fixture, &[(NAME, &image)]).await;
    for digest in image.blobs.keys() {
        content.leave_out(digest);
    }
    assert!(pull(&fixture, TILL, "1", &image).await);
    let foreign = fixture.push_blob("elsewhere", b"no part of the image").await;
    assert_eq!(fixture.head(&format!("/v2/{TILL}/blobs/{foreign}")).await, 404);
}

#[tokio::test]
async fn an_image_is_not_served_while_content_of_it_is_nowhere() {
    let fixture = mk_fixture();
    let image = small_image("a");
    let (content, _) = add_place(&fixture, &[(NAME, &image)]).await;
    content.leave_out(image.blobs.keys().next().unwrap());
    assert!(!pull(&fixture, TILL, "1", &image).await);
    assert!(!fixture.registry.can_serve(&TILL.parse().unwrap(), "1").unwrap());
}

#[tokio::test]
async fn the_store_wins() {
    let fixture = mk_fixture();
    let (mine, other) = (small_image("mine"), small_image("other"));
    fixture.push(TILL, "1", &mine).await;
    add_place(&fixture, &[(NAME, &other), ("reg.example/shop/till:2", &other)]).await;
    assert!(pull(&fixture, TILL, "1", &mine).await && pull(&fixture, TILL, "2", &other).await);
    let answer = fixture.get(&format!("/v2/{TILL}/manifests/1")).await;
    assert!(!is_marked(&answer));
    assert_eq!(
        fixture.get(&format!("/v2/{TILL}/tags/list")).await.json()["tags"],
        json!(["1", "2"])
    );
    let reads = fixture.registry.places().reads();
    pull(&fixture, TILL, "1", &mine).await;
    assert_eq!(fixture.registry.places().reads(), reads, "the place was not asked");
}

#[tokio::test]
async fn wrong_bytes_of_a_place_reach_no_client() {
    let fixture = mk_fixture();
    let image = small_image("a");
    let (content, _) = add_place(&fixture, &[(NAME, &image)]).await;
    let digest = image.blobs.keys().next().unwrap();
    content.damage(digest);
    let path = format!("/v2/{TILL}/blobs/{digest}");
    assert_eq!(fixture.get(&path).await.status, 404);
    assert_eq!(fixture.head(&path).await, 404);
    assert!(!fixture.registry.can_serve(&TILL.parse().unwrap(), "1").unwrap());
}

#[tokio::test]
async fn a_push_that_relies_on_a_place_outlives_it() {
    let fixture = mk_fixture();
    let image = small_image("a");
    let (_, place) = add_place(&fixture, &[(NAME, &image)]).await;
    // The client was told of each blob, so that it sends the manifest alone.
    for digest in image.blobs.keys() {
        assert_eq!(fixture.head(&format!("/v2/{TILL}/blobs/{digest}")).await, 200);
    }
    let answer = fixture.push_manifest(TILL, "1", &image.root, &image.root_bytes()).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    fixture.registry.remove_place(&place);
    assert!(pull(&fixture, TILL, "1", &image).await);
    assert!(fixture.registry.can_serve(&TILL.parse().unwrap(), "1").unwrap());
    assert_eq!(fixture.registry.places().reads(), 0, "a push is no pull");
}

#[tokio::test]
async fn a_push_that_relies_on_a_pulled_stick_is_told_which_blob_is_missing() {
    let fixture = mk_fixture();
    let image = small_image("a");
    let (content, _) = add_place(&fixture, &[(NAME, &image)]).await;
    content.pull();
    let answer = fixture.push_manifest(TILL, "1", &image.root, &image.root_bytes()).await;
    assert_eq!(
        (answer.status, answer.code()),
        (400, "MANIFEST_BLOB_UNKNOWN".to_owned())
    );
    fixture.push(TILL, "1", &image).await;
    assert!(pull(&fixture, TILL, "1", &image).await);
}

/// Returns an image, and a signature of it with an annotation.
fn signed_image() -> (ImageFixture, ImageFixture) {
    let image = small_image("a");
    let mut signature = small_image("signature");
    let mut document: Value = serde_json::from_slice(&signature.root_bytes()).unwrap();
    document["subject"] = json!(image.root);
    document["artifactType"] = json!("application/vnd.example.signature");
    document["annotations"] = json!({"by": "me"});
    let bytes = Bytes::from(document.to_string());
    signature.root = Descriptor::new(media_type::OCI_MANIFEST, digest_of(&bytes), bytes.len() as u64);
    signature.manifests = vec![(signature.root.clone(), bytes)];
    (image, signature)
}

#[tokio::test]
async fn referrers_of_store_and_place_are_one_list() {
    let fixture = mk_fixture();
    let (image, signature) = signed_image();
    let by_digest = format!("reg.example/shop/till@{}", signature.root.digest);
    add_place(&fixture, &[(NAME, &image), (&by_digest, &signature)]).await;
    let path = format!("/v2/{TILL}/referrers/{}", image.root.digest);
    let list = fixture.get(&path).await;
    let listed = &list.json()["manifests"];
    assert_eq!(listed.as_array().unwrap().len(), 1);
    assert_eq!(listed[0]["digest"], json!(signature.root.digest));
    assert_eq!(listed[0]["annotations"]["by"], "me");
    assert_eq!(
        fixture
            .get(&format!("/v2/{TILL}/manifests/{}", signature.root.digest))
            .await
            .status,
        200
    );
    // The same one in the store is listed once.
    fixture.push(TILL, "signature", &signature).await;
    assert_eq!(fixture.get(&path).await.body, list.body);
    let none = fixture.get(&format!("{path}?artifactType=application/x")).await;
    assert_eq!(none.json()["manifests"], json!([]));
    let next = fixture.get(&format!("{path}?last={}", signature.root.digest)).await;
    assert_eq!(next.json()["manifests"], json!([]));
}

/// A server of places alone.
async fn mk_place_server(images: &[(&str, &ImageFixture)]) -> (Router, Arc<FakeContent>) {
    let content = Arc::new(FakeContent::new(images));
    let places = Arc::new(Places::default());
    places.add(&Place::open(content.clone(), plain_names).await).unwrap();
    (place_service(places, Policy::default()), content)
}

async fn send(router: &Router, method: &str, path: &str) -> Answer {
    let request = http::Request::builder()
        .method(method)
        .uri(path)
        .body(Body::from("body"));
    ask(router, request.unwrap()).await
}

#[tokio::test]
async fn a_server_of_bundles_has_each_image_under_three_names() {
    let (till, nginx) = (small_image("till"), small_image("nginx"));
    let images = [("reg.example:5000/shop/till:1", &till), ("nginx:1", &nginx)];
    let (router, _) = mk_place_server(&images).await;
    for (path, expected) in [
        ("shop/till/manifests/1", Some(&till)),
        ("reg.example_5000/shop/till/manifests/1", Some(&till)),
        ("shop/till/manifests/1?ns=reg.example:5000", Some(&till)),
        ("shop/till/manifests/1?ns=reg.example%3A5000", Some(&till)),
        (
            "reg.example_5000/shop/till/manifests/1?ns=reg.example:5000",
            Some(&till),
        ),
        ("library/nginx/manifests/1?ns=docker.io", Some(&nginx)),
        ("docker.io/library/nginx/manifests/1?ns=docker.io", Some(&nginx)),
        ("library/nginx/manifests/1?ns=quay.io", None),
        ("docker.io/library/nginx/manifests/1?ns=quay.io", None),
        ("docker.io.x/library/nginx/manifests/1?ns=docker.io", None),
        ("nginx/manifests/1", None),
        ("shop/till/manifests/2", None),
    ] {
        let answer = send(&router, "GET", &format!("/v2/{path}")).await;
        match expected {
            Some(image) => assert_eq!((answer.status, &answer.body), (200, &image.root_bytes()), "{path}"),
            None => assert_eq!(answer.status, 404, "{path}"),
        }
    }
    assert_eq!(
        send(&router, "GET", "/v2/shop/till/manifests/1?ns=a/b").await.status,
        400
    );
    let catalog = send(&router, "GET", "/v2/_catalog?n=3").await;
    let names = ["docker.io/library/nginx", "library/nginx", "reg.example_5000/shop/till"];
    assert_eq!(catalog.json()["repositories"], json!(names));
    assert_eq!(
        catalog.header("link"),
        "</v2/_catalog?n=3&last=reg.example_5000%2Fshop%2Ftill>; rel=\"next\""
    );
    let tags = send(&router, "GET", "/v2/shop/till/tags/list?ns=reg.example:5000").await;
    assert_eq!(tags.json(), json!({"name": "shop/till", "tags": ["1"]}));
}

#[tokio::test]
async fn a_server_of_bundles_takes_nothing() {
    let image = small_image("a");
    let (router, content) = mk_place_server(&[(NAME, &image)]).await;
    let digest = &image.root.digest;
    for (method, path) in [
        ("PUT", "/v2/shop/till/manifests/1".to_owned()),
        ("POST", "/v2/shop/till/blobs/uploads/".to_owned()),
        ("PATCH", "/v2/shop/till/blobs/uploads/x".to_owned()),
        ("GET", "/v2/shop/till/blobs/uploads/x".to_owned()),
        ("DELETE", format!("/v2/shop/till/manifests/{digest}")),
    ] {
        let answer = send(&router, method, &path).await;
        assert_eq!(
            (answer.status, answer.code()),
            (405, "UNSUPPORTED".to_owned()),
            "{method} {path}"
        );
    }
    assert_eq!(send(&router, "GET", "/v2/").await.status, 200);
    // A blob of a bundle that is not served.
    let lacking = image.blobs.keys().next().unwrap();
    content.leave_out(lacking);
    let answer = send(&router, "GET", "/v2/shop/till/manifests/1").await;
    assert_eq!(answer.status, 404);
    let message = answer.json()["errors"][0]["message"].as_str().unwrap().to_owned();
    assert!(
        message.contains(lacking.as_str()) && message.contains("bundle"),
        "{message}"
    );
}

#[tokio::test]
async fn a_server_of_bundles_lists_referrers() {
    let (image, signature) = signed_image();
    let by_digest = format!("reg.example/shop/till@{}", signature.root.digest);
    let (router, _) = mk_place_server(&[(NAME, &image), (&by_digest, &signature)]).await;
    let path = format!(
        "/v2/{TILL}/referrers/{}?artifactType=application/vnd.example.signature",
        image.root.digest
    );
    let list = send(&router, "GET", &path).await;
    assert_eq!(list.json()["manifests"][0]["digest"], json!(signature.root.digest));
    assert_eq!(list.header("oci-filters-applied"), "artifactType");
}
