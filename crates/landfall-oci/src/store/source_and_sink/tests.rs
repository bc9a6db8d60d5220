//! Images that the source selects, and the sink's answers about images.

#![expect(clippy::disallowed_methods, reason = "test set-up")]

use landfall_core::failure::FailureKind;
use landfall_core::oci_types::media_type;

use super::*;
use crate::digest::digest_of;
use crate::store::tests::mk_store;

/// Returns an index without entries; `note` tells it from others.
fn mk_index(note: &str) -> RawManifest {
    let value = serde_json::json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": [],
                                   "annotations": {"note": note}});
    let bytes = value.to_string();
    RawManifest {
        digest: digest_of(bytes.as_bytes()),
        media_type: media_type::OCI_INDEX.to_owned(),
        bytes: bytes.into(),
    }
}

#[tokio::test]
async fn a_tag_is_that_of_the_source_s_own_repository() {
    let (_directory, store) = mk_store();
    let names = ["a.io/x:1", "a.io/x:2", "a.io/y:1", "b.io/x:1"];
    for name in names {
        store
            .write_manifest(&mk_index(name), Some(&name.parse().unwrap()), &store.lease())
            .unwrap();
    }
    let source = |name: &str| StoreSource::new(store.clone(), name.parse().unwrap());
    for name in names {
        let (_, tag) = name.rsplit_once(':').unwrap();
        let found = source(name).fetch_manifest(tag).await.unwrap();
        assert_eq!(found, mk_index(name), "{name}");
    }
    for (name, tag) in [("b.io/x:1", "2"), ("b.io/y:1", "1"), ("a.io/x:1", "3")] {
        let error = source(name).fetch_manifest(tag).await.unwrap_err();
        assert_eq!(error.kind, FailureKind::NotFound, "{name} {tag}");
    }
    assert_eq!(source("a.io/x:1").describe(), "the content store");
}

#[tokio::test]
async fn the_sink_has_an_image_that_is_whole_and_a_copy_repairs_any_other() {
    let (_directory, store) = mk_store();
    let sink = StoreSink::new(store.clone());
    assert_eq!(sink.describe(), "the content store");
    let index = mk_index("x");
    assert!(!sink.has_image(&index).await.unwrap(), "it is missing");
    sink.write_manifest(&index, None).await.unwrap();
    assert!(sink.has_image(&index).await.unwrap());
    std::fs::write(store.blob_path(&index.digest), b"{}").unwrap();
    assert!(!sink.has_image(&index).await.unwrap(), "it is damaged");
    let blobs = store.root().join("blobs/sha256");
    std::fs::remove_dir_all(&blobs).unwrap();
    std::fs::write(&blobs, b"no directory").unwrap();
    let error = sink.has_image(&index).await.unwrap_err();
    assert_eq!(error.kind, FailureKind::Local, "the disk fails");
}
