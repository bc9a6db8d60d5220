//! Images out of places over real connections, with our client: pulled whole, broken off, and pushed.

#![expect(clippy::unwrap_used, reason = "test set-up")]

use std::sync::Arc;

use camino::Utf8Path;
use futures_util::StreamExt;
use landfall_core::failure::FailureKind;
use landfall_core::oci_types::Descriptor;
use landfall_core::reference::{Digest, Repository};
use landfall_core::status::NoProgress;
use landfall_net::serve::Http;
use landfall_net::tls::TlsPolicy;
use landfall_oci::client::{Endpoint, RegistryClient, RegistrySink, RegistrySource};
use landfall_oci::content::names::plain_names;
use landfall_oci::content::place::Place;
use landfall_oci::content::places::Places;
use landfall_oci::copy::{CopyOptions, copy_image};
use landfall_oci::store::ContentStore;
use landfall_oci::store::source_and_sink::StoreSink;
use landfall_registry::fast_path::with_fast_path;
use landfall_registry::{Policy, Registry, place_service, registry_service};
use landfall_testkit::fake_content::FakeContent;
use landfall_testkit::image_builder::{FixtureBuilder, ImageFixture};
use landfall_testkit::server::{QUICK, Running, mk_server};

/// Name of the image in the place.
const NAME: &str = "reg.example/shop/till:1";

fn till() -> Repository {
    "shop/till".parse().unwrap()
}

/// Returns an image with a layer of 4 MB, and that layer: more than the buffers of a connection take.
fn mk_image() -> (ImageFixture, Descriptor) {
    let file: Vec<u8> = (0..1_000_000_u32).flat_map(u32::to_le_bytes).collect();
    let image = FixtureBuilder::new().plain_layer(&[("file", &file)]).build();
    let (layer, _) = image.described_blobs().max_by_key(|(blob, _)| blob.size).unwrap();
    (image, layer)
}

fn mk_client(running: &Running) -> RegistryClient {
    let mut endpoint = Endpoint::new(running.address.to_string().parse().unwrap());
    endpoint.tls = TlsPolicy {
        insecure: true,
        certificates: Vec::new(),
    };
    RegistryClient::new(endpoint).unwrap()
}

fn mk_source(running: &Running) -> RegistrySource {
    RegistrySource {
        client: mk_client(running),
        repository: till(),
    }
}

struct Bundle {
    content: Arc<FakeContent>,
    place: Arc<Place>,
    places: Arc<Places>,
}

async fn mk_bundle(image: &ImageFixture) -> Bundle {
    let content = Arc::new(FakeContent::new(&[(NAME, image)]));
    let place = Place::open(content.clone(), plain_names).await;
    let places = Arc::new(Places::default());
    places.add(&place).unwrap();
    Bundle { content, place, places }
}

/// Returns the servers of a bundle, with hyper and with the fast path.
async fn mk_servers(bundle: &Bundle) -> [Running; 2] {
    let router = || place_service(bundle.places.clone(), Policy::default());
    [
        mk_server(Http::Plain(router()), None, QUICK).await,
        mk_server(with_fast_path(router()), None, QUICK).await,
    ]
}

fn mk_store(directory: &tempfile::TempDir, name: &str) -> ContentStore {
    ContentStore::open(&Utf8Path::from_path(directory.path()).unwrap().join(name)).unwrap()
}

async fn pull(running: &Running, store: &ContentStore, digest: &Digest) -> Result<(), FailureKind> {
    let sink = StoreSink::new(store.clone());
    let options = CopyOptions::new(2);
    let copied = copy_image(&mk_source(running), digest.as_str(), &sink, None, &options, &NoProgress).await;
    copied.map(|_| ()).map_err(|error| error.kind)
}

