//! Copies of some platforms of an image: the index stays unchanged, and registries that require all entries
//! report that.

#![expect(clippy::unwrap_used, reason = "test set-up")]
#![expect(clippy::disallowed_methods, reason = "test set-up")]

mod common;

use camino::Utf8Path;
use common::{Served, mk_client, mk_options, mk_source, repository};
use landfall_core::failure::FailureKind;
use landfall_core::status::NoProgress;
use landfall_oci::archive::open_archive;
use landfall_oci::client::{RegistryClient, RegistrySink};
use landfall_oci::copy::{CopyOptions, CopyReport, ImageCopy, PartialIndexRefused, copy_image, dry_run_images};
use landfall_oci::image::TransferError;
use landfall_testkit::fake_registry::FakeRegistry;
use landfall_testkit::image_builder::{FixtureBuilder, ImageFixture, multi_platform, oci_archive};

fn mk_image() -> (ImageFixture, ImageFixture, ImageFixture) {
    let one = |architecture: &str| {
        FixtureBuilder::new()
            .platform("linux", architecture)
            .plain_layer(&[("program", architecture.as_bytes())])
            .build()
    };
    let (amd64, arm64) = (one("amd64"), one("arm64"));
    (multi_platform(&[amd64.clone(), arm64.clone()]), amd64, arm64)
}

async fn copy(from: &FakeRegistry, to: &RegistryClient, platforms: &[&str]) -> Result<CopyReport, TransferError> {
    let sink = RegistrySink::new(to.clone(), repository("mirror/app"), Some("1".parse().unwrap()));
    let name = "reg.example.com/mirror/app:1".parse().unwrap();
    let options = mk_platform_options(platforms);
    copy_image(&mk_source(from), "1", &sink, Some(&name), &options, &NoProgress).await
}

fn mk_platform_options(platforms: &[&str]) -> CopyOptions {
    CopyOptions {
        platforms: platforms.iter().map(|text| text.parse().unwrap()).collect(),
        ..mk_options()
    }
}

async fn is_in_mirror(to: &RegistryClient, part: &ImageFixture) -> bool {
    let mirror = repository("mirror/app");
    let found = to.head_manifest(&mirror, part.root.digest.as_str()).await;
    found.unwrap().is_some()
}

#[tokio::test]
async fn a_subset_moves_less_keeps_the_index_and_can_be_completed_later() {
    let (from, ours) = (FakeRegistry::start(), Served::start().await);
    let to = ours.client();
    let (image, amd64, arm64) = mk_image();
    from.add_image("shop/app", "1", &image);
    let holds = async |part| is_in_mirror(&to, part).await;
    let sink = RegistrySink::new(to.clone(), repository("mirror/app"), Some("1".parse().unwrap()));
    let source = mk_source(&from);
    let planned = ImageCopy {
        source: &source,
        selector: "1",
        sink: &sink,
        name: None,
        expected: None,
    };
    let expected = dry_run_images(&[planned], &mk_platform_options(&["linux/arm64"]), &NoProgress).await;
    let report = copy(&from, &to, &["linux/arm64"]).await.unwrap();
    assert_eq!(expected[0].as_ref().unwrap().bytes_moved, report.bytes_moved);
    assert_eq!(report.blobs_moved, 2);
    let index = to.fetch_manifest(&repository("mirror/app"), "1").await.unwrap();
    assert_eq!(index.bytes, image.root_bytes());
    assert!(holds(&arm64).await && !holds(&amd64).await);
    assert!(copy(&from, &to, &["linux/arm64"]).await.unwrap().unchanged);
    let rest = copy(&from, &to, &[]).await.unwrap();
    assert!(!rest.unchanged && holds(&amd64).await);
    assert_eq!((rest.blobs_moved, rest.blobs_skipped), (2, 2));
    assert!(copy(&from, &to, &[]).await.unwrap().unchanged);
}

