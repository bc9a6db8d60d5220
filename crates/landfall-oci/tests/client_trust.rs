//! Checks and limits for URLs and sizes that a registry sends.

mod common;

use std::time::Duration;

use common::{CANARY, mk_client, mk_client_with_login, repository};
use landfall_core::failure::FailureKind;
use landfall_oci::client::{Fault as Failure, ProtocolProblem};
use landfall_testkit::fake_registry::{Access, Effect, FakeRegistry, FakeRegistryOptions, Fault};
use landfall_testkit::image_builder::small_image;

fn start_bearer() -> FakeRegistry {
    let registry = FakeRegistry::start_with(FakeRegistryOptions {
        access: Access::Bearer {
            login: Some(("ann".to_owned(), CANARY.to_owned())),
            realm: String::new(),
        },
        ..FakeRegistryOptions::default()
    });
    registry.add_image("shop/app", "1.0", &small_image("app"));
    registry
}

#[tokio::test]
async fn a_next_page_elsewhere_is_not_asked_for() {
    let (registry, elsewhere) = (FakeRegistry::start(), FakeRegistry::start());
    let link = format!("<{}/v2/_catalog?last=a>; rel=\"next\"", elsewhere.url());
    let page = Effect::Status(200, vec![("link", link)], r#"{"tags": ["a"]}"#.to_owned());
    registry.inject(Fault::once("/tags/list", page));
    let error = mk_client(&registry)
        .list_tags(&repository("shop/app"))
        .await
        .unwrap_err();
    assert!(
        matches!(*error.fault, Failure::Protocol(ProtocolProblem::PageElsewhere)),
        "{error:?}"
    );
    assert!(elsewhere.requests().is_empty());
}

#[tokio::test]
async fn a_token_server_may_not_send_us_on() {
    let (registry, elsewhere) = (start_bearer(), start_bearer());
    let to = format!("{}/token", elsewhere.url());
    registry.inject(Fault::once("/token", Effect::Redirect(to)));
    let client = mk_client_with_login(&registry, "ann", CANARY);
    client.fetch_manifest(&repository("shop/app"), "1.0").await.unwrap_err();
    assert!(elsewhere.requests().is_empty());
}

#[tokio::test]
async fn a_tokens_answer_has_a_limit() {
    let registry = start_bearer();
    let huge = format!(r#"{{"token": "{}"}}"#, "x".repeat(100_000));
    registry.inject(Fault::once("/token", Effect::Status(200, vec![], huge)));
    let client = mk_client_with_login(&registry, "ann", CANARY);
    let error = client.fetch_manifest(&repository("shop/app"), "1.0").await.unwrap_err();
    assert!(matches!(*error.fault, Failure::TooLarge { .. }), "{error:?}");
}

#[tokio::test]
async fn a_registry_that_names_a_time_is_not_asked_before_it_by_anyone() {
    let registry = FakeRegistry::start();
    registry.add_image("shop/app", "1.0", &small_image("app"));
    let busy = Effect::Status(429, vec![("retry-after", "864000".to_owned())], String::new());
    registry.inject(Fault::once("/manifests/", busy));
    let client = mk_client(&registry);
    let days = Duration::from_secs(864_000);
    let first = client.fetch_manifest(&repository("shop/app"), "1.0").await.unwrap_err();
    assert_eq!(first.kind(), FailureKind::RateLimited { after: Some(days) });
    let asked = registry.requests().len();
    let second = client.clone().list_tags(&repository("shop/app")).await.unwrap_err();
    let rest = second.kind().not_before().unwrap();
    assert!(rest <= days && rest > days - Duration::from_secs(600), "{rest:?}");
    assert!(client.not_before().is_some());
    assert_eq!(registry.requests().len(), asked);
}

#[tokio::test]
async fn the_wait_of_a_token_server_holds_for_its_registry() {
    let registry = start_bearer();
    let busy = Effect::Status(429, vec![("retry-after", "864000".to_owned())], String::new());
    registry.inject(Fault::once("/token", busy));
    let client = mk_client_with_login(&registry, "ann", CANARY);
    client.fetch_manifest(&repository("shop/app"), "1.0").await.unwrap_err();
    let asked = registry.requests().len();
    let second = client.fetch_manifest(&repository("shop/app"), "1.0").await.unwrap_err();
    assert!(second.kind().not_before().is_some(), "{second:?}");
    assert_eq!(registry.requests().len(), asked);
}
