use std::convert::Infallible;

use axum::http::Method;
use futures_util::stream;
use landfall_oci::digest::digest_of;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::*;
use crate::write_health::WriteHealth;

const RANGE: usize = 64 * 1024;

struct Place {
    _directory: tempfile::TempDir,
    state: UploadApi,
    published: mpsc::Receiver<UploadStatus>,
    token: String,
    content: camino::Utf8PathBuf,
}

fn mk_place() -> Place {
    let directory = tempfile::tempdir().unwrap();
    let state_dir = Utf8Path::from_path(directory.path()).unwrap().to_owned();
    let content = state_dir.join("content");
    let status = StatusStore::new(&state_dir, WriteHealth::new(&state_dir));
    let (state, published) = UploadApi::open(&content, &state_dir, status, Metrics::new());
    let token = fs_err::read_to_string(state_dir.join("upload-token")).unwrap();
    Place {
        _directory: directory,
        state,
        published,
        token: token.trim().to_owned(),
        content,
    }
}

impl Place {
    async fn call(&self, method: Method, path: &str, body: Body) -> (StatusCode, Value) {
        self.call_with(method, path, body, &format!("Bearer {}", self.token))
            .await
    }

    async fn call_with(&self, method: Method, path: &str, body: Body, authorization: &str) -> (StatusCode, Value) {
        let router = short_routes(self.state.clone()).merge(range_routes(self.state.clone()));
        let request = Request::builder()
            .method(method)
            .uri(format!("/api/v1/uploads{path}"))
            .header("authorization", authorization)
            .header("content-type", "application/json")
            .body(body)
            .unwrap();
        let response = router.oneshot(request).await.unwrap();
        let status = response.status();
        let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, serde_json::from_slice(&body).unwrap_or_default())
    }

    async fn begin(&self, request: Value) -> (StatusCode, Value) {
        self.call(Method::POST, "", Body::from(request.to_string())).await
    }
}

fn range_path(id: &Value, number: usize, bytes: &[u8]) -> String {
    let id = id.as_str().unwrap();
    format!("/{id}/ranges/{number}?sha256={}", digest_of(bytes).hex())
}

#[tokio::test]
async fn a_file_is_uploaded_in_ranges() {
    let mut place = mk_place();
    let content: Vec<u8> = (0..2 * RANGE + 10)
        .map(|place| u8::try_from(place % 253).unwrap())
        .collect();
    let asked = json!({"name": "site.tar.zst", "size": content.len(), "rangeSize": RANGE});
    let (status, begun) = place.begin(asked.clone()).await;
    assert_eq!(status, StatusCode::OK, "{begun}");
    let id = begun["id"].clone();
    assert_eq!(begun["ranges"], json!([null, null, null]));
    for (number, range) in content.chunks(RANGE).enumerate().rev() {
        // As a slow client sends it.
        let pieces: Vec<_> = range
            .chunks(1000)
            .map(|piece| Ok::<_, Infallible>(piece.to_vec()))
            .collect();
        let body = Body::from_stream(stream::iter(pieces));
        let (status, answer) = place.call(Method::PUT, &range_path(&id, number, range), body).await;
        assert_eq!(
            (status, &answer["missing"]),
            (StatusCode::CREATED, &json!(number)),
            "{answer}"
        );
        let path = range_path(&id, number, range);
        let again = place.call(Method::PUT, &path, Body::from(range.to_vec()));
        assert_eq!(again.await.0, StatusCode::OK, "it is here");
    }
    assert!(fs_err::read(place.content.join("site.tar.zst")).unwrap() == content);
    assert_eq!(place.published.try_recv().unwrap().state, UploadState::Complete);
    let (_, again) = place.begin(asked).await;
    assert_eq!((&again["id"], &again["state"]), (&id, &json!("complete")));
    let (_, list) = place.call(Method::GET, "", Body::empty()).await;
    assert_eq!(list["uploads"][0]["name"], "site.tar.zst");
    assert!(list["uploads"][0].get("ranges").is_none());
}

#[tokio::test]
async fn every_way_to_uploads_needs_the_token() {
    let place = mk_place();
    for (method, path) in [
        (Method::GET, ""),
        (Method::POST, ""),
        (Method::GET, "/0"),
        (Method::DELETE, "/0"),
        (Method::PUT, "/0/ranges/0"),
    ] {
        for authorization in ["", "Bearer", "Bearer wrong", &format!("Basic {}", place.token)] {
            let (status, answer) = place
                .call_with(method.clone(), path, Body::from("x"), authorization)
                .await;
            assert_eq!(status, StatusCode::UNAUTHORIZED, "{method} {path} {authorization}");
            assert!(!answer.to_string().contains(&place.token), "{answer}");
            assert!(answer["hint"].as_str().unwrap().contains("upload-token"), "{answer}");
        }
    }
    let mut last = StatusCode::OK;
    for number in 0..100 {
        (last, _) = place
            .call_with(Method::GET, "", Body::empty(), &format!("Bearer {number}"))
            .await;
    }
    assert_eq!(last, StatusCode::TOO_MANY_REQUESTS);
    assert!(!place.content.exists());
}

