//! Clients that take more than their part, and others who are served meanwhile.

use futures_util::stream::FuturesUnordered;
use landfall_testkit::memory::peak_memory;

use super::*;

async fn open_session(fixture: &Fixture, client: u8) -> Answer {
    fixture
        .send_from(client, "POST", "/v2/a/blobs/uploads/", Body::empty())
        .await
}

#[tokio::test(start_paused = true)]
async fn a_client_that_opens_many_upload_sessions_blocks_no_other() {
    let fixture = mk_fixture();
    let mut opened = Vec::new();
    let refused = loop {
        let answer = open_session(&fixture, 1).await;
        if answer.status != 202 {
            break answer;
        }
        opened.push(answer.header("location").to_owned());
    };
    assert_eq!(opened.len(), 256, "its share");
    assert_eq!((refused.status, refused.code()), (429, "TOOMANYREQUESTS".to_owned()));
    assert_eq!(refused.header("retry-after"), "2");
    for client in 2..5 {
        for _ in 0..256 {
            assert_eq!(open_session(&fixture, client).await.status, 202);
        }
    }
    assert_eq!(open_session(&fixture, 5).await.status, 429, "all sessions are fresh");
    let with_bytes = &opened[0];
    assert_eq!(fixture.send_from(1, "PATCH", with_bytes, "hello").await.status, 202);
    tokio::time::advance(Duration::from_secs(3)).await;
    for _ in 0..300 {
        let answer = open_session(&fixture, 5).await;
        // Its share, after which its own sessions are too fresh to give way.
        assert!(answer.status == 202 || answer.status == 429, "{answer:?}");
    }
    let own = open_session(&fixture, 1).await;
    assert_eq!(own.status, 202, "one of its own empty sessions gives way");
    let mut alive = 0;
    for location in &opened {
        alive += usize::from(fixture.get(location).await.status == 204);
    }
    assert!(alive < 256, "empty sessions gave way to another client");
    assert_eq!(
        fixture.get(with_bytes).await.header("range"),
        "0-4",
        "one with bytes stays"
    );
    let last = format!("{with_bytes}?digest={}", digest_of(b"hello"));
    assert_eq!(fixture.send_from(1, "PUT", &last, Body::empty()).await.status, 201);
}

#[tokio::test]
async fn uploads_that_send_nothing_give_way_and_occupy_no_thread() {
    let fixture = mk_fixture();
    let slow = || {
        let first = stream::iter([Ok::<_, std::io::Error>("x")]);
        Body::from_stream(first.chain(stream::pending()))
    };
    let digest = digest_of(b"hello");
    let mut crawling = Vec::new();
    for number in 0..600 {
        let location = open_session(&fixture, number_of_client(number)).await;
        let location = location.header("location").to_owned();
        let fixture = &fixture;
        let mut sending = Box::pin(async move {
            fixture
                .send_from(number_of_client(number), "PATCH", &location, slow())
                .await
        });
        for _ in 0..3 {
            drop(futures_util::poll!(sending.as_mut()));
        }
        crawling.push(sending);
    }
    // Without a length, so that the body does not stay in memory.
    let body = Body::from_stream(stream::iter([Ok::<_, std::io::Error>("hello")]));
    let path = format!("/v2/a/blobs/uploads/?digest={digest}");
    let pushed = tokio::time::timeout(Duration::from_secs(60), fixture.send_from(200, "POST", &path, body));
    let pushed = pushed.await.expect("an honest client is served");
    // Slots that wait for less than five seconds do not give way yet, which is said.
    assert!(
        pushed.status == 201 || pushed.header("retry-after") == "1",
        "{pushed:?}"
    );
    let path = format!("/v2/a/blobs/{digest}");
    let blob = tokio::time::timeout(Duration::from_secs(60), fixture.get(&path));
    let expected = if pushed.status == 201 { 200 } else { 404 };
    assert_eq!(blob.await.expect("reads go on").status, expected);
}

