//! Decisions of a copy that a real registry shows only now and then.

mod common;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use common::scripted::{MemorySource, ScriptedSink, WRONG_BYTES, address, copy, layer_of, mk_layer_image};
use common::{ProgressLog, mk_options};
use landfall_core::reference::Repository;
use landfall_core::status::ProgressEvent;
use landfall_oci::copy::copy_image;
use landfall_testkit::image_builder::ImageFixture;

fn mk_image() -> ImageFixture {
    mk_layer_image(20_000)
}

#[tokio::test]
async fn content_that_the_sink_cannot_hold_is_refused_before_a_byte_moves() {
    let source = MemorySource::new(&mk_image());
    let mut sink = ScriptedSink {
        refuses_content: true,
        ..ScriptedSink::default()
    };
    let error = copy(&source, &sink, &mk_options()).await.unwrap_err();
    assert_eq!(error.attempt, "the sink holds no such content");
    assert_eq!(source.taken(), 0);

    // The sink is not asked about an image that it has.
    sink.refuses_content = false;
    copy(&source, &sink, &mk_options()).await.unwrap();
    sink.refuses_content = true;
    assert!(copy(&source, &sink, &mk_options()).await.unwrap().unchanged);
}

#[tokio::test]
async fn the_blobs_of_an_image_are_planned_unless_the_sink_has_it() {
    let image = mk_image();
    let (source, sink) = (MemorySource::new(&image), ScriptedSink::default());
    let mut options = mk_options();
    // The graph of an unchanged image is walked for its referrers.
    options.referrers = true;
    let planned = async || {
        let progress = ProgressLog::default();
        copy_image(&source, "1", &sink, None, &options, &progress)
            .await
            .unwrap();
        let planned = progress.events().into_iter().filter_map(|event| match event {
            ProgressEvent::BlobPlanned { digest, size } => Some((digest, size)),
            _ => None,
        });
        planned.collect::<BTreeMap<_, _>>()
    };
    let blobs = image
        .described_blobs()
        .map(|(blob, _)| (blob.digest.to_string(), blob.size));
    assert_eq!(planned().await, blobs.collect());
    assert_eq!(planned().await, BTreeMap::new());
}

#[tokio::test]
async fn a_blob_whose_mount_is_refused_is_uploaded() {
    let image = mk_image();
    let mut source = MemorySource::new(&image);
    source.address = address("reg.example.com/from");
    let sink = ScriptedSink {
        address: address("reg.example.com/to"),
        refuses_mounts: true,
        ..ScriptedSink::default()
    };
    let report = copy(&source, &sink, &mk_options()).await.unwrap();
    assert_eq!((report.blobs_moved, report.blobs_mounted), (2, 0));
    sink.assert_complete(&image);
    let from: Option<Repository> = Some("from".parse().unwrap());
    let mut mounts = sink.mounts.lock().unwrap().clone();
    mounts.sort();
    assert_eq!(
        mounts,
        [None, None, from.clone(), from],
        "each blob: once with, once without"
    );
}

#[tokio::test]
async fn a_sink_that_takes_no_blob_is_asked_once_more_after_a_mount_and_then_believed() {
    let mut source = MemorySource::new(&mk_image());
    source.address = address("reg.example.com/from");
    let sink = ScriptedSink {
        address: address("reg.example.com/to"),
        refuses_blobs: true,
        ..ScriptedSink::default()
    };
    let error = copy(&source, &sink, &mk_options()).await.unwrap_err();
    assert_eq!(error.attempt, "the sink takes no blobs");
    assert_eq!(sink.mounts.lock().unwrap().len(), 4, "twice for each of two blobs");
}

#[tokio::test]
async fn repositories_of_one_name_in_two_registries_get_the_blobs_both() {
    let image = mk_image();
    let options = mk_options();
    for registry in ["a.example.com", "b.example.com"] {
        let sink = ScriptedSink {
            address: address(&format!("{registry}/app")),
            ..ScriptedSink::default()
        };
        let report = copy(&MemorySource::new(&image), &sink, &options).await.unwrap();
        assert_eq!(report.blobs_moved, 2, "{registry}");
        sink.assert_complete(&image);
    }
}

