#![expect(clippy::disallowed_methods, reason = "test set-up")]

use std::io::Write;

use futures_util::StreamExt;
use landfall_core::failure::{FailureKind, error_chain};
use landfall_testkit::image_builder::{
    FixtureBuilder, ImageFixture, digest_of, docker_archive, gzip, multi_platform, oci_archive, tar_of,
};

use super::*;
use crate::archive::stream::ArchiveStream;

pub(super) fn mk_plain(content: &str) -> ImageFixture {
    FixtureBuilder::new()
        .plain_layer(&[("base", b"base")])
        .plain_layer(&[("file", content.as_bytes())])
        .build()
}

fn open(bytes: &[u8]) -> Result<Vec<ArchiveImage>, ArchiveError> {
    open_by(PartialIndex::Kept, bytes)
}

/// Opens an archive in place. One pass through it gives the same images, or the same error.
fn open_by(partial: PartialIndex, bytes: &[u8]) -> Result<Vec<ArchiveImage>, ArchiveError> {
    let directory = tempfile::tempdir().unwrap();
    let spool = Utf8Path::from_path(directory.path()).unwrap();
    let path = spool.join("images.tar");
    std::fs::write(&path, bytes).unwrap();
    let opened = super::open(&path, spool, partial);
    let mut stream = ArchiveStream::new(&path, Box::new(std::io::Cursor::new(bytes.to_vec())));
    if partial == PartialIndex::Narrowed {
        stream = stream.whole_images();
    }
    let summary = |images: &[ArchiveImage]| -> Vec<_> {
        let summary = |image: &ArchiveImage| (image.root.clone(), image.ref_names.clone(), image.narrowed_from.clone());
        images.iter().map(summary).collect()
    };
    match (&opened, &stream::tests::load(stream, spool)) {
        (Ok(in_place), Ok(streamed)) => assert_eq!(summary(in_place), summary(streamed)),
        (in_place, streamed) => {
            let in_place = error_chain(in_place.as_ref().unwrap_err());
            let streamed = error_chain(streamed.as_ref().unwrap_err());
            assert_eq!(in_place, streamed);
        }
    }
    opened
}

async fn read_blob(image: &ArchiveImage, blob: &Descriptor, offset: u64) -> Vec<u8> {
    let chunks: Vec<_> = image.source.open_blob(blob, offset).await.unwrap().collect().await;
    chunks.into_iter().flat_map(|chunk| chunk.unwrap()).collect()
}

/// Checks that all content under the image's root can be read and has its digest.
pub(super) async fn assert_whole(image: &ArchiveImage) {
    let mut pending = vec![image.root.clone()];
    while let Some(descriptor) = pending.pop() {
        if !descriptor.is_manifest() {
            let bytes = read_blob(image, &descriptor, 0).await;
            assert_eq!(digest_of(&bytes), descriptor.digest);
            assert_eq!(bytes.len() as u64, descriptor.size);
            assert_eq!(read_blob(image, &descriptor, 1).await, bytes[1..]);
            continue;
        }
        let raw = image.source.fetch_manifest(descriptor.digest.as_str()).await.unwrap();
        assert_eq!(raw.bytes.len() as u64, descriptor.size);
        let content = landfall_core::oci_types::parse_manifest(&raw.bytes).unwrap();
        pending.extend(content.children().cloned());
    }
}

#[tokio::test]
async fn an_archive_of_docker_save_gives_images_with_manifests_of_their_own() {
    let (first, second) = (mk_plain("first"), mk_plain("second"));
    let archive = docker_archive(&[(&["a/first:1", "a/also:1"], &first), (&[], &second)]);
    let zstd = zstd::encode_all(archive.as_slice(), 0).unwrap();
    for bytes in [archive.clone(), gzip(&archive), zstd] {
        let images = open(&bytes).unwrap();
        let names: Vec<_> = images.iter().map(|image| image.names.clone()).collect();
        assert_eq!(names, [vec!["a/first:1".to_owned(), "a/also:1".to_owned()], vec![]]);
        for image in &images {
            assert_whole(image).await;
        }
        let raw = images[0].source.fetch_manifest("1").await.unwrap();
        assert_eq!(raw.digest, images[0].root.digest, "a tag stands for the image");
        // The builder writes the same fields in the same order: the manifest is the same as before `docker save`.
        assert_eq!(raw.bytes, first.root_bytes());
    }
}