#[tokio::test]
async fn what_is_refused_says_why_and_what_to_do() {
    let place = mk_place();
    let (_, begun) = place
        .begin(json!({"name": "a.tar", "size": 10, "rangeSize": RANGE}))
        .await;
    let id = begun["id"].as_str().unwrap();
    let good = digest_of(b"0123456789").hex().to_owned();
    let put = |query: &str| format!("/{id}/ranges/{query}");
    let ask = |name: &str, size: u64| Body::from(json!({"name": name, "size": size}).to_string());
    for (method, path, body, status, error) in [
        (
            Method::POST,
            String::new(),
            ask("../a.tar", 10),
            422,
            "`../a.tar` is no name",
        ),
        (Method::POST, String::new(), Body::from("{"), 400, "Failed to parse"),
        (
            Method::POST,
            String::new(),
            ask("a.tar", 11),
            409,
            "another upload to `a.tar` is under way",
        ),
        (
            Method::POST,
            String::new(),
            ask("b.tar", 0),
            400,
            "an upload has at least one byte",
        ),
        (
            Method::POST,
            String::new(),
            ask("b.tar", 1 << 40),
            507,
            "the disk has no room: 1099511627776 bytes",
        ),
        (
            Method::POST,
            String::new(),
            ask("b.tar", 1 << 50),
            413,
            "the file has 1125899906842624 bytes",
        ),
        (
            Method::GET,
            "/none".to_owned(),
            Body::empty(),
            404,
            "there is no upload `none`",
        ),
        (
            Method::PUT,
            put("0"),
            Body::from("0123456789"),
            400,
            "a range is sent with its SHA-256",
        ),
        (
            Method::PUT,
            put("0?sha256=12"),
            Body::from("0123456789"),
            400,
            "a range is sent with its SHA-256",
        ),
        (
            Method::PUT,
            put(&format!("1?sha256={good}")),
            Body::from("x"),
            404,
            "there is no range 1",
        ),
        (
            Method::PUT,
            put(&format!("0?sha256={good}")),
            Body::from("012345678x"),
            422,
            "the bytes of range 0",
        ),
        (
            Method::PUT,
            put(&format!("0?sha256={good}")),
            Body::from("01234"),
            400,
            "range 0 has 10 bytes, and 5 came",
        ),
        (
            Method::PUT,
            put(&format!("0?sha256={good}")),
            Body::from(vec![b'0'; 3 << 20]),
            400,
            "range 0 has 10 bytes",
        ),
    ] {
        let case = format!("{method} {path}");
        let (found, answer) = place.call(method, &path, body).await;
        assert_eq!(found.as_u16(), status, "{case}: {answer}");
        assert!(answer["error"].as_str().unwrap().contains(error), "{case}: {answer}");
        assert!(answer["hint"].is_string(), "{case}: {answer}");
    }
    let (_, answer) = place.begin(json!({"name": "b.tar", "size": 1_u64 << 40})).await;
    assert_eq!(answer["room"]["neededBytes"], 1_u64 << 40);
    assert!(answer["room"]["freeBytes"].as_u64() > Some(0), "{answer}");
    // None of this harmed the upload.
    let (status, done) = place
        .call(Method::PUT, &put(&format!("0?sha256={good}")), Body::from("0123456789"))
        .await;
    assert_eq!(
        (status, &done["state"]),
        (StatusCode::CREATED, &json!("complete")),
        "{done}"
    );
    let (status, _) = place.call(Method::DELETE, &format!("/{id}"), Body::empty()).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    assert!(place.content.join("a.tar").exists(), "a complete file stays");
}

#[tokio::test]
async fn a_client_that_goes_away_in_a_range_frees_its_place() {
    let place = mk_place();
    let (_, begun) = place
        .begin(json!({"name": "a.tar", "size": RANGE, "rangeSize": RANGE}))
        .await;
    let content = vec![7; RANGE];
    let path = range_path(&begun["id"], 0, &content);
    let half = Body::from_stream(stream::iter([
        Ok(content[..100].to_vec()),
        Err(std::io::Error::other("the link is gone")),
    ]));
    let (status, answer) = place.call(Method::PUT, &path, half).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{answer}");
    let endless = Body::from_stream(stream::pending::<Result<Vec<u8>, Infallible>>());
    let waiting = place.call(Method::PUT, &path, endless);
    assert!(timeout(Duration::from_millis(200), waiting).await.is_err());
    let (status, answer) = place.call(Method::PUT, &path, Body::from(content)).await;
    assert_eq!(status, StatusCode::CREATED, "{answer}");
}

#[tokio::test]
async fn a_bundle_that_is_here_already_is_not_uploaded() {
    let place = mk_place();
    let id = digest_of(b"a bundle");
    place.state.status.update(|status| {
        status.bundles.push(BundleStatus {
            path: "/media/site.tar.zst".to_owned(),
            id: Some(id.to_string()),
            phase: BundlePhase::Receipt,
            series: None,
            sequence: None,
            images: 2,
            adopted: 2,
            bytes: 10,
            missing: Vec::new(),
            problem: None,
            hint: None,
            receipt: None,
        });
    });
    let ask = |name: &str| json!({"name": name, "size": 10, "bundle": id});
    let (_, known) = place.begin(ask("site.tar.zst")).await;
    assert_eq!(
        (&known["state"], &known["path"]),
        (&json!("complete"), &json!("/media/site.tar.zst"))
    );
    let (_, piece) = place.begin(ask("site.tar.zst_part00")).await;
    assert_eq!(piece["state"], "receiving", "a piece is not the bundle");
}
