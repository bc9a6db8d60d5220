//! Copies of whole images, once, and over bad links.

#![expect(clippy::unwrap_used, reason = "test set-up")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{
    CANARY, MemorySink, ProgressLog, log, mk_bytes, mk_client, mk_endpoint, mk_options, mk_source, repository,
    short_timeouts,
};
use futures_util::future::join_all;
use landfall_core::failure::FailureKind;
use landfall_core::oci_types::media_type;
use landfall_core::reference::{ImageReference, Tag};
use landfall_core::status::{NoProgress, ProgressEvent};
use landfall_oci::client::{Login, RegistryClient, RegistrySink, RegistrySource};
use landfall_oci::copy::{CopyOptions, CopyReport, ForeignLayersRefused, copy_image};
use landfall_oci::image::{ImageSink, TransferError};
use landfall_testkit::fake_registry::{Access, Effect, FakeRegistry, FakeRegistryOptions, Fault};
use landfall_testkit::image_builder::{FixtureBuilder, ImageFixture, multi_platform, small_image};
use serde_json::json;

fn name() -> ImageReference {
    "reg.example.com/shop/app:1.0".parse().unwrap()
}

/// Returns an image with one incompressible layer of this length.
fn big_image(length: u32) -> ImageFixture {
    FixtureBuilder::new()
        .plain_layer(&[("data", &mk_bytes(length))])
        .build()
}

/// Copies `shop/app:1.0`.
async fn copy_app(registry: &FakeRegistry, sink: &dyn ImageSink) -> Result<CopyReport, TransferError> {
    copy_image(
        &mk_source(registry),
        "1.0",
        sink,
        Some(&name()),
        &mk_options(),
        &NoProgress,
    )
    .await
}

fn assert_complete(sink: &MemorySink, image: &ImageFixture) {
    let inner = sink.lock();
    for (digest, bytes) in &image.blobs {
        assert_eq!(inner.blobs.get(digest), Some(bytes), "{digest}");
    }
    for (descriptor, bytes) in &image.manifests {
        let found = inner.manifests.iter().find(|found| found.digest == descriptor.digest);
        assert_eq!(&found.unwrap().bytes, bytes);
    }
    assert_eq!(inner.names.get(&name().to_string()), Some(&image.root.digest));
}

#[tokio::test]
async fn an_image_of_several_platforms_arrives_whole_and_children_first() {
    let registry = FakeRegistry::start();
    let amd64 = FixtureBuilder::new()
        .gzip_layer(&[("a", b"a")])
        .plain_layer(&[("common", b"c")])
        .build();
    let arm64 = FixtureBuilder::new()
        .platform("linux", "arm64")
        .gzip_layer(&[("b", b"b")])
        .plain_layer(&[("common", b"c")])
        .build();
    // A nested index that contains one part twice.
    let image = multi_platform(&[multi_platform(&[amd64.clone(), arm64]), amd64]);
    registry.add_image("shop/app", "1.0", &image);
    let (sink, progress) = (MemorySink::default(), ProgressLog::default());
    let (source, name, options) = (mk_source(&registry), name(), mk_options());
    let copy = copy_image(&source, "1.0", &sink, Some(&name), &options, &progress);
    let report = is_send(copy).await.unwrap();
    assert_complete(&sink, &image);
    let total: usize = image.blobs.values().map(bytes::Bytes::len).sum();
    assert_eq!(report.digest, image.root.digest);
    assert_eq!(report.bytes_moved, total as u64);
    assert_eq!((report.blobs_moved, report.blobs_skipped), (5, 0));
    assert_eq!(sink.lock().manifests.last().unwrap().digest, image.root.digest);
    let advanced: u64 = progress
        .events()
        .iter()
        .map(|event| match event {
            ProgressEvent::BlobAdvanced { bytes, .. } => *bytes,
            _ => 0,
        })
        .sum();
    assert_eq!(advanced, report.bytes_moved);
    let reads = registry
        .requests()
        .iter()
        .filter(|request| request.path.contains("/blobs/"))
        .count();
    assert_eq!(reads, 5, "each blob once: {}", log(&registry));
}