#[tokio::test(start_paused = true)]
async fn uploads_that_send_a_byte_now_and_then_give_way() {
    let fixture = mk_fixture();
    let trickle = || {
        let bytes = stream::unfold((), async |()| {
            tokio::time::sleep(Duration::from_secs(1)).await;
            Some((Ok::<_, std::io::Error>("x"), ()))
        });
        Body::from_stream(bytes)
    };
    let mut crawling = FuturesUnordered::new();
    for number in 0..512 {
        let client = 1 + u8::try_from(number / 256).unwrap();
        let location = open_session(&fixture, client).await.header("location").to_owned();
        let fixture = &fixture;
        crawling.push(async move { fixture.send_from(client, "PATCH", &location, trickle()).await });
    }
    // Without a length, so that the body does not stay in memory.
    let digest = digest_of(b"hello");
    let honest = async {
        let path = format!("/v2/a/blobs/uploads/?digest={digest}");
        let body = || Body::from_stream(stream::iter([Ok::<_, std::io::Error>("hello")]));
        tokio::time::sleep(Duration::from_millis(2500)).await;
        let early = fixture.send_from(200, "POST", &path, body()).await;
        assert_eq!((early.status, early.header("retry-after")), (429, "1"));
        tokio::time::sleep(Duration::from_secs(3)).await;
        fixture.send_from(200, "POST", &path, body()).await
    };
    tokio::pin!(honest);
    let mut displaced = Vec::new();
    let pushed = loop {
        tokio::select! {
            pushed = honest.as_mut() => break pushed,
            Some(ended) = crawling.next() => displaced.push(ended.status),
        }
    };
    assert_eq!(pushed.status, 201, "{pushed:?}");
    assert!(
        displaced.iter().all(|status| *status == 429) && displaced.len() <= 1,
        "{displaced:?}"
    );
    assert_eq!(crawling.len() + displaced.len(), 512);
}

fn number_of_client(number: usize) -> u8 {
    u8::try_from(number / 200).unwrap()
}

fn mk_referrer(subject: &Descriptor, config: &Digest, number: usize, annotation: usize) -> Bytes {
    let manifest = json!({
        "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "artifactType": "application/x & y=z",
        "config": Descriptor::new("application/vnd.oci.empty.v1+json", config.clone(), 2), "layers": [],
        "subject": subject, "annotations": {"number": number.to_string(), "value": "v".repeat(annotation)},
    });
    Bytes::from(manifest.to_string())
}

