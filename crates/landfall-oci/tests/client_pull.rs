//! Pulls of the client from a registry with every known misbehaviour.

#![expect(clippy::unwrap_used, reason = "test set-up")]

mod common;

use common::{chain, collect, log, mk_bytes, mk_client, mk_endpoint, repository, short_timeouts};
use landfall_core::failure::FailureKind;
use landfall_core::oci_types::{Descriptor, media_type};
use landfall_oci::client::{Endpoint, RegistryClient};
use landfall_oci::image::BlobStream;
use landfall_testkit::fake_registry::{Effect, FakeRegistry, Fault};
use landfall_testkit::image_builder::small_image;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::test]
async fn a_manifest_is_fetched_by_tag_and_by_digest() {
    let registry = FakeRegistry::start();
    let image = small_image("app");
    registry.add_image("shop/app", "1.0", &image);
    let client = mk_client(&registry);
    client.ping().await.unwrap();
    for selector in ["1.0", image.root.digest.as_str()] {
        let manifest = client.fetch_manifest(&repository("shop/app"), selector).await.unwrap();
        assert_eq!(manifest.digest, image.root.digest);
        assert_eq!(manifest.media_type, media_type::OCI_MANIFEST);
        assert_eq!(manifest.bytes, image.root_bytes());
        let head = client
            .head_manifest(&repository("shop/app"), selector)
            .await
            .unwrap()
            .unwrap();
        assert_eq!((head.digest, head.size), (image.root.digest.clone(), image.root.size));
    }
    assert_eq!(
        client.head_manifest(&repository("shop/app"), "2.0").await.unwrap(),
        None
    );
}

#[tokio::test]
async fn a_digest_is_asked_for_again_where_the_registry_does_not_state_it() {
    let registry = FakeRegistry::start();
    let image = small_image("app");
    registry.add_image("shop/app", "1.0", &image);
    registry.inject(Fault::once("/manifests/", Effect::NoDigestHeader).method("HEAD"));
    let head = mk_client(&registry)
        .head_manifest(&repository("shop/app"), "1.0")
        .await
        .unwrap();
    assert_eq!(head.unwrap().digest, image.root.digest);
}

#[tokio::test]
async fn every_failure_of_a_manifest_says_what_where_and_why() {
    let many_words = format!("<html>{}</html>", "x".repeat(2000));
    let cases: Vec<(&str, Effect, FailureKind, &str)> = vec![
        (
            "2.0",
            Effect::Delay(Duration::ZERO),
            FailureKind::NotFound,
            "cannot fetch manifest `shop/app:2.0` from `HOST`: the registry answers 404 Not Found: MANIFEST_UNKNOWN: \
             manifest unknown",
        ),
        (
            "1.0",
            Effect::Status(
                403,
                vec![],
                r#"{"errors":[{"code":"DENIED","message":"no\n\u001b[31mway"}]}"#.to_owned(),
            ),
            FailureKind::Forbidden,
            "cannot fetch manifest `shop/app:1.0` from `HOST`: the registry answers 403 Forbidden: DENIED: no  [31mway",
        ),
        (
            "1.0",
            Effect::Status(429, vec![("retry-after", "7".to_owned())], String::new()),
            FailureKind::RateLimited {
                after: Some(Duration::from_secs(7)),
            },
            "cannot fetch manifest `shop/app:1.0` from `HOST`: the registry answers 429 Too Many Requests; it may be \
             asked again in 7 s",
        ),
        (
            "1.0",
            Effect::Status(503, vec![("retry-after", "1".to_owned())], "busy".to_owned()),
            FailureKind::RateLimited {
                after: Some(Duration::from_secs(1)),
            },
            "cannot fetch manifest `shop/app:1.0` from `HOST`: the registry answers 503 Service Unavailable: busy; it may \
             be asked again in 1 s",
        ),
        (
            "1.0",
            Effect::Status(502, vec![], many_words),
            FailureKind::Unreachable,
            "cannot fetch manifest `shop/app:1.0` from `HOST`: the registry answers 502 Bad Gateway",
        ),
        (
            "1.0",
            Effect::FlipBit,
            FailureKind::Corrupt,
            "cannot fetch manifest `shop/app:1.0` from `HOST`: the answer breaks the distribution protocol: \
             `Docker-Content-Digest` is `GOOD` but the bytes have `BAD`",
        ),
        (
            "GOOD",
            Effect::FlipBit,
            FailureKind::Corrupt,
            "cannot fetch manifest `shop/app@GOOD` from `HOST`: the bytes have digest `BAD`, not `GOOD`",
        ),
        (
            "1.0",
            Effect::Status(200, vec![], "x".repeat(4 * 1024 * 1024 + 1)),
            FailureKind::Protocol,
            "cannot fetch manifest `shop/app:1.0` from `HOST`: the answer is larger than 4194304 bytes",
        ),
        (
            "1.0",
            Effect::Status(200, vec![("content-type", "text/html".to_owned())], "<html>".to_owned()),
            FailureKind::Protocol,
            "cannot fetch manifest `shop/app:1.0` from `HOST`: the answer breaks the distribution protocol: the manifest \
             has the media type `text/html`, which is not supported",
        ),
        (
            "1.0",
            Effect::Redirect("ftp://elsewhere.example/x".to_owned()),
            FailureKind::Protocol,
            "cannot fetch manifest `shop/app:1.0` from `HOST`: the registry redirects to `elsewhere.example`, which is \
             neither https nor http",
        ),
    ];
    let registry = FakeRegistry::start();
    let image = small_image("app");
    registry.add_image("shop/app", "1.0", &image);
    let good = image.root.digest.to_string();
    let mut flipped = image.root_bytes().to_vec();
    *flipped.last_mut().unwrap() ^= 1;
    let bad = landfall_testkit::image_builder::digest_of(&flipped).to_string();
    for (selector, effect, kind, expected) in cases {
        // A client of its own: a time that the registry names holds for all requests of a client.
        let client = mk_client(&registry);
        registry.inject(Fault::once("/manifests/", effect));
        let selector = selector.replace("GOOD", &good);
        let error = client
            .fetch_manifest(&repository("shop/app"), &selector)
            .await
            .unwrap_err();
        let text = chain(&error)
            .replace(registry.host().as_str(), "HOST")
            .replace(&good, "GOOD")
            .replace(&bad, "BAD");
        assert_eq!(text, expected);
        assert_eq!(error.kind(), kind, "{text}");
    }
}

