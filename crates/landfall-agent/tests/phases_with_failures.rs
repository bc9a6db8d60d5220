//! Phases that fail, one at a time: the others go on, and the site stays up.

#![expect(clippy::disallowed_methods, clippy::unwrap_used, reason = "test set-up")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::Site;
use common::agent::{Agent, redirected_image, wait_for, wait_for_running};
use landfall_agent::{AgentOptions, AgentOutcome, run_agent};
use landfall_core::status::{EventReason, NoProgress, Phase};
use landfall_registry::admin_socket::{AdminCommand, run_admin_command};
use landfall_registry::directories::RegistryDirs;
use landfall_registry::inspect::RegistryInspector;
use landfall_testkit::fake_registry::{Effect, Fault};
use landfall_testkit::image_builder::{provider_image, small_image};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

async fn failed_phases(options: AgentOptions) -> Vec<Phase> {
    let end = run_agent(options, Arc::new(NoProgress), CancellationToken::new())
        .await
        .unwrap();
    match end {
        AgentOutcome::Failed { failures } => failures.into_iter().map(|failure| failure.phase).collect(),
        other => panic!("the agent ended with {other:?}"),
    }
}

/// Asserts which services are up: primary registry, webhook.
fn assert_up(site: &Site, case: &str, primary: bool, webhook: bool) {
    let status = site.status();
    assert_eq!(status.phase, Phase::Degraded, "{case}");
    assert_eq!(status.primary.is_some(), primary, "{case}: primary registry");
    assert_eq!(status.webhook.is_some(), webhook, "{case}: webhook");
}

fn is_in_primary(site: &Site, image: &str) -> bool {
    site.status().images.get(image).is_some_and(|image| image.in_primary)
}

