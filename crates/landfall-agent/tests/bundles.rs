//! Hosts without a network: everything comes from bundles.

#![expect(clippy::disallowed_methods, clippy::unwrap_used, reason = "test set-up")]

mod common;

use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::time::Duration;

use camino::Utf8Path;
use common::agent::{Agent, wait_for, wait_for_running};
use common::bundles::{Offline, all_images, large_image, numbered, write_bundle, write_signed};
use common::core_archive;
use landfall_agent::{AgentOptions, AgentOutcome, run_agent};
use landfall_core::bundle::adoption::BundlePhase;
use landfall_core::bundle::trust::render_key_document;
use landfall_core::reference::{Digest, ImageReference};
use landfall_core::report::Inventory;
use landfall_core::settings::Compat;
use landfall_core::status::{AgentStatus, BundleStatus, EventReason, NoProgress, Phase};
use landfall_net::tls::{TlsPolicy, client_config};
use landfall_oci::bundle::signature::{HostKeys, PublicKey, receipt_signature_name, verify_receipt};
use landfall_oci::bundle::{BundleFile, BundleOptions};
use landfall_oci::store::ContentStore;
use landfall_testkit::image_builder::{
    FixtureBuilder, ImageFixture, digest_of, multi_platform, oci_archive, small_image, zstd_frame,
};
use landfall_testkit::signing_key::SigningKey;
use tokio_util::sync::CancellationToken;

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
    let path = bundle.receipt.unwrap();
    let receipt = std::fs::read(&path).unwrap();
    let inventory = Inventory::parse(&receipt).unwrap();
    let key = std::fs::read_to_string(offline.site.state_dir().join("host-key.pub")).unwrap();
    let keys = HostKeys::new([PublicKey::parse(&key).unwrap()], []).unwrap();
    let list = std::fs::read(receipt_signature_name(&path)).unwrap();
    let signer = verify_receipt(&keys, &receipt, Some(&list)).unwrap();
    assert_eq!(Some(signer.to_string()), status.host_key.map(|key| key.id));
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
    // A receipt that somebody changed is written anew.
    std::fs::write(
        &path,
        String::from_utf8(receipt.clone()).unwrap().replace("till", "shop") + " ",
    )
    .unwrap();
    assert_eq!(offline.site.run().await, AgentOutcome::Running);
    let list = std::fs::read(receipt_signature_name(&path)).unwrap();
    verify_receipt(&keys, &std::fs::read(&path).unwrap(), Some(&list)).unwrap();
}

fn http() -> reqwest::Client {
    let tls = client_config(&TlsPolicy::default()).unwrap();
    let builder = reqwest::Client::builder().tls_backend_preconfigured(tls);
    builder.no_proxy().build().unwrap()
}

/// Uploads a file in ranges of 64 KiB, as a client without Landfall does.
async fn upload(api: &str, token: &str, name: &str, content: &[u8]) -> serde_json::Value {
    const RANGE: usize = 64 * 1024;
    let client = http();
    let ask = async |request: reqwest::RequestBuilder| -> serde_json::Value {
        let answer = request.bearer_auth(token).send().await.unwrap();
        let status = answer.status();
        let text = answer.text().await.unwrap();
        assert!(status.is_success(), "{status}: {text}");
        serde_json::from_str(&text).unwrap()
    };
    let asked = serde_json::json!({"name": name, "size": content.len(), "rangeSize": RANGE});
    let mut last = ask(client.post(format!("{api}/api/v1/uploads")).json(&asked)).await;
    let id = last["id"].as_str().unwrap().to_owned();
    for (number, range) in content.chunks(RANGE).enumerate() {
        let sha256 = digest_of(range);
        let url = format!("{api}/api/v1/uploads/{id}/ranges/{number}?sha256={}", sha256.hex());
        last = ask(client.put(url).body(range.to_vec())).await;
    }
    last
}