#[tokio::test]
async fn a_registry_that_is_down_a_name_that_is_unknown_and_a_slow_one_are_told_apart() {
    let gone = {
        let registry = FakeRegistry::start();
        registry.host()
    };
    let slow = FakeRegistry::start();
    slow.inject(Fault::once("/v2/", Effect::Delay(Duration::from_secs(60))).always());
    let cases = [
        (gone, "the connection is refused: nothing listens there"),
        (
            "no-such-registry.invalid".parse().unwrap(),
            "the name cannot be resolved",
        ),
        (slow.host(), "no answer within 150 ms"),
    ];
    for (host, expected) in cases {
        let mut endpoint = mk_endpoint(&slow);
        endpoint.host = host.clone();
        endpoint.timeouts = short_timeouts();
        if host == slow.host() {
            endpoint.timeouts.response = Duration::from_millis(150);
        }
        let error = RegistryClient::new(endpoint).unwrap().ping().await.unwrap_err();
        assert_eq!(error.to_string(), format!("cannot reach registry `{host}`"));
        assert_eq!(error.fault.to_string(), expected);
        assert_eq!(error.kind(), FailureKind::Unreachable);
    }
}

async fn open(client: &RegistryClient, blob: &landfall_core::oci_types::Descriptor, offset: u64) -> BlobStream {
    client.open_blob(&repository("shop/app"), blob, offset).await.unwrap()
}

#[tokio::test]
async fn a_blob_is_read_from_any_offset() {
    let registry = FakeRegistry::start();
    let bytes = mk_bytes(100_000);
    let blob = registry.add_blob(media_type::OCI_LAYER, bytes.clone());
    let client = mk_client(&registry);
    for offset in [0, 1, 50_000, 99_999, 100_000] {
        let read = collect(open(&client, &blob, offset).await).await.unwrap();
        assert_eq!(read, bytes.slice(usize::try_from(offset).unwrap()..), "from {offset}");
    }
    assert!(client.find_pushed_blob(&repository("shop/app"), &blob).await.unwrap());
    registry.remove_blob(&blob.digest);
    assert!(!client.find_pushed_blob(&repository("shop/app"), &blob).await.unwrap());
    let ranges: Vec<_> = registry
        .requests()
        .into_iter()
        .filter_map(|request| request.range)
        .collect();
    assert_eq!(ranges, ["bytes=1-", "bytes=50000-", "bytes=99999-"]);
}