/// Proves that the future is `Send`: the agent runs copies on a multi-threaded runtime.
fn is_send<T>(future: impl Future<Output = T> + Send) -> impl Future<Output = T> + Send {
    future
}

#[tokio::test]
async fn a_second_copy_moves_no_blob() {
    let source = FakeRegistry::start();
    let target = FakeRegistry::start();
    source.add_image("shop/app", "1.0", &big_image(100_000));
    let tag: Tag = "v1".parse().unwrap();
    let mk_sink = || RegistrySink::new(mk_client(&target), repository("mirror/app"), Some(tag.clone()));
    let copy = async || {
        let sink = mk_sink();
        copy_app(&source, &sink).await.unwrap()
    };
    let first = copy().await;
    assert_eq!((first.blobs_moved, first.blobs_skipped), (2, 0));
    target.clear_requests();
    source.clear_requests();
    let second = copy().await;
    assert_eq!((second.bytes_moved, second.blobs_moved), (0, 0));
    assert_eq!(log(&target), "GET /v2/ -> 200\nHEAD /v2/mirror/app/manifests/v1 -> 200");
    assert_eq!(log(&source), "GET /v2/ -> 200\nGET /v2/shop/app/manifests/1.0 -> 200");

    // A registry that lost only its manifests gets them back and nothing else.
    let sink = RegistrySink::new(mk_client(&target), repository("mirror/other"), None);
    let third = copy_app(&source, &sink).await.unwrap();
    assert_eq!((third.bytes_moved, third.blobs_moved, third.blobs_skipped), (0, 0, 2));
    assert!(target.manifest("mirror/other", first.digest.as_str()).is_some());
}

#[tokio::test]
async fn a_link_that_breaks_again_and_again_costs_no_byte_twice() {
    let registry = FakeRegistry::start();
    let image = big_image(9_000_000);
    registry.add_image("shop/app", "1.0", &image);
    // Each request makes enough progress to continue. After the second break, the rest is requested in ranges
    // of half of the received length.
    registry.inject(Fault::once("/blobs/", Effect::CutBodyAfter(1_200_000)).always());
    for forgets in [false, true] {
        registry.clear_requests();
        let sink = MemorySink {
            forgets,
            ..MemorySink::default()
        };
        let report = copy_app(&registry, &sink).await;
        let report = report.unwrap();
        assert_complete(&sink, &image);
        let total: usize = image.blobs.values().map(bytes::Bytes::len).sum();
        assert_eq!(report.bytes_moved, total as u64, "a sink that forgets: {forgets}");
        let ranges = registry
            .requests()
            .iter()
            .filter(|request| request.range.is_some())
            .count();
        assert_eq!(ranges, 1 + (total - 2_400_000).div_ceil(600_000), "{}", log(&registry));
    }
}

#[tokio::test]
async fn a_transfer_that_stalls_is_resumed() {
    let registry = FakeRegistry::start();
    let image = big_image(100_000);
    registry.add_image("shop/app", "1.0", &image);
    registry.inject(Fault::once("/blobs/", Effect::StallBodyAfter(50_000)).times(2));
    let mut endpoint = mk_endpoint(&registry);
    endpoint.timeouts = short_timeouts();
    let source = RegistrySource {
        client: RegistryClient::new(endpoint).unwrap(),
        repository: repository("shop/app"),
    };
    let (sink, progress) = (MemorySink::default(), ProgressLog::default());
    copy_image(&source, "1.0", &sink, Some(&name()), &mk_options(), &progress)
        .await
        .unwrap();
    assert_complete(&sink, &image);
    let retries: Vec<_> = progress
        .events()
        .into_iter()
        .filter_map(|event| match event {
            ProgressEvent::Retrying { error, .. } => Some(error),
            _ => None,
        })
        .collect();
    assert!(!retries.is_empty());
    assert!(
        retries
            .iter()
            .all(|error| error.ends_with("the transfer stalled: next to nothing passed for 300 ms")),
        "{retries:?}"
    );
}

