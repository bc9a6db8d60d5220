#![expect(clippy::disallowed_methods, reason = "test set-up")]

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use camino::Utf8PathBuf;
use futures_util::{StreamExt, stream};
use landfall_core::failure::FailureKind;
use landfall_core::oci_types::media_type;

use super::gc::Roots;
use super::receive::{ByteReceiver, receive_stream};
use super::source_and_sink::{StoreSink, StoreSource};
use super::*;
use crate::digest::{Algorithm, Digester, digest_of};
use crate::image::{ImageSink, ImageSource, TransferError};

struct Fixture {
    _directory: tempfile::TempDir,
    root: Utf8PathBuf,
}

fn mk_fixture() -> Fixture {
    let directory = tempfile::tempdir().unwrap();
    let root = Utf8PathBuf::from_path_buf(directory.path().join("store")).unwrap();
    Fixture {
        _directory: directory,
        root,
    }
}

/// Returns a new store, and its directory.
pub(super) fn mk_store() -> (tempfile::TempDir, ContentStore) {
    let directory = tempfile::tempdir().unwrap();
    let root = Utf8PathBuf::from_path_buf(directory.path().join("store")).unwrap();
    let store = ContentStore::open(&root).unwrap();
    (directory, store)
}

fn mk_blob(content: &[u8]) -> Descriptor {
    Descriptor::new(media_type::OCI_LAYER, digest_of(content), content.len() as u64)
}

/// Stores an image of one layer and returns its manifest.
fn mk_image(store: &ContentStore, layer: &[u8]) -> RawManifest {
    let config = Descriptor::new(media_type::OCI_CONFIG, digest_of(b"{}"), 2);
    store.write_blob_bytes(&config, b"{}").unwrap();
    store.write_blob_bytes(&mk_blob(layer), layer).unwrap();
    let manifest = mk_manifest(&config, layer);
    store.write_manifest(&manifest, None, &store.lease()).unwrap();
    manifest
}

fn mk_manifest(config: &Descriptor, layer: &[u8]) -> RawManifest {
    let value = serde_json::json!({
        "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "config": config, "layers": [mk_blob(layer)],
    });
    let bytes = serde_json::to_vec(&value).unwrap();
    RawManifest {
        digest: digest_of(&bytes),
        media_type: media_type::OCI_MANIFEST.to_owned(),
        bytes: bytes.into(),
    }
}

fn describe(manifest: &RawManifest) -> Descriptor {
    Descriptor::new(
        &manifest.media_type,
        manifest.digest.clone(),
        manifest.bytes.len() as u64,
    )
}

fn name(text: &str) -> ImageReference {
    text.parse().unwrap()
}

fn gc(store: &ContentStore) -> usize {
    store.gc(|| Ok(Roots::default()), SystemTime::now()).unwrap().deleted
}

#[test]
fn a_blob_is_visible_once_it_is_verified_and_not_before() {
    let fixture = mk_fixture();
    let store = ContentStore::open(&fixture.root).unwrap();
    let blob = mk_blob(b"hello world");
    let mut writer = store.writer(&blob, 0).unwrap();
    writer.append(b"hello ").unwrap();
    assert_eq!(
        store.blob_state(&blob).unwrap(),
        BlobState::Missing,
        "a writer is on it"
    );
    writer.append(b"world").unwrap();
    assert!(matches!(
        store.open_blob(&blob.digest, 0),
        Err(StoreError::Missing { .. })
    ));
    writer.commit().unwrap();
    assert_eq!(store.blob_state(&blob).unwrap(), BlobState::Complete);
    assert_eq!(store.read_blob(&blob.digest, 100).unwrap(), "hello world");
    assert!(!store.ingest_path(&blob.digest).exists());
}

/// The bytes of a writer do not count for another one, also where they are in the file already.
#[test]
fn a_blob_under_a_writer_is_missing_for_others() {
    let fixture = mk_fixture();
    let store = ContentStore::open(&fixture.root).unwrap();
    let bytes = vec![7; 1_000_000];
    let blob = mk_blob(&bytes);
    let mut writer = store.writer(&blob, 0).unwrap();
    writer.append(&bytes[..600_000]).unwrap();
    assert!(std::fs::metadata(store.ingest_path(&blob.digest)).unwrap().len() > 0);
    assert_eq!(store.blob_state(&blob).unwrap(), BlobState::Missing);
    drop(writer);
    assert_eq!(store.blob_state(&blob).unwrap(), BlobState::Partial(600_000));
}

