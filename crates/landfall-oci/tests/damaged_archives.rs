//! Damage that couriers and enemies do to archives: each is named, in every form of the archive.

#![expect(clippy::unwrap_used, clippy::disallowed_methods, reason = "test set-up")]

mod common;

use std::io::Write as _;

use camino::Utf8Path;
use common::archives::{
    Files, layout_files, mk_directory, mk_image, one_frame, open_images, to_bytes, to_tar, with_seek_table,
    write_pieces,
};
use common::{chain, mk_options};
use landfall_core::failure::find_hint;
use landfall_core::status::NoProgress;
use landfall_oci::archive::open_archive;
use landfall_oci::copy::copy_image;
use landfall_oci::hints::hint_of;
use landfall_oci::store::ContentStore;
use landfall_oci::store::source_and_sink::StoreSink;
use landfall_testkit::image_builder::{digest_of, oci_archive};
use serde_json::json;

/// Returns a tar entry with any header.
fn mk_entry(path: &[u8], kind: tar::EntryType, target: &str, size: u64, content: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.as_gnu_mut().unwrap().name[..path.len()].copy_from_slice(path);
    header.as_gnu_mut().unwrap().linkname[..target.len()].copy_from_slice(target.as_bytes());
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend(content);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

/// Copies the first image of an archive. A blob that is read in place shows its damage when it is read.
async fn open_and_copy(path: &Utf8Path, store: &ContentStore) -> Result<(), String> {
    let images = open_images(path, store, &mut false).await?;
    let sink = StoreSink::new(store.clone());
    let (source, root) = (images[0].source.clone(), images[0].root.digest.to_string());
    let copied = copy_image(&*source, &root, &sink, None, &mk_options(), &NoProgress).await;
    copied.map(drop).map_err(|error| chain(&error))
}

/// Damage, by courier or by intent, and the words of the error. Each is tried plain, compressed and with a seek table.
#[tokio::test]
async fn hostile_archives_are_refused_in_every_form() {
    let image = mk_image("x");
    let good = oci_archive(&[("a/b:1", &image)]);
    let body = &good[..good.len() - 1024];
    let with = |entry: Vec<u8>| [&entry[..], body, &[0; 1024]].concat();
    let after = |entry: Vec<u8>| [body, &entry[..], &[0; 1024]].concat();
    let layer = format!(
        "blobs/sha256/{}",
        image.described_blobs().next().unwrap().0.digest.hex()
    );
    let without_layer = {
        let mut files = layout_files(
            &[("a/b:1", &image)],
            &|name| json!({"org.opencontainers.image.ref.name": name}),
        );
        files.retain(|(path, _)| *path != layer);
        let tar = to_tar(&files);
        move |entry: Vec<u8>| [&tar[..tar.len() - 1024], &entry[..], &[0; 1024]].concat()
    };
    let file = tar::EntryType::Regular;
    let of_layer = |kind, target: &str| without_layer(mk_entry(layer.as_bytes(), kind, target, 0, b""));
    let cycle = [
        mk_entry(layer.as_bytes(), tar::EntryType::Symlink, "ring", 0, b""),
        mk_entry(
            b"blobs/sha256/ring",
            tar::EntryType::Symlink,
            layer.rsplit('/').next().unwrap(),
            0,
            b"",
        ),
    ]
    .concat();
    for (case, tar, expected) in [
        (
            "a path with `..`",
            with(mk_entry(b"../../etc/cron.d/x", file, "", 1, b"x")),
            "whose path leads out of the archive",
        ),
        (
            "an absolute path",
            with(mk_entry(b"/etc/cron.d/x", file, "", 1, b"x")),
            "whose path leads out of the archive",
        ),
        (
            "a link out of it",
            of_layer(tar::EntryType::Symlink, "/etc/shadow"),
            "a link that leads to no file",
        ),
        (
            "a hard link out of it",
            of_layer(tar::EntryType::Link, "../../etc/shadow"),
            "a link that leads to no file",
        ),
        (
            "links in a circle",
            without_layer(cycle),
            "a link that leads to no file",
        ),
        (
            "a device",
            of_layer(tar::EntryType::Char, ""),
            "which is neither a file, a directory nor a link",
        ),
        (
            "a pipe",
            of_layer(tar::EntryType::Fifo, ""),
            "which is neither a file, a directory nor a link",
        ),
        ("nothing in its place", without_layer(Vec::new()), "has no entry"),
        (
            "another blob that comes later",
            after(mk_entry(layer.as_bytes(), file, "", 5, b"wrong")),
            "",
        ),
        (
            "a size of 2^63",
            with(mk_entry(b"big", file, "", 1 << 63, b"")),
            "is damaged",
        ),
        (
            "a size above the file's",
            with(mk_entry(b"big", file, "", 1 << 27, b"")),
            "it was cut short",
        ),
    ] {
        for (form, bytes) in [
            ("plain", tar.clone()),
            ("zstd", one_frame(&tar)),
            ("seekable", with_seek_table(&tar)),
        ] {
            let (_kept, directory) = mk_directory();
            let path = directory.join("x.tar");
            std::fs::write(&path, &bytes).unwrap();
            let store = ContentStore::open(&directory.join("store")).unwrap();
            let error = open_and_copy(&path, &store).await.unwrap_err();
            assert!(error.contains(expected), "{case}, {form}: {error}");
            assert!(store.images().is_empty(), "{case}, {form}");
        }
    }
}

#[tokio::test]
async fn a_name_with_a_nul_is_cut_there_or_stays_apart() {
    let image = mk_image("x");
    let good = oci_archive(&[("a/b:1", &image)]);
    let entry = mk_entry(b"index.json\0x", tar::EntryType::Regular, "", 2, b"{}");
    // The name ends at the NUL, so that it is a second, earlier `index.json`: the last counts.
    let tar = [&entry[..], &good].concat();
    for bytes in [tar.clone(), one_frame(&tar)] {
        let (_kept, directory) = mk_directory();
        std::fs::write(directory.join("x.tar"), bytes).unwrap();
        let store = ContentStore::open(&directory.join("store")).unwrap();
        let images = open_images(&directory.join("x.tar"), &store, &mut false).await.unwrap();
        assert_eq!(images[0].root.digest, image.root.digest);
    }
}

/// Pieces that are missing, swapped, doubled or of another file.
#[tokio::test]
async fn wrong_pieces_are_found_by_name_size_or_content() {
    let (tar, other) = (
        oci_archive(&[("a/b:1", &mk_image("x"))]),
        oci_archive(&[("a/b:1", &mk_image("other"))]),
    );
    type Damage = fn(&Utf8Path, &[u8]);
    let cases: [(&str, &str, Damage, &str); 8] = [
        (
            "the first is missing",
            "palette",
            |at, _| remove(at, "x.tar.zst_part00"),
            "`x.tar.zst_part00` is missing",
        ),
        (
            "the last is missing",
            "palette",
            |at, _| remove(at, "x.tar.zst_part02"),
            "",
        ),
        (
            "the last is missing",
            "zarf",
            |at, _| remove(at, "x.tar.zst.part003"),
            "states 3 pieces, and 2 are there",
        ),
        (
            "the description is missing",
            "zarf",
            |at, _| remove(at, "x.tar.zst.part000"),
            "`x.tar.zst.part000` is missing",
        ),
        (
            "two are swapped",
            "palette",
            |at, _| {
                move_to(at, "x.tar.zst_part00", "kept");
                move_to(at, "x.tar.zst_part01", "x.tar.zst_part00");
                move_to(at, "kept", "x.tar.zst_part01");
            },
            "",
        ),
        (
            "one is there twice",
            "palette",
            |at, _| drop(std::fs::copy(at.join("x.tar.zst_part01"), at.join("x.tar.zst_part001"))),
            "are the same piece",
        ),
        (
            "one is of another file",
            "hauler",
            |at, other| std::fs::write(at.join("x.tar.zst.002"), &other[..other.len() / 3]).unwrap(),
            "",
        ),
        (
            "one was cut short",
            "hauler",
            |at, _| std::fs::write(at.join("x.tar.zst.002"), b"abc").unwrap(),
            "it was cut short, or belongs to another set",
        ),
    ];
    for (case, form, damage, expected) in cases {
        for (compressed, bytes, of_other) in [
            ("one frame", one_frame(&tar), one_frame(&other)),
            ("seekable", with_seek_table(&tar), with_seek_table(&other)),
        ] {
            let (_kept, directory) = mk_directory();
            let path = write_pieces(&directory, form, &bytes);
            damage(&directory, &of_other);
            let store = ContentStore::open(&directory.join("store")).unwrap();
            let error = open_and_copy(&path, &store).await.unwrap_err();
            assert!(error.contains(expected), "{case}, {compressed}: {error}");
        }
    }
}

#[tokio::test]
async fn plain_pieces_are_compared_with_their_description_where_all_of_them_is_loaded() {
    let tar = oci_archive(&[("a/b:1", &mk_image("x"))]);
    let (_kept, directory) = mk_directory();
    let path = write_pieces(&directory, "zarf", &tar);
    let description = directory.join("x.tar.zst.part000");
    let good = std::fs::read_to_string(&description).unwrap();
    let store = || ContentStore::open(&directory.join("store")).unwrap();
    std::fs::write(&description, good.replace(digest_of(&tar).hex(), &"0".repeat(64))).unwrap();
    let error = open_and_copy(&path, &store()).await.unwrap_err();
    let expected = format!("`x.tar.zst.part000` states the SHA-256 `{}`", "0".repeat(64));
    assert!(error.contains(&expected), "{error}");
    std::fs::write(&description, good).unwrap();
    open_and_copy(&path, &store()).await.unwrap();
}

#[tokio::test]
async fn pieces_with_another_sha256_than_their_description_states_are_refused_by_its_name() {
    let tar = oci_archive(&[("a/b:1", &mk_image("x"))]);
    let (_kept, directory) = mk_directory();
    let path = write_pieces(&directory, "zarf", &one_frame(&tar));
    let description = directory.join("x.tar.zst.part000");
    let good = std::fs::read_to_string(&description).unwrap();
    let stated: serde_json::Value = serde_json::from_str(&good).unwrap();
    let stated = stated["sha256Sum"].as_str().unwrap();
    let store = || ContentStore::open(&directory.join("store")).unwrap();
    std::fs::write(&description, good.replace(stated, &"0".repeat(64))).unwrap();
    let loaded = open_and_copy(&path, &store()).await.unwrap_err();
    let copied = landfall_core::failure::error_chain(&open_archive(&path, &directory).unwrap_err());
    for error in [loaded, copied] {
        let expected = format!("`x.tar.zst.part000` states the SHA-256 `{}`", "0".repeat(64));
        assert!(error.contains(&expected) && error.contains(stated), "{error}");
    }
    std::fs::write(&description, good).unwrap();
    open_and_copy(&path, &store()).await.unwrap();
}

fn remove(directory: &Utf8Path, name: &str) {
    std::fs::remove_file(directory.join(name)).unwrap();
}

fn move_to(directory: &Utf8Path, from: &str, to: &str) {
    std::fs::rename(directory.join(from), directory.join(to)).unwrap();
}

#[test]
fn a_window_of_gibibytes_is_refused_with_advice_and_a_link_is_followed() {
    let tar = oci_archive(&[("a/b:1", &mk_image("x"))]);
    let (_kept, directory) = mk_directory();
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(31).unwrap();
    encoder.write_all(&tar).unwrap();
    std::fs::write(directory.join("wide.tar.zst"), encoder.finish().unwrap()).unwrap();
    let error = open_archive(&directory.join("wide.tar.zst"), &directory).unwrap_err();
    assert!(
        chain(&error).contains("it needs a window of more than 128 MiB"),
        "{}",
        chain(&error)
    );
    let hint = find_hint(&error, hint_of).unwrap();
    assert!(hint.starts_with("compress it again with a smaller window"), "{hint}");

    std::fs::write(directory.join("x.tar.zst"), one_frame(&tar)).unwrap();
    std::os::unix::fs::symlink("x.tar.zst", directory.join("latest")).unwrap();
    assert_eq!(open_archive(&directory.join("latest"), &directory).unwrap().len(), 1);
}

/// The index lists itself, and an index that lists the first one: neither can have a right digest, so that the circle
/// ends at a wrong one.
#[test]
fn an_index_in_a_circle_ends() {
    let (a, b) = ("a".repeat(64), "b".repeat(64));
    let index = |to: &str| {
        let media_type = "application/vnd.oci.image.index.v1+json";
        json!({"schemaVersion": 2, "manifests": [{"mediaType": media_type, "digest": format!("sha256:{to}"), "size": 10}]})
    };
    let files: Files = vec![
        ("index.json".to_owned(), to_bytes(&index(&a))),
        (format!("blobs/sha256/{a}"), to_bytes(&index(&b))),
        (format!("blobs/sha256/{b}"), to_bytes(&index(&a))),
    ];
    let (_kept, directory) = mk_directory();
    std::fs::write(directory.join("x.tar"), to_tar(&files)).unwrap();
    let error = open_archive(&directory.join("x.tar"), &directory).unwrap_err();
    assert!(error.to_string().ends_with("the archive is damaged"), "{error}");
}
