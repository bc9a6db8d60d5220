//! The routes of the webhook, called without a server.

#![expect(clippy::unwrap_used, reason = "test set-up")]

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::body::{Body, to_bytes};
use axum::extract::ConnectInfo;
use axum::http::{Request, StatusCode};
use futures_util::{StreamExt as _, stream};
use landfall_agent::metrics::Metrics;
use landfall_agent::webhook::{PrimaryProbe, Reviewer, WebhookRules, webhook_router};
use landfall_core::config::{Inputs, parse_settings};
use landfall_core::diagnostic::NamedText;
use landfall_core::opt_out::OptOut;
use landfall_core::reference::ImageReference;
use landfall_core::settings::Settings;
use landfall_core::status::AgentStatus;
use tower::ServiceExt as _;

fn mk_settings(domain: &str) -> Arc<Settings> {
    let text = format!(
        "#cloud-config\nstylus:\n  registryCredentials:\n    domain: {domain}\nlandfall:\n  primary:\n    endpoint: 127.0.0.1:5999\n"
    );
    let inputs = Inputs {
        user_data: vec![NamedText::new("user-data.yaml", &text)],
        ..Inputs::default()
    };
    let (settings, diagnostics) = parse_settings(&inputs);
    assert!(!diagnostics.has_errors());
    Arc::new(settings.unwrap())
}

fn mk_rules(domain: &str, primary: &[&str]) -> WebhookRules {
    let primary: HashSet<_> = primary.iter().map(|reference| reference.parse().unwrap()).collect();
    WebhookRules::new(mk_settings(domain), primary)
}

struct Webhook {
    reviewer: Reviewer,
    metrics: Metrics,
}

fn start(rules: WebhookRules) -> Webhook {
    let metrics = Metrics::new();
    Webhook {
        reviewer: Reviewer::new(rules, metrics.clone()),
        metrics,
    }
}

impl Webhook {
    async fn post(&self, body: impl Into<Body>) -> (StatusCode, String) {
        let request = Request::post("/mutate")
            .header("content-type", "application/json")
            .body(body.into())
            .unwrap();
        let response = webhook_router(self.reviewer.clone()).oneshot(request).await.unwrap();
        let status = response.status();
        let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    /// Returns the image that the webhook gives the first container.
    async fn image_of(&self, image: &str) -> Option<String> {
        let (status, body) = self.post(mk_review(image)).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        let answer: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(answer["response"]["allowed"], true);
        let patch = decode_base64(answer["response"]["patch"].as_str()?);
        let patch: serde_json::Value = serde_json::from_slice(&patch).unwrap();
        let replace = patch
            .as_array()
            .unwrap()
            .iter()
            .find(|step| step["op"] == "replace")
            .unwrap();
        Some(replace["value"].as_str().unwrap().to_owned())
    }
}

fn mk_review(image: &str) -> String {
    serde_json::json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "1", "operation": "CREATE", "namespace": "default",
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "object": {
                "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"},
                "spec": {"containers": [{"name": "a", "image": image}]},
            },
        },
    })
    .to_string()
}

fn decode_base64(text: &str) -> Vec<u8> {
    let value = |byte: u8| "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".find(char::from(byte));
    let digits: Vec<usize> = text.bytes().filter_map(value).collect();
    let mut bytes = Vec::new();
    for four in digits.chunks(4) {
        let number = four.iter().fold(0, |number, digit| number << 6 | digit) << (6 * (4 - four.len()));
        bytes.extend(&u32::try_from(number).unwrap().to_be_bytes()[1..four.len()]);
    }
    bytes
}

#[tokio::test]
async fn image_comes_from_the_primary_registry_once_it_is_there_and_from_the_external_one_before() {
    let webhook = start(mk_rules("reg:5000", &[]));
    assert_eq!(
        webhook.image_of("nginx:1").await.as_deref(),
        Some("reg:5000/docker.io/library/nginx:1")
    );
    let target = "127.0.0.1:5999/spectro-images/reg_5000/docker.io/library/nginx:1";
    webhook.reviewer.replace_rules(mk_rules("reg:5000", &[target]));
    assert_eq!(webhook.image_of("nginx:1").await.as_deref(), Some(target));
}

/// A primary registry in which an image may be deleted, and that may serve one out of a bundle.
#[derive(Debug, Default)]
struct OwnPrimary {
    is_gone: AtomicBool,
    has_bundle: AtomicBool,
}

impl PrimaryProbe for OwnPrimary {
    fn can_serve(&self, _image: &ImageReference) -> bool {
        !self.is_gone.load(Ordering::Relaxed)
    }

    fn serves_in_place(&self, _image: &ImageReference) -> bool {
        self.has_bundle.load(Ordering::Relaxed)
    }
}

#[tokio::test]
async fn image_of_a_bundle_comes_from_the_primary_registry_while_the_bundle_is_there() {
    let target = "127.0.0.1:5999/spectro-images/reg_5000/docker.io/library/nginx:1";
    let elsewhere = "reg:5000/docker.io/library/nginx:1";
    let primary = Arc::new(OwnPrimary::default());
    let webhook = start(mk_rules("reg:5000", &[]).with_probe(Some(primary.clone())));
    for (has_bundle, expected) in [(false, elsewhere), (true, target), (false, elsewhere)] {
        primary.has_bundle.store(has_bundle, Ordering::Relaxed);
        assert_eq!(webhook.image_of("nginx:1").await.as_deref(), Some(expected));
    }
}