/// Reads a blob. Returns the number of bytes that came, and true if they were all.
async fn read(running: &Running, blob: &Descriptor) -> (u64, bool) {
    let mut stream = mk_client(running).open_blob(&till(), blob, 0).await.unwrap();
    let mut bytes = 0;
    while let Some(chunk) = stream.next().await {
        match chunk {
            Ok(chunk) => bytes += chunk.len() as u64,
            Err(_) => return (bytes, false),
        }
    }
    (bytes, true)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_whole_image_is_pulled_out_of_a_bundle() {
    let (image, _) = mk_image();
    let bundle = mk_bundle(&image).await;
    let directory = tempfile::tempdir().unwrap();
    for (number, running) in mk_servers(&bundle).await.into_iter().enumerate() {
        let store = mk_store(&directory, &number.to_string());
        pull(&running, &store, &image.root.digest).await.unwrap();
        assert!(store.is_complete(&image.root.digest).unwrap());
        running.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blob_with_wrong_bytes_never_arrives_whole() {
    let (image, layer) = mk_image();
    for number in 0..2 {
        let bundle = mk_bundle(&image).await;
        bundle.content.damage(&layer.digest);
        let running = mk_servers(&bundle).await.into_iter().nth(number).unwrap();
        let (bytes, is_whole) = read(&running, &layer).await;
        assert!(bytes > 0 && bytes < layer.size && !is_whole, "{bytes}");
        let directory = tempfile::tempdir().unwrap();
        let pulled = pull(&running, &mk_store(&directory, "store"), &image.root.digest).await;
        assert_eq!(pulled, Err(FailureKind::NotFound), "it counts as missing from then on");
        running.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bundle_that_goes_during_a_pull_breaks_off_its_blob_and_nothing_else() {
    let (image, layer) = mk_image();
    let other = FixtureBuilder::new().gzip_layer(&[("other", b"x")]).build();
    let bundle = mk_bundle(&image).await;
    let also = Arc::new(FakeContent::new(&[("reg.example/other:1", &other)]));
    bundle.places.add(&Place::open(also, plain_names).await).unwrap();
    for running in mk_servers(&bundle).await {
        bundle.content.get_stuck();
        let mut stream = mk_client(&running).open_blob(&till(), &layer, 0).await.unwrap();
        assert!(!stream.next().await.unwrap().unwrap().is_empty());
        bundle.content.pull();
        let rest: Vec<_> = stream.collect().await;
        assert!(
            rest.iter().any(Result::is_err),
            "the client sees that bytes are missing"
        );
        let client = mk_client(&running);
        let size = client.blob_size(&"other".parse().unwrap(), &other.root.digest).await;
        assert_eq!(size.unwrap(), Some(other.root.size));
        bundle.content.go_on();
        assert_eq!(
            read(&running, &layer).await,
            (layer.size, true),
            "the stick is there again"
        );
        running.stop().await;
    }
    let [running, _] = mk_servers(&bundle).await;
    bundle.content.get_stuck();
    let mut stream = mk_client(&running).open_blob(&till(), &layer, 0).await.unwrap();
    stream.next().await.unwrap().unwrap();
    bundle.places.remove(&bundle.place);
    let rest: Vec<_> = stream.collect().await;
    assert!(rest.iter().any(Result::is_err));
    assert_eq!(
        mk_client(&running).blob_size(&till(), &layer.digest).await.unwrap(),
        None
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_push_stores_what_the_registry_only_has_in_a_place() {
    let (image, _) = mk_image();
    let bundle = mk_bundle(&image).await;
    let [from, _] = mk_servers(&bundle).await;
    let directory = tempfile::tempdir().unwrap();
    let records = Utf8Path::from_path(directory.path()).unwrap().join("repositories");
    let registry = Arc::new(Registry::open(mk_store(&directory, "store"), &records).unwrap());
    registry.add_place(&bundle.place).unwrap();
    let http = with_fast_path(registry_service(registry.clone(), Policy::default()));
    let to = mk_server(http, None, QUICK).await;
    let near = mk_store(&directory, "near");
    pull(&to, &near, &image.root.digest).await.unwrap();
    assert_eq!(registry.places().reads(), 3, "manifest, configuration and layer");

    let name = NAME.parse().unwrap();
    let push = async || {
        let sink = RegistrySink::new(mk_client(&to), till(), Some("1".parse().unwrap()));
        let options = CopyOptions::new(2);
        copy_image(&mk_source(&from), "1", &sink, Some(&name), &options, &NoProgress)
            .await
            .unwrap()
    };
    assert_eq!(push().await.blobs_moved, 2, "what is in a place counts as missing");
    assert_eq!(push().await.blobs_moved, 0);
    registry.remove_place(&bundle.place);
    assert!(registry.can_serve(&till(), "1").unwrap());
    let far = mk_store(&directory, "far");
    pull(&to, &far, &image.root.digest).await.unwrap();
}
