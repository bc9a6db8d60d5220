//! Files of other formats in the places of bundles: Palette's content bundles, archives of docker, hauls, packages.

#![expect(clippy::disallowed_methods, clippy::unwrap_used, reason = "test set-up")]

mod common;

use std::time::{Duration, SystemTime};

use camino::{Utf8Path, Utf8PathBuf};
use common::agent::{Agent, wait_for, wait_for_running};
use common::bundles::{Offline, all_images};
use landfall_agent::AgentOutcome;
use landfall_core::bundle::adoption::BundlePhase;
use landfall_core::reference::Digest;
use landfall_core::status::{EventReason, Phase};
use landfall_oci::bundle::signature::sign_detached;
use landfall_testkit::image_builder::{
    FixtureBuilder, ImageFixture, digest_of, docker_archive, gzip, oci_archive, tar_of, zstd_frame,
};
use landfall_testkit::signing_key::SigningKey;

/// Writes a file that nothing has written to for an hour.
fn write_old(path: &Utf8Path, bytes: &[u8]) {
    std::fs::write(path, bytes).unwrap();
    let file = std::fs::File::options().write(true).open(path).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(3600))
        .unwrap();
}

/// Returns images as Palette's content bundles hold them: an image layout with full names.
fn layout_of(images: &[(&str, ImageFixture)]) -> Vec<u8> {
    let named: Vec<_> = images.iter().map(|(name, image)| (*name, image)).collect();
    oci_archive(&named)
}

/// Returns a layer that is larger than what is kept in memory, and hardly compressed.
fn large_layer() -> Vec<u8> {
    let words = (0..2_300_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes());
    words.collect()
}