#[tokio::test]
async fn image_that_is_deleted_in_the_primary_registry_comes_from_the_external_one_at_once() {
    let target = "127.0.0.1:5999/spectro-images/reg_5000/docker.io/library/nginx:1";
    let primary = Arc::new(OwnPrimary::default());
    let webhook = start(mk_rules("reg:5000", &[target]).with_probe(Some(primary.clone())));
    assert_eq!(webhook.image_of("nginx:1").await.as_deref(), Some(target));
    primary.is_gone.store(true, Ordering::Relaxed);
    assert_eq!(
        webhook.image_of("nginx:1").await.as_deref(),
        Some("reg:5000/docker.io/library/nginx:1")
    );
}

#[tokio::test]
async fn new_configuration_holds_from_the_next_review_on() {
    let webhook = start(mk_rules("one:5000", &[]));
    assert_eq!(
        webhook.image_of("nginx:1").await.as_deref(),
        Some("one:5000/docker.io/library/nginx:1")
    );
    webhook.reviewer.replace_rules(mk_rules("two:5000", &[]));
    assert_eq!(
        webhook.image_of("nginx:1").await.as_deref(),
        Some("two:5000/docker.io/library/nginx:1")
    );
}

#[tokio::test]
async fn choice_of_a_namespace_holds_from_the_next_review_on() {
    let webhook = start(mk_rules("one:5000", &[]));
    assert!(webhook.image_of("nginx:1").await.is_some());
    webhook
        .reviewer
        .replace_choices([("default".to_owned(), OptOut::Node)].into());
    assert_eq!(webhook.image_of("nginx:1").await, None);
    webhook
        .reviewer
        .replace_choices([("other".to_owned(), OptOut::Node)].into());
    assert!(webhook.image_of("nginx:1").await.is_some());
}

#[tokio::test]
async fn what_is_no_review_is_refused_and_counted() {
    let webhook = start(mk_rules("reg:5000", &[]));
    assert_eq!(
        webhook.post("{").await,
        (
            StatusCode::BAD_REQUEST,
            r#"{"error":"cannot read the body as an AdmissionReview"}"#.to_owned()
        )
    );
    assert_eq!(webhook.image_of("localhost/a:1").await, None);
    webhook.image_of("nginx:1").await;
    let text = webhook
        .metrics
        .render(&AgentStatus::starting(jiff::Timestamp::UNIX_EPOCH));
    let mut counts: Vec<_> = text
        .lines()
        .filter(|line| line.starts_with("landfall_webhook_re") && !line.contains("duration"))
        .collect();
    counts.sort_unstable();
    insta::assert_snapshot!(counts.join("\n"), @r#"
    landfall_webhook_registrations_total 0
    landfall_webhook_reviews_total{answer="Patched"} 1
    landfall_webhook_reviews_total{answer="Refused"} 1
    landfall_webhook_reviews_total{answer="Unchanged"} 1
    landfall_webhook_rewrites_total 1
    "#);
}

#[tokio::test]
async fn body_beyond_the_limit_is_refused() {
    let webhook = start(mk_rules("reg:5000", &[]));
    assert_eq!(
        webhook.post(vec![b' '; (8 << 20) + 1]).await.0,
        StatusCode::PAYLOAD_TOO_LARGE
    );
}

#[tokio::test]
async fn reviews_that_never_arrive_whole_hold_no_more_than_their_budget() {
    let webhook = start(mk_rules("reg:5000", &[]));
    let router = webhook_router(webhook.reviewer.clone());
    let post = |client: u8, body: Body| {
        let mut request = Request::post("/mutate").body(body).unwrap();
        let peer = SocketAddr::from(([10, 0, 0, client], 1234));
        request.extensions_mut().insert(ConnectInfo(peer));
        router.clone().oneshot(request)
    };
    let mut open = Vec::new();
    for _ in 0..60 {
        let first = stream::iter([Ok::<_, std::io::Error>(vec![b'['; 7 << 20])]);
        let mut sending = Box::pin(post(1, Body::from_stream(first.chain(stream::pending()))));
        match futures_util::poll!(sending.as_mut()) {
            std::task::Poll::Pending => open.push(sending),
            std::task::Poll::Ready(answer) => assert_eq!(answer.unwrap().status(), StatusCode::SERVICE_UNAVAILABLE),
        }
    }
    assert_eq!(open.len(), 2, "16 MiB for one client");
    let other = post(2, Body::from(mk_review("nginx:1"))).await.unwrap();
    assert_eq!(other.status(), StatusCode::OK);
    drop(open);
    let again = post(1, Body::from(mk_review("nginx:1"))).await.unwrap();
    assert_eq!(again.status(), StatusCode::OK);
}

#[tokio::test]
async fn health_is_answered_without_the_rules() {
    let webhook = start(mk_rules("reg:5000", &[]));
    let request = Request::get("/healthz").body(Body::empty()).unwrap();
    let response = webhook_router(webhook.reviewer.clone()).oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
}
