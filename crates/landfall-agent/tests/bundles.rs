//! Hosts without a network: everything comes from bundles.

#![expect(clippy::disallowed_methods, reason = "test set-up")]

mod common;

use common::agent::{Agent, wait_for, wait_for_running};
use common::bundles::{Offline, all_images, large_image, numbered, write_bundle};
use common::core_archive;
use landfall_agent::AgentOutcome;
use landfall_core::bundle::adoption::BundlePhase;
use landfall_core::reference::Digest;
use landfall_core::report::Inventory;
use landfall_core::status::{BundleStatus, EventReason, Phase};
use landfall_oci::bundle::BundleOptions;
use landfall_oci::store::ContentStore;
use landfall_testkit::image_builder::{FixtureBuilder, multi_platform, small_image};

#[tokio::test(flavor = "multi_thread")]
async fn a_host_without_a_network_comes_up_from_a_bundle() {
    let offline = Offline::new(&[]);
    write_bundle(&offline.content().join("site.tar.zst"), &all_images(), numbered(1)).await;
    assert_eq!(offline.site.run().await, AgentOutcome::Running);
    let status = offline.site.status();
    for (name, image) in &status.images {
        assert!(image.stored && image.error.is_none(), "{name}: {image:?}");
    }
    assert!(status.images["docker.io/library/nginx:1.27"].in_primary);
    let bundle = offline.bundle("site.tar.zst");
    assert_eq!(
        (bundle.phase, bundle.images, bundle.adopted),
        (BundlePhase::Receipt, 4, 4),
        "{bundle:?}"
    );
    assert_eq!(offline.site.fetched(), Vec::<String>::new());
    // The core images are in the provider image of the bundle.
    let ledger = std::fs::read_to_string(offline.site.state_dir().join("ledger.json")).unwrap();
    assert!(
        ledger.contains("registry.k8s.io/pause:3.9"),
        "{} bytes of core images",
        core_archive().len()
    );
    let receipt = std::fs::read(bundle.receipt.unwrap()).unwrap();
    let inventory = Inventory::parse(&receipt).unwrap();
    for (digest, _) in small_image("extra").all_content() {
        assert!(inventory.blobs.contains(digest));
    }
    let reasons: Vec<_> = offline.site.events().iter().map(|event| event.reason).collect();
    let wanted = [
        EventReason::BundleFound,
        EventReason::BundleServed,
        EventReason::BundleAdopted,
        EventReason::BundleReceipt,
    ];
    let found: Vec<_> = reasons.iter().filter(|reason| wanted.contains(reason)).collect();
    assert_eq!(found, wanted.iter().collect::<Vec<_>>());
    // A second run finds everything in place.
    let before = offline.site.events().len();
    assert_eq!(offline.site.run().await, AgentOutcome::Running);
    let later = offline.site.events().split_off(before);
    assert!(
        later.iter().all(|event| event.reason != EventReason::ImageStored),
        "{later:#?}"
    );
    assert_eq!(offline.bundle("site.tar.zst").phase, BundlePhase::Receipt);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_without_other_platforms_is_adopted_under_its_digest() {
    let offline = Offline::new(&[]);
    let other = FixtureBuilder::new()
        .platform("linux", "s390x")
        .plain_layer(&[("a", b"other")])
        .build();
    let whole = multi_platform(&[small_image("nginx"), other.clone()]);
    let mut part = whole.clone();
    part.manifests
        .retain(|(descriptor, _)| descriptor.digest != other.root.digest);
    part.blobs.retain(|digest, _| !other.blobs.contains_key(digest));
    let mut images = all_images();
    images[2].1 = part;
    write_bundle(
        &offline.content().join("site.tar.zst"),
        &images,
        BundleOptions::default(),
    )
    .await;
    assert_eq!(offline.site.run().await, AgentOutcome::Running);
    let status = offline.site.status();
    let image = &status.images["docker.io/library/nginx:1.27"];
    assert!(image.stored && image.in_primary, "{image:?}");
    let store = offline.site.state_dir().join("store");
    let is_stored = |digest: &Digest| store.join("blobs/sha256").join(digest.hex()).exists();
    assert!(is_stored(&whole.root.digest) && !is_stored(&other.root.digest));
    assert_eq!(offline.bundle("site.tar.zst").phase, BundlePhase::Receipt);
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_bundles_name_their_reason_and_nothing_is_taken_from_them() {
    let offline = Offline::new(&["  bundles:\n    policy: {unsignedContent: refuse}"]);
    write_bundle(&offline.content().join("unsigned.tar.zst"), &all_images(), numbered(1)).await;
    assert!(matches!(offline.site.run().await, AgentOutcome::Failed { .. }));
    let bundle = offline.bundle("unsigned.tar.zst");
    assert_eq!((bundle.phase, bundle.adopted), (BundlePhase::Refused, 0));
    assert!(bundle.problem.unwrap().contains("is not signed"));
    assert!(bundle.hint.is_some());
    assert!(offline.site.status().images.values().all(|image| !image.stored));

    // The user takes unsigned content after all.
    offline.write_user_data(&[]);
    assert_eq!(offline.site.run().await, AgentOutcome::Running);
    assert_eq!(offline.bundle("unsigned.tar.zst").phase, BundlePhase::Receipt);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_bundle_of_a_series_is_refused_unless_it_is_allowed() {
    let offline = Offline::new(&[]);
    let new = offline.content().join("new.tar.zst");
    write_bundle(&new, &all_images(), numbered(7)).await;
    assert_eq!(offline.site.run().await, AgentOutcome::Running);
    std::fs::remove_file(&new).unwrap();
    let old = [("example.io/extra:0", small_image("old"))];
    write_bundle(&offline.content().join("old.tar.zst"), &old, numbered(6)).await;
    assert_eq!(offline.site.run().await, AgentOutcome::Running, "what is here stays");
    let bundle = offline.bundle("old.tar.zst");
    assert_eq!(bundle.phase, BundlePhase::Refused);
    assert!(bundle.problem.unwrap().contains("has seen number 7"));
    offline.write_user_data(&["  bundles:\n    policy: {allowOlder: true}"]);
    assert_eq!(offline.site.run().await, AgentOutcome::Running);
    assert_eq!(offline.bundle("old.tar.zst").phase, BundlePhase::Receipt);
}

#[tokio::test(flavor = "multi_thread")]
async fn needs_that_the_site_lacks_are_found_before_the_first_write() {
    let offline = Offline::new(&[]);
    let image = large_image();
    let layer = image
        .blobs
        .iter()
        .max_by_key(|(_, bytes)| bytes.len())
        .unwrap()
        .0
        .clone();
    let delta = BundleOptions {
        at_site: [layer.clone()].into(),
        ..BundleOptions::default()
    };
    let path = offline.content().join("delta.tar.zst");
    write_bundle(&path, &[("example.io/extra:1", image.clone())], delta).await;
    drop(offline.site.run().await);
    let bundle = offline.bundle("delta.tar.zst");
    assert_eq!((bundle.phase, bundle.adopted), (BundlePhase::Refused, 0));
    assert!(bundle.problem.unwrap().contains("`example.io/extra:1`"));
    assert!(bundle.hint.unwrap().starts_with("take `needs.json` back"));
    let needs: serde_json::Value =
        serde_json::from_slice(&std::fs::read(format!("{path}.needs.json")).unwrap()).unwrap();
    assert_eq!(needs["needs"][0]["digest"], layer.as_str());
    // The base arrives with another bundle: the delta is taken then.
    let mut images = all_images();
    images.truncate(3);
    images.push(("example.io/base:1", image));
    write_bundle(
        &offline.content().join("base.tar.zst"),
        &images,
        BundleOptions::default(),
    )
    .await;
    assert_eq!(offline.site.run().await, AgentOutcome::Running);
    assert_eq!(offline.site.run().await, AgentOutcome::Running);
    assert_eq!(offline.bundle("delta.tar.zst").phase, BundlePhase::Receipt);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_that_arrives_is_adopted_at_once_and_a_cut_one_waits() {
    let offline = Offline::new(&[]);
    let agent = Agent::start(&offline.site).await;
    wait_for(&offline.site, "degraded", |status| status.phase == Phase::Degraded).await;
    let whole = offline.site.path("whole.tar.zst");
    write_bundle(&whole, &all_images(), BundleOptions::default()).await;
    let bytes = std::fs::read(&whole).unwrap();
    let arriving = offline.content().join("arriving.tar.zst");
    std::fs::write(&arriving, &bytes[..bytes.len() - 1]).unwrap();
    let incomplete = |bundle: &BundleStatus| bundle.phase == BundlePhase::Incomplete;
    wait_for(&offline.site, "incomplete", |status| {
        status.bundles.iter().any(incomplete)
    })
    .await;
    std::fs::write(&arriving, &bytes).unwrap();
    wait_for_running(&offline.site).await;
    let done = |bundle: &BundleStatus| bundle.phase == BundlePhase::Receipt;
    wait_for(&offline.site, "the receipt", |status| status.bundles.iter().any(done)).await;
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stick_is_read_and_can_be_pulled_when_all_of_it_is_here() {
    let offline = Offline::new(&[]);
    let stick = offline.site.path("stick/bundle-content");
    std::fs::create_dir_all(&stick).unwrap();
    write_bundle(&stick.join("site.tar.zst"), &all_images(), BundleOptions::default()).await;
    let labels = offline.site.path("root/dev/disk/by-label");
    std::fs::create_dir_all(&labels).unwrap();
    std::os::unix::fs::symlink(offline.site.path("stick"), labels.join("COS_CONTENT")).unwrap();
    assert_eq!(offline.site.run().await, AgentOutcome::Running);
    let receipts: Vec<_> = offline
        .site
        .events()
        .into_iter()
        .filter(|event| event.reason == EventReason::BundleReceipt)
        .collect();
    assert_eq!(receipts.len(), 1, "{receipts:?}");
    let mount = offline.site.state_dir().join("sticks/COS_CONTENT");
    assert!(std::fs::symlink_metadata(&mount).is_err(), "the stick is unmounted");
}

/// One file under two names is one bundle, and so is a link to it. Of two files with one image name, the one with the
/// higher number wins.
#[tokio::test(flavor = "multi_thread")]
async fn two_files_with_one_content_are_one_bundle_and_of_two_with_one_name_the_newer_wins() {
    let offline = Offline::new(&[]);
    let content = offline.content();
    let mut images = all_images();
    write_bundle(&content.join("a-new.tar.zst"), &images, numbered(2)).await;
    std::fs::copy(content.join("a-new.tar.zst"), content.join("b-copy.tar.zst")).unwrap();
    std::os::unix::fs::symlink("a-new.tar.zst", content.join("c-link.tar.zst")).unwrap();
    std::os::unix::fs::symlink("nowhere.tar.zst", content.join("d-dangling.tar.zst")).unwrap();
    let newer = images[2].1.clone();
    images[2].1 = small_image("an older nginx");
    images.push(("example.io/old:1", small_image("old")));
    write_bundle(&content.join("e-old.tar.zst"), &images, BundleOptions::default()).await;
    assert_eq!(offline.site.run().await, AgentOutcome::Running);
    let bundles = offline.site.status().bundles;
    let names: Vec<_> = bundles
        .iter()
        .map(|bundle| bundle.path.rsplit('/').next().unwrap())
        .collect();
    assert_eq!(names, ["a-new.tar.zst", "e-old.tar.zst"]);
    assert!(
        bundles.iter().all(|bundle| bundle.phase == BundlePhase::Receipt),
        "{bundles:#?}"
    );
    let store = ContentStore::open(&offline.site.state_dir().join("store")).unwrap();
    let stored = store.image(&"docker.io/library/nginx:1.27".parse().unwrap()).unwrap();
    assert_eq!(stored.digest, newer.root.digest);
    assert!(
        store.image(&"example.io/old:1".parse().unwrap()).is_some(),
        "the older one has images of its own"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_bundle_that_vanishes_the_status_lists_the_rest() {
    let offline = Offline::new(&[]);
    let path = offline.content().join("site.tar.zst");
    let mut images = all_images();
    images[3].1 = large_image();
    write_bundle(&path, &images, BundleOptions::default()).await;
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    assert_eq!(
        offline.site.run().await,
        AgentOutcome::Running,
        "the images of the profile are here"
    );
    let bundle = offline.bundle("site.tar.zst");
    assert_eq!((bundle.phase, bundle.adopted), (BundlePhase::Adopting, 3), "{bundle:?}");
    assert_eq!(bundle.missing, ["example.io/extra:1"]);
    assert!(
        bundle
            .problem
            .unwrap()
            .contains("`example.io/extra:1` cannot be adopted")
    );

    std::fs::remove_file(&path).unwrap();
    assert_eq!(offline.site.run().await, AgentOutcome::Running);
    let bundle = offline.bundle("site.tar.zst");
    assert_eq!(
        (bundle.phase, bundle.missing),
        (BundlePhase::Vanished, vec!["example.io/extra:1".to_owned()])
    );

    bytes[middle] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    assert_eq!(offline.site.run().await, AgentOutcome::Running);
    assert_eq!(offline.bundle("site.tar.zst").phase, BundlePhase::Receipt);
}
