//! Hosts without a network: everything comes from bundles.

#![expect(clippy::disallowed_methods, clippy::unwrap_used, reason = "test set-up")]

mod common;

use camino::{Utf8Path, Utf8PathBuf};
use common::agent::{Agent, wait_for, wait_for_running};
use common::{Site, core_archive, os_image};
use landfall_agent::AgentOutcome;
use landfall_core::bundle::adoption::BundlePhase;
use landfall_core::bundle::pieces::PlannedPiece;
use landfall_core::reference::{Digest, ImageReference};
use landfall_core::report::Inventory;
use landfall_core::status::{BundleStatus, EventReason, NoProgress, Phase};
use landfall_net::tls::{TlsPolicy, client_config};
use landfall_oci::archive::open_archive;
use landfall_oci::bundle::signature::{HostKeys, PublicKey, receipt_signature_name, verify_receipt};
use landfall_oci::bundle::{BundleDraft, BundleImage, BundleOptions, BundleWriter, gather_images, write_images};
use landfall_oci::copy::CopyOptions;
use landfall_testkit::image_builder::{
    FixtureBuilder, ImageFixture, digest_of, multi_platform, oci_archive, small_image,
};

/// A site whose profile names images that no registry serves to it.
struct Offline {
    site: Site,
}

impl Offline {
    fn new(more: &[&str]) -> Offline {
        let site = Site::new();
        let offline = Offline { site };
        offline.write_user_data(more);
        std::fs::create_dir_all(offline.content()).unwrap();
        offline
    }

    fn write_user_data(&self, more: &[&str]) {
        let text = format!(
            "#cloud-config\nstylus:\n  managementMode: local\n  registryCredentials:\n    domain: \"127.0.0.1:1\"\n    insecure: true\n\
             landfall:\n  reconcileInterval: 3600\n  containerd:\n    enable: false\n  primary:\n    endpoint: \"127.0.0.1:{}\"\n{}\n",
            self.site.primary_port,
            more.join("\n")
        );
        std::fs::write(self.site.path("user-data.yaml"), text).unwrap();
    }

    fn content(&self) -> Utf8PathBuf {
        self.site.path("root/opt/spectrocloud/content")
    }

    fn bundle(&self, name: &str) -> BundleStatus {
        let bundles = self.site.status().bundles;
        let found = bundles.iter().find(|bundle| bundle.path.ends_with(name));
        found
            .unwrap_or_else(|| panic!("`{name}` is not among {bundles:#?}"))
            .clone()
    }
}

/// Returns the images of the site's profile, and one that no profile names.
fn all_images() -> Vec<(&'static str, ImageFixture)> {
    vec![
        ("example.io/os:1", os_image()),
        ("example.io/calico:1", small_image("calico")),
        ("docker.io/library/nginx:1.27", small_image("nginx")),
        ("example.io/extra:1", small_image("extra")),
    ]
}

async fn write_bundle(path: &Utf8Path, images: &[(&str, ImageFixture)], options: BundleOptions) {
    let spool = tempfile::tempdir().unwrap();
    let spool = Utf8Path::from_path(spool.path()).unwrap();
    let archive = spool.join("images.tar");
    let named: Vec<_> = images.iter().map(|(name, image)| (*name, image)).collect();
    std::fs::write(&archive, oci_archive(&named)).unwrap();
    let opened = open_archive(&archive, spool).unwrap();
    let names: Vec<ImageReference> = opened.iter().map(|image| image.names[0].parse().unwrap()).collect();
    let selectors: Vec<String> = opened.iter().map(|image| image.root.digest.to_string()).collect();
    let listed = opened.iter().zip(names.iter().zip(&selectors));
    let listed: Vec<_> = listed
        .map(|(image, (name, selector))| BundleImage {
            source: &*image.source,
            selector,
            name,
        })
        .collect();
    let copy = CopyOptions::new(4);
    let (gathering, results) = gather_images(&listed, &copy).await;
    results.into_iter().for_each(|result| drop(result.unwrap()));
    let plan = BundleDraft::new(gathering.finish().unwrap(), options)
        .seal(None)
        .unwrap();
    let piece = PlannedPiece {
        name: path.file_name().unwrap().to_owned(),
        size: plan.length(),
    };
    let writer = BundleWriter::open(path, &[piece], plan).unwrap();
    let results = write_images(&listed, &writer, &copy, &NoProgress).await;
    results.into_iter().for_each(|result| drop(result.unwrap()));
    writer.finish().unwrap();
}

/// Returns an image with a layer that has a place of its own in a bundle.
fn large_image() -> ImageFixture {
    let content: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
    FixtureBuilder::new().plain_layer(&[("large", &content)]).build()
}

fn numbered(sequence: u64) -> BundleOptions {
    BundleOptions {
        series: Some("store".to_owned()),
        sequence: Some(sequence),
        ..BundleOptions::default()
    }
}

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
async fn uploaded_pieces_are_adopted_and_their_receipt_is_fetched_by_the_courier() {
    let offline = Offline::new(&[]);
    let whole = offline.site.path("whole.tar.zst");
    write_bundle(&whole, &all_images(), numbered(3)).await;
    let bytes = std::fs::read(&whole).unwrap();
    let agent = Agent::start(&offline.site).await;
    let api = wait_for(&offline.site, "the status API", |status| status.api.is_some()).await;
    let api = api.api.unwrap();
    let token = std::fs::read_to_string(offline.site.state_dir().join("upload-token")).unwrap();
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

    let client = http();
    let ask = async |path: String| client.get(format!("{api}{path}")).send().await.unwrap();
    let get = async |path: String| ask(path).await.text().await.unwrap();
    let id = bundle.id.unwrap();
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
