//! The node-local mirror with registries that have the image, lack it, are down, or refuse.

#![expect(clippy::unwrap_used, reason = "test set-up")]

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use http::{Method, Request, Response, StatusCode};
use landfall_core::reference::{RegistryHost, Repository};
use landfall_net::tls::TlsPolicy;
use landfall_oci::client::{Endpoint, Login, RegistryClient, RegistryError};
use landfall_oci::content::place::Place;
use landfall_oci::content::places::Places;
use landfall_registry::mirror::{MirrorSource, MirrorSources, mirror_service};
use landfall_testkit::fake_content::FakeContent;
use landfall_testkit::fake_registry::{Access, Effect, FakeRegistry, FakeRegistryOptions, Fault};
use landfall_testkit::image_builder::small_image;
use tower::ServiceExt as _;

/// A password that must not appear anywhere.
const CANARY: &str = "canary-9f3a-password";

fn mk_client(registry: &FakeRegistry) -> RegistryClient {
    RegistryClient::new(mk_endpoint(registry)).unwrap()
}

fn mk_client_with_login(registry: &FakeRegistry, username: &str, password: &str) -> RegistryClient {
    let mut endpoint = mk_endpoint(registry);
    endpoint.login = Some(Login {
        username: username.to_owned(),
        password: password.to_owned().into(),
    });
    RegistryClient::new(endpoint).unwrap()
}

fn mk_endpoint(registry: &FakeRegistry) -> Endpoint {
    let mut endpoint = Endpoint::new(registry.host());
    endpoint.tls = TlsPolicy {
        insecure: true,
        certificates: Vec::new(),
    };
    endpoint
}

/// Sources of the test: the same for every repository of `docker.io`, under its own name, and none for other
/// registries.
#[derive(Debug)]
struct Fixed(Vec<RegistryClient>);

impl MirrorSources for Fixed {
    fn sources(&self, registry: &RegistryHost, repository: &Repository) -> Result<Vec<MirrorSource>, RegistryError> {
        let clients = self.0.iter().filter(|_| registry.is_docker_hub());
        Ok(clients
            .map(|client| MirrorSource {
                client: client.clone(),
                repository: repository.clone(),
            })
            .collect())
    }
}

fn mirror(clients: &[RegistryClient]) -> Router {
    mirror_service(Arc::new(Fixed(clients.to_vec())))
}

async fn ask(mirror: &Router, method: Method, path: &str, range: Option<&str>) -> Response<Body> {
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "127.0.0.1:5081");
    if let Some(range) = range {
        request = request.header("range", range);
    }
    mirror
        .clone()
        .oneshot(request.body(Body::empty()).unwrap())
        .await
        .unwrap()
}

async fn body_of(response: Response<Body>) -> Vec<u8> {
    to_bytes(response.into_body(), usize::MAX).await.unwrap().to_vec()
}

fn filled() -> FakeRegistry {
    let registry = FakeRegistry::start();
    registry.add_image("library/nginx", "1", &small_image("nginx"));
    registry
}

const MANIFEST: &str = "/v2/library/nginx/manifests/1?ns=docker.io";

#[tokio::test]
async fn a_manifest_comes_from_the_first_place_that_has_it() {
    let (empty, full) = (FakeRegistry::start(), filled());
    let mirror = mirror(&[mk_client(&empty), mk_client(&full)]);
    let image = small_image("nginx");
    let by_tag = ask(&mirror, Method::GET, MANIFEST, None).await;
    assert_eq!(by_tag.status(), StatusCode::OK);
    assert_eq!(by_tag.headers()["docker-content-digest"], image.root.digest.as_str());
    let by_digest = format!("/v2/library/nginx/manifests/{}?ns=docker.io", image.root.digest);
    let head = ask(&mirror, Method::HEAD, &by_digest, None).await;
    assert_eq!(
        head.headers()["content-length"].to_str().unwrap(),
        image.root.size.to_string()
    );
    assert_eq!(body_of(by_tag).await.len() as u64, image.root.size);
}