#[tokio::test]
async fn an_oci_archive_gives_the_images_of_its_index() {
    let index = multi_platform(&[
        mk_plain("amd64"),
        FixtureBuilder::new()
            .platform("linux", "arm64")
            .gzip_layer(&[("x", b"x")])
            .build(),
    ]);
    let single = mk_plain("single");
    let archive = oci_archive(&[
        ("docker.io/a/multi:1", &index),
        ("reg:5000/b:2", &single),
        ("reg:5000/b:3", &single),
    ]);
    let images = open(&archive).unwrap();
    let names: Vec<_> = images.iter().map(|image| image.names.join(" ")).collect();
    assert_eq!(names, ["docker.io/a/multi:1", "reg:5000/b:2 reg:5000/b:3"]);
    assert_eq!(images[0].root.digest, index.root.digest);
    for image in &images {
        assert_whole(image).await;
    }
    let error = images[1]
        .source
        .fetch_manifest(digest_of(b"other").as_str())
        .await
        .unwrap_err();
    assert_eq!(error.kind, FailureKind::NotFound);
}

/// Returns the files of an archive, so that a test can change one of them.
pub(super) fn files_of(archive: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut tar = tar::Archive::new(archive);
    tar.entries()
        .unwrap()
        .map(|entry| {
            let mut entry = entry.unwrap();
            let mut content = Vec::new();
            std::io::Read::read_to_end(&mut entry, &mut content).unwrap();
            (entry.path().unwrap().display().to_string(), content)
        })
        .collect()
}

pub(super) fn to_tar(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    tar_of(files.iter().map(|(path, content)| (path, content)))
}

#[tokio::test]
async fn an_export_of_one_platform_gives_an_index_of_what_is_there() {
    let arm = FixtureBuilder::new()
        .platform("linux", "arm64")
        .plain_layer(&[("x", b"x")])
        .build();
    let amd = mk_plain("amd64");
    let index = multi_platform(&[amd.clone(), arm.clone()]);
    let mut files = files_of(&oci_archive(&[("a/b:1", &index)]));
    files.retain(|(path, _)| !arm.all_content().any(|(digest, _)| path.ends_with(digest.hex())));
    let images = open_by(PartialIndex::Narrowed, &to_tar(&files)).unwrap();
    assert_whole(&images[0]).await;
    assert_eq!(images[0].names, ["a/b:1"]);
    assert_eq!(
        images[0].root.digest,
        multi_platform(std::slice::from_ref(&amd)).root.digest
    );
    assert_eq!(images[0].narrowed_from.as_ref(), Some(&index.root.digest));

    // For a copy, the index stays unchanged.
    let kept = &open(&to_tar(&files)).unwrap()[0];
    assert_eq!((&kept.root.digest, &kept.narrowed_from), (&index.root.digest, &None));
    let raw = kept.source.fetch_manifest(index.root.digest.as_str()).await.unwrap();
    assert_eq!(raw.bytes, index.root_bytes());
    assert!(kept.source.lacks(&arm.root) && !kept.source.lacks(&amd.root));
    files.retain(|(path, _)| !path.ends_with(amd.root.digest.hex()));
    let error = open(&to_tar(&files)).unwrap_err();
    assert!(matches!(error, ArchiveError::Missing { .. }), "{error}");
}

#[test]
fn indexes_that_name_each_other_many_times_are_read_once() {
    let mut image = mk_plain("x");
    for _ in 0..7 {
        // Fifty identical entries at each of seven levels: 50^7 paths lead to the image.
        let mut next = multi_platform(&vec![image.clone(); 50]);
        next.manifests.sort_by(|(a, _), (b, _)| a.digest.cmp(&b.digest));
        next.manifests.dedup();
        image = next;
    }
    let images = open(&oci_archive(&[("a/b:1", &image)])).unwrap();
    assert_eq!(images[0].root.digest, image.root.digest);
}

#[test]
fn a_mere_tag_is_no_name_and_the_list_of_docker_save_helps_out() {
    let image = mk_plain("x");
    let manifest: landfall_core::oci_types::Manifest = serde_json::from_slice(&image.root_bytes()).unwrap();
    let mut files = files_of(&oci_archive(&[("v1", &image)]));
    for (path, content) in &mut files {
        if path == "index.json" {
            let text = String::from_utf8(content.clone()).unwrap();
            *content = text.replace("io.containerd.image.name", "other").into_bytes();
        }
    }
    assert_eq!(open(&to_tar(&files)).unwrap()[0].names, [] as [String; 0]);
    let list = format!(
        r#"[{{"Config":"blobs/sha256/{}","RepoTags":["reg/a:v1"],"Layers":[]}}]"#,
        manifest.config.digest.hex()
    );
    files.push(("manifest.json".to_owned(), list.into_bytes()));
    assert_eq!(open(&to_tar(&files)).unwrap()[0].names, ["reg/a:v1"]);
}

