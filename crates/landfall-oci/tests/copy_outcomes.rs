//! Reports and errors of copies: the totals of a dry run, the limits of images, and the side that an error names.

#![expect(clippy::unwrap_used, reason = "test set-up")]

mod common;

use std::sync::Mutex;

use bytes::Bytes;
use common::scripted::{CHUNK, MemorySource, ScriptedSink, address, copy, layer_of, mk_layer_image};
use common::{ProgressLog, mk_bytes, mk_options};
use landfall_core::failure::{FailureKind, find_hint};
use landfall_core::oci_types::Descriptor;
use landfall_core::reference::Digest;
use landfall_core::status::{NoProgress, ProgressEvent};
use landfall_oci::copy::{
    CopyOptions, ImageCopy, IndexEntriesMissing, OtherDigest, PartialIndexRefused, copy_image, copy_images,
    dry_run_images,
};
use landfall_oci::hints::hint_of;
use landfall_oci::image::{RawManifest, TransferError};
use landfall_testkit::image_builder::{FixtureBuilder, ImageFixture, digest_of, multi_platform, small_image};
use serde_json::json;

fn mk_platform(architecture: &str) -> ImageFixture {
    FixtureBuilder::new()
        .platform("linux", architecture)
        .plain_layer(&[("program", architecture.as_bytes())])
        .build()
}

/// Returns an image that is wrapped into this number of indexes.
fn nested(depth: usize) -> ImageFixture {
    (0..depth).fold(small_image("app"), |image, _| multi_platform(&[image]))
}

fn for_platforms(platforms: &[&str]) -> CopyOptions {
    CopyOptions {
        platforms: platforms.iter().map(|text| text.parse().unwrap()).collect(),
        ..mk_options()
    }
}

fn cause<T: std::error::Error + 'static>(error: &TransferError) -> Option<&T> {
    error.source.as_deref().and_then(|source| source.downcast_ref())
}

fn job<'a>(source: &'a MemorySource, sink: &'a ScriptedSink) -> ImageCopy<'a> {
    ImageCopy {
        source,
        selector: "1",
        sink,
        name: None,
        expected: None,
    }
}

#[tokio::test]
async fn a_dry_run_counts_a_shared_blob_once_and_only_the_bytes_that_are_missing() {
    let base = mk_bytes(20_000);
    let images = ["a", "b"].map(|name| {
        FixtureBuilder::new()
            .plain_layer(&[("base", &base)])
            .plain_layer(&[("own", name.as_bytes())])
            .build()
    });
    let sources = images.each_ref().map(MemorySource::new);
    let sink = ScriptedSink::default();
    let layer = layer_of(&images[0]);
    sink.keep_partial(&layer.digest, images[0].blobs[&layer.digest].slice(..1_000));
    let jobs = sources.each_ref().map(|source| job(source, &sink));
    let [first, second] = dry_run_images(&jobs, &mk_options(), &NoProgress)
        .await
        .try_into()
        .unwrap();
    let (first, second) = (first.unwrap(), second.unwrap());
    let size = |image: &ImageFixture| image.blobs.values().map(|bytes| bytes.len() as u64).sum::<u64>();
    assert_eq!((first.blobs_moved, first.blobs_mounted), (3, 0));
    assert_eq!(first.bytes_moved, size(&images[0]) - 1_000);
    assert_eq!((second.blobs_moved, second.blobs_mounted), (2, 1));
    assert_eq!(second.bytes_moved, size(&images[1]) - layer.size);
    assert_eq!(second.bytes_mounted, layer.size);
    assert_eq!(sources[0].taken(), 0);
}

#[tokio::test]
async fn within_one_registry_a_dry_run_moves_nothing() {
    let image = small_image("app");
    let mut source = MemorySource::new(&image);
    source.address = address("reg.example.com/from");
    for (sink, mounted) in [("reg.example.com/to", 2), ("other.example.com/to", 0)] {
        let sink = ScriptedSink {
            address: address(sink),
            ..ScriptedSink::default()
        };
        let reports = dry_run_images(&[job(&source, &sink)], &mk_options(), &NoProgress).await;
        let report = reports[0].as_ref().unwrap();
        assert_eq!((report.blobs_mounted, report.blobs_moved), (mounted, 2 - mounted));
    }
}