#[tokio::test]
async fn failures_that_pass_are_waited_out() {
    let registry = FakeRegistry::start();
    let image = big_image(100_000);
    registry.add_image("shop/app", "1.0", &image);
    let busy = |status| Effect::Status(status, vec![("retry-after", "0".to_owned())], String::new());
    registry.inject(Fault::once("/manifests/", busy(429)).times(2));
    registry.inject(Fault::once("/manifests/", busy(500)).times(2));
    registry.inject(Fault::once("/blobs/", busy(503)).times(2));
    registry.inject(Fault::once("/blobs/", Effect::FlipBit).times(2));
    let sink = MemorySink::default();
    copy_app(&registry, &sink).await.unwrap();
    assert_complete(&sink, &image);
}

#[tokio::test]
async fn a_registry_that_takes_an_upload_at_the_third_attempt_gets_it() {
    let source = FakeRegistry::start();
    let target = FakeRegistry::start();
    let image = big_image(3_000_000);
    source.add_image("shop/app", "1.0", &image);
    target.inject(
        Fault::once("/uploads/", Effect::CloseAfterReading(500_000))
            .method("PUT")
            .times(2),
    );
    source.inject(Fault::once("/blobs/", Effect::CutBodyAfter(1_000_000)).times(2));
    let sink = RegistrySink::new(
        mk_client(&target),
        repository("mirror/app"),
        Some("v1".parse().unwrap()),
    );
    copy_app(&source, &sink).await.unwrap();
    assert_eq!(target.manifest("mirror/app", "v1").unwrap(), image.root_bytes());
    for (digest, bytes) in &image.blobs {
        assert_eq!(target.blob(digest).as_ref(), Some(bytes));
    }
}

#[tokio::test]
async fn failures_that_last_end_the_copy_with_their_kind_and_keep_what_came() {
    let bad = |effect: Effect| Fault::once("/blobs/", effect).always();
    let cases = [
        (bad(Effect::FlipBit), FailureKind::Corrupt),
        (
            bad(Effect::Status(500, vec![], String::new())),
            FailureKind::Unreachable,
        ),
        (bad(Effect::Status(404, vec![], String::new())), FailureKind::NotFound),
        (bad(Effect::CutBodyAfter(0)), FailureKind::Unreachable),
    ];
    for (fault, kind) in cases {
        let registry = FakeRegistry::start();
        let image = big_image(10_000);
        registry.add_image("shop/app", "1.0", &image);
        registry.inject(fault.clone());
        let sink = MemorySink::default();
        let copied = copy_app(&registry, &sink).await;
        assert_eq!(copied.unwrap_err().kind, kind, "{fault:?}");
        assert!(sink.lock().manifests.is_empty(), "no manifest without its blobs");
        assert!(sink.lock().blobs.is_empty());
    }
}

#[tokio::test]
async fn a_blob_that_images_share_moves_once() {
    let registry = FakeRegistry::start();
    let base = mk_bytes(400_000);
    let images: Vec<_> = (0..4)
        .map(|number| {
            let own = format!("own {number}");
            FixtureBuilder::new()
                .plain_layer(&[("base", &base)])
                .plain_layer(&[("own", own.as_bytes())])
                .build()
        })
        .collect();
    for (number, image) in images.iter().enumerate() {
        registry.add_image("shop/app", &number.to_string(), image);
    }
    let (sink, options, source) = (MemorySink::default(), mk_options(), mk_source(&registry));
    let tags = ["0", "1", "2", "3"];
    let copies = tags.map(|tag| copy_image(&source, tag, &sink, None, &options, &NoProgress));
    let reports: Vec<_> = join_all(copies).await.into_iter().map(Result::unwrap).collect();
    let moved: u64 = reports.iter().map(|report| report.blobs_moved).sum();
    let skipped: u64 = reports.iter().map(|report| report.blobs_skipped).sum();
    assert_eq!(
        (moved, skipped),
        (9, 3),
        "four configurations, four own layers, one base"
    );
    let shared = images[0]
        .blobs
        .iter()
        .find(|(_, bytes)| bytes.len() > 400_000)
        .unwrap()
        .0;
    let reads = registry
        .requests()
        .iter()
        .filter(|request| request.path.ends_with(shared.as_str()))
        .count();
    assert_eq!(reads, 1);
}

