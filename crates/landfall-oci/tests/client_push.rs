//! Pushes of the client to a registry that misbehaves.

mod common;

use std::time::Duration;

use bytes::Bytes;
use common::{collect, log, mk_bytes, mk_client, mk_endpoint, repository, short_timeouts};
use futures_util::{StreamExt, stream};
use landfall_core::failure::FailureKind;
use landfall_core::oci_types::{Descriptor, media_type};
use landfall_oci::client::{RegistryClient, RegistrySink};
use landfall_oci::digest::digest_of;
use landfall_oci::image::{BlobStart, BlobStream, ImageSink, RawManifest, TransferError};
use landfall_testkit::fake_registry::{Effect, FakeRegistry, Fault};
use landfall_testkit::image_builder::small_image;

fn describe(bytes: &Bytes) -> Descriptor {
    Descriptor::new(media_type::OCI_LAYER, digest_of(bytes), bytes.len() as u64)
}

fn in_chunks(bytes: &Bytes) -> BlobStream {
    let chunks: Vec<_> = bytes
        .chunks(16 * 1024)
        .map(|chunk| Ok(Bytes::copy_from_slice(chunk)))
        .collect();
    Box::pin(stream::iter(chunks))
}

#[tokio::test]
async fn a_blob_is_pushed_with_one_post_and_one_put() {
    let registry = FakeRegistry::start();
    let bytes = mk_bytes(100_000);
    let blob = describe(&bytes);
    let client = mk_client(&registry);
    client
        .push_blob(&repository("shop/app"), &blob, in_chunks(&bytes))
        .await
        .unwrap();
    assert_eq!(registry.blob(&blob.digest).unwrap(), bytes);
    assert_eq!(
        log(&registry),
        format!(
            "GET /v2/ -> 200\n\
             POST /v2/shop/app/blobs/uploads/ -> 202\n\
             PUT /v2/shop/app/blobs/uploads/1?state=s&digest=sha256%3A{} -> 201",
            blob.digest.hex()
        )
    );
}

#[tokio::test]
async fn an_empty_blob_is_pushed_too() {
    let registry = FakeRegistry::start();
    let blob = describe(&Bytes::new());
    let nothing: BlobStream = Box::pin(stream::empty());
    mk_client(&registry)
        .push_blob(&repository("shop/app"), &blob, nothing)
        .await
        .unwrap();
    assert_eq!(registry.blob(&blob.digest).unwrap(), "");
}

#[tokio::test]
async fn a_push_that_fails_says_whose_fault_it_is() {
    let registry = FakeRegistry::start();
    let bytes = mk_bytes(4_000_000);
    let blob = describe(&bytes);
    let mut endpoint = mk_endpoint(&registry);
    endpoint.timeouts = short_timeouts();
    let client = RegistryClient::new(endpoint).unwrap();
    let broken_source = || -> BlobStream {
        let failure = TransferError {
            attempt: "cannot read the disk".to_owned(),
            kind: FailureKind::Local,
            source: None,
        };
        Box::pin(in_chunks(&mk_bytes(50_000)).chain(stream::iter([Err(failure)])))
    };
    let full = r#"{"errors":[{"code":"DENIED","message":"quota exceeded"}]}"#.to_owned();
    let cases: Vec<(&str, Effect, BlobStream, FailureKind, &str)> = vec![
        (
            "POST",
            Effect::Status(403, vec![], full),
            in_chunks(&bytes),
            FailureKind::Forbidden,
            "the registry answers 403 Forbidden: DENIED: quota exceeded",
        ),
        (
            "POST",
            Effect::Status(202, vec![], String::new()),
            in_chunks(&bytes),
            FailureKind::Protocol,
            "the answer breaks the distribution protocol: an upload was accepted without a usable `Location`",
        ),
        (
            "PUT",
            Effect::CloseAfterReading(100_000),
            in_chunks(&bytes),
            FailureKind::Unreachable,
            "the connection broke",
        ),
        (
            "PUT",
            Effect::NeverRead,
            in_chunks(&mk_bytes(16_000_000)),
            FailureKind::Unreachable,
            "the transfer stalled: almost no bytes moved for 300 ms",
        ),
        (
            "PUT",
            Effect::Delay(Duration::from_secs(60)),
            in_chunks(&bytes.slice(..1000)),
            FailureKind::Unreachable,
            "no answer within 1 s",
        ),
        (
            "PUT",
            Effect::Delay(Duration::ZERO),
            broken_source(),
            FailureKind::Local,
            "the bytes to push could not be read",
        ),
        (
            "PUT",
            Effect::Delay(Duration::ZERO),
            in_chunks(&mk_bytes(4_000_000).slice(1..).iter().copied().chain([7]).collect()),
            FailureKind::Corrupt,
            "the registry answers 400 Bad Request: DIGEST_INVALID: provided digest did not match",
        ),
    ];
    for (method, effect, stream, kind, expected) in cases {
        let mut blob = blob.clone();
        match &effect {
            Effect::NeverRead => blob.size = 16_000_000,
            Effect::Delay(delay) if !delay.is_zero() => blob.size = 1000,
            _ => {}
        }
        registry.inject(Fault::once("/uploads/", effect).method(method));
        let error = client
            .push_blob(&repository("shop/app"), &blob, stream)
            .await
            .unwrap_err();
        assert_eq!(error.fault.to_string(), expected);
        assert_eq!(error.kind(), kind, "{expected}");
    }
}

