//! Uploads over breaking links: they resume at the offset that the registry reports.

#![expect(clippy::unwrap_used, reason = "test set-up")]

mod common;

use std::net::SocketAddr;
use std::time::Duration;

use common::{Served, mk_bytes, mk_client, mk_endpoint, mk_options, mk_plain_endpoint, mk_source, repository};
use landfall_core::status::NoProgress;
use landfall_oci::client::{RegistryClient, RegistrySink, RegistrySource};
use landfall_oci::copy::{CopyReport, copy_image};
use landfall_oci::image::TransferError;
use landfall_testkit::fake_registry::{Effect, FakeRegistry, Fault};
use landfall_testkit::image_builder::{FixtureBuilder, ImageFixture};
use landfall_testkit::weak_link::{WeakLink, Weakness};

const LAYER: u32 = 8_000_000;
const CUT: u64 = 1_500_000;

fn big_image() -> ImageFixture {
    FixtureBuilder::new().plain_layer(&[("data", &mk_bytes(LAYER))]).build()
}

/// Copies over the link, with chunks of `chunk_size` bytes at first, and then compares the result over a good
/// connection.
async fn copy_over(link: &WeakLink, to: SocketAddr, chunk_size: u64) -> Result<CopyReport, TransferError> {
    let from = FakeRegistry::start();
    let image = big_image();
    from.add_image("shop/app", "1", &image);
    let mut endpoint = mk_plain_endpoint(link.address());
    endpoint.upload_chunk_size = chunk_size;
    // A request on a link that blocks holds its upload for three seconds.
    endpoint.timeouts.response = Duration::from_secs(5);
    let client = RegistryClient::new(endpoint).unwrap();
    let sink = RegistrySink::new(client, repository("mirror/app"), Some("1".parse().unwrap()));
    let name = "reg.example.com/mirror/app:1".parse().unwrap();
    let mut options = mk_options();
    // The registry needs a moment to notice a closed connection.
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
    // The first two connections may lose all bytes in flight. After them the chunks are small enough.
    let cut = 900_000;
    for weakness in [Weakness::Closes(cut), Weakness::Resets(cut), Weakness::Blocks(cut)] {
        for chunk_size in [2 * cut, u64::MAX] {
            let registry = Served::start().await;
            let link = WeakLink::start(registry.address, weakness, u64::MAX);
            copy_over(&link, registry.address, chunk_size).await.unwrap();
            assert!(link.faults() > 0, "{weakness:?} did not occur");
            let sent = link.bytes_to_server();
            let needed = u64::from(LAYER);
            assert!(
                sent < needed + needed / 4,
                "{weakness:?}, chunks of {chunk_size}: {sent} bytes for {needed}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_swallows_loses_no_more_than_the_unconfirmed_bytes() {
    let (chunk_size, cut) = (2_000_000, 3_000_000);
    let mut more_attempts = 0..5;
    // A busy machine may keep the chunks so short that no connection gets so far. Such a copy proves nothing.
    let link = loop {
        let registry = Served::start().await;
        let link = WeakLink::start(registry.address, Weakness::Swallows(cut), u64::MAX);
        copy_over(&link, registry.address, chunk_size).await.unwrap();
        if link.faults() > 0 || more_attempts.next().is_none() {
            break link;
        }
    };
    assert!(link.faults() > 0);
    // The first chunk proves that the registry tells how far it got; the next one is longer than the link lives. Were
    // the registry asked after it, three million bytes would be lost. On a busy machine it may answer too late to count
    // as one that tells, and a whole chunk is lost.
    let lost = link.bytes_to_server() - u64::from(LAYER);
    assert!(lost < link.faults() * (chunk_size + 100_000), "{lost} bytes lost");
}

/// Returns a registry's client that sends chunks of one million bytes.
fn mk_piecewise_client(to: &FakeRegistry) -> RegistryClient {
    let mut endpoint = mk_endpoint(to);
    endpoint.upload_chunk_size = 1_000_000;
    RegistryClient::new(endpoint).unwrap()
}

async fn copy_to(to: &FakeRegistry, client: &RegistryClient, path: &str, image: &ImageFixture) {
    let from = FakeRegistry::start();
    from.add_image("shop/app", "1", image);
    let sink = RegistrySink::new(client.clone(), repository(path), None);
    copy_image(&mk_source(&from), "1", &sink, None, &mk_options(), &NoProgress)
        .await
        .unwrap();
    for (digest, bytes) in &image.blobs {
        assert_eq!(to.blob(digest).as_ref(), Some(bytes));
    }
}

fn uploads(to: &FakeRegistry) -> (usize, usize) {
    let count = |method: &str| to.requests().iter().filter(|request| request.method == method).count();
    (count("PATCH"), count("PUT"))
}

#[tokio::test]
async fn a_registry_that_loses_broken_uploads_gets_smaller_pieces() {
    let to = FakeRegistry::start();
    to.inject(Fault::once("/blobs/uploads/", Effect::CloseAfterReading(500_000)).method("PATCH"));
    to.inject(Fault::once(
        "/blobs/uploads/",
        Effect::Status(404, Vec::new(), String::new()),
    ));
    copy_to(&to, &mk_piecewise_client(&to), "mirror/app", &big_image()).await;
    // The layer is a bit larger than 8 MB, the smallest chunk is 256 KiB, and the first request is the one that
    // broke.
    assert_eq!(uploads(&to), (1 + 30, 3), "{}", common::log(&to));
}

#[tokio::test]
async fn a_registry_behind_a_proxy_that_takes_no_large_request_gets_smaller_pieces() {
    let to = FakeRegistry::start();
    let refused = Effect::Status(413, Vec::new(), "<html>Request Entity Too Large</html>".to_owned());
    let image = big_image();
    let (layer, _) = image
        .described_blobs()
        .max_by_key(|(blob, _)| blob.size)
        .expect("an image has blobs");
    to.inject(Fault::once(layer.digest.hex(), refused).method("PUT"));
    copy_to(&to, &mk_client(&to), "mirror/app", &image).await;
    let (chunks, wholes) = uploads(&to);
    assert!(chunks > 8, "{chunks} chunks and {wholes} wholes: {}", common::log(&to));
}

/// A reset loses the unread bytes: a blob requested in one range would make hardly any progress.
#[tokio::test(flavor = "multi_thread")]
async fn a_blob_comes_in_ranges_over_a_link_that_resets_each_connection() {
    let (from, to) = (FakeRegistry::start(), FakeRegistry::start());
    let image = big_image();
    from.add_image("shop/app", "1", &image);
    let source = from.host().to_string().parse().unwrap();
    let link = WeakLink::start(source, Weakness::Resets(CUT / 2), u64::MAX);
    let source = RegistrySource {
        client: RegistryClient::new(mk_plain_endpoint(link.address())).unwrap(),
        repository: repository("shop/app"),
    };
    let sink = RegistrySink::new(mk_client(&to), repository("mirror/app"), None);
    copy_image(&source, "1", &sink, None, &mk_options(), &NoProgress)
        .await
        .unwrap();
    for (digest, bytes) in &image.blobs {
        assert_eq!(to.blob(digest).as_ref(), Some(bytes));
    }
    let (sent, needed) = (link.bytes_to_client(), u64::from(LAYER));
    assert!(sent < needed + 3 * CUT, "{sent} bytes for {needed}");
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
