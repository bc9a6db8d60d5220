//! Many images in one pipeline: shared blobs cross the link once, and the destination's responses are always
//! verified.

#![expect(clippy::unwrap_used, reason = "test set-up")]

mod common;

use common::{log, mk_bytes, mk_client, mk_options, mk_source, repository};
use landfall_core::oci_types::media_type;
use landfall_core::reference::{Digest, Tag};
use landfall_core::status::{NoProgress, ProgressEvent};
use landfall_oci::client::{RegistrySink, RegistrySource};
use landfall_oci::copy::{ImageCopy, copy_image, copy_images};
use landfall_testkit::fake_registry::{Effect, FakeRegistry, FakeRegistryOptions, Fault};
use landfall_testkit::image_builder::{FixtureBuilder, ImageFixture};

const NAMES: [&str; 3] = ["a", "b", "c"];

/// Returns images with a common base, each with a layer of its own.
fn mk_images() -> Vec<ImageFixture> {
    let base = mk_bytes(300_000);
    NAMES
        .map(|name| {
            FixtureBuilder::new()
                .plain_layer(&[("base", &base)])
                .plain_layer(&[(name, name.as_bytes())])
                .build()
        })
        .to_vec()
}

fn base_of(image: &ImageFixture) -> Digest {
    let (digest, _) = image.blobs.iter().max_by_key(|(_, bytes)| bytes.len()).unwrap();
    digest.clone()
}

/// Starts a registry with separate repositories, like real ones.
fn strict_registry() -> FakeRegistry {
    FakeRegistry::start_with(FakeRegistryOptions {
        repositories_apart: true,
        ..FakeRegistryOptions::default()
    })
}

fn mk_sink(registry: &FakeRegistry, path: &str) -> RegistrySink {
    let tag: Tag = "1".parse().unwrap();
    RegistrySink::new(mk_client(registry), repository(path), Some(tag))
}

#[tokio::test]
async fn a_blob_that_images_share_crosses_once_and_is_mounted_in_the_other_repositories() {
    let (from, to) = (FakeRegistry::start(), strict_registry());
    let images = mk_images();
    for (name, image) in NAMES.iter().zip(&images) {
        from.add_image(name, "1", image);
    }
    let (source_client, sink_client) = (mk_client(&from), mk_client(&to));
    let sources = NAMES.map(|name| RegistrySource {
        client: source_client.clone(),
        repository: repository(name),
    });
    let sinks = NAMES.map(|name| {
        let tag = Some("1".parse().unwrap());
        RegistrySink::new(sink_client.clone(), repository(&format!("mirror/{name}")), tag)
    });
    let names = NAMES.map(|name| format!("reg.example.com/mirror/{name}:1").parse().unwrap());
    let copies: Vec<_> = (0..NAMES.len())
        .map(|n| ImageCopy {
            source: &sources[n],
            selector: "1",
            sink: &sinks[n],
            name: Some(&names[n]),
            expected: None,
        })
        .collect();
    let reports = copy_images(&copies, &mk_options(), &NoProgress).await;
    let reports: Vec<_> = reports.into_iter().map(Result::unwrap).collect();
    let total = |count: fn(&landfall_oci::copy::CopyReport) -> u64| reports.iter().map(count).sum::<u64>();
    assert_eq!(
        total(|report| report.blobs_moved),
        7,
        "three configurations, three own layers, one base"
    );
    assert_eq!(total(|report| report.blobs_mounted), 2);
    let base = base_of(&images[0]);
    let reads = from
        .requests()
        .iter()
        .filter(|request| request.path.contains(base.as_str()))
        .count();
    assert_eq!(reads, 1, "{}", log(&from));
    let puts = |method: &str| to.requests().iter().filter(|request| request.method == method).count();
    assert_eq!(
        (puts("PUT"), puts("POST")),
        (7 + 3, 9),
        "two requests for a new blob, one for a mounted one"
    );
    assert_eq!(puts("HEAD"), 3, "one question for each image: {}", log(&to));
    for (name, image) in NAMES.iter().zip(&images) {
        assert_eq!(to.manifest(&format!("mirror/{name}"), "1").unwrap(), image.root_bytes());
    }
    to.clear_requests();
    let again = copy_images(&copies, &mk_options(), &NoProgress).await;
    assert!(again.into_iter().all(|report| report.unwrap().unchanged));
    assert_eq!(to.requests().len(), 3, "{}", log(&to));
}

#[tokio::test]
async fn a_registry_that_does_not_mount_gets_the_bytes() {
    for status in [202, 400, 405] {
        let (from, to) = (FakeRegistry::start(), strict_registry());
        let images = mk_images();
        from.add_image("shop/app", "1", &images[0]);
        to.add_image("other", "1", &images[0]);
        let answer = match status {
            202 => Effect::Status(
                202,
                vec![("Location", "/v2/mirror/blobs/uploads/7".to_owned())],
                String::new(),
            ),
            refusal => Effect::Status(refusal, Vec::new(), String::new()),
        };
        to.inject(Fault::once("mount=", answer).method("POST").always());
        let copied = copy_image(
            &mk_source(&from),
            "1",
            &mk_sink(&to, "mirror"),
            None,
            &mk_options(),
            &NoProgress,
        )
        .await;
        assert_eq!(copied.unwrap().blobs_moved, 3, "{status}");
    }
}