#[test]
fn layers_that_are_links_to_others_are_followed_inside_the_archive_only() {
    let image = FixtureBuilder::new()
        .plain_layer(&[("x", b"x")])
        .plain_layer(&[("x", b"x")])
        .build();
    let layer = tar_of([("x", b"x")]);
    let config = &image.blobs[&serde_json::from_slice::<landfall_core::oci_types::Manifest>(&image.root_bytes())
        .unwrap()
        .config
        .digest];
    let list = br#"[{"Config":"c.json","RepoTags":["a:1"],"Layers":["1/layer.tar","2/layer.tar"]}]"#;
    let build = |kind: tar::EntryType, target: &str| {
        let mut tar = tar::Builder::new(tar_of([
            ("manifest.json", &list[..]),
            ("c.json", config),
            ("1/layer.tar", &layer),
        ]));
        // The builder above ended the archive: continue before its end.
        let end = tar.get_ref().len() - 1024;
        tar.get_mut().truncate(end);
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(0);
        header.as_gnu_mut().unwrap().name[..11].copy_from_slice(b"2/layer.tar");
        header.as_gnu_mut().unwrap().linkname[..target.len()].copy_from_slice(target.as_bytes());
        header.set_cksum();
        tar.get_mut().write_all(header.as_bytes()).unwrap();
        tar.into_inner().unwrap()
    };
    use tar::EntryType::{Link, Symlink};
    assert_eq!(
        open(&build(Symlink, "../1/layer.tar")).unwrap()[0].root.digest,
        image.root.digest
    );
    assert_eq!(
        open(&build(Link, "1/layer.tar")).unwrap()[0].root.digest,
        image.root.digest
    );
    for target in ["../../1/layer.tar", "/etc/passwd", "layer.tar", "../1/nothing"] {
        let error = open(&build(Symlink, target)).unwrap_err();
        assert!(
            matches!(
                error,
                ArchiveError::Entry {
                    problem: EntryProblem::Link,
                    ..
                }
            ),
            "{target}: {error}"
        );
    }
    let error = open(&build(tar::EntryType::Fifo, "")).unwrap_err();
    assert!(
        matches!(
            error,
            ArchiveError::Entry {
                problem: EntryProblem::Kind,
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn hostile_and_damaged_archives_are_refused_with_the_part_that_is_wrong() {
    let image = mk_plain("x");
    let docker = files_of(&docker_archive(&[(&["a:1"], &image)]));
    let oci = files_of(&oci_archive(&[("a/b:1", &image)]));
    let change = |files: &[(String, Vec<u8>)], of: &str, change: &dyn Fn(&mut Vec<u8>)| {
        let mut files = files.to_vec();
        for (path, content) in &mut files {
            if path.ends_with(of) {
                change(content);
            }
        }
        to_tar(&files)
    };
    let without = |files: &[(String, Vec<u8>)], of: &str| {
        let mut files = files.to_vec();
        files.retain(|(path, _)| !path.ends_with(of));
        to_tar(&files)
    };
    let root = image.root.digest.hex();
    for (case, archive, expected) in [
        ("no archive", b"hello".to_vec(), "cannot read the archive"),
        (
            "nothing in it",
            to_tar(&[("readme".to_owned(), vec![])]),
            "neither `index.json` nor",
        ),
        (
            "a changed layer",
            change(&docker, "layer.tar", &|bytes| bytes[0] ^= 1),
            "the archive is damaged",
        ),
        ("a missing layer", without(&docker, "layer.tar"), "has no entry"),
        (
            "a list that is no list",
            change(&docker, "manifest.json", &|bytes| bytes.truncate(9)),
            "cannot be read as JSON",
        ),
        (
            "a changed manifest",
            change(&oci, root, &|bytes| bytes.push(b' ')),
            "the archive is damaged",
        ),
        ("a missing manifest", without(&oci, root), "has no entry"),
        (
            "an index that is none",
            change(&oci, "index.json", &|bytes| bytes.clear()),
            "cannot be read as JSON",
        ),
        (
            "a list too large to read",
            change(&docker, "manifest.json", &|bytes| bytes.resize(9 << 20, b' ')),
            "larger than such a document",
        ),
    ] {
        let error = open(&archive).unwrap_err().to_string();
        assert!(error.contains(expected), "{case}: {error}");
    }
    let mut climbing = tar_of([("manifest.json", &b"[]"[..]), ("12345", b"")]);
    let at = climbing.windows(5).position(|window| window == b"12345").unwrap();
    let header = at..at + 512;
    climbing[at..at + 5].copy_from_slice(b"../ab");
    let mut fixed = tar::Header::from_byte_slice(&climbing[header.clone()]).clone();
    fixed.set_cksum();
    climbing[header].copy_from_slice(fixed.as_bytes());
    let error = open(&climbing).unwrap_err();
    assert!(
        matches!(
            error,
            ArchiveError::Entry {
                problem: EntryProblem::Path,
                ..
            }
        ),
        "{error}"
    );
}

#[tokio::test]
async fn an_image_without_layers_is_read_in_every_form_that_programs_write() {
    for (rootfs, layers) in [
        (r#","rootfs":{"type":"layers"}"#, "[]"),
        (r#","rootfs":{"type":"layers","diff_ids":null}"#, "null"),
        (r#","rootfs":{"type":"layers","diff_ids":[]}"#, "null"),
        (r#","rootfs":null"#, "[]"),
        ("", "[]"),
    ] {
        let config = format!(r#"{{"os":"linux"{rootfs}}}"#);
        let list = format!(r#"[{{"Config":"c.json","RepoTags":null,"Layers":{layers},"Parent":7}}]"#);
        let tar = tar_of([("c.json", config.as_bytes()), ("manifest.json", list.as_bytes())]);
        let images = open(&tar).unwrap();
        assert_whole(&images[0]).await;
        let raw = images[0].source.fetch_manifest("1").await.unwrap();
        let content = landfall_core::oci_types::parse_manifest(&raw.bytes).unwrap();
        assert_eq!(content.children().count(), 1, "{config} {list}");
    }
}

#[tokio::test]
async fn of_an_entry_that_is_there_twice_the_last_counts() {
    let image = mk_plain("x");
    let files = files_of(&docker_archive(&[(&["a:1"], &image)]));
    let layer = files.iter().find(|(path, _)| path.ends_with("layer.tar")).unwrap();
    let wrong = (layer.0.clone(), b"something else".to_vec());
    let unread = ("VERSION".to_owned(), b"1.0".to_vec());
    let twice = [
        &[wrong.clone(), unread.clone(), unread],
        &files[..],
        std::slice::from_ref(layer),
    ]
    .concat();
    let images = open(&to_tar(&twice)).unwrap();
    assert_eq!(images[0].root.digest, image.root.digest);
    assert_whole(&images[0]).await;
    let error = open(&to_tar(&[&files[..], &[wrong]].concat())).unwrap_err();
    assert!(matches!(error, ArchiveError::Damaged { .. }), "{error}");
}

#[tokio::test]
async fn entries_that_no_image_names_may_be_anything() {
    let image = mk_plain("x");
    let mut tar = docker_archive(&[(&["a:1"], &image)]);
    tar.truncate(tar.len() - 1024);
    for (kind, name) in [
        (tar::EntryType::Fifo, &b"pipe"[..]),
        (tar::EntryType::Char, b"null"),
        (tar::EntryType::Symlink, b"dangling"),
        (tar::EntryType::Regular, b"caf\xe9"),
        (tar::EntryType::new(b'V'), b"label"),
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(0);
        header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name);
        header.as_gnu_mut().unwrap().linkname[..11].copy_from_slice(b"/etc/shadow");
        header.set_cksum();
        tar.extend_from_slice(header.as_bytes());
    }
    tar.extend([0; 1024]);
    let images = open(&tar).unwrap();
    assert_eq!(images[0].root.digest, image.root.digest);
    assert_whole(&images[0]).await;
}

#[tokio::test]
async fn an_archive_of_gnu_tar_with_sparse_files_is_read() {
    let image = FixtureBuilder::new().plain_layer(&[("zeros", &[0; 1 << 20])]).build();
    let directory = tempfile::tempdir().unwrap();
    for (path, content) in files_of(&docker_archive(&[(&["a:1"], &image)])) {
        let path = directory.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let file = std::fs::File::create(path).unwrap();
        file.set_len(content.len() as u64).unwrap();
        for (number, block) in content.chunks(4096).enumerate() {
            if block.iter().any(|byte| *byte != 0) {
                std::os::unix::fs::FileExt::write_all_at(&file, block, number as u64 * 4096).unwrap();
            }
        }
    }
    for form in [&["--format=gnu"][..], &["--format=pax", "--sparse-version=1.0"]] {
        let mut tar = std::process::Command::new("tar");
        tar.args(["-c", "--sparse", "--hole-detection=raw"]).args(form);
        let output = tar.arg("-C").arg(directory.path()).arg(".").output().unwrap();
        assert!(output.stdout.len() < 1 << 19, "GNU tar leaves the zeros out");
        let images = open(&output.stdout).unwrap();
        assert_eq!(images[0].root.digest, image.root.digest);
        assert_whole(&images[0]).await;
    }
}

#[test]
fn an_archive_that_is_cut_short_is_called_so_and_no_message_repeats_its_bytes() {
    let image = mk_plain("x");
    let archives = [docker_archive(&[(&["a:1"], &image)]), oci_archive(&[("a/b:1", &image)])];
    for archive in archives {
        let zstd = zstd::encode_all(archive.as_slice(), 0).unwrap();
        let gzip = gzip(&archive);
        let cuts = [
            (&archive, 700),
            (&archive, archive.len() / 2),
            (&gzip, gzip.len() / 2),
            (&zstd, zstd.len() / 2),
        ];
        for (whole, cut) in cuts {
            let error = error_chain(&open(&whole[..cut]).unwrap_err());
            assert!(
                error.ends_with("it ends in the middle: it was cut short"),
                "{cut}: {error}"
            );
        }
        // Cut between two entries, and so without the mark at the end.
        let files = files_of(&archive);
        let mut between = to_tar(&files[..1]);
        between.truncate(between.len() - 1024);
        let error = error_chain(&open(&between).unwrap_err());
        assert!(error.ends_with("it was cut short"), "{error}");
    }
    for (bytes, expected) in [
        (&b"\x1b[31m\xff\xfe".repeat(400)[..], "it is not a tar archive"),
        (
            b"7z\xbc\xaf\x27\x1c\0\x04",
            "it is compressed by 7-Zip, which is not supported",
        ),
        (b"", "it is empty"),
    ] {
        let error = error_chain(&open(bytes).unwrap_err());
        assert!(error.ends_with(expected) && error.is_ascii(), "{error}");
        assert!(!error.contains(char::is_control), "{error}");
    }
}

type Compress<'a> = dyn Fn(&[u8]) -> Vec<u8> + 'a;

#[tokio::test]
async fn archives_and_layers_are_read_in_every_compression() {
    let image = mk_plain("x");
    let files = files_of(&docker_archive(&[(&["a:1"], &image)]));
    let xz = |bytes: &[u8]| {
        let mut encoder = lzma_rust2::XzWriter::new(Vec::new(), lzma_rust2::XzOptions::with_preset(1)).unwrap();
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let bzip2 = |bytes: &[u8]| {
        let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let lz4 = |bytes: &[u8]| {
        let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let with_layers = |compress: &Compress<'_>| {
        let changed = files.iter().map(|(path, content)| match path.ends_with("layer.tar") {
            true => (path.clone(), compress(content)),
            false => (path.clone(), content.clone()),
        });
        to_tar(&changed.collect::<Vec<_>>())
    };
    let forms: [&Compress<'_>; 3] = [&xz, &bzip2, &lz4];
    for (number, compress) in forms.into_iter().enumerate() {
        for bytes in [compress(&to_tar(&files)), with_layers(compress)] {
            let images = open(&bytes).unwrap();
            assert_eq!(images[0].root.digest, image.root.digest, "{number}");
            assert_whole(&images[0]).await;
        }
    }
    // Layers compressed by gzip stay as they are: runtimes unpack them.
    let images = open(&with_layers(&gzip)).unwrap();
    assert_ne!(images[0].root.digest, image.root.digest);
    assert_whole(&images[0]).await;
}

#[test]
fn a_configuration_that_lists_other_layers_is_refused() {
    let config = br#"{"rootfs":{"type":"layers","diff_ids":[]}}"#;
    let list = br#"[{"Config":"c","RepoTags":null,"Layers":["l"]}]"#;
    let error = open(&tar_of([("c", &config[..]), ("l", b""), ("manifest.json", list)])).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the archive's image `c` has 1 layers where its configuration lists 0"
    );
}
