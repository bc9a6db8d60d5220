//! A Harbor as the primary registry. A fake registry with Harbor's project API stands in for it.

#![expect(clippy::disallowed_methods, clippy::unwrap_used, reason = "test set-up")]

mod common;

use common::{CANARY, Site};
use landfall_agent::AgentOutcome;
use landfall_core::status::Phase;
use landfall_testkit::fake_registry::{Access, FakeHarbor, FakeRegistry, FakeRegistryOptions};

const PROJECT: &str = "spectro-images";

/// Starts a Harbor that accepts one robot account, and a site with it as the primary registry.
fn start(harbor: FakeHarbor) -> (FakeRegistry, Site) {
    let registry = FakeRegistry::start_with(FakeRegistryOptions {
        access: Access::Basic {
            username: "robot$edge".to_owned(),
            password: CANARY.to_owned(),
        },
        harbor: Some(harbor),
        ..FakeRegistryOptions::default()
    });
    let site = Site::new();
    let path = site.path("user-data.yaml");
    let text = std::fs::read_to_string(&path).unwrap();
    let (before, _) = text.split_once("  primary:").unwrap();
    let primary = format!(
        "  primary:\n    kind: harbor\n    endpoint: {}\n    insecure: true\n    username: robot$edge\n    password: {CANARY}\n",
        registry.host()
    );
    std::fs::write(&path, format!("{before}{primary}")).unwrap();
    (registry, site)
}

/// Returns the requests to the project API and the uploads of manifests.
fn told(registry: &FakeRegistry) -> String {
    let requests = registry.requests();
    let told = requests
        .iter()
        .filter(|request| request.path.starts_with("/api/") || request.path.contains("/manifests/"))
        .filter(|request| request.method != "HEAD" || request.path.starts_with("/api/"));
    told.map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// Replaces the upstream registry, whose port is part of the path.
fn without_port(told: &str, site: &Site) -> String {
    told.replace(&site.upstream.host().as_str().replace(':', "_"), "UPSTREAM")
}

#[tokio::test]
async fn missing_project_is_made_before_the_first_push() {
    let (registry, site) = start(FakeHarbor::default());
    assert_eq!(site.run().await, AgentOutcome::Running);
    insta::assert_snapshot!(without_port(&told(&registry), &site), @r"
    HEAD /api/v2.0/projects?project_name=spectro-images -> 404
    POST /api/v2.0/projects -> 201
    PUT /v2/spectro-images/UPSTREAM/docker.io/library/nginx/manifests/1.27 -> 201
    ");
}

#[tokio::test]
async fn project_that_is_there_is_left_alone() {
    let (registry, site) = start(FakeHarbor {
        projects: vec![PROJECT.to_owned()],
        forbids_projects: true,
    });
    assert_eq!(site.run().await, AgentOutcome::Running);
    insta::assert_snapshot!(without_port(&told(&registry), &site), @r"
    HEAD /api/v2.0/projects?project_name=spectro-images -> 200
    PUT /v2/spectro-images/UPSTREAM/docker.io/library/nginx/manifests/1.27 -> 201
    ");
    assert!(site.status().images.values().any(|image| image.in_primary));
}

#[tokio::test]
async fn user_who_may_not_make_the_project_is_named_with_the_key_to_mend_and_without_the_password() {
    let (registry, site) = start(FakeHarbor {
        forbids_projects: true,
        ..FakeHarbor::default()
    });
    let (phase, message) = site.failure().await;
    assert_eq!(phase, Phase::PrimaryRegistry);
    let message = message.replace(registry.host().as_str(), "HARBOR");
    insta::assert_snapshot!(message, @"the project `spectro-images` of the primary registry `HARBOR` cannot be made: user `robot$edge` may not create the project `spectro-images`; hint: grant it there, or name another user as `landfall.primary.username` beside DIR/user-data.yaml:12:15");
}

#[tokio::test]
async fn registry_without_a_project_api_is_said_to_be_no_harbor() {
    let (registry, site) = start(FakeHarbor::default());
    let path = site.path("user-data.yaml");
    let text = std::fs::read_to_string(&path).unwrap();
    let plain = FakeRegistry::start();
    std::fs::write(&path, text.replace(registry.host().as_str(), plain.host().as_str())).unwrap();
    let (_, message) = site.failure().await;
    let message = message.replace(plain.host().as_str(), "REGISTRY");
    insta::assert_snapshot!(message, @"the project `spectro-images` of the primary registry `REGISTRY` cannot be made: it has no project API; hint: check that Harbor listens there; for another registry write `kind: registry` in `landfall.primary`");
}
