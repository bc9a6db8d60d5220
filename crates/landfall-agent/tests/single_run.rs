//! A single run of the whole agent in one process, against a fake upstream registry and its own embedded one.

#![expect(clippy::disallowed_methods, reason = "test set-up")]

mod common;

use std::sync::{Arc, Mutex};

use common::{CANARY, Differences, Site};
use landfall_agent::{AgentOutcome, run_agent};
use landfall_core::status::{EventReason, Phase, ProgressEvent, ProgressSink};
use landfall_oci::store::ContentStore;
use landfall_testkit::fake_registry::Access;
use tokio_util::sync::CancellationToken;

/// A sink that keeps the phases and the finished images.
#[derive(Debug, Default)]
struct PhaseLog(Mutex<Vec<String>>);

impl ProgressSink for PhaseLog {
    fn progress(&self, event: ProgressEvent) {
        let line = match event {
            ProgressEvent::Phase { phase } => phase.to_string(),
            ProgressEvent::ImageFinished { image } => format!("  {image}"),
            _ => return,
        };
        self.0.lock().expect("nobody panics with it").push(line);
    }
}

#[tokio::test]
async fn host_reaches_running_and_every_image_is_where_it_belongs() {
    let site = Site::new();
    assert_eq!(site.run().await, AgentOutcome::Running);
    let status = site.status();
    assert_eq!(status.phase, Phase::Running);
    let images: Vec<String> = status
        .images
        .iter()
        .map(|(name, image)| format!("{name} stored={} primary={}", image.stored, image.in_primary))
        .collect();
    insta::assert_snapshot!(images.join("\n"), @r"
    docker.io/library/nginx:1.27 stored=true primary=true
    example.io/calico:1 stored=true primary=false
    example.io/os:1 stored=true primary=false
    ");
    let phases: Vec<String> = site
        .events()
        .iter()
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
async fn each_image_is_told_once_in_each_phase_that_did_something_for_it() {
    let site = Site::new();
    let log = Arc::new(PhaseLog::default());
    let outcome = run_agent(site.options().await, log.clone(), CancellationToken::new()).await;
    assert_eq!(outcome.unwrap(), AgentOutcome::Running);
    let mut lines = log.0.lock().unwrap().clone();
    // The two images of one phase finish in any order.
    let images = lines.iter().position(|line| line == "Images").unwrap();
    lines[images + 1..=images + 2].sort();
    insta::assert_snapshot!(lines.join("\n"), @r"
    Validating
    ProviderImage
      example.io/os:1
    CoreImages
      example.io/os:1
    Images
      docker.io/library/nginx:1.27
      example.io/calico:1
    PrimaryRegistry
      docker.io/library/nginx:1.27
    Redirect
    Running
    ");
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

/// The user-data has no login, and names a file that has one.
#[tokio::test]
async fn a_login_is_taken_from_the_credentials_file() {
    let site = Site::with_access(
        Access::Basic {
            username: "ann".to_owned(),
            password: CANARY.to_owned(),
        },
        None,
    );
    let path = site.path("credentials.json");
    let endpoint = site.upstream.host();
    let text = format!(r#"{{"image": [{{"endpoint": "{endpoint}", "username": "ann", "password": "{CANARY}"}}]}}"#);
    std::fs::write(&path, text).unwrap();
    site.write_user_data(&Differences {
        more: vec![format!("  credentialsFile: {path}")],
        ..Differences::default()
    });
    assert_eq!(site.run().await, AgentOutcome::Running);
}