const NGINX: &str = "docker.io/library/nginx:1.27";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_missing_image_keeps_neither_the_primary_registry_nor_the_webhook_away() {
    let site = Site::new();
    site.write_profile(&["nginx:1.27", "nginx:9.99"]);
    assert_eq!(failed_phases(site.options().await).await, [Phase::Images]);
    assert_up(&site, "a missing application image", true, true);
    assert!(is_in_primary(&site, NGINX));
    let failed = site
        .events()
        .into_iter()
        .filter(|event| event.reason == EventReason::PushFailed)
        .count();
    assert_eq!(failed, 0, "an image that is not here is not pushed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn missing_provider_image_stops_only_its_core_images() {
    let site = Site::new();
    let profile = std::fs::read_to_string(site.path("profile.yaml")).unwrap();
    let wrong = profile.replace("example.io/os:1", "example.io/os:9");
    std::fs::write(site.path("profile.yaml"), wrong).unwrap();
    assert_eq!(failed_phases(site.options().await).await, [Phase::ProviderImage]);
    assert_up(&site, "a missing provider image", true, true);
    assert!(is_in_primary(&site, NGINX));
    let first = site
        .upstream
        .requests()
        .into_iter()
        .find(|request| request.path.contains("/manifests/"));
    assert!(
        first.is_some_and(|first| first.path.contains("example.io/os")),
        "it is tried first"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broken_core_images_stop_nothing_else() {
    let site = Site::new();
    let broken = provider_image(&[("etcd.tar", b"no archive")]);
    site.upstream.add_image("example.io/os", "1", &broken);
    assert_eq!(failed_phases(site.options().await).await, [Phase::CoreImages]);
    assert_up(&site, "a broken core image", true, true);
    assert!(is_in_primary(&site, NGINX));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn containerd_that_does_not_answer_stops_only_what_is_loaded_into_it() {
    let site = Site::new();
    let path = site.path("user-data.yaml");
    let text = std::fs::read_to_string(&path).unwrap();
    let text = text.replace(
        "  containerd:\n    enable: false",
        "  containerd:\n    socket: /run/no-containerd.sock",
    );
    std::fs::write(&path, text).unwrap();
    assert_eq!(
        failed_phases(site.options().await).await,
        [Phase::CoreImages, Phase::Images]
    );
    assert_up(&site, "no containerd", true, true);
    assert!(is_in_primary(&site, NGINX));
    let calico = site.status().images["example.io/calico:1"].clone();
    assert!(calico.stored && !calico.loaded, "{calico:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn taken_port_of_the_primary_registry_sends_pods_to_the_external_one() {
    let site = Site::new();
    // A site whose primary registry was filled before.
    assert_eq!(site.run().await, AgentOutcome::Running);
    assert!(is_in_primary(&site, NGINX));
    let taken = TcpListener::bind(("127.0.0.1", site.primary_port)).await.unwrap();
    let mut options = site.options_with_primary(None).await;
    options.once = false;
    let agent = Agent::start_with(options);
    let status = wait_for(&site, "degraded", |status| status.phase == Phase::Degraded).await;
    assert_eq!(status.failed_phase, Some(Phase::PrimaryRegistry));
    let image = redirected_image(&site, "nginx:1.27").await;
    assert!(image.starts_with(site.upstream.host().as_str()), "{image}");
    drop(taken);
    wait_for_running(&site).await;
    let image = redirected_image(&site, "nginx:1.27").await;
    assert!(
        image.starts_with(&format!("127.0.0.1:{}/", site.primary_port)),
        "{image}"
    );
    assert_eq!(agent.stop().await, AgentOutcome::Drained);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn taken_port_of_the_webhook_or_the_status_api_stops_neither_images_nor_the_primary_registry() {
    for (case, phase) in [("webhook", Phase::Redirect), ("status", Phase::Validating)] {
        let site = Site::new();
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = taken.local_addr().unwrap().port();
        let path = site.path("user-data.yaml");
        let text = std::fs::read_to_string(&path).unwrap();
        let key = match case {
            "webhook" => format!("stylus:\n  imageRedirectWebhook:\n    port: {port}\n"),
            _ => format!("stylus:\n  localUI:\n    port: {port}\n"),
        };
        std::fs::write(&path, text.replace("stylus:\n", &key)).unwrap();
        let mut options = site.options().await;
        match case {
            "webhook" => options.listeners.webhook = None,
            _ => options.listeners.status = None,
        }
        assert_eq!(failed_phases(options).await, [phase], "{case}");
        assert_up(&site, case, true, case == "status");
        assert!(is_in_primary(&site, NGINX), "{case}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failure_that_stays_is_one_event_and_ends_when_its_cause_does() {
    let site = Site::new();
    site.write_profile(&["nginx:1.27", "nginx:9.99"]);
    let agent = Agent::start(&site).await;
    let first = wait_for(&site, "degraded", |status| status.phase == Phase::Degraded).await;
    let asked = |site: &Site| {
        let requests = site.upstream.requests();
        requests
            .iter()
            .filter(|request| request.path.ends_with("/manifests/9.99"))
            .count()
    };
    let before = asked(&site);
    while asked(&site) < before + 3 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let status = site.status();
    assert_eq!((status.phase, status.since), (Phase::Degraded, first.since));
    let events = site.events();
    for reason in [EventReason::PhaseFailed, EventReason::ImageFailed] {
        let told = events.iter().filter(|event| event.reason == reason).count();
        assert_eq!(told, 1, "{reason:?}");
    }
    site.upstream
        .add_image("docker.io/library/nginx", "9.99", &small_image("newer"));
    wait_for_running(&site).await;
    assert!(is_in_primary(&site, "docker.io/library/nginx:9.99"));
    assert_eq!(agent.stop().await, AgentOutcome::Drained);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restart_of_a_host_that_never_ran_without_failure_serves_at_once() {
    let site = Site::new();
    site.write_profile(&["nginx:1.27", "nginx:9.99"]);
    assert_eq!(failed_phases(site.options().await).await, [Phase::Images]);
    site.upstream
        .inject(Fault::once("/manifests/9.99", Effect::Delay(Duration::from_secs(60))).always());
    let agent = Agent::start(&site).await;
    let status = wait_for(&site, "the webhook", |status| status.webhook.is_some()).await;
    assert_ne!(status.phase, Phase::Running);
    assert_eq!(agent.stop().await, AgentOutcome::Drained);
}

/// Returns the number of requests for manifests of redis at the upstream registry.
fn asked_for_redis(site: &Site) -> usize {
    let requests = site.upstream.requests().into_iter();
    requests
        .filter(|request| request.path.contains("redis/manifests/"))
        .count()
}

/// Returns a site whose upstream registry answers once that redis can be fetched after this number of seconds.
fn mk_site_with_wait(seconds: &str) -> Site {
    let site = Site::new();
    let redis = small_image("redis");
    site.upstream.add_image("docker.io/library/redis", "7", &redis);
    let busy = Effect::Status(429, vec![("retry-after", seconds.to_owned())], String::new());
    site.upstream.inject(Fault::once("redis/manifests/", busy).method(""));
    site
}

const REDIS: &str = "docker.io/library/redis:7";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn registry_that_asks_for_a_long_wait_is_not_asked_while_the_other_work_goes_on() {
    let site = mk_site_with_wait("864000");
    let path = site.path("user-data.yaml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("reconcileInterval: 3600", "reconcileInterval: 1")).unwrap();
    let agent = Agent::start(&site).await;
    wait_for_running(&site).await;
    site.write_profile(&["nginx:1.27", "redis:7"]);
    wait_for(&site, "the wait", |status| {
        let redis = status.images.get(REDIS);
        redis.is_some_and(|redis| redis.error.is_some())
    })
    .await;
    // Each pass looks at the primary registry, and pushes what it lost.
    for pass in 1..=2 {
        let directories = RegistryDirs::of_agent(&site.state_dir());
        let held = RegistryInspector::new(&directories.store, &directories.records).repositories();
        let remove = AdminCommand::Remove {
            repository: held.unwrap().remove(0).name,
            selector: None,
        };
        tokio::task::spawn_blocking(move || run_admin_command(&directories, &remove))
            .await
            .unwrap()
            .unwrap();
        wait_for(&site, "the image again", |status| {
            let lost = site.events().into_iter();
            let lost = lost
                .filter(|event| event.reason == EventReason::PrimaryLostImage)
                .count();
            lost == pass && status.images[NGINX].in_primary
        })
        .await;
    }
    assert_eq!(asked_for_redis(&site), 1);
    assert!(!site.status().images[REDIS].stored);
    assert_eq!(agent.stop().await, AgentOutcome::Drained);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn next_pass_begins_when_the_registry_may_be_asked_again() {
    let site = mk_site_with_wait("2");
    site.write_profile(&["nginx:1.27", "redis:7"]);
    let mut options = site.options().await;
    // The wait is too long for a pass, and the next pass without it is an hour away or at once.
    options.timing.retry.longest_wait = Duration::ZERO;
    let begun = tokio::time::Instant::now();
    let agent = Agent::start_with(options);
    wait_for(&site, "redis", |status| {
        status.images.get(REDIS).is_some_and(|redis| redis.stored)
    })
    .await;
    assert!(begun.elapsed() >= Duration::from_secs(2), "{:?}", begun.elapsed());
    wait_for_running(&site).await;
    assert_eq!(agent.stop().await, AgentOutcome::Drained);
}
