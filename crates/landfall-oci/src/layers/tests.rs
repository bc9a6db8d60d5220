#![expect(clippy::disallowed_methods, reason = "test set-up")]

use landfall_core::oci_types::media_type;
use landfall_testkit::image_builder::{FixtureBuilder, ImageFixture, gzip, multi_platform, provider_image, tar_of};

use super::*;
use crate::image::RawManifest;
use crate::layers::pattern::provider_image_patterns;

struct Fixture {
    store: ContentStore,
    _directory: tempfile::TempDir,
}

fn mk_fixture() -> Fixture {
    let directory = tempfile::tempdir().unwrap();
    let store = ContentStore::open(Utf8Path::from_path(directory.path()).unwrap()).unwrap();
    Fixture {
        store,
        _directory: directory,
    }
}

fn put(store: &ContentStore, image: &ImageFixture) -> Digest {
    for (digest, bytes) in &image.blobs {
        let blob = Descriptor::new("", digest.clone(), bytes.len() as u64);
        store.write_blob_bytes(&blob, bytes).unwrap();
    }
    for (descriptor, bytes) in &image.manifests {
        let manifest = RawManifest {
            bytes: bytes.clone(),
            media_type: descriptor.media_type.clone(),
            digest: descriptor.digest.clone(),
        };
        store.write_manifest(&manifest, None, &store.lease()).unwrap();
    }
    image.root.digest.clone()
}

fn mk_platform(text: &str) -> Platform {
    let mut parts = text.split('/').map(str::to_owned);
    Platform {
        os: parts.next().unwrap(),
        architecture: parts.next().unwrap(),
        variant: parts.next(),
    }
}

fn extract(image: &ImageFixture) -> Result<Vec<(String, String)>, LayersError> {
    let fixture = mk_fixture();
    let digest = put(&fixture.store, image);
    let patterns = provider_image_patterns();
    let platform = mk_platform("linux/amd64");
    let extracted = extract_files(&fixture.store, &digest, &platform, &patterns, ExtractLimits::default())?;
    Ok(extracted
        .files
        .iter()
        .map(|file| (file.path.clone(), std::fs::read_to_string(&file.content).unwrap()))
        .collect())
}

fn mk_entry(kind: tar::EntryType, path: &str, target: &str) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(0);
    header.as_gnu_mut().unwrap().name[..path.len()].copy_from_slice(path.as_bytes());
    header.as_gnu_mut().unwrap().linkname[..target.len()].copy_from_slice(target.as_bytes());
    header.set_cksum();
    header.as_bytes().to_vec()
}

/// Returns an image of these layers, each a list of raw entries.
fn mk_raw(layers: &[&[Vec<u8>]]) -> ImageFixture {
    layers
        .iter()
        .fold(FixtureBuilder::new(), |builder, entries| {
            let tar = [entries.concat(), vec![0; 1024]].concat();
            builder.layer(media_type::OCI_LAYER, &tar, tar.clone())
        })
        .build()
}

/// Returns the tar entry of a file, without the end of the archive.
fn mk_file(path: &str, content: &str) -> Vec<u8> {
    let mut tar = tar_of([(path, content)]);
    tar.truncate(512 + content.len().next_multiple_of(512));
    tar
}

const A: &str = "opt/kube-images/a.tar";
const B: &str = "opt/kube-images/b.tar";
const C: &str = "opt/content/images/c";

#[test]
fn files_come_in_the_order_of_their_paths_whatever_the_layer_is_compressed_with() {
    let tar = tar_of([("./opt/kube-images/b.tar", "b"), ("etc/passwd", "no")]);
    let zstd = zstd::encode_all(tar.as_slice(), 0).unwrap();
    let image = FixtureBuilder::new()
        .layer(media_type::OCI_LAYER_ZSTD, &tar, zstd)
        .gzip_layer(&[(C, b"c"), ("opt/kube-images/readme.txt", b"no")])
        .plain_layer(&[(A, b"a")])
        .build();
    assert_eq!(
        extract(&image).unwrap(),
        [(C, "c"), (A, "a"), (B, "b")].map(|(path, content)| (path.to_owned(), content.to_owned()))
    );
    let provider = provider_image(&[("pause.tar", b"pause"), ("etcd.tar", b"etcd")]);
    let paths: Vec<String> = extract(&provider).unwrap().into_iter().map(|(path, _)| path).collect();
    assert_eq!(paths, ["opt/kube-images/etcd.tar", "opt/kube-images/pause.tar"]);
}

/// Files of a layer, `(path, content)`.
type Upper<'a> = &'a [(&'a str, &'a [u8])];
/// Extracted files, `(path, content)`.
type Seen<'a> = &'a [(&'a str, &'a str)];