#[tokio::test]
async fn layers_that_must_not_be_handed_on_are_left_out() {
    let registry = FakeRegistry::start();
    let config = registry.add_blob("application/vnd.docker.container.image.v1+json", "{}");
    let layer = registry.add_blob("application/vnd.docker.image.rootfs.diff.tar.gzip", "layer");
    let mut foreign = layer.clone();
    foreign.media_type = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip".to_owned();
    foreign.digest = landfall_oci::digest::digest_of(b"elsewhere");
    foreign.urls = vec!["https://vendor.example/layer".to_owned()];
    let manifest = json!({
        "schemaVersion": 2, "mediaType": media_type::DOCKER_MANIFEST, "config": config, "layers": [foreign, layer],
    });
    registry.add_manifest("shop/app", "1.0", media_type::DOCKER_MANIFEST, manifest.to_string());
    let sink = MemorySink::default();
    let copied = copy_app(&registry, &sink).await;
    assert_eq!(copied.unwrap().blobs_moved, 2);
    assert_eq!(sink.lock().manifests[0].media_type, media_type::DOCKER_MANIFEST);
    assert!(!sink.lock().blobs.contains_key(&foreign.digest));

    // Docker's registry responds like this unless its configuration allows such addresses. It is asked once.
    let refusing = FakeRegistry::start();
    let no = r#"{"errors":[{"code":"UNKNOWN","message":"unknown error"},{"code":"MANIFEST_BLOB_UNKNOWN"}]}"#;
    let refusal = Fault::once("/manifests/", Effect::Status(500, vec![], no.to_owned()));
    refusing.inject(refusal.method("PUT").always());
    let sink = RegistrySink::new(
        mk_client(&refusing),
        repository("shop/app"),
        Some("1.0".parse().unwrap()),
    );
    let error = copy_app(&registry, &sink).await.unwrap_err();
    assert!(
        error.source.as_deref().unwrap().is::<ForeignLayersRefused>(),
        "{}",
        error.chain()
    );
    let puts = refusing
        .requests()
        .into_iter()
        .filter(|request| request.method == "PUT" && request.path.contains("/manifests/"));
    assert_eq!(puts.count(), 1);
}

#[tokio::test]
async fn a_copy_that_is_stopped_keeps_what_came_and_goes_on_from_there() {
    let registry = FakeRegistry::start();
    let image = big_image(200_000);
    registry.add_image("shop/app", "1.0", &image);
    registry.inject(Fault::once("/blobs/", Effect::StallBodyAfter(80_000)).times(2));
    let (sink, source, options) = (MemorySink::default(), mk_source(&registry), mk_options());
    let layer = image
        .blobs
        .iter()
        .max_by_key(|(_, bytes)| bytes.len())
        .unwrap()
        .0
        .clone();
    /// Stops the copy as soon as the stalled part has arrived.
    #[derive(Debug)]
    struct StopAt(tokio_util::sync::CancellationToken, std::sync::Mutex<u64>, String);
    impl landfall_core::status::ProgressSink for StopAt {
        fn progress(&self, event: ProgressEvent) {
            if let ProgressEvent::BlobAdvanced { digest, bytes } = event
                && digest == self.2
            {
                let mut seen = self.1.lock().unwrap();
                *seen += bytes;
                if *seen >= 80_000 {
                    self.0.cancel();
                }
            }
        }
    }
    let stop = StopAt(options.cancel.clone(), std::sync::Mutex::new(0), layer.to_string());
    let error = copy_image(&source, "1.0", &sink, Some(&name()), &options, &stop)
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "copying `reg.example.com/shop/app:1.0` was stopped on request"
    );
    assert_eq!(sink.lock().partial[&layer].len(), 80_000);

    let calm = FakeRegistry::start();
    calm.add_image("shop/app", "1.0", &image);
    let report = copy_app(&calm, &sink).await.unwrap();
    assert_complete(&sink, &image);
    let layer_length = image.blobs[&layer].len() as u64;
    assert!(report.bytes_moved <= layer_length - 80_000 + 1_000, "{report:?}");
}

