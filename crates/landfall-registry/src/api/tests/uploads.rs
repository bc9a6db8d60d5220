//! Uploads, their sessions, and a full disk.

use super::*;

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
        let at_once = async || {
            let prefer = [("prefer", "respond-async, wait=0")];
            fixture.send("GET", location, &prefer, Body::empty()).await
        };
        while at_once().await.header("range") != "0-4" {
            tokio::task::yield_now().await;
        }
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
    // Once in memory, once on the way to the disk.
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
    // In memory and on the way to the disk. The next request comes with and without `Content-Range`.
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
                    // Dropping the sender ends the body.
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
async fn a_full_disk_refuses_uploads_and_goes_on_serving() {
    let fixture = mk_fixture();
    let image = small_image("a");
    fixture.push("a", "v1", &image).await;
    let directory = fixture.stop();
    let root = Utf8Path::from_path(directory.path()).unwrap();
    let store = ContentStore::open(&root.join("store")).unwrap();
    let registry = Registry::open(store, &root.join("repositories")).unwrap();
    // No disk has room for an upload of this size.
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
