//! Uploads over links that break: they go on where the registry says they stopped.

#![expect(clippy::unwrap_used, reason = "test set-up")]

mod common;

use std::net::SocketAddr;
use std::time::Duration;

use common::{Served, mk_bytes, mk_client, mk_options, mk_plain_endpoint, mk_source, repository};
use landfall_core::status::NoProgress;
use landfall_oci::client::{RegistryClient, RegistrySink};
use landfall_oci::copy::{CopyReport, copy_image};
use landfall_oci::image::TransferError;
use landfall_testkit::fake_registry::{Effect, FakeRegistry, Fault};
use landfall_testkit::image_builder::{BuiltImage, ImageBuilder};
use landfall_testkit::weak_link::{WeakLink, Weakness};

const LAYER: u32 = 8_000_000;
const CUT: u64 = 1_500_000;

fn big_image() -> BuiltImage {
    ImageBuilder::new().plain_layer(&[("data", &mk_bytes(LAYER))]).build()
}

/// Copies over the link, and then compares what arrived, not over the link.
async fn copy_over(link: &WeakLink, to: SocketAddr) -> Result<CopyReport, TransferError> {
    let from = FakeRegistry::start();
    let image = big_image();
    from.add_image("shop/app", "1", &image);
    let client = RegistryClient::new(mk_plain_endpoint(link.address())).unwrap();
    let sink = RegistrySink::new(client, repository("mirror/app"), Some("1".parse().unwrap()));
    let name = "reg.example.com/mirror/app:1".parse().unwrap();
    let mut options = mk_options();
    // The registry takes a moment to notice that a connection is gone.
    options.retry.first_delay = Duration::from_millis(50);
    options.retry.longest_delay = Duration::from_millis(500);
    let report = copy_image(&mk_source(&from), "1", &sink, Some(&name), &options, &NoProgress).await?;
    let direct = RegistryClient::new(mk_plain_endpoint(to)).unwrap();
    let manifest = direct.fetch_manifest(&repository("mirror/app"), "1").await.unwrap();
    assert_eq!(manifest.bytes, image.root_bytes());
    Ok(report)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_goes_on_where_the_link_broke() {
    for weakness in [Weakness::Closes(CUT), Weakness::Resets(CUT), Weakness::FallsSilent(CUT)] {
        let registry = Served::start().await;
        let link = WeakLink::start(registry.address, weakness, u64::MAX);
        copy_over(&link, registry.address).await.unwrap();
        let sent = link.bytes_to_server();
        let needed = u64::from(LAYER);
        assert!(sent < needed + needed / 4, "{weakness:?}: {sent} bytes for {needed}");
    }
}

#[tokio::test]
async fn a_registry_that_loses_broken_uploads_gets_small_pieces() {
    let (from, to) = (FakeRegistry::start(), FakeRegistry::start());
    let image = big_image();
    from.add_image("shop/app", "1", &image);
    to.inject(Fault::once("/blobs/uploads/", Effect::CloseAfterReading(2_000_000)).method("PUT"));
    to.inject(Fault::once(
        "/blobs/uploads/",
        Effect::Status(404, Vec::new(), String::new()),
    ));
    let sink = RegistrySink::new(mk_client(&to), repository("mirror/app"), None);
    copy_image(&mk_source(&from), "1", &sink, None, &mk_options(), &NoProgress)
        .await
        .unwrap();
    let patches = to.requests().iter().filter(|request| request.method == "PATCH").count();
    assert_eq!(patches, 1, "8 MB are a piece of 4 MiB and a rest: {}", common::log(&to));
    for (digest, bytes) in &image.blobs {
        assert_eq!(to.blob(digest).as_ref(), Some(bytes));
    }
}

#[tokio::test]
async fn wrong_bytes_from_the_source_are_sent_again_from_the_first() {
    let (from, to) = (FakeRegistry::start(), FakeRegistry::start());
    let image = big_image();
    from.add_image("shop/app", "1", &image);
    from.inject(Fault::once("/blobs/", Effect::FlipBit));
    let sink = RegistrySink::new(mk_client(&to), repository("mirror/app"), None);
    copy_image(&mk_source(&from), "1", &sink, None, &mk_options(), &NoProgress)
        .await
        .unwrap();
    for (digest, bytes) in &image.blobs {
        assert_eq!(to.blob(digest).as_ref(), Some(bytes));
    }
}
