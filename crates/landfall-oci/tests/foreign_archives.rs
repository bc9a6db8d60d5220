//! Archives of other tools: Palette, hauler, zarf, docker and containerd, whole or in pieces, compressed or not.

#![expect(clippy::unwrap_used, clippy::disallowed_methods, reason = "test set-up")]

mod common;

use std::sync::Arc;

use bytes::Bytes;
use camino::Utf8Path;
use common::archives::{
    Files, layout_files, mk_directory, mk_image, one_frame, open_images, to_bytes, to_tar, with_seek_table,
    write_pieces,
};
use common::{mk_bytes, mk_client, mk_options, repository};
use landfall_core::reference::Repository;
use landfall_core::status::NoProgress;
use landfall_oci::archive::ArchiveImage;
use landfall_oci::archive::stream::{ArchiveStream, Staging, StreamError, load_stream, open_or_load};
use landfall_oci::client::{RegistryClient, RegistrySink, RegistrySource};
use landfall_oci::copy::copy_image;
use landfall_oci::store::ContentStore;
use landfall_testkit::fake_registry::FakeRegistry;
use landfall_testkit::image_builder::{
    FixtureBuilder, ImageFixture, digest_of, docker_archive, gzip, multi_platform, oci_archive, tar_of,
};
use serde_json::{Value, json};

/// Returns a Palette bundle: full names, and the kind of each thing. Its cluster definition is an artifact.
fn palette_bundle(agent: &ImageFixture, definition: &ImageFixture) -> Vec<u8> {
    let annotate = |reference: &str| {
        let kind = if reference.contains("cluster-definition") {
            "spc"
        } else {
            "stylus"
        };
        json!({
            "org.opencontainers.image.ref.name": reference,
            "io.image.ref.spectrocloud.type": kind,
        })
    };
    to_tar(&layout_files(
        &[
            ("us-docker.pkg.dev/palette-images/edge/stylus:v4.10.4", agent),
            ("local/cluster-definition:demo", definition),
        ],
        &annotate,
    ))
}

/// Returns the cluster definition of a Palette bundle: its layer is `spc.tgz`.
fn cluster_definition() -> ImageFixture {
    let tgz = gzip(&tar_of([("spc/cluster.json", &b"{}"[..])]));
    FixtureBuilder::new().layer("application/gzip", b"", tgz).build()
}

/// Returns hauler's file: a layout with the list of docker beside it, directories, and no `oci-layout`.
fn haul(image: &ImageFixture) -> Vec<u8> {
    let annotate = |reference: &str| {
        json!({
            "kind": "dev.cosignproject.cosign/image",
            "org.opencontainers.image.ref.name": reference.split_once('/').unwrap().1,
            "io.containerd.image.name": reference,
        })
    };
    let mut files = layout_files(&[("docker.io/library/app:1.0", image)], &annotate);
    files.retain(|(path, _)| path != "oci-layout");
    let manifest: Value = serde_json::from_slice(&image.root_bytes()).unwrap();
    let path = |descriptor: &Value| {
        descriptor["digest"]
            .as_str()
            .unwrap()
            .replace(':', "/")
            .replace("sha256/", "blobs/sha256/")
    };
    let layers: Vec<String> = manifest["layers"].as_array().unwrap().iter().map(path).collect();
    let list = json!([{"Config": path(&manifest["config"]), "RepoTags": ["app:1.0"], "Layers": layers}]);
    files.push(("manifest.json".to_owned(), to_bytes(&list)));
    to_tar(&files)
}

/// Returns zarf's package: the layout in `images/`, and tars of components that are no layers.
fn zarf_package(image: &ImageFixture) -> Vec<u8> {
    let annotate = |reference: &str| json!({"org.opencontainers.image.base.name": reference});
    let component = tar_of([("c/files/0", &mk_bytes(9_000_000))]);
    let mut files: Files = vec![
        ("checksums.txt".to_owned(), Bytes::from_static(b"00 zarf.yaml\n")),
        ("components/baseline.tar".to_owned(), component.into()),
    ];
    let layout = layout_files(&[("ghcr.io/shop/app:1.0", image)], &annotate);
    files.extend(
        layout
            .into_iter()
            .map(|(path, content)| (format!("images/{path}"), content)),
    );
    files.push(("sboms.tar".to_owned(), tar_of([("s", b"s")]).into()));
    files.push(("zarf.yaml".to_owned(), Bytes::from_static(b"kind: ZarfPackageConfig\n")));
    to_tar(&files)
}

