//! Files in the directory of the blobs that are no blobs, and the rights of the directories.

#![expect(clippy::disallowed_methods, reason = "test set-up")]

use std::os::unix::fs::{PermissionsExt, symlink};

use camino::Utf8PathBuf;
use landfall_core::oci_types::Descriptor;

use super::*;
use crate::digest::digest_of;
use crate::image::BlobState;

fn mk_root() -> (tempfile::TempDir, Utf8PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let root = Utf8PathBuf::from_path_buf(directory.path().join("new/store")).unwrap();
    (directory, root)
}

fn mode_of(path: &Utf8Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn links_pipes_and_directories_are_no_blobs_and_are_replaced_by_a_push() {
    let (directory, root) = mk_root();
    let store = ContentStore::open(&root).unwrap();
    let outside = directory.path().join("outside");
    std::fs::write(&outside, b"link").unwrap();
    let make_link = |path: &Utf8Path| symlink(&outside, path).unwrap();
    let make_pipe = |path: &Utf8Path| {
        rustix::fs::mknodat(
            rustix::fs::CWD,
            path.as_std_path(),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RWXU,
            0,
        )
        .unwrap();
    };
    let make_socket = |path: &Utf8Path| drop(std::os::unix::net::UnixListener::bind(path).unwrap());
    let make: [&dyn Fn(&Utf8Path); 3] = [&make_link, &make_pipe, &make_socket];
    for (bytes, make) in [b"link".as_slice(), b"pipe", b"socket"].into_iter().zip(make) {
        let blob = Descriptor::new("", digest_of(bytes), bytes.len() as u64);
        make(&store.blob_path(&blob.digest));
        let case = String::from_utf8_lossy(bytes);
        assert_eq!(store.blob_size(&blob.digest).unwrap(), None, "{case}");
        assert_eq!(store.blob_state(&blob).unwrap(), BlobState::Missing, "{case}");
        assert!(
            matches!(store.open_blob(&blob.digest, 0), Err(StoreError::Damaged { .. })),
            "{case}"
        );
        store.write_blob_bytes(&blob, bytes).unwrap();
        assert_eq!(store.read_blob(&blob.digest, 100).unwrap(), bytes, "{case}");
        std::fs::remove_file(store.blob_path(&blob.digest)).unwrap();
        make(&store.blob_path(&blob.digest));
        assert!(store.delete_damaged(&blob.digest).unwrap(), "{case}");
        assert!(
            std::fs::symlink_metadata(store.blob_path(&blob.digest)).is_err(),
            "{case}"
        );
    }
    assert_eq!(
        std::fs::read(&outside).unwrap(),
        b"link",
        "the target of the link stays"
    );
}

#[test]
fn a_document_is_read_up_to_its_limit() {
    let (_directory, root) = mk_root();
    let store = ContentStore::open(&root).unwrap();
    let blob = Descriptor::new("", digest_of(b"document"), 8);
    store.write_blob_bytes(&blob, b"document").unwrap();
    for (limit, is_read) in [(9, true), (8, true), (7, false), (1, false), (0, false)] {
        match store.read_blob(&blob.digest, limit) {
            Ok(bytes) => assert!(is_read && bytes == "document", "{limit}"),
            Err(StoreError::TooLarge { limit: told, .. }) => assert!(!is_read && told == limit, "{limit}"),
            Err(error) => panic!("{limit}: {error}"),
        }
    }
}

#[test]
fn only_a_blob_whose_bytes_changed_is_deleted_as_damaged() {
    let (_directory, root) = mk_root();
    let store = ContentStore::open(&root).unwrap();
    let blob = Descriptor::new("", digest_of(b"bytes"), 5);
    store.write_blob_bytes(&blob, b"bytes").unwrap();
    assert!(!store.delete_damaged(&blob.digest).unwrap());
    assert_eq!(store.read_blob(&blob.digest, 5).unwrap(), "bytes");
    std::fs::write(store.blob_path(&blob.digest), b"bytez").unwrap();
    assert!(store.delete_damaged(&blob.digest).unwrap());
    assert_eq!(store.blob_size(&blob.digest).unwrap(), None);
}

#[test]
fn a_blob_that_the_disk_does_not_give_is_not_called_damaged() {
    let (_directory, root) = mk_root();
    let store = ContentStore::open(&root).unwrap();
    let blobs = root.join("blobs/sha256");
    std::fs::remove_dir(&blobs).unwrap();
    std::fs::write(&blobs, b"no directory").unwrap();
    let opened = store.open_blob(&digest_of(b""), 0);
    assert!(matches!(opened, Err(StoreError::Disk(_))), "{opened:?}");
    assert!(matches!(store.blob_size(&digest_of(b"")), Err(StoreError::Disk(_))));
    assert!(matches!(store.is_complete(&digest_of(b"")), Err(StoreError::Disk(_))));
}

#[test]
fn a_new_store_and_every_lock_belong_to_one_user() {
    let (_directory, root) = mk_root();
    drop(ContentStore::open(&root).unwrap());
    assert_eq!((mode_of(&root), mode_of(&root.join("lock"))), (0o700, 0o600));
    // A store of an earlier version.
    for (path, mode) in [(root.clone(), 0o755), (root.join("lock"), 0o644)] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }
    let store = ContentStore::open(&root).unwrap();
    assert_eq!((mode_of(&root), mode_of(&root.join("lock"))), (0o755, 0o600));
    store.restrict_access().unwrap();
    assert_eq!(mode_of(&root.join("blobs")), 0o700);
}

#[test]
fn a_store_in_use_names_its_process_and_is_not_served_read_only() {
    let (_directory, root) = mk_root();
    let store = ContentStore::open(&root).unwrap();
    let error = ContentStore::open(&root).unwrap_err().to_string();
    let process = format!("is in use by process {} (`", std::process::id());
    assert!(error.contains(&process), "{error}");
    assert!(matches!(
        ContentStore::serve_read_only(&root),
        Err(StoreError::InUse { .. })
    ));
    drop(store);
    let one = ContentStore::serve_read_only(&root).unwrap();
    let two = ContentStore::serve_read_only(&root).unwrap();
    assert!(matches!(ContentStore::open(&root), Err(StoreError::InUse { .. })));
    drop((one, two));
    std::fs::remove_file(root.join("lock")).unwrap();
    ContentStore::serve_read_only(&root).unwrap();
    assert!(!root.join("lock").exists(), "nothing is written");
    symlink(root.join("lock"), root.join("lock")).unwrap();
    let served = ContentStore::serve_read_only(&root);
    assert!(
        matches!(served, Err(StoreError::Disk(_))),
        "a lock that cannot be opened"
    );
}
