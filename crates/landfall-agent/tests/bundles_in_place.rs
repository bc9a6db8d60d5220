//! Pods on a host whose bundle is still being copied: they are sent to it, served out of it, and what they ask for is
//! copied next.

#![expect(clippy::disallowed_methods, clippy::unwrap_used, reason = "test set-up")]

mod common;

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use common::agent::{Agent, http_client, redirected_image, wait_for};
use common::bundles::{Offline, all_images, write_bundle};
use landfall_core::bundle::adoption::BundlePhase;
use landfall_core::status::{ProgressEvent, ProgressSink};
use landfall_oci::bundle::BundleOptions;
use landfall_oci::header_names::IN_PLACE;
use landfall_testkit::image_builder::{ImageFixture, oci_archive, small_image};

/// The time limit for the end of one image.
const PATIENCE: Duration = Duration::from_secs(20);

/// Stops the agent whenever an image is complete.
#[derive(Debug)]
struct Gate {
    complete: Sender<String>,
    go_on: Mutex<Receiver<()>>,
}

impl ProgressSink for Gate {
    fn progress(&self, event: ProgressEvent) {
        if let ProgressEvent::ImageFinished { image } = event {
            // The test is over once nobody listens.
            drop(self.complete.send(image));
            let _over = tokio::task::block_in_place(|| self.go_on.lock().unwrap().recv());
        }
    }
}

/// Stops the agent once, when a blob is complete.
#[derive(Debug)]
struct BlobGate {
    complete: Sender<()>,
    go_on: Mutex<Receiver<()>>,
}

impl ProgressSink for BlobGate {
    fn progress(&self, event: ProgressEvent) {
        if let ProgressEvent::BlobFinished { .. } = event
            && self.complete.send(()).is_ok()
        {
            let _over = tokio::task::block_in_place(|| self.go_on.lock().unwrap().recv());
        }
    }
}

/// The other side of a [`Gate`].
struct Guard {
    complete: Receiver<String>,
    go_on: Sender<()>,
}

impl Guard {
    fn next(&self) -> String {
        tokio::task::block_in_place(|| self.complete.recv_timeout(PATIENCE)).unwrap()
    }

    /// Lets the agent go on until this image is complete, and stops it there.
    fn wait_until(&self, image: &str) {
        while self.next() != image {
            self.go_on.send(()).unwrap();
        }
    }

    /// Lets the agent go on to the next image, and returns its name.
    fn step(&self) -> String {
        self.go_on.send(()).unwrap();
        self.next()
    }
}