/// Checks that all content of an image can be read.
async fn assert_whole(image: &ArchiveImage) {
    let mut pending = vec![image.root.clone()];
    while let Some(descriptor) = pending.pop() {
        if !descriptor.is_manifest() {
            let stream = image.source.open_blob(&descriptor, 0).await.unwrap();
            assert_eq!(digest_of(&common::collect(stream).await.unwrap()), descriptor.digest);
            continue;
        }
        let raw = image.source.fetch_manifest(descriptor.digest.as_str()).await.unwrap();
        let content = landfall_core::oci_types::parse_manifest(&raw.bytes).unwrap();
        pending.extend(content.children().cloned());
    }
}

#[tokio::test]
async fn files_of_every_tool_are_read_in_every_form_without_a_copy() {
    let (app, definition) = (mk_image("app"), cluster_definition());
    let several = multi_platform(&[
        mk_image("amd"),
        FixtureBuilder::new().platform("linux", "arm64").build(),
    ]);
    for (tool, tar, names, kinds, roots) in [
        (
            "palette",
            palette_bundle(&app, &definition),
            vec![
                "us-docker.pkg.dev/palette-images/edge/stylus:v4.10.4",
                "local/cluster-definition:demo",
            ],
            vec![Some("stylus"), Some("spc")],
            vec![&app.root.digest, &definition.root.digest],
        ),
        (
            "hauler",
            haul(&app),
            vec!["docker.io/library/app:1.0"],
            vec![None],
            vec![&app.root.digest],
        ),
        (
            "zarf",
            zarf_package(&app),
            vec!["ghcr.io/shop/app:1.0"],
            vec![None],
            vec![&app.root.digest],
        ),
        (
            "docker save",
            docker_archive(&[(&["shop/app:1"], &app)]),
            vec!["shop/app:1"],
            vec![None],
            vec![&app.root.digest],
        ),
        (
            "ctr images export",
            oci_archive(&[("reg:5000/multi:1", &several)]),
            vec!["reg:5000/multi:1"],
            vec![None],
            vec![&several.root.digest],
        ),
    ] {
        for (form, bytes, is_one_pass) in [
            ("plain", tar.clone(), false),
            ("seekable", with_seek_table(&tar), false),
            ("zstd", one_frame(&tar), true),
            ("gzip", gzip(&tar), true),
        ] {
            for pieces in [None, Some("palette"), Some("hauler"), Some("zarf")] {
                let case = format!("{tool}, {form}, {pieces:?}");
                let (_kept, directory) = mk_directory();
                let path = match pieces {
                    Some(maker) => write_pieces(&directory, maker, &bytes),
                    None => {
                        let path = directory.join("x.tar");
                        std::fs::write(&path, &bytes).unwrap();
                        path
                    }
                };
                let store = ContentStore::open(&directory.join("store")).unwrap();
                // What a description states is compared: all of the file is read.
                let is_one_pass = is_one_pass || (form, pieces) == ("plain", Some("zarf"));
                let mut one_pass = !is_one_pass;
                let images = open_images(&path, &store, &mut one_pass).await.expect(&case);
                assert_eq!(one_pass, is_one_pass, "{case}");
                let found: Vec<_> = images.iter().flat_map(|image| image.names.clone()).collect();
                assert_eq!(found, names, "{case}");
                let found: Vec<_> = images.iter().map(|image| image.kind.as_deref()).collect();
                assert_eq!(found, kinds, "{case}");
                let found: Vec<_> = images.iter().map(|image| &image.root.digest).collect();
                assert_eq!(found, roots, "{case}");
                for image in &images {
                    assert_whole(image).await;
                }
            }
        }
    }
}

/// Stages blobs in the repository `staged` of a registry.
fn mk_staging(client: &RegistryClient, spool: &Utf8Path) -> Staging {
    let repository = repository("staged");
    let sink = RegistrySink::new(client.clone(), repository.clone(), None);
    let source = RegistrySource {
        client: client.clone(),
        repository,
    };
    Staging::in_sink(Arc::new(sink), Arc::new(source), spool)
}

