//! An archive that is read once takes a bounded amount of memory and no disk but that of its blobs. One test, in a program
//! of its own, because the peak of memory belongs to the whole process.

#![expect(clippy::unwrap_used, reason = "test set-up")]

use std::io::Write as _;

use camino::Utf8Path;
use landfall_core::oci_types::{Descriptor, media_type};
use landfall_core::status::NoProgress;
use landfall_oci::archive::stream::{Staging, open_or_load};
use landfall_oci::digest::{Algorithm, Digester};
use landfall_oci::image::BlobState;
use landfall_oci::store::ContentStore;
use landfall_testkit::memory::peak_memory;

const LAYER_SIZE: usize = 96 << 20;
static CHUNK: [u8; 1 << 20] = [7; 1 << 20];

fn append(tar: &mut impl std::io::Write, path: &str, size: usize) {
    let mut header = tar::Header::new_gnu();
    header.set_path(path).unwrap();
    header.set_size(size as u64);
    header.set_cksum();
    tar.write_all(header.as_bytes()).unwrap();
}

#[tokio::test]
async fn a_large_layer_is_never_in_memory_or_in_a_second_file() {
    let directory = tempfile::tempdir().unwrap();
    let root = Utf8Path::from_path(directory.path()).unwrap();
    let mut digester = Digester::new(Algorithm::Sha256);
    for _ in 0..LAYER_SIZE / CHUNK.len() {
        digester.update(&CHUNK);
    }
    let layer = Descriptor::new(media_type::OCI_LAYER, digester.finish(), LAYER_SIZE as u64);
    let path = root.join("x.tar.zst");
    let mut tar = zstd::stream::write::Encoder::new(std::fs::File::create(&path).unwrap(), 1).unwrap();
    append(&mut tar, &format!("blobs/sha256/{}", layer.digest.hex()), LAYER_SIZE);
    for _ in 0..LAYER_SIZE / CHUNK.len() {
        tar.write_all(&CHUNK).unwrap();
    }
    let index = br#"{"schemaVersion":2,"manifests":[]}"#;
    append(&mut tar, "index.json", index.len());
    tar.write_all(index).unwrap();
    tar.write_all(&[0; 512 * 3]).unwrap();
    tar.finish().unwrap();

    let store = ContentStore::open(&root.join("store")).unwrap();
    let before = peak_memory("self").unwrap();
    let spool = root.join("no-such-directory");
    let images = open_or_load(&path, &spool, &Staging::in_store(&store), &NoProgress).await;
    assert!(images.unwrap().is_empty());
    assert_eq!(store.blob_state(&layer).unwrap(), BlobState::Complete);
    let grown = peak_memory("self").unwrap() - before;
    assert!(grown < 32 << 20, "{grown} bytes");
}