#[tokio::test]
async fn a_blob_and_a_part_of_it_pass_through() {
    let full = filled();
    let mirror = mirror(&[mk_client(&full)]);
    let image = small_image("nginx");
    let (digest, bytes) = image.blobs.iter().max_by_key(|(_, bytes)| bytes.len()).unwrap();
    let path = format!("/v2/library/nginx/blobs/{digest}?ns=docker.io");
    let whole = ask(&mirror, Method::GET, &path, None).await;
    assert_eq!((whole.status(), body_of(whole).await), (StatusCode::OK, bytes.to_vec()));
    for (range, expected) in [("bytes=5-", &bytes[5..]), ("bytes=2-6", &bytes[2..7])] {
        let part = ask(&mirror, Method::GET, &path, Some(range)).await;
        assert_eq!(
            (part.status(), body_of(part).await),
            (StatusCode::PARTIAL_CONTENT, expected.to_vec()),
            "{range}"
        );
    }
    let beyond = ask(&mirror, Method::GET, &path, Some("bytes=99999999-")).await;
    assert_eq!(beyond.status(), StatusCode::RANGE_NOT_SATISFIABLE);
}

#[tokio::test]
async fn a_place_that_fails_is_passed_over_and_told_only_when_none_has_it() {
    let (broken, full) = (FakeRegistry::start(), filled());
    broken.inject(Fault::once("library/nginx", Effect::Status(503, Vec::new(), String::new())).always());
    let both = mirror(&[mk_client(&broken), mk_client(&full)]);
    assert_eq!(ask(&both, Method::GET, MANIFEST, None).await.status(), StatusCode::OK);
    let answer = ask(&mirror(&[mk_client(&broken)]), Method::GET, MANIFEST, None).await;
    assert_eq!(answer.status(), StatusCode::BAD_GATEWAY);
    assert!(String::from_utf8(body_of(answer).await).unwrap().contains("503"));
}

#[tokio::test]
async fn no_answer_is_ever_a_challenge_and_the_login_stays_here() {
    let registry = FakeRegistry::start_with(FakeRegistryOptions {
        access: Access::Basic {
            username: "edge".to_owned(),
            password: CANARY.to_owned(),
        },
        ..FakeRegistryOptions::default()
    });
    registry.add_image("library/nginx", "1", &small_image("nginx"));
    let with_login = mirror(&[mk_client_with_login(&registry, "edge", CANARY)]);
    assert_eq!(
        ask(&with_login, Method::GET, MANIFEST, None).await.status(),
        StatusCode::OK
    );
    let refused = ask(
        &mirror(&[mk_client_with_login(&registry, "edge", "wrong")]),
        Method::GET,
        MANIFEST,
        None,
    )
    .await;
    assert_eq!(refused.status(), StatusCode::BAD_GATEWAY);
    assert!(!refused.headers().contains_key("www-authenticate"));
    assert!(!String::from_utf8(body_of(refused).await).unwrap().contains("wrong"));
}

#[tokio::test]
async fn where_the_rules_name_no_place_nobody_is_asked() {
    let full = filled();
    let mirror = mirror(&[mk_client(&full)]);
    let answer = ask(&mirror, Method::GET, "/v2/library/nginx/manifests/1?ns=quay.io", None).await;
    assert_eq!(answer.status(), StatusCode::NOT_FOUND);
    assert!(full.requests().is_empty(), "a registry was asked");
}

/// Sources of the test, and a place.
#[derive(Debug)]
struct WithPlaces(Fixed, Places);

impl MirrorSources for WithPlaces {
    fn sources(&self, registry: &RegistryHost, repository: &Repository) -> Result<Vec<MirrorSource>, RegistryError> {
        self.0.sources(registry, repository)
    }

    fn places(&self) -> Option<&Places> {
        Some(&self.1)
    }
}

