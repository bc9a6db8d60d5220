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

    /// Sends all ranges of an upload, after which it is complete.
    async fn send_all(&self, begun: &Value, content: &[u8]) {
        let range_size = usize::try_from(begun["rangeSize"].as_u64().unwrap()).unwrap();
        let mut last = Value::Null;
        for (number, range) in content.chunks(range_size).enumerate() {
            let path = range_path(&begun["id"], number, range);
            let (status, answer) = self.call(Method::PUT, &path, Body::from(range.to_vec())).await;
            assert!(status.is_success(), "range {number}: {status} {answer}");
            last = answer;
        }
        assert_eq!(last["state"], "complete", "{last}");
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

/// Checks that an answer refuses a request with this hint.
fn assert_refused((status, answer): (StatusCode, Value), hint: &str) {
    assert!(status.is_client_error() || status.is_server_error(), "{hint}: {status}");
    let told = answer["hint"].as_str().unwrap_or_default();
    assert!(told.contains(hint), "{hint}: {answer}");
}

/// Checks that an answer grants a request.
fn assert_granted((status, answer): (StatusCode, Value), hint: &str) -> Value {
    assert!(status.is_success(), "{hint}: {status} {answer}");
    answer
}

#[tokio::test]
async fn a_followed_hint_about_a_new_upload_ends_its_message() {
    let place = mk_place();
    let whole = json!({"name": "a.tar", "size": 10});
    let path = place.state.token.path().to_owned();
    let hint = "send it as `Authorization: Bearer TOKEN`: on the host, root finds it in `";
    let wrong = place.call_with(Method::GET, "", Body::empty(), "Bearer wrong").await;
    assert!(wrong.1["hint"].as_str().unwrap().contains(path.as_str()), "{wrong:?}");
    assert_refused(wrong, hint);
    let bearer = format!("Bearer {}", fs_err::read_to_string(&path).unwrap().trim());
    assert_granted(place.call_with(Method::GET, "", Body::empty(), &bearer).await, hint);

    let hint = "send JSON: {";
    assert_refused(place.call(Method::POST, "", Body::from("a.tar")).await, hint);
    let begun = assert_granted(place.begin(whole.clone()).await, hint);
    let id = begun["id"].as_str().unwrap().to_owned();

    for (hint, asked, mended) in [
        (
            "name a file with content",
            json!({"name": "b.tar", "size": 0}),
            json!({"name": "b.tar", "size": 1}),
        ),
        (
            "make the bundle in pieces, with `--split`",
            json!({"name": "c.tar", "size": 1_u64 << 50}),
            json!({"name": "c.tar_part00", "size": 1 << 20}),
        ),
        (
            "leave `rangeSize` out: the host chooses a size",
            json!({"name": "d.tar", "size": 1, "rangeSize": 1}),
            json!({"name": "d.tar", "size": 1}),
        ),
    ] {
        assert_refused(place.begin(asked).await, hint);
        assert_granted(place.begin(mended).await, hint);
    }

    let other = json!({"name": "a.tar", "size": 11});
    let hint = format!("end it with `DELETE /api/v1/uploads/{id}`, or use another name");
    assert_refused(place.begin(other.clone()).await, &hint);
    assert_granted(
        place.call(Method::DELETE, &format!("/{id}"), Body::empty()).await,
        &hint,
    );
    assert_granted(place.begin(other).await, &hint);

    let hint = "use another name, or replace the file with `--replace` (`replace` in a request)";
    fs_err::write(place.content.join("e.tar"), "of yesterday").unwrap();
    assert_refused(place.begin(json!({"name": "e.tar", "size": 1})).await, hint);
    assert_granted(
        place.begin(json!({"name": "e.tar", "size": 1, "replace": true})).await,
        hint,
    );

    let hint = "begin it again with `POST /api/v1/uploads`";
    assert_refused(place.call(Method::GET, &format!("/{id}"), Body::empty()).await, hint);
    let begun = assert_granted(place.begin(json!({"name": "f.tar", "size": 1})).await, hint);
    let path = format!("/{}", begun["id"].as_str().unwrap());
    assert_granted(place.call(Method::GET, &path, Body::empty()).await, hint);

    let hint = "finish one of them, or end one: `GET /api/v1/uploads` lists them, `DELETE` ends one";
    let mut number = 0;
    let refused = loop {
        let (status, answer) = place.begin(json!({"name": format!("more-{number}"), "size": 1})).await;
        if !status.is_success() {
            break (status, answer);
        }
        number += 1;
    };
    assert_refused(refused, hint);
    let list = assert_granted(place.call(Method::GET, "", Body::empty()).await, hint);
    let path = format!("/{}", list["uploads"][0]["id"].as_str().unwrap());
    assert_granted(place.call(Method::DELETE, &path, Body::empty()).await, hint);
    assert_granted(
        place.begin(json!({"name": format!("more-{number}"), "size": 1})).await,
        hint,
    );
}

#[tokio::test]
async fn a_followed_hint_about_a_disk_without_room_for_an_upload_ends_its_message() {
    let place = mk_place();
    let hint = "free space on the host's disk, or end another upload";
    let (_, answer) = place.begin(json!({"name": "a.tar", "size": 1_u64 << 40})).await;
    let figure = |name: &str| answer["room"][name].as_u64().unwrap();
    let room = figure("freeBytes") - figure("keptBytes");
    // Both fit alone, and not together. Neither takes room before its bytes come.
    let most = assert_granted(place.begin(json!({"name": "b.tar", "size": room / 4 * 3})).await, hint);
    let half = json!({"name": "c.tar", "size": room / 2});
    assert_refused(place.begin(half.clone()).await, hint);
    let path = format!("/{}", most["id"].as_str().unwrap());
    assert_granted(place.call(Method::DELETE, &path, Body::empty()).await, hint);
    assert_granted(place.begin(half).await, hint);
}

/// Makes a wrong request for the first range of an upload with this content.
type WrongRange = fn(&Value, &[u8]) -> (String, Body);

#[tokio::test]
async fn a_followed_hint_about_a_range_ends_its_message() {
    let place = mk_place();
    let content = vec![7; 2 * RANGE];
    let wrong_hash: WrongRange = |id, content| (range_path(id, 0, &content[..RANGE]), Body::from(vec![8; RANGE]));
    let no_hash: WrongRange = |id, content| {
        let path = format!("/{}/ranges/0", id.as_str().unwrap());
        (path, Body::from(content[..RANGE].to_vec()))
    };
    let beyond: WrongRange = |id, content| (range_path(id, 2, content), Body::from(content[..RANGE].to_vec()));
    let too_long: WrongRange = |id, content| (range_path(id, 0, content), Body::from(content.to_vec()));
    let cut: WrongRange = |id, content| {
        let chunks = [
            Ok(content[..100].to_vec()),
            Err(std::io::Error::other("the link is gone")),
        ];
        let body = Body::from_stream(stream::iter(chunks));
        (range_path(id, 0, &content[..RANGE]), body)
    };
    for (name, wrong, hint) in [
        (
            "no-hash",
            no_hash,
            "add `?sha256=` with the 64 hexadecimal digits that `sha256sum` prints",
        ),
        (
            "beyond",
            beyond,
            "cut the file into ranges of `rangeSize` bytes, counted from 0",
        ),
        (
            "too-long",
            too_long,
            "cut the file into ranges of `rangeSize` bytes, counted from 0",
        ),
        (
            "wrong-hash",
            wrong_hash,
            "send the range again, with the SHA-256 of exactly its bytes",
        ),
        ("cut", cut, "send the range again"),
    ] {
        let asked = json!({"name": name, "size": content.len(), "rangeSize": RANGE});
        let (_, begun) = place.begin(asked).await;
        let (path, body) = wrong(&begun["id"], &content);
        assert_refused(place.call(Method::PUT, &path, body).await, hint);
        place.send_all(&begun, &content).await;
        assert!(fs_err::read(place.content.join(name)).unwrap() == content, "{name}");
    }
}

#[tokio::test]
async fn a_followed_hint_about_another_client_ends_its_message() {
    let place = mk_place();
    let content = vec![7; 10 * RANGE];
    let asked = |name: &str| json!({"name": name, "size": content.len(), "rangeSize": RANGE});
    let (_, begun) = place.begin(asked("a.tar")).await;
    let put = async |number: usize, bytes: &[u8]| {
        let path = range_path(&begun["id"], number, bytes);
        place.call(Method::PUT, &path, Body::from(bytes.to_vec())).await
    };
    let range = &content[..RANGE];
    let offer = |number: u64| {
        let offered = place
            .state
            .uploads
            .offer(begun["id"].as_str().unwrap(), number, None, &digest_of(range));
        match offered.unwrap() {
            Offer::Take(receiving) => receiving,
            Offer::Here(_) => panic!("range {number} is missing"),
        }
    };

    let hint = "send another range, and come back to this one";
    let sending = offer(0);
    assert_refused(put(0, range).await, hint);
    assert_granted(put(1, range).await, hint);
    drop(sending);
    assert_granted(put(0, range).await, hint);

    let hint = "send it again in a moment";
    let sending: Vec<_> = (2..10).map(offer).collect();
    let (_, another) = place.begin(asked("b.tar")).await;
    let put_another = async || {
        let path = range_path(&another["id"], 0, range);
        place.call(Method::PUT, &path, Body::from(range.to_vec())).await
    };
    assert_refused(put_another().await, hint);
    drop(sending);
    assert_granted(put_another().await, hint);

    let hint = "send the file that it was begun with, or end the upload with `DELETE` and begin again";
    let other = vec![8; content.len()];
    assert_refused(put(0, &other[..RANGE]).await, hint);
    let path = format!("/{}", begun["id"].as_str().unwrap());
    assert_granted(place.call(Method::DELETE, &path, Body::empty()).await, hint);
    let again = assert_granted(place.begin(asked("a.tar")).await, hint);
    place.send_all(&again, &other).await;
    assert!(fs_err::read(place.content.join("a.tar")).unwrap() == other);
}

#[tokio::test(start_paused = true)]
async fn a_followed_hint_about_a_slow_client_ends_its_message() {
    let place = mk_place();
    let content = vec![7; 2 * RANGE];
    let hint = "send the range again, or end the upload with `DELETE` and begin it with a smaller `rangeSize`";
    for name in ["again.tar", "smaller.tar"] {
        let asked = |range_size: usize| json!({"name": name, "size": content.len(), "rangeSize": range_size});
        let (_, mut begun) = place.begin(asked(2 * RANGE)).await;
        let path = range_path(&begun["id"], 0, &content);
        let endless = Body::from_stream(stream::pending::<Result<Vec<u8>, Infallible>>());
        assert_refused(place.call(Method::PUT, &path, endless).await, hint);
        if name == "smaller.tar" {
            // As long as the upload is there, it goes on with its own ranges.
            let resumed = assert_granted(place.begin(asked(RANGE)).await, hint);
            assert_eq!(resumed["rangeSize"], 2 * RANGE);
            let path = format!("/{}", begun["id"].as_str().unwrap());
            assert_granted(place.call(Method::DELETE, &path, Body::empty()).await, hint);
            begun = assert_granted(place.begin(asked(RANGE)).await, hint);
            assert_eq!(begun["rangeSize"], RANGE);
        }
        place.send_all(&begun, &content).await;
    }
}