#[test]
fn upper_layers_replace_and_delete_what_lower_ones_have() {
    let lower: &[(&str, &[u8])] = &[(A, b"old a"), (B, b"old b"), (C, b"old c")];
    let both: &[(&str, &str)] = &[(A, "old a"), (B, "old b")];
    let cases: [(&str, Upper<'_>, Seen<'_>); 8] = [
        (
            "a file is replaced",
            &[(A, b"new a")],
            &[(C, "old c"), (A, "new a"), (B, "old b")],
        ),
        (
            "a file is deleted",
            &[("opt/kube-images/.wh.a.tar", b"")],
            &[(C, "old c"), (B, "old b")],
        ),
        ("a directory is deleted", &[("opt/content/.wh.images", b"")], both),
        ("a parent is deleted", &[("opt/.wh.content", b"")], both),
        (
            "a directory is opaque",
            &[("opt/content/images/.wh..wh..opq", b"")],
            both,
        ),
        (
            "what an opaque directory's own layer has stays, before and after",
            &[
                (A, b"new a"),
                ("opt/kube-images/.wh..wh..opq", b""),
                ("opt/kube-images/d.tar", b"d"),
            ],
            &[(C, "old c"), (A, "new a"), ("opt/kube-images/d.tar", "d")],
        ),
        (
            "a file takes a directory's place",
            &[("opt/content/images", b"file")],
            both,
        ),
        (
            "a whiteout of nothing",
            &[("opt/kube-images/.wh.a", b"")],
            &[(C, "old c"), (A, "old a"), (B, "old b")],
        ),
    ];
    for (case, upper, expected) in cases {
        let image = FixtureBuilder::new().gzip_layer(lower).gzip_layer(upper).build();
        let expected: Vec<_> = expected
            .iter()
            .map(|(path, content)| ((*path).to_owned(), (*content).to_owned()))
            .collect();
        assert_eq!(extract(&image).unwrap(), expected, "{case}");
    }
}

#[test]
fn a_path_that_climbs_is_refused() {
    for path in ["../opt/kube-images/a.tar", "opt/kube-images/../../../a.tar"] {
        let image = mk_raw(&[&[mk_entry(tar::EntryType::Regular, path, "")]]);
        let error = extract(&image).unwrap_err();
        assert!(
            matches!(&error, LayersError::Path { path: found, .. } if found == path),
            "{error}"
        );
    }
    let absolute = mk_raw(&[&[mk_entry(tar::EntryType::Regular, "/opt/kube-images/a.tar", "")]]);
    assert_eq!(
        extract(&absolute).unwrap(),
        [(A.to_owned(), String::new())],
        "absolute means from the image's root"
    );
}

#[test]
fn a_link_among_the_files_adds_nothing_and_one_that_leads_elsewhere_is_refused() {
    use tar::EntryType::{Link, Symlink};
    for (kind, target, good) in [
        (Symlink, "a.tar", true),
        (Symlink, "../kube-images/a.tar", true),
        (Symlink, "/opt/kube-images/a.tar", true),
        (Link, "opt/kube-images/a.tar", true),
        (Symlink, "../../../../etc/shadow", false),
        (Symlink, "/etc/shadow", false),
        (Symlink, "b.tar", false),
        (Link, "etc/shadow", false),
    ] {
        let image = mk_raw(&[&[
            mk_file("etc/shadow", "secret"),
            mk_file(A, "a"),
            mk_entry(kind, B, target),
        ]]);
        match extract(&image) {
            Ok(files) => assert!(good && files == [(A.to_owned(), "a".to_owned())], "{target}: {files:?}"),
            Err(error) => assert!(!good && matches!(error, LayersError::Link { .. }), "{target}: {error}"),
        }
    }
}

#[test]
fn the_sizes_are_bounded() {
    let fixture = mk_fixture();
    let image = FixtureBuilder::new()
        .gzip_layer(&[(A, &[0; 5000]), (B, &[0; 5000])])
        .build();
    let digest = put(&fixture.store, &image);
    let run = |limits| {
        extract_files(
            &fixture.store,
            &digest,
            &mk_platform("linux/amd64"),
            &provider_image_patterns(),
            limits,
        )
    };
    let error = run(ExtractLimits {
        layer: 8000,
        files: 20_000,
    })
    .unwrap_err();
    assert!(matches!(error, LayersError::Layer { .. }), "{error}");
    let error = run(ExtractLimits {
        layer: 20_000,
        files: 9999,
    })
    .unwrap_err();
    assert!(matches!(error, LayersError::TooLarge { limit: 9999 }), "{error}");
    assert_eq!(
        run(ExtractLimits {
            layer: 20_000,
            files: 10_000
        })
        .unwrap()
        .files
        .len(),
        2
    );
    assert_eq!(
        std::fs::read_dir(fixture.store.root().join("work")).unwrap().count(),
        0,
        "all work files are gone"
    );
}