#[tokio::test]
async fn a_compressed_archive_is_pushed_while_it_is_read_and_its_blobs_are_mounted() {
    let (first, second) = (mk_image("first"), mk_image("second"));
    let oci = oci_archive(&[("reg/first:1", &first), ("reg/second:1", &second)]);
    let docker = docker_archive(&[(&["reg/first:1"], &first), (&["reg/second:1"], &second)]);
    for (form, tar) in [("oci", oci), ("docker", docker)] {
        let registry = FakeRegistry::start();
        let client = mk_client(&registry);
        let (_kept, spool) = mk_directory();
        let staging = mk_staging(&client, &spool);
        let stream = ArchiveStream::new(
            Utf8Path::new("x.tar.zst"),
            Box::new(std::io::Cursor::new(one_frame(&tar))),
        );
        let images = load_stream(stream, &staging, &NoProgress).await.unwrap();
        for image in [&first, &second] {
            assert!(
                image
                    .manifests
                    .iter()
                    .all(|(manifest, _)| registry.blob(&manifest.digest).is_none())
            );
        }
        for (image, name) in images.iter().zip(["shop/first", "shop/second"]) {
            let to: Repository = repository(name);
            let sink = RegistrySink::new(client.clone(), to, Some("1".parse().unwrap()));
            let reference = format!("{}/{name}:1", registry.host()).parse().unwrap();
            let digest = image.root.digest.to_string();
            let source = image.source.clone();
            let options = mk_options();
            let copied = copy_image(&*source, &digest, &sink, Some(&reference), &options, &NoProgress);
            let report = copied.await.unwrap();
            // Tiny files without a digest in their name stay in memory: of `docker save`, the configuration and a layer.
            assert!(report.bytes_moved < 5_000, "{form}: {report:?}");
            assert!(report.blobs_mounted >= 1, "{form}: {report:?}");
        }
        assert_eq!(
            registry.manifest("shop/first", "1").unwrap(),
            first.root_bytes(),
            "{form}"
        );
        assert_eq!(
            registry.manifest("shop/second", "1").unwrap(),
            second.root_bytes(),
            "{form}"
        );
        assert_eq!(
            std::fs::read_dir(&spool).unwrap().count(),
            0,
            "{form}: nothing stays in the spool"
        );
    }
}

#[tokio::test]
async fn a_wrong_blob_is_not_pushed() {
    let image = mk_image("x");
    let mut large: Files = layout_files(
        &[("a/b:1", &image)],
        &|name| json!({"org.opencontainers.image.ref.name": name}),
    );
    let digest = digest_of(b"something else");
    large.insert(0, (format!("blobs/sha256/{}", digest.hex()), vec![7; 9 << 20].into()));
    let registry = FakeRegistry::start();
    let (_kept, spool) = mk_directory();
    let staging = mk_staging(&mk_client(&registry), &spool);
    let stream = ArchiveStream::new(Utf8Path::new("x.tar"), Box::new(std::io::Cursor::new(to_tar(&large))));
    let error = load_stream(stream, &staging, &NoProgress).await.unwrap_err();
    assert!(matches!(error, StreamError::Archive(_)), "{error}");
    assert!(error.to_string().ends_with("the archive is damaged"), "{error}");
    assert!(registry.blob(&digest).is_none());
}

#[tokio::test]
async fn one_call_lists_the_images_of_any_archive() {
    let image = mk_image("x");
    let tar = oci_archive(&[("a/b:1", &image)]);
    for (form, bytes) in [("in place", tar.clone()), ("one pass", one_frame(&tar))] {
        let (_kept, directory) = mk_directory();
        let path = write_pieces(&directory, "palette", &bytes);
        let store = ContentStore::open(&directory.join("store")).unwrap();
        let staging = Staging::in_store(&store);
        let opened = open_or_load(&path, &directory, &staging, &NoProgress).await;
        let images = opened.unwrap();
        assert_eq!(images[0].root.digest, image.root.digest, "{form}");
        assert_whole(&images[0]).await;
        std::fs::remove_file(directory.join("x.tar.zst_part00")).unwrap();
        let error = open_or_load(&path, &directory, &staging, &NoProgress)
            .await
            .unwrap_err();
        let hint = landfall_core::failure::find_hint(&error, landfall_oci::hints::hint_of);
        assert!(hint.unwrap().starts_with("copy all pieces"), "{form}");
    }
}