#[tokio::test]
async fn an_image_has_a_thousand_manifests_at_most() {
    let entries: Vec<_> = (0..1_001).map(|number| small_image(&number.to_string())).collect();
    let wrapped = multi_platform(&[multi_platform(&entries[..600]), multi_platform(&entries[600..])]);
    for (image, is_taken) in [
        (multi_platform(&entries[..1_000]), true),
        (multi_platform(&entries), false),
        (wrapped, false),
    ] {
        let (source, sink) = (MemorySource::new(&image), ScriptedSink::default());
        let reports = dry_run_images(&[job(&source, &sink)], &mk_options(), &NoProgress).await;
        match &reports[0] {
            Ok(report) => assert!(is_taken, "{report:?}"),
            Err(failure) => {
                assert!(!is_taken, "{}", failure.error.chain());
                assert!(failure.error.attempt.contains("more than 1000 manifests"));
            }
        }
    }
}

/// A sink may have an image that another client wrote.
#[tokio::test]
async fn a_present_image_is_looked_through_down_to_the_limit_of_nesting() {
    for (depth, is_present) in [(9, true), (10, false)] {
        let image = nested(depth);
        let (source, sink) = (MemorySource::new(&image), ScriptedSink::default());
        sink.memory.lock().manifests.push(RawManifest {
            bytes: image.root_bytes(),
            media_type: image.root.media_type.clone(),
            digest: image.root.digest.clone(),
        });
        let copied = copy(&source, &sink, &mk_options()).await;
        assert_eq!(
            copied.map(|report| report.unchanged).map_err(|error| error.kind),
            if is_present {
                Ok(true)
            } else {
                Err(FailureKind::Protocol)
            },
            "{depth}"
        );
    }
}

#[tokio::test]
async fn a_thousand_referrers_are_copied_and_not_one_more() {
    for (number, is_taken) in [(1_000, true), (1_001, false)] {
        let mut source = MemorySource::new(&small_image("app"));
        source.referrers = number;
        let mut options = mk_options();
        options.referrers = true;
        let copied = copy(&source, &ScriptedSink::default(), &options).await;
        match copied {
            Ok(report) => assert_eq!((report.referrers, is_taken), (1_000, true)),
            Err(error) => {
                assert!(!is_taken, "{}", error.chain());
                assert!(error.attempt.ends_with("more than 1000 referrers belong to it"));
            }
        }
    }
}

#[tokio::test]
async fn a_refusal_is_explained_by_what_was_left_out_and_by_nothing_else() {
    let image = multi_platform(&["amd64", "arm64"].map(mk_platform));
    for (platforms, kind, is_explained) in [
        (&["linux/arm64"][..], FailureKind::Protocol, true),
        (&["linux/arm64"], FailureKind::Forbidden, false),
        (&["linux/arm64", "linux/amd64"], FailureKind::Protocol, false),
        (&[], FailureKind::Protocol, false),
    ] {
        let sink = ScriptedSink {
            refuses_manifests: Some(kind),
            ..ScriptedSink::default()
        };
        let error = copy(&MemorySource::new(&image), &sink, &for_platforms(platforms)).await;
        let error = error.unwrap_err();
        assert_eq!(
            (error.attempt.as_str(), error.kind),
            ("the sink refuses the manifest", kind)
        );
        let is_partial = cause::<PartialIndexRefused>(&error).is_some();
        assert_eq!(is_partial, is_explained, "{platforms:?} {kind:?}");
        assert_eq!(error.source.is_some(), is_explained, "{platforms:?} {kind:?}");
    }
}

#[tokio::test]
async fn the_entries_that_the_source_has_lost_are_named_with_those_that_it_has() {
    let [amd64, arm64, s390x] = ["amd64", "arm64", "s390x"].map(mk_platform);
    let mut source = MemorySource::new(&multi_platform(&[amd64, arm64.clone(), s390x.clone()]));
    source.failing.insert(arm64.root.digest.clone(), FailureKind::NotFound);
    source.failing.insert(s390x.root.digest, FailureKind::Forbidden);
    let error = copy(&source, &ScriptedSink::default(), &mk_options())
        .await
        .unwrap_err();
    assert_eq!(error.kind, FailureKind::NotFound);
    let missing: &IndexEntriesMissing = cause(&error).unwrap();
    assert_eq!(missing.missing, ["linux/arm64"]);
    assert_eq!(missing.available, ["linux/amd64".parse().unwrap()]);
    assert_eq!(
        find_hint(&error, hint_of).as_deref(),
        Some("push the missing platforms to the source, or copy the others with `--platform linux/amd64`")
    );

    // An entry that the source does not show is no missing one.
    source.failing.insert(arm64.root.digest, FailureKind::Forbidden);
    let error = copy(&source, &ScriptedSink::default(), &mk_options())
        .await
        .unwrap_err();
    assert_eq!(error.kind, FailureKind::Forbidden);
    assert!(error.source.is_none());
}