#[tokio::test]
async fn within_one_registry_nothing_crosses_the_link() {
    let registry = strict_registry();
    registry.add_image("shop/app", "1", &mk_images()[0]);
    let sink = mk_sink(&registry, "mirror");
    let report = copy_image(&mk_source(&registry), "1", &sink, None, &mk_options(), &NoProgress)
        .await
        .unwrap();
    assert_eq!((report.bytes_moved, report.blobs_mounted), (0, 3));
}

#[tokio::test]
async fn a_destination_that_lost_blobs_is_mended_in_the_same_run() {
    let (from, to) = (FakeRegistry::start(), strict_registry());
    let images = mk_images();
    for (tag, image) in NAMES.iter().zip(&images) {
        from.add_image("shop/app", tag, image);
    }
    let (options, source) = (mk_options(), mk_source(&from));
    copy_image(&source, "a", &mk_sink(&to, "mirror"), None, &options, &NoProgress)
        .await
        .unwrap();
    to.remove_blob(&base_of(&images[0]));
    let name = "reg.example.com/mirror:1".parse().unwrap();
    let sink = mk_sink(&to, "mirror");
    let report = copy_image(&source, "b", &sink, Some(&name), &options, &NoProgress)
        .await
        .unwrap();
    assert_eq!(report.blobs_moved, 3, "its own two, and the base again");
    assert_eq!(to.manifest("mirror", "1").unwrap(), images[1].root_bytes());
    assert!(to.blob(&base_of(&images[0])).is_some());
}

#[tokio::test]
async fn a_destination_that_hides_its_loss_is_mended_by_force() {
    let (from, to) = (FakeRegistry::start(), strict_registry());
    let image = &mk_images()[0];
    from.add_image("shop/app", "a", image);
    let source = mk_source(&from);
    let name = "reg.example.com/mirror:1".parse().unwrap();
    let copy = async |force| {
        let mut options = mk_options();
        options.force = force;
        let sink = mk_sink(&to, "mirror");
        let copied = copy_image(&source, "a", &sink, Some(&name), &options, &NoProgress).await;
        copied.unwrap()
    };
    copy(false).await;
    to.remove_blob(&base_of(image));
    to.clear_requests();
    assert!(copy(false).await.unchanged);
    let asked: Vec<_> = to
        .requests()
        .into_iter()
        .filter(|request| request.path != "/v2/")
        .collect();
    assert_eq!(asked.len(), 1, "one question for an image that is there: {asked:?}");
    assert!(to.blob(&base_of(image)).is_none());
    let report = copy(true).await;
    assert_eq!((report.blobs_moved, report.unchanged), (1, false));
    assert!(to.blob(&base_of(image)).is_some());
}

#[tokio::test]
async fn a_manifest_that_an_artifact_keeps_as_a_layer_is_copied_in_both_roles() {
    let (from, to) = (FakeRegistry::start(), strict_registry());
    let image = &mk_images()[0];
    from.add_image("shop/app", "image", image);
    from.add_blob("application/json", image.root_bytes());
    let empty = from.add_blob("application/vnd.oci.empty.v1+json", "{}");
    let mut layer = image.root.clone();
    layer.media_type = "application/json".to_owned();
    let artifact = serde_json::json!({
        "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "artifactType": "application/x.kept",
        "config": empty, "layers": [layer],
    });
    let artifact = from.add_blob(media_type::OCI_MANIFEST, artifact.to_string());
    from.add_manifest(
        "shop/app",
        artifact.digest.as_str(),
        media_type::OCI_MANIFEST,
        from.blob(&artifact.digest).unwrap(),
    );
    for (tag, entries) in [("a", [&artifact, &image.root]), ("b", [&image.root, &artifact])] {
        let index = serde_json::json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": entries});
        from.add_manifest("shop/app", tag, media_type::OCI_INDEX, index.to_string());
        let name = "reg.example.com/mirror:1".parse().unwrap();
        let sink = mk_sink(&to, tag);
        copy_image(&mk_source(&from), tag, &sink, Some(&name), &mk_options(), &NoProgress)
            .await
            .unwrap();
        assert!(to.manifest(tag, image.root.digest.as_str()).is_some(), "{tag}");
        assert!(to.blob(&image.root.digest).is_some(), "{tag}");
        let uploads = to.requests();
        let wanted = format!("{}", image.root.digest);
        assert!(
            uploads
                .iter()
                .any(|request| request.path.contains(&format!("/v2/{tag}/blobs")) && request.path.contains(&wanted)),
            "{tag}: {uploads:?}"
        );
    }
}

#[tokio::test]
async fn one_image_that_fails_keeps_no_other_from_going_on() {
    let (from, to) = (FakeRegistry::start(), FakeRegistry::start());
    let images = mk_images();
    from.add_image("shop/app", "1", &images[0]);
    let (source, sink) = (mk_source(&from), mk_sink(&to, "mirror"));
    let copy = |selector| ImageCopy {
        source: &source,
        selector,
        sink: &sink,
        name: None,
        expected: None,
    };
    let progress = common::ProgressLog::default();
    let reports = copy_images(&[copy("missing"), copy("1")], &mk_options(), &progress).await;
    assert!(reports[0].is_err() && reports[1].is_ok());
    let told: Vec<_> = progress
        .events()
        .into_iter()
        .filter(|event| {
            matches!(
                event,
                ProgressEvent::ImageFinished { .. } | ProgressEvent::ImageFailed { .. }
            )
        })
        .collect();
    assert_eq!(told.len(), 2, "{told:?}");
}