fn blob_path(offline: &Offline, digest: &Digest) -> Utf8PathBuf {
    let blobs = offline.site.state_dir().join("store/blobs");
    blobs.join(digest.algorithm()).join(digest.hex())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_comes_up_from_files_of_other_tools() {
    let images = all_images();
    let layout = layout_of(&images);
    let docker: Vec<_> = images.iter().map(|(name, image)| ([*name], image)).collect();
    let docker: Vec<_> = docker.iter().map(|(names, image)| (&names[..], *image)).collect();
    let forms: [(&str, Vec<u8>); 4] = [
        ("core-store-x1.zst", zstd_frame(&layout)),
        ("haul.tar.gz", gzip(&layout)),
        ("saved.tar", docker_archive(&docker)),
        ("exported.tar", layout.clone()),
    ];
    for (name, bytes) in forms {
        let offline = Offline::new(&[]);
        write_old(&offline.content().join(name), &bytes);
        assert_eq!(offline.site.run().await, AgentOutcome::Running, "{name}");
        let status = offline.site.status();
        assert!(status.images["docker.io/library/nginx:1.27"].in_primary, "{name}");
        let bundle = offline.bundle(name);
        assert_eq!(
            (bundle.phase, bundle.images, bundle.adopted),
            (BundlePhase::Receipt, 4, 4),
            "{bundle:?}"
        );
        let id = digest_of(&bytes).to_string();
        assert_eq!(
            bundle.id.as_deref(),
            Some(id.as_str()),
            "{name}: as sha256sum prints it"
        );
        let receipt = std::fs::read_to_string(bundle.receipt.unwrap()).unwrap();
        assert!(receipt.contains(&id), "{name}");
        let wanted = [
            EventReason::BundleFound,
            EventReason::BundleServed,
            EventReason::BundleAdopted,
            EventReason::BundleReceipt,
        ];
        let reasons = offline.site.events().into_iter().map(|event| event.reason);
        let found: Vec<_> = reasons.filter(|reason| wanted.contains(reason)).collect();
        assert_eq!(found, wanted, "{name}");
        assert_eq!(offline.site.fetched(), Vec::<String>::new(), "{name}");

        // A second run does not read it again, and so does not see that it is damaged.
        let path = offline.content().join(name);
        let modified = std::fs::metadata(&path).unwrap().modified().unwrap();
        let mut damaged = bytes.clone();
        damaged[bytes.len() / 2] ^= 1;
        std::fs::write(&path, &damaged).unwrap();
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        file.set_modified(modified).unwrap();
        assert_eq!(offline.site.run().await, AgentOutcome::Running, "{name}");
        let last = offline.site.events();
        let served = last.iter().rfind(|event| event.reason == EventReason::BundleServed);
        assert_eq!(
            served.unwrap().message,
            "it was read before, and has not changed",
            "{name}"
        );
        assert_eq!(offline.bundle(name).phase, BundlePhase::Receipt, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pieces_on_a_stick_are_read_as_one_file() {
    let offline = Offline::new(&[]);
    let stick = offline.site.path("stick/bundle-content");
    std::fs::create_dir_all(&stick).unwrap();
    let bytes = zstd_frame(&layout_of(&all_images()));
    let third = bytes.len().div_ceil(3);
    for (number, piece) in bytes.chunks(third).enumerate() {
        write_old(&stick.join(format!("core.zst_part{number:02}")), piece);
    }
    let labels = offline.site.path("root/dev/disk/by-label");
    std::fs::create_dir_all(&labels).unwrap();
    std::os::unix::fs::symlink(offline.site.path("stick"), labels.join("COS_CONTENT")).unwrap();
    assert_eq!(offline.site.run().await, AgentOutcome::Running);
    let receipt = |event: &&landfall_core::status::Event| event.reason == EventReason::BundleReceipt;
    assert_eq!(offline.site.events().iter().filter(receipt).count(), 1);
    let mount = offline.site.state_dir().join("sticks/COS_CONTENT");
    assert!(std::fs::symlink_metadata(&mount).is_err(), "the stick is unmounted");

    // After a restart it is not read again.
    assert_eq!(offline.site.run().await, AgentOutcome::Running);
    let events = offline.site.events();
    let served = events.iter().rfind(|event| event.reason == EventReason::BundleServed);
    assert_eq!(served.unwrap().message, "it was read before, and has not changed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_with_a_key_takes_a_file_once_a_followed_hint_gives_it_a_good_signature() {
    let (key, other) = (SigningKey::ecdsa(), SigningKey::ecdsa());
    let settings = format!("  bundles:\n    publicKeys: [{}]", key.public_base64());
    let offline = Offline::new(&[&settings]);
    let path = offline.content().join("core.zst");
    let signature = offline.content().join("core.sig.bin");
    let bytes = zstd_frame(&layout_of(&all_images()));
    write_old(&path, &bytes);
    let nothing_is_here = || {
        let status = offline.site.status();
        assert!(status.images.values().all(|image| !image.stored));
        let index = std::fs::read_to_string(offline.site.state_dir().join("store/index.json"));
        assert!(!index.unwrap_or_default().contains("example.io"), "nothing is named");
    };

    assert!(matches!(offline.site.run().await, AgentOutcome::Failed { .. }));
    let bundle = offline.bundle("core.zst");
    assert_eq!((bundle.phase, bundle.adopted), (BundlePhase::Refused, 0));
    assert_eq!(
        bundle.problem.unwrap(),
        "it has no detached signature `core.sig.bin` beside it, and this host takes only signed files"
    );
    let hint = bundle.hint.unwrap();
    assert!(
        hint.starts_with("copy its signature to the same place, or make one with a key of this host: `openssl dgst"),
        "{hint}"
    );
    nothing_is_here();
    // It was not even read.
    for (digest, _) in all_images()[3].1.all_content() {
        assert!(!blob_path(&offline, digest).exists());
    }

    let wrong = sign_detached(&other.private, &digest_of(&bytes)).unwrap();
    write_old(&signature, &wrong);
    assert!(matches!(offline.site.run().await, AgentOutcome::Failed { .. }));
    let bundle = offline.bundle("core.zst");
    assert_eq!((bundle.phase, bundle.adopted), (BundlePhase::Refused, 0), "{bundle:?}");
    assert!(
        bundle
            .problem
            .unwrap()
            .starts_with("none of the keys of this host made the signature")
    );
    nothing_is_here();

    // Of changed bytes, the right signature is none.
    let right = sign_detached(&key.private, &digest_of(&bytes)).unwrap();
    let mut changed = layout_of(&all_images());
    changed.extend([0; 512]);
    write_old(&path, &zstd_frame(&changed));
    write_old(&signature, &right);
    assert!(matches!(offline.site.run().await, AgentOutcome::Failed { .. }));
    let bundle = offline.bundle("core.zst");
    assert_eq!(bundle.phase, BundlePhase::Refused);
    assert_eq!(
        bundle.hint.unwrap(),
        "copy the bundle and its signature again from a source that you trust"
    );
    nothing_is_here();

    write_old(&path, &bytes);
    assert_eq!(offline.site.run().await, AgentOutcome::Running);
    assert_eq!(offline.bundle("core.zst").phase, BundlePhase::Receipt);

    // Without the key, what is here stays, and nothing more is taken.
    offline.write_user_data(&["  bundles:\n    publicKeys: []\n    policy: {unsignedContent: refuse}"]);
    assert_eq!(offline.site.run().await, AgentOutcome::Running);
    assert_eq!(offline.bundle("core.zst").phase, BundlePhase::Refused);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_copied_is_read_when_it_is_whole() {
    let offline = Offline::new(&[]);
    let agent = Agent::start(&offline.site).await;
    wait_for(&offline.site, "degraded", |status| status.phase == Phase::Degraded).await;
    let bytes = zstd_frame(&layout_of(&all_images()));
    let path = offline.content().join("core.zst");
    std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    let cut = wait_for(&offline.site, "cut short", |status| {
        let bundle = status.bundles.iter().find(|bundle| bundle.problem.is_some());
        bundle.is_some_and(|bundle| bundle.phase == BundlePhase::Incomplete)
    });
    let bundle = cut.await.bundles.remove(0);
    assert_eq!((bundle.images, bundle.adopted, bundle.id), (0, 0, None));
    assert!(bundle.hint.unwrap().starts_with("wait until the copy is finished"));
    std::fs::write(&path, &bytes).unwrap();
    wait_for_running(&offline.site).await;
    wait_for(&offline.site, "the receipt", |status| {
        let mut bundles = status.bundles.iter();
        bundles.any(|bundle| bundle.phase == BundlePhase::Receipt && bundle.adopted == 4)
    })
    .await;
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_file_names_image_and_reason_and_stops_nothing_else() {
    let offline = Offline::new(&[]);
    let image = FixtureBuilder::new().plain_layer(&[("large", &large_layer())]).build();
    let large = image
        .blobs
        .iter()
        .max_by_key(|(_, bytes)| bytes.len())
        .unwrap()
        .0
        .clone();
    let images = [
        ("example.io/extra:1", image.clone()),
        ("example.io/whole:1", all_images()[3].1.clone()),
    ];
    // The bytes of the layer are wrong, and the file is whole otherwise.
    let mut layout = layout_of(&images);
    let content = image.blobs[&large].clone();
    let at = layout
        .windows(64)
        .position(|window| *window == content[4096..4160])
        .unwrap();
    layout[at] ^= 1;
    write_old(&offline.content().join("wrong.tar.zst"), &zstd_frame(&layout));
    // A bit is flipped in the compressed bytes.
    let renamed = [("example.io/torn:1", image)];
    let mut torn = zstd_frame(&layout_of(&renamed));
    let middle = torn.len() / 2;
    torn[middle] ^= 1;
    write_old(&offline.content().join("torn.tar.zst"), &torn);
    // No archives of images.
    let files = tar_of([("spc/cluster.json", &b"{}"[..])]);
    write_old(&offline.content().join("spc.tgz"), &gzip(&files));
    write_old(&offline.content().join("notes.gz"), &gzip(b"notes"));
    write_old(
        &offline.content().join("whole.zst"),
        &zstd_frame(&layout_of(&all_images()[..3])),
    );
    assert_eq!(offline.site.run().await, AgentOutcome::Running);
    assert_eq!(offline.bundle("whole.zst").phase, BundlePhase::Receipt);

    let bundle = offline.bundle("wrong.tar.zst");
    assert_eq!(
        (bundle.phase, bundle.images, bundle.adopted),
        (BundlePhase::Adopting, 2, 1)
    );
    assert_eq!(bundle.missing, ["example.io/extra:1"]);
    let problem = bundle.problem.unwrap();
    assert!(
        problem.starts_with("`example.io/extra:1` cannot be adopted") && problem.contains(large.as_str()),
        "{problem}"
    );
    assert!(problem.contains("another digest"), "{problem}");

    let bundle = offline.bundle("torn.tar.zst");
    assert_eq!(
        (bundle.phase, bundle.adopted, bundle.id),
        (BundlePhase::Refused, 0, None)
    );
    let problem = bundle.problem.unwrap();
    assert!(
        problem.starts_with("the archive is damaged in") && problem.contains("with content of `example.io/torn:1`"),
        "{problem}"
    );
    assert_eq!(bundle.hint.as_deref(), Some("copy it again from where it was made"));
    let warned = |event: &&landfall_core::status::Event| event.reason == EventReason::BundleRefused;
    let mut subjects: Vec<_> = offline
        .site
        .events()
        .iter()
        .filter(warned)
        .map(|event| event.subject.clone())
        .collect();
    subjects.sort();
    assert_eq!(subjects.len(), 2, "{subjects:?}");
    assert!(subjects[0].ends_with("torn.tar.zst") && subjects[1].ends_with("wrong.tar.zst"));
    let shown = offline.site.status().bundles;
    assert_eq!(shown.len(), 3, "other files are not shown: {shown:#?}");
}