/// The source pauses for longer than the stall timeout: only the pauses of the registry count.
#[tokio::test]
async fn a_slow_source_is_no_stall_of_the_registry() {
    let registry = FakeRegistry::start();
    let bytes = mk_bytes(100_000);
    let blob = describe(&bytes);
    let mut endpoint = mk_endpoint(&registry);
    endpoint.timeouts = short_timeouts();
    let client = RegistryClient::new(endpoint).unwrap();
    let (first, second) = (in_chunks(&bytes.slice(..50_000)), in_chunks(&bytes.slice(50_000..)));
    let pause = stream::once(tokio::time::sleep(Duration::from_millis(400)));
    let slow: BlobStream = Box::pin(first.chain(pause.flat_map(|()| stream::empty())).chain(second));
    client.push_blob(&repository("shop/app"), &blob, slow).await.unwrap();
    assert_eq!(registry.blob(&blob.digest).unwrap(), bytes);
}

#[tokio::test]
async fn a_blob_is_mounted_where_the_registry_can() {
    let registry = FakeRegistry::start();
    let blob = registry.add_blob(media_type::OCI_LAYER, mk_bytes(100));
    let client = mk_client(&registry);
    let (to, from) = (repository("shop/app"), repository("shop/base"));
    let sink = RegistrySink::new(client, to, None);
    assert_eq!(sink.start_blob(&blob, Some(&from)).await.unwrap(), BlobStart::Mounted);
    registry.remove_blob(&blob.digest);
    assert_eq!(sink.start_blob(&blob, Some(&from)).await.unwrap(), BlobStart::Wanted(0));
}

#[tokio::test]
async fn a_manifest_is_pushed_only_where_the_tag_does_not_point_to_it_yet() {
    let registry = FakeRegistry::start();
    let image = small_image("app");
    registry.add_image("other", "1", &image);
    let manifest = RawManifest {
        bytes: image.root_bytes(),
        media_type: image.root.media_type.clone(),
        digest: image.root.digest.clone(),
    };
    let name = "reg.example.com/shop/app:1".parse().unwrap();
    for expected in [
        "HEAD /v2/shop/app/manifests/v1 -> 404\nPUT /v2/shop/app/manifests/v1 -> 201",
        "HEAD /v2/shop/app/manifests/v1 -> 200",
    ] {
        let client = mk_client(&registry);
        client.ping().await.unwrap();
        registry.clear_requests();
        let sink = RegistrySink::new(client, repository("shop/app"), Some("v1".parse().unwrap()));
        sink.has_image(&manifest).await.unwrap();
        sink.write_manifest(&manifest, Some(&name)).await.unwrap();
        let requests: Vec<_> = registry.requests().iter().map(ToString::to_string).collect();
        assert_eq!(
            requests.join("\n").replace(manifest.digest.as_str(), "DIGEST"),
            expected
        );
    }
    assert_eq!(registry.manifest("shop/app", "v1").unwrap(), image.root_bytes());
}

#[tokio::test]
async fn a_registry_that_states_another_digest_for_a_manifest_is_not_believed() {
    let registry = FakeRegistry::start();
    let image = small_image("app");
    let manifest = RawManifest {
        bytes: image.root_bytes(),
        media_type: image.root.media_type.clone(),
        digest: image.root.digest.clone(),
    };
    let wrong = digest_of(b"something else").to_string();
    let answer = Effect::Status(201, vec![("docker-content-digest", wrong)], String::new());
    registry.inject(Fault::once("/manifests/", answer).method("PUT"));
    let pushed = mk_client(&registry)
        .push_manifest(&repository("shop/app"), "v1", &manifest)
        .await;
    assert_eq!(pushed.unwrap_err().kind(), FailureKind::Corrupt);
}

#[tokio::test]
async fn what_was_pushed_is_what_is_pulled() {
    let registry = FakeRegistry::start();
    let bytes = mk_bytes(300_000);
    let blob = describe(&bytes);
    let client = mk_client(&registry);
    client
        .push_blob(&repository("a/b"), &blob, in_chunks(&bytes))
        .await
        .unwrap();
    let stream = client.open_blob(&repository("a/b"), &blob, 0).await.unwrap();
    assert_eq!(collect(stream).await.unwrap(), bytes);
}
