//! Interrupted runs, which resume where they stopped, and hosts that keep serving without the network.

#![expect(clippy::disallowed_methods, reason = "test set-up")]

mod common;

use std::collections::BTreeMap;

use common::Site;
use common::agent::{Agent, wait_for, wait_for_running};
use landfall_agent::AgentOutcome;
use landfall_core::status::{EventReason, Phase};
use landfall_testkit::fake_registry::{Effect, Fault};
use landfall_testkit::image_builder::small_image;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn finished_blobs_are_not_fetched_again_after_an_interruption() {
    let site = Site::new();
    let layer = small_image("nginx").blobs.keys().next_back().unwrap().to_string();
    site.upstream.inject(Fault::once(&layer, Effect::StallBodyAfter(10)));
    let agent = Agent::start(&site).await;
    wait_for(&site, "calico is stored", |status| {
        status
            .images
            .get("example.io/calico:1")
            .is_some_and(|image| image.stored)
    })
    .await;
    assert_eq!(agent.stop().await, AgentOutcome::Drained);
    assert_eq!(site.run().await, AgentOutcome::Running);
    let mut times: BTreeMap<String, usize> = BTreeMap::new();
    for request in site.upstream.requests() {
        if request.path.contains("/blobs/") && request.status == Some(200) && request.method == "GET" {
            *times.entry(request.path).or_default() += 1;
        }
    }
    let again: Vec<_> = times
        .iter()
        .filter(|(path, times)| **times > 1 && !path.contains(&layer))
        .collect();
    assert_eq!(again, [], "fetched twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn filled_host_runs_and_redirects_without_any_upstream_registry() {
    let site = Site::new();
    assert_eq!(site.run().await, AgentOutcome::Running);
    site.upstream
        .inject(Fault::once("", Effect::Status(503, Vec::new(), String::new())).always());
    let agent = Agent::start(&site).await;
    wait_for_running(&site).await;
    let status = site.status();
    assert!(status.webhook.is_some() && status.primary.is_some());
    assert_eq!(agent.stop().await, AgentOutcome::Drained);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restart_serves_again_although_a_new_image_cannot_be_fetched() {
    let site = Site::new();
    assert_eq!(site.run().await, AgentOutcome::Running);
    site.write_profile(&["nginx:1.27", "nginx:9.99"]);
    let agent = Agent::start(&site).await;
    let status = wait_for(&site, "degraded", |status| status.phase == Phase::Degraded).await;
    assert_eq!(status.failed_phase, Some(Phase::Images));
    assert!(status.webhook.is_some(), "redirected as before");
    // The image arrives, and the agent finds it by itself.
    site.upstream
        .add_image("docker.io/library/nginx", "9.99", &small_image("newer"));
    wait_for_running(&site).await;
    assert_eq!(agent.stop().await, AgentOutcome::Drained);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn image_that_the_primary_registry_lost_is_pushed_again() {
    let site = Site::new();
    assert_eq!(site.run().await, AgentOutcome::Running);
    std::fs::remove_dir_all(site.state_dir().join("registry")).unwrap();
    assert_eq!(site.run().await, AgentOutcome::Running);
    let events = site.events();
    let of = |reason| events.iter().filter(|event| event.reason == reason).count();
    assert_eq!(
        (of(EventReason::PrimaryLostImage), of(EventReason::ImagePushed)),
        (1, 2)
    );
    assert_eq!(site.run().await, AgentOutcome::Running);
    let lost = site
        .events()
        .iter()
        .filter(|event| event.reason == EventReason::PrimaryLostImage)
        .count();
    assert_eq!(lost, 1, "it is there again");
}