#[tokio::test(flavor = "multi_thread")]
async fn uploaded_pieces_are_adopted_and_a_followed_hint_gives_their_receipt_to_the_courier() {
    let offline = Offline::new(&[]);
    let whole = offline.site.path("whole.tar.zst");
    write_bundle(&whole, &all_images(), numbered(3)).await;
    let bytes = std::fs::read(&whole).unwrap();
    let agent = Agent::start(&offline.site).await;
    let api = wait_for(&offline.site, "the status API", |status| status.api.is_some()).await;
    let api = api.api.unwrap();
    let token = std::fs::read_to_string(offline.site.state_dir().join("upload-token")).unwrap();
    let id = BundleFile::open(&whole).unwrap().id().to_string();
    let client = http();
    let ask = async |path: String| client.get(format!("{api}{path}")).send().await.unwrap();
    let too_early: serde_json::Value = ask(format!("/api/v1/receipts/{id}")).await.json().await.unwrap();
    assert_eq!(
        too_early["hint"],
        "a receipt is written once all of a bundle is here: `/api/v1/receipts` lists those there are"
    );
    // The pieces come in any order, and the bundle is whole with the last one.
    let (first, second) = bytes.split_at(bytes.len() / 2);
    for (name, piece) in [("site.tar.zst_part01", second), ("site.tar.zst_part00", first)] {
        let done = upload(&api, token.trim(), name, piece).await;
        assert_eq!(done["state"], "complete", "{done}");
        assert!(std::fs::read(offline.content().join(name)).unwrap() == piece);
    }
    let done = |bundle: &BundleStatus| bundle.phase == BundlePhase::Receipt;
    let status = wait_for(&offline.site, "the receipt", |status| status.bundles.iter().any(done)).await;
    let bundle = status.bundles.into_iter().find(done).unwrap();
    let uploaded = offline.site.events().into_iter();
    let uploaded = uploaded.filter(|event| event.reason == EventReason::BundleUploaded);
    assert_eq!(uploaded.count(), 2);

    let get = async |path: String| ask(path).await.text().await.unwrap();
    assert_eq!(bundle.id.as_deref(), Some(id.as_str()));
    assert!(get("/api/v1/receipts".to_owned()).await.contains(&id));
    let receipt = get(format!("/api/v1/receipts/{id}")).await;
    let list = get(format!("/api/v1/receipts/{id}/signature")).await;
    let key = PublicKey::parse(&get("/api/v1/host-key".to_owned()).await).unwrap();
    let keys = HostKeys::new([key], []).unwrap();
    verify_receipt(&keys, receipt.as_bytes(), Some(list.as_bytes())).unwrap();
    assert_eq!(receipt.as_bytes(), std::fs::read(bundle.receipt.unwrap()).unwrap());
    let inventory = Inventory::parse(get("/api/v1/inventory".to_owned()).await.as_bytes()).unwrap();
    let short = Inventory::parse(get("/api/v1/inventory?short=true".to_owned()).await.as_bytes()).unwrap();
    for digest in Inventory::parse(receipt.as_bytes()).unwrap().blobs {
        assert!(inventory.blobs.contains(&digest) && short.has(&digest));
    }
    let missing = ask("/api/v1/receipts/..%2F..%2Fledger.json".to_owned()).await;
    assert_eq!(missing.status(), 404);
    agent.stop().await;
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
async fn an_older_bundle_of_a_series_is_refused_until_its_followed_hint_brings_a_newer_one_or_allows_it() {
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
    assert_eq!(
        bundle.hint.unwrap(),
        "bring the newest bundle of the series, or allow this one with `landfall.bundles.policy.allowOlder`"
    );
    write_bundle(&offline.content().join("newest.tar.zst"), &old, numbered(8)).await;
    assert_eq!(offline.site.run().await, AgentOutcome::Running);
    assert_eq!(offline.bundle("newest.tar.zst").phase, BundlePhase::Receipt);
    offline.write_user_data(&["  bundles:\n    policy: {allowOlder: true}"]);
    assert_eq!(offline.site.run().await, AgentOutcome::Running);
    assert_eq!(offline.bundle("old.tar.zst").phase, BundlePhase::Receipt);
}

#[tokio::test(flavor = "multi_thread")]
async fn needs_that_the_site_lacks_are_found_before_the_first_write_and_the_followed_hint_brings_them() {
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
async fn of_a_bundle_that_vanishes_the_status_lists_the_rest_until_its_followed_hint_brings_it_again() {
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
    assert_eq!(
        bundle.hint.unwrap(),
        "bring it again: what is here already is not copied twice"
    );

    bytes[middle] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    assert_eq!(offline.site.run().await, AgentOutcome::Running);
    assert_eq!(offline.bundle("site.tar.zst").phase, BundlePhase::Receipt);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_bytes_of_a_bundle_are_not_read_again_until_its_file_changes() {
    let offline = Offline::new(&[]);
    let path = offline.content().join("site.tar.zst");
    let mut images = all_images();
    images[3].1 = large_image();
    write_bundle(&path, &images, BundleOptions::default()).await;
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let agent = Agent::start(&offline.site).await;
    wait_for_running(&offline.site).await;
    let of_site = |status: &AgentStatus| -> Option<BundleStatus> {
        let mut bundles = status.bundles.iter();
        bundles.find(|bundle| bundle.path == path).cloned()
    };
    wait_for(&offline.site, "the problem", |status| {
        of_site(status).is_some_and(|bundle| bundle.problem.is_some())
    })
    .await;

    // The bytes are right, and nothing shows that they changed.
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    let modified = file.metadata().unwrap().modified().unwrap();
    file.write_all_at(&[bytes[middle] ^ 1], middle as u64).unwrap();
    file.set_modified(modified).unwrap();
    let other = [("example.io/other:1", small_image("other"))];
    write_bundle(
        &offline.content().join("other.tar.zst"),
        &other,
        BundleOptions::default(),
    )
    .await;
    let has_receipt = |bundle: &BundleStatus| bundle.phase == BundlePhase::Receipt;
    wait_for(&offline.site, "the receipt of the other one", |status| {
        status
            .bundles
            .iter()
            .any(|bundle| bundle.path.ends_with("other.tar.zst") && has_receipt(bundle))
    })
    .await;
    let still = of_site(&offline.site.status()).unwrap();
    assert_eq!((still.phase, still.adopted), (BundlePhase::Adopting, 3), "{still:?}");
    let problem = still.problem.unwrap();
    assert!(problem.contains("`example.io/extra:1` cannot be adopted"), "{problem}");

    // As a repair does.
    file.set_modified(modified + Duration::from_secs(1)).unwrap();
    wait_for(&offline.site, "the receipt", |status| {
        of_site(status).is_some_and(|bundle| has_receipt(&bundle))
    })
    .await;
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_document_brings_a_key_that_outlives_its_signer_and_a_followed_hint_replaces_it() {
    let [old, new, third] = [(); 3].map(|()| SigningKey::ecdsa());
    let id = |key: &SigningKey| key.private.public_key().id().to_string();
    let settings = |public: &[&SigningKey], retired: &[&SigningKey]| {
        let public: Vec<_> = public.iter().map(|key| key.public_base64()).collect();
        let retired: Vec<_> = retired.iter().map(|key| id(key)).collect();
        format!(
            "  bundles:\n    publicKeys: [{}]\n    retiredKeys: [{}]",
            public.join(", "),
            retired.join(", ")
        )
    };
    let offline = Offline::new(&[&settings(&[&old], &[])]);
    let document = offline.content().join("rotation.json");
    let write_document = |key: &SigningKey, signer: &SigningKey| {
        let signature = signer.private.sign(key.public_pem.as_bytes()).unwrap();
        std::fs::write(&document, render_key_document(&key.public_pem, &[signature])).unwrap();
    };
    let last_event = |reason| {
        let events = offline.site.events();
        let found = events.iter().rfind(|event| event.reason == reason);
        found.map(|event| event.message.clone()).unwrap_or_default()
    };
    let path = offline.content().join("site.tar.zst");
    write_signed(&path, &all_images(), numbered(1), Some(&new)).await;
    assert!(matches!(offline.site.run().await, AgentOutcome::Failed { .. }));
    let refused = offline.bundle("site.tar.zst");
    assert!(refused.problem.unwrap().contains("a key that this host does not have"));

    // A document that an unknown key signed brings nothing.
    write_document(&new, &third);
    assert!(matches!(offline.site.run().await, AgentOutcome::Failed { .. }));
    let reason = last_event(EventReason::BundleKeyRefused);
    assert!(
        reason.contains("is signed by none of the keys that this host uses")
            && reason.contains("sign the key document with a key that this host uses"),
        "{reason}"
    );

    write_document(&new, &old);
    assert_eq!(offline.site.run().await, AgentOutcome::Running);
    assert_eq!(offline.bundle("site.tar.zst").phase, BundlePhase::Receipt);
    assert!(last_event(EventReason::BundleKeyAccepted).contains(&id(&new)));
    let keys = offline.site.status().bundle_keys;
    let shown: Vec<_> = keys
        .iter()
        .map(|key| (key.id.clone(), key.origin.as_str(), key.retired))
        .collect();
    let mut expected = [(id(&old), "user-data", false), (id(&new), document.as_str(), false)];
    expected.sort();
    assert_eq!(shown, expected);

    // The document goes, and so does the key that signed it.
    std::fs::remove_file(&document).unwrap();
    offline.write_user_data(&[&settings(&[], &[&old])]);
    let next = offline.content().join("next.tar.zst");
    let more = [("example.io/more:1", small_image("more"))];
    write_signed(&next, &more, numbered(2), Some(&new)).await;
    assert_eq!(offline.site.run().await, AgentOutcome::Running);
    assert_eq!(offline.bundle("next.tar.zst").phase, BundlePhase::Receipt);
    write_document(&third, &old);
    assert_eq!(offline.site.run().await, AgentOutcome::Running);
    assert!(
        last_event(EventReason::BundleKeyRefused).contains(&id(&third)),
        "a retired key signs nothing"
    );

    // The new key is retired in its turn. Its document does not bring it back, whoever signed it.
    offline.write_user_data(&[&settings(&[], &[&old, &new])]);
    drop(offline.site.run().await);
    assert!(
        offline
            .bundle("next.tar.zst")
            .problem
            .unwrap()
            .contains("which is retired")
    );
    offline.write_user_data(&[&settings(&[&third], &[&old])]);
    write_document(&new, &third);
    drop(offline.site.run().await);
    let reason = last_event(EventReason::BundleKeyRefused);
    assert!(
        reason.contains(&format!("the new key `{}` is retired", id(&new))),
        "{reason}"
    );
    assert!(reason.ends_with("hint: make another key pair"), "{reason}");
    let refused = offline.bundle("next.tar.zst");
    assert_eq!(refused.phase, BundlePhase::Refused);
    assert_eq!(refused.hint.unwrap(), "sign the bundle again with a key that is in use");

    let another = SigningKey::ecdsa();
    write_document(&another, &third);
    write_signed(&next, &more, numbered(3), Some(&another)).await;
    assert_eq!(offline.site.run().await, AgentOutcome::Running);
    assert!(last_event(EventReason::BundleKeyAccepted).contains(&id(&another)));
    let taken = offline.bundle("next.tar.zst");
    assert_eq!((taken.phase, taken.hint), (BundlePhase::Receipt, None));
}

/// Writes a bundle of Landfall or, with the other ending, a file as other tools write it.
async fn write_either(path: &Utf8Path, images: &[(&str, ImageFixture)]) {
    if path.as_str().ends_with(".tar.zst") {
        return write_bundle(path, images, BundleOptions::default()).await;
    }
    let named: Vec<_> = images.iter().map(|(name, image)| (*name, image)).collect();
    std::fs::write(path, zstd_frame(&oci_archive(&named))).unwrap();
    let file = std::fs::File::options().write(true).open(path).unwrap();
    let long_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(3600);
    file.set_modified(long_ago).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn all_images_of_a_bundle_are_in_the_primary_registry_with_their_signatures() {
    for name in ["site.tar.zst", "core.zst"] {
        let offline = Offline::new(&[]);
        let agent = Agent::start(&offline.site).await;
        wait_for(&offline.site, "degraded", |status| status.phase == Phase::Degraded).await;
        let mut images = all_images();
        let signature_of = |repository: &str, image: &ImageFixture| {
            let digest = &image.root.digest;
            format!("{repository}:sha256-{}.sig", digest.hex())
        };
        let of_extra = signature_of("example.io/extra", &images[3].1);
        let of_nginx = signature_of("docker.io/library/nginx", &images[2].1);
        images.push((&of_extra, small_image("signature of extra")));
        images.push((&of_nginx, small_image("signature of nginx")));
        let path = offline.content().join(name);
        write_either(&path, &images).await;
        let done = |bundle: &BundleStatus| bundle.phase == BundlePhase::Receipt && bundle.images == 4;
        wait_for(&offline.site, "the receipt", |status| status.bundles.iter().any(done)).await;
        // From now on nothing is served out of the file.
        std::fs::remove_file(&path).unwrap();
        wait_for(&offline.site, "no bundle", |status| status.bundles.is_empty()).await;

        let ledger = std::fs::read(offline.site.state_dir().join("ledger.json")).unwrap();
        let ledger: serde_json::Value = serde_json::from_slice(&ledger).unwrap();
        let targets: Vec<ImageReference> = ledger["primary"]
            .as_object()
            .unwrap()
            .keys()
            .map(|target| target.parse().unwrap())
            .collect();
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(client_config(&TlsPolicy::default()).unwrap())
            .no_proxy()
            .build()
            .unwrap();
        let url = offline.site.status().primary.unwrap().url;
        for (reference, image) in images
            .iter()
            .filter(|(name, _)| !name.contains("/os:") && !name.contains("calico"))
        {
            let reference: ImageReference = reference.parse().unwrap();
            let repository = &reference.canonical().repository;
            let target = targets
                .iter()
                .find(|target| target.repository.as_str().ends_with(repository.as_str()));
            let target = &target
                .unwrap_or_else(|| panic!("{name}: `{repository}` is not among {targets:?}"))
                .repository;
            let address = format!("{url}/v2/{target}/manifests/{}", reference.manifest_selector());
            let request = client.get(&address).header("Accept", &image.root.media_type);
            let response = request.send().await.unwrap();
            assert_eq!(response.status(), 200, "{name}: {address}");
            assert_eq!(response.bytes().await.unwrap(), image.root_bytes(), "{name}: {address}");
        }
        agent.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signature_that_arrives_later_follows_its_image() {
    let offline = Offline::new(&[]);
    write_bundle(&offline.content().join("may.tar.zst"), &all_images(), numbered(1)).await;
    assert_eq!(offline.site.run().await, AgentOutcome::Running);
    let nginx = all_images().remove(2);
    let tag = format!("docker.io/library/nginx:sha256-{}.sig", nginx.1.root.digest.hex());
    let signature = small_image("signature");
    let signed = [nginx, (tag.as_str(), signature.clone())];
    write_bundle(&offline.content().join("june.tar.zst"), &signed, numbered(2)).await;
    assert_eq!(offline.site.run().await, AgentOutcome::Running);
    assert_eq!(offline.bundle("june.tar.zst").phase, BundlePhase::Receipt);
    let ledger = std::fs::read_to_string(offline.site.state_dir().join("ledger.json")).unwrap();
    let ledger: serde_json::Value = serde_json::from_str(&ledger).unwrap();
    let companions: Vec<_> = ledger["companions"].as_object().unwrap().values().collect();
    assert_eq!(companions, [&serde_json::json!([signature.root.digest])]);
    // A second run pushes nothing.
    let before = offline.site.events().len();
    assert_eq!(offline.site.run().await, AgentOutcome::Running);
    let later = offline.site.events().split_off(before);
    assert!(
        later.iter().all(|event| event.reason != EventReason::ImagePushed),
        "{later:#?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn as_palette_a_bundle_beside_an_external_registry_is_ignored_until_its_followed_hint_takes_it() {
    let offline = Offline::new(&[]);
    // Without the primary registry.
    let text = "#cloud-config\nstylus:\n  managementMode: local\n  registryCredentials:\n    domain: \"127.0.0.1:1\"\n    \
                insecure: true\nlandfall:\n  reconcileInterval: 3600\n  containerd:\n    enable: false\n";
    std::fs::write(offline.site.path("user-data.yaml"), text).unwrap();
    write_bundle(&offline.content().join("site.tar.zst"), &all_images(), numbered(1)).await;
    let run_with = async |compat: Compat| {
        let options = AgentOptions {
            compat,
            ..offline.site.options().await
        };
        run_agent(options, Arc::new(NoProgress), CancellationToken::new())
            .await
            .unwrap()
    };
    let outcome = run_with(Compat::Palette).await;
    assert!(matches!(outcome, AgentOutcome::Failed { .. }), "{outcome:?}");
    let bundle = offline.bundle("site.tar.zst");
    assert_eq!((bundle.phase, bundle.adopted), (BundlePhase::Refused, 0), "{bundle:?}");
    let problem = bundle.problem.unwrap();
    assert!(problem.starts_with("it is ignored, as by Palette"), "{problem}");
    assert_eq!(
        bundle.hint.unwrap(),
        "leave `--compat palette` out, or configure a primary registry"
    );
    assert_eq!(run_with(Compat::default()).await, AgentOutcome::Running);
    assert_eq!(offline.bundle("site.tar.zst").phase, BundlePhase::Receipt);

    let other = offline.content().join("other.tar.zst");
    write_bundle(&other, &[("example.io/other:1", small_image("other"))], numbered(2)).await;
    run_with(Compat::Palette).await;
    assert_eq!(offline.bundle("other.tar.zst").phase, BundlePhase::Refused);
    offline.write_user_data(&[]);
    assert_eq!(run_with(Compat::Palette).await, AgentOutcome::Running);
    assert_eq!(offline.bundle("other.tar.zst").phase, BundlePhase::Receipt);
}