#[tokio::test]
async fn platforms_are_found_in_indexes_that_lie_in_an_index() {
    let (from, ours) = (FakeRegistry::start(), Served::start().await);
    let to = ours.client();
    let (inner, amd64, arm64) = mk_image();
    let s390x = FixtureBuilder::new().platform("linux", "s390x").build();
    // The entry of the inner index names no platform.
    let image = multi_platform(&[inner.clone(), s390x.clone()]);
    from.add_image("shop/app", "1", &image);
    let holds = async |part| is_in_mirror(&to, part).await;
    // Each platform is found in its index. Platforms that an earlier run left out are not assumed to be
    // present.
    copy(&from, &to, &["linux/s390x"]).await.unwrap();
    assert!(holds(&s390x).await && !holds(&arm64).await);
    assert!(copy(&from, &to, &["linux/s390x"]).await.unwrap().unchanged);
    assert!(!copy(&from, &to, &["linux/arm64"]).await.unwrap().unchanged);
    assert!(holds(&arm64).await && !holds(&amd64).await);
    assert!(!copy(&from, &to, &[]).await.unwrap().unchanged);
    assert!(holds(&amd64).await);
    assert!(copy(&from, &to, &[]).await.unwrap().unchanged);
    let index = to.fetch_manifest(&repository("mirror/app"), "1").await.unwrap();
    assert_eq!(index.bytes, image.root_bytes());
    let error = copy(&from, &to, &["linux/riscv64"]).await.unwrap_err();
    assert!(
        error
            .chain()
            .ends_with("it is for `linux/s390x`, `linux/amd64`, `linux/arm64`"),
        "{}",
        error.chain()
    );
}

#[tokio::test]
async fn a_registry_that_wants_all_of_an_index_is_named_as_the_reason() {
    let (from, to) = (FakeRegistry::start(), FakeRegistry::start());
    let (image, _, arm64) = mk_image();
    from.add_image("shop/app", "1", &image);
    let error = copy(&from, &mk_client(&to), &["linux/arm64"]).await.unwrap_err();
    assert!(error.chain().contains("only with all of them"), "{}", error.chain());
    let refused: &PartialIndexRefused = error.source.as_deref().unwrap().downcast_ref().unwrap();
    assert_eq!(refused.copied, [arm64.root.digest]);
}

#[tokio::test]
async fn an_image_without_the_platform_is_not_copied() {
    let (from, to) = (FakeRegistry::start(), FakeRegistry::start());
    from.add_image("shop/app", "1", &mk_image().0);
    let error = copy(&from, &mk_client(&to), &["linux/s390x"]).await.unwrap_err();
    assert_eq!(error.kind, FailureKind::NotFound);
    assert!(
        error
            .chain()
            .ends_with("for `linux/s390x`: it is for `linux/amd64`, `linux/arm64`"),
        "{error}"
    );
}

#[tokio::test]
async fn an_archive_of_one_platform_gives_a_registry_the_index_as_it_is_and_says_what_is_not_there() {
    let ours = Served::start().await;
    let to = ours.client();
    let (image, amd64, arm64) = mk_image();
    let mut exported = image.clone();
    exported.manifests.retain(|(part, _)| part.digest != amd64.root.digest);
    exported.blobs.retain(|digest, _| !amd64.blobs.contains_key(digest));
    let directory = tempfile::tempdir().unwrap();
    let directory = Utf8Path::from_path(directory.path()).unwrap();
    let file = directory.join("app.tar");
    std::fs::write(&file, oci_archive(&[("reg.example.com/app:1", &exported)])).unwrap();
    let archive = &open_archive(&file, directory).unwrap()[0];
    let sink = RegistrySink::new(to.clone(), repository("mirror/app"), Some("1".parse().unwrap()));
    let name = "reg.example.com/mirror/app:1".parse().unwrap();
    let copy = async |platforms: &[&str]| {
        let options = mk_platform_options(platforms);
        copy_image(&*archive.source, "1", &sink, Some(&name), &options, &NoProgress).await
    };
    let error = copy(&["linux/amd64"]).await.unwrap_err();
    assert!(error.chain().ends_with("it is for `linux/arm64`"), "{}", error.chain());
    assert_eq!(copy(&[]).await.unwrap().lacking, ["linux/amd64"]);
    let index = to.fetch_manifest(&repository("mirror/app"), "1").await.unwrap();
    assert_eq!(index.bytes, image.root_bytes());
    assert!(is_in_mirror(&to, &arm64).await && !is_in_mirror(&to, &amd64).await);
    assert!(copy(&[]).await.unwrap().unchanged);
}
