//! Layouts and archives: written images are read back, and entries of other programs stay.

use camino::Utf8Path;
use landfall_core::status::NoProgress;
use serde_json::{Value, json};

use super::*;
use crate::archive::open_archive;
use crate::copy::{CopyOptions, copy_image};
use crate::fixtures::{FixtureBuilder, ImageFixture};
use crate::image::ImageSink;

fn mk_image(name: &str) -> ImageFixture {
    FixtureBuilder::new()
        .plain_layer(&[("base", &[7; 300_000])])
        .plain_layer(&[("name", name.as_bytes())])
        .build()
}

/// Writes an image as the layout of another program, with unknown fields in its index.
fn mk_layout(root: &Utf8Path, image: &ImageFixture) {
    for (digest, bytes) in image.all_content() {
        let path = root.join(blob_path(digest));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    let mut entry = json!(image.root);
    entry["annotations"] = json!({"org.opencontainers.image.ref.name": "theirs"});
    entry["x-unknown"] = json!(1);
    let index = json!({"schemaVersion": 2, "manifests": [entry], "x-unknown": [2]});
    fs::write(root.join(INDEX), index.to_string()).unwrap();
    fs::write(root.join(LAYOUT_FILE), LAYOUT).unwrap();
}

async fn copy(from: &ArchiveImage, sink: &dyn ImageSink) -> crate::copy::CopyReport {
    let selector = from.root.digest.to_string();
    let options = CopyOptions::new(4);
    let copied = copy_image(&*from.source, &selector, sink, None, &options, &NoProgress).await;
    copied.unwrap()
}

fn index_of(root: &Utf8Path) -> Value {
    serde_json::from_slice(&fs::read(root.join(INDEX)).unwrap()).unwrap()
}

#[tokio::test]
async fn a_layout_that_lost_a_file_is_repaired_by_the_next_copy() {
    let directory = tempfile::tempdir().unwrap();
    let path = Utf8Path::from_path(directory.path()).unwrap();
    let (from, to) = (path.join("from"), path.join("to"));
    let image = mk_image("one");
    mk_layout(&from, &image);
    let source = &open_layout(&from).unwrap()[0];
    let sink = || LayoutSink::new(&to, Some("ours".to_owned())).unwrap();
    copy(source, &sink()).await;
    for (digest, bytes) in image.all_content() {
        fs::remove_file(to.join(blob_path(digest))).unwrap();
        assert!(!copy(source, &sink()).await.unchanged, "{digest}");
        assert_eq!(&fs::read(to.join(blob_path(digest))).unwrap(), bytes);
        assert!(copy(source, &sink()).await.unchanged);
    }
}

#[tokio::test]
async fn an_image_is_added_to_a_layout_and_what_others_put_there_stays() {
    let directory = tempfile::tempdir().unwrap();
    let path = Utf8Path::from_path(directory.path()).unwrap();
    let (from, to) = (path.join("from"), path.join("to"));
    let (one, other) = (mk_image("one"), mk_image("other"));
    mk_layout(&from, &one);
    mk_layout(&to, &other);
    let source = &open_layout(&from).unwrap()[0];
    let sink = || LayoutSink::new(&to, Some("ours".to_owned())).unwrap();
    let report = copy(source, &sink()).await;
    assert_eq!((report.blobs_moved, report.blobs_skipped), (2, 1), "the base was there");
    for (digest, bytes) in one.all_content() {
        assert_eq!(&fs::read(to.join(blob_path(digest))).unwrap(), bytes);
    }
    let index = index_of(&to);
    assert_eq!(index["x-unknown"], json!([2]));
    assert_eq!(index["manifests"][0]["x-unknown"], 1);
    assert_eq!(index["manifests"][1]["digest"], one.root.digest.as_str());
    assert_eq!(
        index["manifests"][1]["annotations"],
        json!({"org.opencontainers.image.ref.name": "ours"})
    );
    assert!(!to.join(".partial").exists());
    assert!(copy(source, &sink()).await.unchanged);
    // A name stands for one image at a time.
    let theirs = &open_layout(&to).unwrap()[0];
    copy(theirs, &sink()).await;
    assert_eq!(index_of(&to)["manifests"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_blob_that_broke_off_is_gone_on_with() {
    let directory = tempfile::tempdir().unwrap();
    let path = Utf8Path::from_path(directory.path()).unwrap();
    let (from, to) = (path.join("from"), path.join("to"));
    let image = mk_image("one");
    mk_layout(&from, &image);
    let largest = image.described_blobs().max_by_key(|(blob, _)| blob.size).unwrap();
    let (blob, bytes) = largest;
    let sink = LayoutSink::new(&to, None).unwrap();
    let broken: BlobStream = Box::pin(futures_util::stream::iter([
        Ok(bytes.slice(..1000)),
        Err(TransferError {
            attempt: "the source broke".to_owned(),
            kind: FailureKind::Unreachable,
            source: None,
        }),
    ]));
    sink.write_blob(&blob, 0, broken).await.unwrap_err();
    let report = copy(&open_layout(&from).unwrap()[0], &sink).await;
    let all: u64 = image.blobs.values().map(|bytes| bytes.len() as u64).sum();
    assert_eq!(report.bytes_moved, all - 1000);
    assert_eq!(&fs::read(to.join(blob_path(&blob.digest))).unwrap(), bytes);
}

#[tokio::test]
async fn an_archive_is_whole_or_not_there_and_reads_as_both_forms() {
    let directory = tempfile::tempdir().unwrap();
    let path = Utf8Path::from_path(directory.path()).unwrap();
    let (from, tar) = (path.join("from"), path.join("image.tar"));
    let image = mk_image("one");
    mk_layout(&from, &image);
    let source = &open_layout(&from).unwrap()[0];
    let name = "quay.io/shop/till:1.0";
    let sink = ArchiveSink::new(&tar, Some(name.to_owned()), ArchiveForm::Docker).unwrap();
    copy(source, &sink).await;
    drop(sink);
    let read = open_archive(&tar, path).unwrap();
    assert_eq!((read.len(), &read[0].names[..]), (1, &[name.to_owned()][..]));
    assert_eq!(read[0].root.digest, image.root.digest);
    let again = path.join("again");
    copy(&read[0], &LayoutSink::new(&again, None).unwrap()).await;
    for (digest, bytes) in image.all_content() {
        assert_eq!(&fs::read(again.join(blob_path(digest))).unwrap(), bytes);
    }
    // The file that `docker load` reads.
    let mut entries = tar::Archive::new(fs::File::open(&tar).unwrap());
    let mut listed = None;
    for entry in entries.entries().unwrap() {
        let entry = entry.unwrap();
        if entry.path().unwrap().to_str() == Some("manifest.json") {
            listed = Some(serde_json::from_reader::<_, Value>(entry).unwrap());
        }
    }
    let listed = listed.expect("the image is for one platform");
    assert_eq!(listed[0]["RepoTags"], json!([name]));
    assert_eq!(listed[0]["Layers"].as_array().unwrap().len(), 2);

    fs::remove_file(from.join(blob_path(image.blobs.keys().next().unwrap()))).unwrap();
    let other = path.join("other.tar");
    let sink = ArchiveSink::new(&other, None, ArchiveForm::Oci).unwrap();
    let selector = image.root.digest.to_string();
    let failed = copy_image(
        &*source.source,
        &selector,
        &sink,
        None,
        &CopyOptions::new(4),
        &NoProgress,
    )
    .await;
    assert_eq!(failed.unwrap_err().kind, FailureKind::NotFound);
    drop(sink);
    assert!(!other.exists() && !path.join("other.tar.partial").exists());
}
