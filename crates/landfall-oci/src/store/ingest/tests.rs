//! Files of writers and uploads, while they are open and after they were given up.

use super::*;
use crate::digest::digest_of;
use crate::store::tests::mk_store;

fn files_in_ingest(store: &ContentStore) -> usize {
    std::fs::read_dir(store.root().join(INGEST)).unwrap().count()
}

#[test]
fn the_free_space_is_checked_again_after_each_large_write() {
    let mut unchecked = Unchecked::default();
    unchecked.add(WRITE_SIZE - 1);
    assert!(!unchecked.is_due());
    unchecked.add(1);
    assert!(unchecked.is_due());
}

#[test]
fn a_second_writer_that_is_given_up_leaves_the_file_of_the_first_alone() {
    let (_directory, store) = mk_store();
    let blob = Descriptor::new("", digest_of(b"hello"), 5);
    let mut first = store.writer(&blob, 0).unwrap();
    first.append(b"he").unwrap();
    let mut second = store.writer(&blob, 0).unwrap();
    second.append(b"hell").unwrap();
    assert_eq!(files_in_ingest(&store), 2);
    drop(second);
    assert_eq!(files_in_ingest(&store), 1);
    drop(first);
    assert_eq!(store.blob_state(&blob).unwrap(), BlobState::Partial(2));
}

#[test]
fn a_blob_is_whole_as_soon_as_its_upload_is_committed() {
    let (_directory, store) = mk_store();
    let bytes = vec![7; MEMORY_MAX + WRITE_SIZE / 2];
    let (digest, length) = (digest_of(&bytes), bytes.len() as u64);
    let mut upload = store.upload(Algorithm::Sha256);
    upload.append(&bytes).unwrap();
    assert_eq!(upload.commit(&digest).unwrap(), length);
    assert_eq!(store.read_blob(&digest, length).unwrap(), bytes);
    drop(upload);
    assert_eq!(store.read_blob(&digest, length).unwrap(), bytes);
}

#[test]
fn an_upload_is_hashed_by_the_expected_algorithm_unless_bytes_are_hashed_already() {
    let (_directory, store) = mk_store();
    let mut upload = store.upload(Algorithm::Sha256);
    upload.append(b"in memory").unwrap();
    upload.expect_algorithm(Algorithm::Sha512);
    assert_eq!(upload.algorithm, Algorithm::Sha512);
    upload.append(&vec![0; MEMORY_MAX]).unwrap();
    upload.expect_algorithm(Algorithm::Sha256);
    assert_eq!(upload.algorithm, Algorithm::Sha512);
}

#[test]
fn an_upload_touches_the_disk_with_the_first_byte_for_which_memory_has_no_room() {
    let (_directory, store) = mk_store();
    let mut upload = store.upload(Algorithm::Sha256);
    let half = MEMORY_MAX as u64 / 2;
    upload.append(&vec![0; MEMORY_MAX / 2]).unwrap();
    assert!(upload.keeps_in_memory(half) && !upload.keeps_in_memory(half + 1));
    upload.append(&vec![0; MEMORY_MAX / 2]).unwrap();
    assert_eq!(files_in_ingest(&store), 0);
    assert!(upload.keeps_in_memory(0) && !upload.keeps_in_memory(1));
    upload.append(b"x").unwrap();
    assert_eq!(files_in_ingest(&store), 1);
    assert!(upload.keeps_in_memory(0) && !upload.keeps_in_memory(1));
    assert_eq!(upload.length(), MEMORY_MAX as u64 + 1);
}
