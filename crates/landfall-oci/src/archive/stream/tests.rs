use std::io::Cursor;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use landfall_core::failure::{error_chain, find_hint};
use landfall_core::reference::ImageReference;
use landfall_core::status::NoProgress;
use landfall_testkit::image_builder::{FixtureBuilder, ImageFixture, docker_archive, oci_archive, tar_of};

use super::*;
use crate::archive::open_archive;
use crate::archive::tests::{assert_whole, files_of, mk_plain, to_tar};
use crate::copy::{CopyOptions, copy_image};
use crate::hints::hint_of;
use crate::image::BlobState;
use crate::store::ContentStore;
use crate::store::disk_space::MinFreeSpace;
use crate::store::source_and_sink::StoreSink;

/// Reads an archive once, into a store below `directory`, on a thread and a runtime of its own.
pub(in crate::archive) fn load(stream: ArchiveStream, directory: &Utf8Path) -> Result<Vec<ArchiveImage>, StreamError> {
    let directory = directory.join("store");
    let loading = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let staging = Staging::in_store(&ContentStore::open(&directory).unwrap());
        runtime.block_on(load_stream(stream, &staging, &NoProgress))
    });
    loading.join().unwrap()
}

struct Place {
    _directory: tempfile::TempDir,
    store: ContentStore,
}

fn mk_place() -> Place {
    let directory = tempfile::tempdir().unwrap();
    let store = ContentStore::open(Utf8Path::from_path(directory.path()).unwrap()).unwrap();
    Place {
        _directory: directory,
        store,
    }
}

fn mk_stream(bytes: &[u8]) -> ArchiveStream {
    ArchiveStream::new(Utf8Path::new("x.tar.zst"), Box::new(Cursor::new(bytes.to_vec())))
}

async fn load_into(store: &ContentStore, stream: ArchiveStream) -> Result<Vec<ArchiveImage>, String> {
    let loaded = load_stream(stream, &Staging::in_store(store), &NoProgress).await;
    loaded.map_err(|error| error_chain(&error))
}

/// Returns an image with a layer that is larger than a document.
fn mk_large() -> ImageFixture {
    let content: Vec<u8> = (0..2_300_000_u32)
        .flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes())
        .collect();
    FixtureBuilder::new()
        .plain_layer(&[("large", &content)])
        .plain_layer(&[("small", b"small")])
        .build()
}

#[tokio::test]
async fn blobs_go_to_the_store_as_they_come_and_manifests_only_with_the_copy() {
    let image = mk_large();
    let oci = files_of(&oci_archive(&[("reg/a:1", &image)]));
    let mut index_first = oci.clone();
    index_first.reverse();
    let archives = [
        to_tar(&oci),
        to_tar(&index_first),
        docker_archive(&[(&["reg/a:1"], &image)]),
    ];
    for (number, archive) in archives.iter().enumerate() {
        let place = mk_place();
        let bytes = zstd::encode_all(archive.as_slice(), 1).unwrap();
        let images = load_into(&place.store, mk_stream(&bytes)).await.unwrap();
        assert_eq!(images[0].root.digest, image.root.digest, "{number}");
        assert_eq!(images[0].names, ["reg/a:1"]);
        // Tiny files of `docker save` stay in memory.
        for (blob, _) in image.described_blobs().filter(|(blob, _)| blob.size > 4096) {
            assert_eq!(place.store.blob_state(&blob).unwrap(), BlobState::Complete, "{number}");
        }
        assert_eq!(
            place.store.blob_state(&image.root).unwrap(),
            BlobState::Missing,
            "{number}"
        );
        assert_whole(&images[0]).await;

        let name: ImageReference = "reg.example.com/a:1".parse().unwrap();
        let sink = StoreSink::new(place.store.clone());
        let options = CopyOptions::new(2);
        let selector = images[0].root.digest.to_string();
        let source = images[0].source.clone();
        let copied = copy_image(&*source, &selector, &sink, Some(&name), &options, &NoProgress);
        assert!(
            copied.await.unwrap().bytes_moved < 10_000,
            "{number}: only what was in memory"
        );
        assert_eq!(place.store.image(&name).unwrap().digest, image.root.digest);
        // A second run skips what is there.
        assert!(load_into(&place.store, mk_stream(&bytes)).await.is_ok());
    }
}

