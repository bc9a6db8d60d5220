//! Totals and limits of collections, and stores with missing directories.

#![expect(clippy::disallowed_methods, reason = "test set-up")]

use landfall_core::oci_types::Descriptor;

use super::*;
use crate::digest::digest_of;
use crate::image::BlobState;
use crate::store::tests::mk_store;

fn mk_blob(content: &[u8]) -> Descriptor {
    Descriptor::new("", digest_of(content), content.len() as u64)
}

#[test]
fn a_partial_file_is_deleted_when_it_is_older_than_a_week() {
    let (_directory, store) = mk_store();
    let blobs = [&b"one"[..], b"another"].map(mk_blob);
    for blob in &blobs {
        store.writer(blob, 0).unwrap().append(b"on").unwrap();
    }
    let modified = |blob: &Descriptor| {
        let metadata = std::fs::metadata(store.ingest_path(&blob.digest)).unwrap();
        metadata.modified().unwrap()
    };
    let oldest = blobs.iter().map(modified).min().unwrap();
    let newest = blobs.iter().map(modified).max().unwrap();
    let week = Duration::from_secs(7 * 24 * 60 * 60);
    let collect = |now| store.gc(|| Ok(Roots::default()), now).unwrap();
    assert_eq!(collect(oldest + week), GcReport::default());
    let report = collect(newest + week + Duration::from_nanos(1));
    assert_eq!(report, GcReport { deleted: 2, bytes: 4 });
    assert_eq!(store.blob_state(&blobs[0]).unwrap(), BlobState::Missing);
}

#[test]
fn a_blob_that_is_a_root_alone_is_kept() {
    let (_directory, store) = mk_store();
    for content in [b"kept", b"gone"] {
        store.write_blob_bytes(&mk_blob(content), content).unwrap();
    }
    let roots = || {
        Ok(Roots {
            manifests: Vec::new(),
            blobs: vec![digest_of(b"kept")],
        })
    };
    let report = store.gc(roots, SystemTime::now()).unwrap();
    assert_eq!(report, GcReport { deleted: 1, bytes: 4 });
    assert_eq!(store.blobs().unwrap(), [digest_of(b"kept")]);
}

#[test]
fn the_bytes_of_all_partial_files_are_counted() {
    let (_directory, store) = mk_store();
    let root = store.root();
    assert_eq!(store.unfinished_bytes().unwrap(), 0);
    let blob = mk_blob(b"partial");
    store.writer(&blob, 0).unwrap().append(b"part").unwrap();
    std::fs::write(root.join(INGEST).join("upload.7"), b"upload").unwrap();
    assert_eq!(store.unfinished_bytes().unwrap(), 10);
}

#[test]
fn a_missing_directory_is_empty_and_one_that_cannot_be_read_is_an_error() {
    let (_directory, store) = mk_store();
    let root = store.root();
    store.write_blob_bytes(&mk_blob(b"blob"), b"blob").unwrap();
    let sha512 = root.join(BLOBS).join("sha512");
    std::fs::remove_dir(&sha512).unwrap();
    std::fs::remove_dir(root.join(INGEST)).unwrap();
    assert_eq!(store.blobs().unwrap(), [digest_of(b"blob")]);
    assert_eq!(store.unfinished_bytes().unwrap(), 0);
    for path in [sha512, root.join(INGEST)] {
        std::fs::write(path, b"no directory").unwrap();
    }
    assert!(matches!(store.blobs(), Err(StoreError::Disk(_))));
    assert!(matches!(store.unfinished_bytes(), Err(StoreError::Disk(_))));
}