/// Pulls an image from the server of a base URL. Returns the number of responses that came out of a bundle.
async fn pull(base: &str, namespace: &str, image: &ImageFixture, tag: &str) -> Option<usize> {
    let client = http_client(Vec::new());
    let mut in_place = 0;
    let digest = &image.root.digest;
    let mut paths = vec![format!("manifests/{tag}"), format!("manifests/{digest}")];
    paths.extend(image.blobs.keys().map(|digest| format!("blobs/{digest}")));
    for path in paths {
        let answer = client.get(format!("{base}/{path}{namespace}")).send().await.unwrap();
        if !answer.status().is_success() {
            return None;
        }
        in_place += usize::from(answer.headers().contains_key(IN_PLACE));
        let bytes = answer.bytes().await.unwrap();
        let content = image.all_content().find(|(digest, _)| path.ends_with(digest.as_str()));
        assert!(content.is_none_or(|(_, content)| *content == bytes), "{path}");
    }
    Some(in_place)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_plain_archive_of_another_tool_is_served_in_place_while_it_is_read() {
    let offline = Offline::new(&["  mirror: {enable: true}"]);
    let images = all_images();
    let named: Vec<_> = images.iter().map(|(name, image)| (*name, image)).collect();
    let archive = offline.content().join("exported.tar");
    std::fs::write(&archive, oci_archive(&named)).unwrap();
    let file = std::fs::File::options().write(true).open(&archive).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(3600))
        .unwrap();
    let (complete, seen) = channel();
    let (go_on, gone_on) = channel();
    let gate = BlobGate {
        complete,
        go_on: Mutex::new(gone_on),
    };
    let options = offline.site.options().await;
    let mirror = options.listeners.mirror.as_ref().unwrap().local_addr().unwrap();
    let agent = Agent::start_with_progress(options, Arc::new(gate));
    tokio::task::block_in_place(|| seen.recv_timeout(PATIENCE)).unwrap();
    // One blob is in the store, and no image has a name.
    let base = format!("http://{mirror}/v2/library/nginx");
    let found = pull(&base, "?ns=docker.io", &small_image("nginx"), "1.27").await;
    assert!(found.is_some_and(|in_place| in_place >= 3), "{found:?}");
    drop((seen, go_on));
    wait_for(&offline.site, "the receipt", |status| {
        status.bundles.iter().any(|bundle| bundle.phase == BundlePhase::Receipt)
    })
    .await;
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn pods_are_sent_to_a_bundle_that_is_still_being_copied_and_their_images_come_next() {
    let offline = Offline::new(&["  concurrency: 1", "  mirror: {enable: true}"]);
    let site = &offline.site;
    let names = ["one", "two", "three", "four"];
    site.write_profile(&names.map(|name| format!("{name}:1")).each_ref().map(String::as_str));
    let mut images = all_images();
    for name in names {
        images.push((format!("docker.io/library/{name}:1").leak(), small_image(name)));
        images.push((
            format!("example.io/extra-{name}:1").leak(),
            small_image(&format!("extra-{name}")),
        ));
    }
    let bundle = offline.content().join("site.tar.zst");
    write_bundle(&bundle, &images, BundleOptions::default()).await;

    let (complete, seen) = channel();
    let (go_on, gone_on) = channel();
    let guard = Guard { complete: seen, go_on };
    let gate = Gate {
        complete,
        go_on: Mutex::new(gone_on),
    };
    let options = site.options().await;
    let mirror = options.listeners.mirror.as_ref().unwrap().local_addr().unwrap();
    let agent = Agent::start_with_progress(options, Arc::new(gate));
    let primary = format!("127.0.0.1:{}", site.primary_port);

    // The images of the profile are being fetched. No pod waits for them.
    guard.wait_until("docker.io/library/one:1");
    let target = redirected_image(site, "four:1").await;
    let repository = target
        .strip_prefix(&format!("{primary}/"))
        .unwrap()
        .strip_suffix(":1")
        .unwrap();
    let base = format!("http://{primary}/v2/{repository}");
    assert_eq!(pull(&base, "", &small_image("four"), "1").await, Some(4), "{target}");
    let of_mirror = |name: &str| format!("http://{mirror}/v2/{name}");
    let three = pull(&of_mirror("library/three"), "?ns=docker.io", &small_image("three"), "1").await;
    assert_eq!(
        three,
        Some(3),
        "the primary registry has the tag, and the mirror the content"
    );
    assert_eq!(guard.step(), "docker.io/library/four:1", "a pod asked for it");
    assert_eq!(guard.step(), "docker.io/library/three:1", "a runtime asked for it");
    assert_eq!(guard.step(), "docker.io/library/two:1");

    // All images of the profile are here, and the rest is being adopted.
    guard.go_on.send(()).unwrap();
    guard.wait_until("example.io/extra-four:1");
    let target = redirected_image(site, "example.io/extra-two:1").await;
    let repository = target
        .strip_prefix(&format!("{primary}/"))
        .unwrap()
        .strip_suffix(":1")
        .unwrap();
    let base = format!("http://{primary}/v2/{repository}");
    let extra = small_image("extra-two");
    assert_eq!(pull(&base, "", &extra, "1").await, Some(4), "{target}");
    assert_eq!(
        guard.step(),
        "example.io/extra-two:1",
        "before `extra-one` and `extra-three`"
    );
    wait_for(site, "images are adopted one by one", |status| {
        let [bundle] = &status.bundles[..] else {
            panic!("one bundle")
        };
        bundle.phase == BundlePhase::Adopting && !bundle.missing.contains(&"example.io/extra-four:1".to_owned())
    })
    .await;

    // The bundle vanishes in the middle of it: no pod is sent to it from then on.
    std::fs::remove_file(&bundle).unwrap();
    let elsewhere = "127.0.0.1:1/example.io/extra-three:1";
    let back = async {
        while redirected_image(site, "example.io/extra-three:1").await != elsewhere {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, back).await.unwrap();
    let gone = pull(
        &of_mirror("extra-three"),
        "?ns=example.io",
        &small_image("extra-three"),
        "1",
    )
    .await;
    assert_eq!(gone, None);
    drop(guard);
    let status = wait_for(site, "the bundle is gone", |status| {
        status
            .bundles
            .iter()
            .any(|bundle| bundle.phase == BundlePhase::Vanished)
    })
    .await;
    assert!(
        !status.bundles[0].missing.contains(&"example.io/extra-two:1".to_owned()),
        "{status:#?}"
    );
    agent.stop().await;
}