#[tokio::test]
async fn a_registry_that_ignores_the_range_is_read_past_the_offset() {
    let registry = FakeRegistry::start();
    let bytes = mk_bytes(100_000);
    let blob = registry.add_blob(media_type::OCI_LAYER, bytes.clone());
    registry.inject(Fault::once("/blobs/", Effect::IgnoreRange));
    let read = collect(open(&mk_client(&registry), &blob, 60_000).await).await.unwrap();
    assert_eq!(read, bytes.slice(60_000..));
}

#[tokio::test]
async fn a_content_coding_that_was_not_asked_for_is_undone() {
    for effect in [Effect::Gzip, Effect::ForcedGzip, Effect::SaysGzip] {
        let registry = FakeRegistry::start();
        let image = small_image("app");
        registry.add_image("shop/app", "1.0", &image);
        let bytes = mk_bytes(100_000);
        let blob = registry.add_blob(media_type::OCI_LAYER, bytes.clone());
        registry.inject(Fault::once("/v2/", effect.clone()).always());
        let client = mk_client(&registry);
        let fetched = client.fetch_manifest(&repository("shop/app"), "1.0").await;
        assert_eq!(fetched.unwrap().digest, image.root.digest, "{effect:?}");
        for offset in [0, 40_000] {
            let read = collect(open(&client, &blob, offset).await).await;
            let expected = bytes.slice(usize::try_from(offset).unwrap()..);
            assert_eq!(read.unwrap(), expected, "{effect:?} from {offset}");
        }
    }
}

#[tokio::test]
async fn an_unknown_content_coding_is_named_and_not_taken_for_wrong_bytes() {
    let registry = FakeRegistry::start();
    let coded = Effect::Status(200, vec![("content-encoding", "br".to_owned())], "x".to_owned());
    registry.inject(Fault::once("/manifests/", coded));
    let fetched = mk_client(&registry)
        .fetch_manifest(&repository("shop/app"), "1.0")
        .await;
    assert!(chain(&fetched.unwrap_err()).contains("in the content coding `br`"));
}

#[tokio::test]
async fn a_blob_that_cannot_be_opened_says_why() {
    let registry = FakeRegistry::start();
    let mut blob = registry.add_blob(media_type::OCI_LAYER, mk_bytes(100));
    let client = mk_client(&registry);
    let repository = repository("shop/app");
    registry.inject(Fault::once("/blobs/", Effect::Truncate(60)));
    let error = client.open_blob(&repository, &blob, 0).await.err().unwrap();
    assert_eq!(
        error.fault.to_string(),
        "the registry offers 60 bytes, and the descriptor says 100"
    );
    assert_eq!(error.kind(), FailureKind::WrongLength);
    blob.size = 99;
    for offset in [0, 10] {
        let error = client.open_blob(&repository, &blob, offset).await.err().unwrap();
        assert_eq!(error.kind(), FailureKind::WrongLength, "{error:?}");
    }
    assert!(!client.find_pushed_blob(&repository, &blob).await.unwrap());
    registry.remove_blob(&blob.digest);
    let error = client.open_blob(&repository, &blob, 0).await.err().unwrap();
    assert_eq!(
        error.to_string(),
        format!(
            "cannot fetch blob `shop/app@{}` from `{}`",
            blob.digest,
            registry.host()
        )
    );
    assert_eq!(error.kind(), FailureKind::NotFound);
}

#[tokio::test]
async fn a_transfer_that_breaks_or_stalls_ends_with_what_came_before() {
    let registry = FakeRegistry::start();
    let bytes = mk_bytes(100_000);
    let blob = registry.add_blob(media_type::OCI_LAYER, bytes.clone());
    let mut endpoint = mk_endpoint(&registry);
    endpoint.timeouts = short_timeouts();
    let client = RegistryClient::new(endpoint).unwrap();
    let cases = [
        (Effect::CutBodyAfter(40_000), "the connection broke"),
        (
            Effect::StallBodyAfter(40_000),
            "the transfer stalled: almost no bytes moved for 300 ms",
        ),
    ];
    for (effect, expected) in cases {
        registry.inject(Fault::once("/blobs/", effect));
        let mut stream = open(&client, &blob, 0).await;
        let mut received = 0;
        let error = loop {
            match futures_util::StreamExt::next(&mut stream)
                .await
                .expect("a broken transfer is no end")
            {
                Ok(chunk) => received += chunk.len(),
                Err(error) => break error,
            }
        };
        assert_eq!(received, 40_000);
        assert_eq!(error.kind, FailureKind::Unreachable);
        assert!(error.chain().contains(expected), "{}", error.chain());
        assert!(futures_util::StreamExt::next(&mut stream).await.is_none());
    }
}