#[test]
fn the_platform_is_chosen_and_a_missing_one_lists_what_there_is() {
    let fixture = mk_fixture();
    let mk = |architecture: &str| {
        FixtureBuilder::new()
            .platform("linux", architecture)
            .plain_layer(&[(A, architecture.as_bytes())])
            .build()
    };
    let digest = put(&fixture.store, &multi_platform(&[mk("amd64"), mk("arm64")]));
    let run = |platform: &str| {
        extract_files(
            &fixture.store,
            &digest,
            &mk_platform(platform),
            &provider_image_patterns(),
            ExtractLimits::default(),
        )
    };
    for (platform, content) in [
        ("linux/amd64", "amd64"),
        ("linux/arm64", "arm64"),
        ("linux/arm64/v8", "arm64"),
    ] {
        assert_eq!(
            std::fs::read_to_string(&run(platform).unwrap().files[0].content).unwrap(),
            content
        );
    }
    let message = run("linux/riscv64").unwrap_err().to_string();
    insta::assert_snapshot!(message.replace(digest.as_str(), "DIGEST"), @"the image `DIGEST` is not there for the platform `linux/riscv64`, only for `linux/amd64`, `linux/arm64`");
}

#[test]
fn many_links_take_time_for_each_once_and_more_than_the_limit_are_refused() {
    let links = |count: usize| -> Vec<Vec<u8>> {
        let mut entries = vec![mk_file(A, "a")];
        entries.extend(
            (0..count).map(|number| mk_entry(tar::EntryType::Link, &format!("opt/content/images/{number}"), A)),
        );
        entries
    };
    // Whiteouts of a directory that has many paths, again and again.
    let whiteouts = vec![mk_entry(tar::EntryType::Regular, "opt/content/images/.wh..wh..opq", ""); 20_000];
    let upper = [links(20_000), whiteouts].concat();
    let files = extract(&mk_raw(&[&links(20_000), &upper])).unwrap();
    assert_eq!(files, [(A.to_owned(), "a".to_owned())]);
    let error = extract(&mk_raw(&[&links(100_001)])).unwrap_err();
    assert!(matches!(error, LayersError::TooMany { .. }), "{error}");
}

#[test]
fn a_path_that_is_not_text_is_read_and_its_bytes_are_written_out() {
    let name = |bytes: &[u8]| {
        let mut entry = mk_file("opt/kube-images/-------------", "a");
        let mut header = tar::Header::from_byte_slice(&entry[..512]).clone();
        header.as_gnu_mut().unwrap().name[16..16 + bytes.len()].copy_from_slice(bytes);
        header.as_gnu_mut().unwrap().name[16 + bytes.len()..].fill(0);
        header.set_cksum();
        entry[..512].copy_from_slice(header.as_bytes());
        entry
    };
    let image = mk_raw(&[&[name(b"caf\xe9.tar"), name(b"caf\xe8.tar")]]);
    let paths: Vec<_> = extract(&image).unwrap().into_iter().map(|(path, _)| path).collect();
    assert_eq!(paths, ["opt/kube-images/caf\\xE8.tar", "opt/kube-images/caf\\xE9.tar"]);
}

#[test]
fn a_sparse_file_keeps_its_holes_and_counts_in_full() {
    let sparse = |size: u64| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::GNUSparse);
        header.as_gnu_mut().unwrap().name[..A.len()].copy_from_slice(A.as_bytes());
        header.set_size(1);
        let gnu = header.as_gnu_mut().unwrap();
        gnu.set_real_size(size);
        gnu.sparse[0].set_offset(2);
        gnu.sparse[0].set_length(1);
        header.set_cksum();
        [header.as_bytes().to_vec(), b"a".to_vec(), vec![0; 511]].concat()
    };
    let files = extract(&mk_raw(&[&[sparse(4)]])).unwrap();
    assert_eq!(files, [(A.to_owned(), "\0\0a\0".to_owned())]);
    let error = extract(&mk_raw(&[&[sparse(1 << 40)]])).unwrap_err();
    assert!(matches!(error, LayersError::TooLarge { .. }), "{error}");
}

#[test]
fn a_layer_that_is_cut_short_or_no_archive_is_an_error_that_names_it() {
    let whole = gzip(&tar_of([(A, b"a")]));
    for content in [whole[..whole.len() / 2].to_vec(), vec![7; 700]] {
        let image = FixtureBuilder::new()
            .layer(media_type::OCI_LAYER_GZIP, b"", content)
            .build();
        let error = extract(&image).unwrap_err();
        assert!(matches!(error, LayersError::Layer { .. }), "{error}");
    }
}
