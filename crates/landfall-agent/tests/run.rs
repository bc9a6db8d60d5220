//! The whole agent in one process, against a fake upstream registry and its own embedded one.

#![expect(clippy::disallowed_methods, reason = "test set-up")]

mod common;

use common::Site;
use landfall_agent::AgentOutcome;
use landfall_core::status::{EventReason, Phase};
use landfall_oci::store::ContentStore;

#[tokio::test]
async fn host_reaches_running_and_every_image_is_where_it_belongs() {
    let site = Site::new();
    assert_eq!(site.run().await, AgentOutcome::Running);
    let status = site.status();
    assert_eq!(status.phase, Phase::Running);
    let images: Vec<String> = (status.images.iter())
        .map(|(name, image)| format!("{name} stored={} primary={}", image.stored, image.in_primary))
        .collect();
    insta::assert_snapshot!(images.join("\n"), @r"
    docker.io/library/nginx:1.27 stored=true primary=true
    example.io/calico:1 stored=true primary=false
    example.io/os:1 stored=true primary=false
    ");
    let phases: Vec<String> = (site.events().iter())
        .filter(|event| event.reason == EventReason::PhaseFinished)
        .map(|event| format!("{}: {}", event.subject, event.message))
        .collect();
    insta::with_settings!({filters => vec![(r"127\.0\.0\.1:\d+", "ADDRESS")]}, {
    insta::assert_snapshot!(site.readable(&phases.join("\n")), @r"
    Validating: 3 images
    ProviderImage: 1 image
    CoreImages: 1 image
    Images: 2 images
    PrimaryRegistry: 1 image
    Redirect: the webhook at https://ADDRESS/mutate redirects the images of pods
    ");
    });
    let store = ContentStore::open(&site.state_dir().join("store")).unwrap();
    let names: Vec<String> = store.images().keys().map(ToString::to_string).collect();
    assert!(
        names.contains(&"registry.k8s.io/pause:3.9".to_owned()),
        "core images without containerd: {names:?}"
    );
}

#[tokio::test]
async fn provider_image_is_complete_before_anything_else_is_fetched() {
    let site = Site::new();
    assert_eq!(site.run().await, AgentOutcome::Running);
    let fetched = site.fetched();
    let last_of_provider = fetched
        .iter()
        .rposition(|path| path.contains("/example.io/os/"))
        .unwrap();
    let first_other = fetched
        .iter()
        .position(|path| !path.contains("/example.io/os/"))
        .unwrap();
    assert!(last_of_provider < first_other, "{fetched:#?}");
}

#[tokio::test]
async fn second_run_transfers_nothing() {
    let site = Site::new();
    assert_eq!(site.run().await, AgentOutcome::Running);
    site.upstream.clear_requests();
    assert_eq!(site.run().await, AgentOutcome::Running);
    assert_eq!(site.fetched(), Vec::<String>::new());
    let stored = site
        .events()
        .iter()
        .filter(|event| event.reason == EventReason::ImageStored)
        .count();
    assert_eq!(stored, 3, "only by the first run");
}
