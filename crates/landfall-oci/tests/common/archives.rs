//! Archives as other tools write them, for the tests of their readers.

#![allow(dead_code, reason = "each test program uses a part of it")]

use bytes::Bytes;
use camino::{Utf8Path, Utf8PathBuf};
use landfall_core::bundle::seek_table::{SeekEntry, render_seek_table};
use landfall_core::status::NoProgress;
use landfall_oci::archive::ArchiveImage;
use landfall_oci::archive::stream::{OpenedArchive, Staging, load_stream, open_once};
use landfall_oci::store::ContentStore;
use landfall_testkit::image_builder::{FixtureBuilder, ImageFixture, digest_of, tar_of};
use serde_json::{Value, json};

use super::{chain, mk_bytes};

pub(crate) type Files = Vec<(String, Bytes)>;

pub(crate) fn mk_image(seed: &str) -> ImageFixture {
    FixtureBuilder::new()
        .plain_layer(&[("base", &mk_bytes(300_000))])
        .plain_layer(&[("seed", seed.as_bytes())])
        .build()
}

/// Returns the files of a layout. `name` makes the annotations of an entry.
pub(crate) fn layout_files(images: &[(&str, &ImageFixture)], name: &dyn Fn(&str) -> Value) -> Files {
    let mut files: Files = Vec::new();
    let mut entries = Vec::new();
    for (reference, image) in images {
        for (digest, bytes) in image.all_content() {
            files.push((format!("blobs/{}/{}", digest.algorithm(), digest.hex()), bytes.clone()));
        }
        let mut entry = serde_json::to_value(&image.root).unwrap();
        entry["annotations"] = name(reference);
        entries.push(entry);
    }
    files.push((
        "index.json".to_owned(),
        to_bytes(&json!({"schemaVersion": 2, "manifests": entries})),
    ));
    files.push((
        "oci-layout".to_owned(),
        Bytes::from_static(br#"{"imageLayoutVersion":"1.0.0"}"#),
    ));
    files
}

pub(crate) fn to_bytes(value: &Value) -> Bytes {
    value.to_string().into()
}

pub(crate) fn to_tar(files: &Files) -> Vec<u8> {
    tar_of(files.iter().map(|(path, content)| (path, content)))
}

pub(crate) fn mk_directory() -> (tempfile::TempDir, Utf8PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = Utf8PathBuf::try_from(directory.path().to_owned()).unwrap();
    (directory, path)
}

/// Opens an archive without a copy of it. `one_pass` tells how.
pub(crate) async fn open_images(
    path: &Utf8Path,
    store: &ContentStore,
    one_pass: &mut bool,
) -> Result<Vec<ArchiveImage>, String> {
    let root = store.root().to_owned();
    match open_once(path, &root).map_err(|error| chain(&error))? {
        OpenedArchive::InPlace(images) => {
            *one_pass = false;
            Ok(images)
        }
        OpenedArchive::OnePass(stream) => {
            *one_pass = true;
            let loaded = load_stream(stream, &Staging::in_store(store), &NoProgress).await;
            loaded.map_err(|error| chain(&error))
        }
    }
}

/// Compresses as one zstd frame.
pub(crate) fn one_frame(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

/// Compresses as zstd frames with a seek table.
pub(crate) fn with_seek_table(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut entries = Vec::new();
    for chunk in bytes.chunks(100_000) {
        let frame = one_frame(chunk);
        entries.push(SeekEntry {
            compressed: u32::try_from(frame.len()).unwrap(),
            content: u32::try_from(chunk.len()).unwrap(),
            checksum: None,
        });
        out.extend(frame);
    }
    out.extend(render_seek_table(&entries));
    out
}

/// Writes a file in pieces of one form, and returns the path of one of them.
pub(crate) fn write_pieces(directory: &Utf8Path, form: &str, bytes: &[u8]) -> Utf8PathBuf {
    let size = bytes.len().div_ceil(3);
    let pieces: Vec<&[u8]> = bytes.chunks(size).collect();
    let name = |number: usize| match form {
        "palette" => format!("x.tar.zst_part{number:02}"),
        "hauler" => format!("x.tar.zst.{:03}", number + 1),
        _ => format!("x.tar.zst.part{:03}", number + 1),
    };
    for (number, piece) in pieces.iter().enumerate() {
        fs_err::write(directory.join(name(number)), piece).unwrap();
    }
    if form == "zarf" {
        let description = json!({"sha256Sum": digest_of(bytes).hex(), "bytes": bytes.len(), "count": pieces.len()});
        fs_err::write(directory.join("x.tar.zst.part000"), description.to_string()).unwrap();
    }
    directory.join(name(1))
}