#[tokio::test]
async fn a_digest_in_the_destination_is_that_of_the_image() {
    let arm64 = mk_platform("arm64");
    let image = multi_platform(&[mk_platform("amd64"), arm64.clone()]);
    let other = digest_of(b"another image");
    let source = MemorySource::new(&image);
    for (expected, platforms, found) in [
        (&image.root.digest, &[][..], None),
        (&image.root.digest, &["linux/arm64"], None),
        (&arm64.root.digest, &[], Some((true, false))),
        (&arm64.root.digest, &["linux/arm64"], Some((true, true))),
        (&other, &[], Some((false, false))),
    ] {
        let sink = ScriptedSink::default();
        let job = ImageCopy {
            expected: Some(expected),
            ..job(&source, &sink)
        };
        let copied = copy_images(&[job], &for_platforms(platforms), &NoProgress).await;
        let error = copied.into_iter().next().unwrap().err().map(|failure| failure.error);
        let refused: Option<&OtherDigest> = error.as_ref().and_then(cause);
        assert_eq!(
            refused.map(|refused| (refused.is_entry, refused.is_narrowed)),
            found,
            "{expected} {platforms:?}"
        );
        let Some(refused) = refused else { continue };
        assert_eq!((&refused.expected, &refused.found), (expected, &image.root.digest));
        let hint = match refused.is_entry {
            true => format!("it is one platform of the source's image: name it in the source too, as `@{expected}`"),
            false => "name the source by this digest, or leave the digest out of the destination".to_owned(),
        };
        assert_eq!(find_hint(refused, hint_of).as_deref(), Some(hint.as_str()));
        assert!(sink.memory.lock().manifests.is_empty());
    }
}

/// Adds a layer with these bytes to the image's manifest.
fn with_layer(image: &ImageFixture, media_type: &str, bytes: &'static [u8], urls: &[&str]) -> ImageFixture {
    let mut image = image.clone();
    let (former, manifest) = image.manifests.pop().unwrap();
    let mut document: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    let digest: Digest = digest_of(bytes);
    document["layers"].as_array_mut().unwrap().push(json!({
        "mediaType": media_type, "digest": digest, "size": bytes.len(), "urls": urls,
    }));
    let manifest = Bytes::from(document.to_string());
    image.root = Descriptor::new(&former.media_type, digest_of(&manifest), manifest.len() as u64);
    image.manifests.push((image.root.clone(), manifest));
    image.blobs.insert(digest, Bytes::from_static(bytes));
    image
}

#[tokio::test]
async fn only_a_foreign_layer_with_an_address_is_left_out() {
    const FOREIGN: &str = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
    const PLAIN: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
    let url = &["https://vendor.example/layer"][..];
    for (media_type, urls, is_copied) in [
        (FOREIGN, url, false),
        (FOREIGN, &[], true),
        (PLAIN, url, true),
        (PLAIN, &[], true),
    ] {
        let image = with_layer(&small_image("app"), media_type, b"layer", urls);
        let (source, sink) = (MemorySource::new(&image), ScriptedSink::default());
        copy(&source, &sink, &mk_options()).await.unwrap();
        let has_layer = sink.memory.lock().blobs.contains_key(&digest_of(b"layer"));
        assert_eq!(has_layer, is_copied, "{media_type} {urls:?}");
    }
}

#[tokio::test]
async fn a_source_that_breaks_late_goes_on_at_once_and_is_given_up_when_it_gets_no_further() {
    let image = mk_layer_image(3_000_000);
    // More than the number of bytes after which failures are forgotten.
    let late = 1_300_000 / CHUNK;
    let mut breaks_after = vec![late];
    let source = MemorySource {
        breaks_after: Mutex::new(breaks_after.clone()),
        ..MemorySource::new(&image)
    };
    let (sink, progress) = (ScriptedSink::default(), ProgressLog::default());
    copy_image(&source, "1", &sink, None, &mk_options(), &progress)
        .await
        .unwrap();
    sink.assert_complete(&image);
    let waits = |event: &ProgressEvent| matches!(event, ProgressEvent::Retrying { .. });
    assert!(!progress.events().iter().any(waits), "{:?}", progress.events());

    breaks_after.splice(0..0, [0; 50]);
    let source = MemorySource {
        breaks_after: Mutex::new(breaks_after),
        ..MemorySource::new(&image)
    };
    let (sink, progress) = (ScriptedSink::default(), ProgressLog::default());
    let copied = copy_image(&source, "1", &sink, None, &mk_options(), &progress).await;
    assert_eq!(copied.unwrap_err().attempt, "the source broke");
    let waited = progress.events().iter().filter(|event| waits(event)).count();
    assert_eq!(
        waited, 4,
        "the source's attempts are not multiplied by those of the sink"
    );
}