#[tokio::test]
async fn a_bundle_answers_for_a_registry_that_lacks_the_image_or_is_down() {
    let (old, new) = (small_image("old"), small_image("new"));
    let content = Arc::new(FakeContent::new(&[("nginx:1", &old), ("nginx:2", &old)]));
    let places = Places::default();
    places.add(&Place::open(content.clone(), |_| Vec::new()).await).unwrap();
    let registry = FakeRegistry::start();
    registry.add_image("library/nginx", "1", &new);
    let fixed = Fixed(vec![mk_client(&registry)]);
    let sources = Arc::new(WithPlaces(fixed, places));
    let mirror = mirror_service(sources.clone());
    let digest_of_tag = async |tag: &str| {
        let path = format!("/v2/library/nginx/manifests/{tag}?ns=docker.io");
        let answer = ask(&mirror, Method::GET, &path, None).await;
        assert_eq!(answer.status(), StatusCode::OK, "{tag}");
        answer.headers()["docker-content-digest"].to_str().unwrap().to_owned()
    };
    assert_eq!(
        digest_of_tag("1").await,
        new.root.digest.as_str(),
        "a registry knows the tag better"
    );
    assert_eq!(digest_of_tag("2").await, old.root.digest.as_str());
    let before = registry.requests().len();
    for (digest, bytes) in old.all_content() {
        let kind = if *digest == old.root.digest {
            "manifests"
        } else {
            "blobs"
        };
        let path = format!("/v2/library/nginx/{kind}/{digest}?ns=docker.io");
        let answer = ask(&mirror, Method::GET, &path, None).await;
        assert_eq!(
            (answer.status(), body_of(answer).await),
            (StatusCode::OK, bytes.to_vec())
        );
        let head = ask(&mirror, Method::HEAD, &path, None).await;
        assert_eq!(
            head.headers()["content-length"].to_str().unwrap(),
            bytes.len().to_string()
        );
        let other = path.replace("docker.io", "quay.io");
        assert_eq!(
            ask(&mirror, Method::GET, &other, None).await.status(),
            StatusCode::NOT_FOUND
        );
    }
    assert_eq!(registry.requests().len(), before, "the bundle has the bytes");
    content.pull();
    let layer = old.blobs.keys().next().unwrap();
    let path = format!("/v2/library/nginx/blobs/{layer}?ns=docker.io");
    registry.add_image("library/nginx", "2", &old);
    assert_eq!(ask(&mirror, Method::GET, &path, None).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn what_is_no_pull_by_this_machine_is_refused() {
    let mirror = mirror(&[]);
    for (method, path, expected) in [
        (Method::GET, "/v2/", StatusCode::OK),
        (Method::PUT, MANIFEST, StatusCode::METHOD_NOT_ALLOWED),
        (Method::GET, "/v2/library/nginx/manifests/1", StatusCode::BAD_REQUEST),
        (
            Method::GET,
            "/v2/library/nginx/tags/list?ns=docker.io",
            StatusCode::NOT_FOUND,
        ),
    ] {
        assert_eq!(ask(&mirror, method, path, None).await.status(), expected, "{path}");
    }
    let foreign = Request::builder()
        .uri("/v2/")
        .header("host", "evil.example.com")
        .body(Body::empty())
        .unwrap();
    assert_eq!(
        mirror.clone().oneshot(foreign).await.unwrap().status(),
        StatusCode::MISDIRECTED_REQUEST
    );
}

#[tokio::test]
async fn nothing_but_a_tag_or_a_digest_becomes_a_part_of_a_url() {
    let full = filled();
    full.add_image("priv/x", "v1", &small_image("private"));
    let mirror = mirror(&[mk_client(&full)]);
    for (path, status) in [
        (
            "/v2/a/b/manifests/..%5c..%5c..%5c..%5cpriv%5cx%5cmanifests%5cv1?ns=docker.io",
            404,
        ),
        ("/v2/a/b/manifests/..%5C..%5Cblobs?ns=docker.io", 404),
        ("/v2/a/b/manifests/v1%3fq=1?ns=docker.io", 404),
        ("/v2/a/b/manifests/v1%23x?ns=docker.io", 404),
        ("/v2/a/b/manifests/v1%2525?ns=docker.io", 404),
        ("/v2/a/b/manifests/..?ns=docker.io", 404),
        ("/v2/a/b/manifests/%2e%2e?ns=docker.io", 404),
        ("/v2/a/b/manifests/?ns=docker.io", 404),
        ("/v2/a/b/manifests/v1%00?ns=docker.io", 404),
        ("/v2/a/b/manifests/v1%0d%0aX:y?ns=docker.io", 404),
        ("/v2/a/b/manifests/sha256:..%5c..?ns=docker.io", 404),
        ("/v2/a%5c..%5cpriv/x/manifests/v1?ns=docker.io", 400),
        ("/v2/a/..%2fpriv/x/manifests/v1?ns=docker.io", 400),
        ("/v2/a/blobs/sha256:..%5c..?ns=docker.io", 400),
        ("/v2/priv/x/manifests/v1?ns=docker.io%2fpriv", 400),
        ("/v2/priv/x/manifests/v1?ns=docker.io%3fq", 400),
        ("/v2/priv/x/manifests/v1?ns=user@docker.io", 400),
    ] {
        for method in [Method::GET, Method::HEAD] {
            let answer = ask(&mirror, method.clone(), path, None).await;
            assert_eq!(answer.status().as_u16(), status, "{method} {path}");
        }
    }
    assert!(full.requests().is_empty(), "a registry was asked");
}