#[tokio::test]
async fn lists_are_read_to_their_last_page() {
    let registry = FakeRegistry::start();
    for tag in ["1", "2", "3", "4", "5"] {
        registry.add_image("shop/app", tag, &small_image("app"));
    }
    registry.add_image("shop/db", "1", &small_image("db"));
    registry.add_image("ops/tool", "1", &small_image("tool"));
    let client = mk_client(&registry);
    let tags = client.list_tags(&repository("shop/app")).await.unwrap();
    assert_eq!(tags, ["1", "2", "3", "4", "5"]);
    assert_eq!(
        client.list_repositories().await.unwrap(),
        ["ops/tool", "shop/app", "shop/db"]
    );
}

#[tokio::test]
async fn a_loop_of_redirects_ends() {
    let registry = FakeRegistry::start();
    let client = mk_client(&registry);
    let to = format!("{}/v2/shop/app/manifests/1", registry.url());
    registry.inject(Fault::once("/manifests/", Effect::Redirect(to)).always());
    let error = client.fetch_manifest(&repository("shop/app"), "1").await.unwrap_err();
    assert_eq!(
        error.fault.to_string(),
        "the answer breaks the distribution protocol: more than 5 redirects"
    );
    assert_eq!(log(&registry).matches("-> 307").count(), 6);
}

#[tokio::test]
async fn a_server_that_the_registry_points_to_is_named_when_it_fails() {
    let registry = FakeRegistry::start();
    let blob = registry.add_blob(media_type::OCI_LAYER, mk_bytes(100));
    let (gone, empty) = (FakeRegistry::start().host(), FakeRegistry::start());
    let client = mk_client(&registry);
    let cases = [
        (
            gone.clone(),
            "the connection is refused: nothing listens there",
            FailureKind::Unreachable,
        ),
        (
            empty.host(),
            "the registry answers 404 Not Found: BLOB_UNKNOWN: blob unknown to registry",
            FailureKind::NotFound,
        ),
    ];
    for (host, expected, kind) in cases {
        let to = format!("http://{host}/v2/shop/app/blobs/{}?signature=canary", blob.digest);
        registry.inject(Fault::once("/blobs/", Effect::Redirect(to)));
        let error = client.open_blob(&repository("shop/app"), &blob, 0).await.err().unwrap();
        let attempt = format!(
            "cannot fetch blob `shop/app@{}` from `{}`",
            blob.digest,
            registry.host()
        );
        assert_eq!(
            chain(&error),
            format!("{attempt}: the registry redirects to `{host}`: {expected}")
        );
        assert_eq!(error.kind(), kind);
        assert!(
            !format!("{error:?}").contains("canary"),
            "a signed URL is a secret: {error:?}"
        );
    }
}

#[tokio::test]
async fn a_byte_now_and_then_is_a_stall() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut endpoint = Endpoint::new(listener.local_addr().unwrap().to_string().parse().unwrap());
    endpoint.tls.insecure = true;
    endpoint.timeouts = short_timeouts();
    let client = RegistryClient::new(endpoint).unwrap();
    let trickle = async {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (mut read, mut write) = stream.into_split();
            let mut request = [0; 4096];
            let length = read.read(&mut request).await.unwrap();
            if !request.starts_with(b"GET") || length == 0 {
                continue;
            }
            write
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n")
                .await
                .unwrap();
            let mut beat = tokio::time::interval(Duration::from_millis(20));
            while write.write_all(b"x").await.is_ok() {
                beat.tick().await;
            }
        }
    };
    let digest = landfall_testkit::image_builder::digest_of(b"x");
    let blob = Descriptor::new("", digest, 100_000);
    let fetch = async {
        let stream = client.open_blob(&repository("a/b"), &blob, 0).await.unwrap();
        collect(stream).await.unwrap_err()
    };
    let error = tokio::select! {
        () = trickle => unreachable!("the server never ends the response"),
        error = fetch => error,
    };
    assert_eq!(error.kind, FailureKind::Unreachable, "{}", error.chain());
}