#[tokio::test]
async fn intact_images_of_a_damaged_archive_can_be_copied() {
    let (small, large) = (FixtureBuilder::new().plain_layer(&[("s", b"s")]).build(), mk_large());
    let archive = oci_archive(&[("reg/small:1", &small), ("reg/large:1", &large)]);
    let largest = large.described_blobs().max_by_key(|(blob, _)| blob.size).unwrap().0;
    let smallest = large.described_blobs().min_by_key(|(blob, _)| blob.size).unwrap().0;
    for wrong in [largest, smallest] {
        let mut files = files_of(&archive);
        for (path, content) in &mut files {
            if path.ends_with(wrong.digest.hex()) {
                let middle = content.len() / 2;
                content[middle] ^= 1;
            }
        }
        let place = mk_place();
        let staging = Staging::in_store(&place.store);
        let images = load_intact(mk_stream(&to_tar(&files)), &staging, &NoProgress)
            .await
            .unwrap();
        let sink = StoreSink::new(place.store.clone());
        let mut outcomes = Vec::new();
        for image in &images {
            let name: ImageReference = image.names[0].parse().unwrap();
            let digest = image.root.digest.to_string();
            let mut options = CopyOptions::new(2);
            options.retry.attempts = 1;
            let copied = copy_image(&*image.source, &digest, &sink, Some(&name), &options, &NoProgress).await;
            outcomes.push(copied.map(drop).map_err(|error| error.chain()));
        }
        assert_eq!(outcomes[0], Ok(()));
        let error = outcomes[1].as_ref().unwrap_err();
        assert!(error.contains(wrong.digest.as_str()), "{error}");
        assert!(error.contains("another digest"), "{error}");
    }
}

#[tokio::test]
async fn an_archive_that_breaks_off_names_the_images_that_it_is_damaged_in() {
    let (first, second) = (mk_large(), FixtureBuilder::new().plain_layer(&[("s", b"s")]).build());
    let archive = oci_archive(&[("reg/first:1", &first), ("reg/second:1", &second)]);
    let mut bytes = zstd::encode_all(archive.as_slice(), 1).unwrap();
    // The frame gets a checksum that is not its own.
    bytes[4] |= 4;
    bytes.extend([0; 4]);
    let place = mk_place();
    let staging = Staging::in_store(&place.store);
    let error = load_intact(mk_stream(&bytes), &staging, &NoProgress).await.unwrap_err();
    assert!(
        matches!(error, StreamError::Archive(ArchiveError::Read { .. })),
        "no part is known: {error}"
    );
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    // What is in the store is not looked at again.
    let place = mk_place();
    let staging = Staging::in_store(&place.store);
    let error = load_intact(mk_stream(&bytes), &staging, &NoProgress).await.unwrap_err();
    let StreamError::Archive(ArchiveError::Part { entry, images, .. }) = &error else {
        panic!("{error:?}");
    };
    let largest = first.described_blobs().max_by_key(|(blob, _)| blob.size).unwrap().0;
    assert!(entry.contains(largest.digest.hex()), "{entry}");
    // In the middle of a file, its list of images may not have been read yet.
    assert!(images.is_empty() || images == &["reg/first:1"], "{images:?}");

    let cut = &bytes[..bytes.len() / 4];
    let StreamError::Archive(error) = load_intact(mk_stream(cut), &staging, &NoProgress).await.unwrap_err() else {
        panic!("it is the archive's error");
    };
    assert!(error.is_cut_short() && !error.is_other_file(), "{error:?}");
}