#[tokio::test]
async fn an_upload_that_gets_further_each_time_may_break_any_number_of_times() {
    let image = mk_image();
    let source = MemorySource::new(&image);
    let sink = ScriptedSink {
        breaks_after: Mutex::new(vec![1; 12]),
        ..ScriptedSink::default()
    };
    assert!(mk_options().retry.attempts < 12);
    copy(&source, &sink, &mk_options()).await.unwrap();
    sink.assert_complete(&image);

    let sink = ScriptedSink {
        breaks_after: Mutex::new(vec![0; 12]),
        ..ScriptedSink::default()
    };
    let (mut options, progress) = (mk_options(), ProgressLog::default());
    options.retry.first_delay = Duration::from_millis(20);
    options.retry.longest_delay = options.retry.first_delay;
    let copied = copy_image(&source, "1", &sink, None, &options, &progress).await;
    assert_eq!(copied.unwrap_err().attempt, "the link broke");
    let retries = progress.events().into_iter().filter_map(|event| match event {
        ProgressEvent::Retrying { attempt, delay_ms, .. } => Some((attempt, (10..=20).contains(&delay_ms))),
        _ => None,
    });
    assert_eq!(retries.collect::<Vec<_>>(), [2, 3, 4, 5].map(|attempt| (attempt, true)));
}

#[tokio::test]
async fn an_upload_that_broke_is_hashed_from_its_first_byte() {
    let image = mk_image();
    let mut source = MemorySource::new(&image);
    source.address = address("from.example.com/app");
    *source.wrong_reads.lock().unwrap() = 1;
    let sink = ScriptedSink {
        address: address("to.example.com/app"),
        breaks_after: Mutex::new(vec![10]),
        ..ScriptedSink::default()
    };
    copy(&source, &sink, &mk_options()).await.unwrap();
    sink.assert_complete(&image);
    assert_eq!(
        *sink.wrong_ends.lock().unwrap(),
        0,
        "the end of wrong bytes is held back"
    );
}

#[tokio::test]
async fn a_sink_that_is_no_registry_verifies_the_bytes_alone() {
    let source = MemorySource::new(&mk_image());
    *source.wrong_reads.lock().unwrap() = u32::MAX;
    let error = copy(&source, &ScriptedSink::default(), &mk_options())
        .await
        .unwrap_err();
    assert_eq!(error.attempt, WRONG_BYTES);
}

/// A source on this machine is read from the start once more, so that its wrong bytes are found before the last of them
/// are sent.
#[tokio::test]
async fn the_beginning_that_an_earlier_process_sent_is_hashed_from_a_local_source() {
    let image = mk_image();
    let layer = layer_of(&image);
    let total: usize = image.blobs.values().map(Bytes::len).sum();
    // The sent bytes end within a chunk, and with one.
    for (sent, read_for_hash) in [(2_500, 3_000), (3_000, 3_000)] {
        for wrong in [false, true] {
            let source = MemorySource::new(&image);
            *source.wrong_reads.lock().unwrap() = if wrong { u32::MAX } else { 0 };
            let sink = ScriptedSink {
                address: address("to.example.com/app"),
                ..ScriptedSink::default()
            };
            sink.keep_partial(&layer.digest, image.blobs[&layer.digest].slice(..sent));
            let error = copy(&source, &sink, &mk_options()).await.err();
            let attempt = error.map(|error| error.attempt).unwrap_or_default();
            assert_eq!(
                attempt.starts_with("the source's bytes of blob"),
                wrong,
                "{sent}: {attempt}"
            );
            assert_eq!(*sink.wrong_ends.lock().unwrap(), 0, "{sent}");
            if !wrong {
                assert_eq!(source.taken(), total - sent + read_for_hash, "{sent}");
                sink.assert_complete(&image);
            }
        }
    }
}