#[tokio::test]
async fn a_long_list_of_referrers_comes_in_pages_and_takes_little_memory() {
    let fixture = mk_fixture();
    let image = small_image("a");
    let config = fixture.push_blob("a", b"{}").await;
    for (number, annotation) in (0..30)
        .map(|number| (number, 900_000))
        .chain([(30, 4_100_000), (31, 5)])
    {
        let bytes = mk_referrer(&image.root, &config, number, annotation);
        let descriptor = Descriptor::new(media_type::OCI_MANIFEST, digest_of(&bytes), bytes.len() as u64);
        let answer = fixture
            .push_manifest("a", descriptor.digest.as_str(), &descriptor, &bytes)
            .await;
        assert_eq!(answer.status, 201, "{answer:?}");
    }
    let peak = || peak_memory("self").unwrap() >> 20;
    let before = peak();
    let first = format!("/v2/a/referrers/{}", image.root.digest);
    for start in [
        first.clone(),
        format!("{first}?artifactType=application/x%20%26%20y%3Dz"),
    ] {
        let (mut path, mut pages, mut numbers) = (start.clone(), 0, Vec::new());
        loop {
            let page = fixture.get(&path).await;
            assert_eq!((page.status, page.header("content-type")), (200, media_type::OCI_INDEX));
            assert_eq!(page.header("oci-filters-applied") == "artifactType", start != first);
            assert!(page.body.len() <= 4 << 20, "{}", page.body.len());
            for listed in page.json()["manifests"].as_array().unwrap() {
                assert_eq!(listed["artifactType"], "application/x & y=z");
                let number = listed["annotations"]["number"].as_str().map(str::to_owned);
                let value = listed["annotations"]["value"].as_str().map(str::len);
                numbers.push((number, value));
            }
            pages += 1;
            let link = page.header("link").to_owned();
            let Some(next) = link
                .strip_prefix('<')
                .and_then(|link| link.strip_suffix(">; rel=\"next\""))
            else {
                assert_eq!(link, "");
                break;
            };
            path = next.to_owned();
        }
        numbers.sort();
        let mut expected: Vec<_> = (0..30)
            .map(|number| (Some(number.to_string()), Some(900_000)))
            .collect();
        expected.extend([
            (Some("31".to_owned()), Some(5)),
            (Some("30".to_owned()), Some(4_100_000)),
        ]);
        expected.sort();
        assert_eq!(numbers, expected);
        assert!((8..=12).contains(&pages), "{pages}");
    }
    let answers = futures_util::future::join_all((0..12).map(|_| fixture.send_from(1, "GET", &first, Body::empty())));
    let answers = answers.await;
    for answer in &answers {
        let refused = answer.status == 429 && answer.header("retry-after") == "1";
        assert!(answer.status == 200 || refused, "{answer:?}");
    }
    assert!(answers.iter().any(|answer| answer.status == 200));
    // The client of the test keeps the pages, too.
    let of_client = answers.iter().map(|answer| answer.body.len() as u64).sum::<u64>() >> 20;
    let grown = peak() - before;
    assert!(grown < 2 * of_client + 128, "{grown} MiB");
    let bad = fixture.get(&format!("{first}?last=x")).await;
    assert_eq!((bad.status, bad.code()), (400, "DIGEST_INVALID".to_owned()));
}

#[tokio::test]
async fn manifests_that_never_arrive_whole_hold_no_more_than_their_budget() {
    let fixture = mk_fixture();
    let endless = || {
        let first = stream::iter([Ok::<_, std::io::Error>(vec![b' '; 3 << 20])]);
        Body::from_stream(first.chain(stream::pending()))
    };
    let mut open = Vec::new();
    for _ in 0..100 {
        let mut sending = Box::pin(fixture.send_from(1, "PUT", "/v2/a/manifests/v1", endless()));
        // The response to a refusal ends when the body does, which it does not: see `drain_body`.
        for _ in 0..3 {
            assert!(futures_util::poll!(sending.as_mut()).is_pending());
        }
        open.push(sending);
    }
    let budget = &fixture.registry.budgets.pushed_manifests;
    assert!((12 << 20..=16 << 20).contains(&budget.spent()), "{}", budget.spent());
    assert!(budget.refusals() > 90, "{}", budget.refusals());
    let image = small_image("a");
    let other = fixture
        .send_from(2, "PUT", "/v2/a/manifests/v1", image.root_bytes())
        .await;
    assert_eq!(other.code(), "MANIFEST_BLOB_UNKNOWN", "another client is answered");
    drop(open);
    assert_eq!(budget.spent(), 0);
}

#[tokio::test]
async fn two_logins_of_an_address_are_two_clients() {
    let hash = bcrypt::hash("canary", 4).unwrap();
    let fixture = mk_fixture_with(Policy {
        login: Some(Users::parse_htpasswd(&format!("ann:{hash}\nbob:{hash}")).unwrap()),
        ..Policy::default()
    });
    let open = async |user: &str| {
        let encoded = base64::engine::general_purpose::STANDARD.encode(format!("{user}:canary"));
        let headers = [("authorization", format!("Basic {encoded}"))];
        let headers = [(headers[0].0, headers[0].1.as_str())];
        let path = "/v2/a/blobs/uploads/";
        fixture.send("POST", path, &headers, Body::empty()).await.status
    };
    for _ in 0..256 {
        assert_eq!(open("ann").await, 202);
    }
    assert_eq!((open("ann").await, open("bob").await), (429, 202));
}