#[tokio::test]
async fn a_file_is_hashed_while_it_is_read() {
    let image = FixtureBuilder::new().plain_layer(&[("s", b"s")]).build();
    let mut bytes = zstd::encode_all(oci_archive(&[("reg/a:1", &image)]).as_slice(), 1).unwrap();
    // An empty skippable frame at the end belongs to the file.
    bytes.extend([0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0]);
    let directory = tempfile::tempdir().unwrap();
    let directory = Utf8Path::from_path(directory.path()).unwrap();
    let place = mk_place();
    for (number, piece) in bytes.chunks(bytes.len().div_ceil(2)).enumerate() {
        fs_err::write(directory.join(format!("x.zst.part00{}", number + 1)), piece).unwrap();
    }
    let path = directory.join("x.zst.part001");
    for (stated, is_right) in [
        (crate::digest::digest_of(&bytes), true),
        (crate::digest::digest_of(b"x"), false),
    ] {
        let description = format!(
            r#"{{"sha256Sum":"{}","bytes":{},"count":2}}"#,
            stated.hex(),
            bytes.len()
        );
        fs_err::write(directory.join("x.zst.part000"), description).unwrap();
        let (stream, hash) = ArchiveStream::open(&path).unwrap();
        let staging = Staging::in_store(&place.store);
        assert!(load_intact(stream, &staging, &NoProgress).await.is_ok());
        match (hash.finish(), is_right) {
            (Ok(found), true) => assert_eq!(found, stated),
            (Err(error), false) => {
                let chain = landfall_core::failure::error_chain(&error);
                assert!(chain.contains("`x.zst.part000` states the SHA-256"), "{chain}");
            }
            (other, _) => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_damaged_blob_never_becomes_visible_and_the_rest_stays_for_a_second_run() {
    let image = mk_large();
    let large = image.described_blobs().max_by_key(|(blob, _)| blob.size).unwrap().0;
    let mut files = files_of(&oci_archive(&[("reg/a:1", &image)]));
    for (path, content) in &mut files {
        if path.ends_with(large.digest.hex()) {
            content[5_000_000] ^= 1;
        }
    }
    let place = mk_place();
    let error = load_into(&place.store, mk_stream(&to_tar(&files))).await.unwrap_err();
    assert!(error.contains("the bytes that arrived for blob"), "{error}");
    assert_eq!(place.store.blob_state(&large).unwrap(), BlobState::Missing);

    // Cut inside the large blob: the next run goes on after the bytes that came.
    let whole = to_tar(&files_of(&oci_archive(&[("reg/a:1", &image)])));
    let error = load_into(&place.store, mk_stream(&whole[..9_000_000]))
        .await
        .unwrap_err();
    assert!(error.ends_with("it ends in the middle: it was cut short"), "{error}");
    assert!(matches!(place.store.blob_state(&large).unwrap(), BlobState::Partial(_)));
    let images = load_into(&place.store, mk_stream(&whole)).await.unwrap();
    assert_whole(&images[0]).await;
}

#[tokio::test]
async fn a_bomb_and_a_flood_of_documents_end_at_the_limits() {
    let image = mk_plain("x");
    let place = mk_place();
    let bomb = zstd::encode_all(to_tar(&[("zeros".to_owned(), vec![0; 30 << 20])]).as_slice(), 1).unwrap();
    let mut stream = mk_stream(&bomb);
    stream.limits.decompressed = 10 << 20;
    let error = load_into(&place.store, stream).await.unwrap_err();
    assert!(
        error.ends_with("more than 10485760 bytes come out of the decompression"),
        "{error}"
    );
    let mut stream = mk_stream(&oci_archive(&[("a/b:1", &image)]));
    stream.limits.documents = 100;
    let error = load_into(&place.store, stream).await.unwrap_err();
    assert!(
        error.contains("and more or longer names before it than an image archive has"),
        "{error}"
    );
}

/// An archive of one blob of a tebibyte, which never ends. Counts the bytes that are read of it.
struct Endless {
    header: Cursor<Vec<u8>>,
    read: Arc<AtomicU64>,
}

impl Read for Endless {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let mut read = self.header.read(buffer)?;
        if read == 0 {
            buffer.fill(7);
            read = buffer.len();
        }
        self.read.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

#[tokio::test]
async fn a_destination_that_refuses_a_blob_ends_the_reading() {
    let mut header = tar::Header::new_gnu();
    header.set_path(format!("blobs/sha256/{}", "ab".repeat(32))).unwrap();
    header.set_size(1 << 39);
    header.set_cksum();
    let read = Arc::new(AtomicU64::new(0));
    let endless = Endless {
        header: Cursor::new(header.as_bytes().to_vec()),
        read: read.clone(),
    };
    let place = mk_place();
    place.store.set_min_free_space(MinFreeSpace { bytes: u64::MAX / 4 });
    let stream = ArchiveStream::new(Utf8Path::new("-"), Box::new(endless));
    let error = load_into(&place.store, stream).await.unwrap_err();
    assert!(error.contains("no room for"), "{error}");
    assert!(read.load(Ordering::Relaxed) < 64 << 20, "the rest is not read");
}

#[tokio::test]
async fn files_that_are_no_part_of_an_image_are_passed_over_and_a_followed_hint_finds_them() {
    let image = mk_plain("x");
    let large = vec![1; 9 << 20];
    let mut files = files_of(&oci_archive(&[("a/b:1", &image)]));
    // After `index.json`, which only a layout has.
    files.sort_by_key(|(path, _)| path.starts_with("blobs/"));
    files.push(("notes.bin".to_owned(), large.clone()));
    let place = mk_place();
    let images = load_into(&place.store, mk_stream(&to_tar(&files))).await.unwrap();
    assert_whole(&images[0]).await;
    let digest = crate::digest::digest_of(&large);
    assert_eq!(place.store.blob_size(&digest).unwrap(), None);

    // A list that names such a file: the message says that one pass is the cause.
    let list = br#"[{"Config":"components/notes.bin","RepoTags":null,"Layers":[]}]"#;
    let listed = tar_of([("components/notes.bin", &large[..]), ("manifest.json", list)]);
    let staging = Staging::in_store(&place.store);
    let error = load_stream(mk_stream(&listed), &staging, &NoProgress)
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("larger than such a document may be"),
        "{error}"
    );
    let list = br#"[{"Config":"c","RepoTags":null,"Layers":["components/notes.bin"]}]"#;
    let config = format!(r#"{{"rootfs":{{"diff_ids":["{digest}"]}}}}"#);
    let listed = tar_of([
        ("components/notes.bin", &large[..]),
        ("c", config.as_bytes()),
        ("manifest.json", list),
    ]);
    let error = load_stream(mk_stream(&listed), &staging, &NoProgress)
        .await
        .unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("which is not kept when the archive is read once"),
        "{error}"
    );
    let hint = find_hint(&error, hint_of);
    assert_eq!(
        hint.as_deref(),
        Some("decompress the archive to a file, and name that file")
    );
    let directory = tempfile::tempdir().unwrap();
    let spool = Utf8Path::from_path(directory.path()).unwrap();
    let file = spool.join("x.tar");
    fs_err::write(&file, &listed).unwrap();
    let images = open_archive(&file, spool).unwrap();
    assert_eq!(images.len(), 1);
    assert_whole(&images[0]).await;
}

/// Keeps all events of blobs, without their digests.
#[derive(Debug, Default)]
struct Recorded(std::sync::Mutex<Vec<String>>);

impl ProgressSink for Recorded {
    fn progress(&self, event: ProgressEvent) {
        let text = match event {
            ProgressEvent::BlobPlanned { size, .. } => format!("planned {size}"),
            ProgressEvent::BlobStarted { image, offset, .. } => format!("started {image} at {offset}"),
            ProgressEvent::BlobAdvanced { bytes, .. } => format!("advanced {bytes}"),
            ProgressEvent::BlobFinished { .. } => "finished".to_owned(),
            ProgressEvent::BlobSkipped { size, .. } => format!("skipped {size}"),
            other => format!("{other:?}"),
        };
        self.0.lock().unwrap().push(text);
    }
}

#[tokio::test]
async fn progress_counts_the_bytes_that_move() {
    let layer = vec![b'x'; 700_000];
    let image = FixtureBuilder::new()
        .layer("application/octet-stream", b"", layer.clone())
        .build();
    let mut files = files_of(&oci_archive(&[("a/b:1", &image)]));
    files.retain(|(path, content)| content.len() == layer.len() || !path.starts_with("blobs/"));
    let place = mk_place();
    let blob = image.described_blobs().max_by_key(|(blob, _)| blob.size).unwrap().0;
    let mut writer = place.store.writer(&blob, 0).unwrap();
    writer.append(&layer[..300_000]).unwrap();
    drop(writer);
    let staging = Staging::in_store(&place.store);
    for expected in [
        "planned 700000, started x.tar.zst at 300000, advanced 224288, advanced 175712, finished",
        "planned 700000, skipped 700000",
    ] {
        let recorded = Recorded::default();
        // The manifest is left out: the images are not of interest.
        assert!(
            load_stream(mk_stream(&to_tar(&files)), &staging, &recorded)
                .await
                .is_err()
        );
        assert_eq!(recorded.0.into_inner().unwrap().join(", "), expected);
    }
}