#[test]
fn no_blob_is_begun_that_leaves_less_than_the_configured_space() {
    let fixture = mk_fixture();
    let store = ContentStore::open(&fixture.root).unwrap();
    let mut blob = mk_blob(b"too large");
    blob.size = u64::MAX;
    let total = store.disk_space().unwrap().total;
    for (bytes, expected) in [(u64::MAX, total / 20), (0, 0)] {
        store.set_min_free_space(MinFreeSpace { bytes });
        match store.writer(&blob, 0) {
            Err(StoreError::NoSpace { floor, incoming, .. }) => assert_eq!((floor, incoming), (expected, u64::MAX)),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_transfer_goes_on_where_the_last_one_stopped_even_after_a_restart() {
    let fixture = mk_fixture();
    let blob = mk_blob(b"hello world");
    {
        let store = ContentStore::open(&fixture.root).unwrap();
        store.writer(&blob, 0).unwrap().append(b"hello ").unwrap();
        assert_eq!(store.blob_state(&blob).unwrap(), BlobState::Partial(6));
    }
    let store = ContentStore::open(&fixture.root).unwrap();
    assert_eq!(store.blob_state(&blob).unwrap(), BlobState::Partial(6));
    let mut writer = store.writer(&blob, 4).unwrap();
    assert_eq!(writer.length(), 4, "what follows the offset is dropped");
    writer.append(b"o world").unwrap();
    writer.commit().unwrap();
    assert_eq!(store.blob_state(&blob).unwrap(), BlobState::Complete);
    let error = store.writer(&mk_blob(b"other"), 3).unwrap_err();
    assert_eq!(error.kind(), FailureKind::Protocol, "{error}");
}

#[test]
fn bytes_that_are_not_the_blob_never_count_and_leave_nothing_behind() {
    let fixture = mk_fixture();
    let store = ContentStore::open(&fixture.root).unwrap();
    let blob = mk_blob(b"hello world");
    for (bytes, kind, kept) in [
        (b"hello wOrld".as_slice(), FailureKind::Corrupt, BlobState::Missing),
        (b"hello world!".as_slice(), FailureKind::Corrupt, BlobState::Missing),
        (b"hello".as_slice(), FailureKind::Unreachable, BlobState::Partial(5)),
    ] {
        let mut writer = store.writer(&blob, 0).unwrap();
        let error = match writer.append(bytes) {
            Ok(()) => writer.commit().unwrap_err(),
            Err(error) => {
                drop(writer);
                error
            }
        };
        assert_eq!(error.kind(), kind, "{error}");
        assert_eq!(store.blob_state(&blob).unwrap(), kept, "{error}");
        assert!(store.open_blob(&blob.digest, 0).is_err());
    }
}

#[test]
fn a_descriptor_with_another_size_does_not_find_the_blob() {
    let fixture = mk_fixture();
    let store = ContentStore::open(&fixture.root).unwrap();
    let mut blob = mk_blob(b"hello");
    store.write_blob_bytes(&blob, b"hello").unwrap();
    blob.size = 4;
    assert_eq!(store.blob_state(&blob).unwrap(), BlobState::Missing);
    assert!(matches!(
        store.write_blob_bytes(&blob, b"hello"),
        Err(StoreError::TooLong { .. })
    ));
    blob.size = 5;
    assert_eq!(store.blob_state(&blob).unwrap(), BlobState::Complete);
}

#[test]
fn two_writers_of_one_blob_do_not_disturb_each_other() {
    let fixture = mk_fixture();
    let store = ContentStore::open(&fixture.root).unwrap();
    let blob = mk_blob(b"hello");
    let mut first = store.writer(&blob, 0).unwrap();
    first.append(b"he").unwrap();
    let mut second = store.writer(&blob, 0).unwrap();
    second.append(b"hello").unwrap();
    second.commit().unwrap();
    first.append(b"llo").unwrap();
    first.commit().unwrap();
    assert_eq!(store.read_blob(&blob.digest, 10).unwrap(), "hello");
    assert_eq!(std::fs::read_dir(fixture.root.join(INGEST)).unwrap().count(), 0);
}

#[test]
fn a_sha512_blob_is_verified_by_its_own_algorithm() {
    let fixture = mk_fixture();
    let store = ContentStore::open(&fixture.root).unwrap();
    let mut digester = Digester::new(Algorithm::Sha512);
    digester.update(b"hello");
    let blob = Descriptor::new("", digester.finish(), 5);
    store.write_blob_bytes(&blob, b"hello").unwrap();
    assert_eq!(store.read_blob(&blob.digest, 10).unwrap(), "hello");
    let mut upload = store.upload(Algorithm::Sha256);
    upload.append(b"hello").unwrap();
    assert_eq!(upload.commit(&blob.digest).unwrap(), 5);
    let mut upload = store.upload(Algorithm::Sha256);
    upload.append(b"other").unwrap();
    assert!(matches!(
        upload.commit(&blob.digest),
        Err(StoreError::WrongDigest { .. })
    ));
    drop(upload);
    assert_eq!(std::fs::read_dir(fixture.root.join(INGEST)).unwrap().count(), 0);
}

#[test]
fn a_store_is_open_in_one_place_at_a_time() {
    let fixture = mk_fixture();
    let store = ContentStore::open(&fixture.root).unwrap();
    assert!(matches!(
        ContentStore::open(&fixture.root),
        Err(StoreError::InUse { .. })
    ));
    drop(store);
    ContentStore::open(&fixture.root).unwrap();
}

#[test]
fn names_outlive_a_restart_and_are_those_that_other_programs_look_for() {
    let fixture = mk_fixture();
    let manifest = {
        let store = ContentStore::open(&fixture.root).unwrap();
        let manifest = mk_image(&store, b"layer");
        store.name_image(&name("nginx"), &describe(&manifest)).unwrap();
        manifest
    };
    let store = ContentStore::open(&fixture.root).unwrap();
    assert_eq!(store.repairs(), [] as [String; 0]);
    assert_eq!(
        store.image(&name("docker.io/library/nginx:latest")),
        Some(describe(&manifest))
    );
    insta::assert_snapshot!(std::fs::read_to_string(fixture.root.join("index.json")).unwrap(), @r#"
    {
      "schemaVersion": 2,
      "mediaType": "application/vnd.oci.image.index.v1+json",
      "manifests": [
        {
          "mediaType": "application/vnd.oci.image.manifest.v1+json",
          "digest": "sha256:a3aa9a6043e00956389f9e9ac582e89b5acda67f142cb2b9f4ca1ab146b651d7",
          "size": 392,
          "annotations": {
            "io.containerd.image.name": "docker.io/library/nginx:latest",
            "org.opencontainers.image.ref.name": "docker.io/library/nginx:latest"
          }
        }
      ]
    }
    "#);
    insta::assert_snapshot!(std::fs::read_to_string(fixture.root.join("oci-layout")).unwrap(), @r#"{"imageLayoutVersion":"1.0.0"}"#);
    assert!(store.remove_image(&name("nginx")).unwrap());
    assert!(!store.remove_image(&name("nginx")).unwrap());
    assert!(store.images().is_empty());
}

#[test]
fn a_damaged_index_is_set_aside_and_no_blob_is_lost() {
    for damage in [b"{\"schemaVersion\": 2, \"manif".as_slice(), b"", b"[]", &[0; 512]] {
        let fixture = mk_fixture();
        let manifest = {
            let store = ContentStore::open(&fixture.root).unwrap();
            let manifest = mk_image(&store, b"layer");
            store.name_image(&name("nginx"), &describe(&manifest)).unwrap();
            manifest
        };
        std::fs::write(fixture.root.join("index.json"), damage).unwrap();
        let store = ContentStore::open(&fixture.root).unwrap();
        assert_eq!(store.repairs().len(), 1);
        assert!(
            store.repairs()[0].contains("index.json.damaged"),
            "{:?}",
            store.repairs()
        );
        assert!(store.is_complete(&manifest.digest).unwrap());
        store.name_image(&name("nginx"), &describe(&manifest)).unwrap();
        drop(store);
        assert_eq!(ContentStore::open(&fixture.root).unwrap().images().len(), 1);
    }
}

#[test]
fn an_index_entry_that_has_no_good_name_is_left_out_and_told() {
    let fixture = mk_fixture();
    drop(ContentStore::open(&fixture.root).unwrap());
    let mut bad = mk_blob(b"x");
    bad.annotations
        .insert("io.containerd.image.name".to_owned(), "UPPER CASE".to_owned());
    std::fs::write(
        fixture.root.join("index.json"),
        index::render_index(vec![bad, mk_blob(b"y")]),
    )
    .unwrap();
    let store = ContentStore::open(&fixture.root).unwrap();
    assert_eq!(store.repairs().len(), 2, "{:?}", store.repairs());
    assert!(store.images().is_empty());
}

#[test]
fn opening_clears_away_what_nobody_can_go_on_with() {
    let fixture = mk_fixture();
    let done = mk_blob(b"done");
    let partial = mk_blob(b"partial");
    {
        let store = ContentStore::open(&fixture.root).unwrap();
        store.write_blob_bytes(&done, b"done").unwrap();
        store.writer(&partial, 0).unwrap().append(b"part").unwrap();
        std::fs::write(store.ingest_path(&done.digest), b"do").unwrap();
        std::fs::write(format!("{}.7", store.ingest_path(&partial.digest)), b"private").unwrap();
        std::fs::write(fixture.root.join("ingest/upload.3"), b"upload").unwrap();
        std::fs::write(fixture.root.join("work/left"), b"over").unwrap();
    }
    let store = ContentStore::open(&fixture.root).unwrap();
    assert_eq!(store.blob_state(&partial).unwrap(), BlobState::Partial(4));
    assert_eq!(std::fs::read_dir(fixture.root.join(INGEST)).unwrap().count(), 1);
    assert_eq!(std::fs::read_dir(fixture.root.join(WORK)).unwrap().count(), 0);
}

#[test]
fn an_image_is_complete_when_all_of_it_is_here_with_the_right_size() {
    let fixture = mk_fixture();
    let store = ContentStore::open(&fixture.root).unwrap();
    let manifest = mk_image(&store, b"layer");
    let entry = describe(&manifest);
    let bytes = serde_json::to_vec(&serde_json::json!({"schemaVersion": 2, "manifests": [entry]})).unwrap();
    let index = RawManifest {
        digest: digest_of(&bytes),
        media_type: media_type::OCI_INDEX.to_owned(),
        bytes: bytes.into(),
    };
    assert!(
        !store.is_complete(&index.digest).unwrap(),
        "the index itself is not here"
    );
    store.write_manifest(&index, None, &store.lease()).unwrap();
    assert!(store.is_complete(&index.digest).unwrap());
    let layer = store.blob_path(&digest_of(b"layer"));
    std::fs::write(&layer, b"laye").unwrap();
    assert!(!store.is_complete(&index.digest).unwrap(), "a layer is short");
    std::fs::write(&layer, b"layer").unwrap();
    std::fs::write(store.blob_path(&manifest.digest), b"{}").unwrap();
    assert!(!store.is_complete(&index.digest).unwrap(), "a manifest is damaged");
    store.write_manifest(&manifest, None, &store.lease()).unwrap();
    assert!(store.is_complete(&index.digest).unwrap(), "writing it again repairs it");
}

#[test]
fn a_manifest_is_refused_while_something_that_it_names_is_missing() {
    let fixture = mk_fixture();
    let store = ContentStore::open(&fixture.root).unwrap();
    let config = Descriptor::new(media_type::OCI_CONFIG, digest_of(b"{}"), 2);
    store.write_blob_bytes(&config, b"{}").unwrap();
    let manifest = mk_manifest(&config, b"never stored");
    let error = store
        .write_manifest(&manifest, Some(&name("a/b:1")), &store.lease())
        .unwrap_err();
    assert!(matches!(error, StoreError::Incomplete { .. }), "{error}");
    assert!(store.images().is_empty());
    let mut lying = manifest.clone();
    lying.digest = digest_of(b"something else");
    store
        .write_blob_bytes(&mk_blob(b"never stored"), b"never stored")
        .unwrap();
    let error = store.write_manifest(&lying, None, &store.lease()).unwrap_err();
    assert_eq!(error.kind(), FailureKind::Corrupt, "{error}");
}

#[test]
fn collection_takes_what_nobody_counts_on_and_nothing_else() {
    let fixture = mk_fixture();
    let store = ContentStore::open(&fixture.root).unwrap();
    let named = mk_image(&store, b"named");
    store.name_image(&name("a/named:1"), &describe(&named)).unwrap();
    let rooted = mk_image(&store, b"rooted");
    let lease = store.lease();
    store.write_blob_bytes(&mk_blob(b"in flight"), b"in flight").unwrap();
    lease.add(&mk_blob(b"in flight").digest);
    let orphan = mk_image(&store, b"orphan");
    std::fs::write(fixture.root.join("blobs/sha256/README"), b"not ours").unwrap();

    let report = store
        .gc(
            || {
                Ok(Roots {
                    manifests: vec![rooted.digest.clone()],
                    blobs: Vec::new(),
                })
            },
            SystemTime::now(),
        )
        .unwrap();
    assert_eq!(
        report.deleted, 2,
        "the orphan's manifest and layer; the configuration is shared"
    );
    assert_eq!(report.bytes, orphan.bytes.len() as u64 + 6);
    assert!(store.is_complete(&named.digest).unwrap());
    assert!(store.is_complete(&rooted.digest).unwrap());
    assert!(!store.is_complete(&orphan.digest).unwrap());
    assert_eq!(store.blob_state(&mk_blob(b"in flight")).unwrap(), BlobState::Complete);

    drop(lease);
    store.remove_image(&name("a/named:1")).unwrap();
    assert_eq!(gc(&store), 6, "everything but the file that is not ours");
}

#[test]
fn an_image_that_is_named_while_a_collection_runs_is_kept() {
    let fixture = mk_fixture();
    let store = ContentStore::open(&fixture.root).unwrap();
    let manifest = mk_image(&store, b"layer");
    let during = || {
        // The collection remembers leases. The transfer finds the image complete, names it, and ends before any
        // deletion.
        let lease = store.lease();
        store
            .first_missing(&manifest.digest, |digest| lease.add(digest))
            .unwrap();
        Ok(Roots::default())
    };
    assert_eq!(store.gc(during, SystemTime::now()).unwrap().deleted, 0);
    assert!(store.is_complete(&manifest.digest).unwrap());
    assert_eq!(gc(&store), 3);
}

#[test]
fn partial_files_wait_a_week() {
    let fixture = mk_fixture();
    let store = ContentStore::open(&fixture.root).unwrap();
    let blob = mk_blob(b"partial");
    store.writer(&blob, 0).unwrap().append(b"part").unwrap();
    let days = |days: u64| SystemTime::now() + Duration::from_secs(days * 24 * 60 * 60);
    assert_eq!(store.gc(|| Ok(Roots::default()), days(6)).unwrap().deleted, 0);
    let writer = store.writer(&blob, 4).unwrap();
    assert_eq!(
        store.gc(|| Ok(Roots::default()), days(8)).unwrap().deleted,
        0,
        "a writer is on it"
    );
    drop(writer);
    assert_eq!(store.gc(|| Ok(Roots::default()), days(8)).unwrap().deleted, 1);
    assert_eq!(store.blob_state(&blob).unwrap(), BlobState::Missing);
}

fn mk_stream(chunks: &[&'static str], broken: bool) -> crate::image::BlobStream {
    let mut items: Vec<Result<Bytes, TransferError>> = chunks
        .iter()
        .map(|chunk| Ok(Bytes::from_static(chunk.as_bytes())))
        .collect();
    if broken {
        items.push(Err(TransferError {
            attempt: "the link is down".to_owned(),
            kind: FailureKind::Unreachable,
            source: None,
        }));
    }
    stream::iter(items).boxed()
}

#[tokio::test]
async fn a_broken_stream_keeps_what_arrived_and_the_next_one_finishes_it() {
    let fixture = mk_fixture();
    let store = ContentStore::open(&fixture.root).unwrap();
    let sink = StoreSink::new(store.clone());
    let blob = mk_blob(b"hello world");
    let error = sink
        .write_blob(&blob, 0, mk_stream(&["hel", "lo "], true))
        .await
        .unwrap_err();
    assert_eq!(error.to_string(), "the link is down");
    assert_eq!(sink.blob_state(&blob).await.unwrap(), BlobState::Partial(6));
    let error = sink.write_blob(&blob, 6, mk_stream(&["wo"], false)).await.unwrap_err();
    assert_eq!(error.kind, FailureKind::Unreachable, "an early end is one more break");
    sink.write_blob(&blob, 8, mk_stream(&["rld"], false)).await.unwrap();
    assert_eq!(sink.blob_state(&blob).await.unwrap(), BlobState::Complete);
    let error = sink
        .write_blob(&mk_blob(b"abc"), 0, mk_stream(&["ab", "d"], false))
        .await
        .unwrap_err();
    assert_eq!(error.kind, FailureKind::Corrupt);
    assert_eq!(sink.blob_state(&mk_blob(b"abc")).await.unwrap(), BlobState::Missing);
}

#[tokio::test]
async fn what_the_sink_wrote_the_source_reads() {
    let fixture = mk_fixture();
    let store = ContentStore::open(&fixture.root).unwrap();
    let manifest = mk_image(&store, b"layer");
    let sink = StoreSink::new(store.clone());
    assert!(sink.has_image(&manifest).await.unwrap());
    sink.write_manifest(&manifest, Some(&name("reg.example/a/b:1")))
        .await
        .unwrap();
    let source = StoreSource::new(store, name("reg.example/a/b:1"));
    assert_eq!(source.fetch_manifest("1").await.unwrap(), manifest);
    assert_eq!(source.fetch_manifest(manifest.digest.as_str()).await.unwrap(), manifest);
    assert_eq!(
        source.fetch_manifest("2").await.unwrap_err().kind,
        FailureKind::NotFound
    );
    let blob = mk_blob(b"layer");
    let chunks: Vec<_> = source.open_blob(&blob, 2).await.unwrap().collect().await;
    let bytes: Vec<u8> = chunks.into_iter().flat_map(|chunk| chunk.unwrap()).collect();
    assert_eq!(bytes, b"yer");
}

/// A disk that waits for a signal before each write.
struct SlowDisk {
    go: std::sync::mpsc::Receiver<()>,
    bytes: usize,
}

impl ByteReceiver for SlowDisk {
    fn append(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        // A closed channel counts as a signal: no other will come.
        let _signal = self.go.recv();
        self.bytes += bytes.len();
        Ok(())
    }
}

#[tokio::test]
async fn what_waits_for_a_slow_disk_is_bounded_in_bytes() {
    const PIECE: usize = 400 * 1024;
    let taken = std::cell::Cell::new(0);
    let chunks = stream::iter(0..20).map(|_| {
        taken.set(taken.get() + 1);
        Ok::<_, TransferError>(bytes::Bytes::from(vec![0; PIECE]))
    });
    let (go_on, go) = std::sync::mpsc::channel();
    let filling = receive_stream(|| Ok(SlowDisk { go, bytes: 0 }), chunks);
    let looking = async {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        drop(go_on);
        taken.get()
    };
    let (filled, waiting) = tokio::join!(filling, looking);
    assert_eq!(
        waiting, 2,
        "one chunk of half a mebibyte, and one for which there is no room"
    );
    assert_eq!(filled.unwrap().0.bytes, 20 * PIECE);
}

/// A disk that takes everything at once.
#[derive(Default)]
struct QuickDisk(usize);

impl ByteReceiver for QuickDisk {
    fn append(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.0 += bytes.len();
        Ok(())
    }
}

#[test]
fn senders_that_are_slow_occupy_no_thread() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .max_blocking_threads(2)
        .build()
        .unwrap();
    runtime.block_on(async {
        let slow = (0..50).map(|_| {
            let first = stream::iter([Ok::<_, TransferError>(bytes::Bytes::from_static(b"x"))]);
            receive_stream(|| Ok(QuickDisk::default()), first.chain(stream::pending()).boxed())
        });
        let mut slow: Vec<_> = slow.map(Box::pin).collect();
        let other = async {
            for _ in 0..20 {
                super::blocking::blocking(|| Ok(())).await.unwrap();
            }
        };
        let all_slow = futures_util::future::join_all(&mut slow);
        let served = tokio::time::timeout(std::time::Duration::from_secs(20), async {
            tokio::select! {
                _ = all_slow => panic!("they do not end"),
                () = other => {}
            }
        });
        served.await.expect("other work gets a thread");
    });
}