#[tokio::test]
async fn bytes_take_the_time_that_the_limit_gives_them() {
    let registry = FakeRegistry::start();
    registry.add_image("shop/app", "1.0", &big_image(300_000));
    let mut options = mk_options();
    options.bandwidth = Some(Arc::new(landfall_oci::copy::BandwidthLimit::new(
        1_000_000.try_into().unwrap(),
    )));
    let sink = MemorySink::default();
    let begin = tokio::time::Instant::now();
    copy_image(&mk_source(&registry), "1.0", &sink, None, &options, &NoProgress)
        .await
        .unwrap();
    assert!(begin.elapsed() >= Duration::from_millis(190), "{:?}", begin.elapsed());
}

#[tokio::test]
async fn an_index_that_never_ends_is_given_up() {
    let registry = FakeRegistry::start();
    let mut image = small_image("app");
    for _ in 0..10 {
        image = multi_platform(&[image]);
    }
    registry.add_image("shop/app", "1.0", &image);
    let sink = MemorySink::default();
    let copied = copy_image(&mk_source(&registry), "1.0", &sink, None, &mk_options(), &NoProgress).await;
    assert_eq!(copied.unwrap_err().kind, FailureKind::Protocol);
}

#[tokio::test]
async fn nothing_that_a_failed_copy_says_holds_the_password() {
    let registry = FakeRegistry::start_with(FakeRegistryOptions {
        access: Access::Bearer {
            login: Some(("ann".to_owned(), "another".to_owned())),
            realm: String::new(),
        },
        ..FakeRegistryOptions::default()
    });
    let mut endpoint = mk_endpoint(&registry);
    endpoint.login = Some(Login {
        username: "ann".to_owned(),
        password: CANARY.to_owned().into(),
    });
    let source = RegistrySource {
        client: RegistryClient::new(endpoint).unwrap(),
        repository: repository("shop/app"),
    };
    let (sink, progress) = (MemorySink::default(), ProgressLog::default());
    let error = copy_image(&source, "1.0", &sink, Some(&name()), &mk_options(), &progress)
        .await
        .unwrap_err();
    assert_eq!(error.kind, FailureKind::Unauthorized);
    assert_eq!(
        error.chain().replace(registry.host().as_str(), "HOST"),
        "cannot fetch manifest `shop/app:1.0` from `HOST`: the login of user `ann` is not accepted: UNAUTHORIZED: wrong login"
    );
    let everything = format!(
        "{error:?} {} {source:?} {:?} {}",
        error.chain(),
        progress.events(),
        sink.describe()
    );
    assert!(!everything.contains("canary"), "{everything}");
}

#[tokio::test]
async fn no_more_large_blobs_are_under_way_than_allowed() {
    let registry = FakeRegistry::start();
    let layers: Vec<Vec<u8>> = (0..6u8).map(|number| vec![number; 200_000]).collect();
    let image = layers
        .iter()
        .fold(FixtureBuilder::new(), |image, layer| image.plain_layer(&[("x", layer)]))
        .build();
    registry.add_image("shop/app", "1.0", &image);
    let progress = ProgressLog::default();
    let mut options = CopyOptions::new(2);
    options.retry = mk_options().retry;
    let sink = MemorySink::default();
    copy_image(&mk_source(&registry), "1.0", &sink, None, &options, &progress)
        .await
        .unwrap();
    let mut under_way = 0;
    let mut most = 0;
    for event in progress.events() {
        match event {
            ProgressEvent::BlobStarted { .. } => under_way += 1,
            ProgressEvent::BlobFinished { .. } => under_way -= 1,
            _ => {}
        }
        most = most.max(under_way);
    }
    assert_eq!(most, 2);
}
