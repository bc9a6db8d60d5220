//! Logins of the client, and proof that they are sent to no other host.

mod common;

use common::{CANARY, chain, collect, log, mk_client, mk_client_with_login, mk_endpoint, repository};
use landfall_core::failure::FailureKind;
use landfall_core::oci_types::media_type;
use landfall_oci::client::{Endpoint, Login, RegistryClient};
use landfall_testkit::fake_registry::{Access, Effect, FakeRegistry, FakeRegistryOptions, Fault};
use landfall_testkit::image_builder::small_image;

fn basic() -> Access {
    Access::Basic {
        username: "ann".to_owned(),
        password: CANARY.to_owned(),
    }
}

fn bearer() -> Access {
    Access::Bearer {
        login: Some(("ann".to_owned(), CANARY.to_owned())),
        realm: String::new(),
    }
}

fn start(access: Access) -> FakeRegistry {
    let registry = FakeRegistry::start_with(FakeRegistryOptions {
        access,
        ..FakeRegistryOptions::default()
    });
    registry.add_image("shop/app", "1.0", &small_image("app"));
    registry
}

#[tokio::test]
async fn a_password_is_sent_once_it_was_asked_for_and_at_once_from_then_on() {
    let registry = start(basic());
    let client = mk_client_with_login(&registry, "ann", CANARY);
    client.fetch_manifest(&repository("shop/app"), "1.0").await.unwrap();
    client.fetch_manifest(&repository("shop/app"), "1.0").await.unwrap();
    assert_eq!(
        log(&registry),
        "GET /v2/ -> 401\n\
         GET /v2/shop/app/manifests/1.0 -> 401\n\
         GET /v2/shop/app/manifests/1.0 -> 200\n\
         GET /v2/shop/app/manifests/1.0 -> 200"
    );
}

#[tokio::test]
async fn a_token_is_taken_for_each_repository_and_used_again() {
    let registry = start(bearer());
    let client = mk_client_with_login(&registry, "ann", CANARY);
    for _ in 0..2 {
        client.fetch_manifest(&repository("shop/app"), "1.0").await.unwrap();
    }
    client.fetch_manifest(&repository("shop/db"), "1.0").await.unwrap_err();
    assert_eq!(
        log(&registry),
        "GET /v2/ -> 401\n\
         GET /v2/shop/app/manifests/1.0 -> 401\n\
         GET /token?service=fake&scope=repository%3Ashop%2Fapp%3Apull -> 200\n\
         GET /v2/shop/app/manifests/1.0 -> 200\n\
         GET /v2/shop/app/manifests/1.0 -> 200\n\
         GET /token?service=fake&scope=repository%3Ashop%2Fdb%3Apull -> 200\n\
         GET /v2/shop/db/manifests/1.0 -> 404"
    );
}

#[tokio::test]
async fn a_token_that_is_no_longer_accepted_is_taken_anew() {
    let registry = start(bearer());
    let client = mk_client_with_login(&registry, "ann", CANARY);
    client.fetch_manifest(&repository("shop/app"), "1.0").await.unwrap();
    registry.expire_tokens();
    registry.clear_requests();
    client.fetch_manifest(&repository("shop/app"), "1.0").await.unwrap();
    assert_eq!(
        log(&registry),
        "GET /v2/shop/app/manifests/1.0 -> 401\n\
         GET /token?service=fake&scope=repository%3Ashop%2Fapp%3Apull -> 200\n\
         GET /v2/shop/app/manifests/1.0 -> 200"
    );
}

#[tokio::test]
async fn an_anonymous_token_is_enough_where_the_registry_says_so() {
    let registry = start(Access::Bearer {
        login: None,
        realm: String::new(),
    });
    mk_client(&registry)
        .fetch_manifest(&repository("shop/app"), "1.0")
        .await
        .unwrap();
    assert!(
        registry
            .requests()
            .iter()
            .any(|request| request.path.starts_with("/token") && request.authorization.is_none())
    );
}

#[tokio::test]
async fn a_wrong_or_missing_login_is_one_clear_failure_without_the_password() {
    let wrong = "the login of user `ann` is not accepted: UNAUTHORIZED";
    let cases = [
        (basic(), true, wrong),
        (bearer(), true, wrong),
        (
            basic(),
            false,
            "the registry wants a login and none is configured for it: UNAUTHORIZED",
        ),
        (
            bearer(),
            false,
            "the registry wants a login and none is configured for it: UNAUTHORIZED",
        ),
    ];
    for (access, has_login, expected) in cases {
        let registry = start(access);
        let client = if has_login {
            mk_client_with_login(&registry, "ann", "canary-wrong-password")
        } else {
            mk_client(&registry)
        };
        let error = client.fetch_manifest(&repository("shop/app"), "1.0").await.unwrap_err();
        assert_eq!(error.kind(), FailureKind::Unauthorized);
        assert!(error.fault.to_string().starts_with(expected), "{}", error.fault);
        assert!(
            !format!("{error:?} {} {client:?}", chain(&error)).contains("canary"),
            "{error:?}"
        );
    }
}

#[tokio::test]
async fn a_password_that_the_registry_echoes_is_taken_out() {
    let registry = start(basic());
    let body = format!(
        r#"{{"errors":[{{"code":"DENIED","message":"bad password {CANARY}, sent as YW5uOmNhbmFyeS05ZjNhLXBhc3N3b3Jk"}}]}}"#
    );
    registry.inject(Fault::once("/manifests/", Effect::Status(403, vec![], body)));
    let client = mk_client_with_login(&registry, "ann", CANARY);
    let error = client.fetch_manifest(&repository("shop/app"), "1.0").await.unwrap_err();
    assert_eq!(
        error.fault.to_string(),
        "the registry answers 403 Forbidden: DENIED: bad password [redacted], sent as [redacted]"
    );
    assert!(!format!("{error:?}").contains("canary"));
}

#[tokio::test]
async fn a_redirect_elsewhere_is_followed_without_the_login() {
    for access in [basic(), bearer()] {
        let registry = start(access);
        // The other registry asks for a login too, and must not get one even then.
        let elsewhere = start(basic());
        let open = FakeRegistry::start();
        let blob = open.add_blob(media_type::OCI_LAYER, "content");
        let path = format!("/v2/shop/app/blobs/{}", blob.digest);
        let client = mk_client_with_login(&registry, "ann", CANARY);

        registry.inject(Fault::once(
            "/blobs/",
            Effect::Redirect(format!("{}{path}", open.url())),
        ));
        let stream = client.open_blob(&repository("shop/app"), &blob, 0).await.unwrap();
        assert_eq!(collect(stream).await.unwrap(), "content");

        registry.inject(Fault::once(
            "/blobs/",
            Effect::Redirect(format!("{}{path}", elsewhere.url())),
        ));
        let error = client.open_blob(&repository("shop/app"), &blob, 0).await.err().unwrap();
        assert_eq!(error.kind(), FailureKind::Unauthorized);

        for target in [&open, &elsewhere] {
            assert_eq!(target.requests().len(), 1);
            assert!(target.requests().iter().all(|request| request.authorization.is_none()));
        }
    }
}

#[tokio::test]
async fn an_upload_that_is_sent_elsewhere_goes_without_the_login() {
    let registry = start(basic());
    let elsewhere = FakeRegistry::start();
    let blob = FakeRegistry::start().add_blob(media_type::OCI_LAYER, "content");
    let location = format!("{}/v2/x/blobs/uploads/1", elsewhere.url());
    registry.inject(Fault::once("/uploads/", Effect::Delay(std::time::Duration::ZERO)).method("POST"));
    registry.inject(Fault::once("/uploads/", Effect::Location(location)).method("POST"));
    let client = mk_client_with_login(&registry, "ann", CANARY);
    let stream = Box::pin(futures_util::stream::iter([Ok("content".into())]));
    client.push_blob(&repository("shop/app"), &blob, stream).await.unwrap();
    assert_eq!(elsewhere.blob(&blob.digest).unwrap(), "content");
    assert_eq!(elsewhere.requests().len(), 1);
    assert_eq!(elsewhere.requests()[0].authorization, None);
}

#[tokio::test]
async fn a_redirect_of_an_uploads_start_is_followed_without_the_login_elsewhere() {
    for status in [307, 308] {
        let (registry, elsewhere) = (start(basic()), FakeRegistry::start());
        let client = mk_client_with_login(&registry, "ann", CANARY);
        client.ping().await.unwrap();
        let blob = FakeRegistry::start().add_blob(media_type::OCI_LAYER, "content");
        let to = |place: String| Effect::Status(status, vec![("location", place)], String::new());

        // Another path: the `Location` of the answer is relative to it.
        registry.inject(
            Fault::once(
                "/v2/shop/app/blobs/uploads/",
                to("/v2/real/app/blobs/uploads/".to_owned()),
            )
            .method("POST"),
        );
        let stream = || Box::pin(futures_util::stream::iter([Ok("content".into())]));
        client
            .push_blob(&repository("shop/app"), &blob, stream())
            .await
            .unwrap();
        assert_eq!(registry.blob(&blob.digest).unwrap(), "content", "{status}");

        let place = format!("{}/v2/real/app/blobs/uploads/", elsewhere.url());
        registry.inject(Fault::once("/v2/shop/app/blobs/uploads/", to(place)).method("POST"));
        client
            .push_blob(&repository("shop/app"), &blob, stream())
            .await
            .unwrap();
        assert_eq!(elsewhere.blob(&blob.digest).unwrap(), "content", "{status}");
        let seen = elsewhere.requests();
        assert!(seen.iter().all(|request| request.authorization.is_none()), "{seen:?}");
    }
}

#[tokio::test]
async fn another_host_cannot_send_a_write_back_with_the_login() {
    let (registry, elsewhere) = (start(basic()), FakeRegistry::start());
    let client = mk_client_with_login(&registry, "ann", CANARY);
    client.ping().await.unwrap();
    let back = format!("{}/v2/other/app/blobs/uploads/", registry.url());
    elsewhere.inject(Fault::once("/", Effect::Redirect(back)).method("POST"));
    registry.inject(Fault::once("/shop/app/", Effect::Redirect(format!("{}/x", elsewhere.url()))).method("POST"));
    let blob = FakeRegistry::start().add_blob(media_type::OCI_LAYER, "content");
    let stream = Box::pin(futures_util::stream::iter([Ok("content".into())]));
    let error = client
        .push_blob(&repository("shop/app"), &blob, stream)
        .await
        .unwrap_err();
    assert!(
        error.fault.to_string().contains("named by another host"),
        "{}",
        error.fault
    );
    let other = registry
        .requests()
        .into_iter()
        .filter(|request| request.path.contains("other"));
    assert_eq!(other.count(), 0);
}

#[tokio::test]
async fn a_login_goes_to_no_other_port_of_the_registry_by_plain_http() {
    let other = FakeRegistry::start_with(FakeRegistryOptions {
        access: bearer(),
        ..FakeRegistryOptions::default()
    });
    let registry = start(Access::Bearer {
        login: Some(("ann".to_owned(), CANARY.to_owned())),
        realm: format!("{}/token", other.url()),
    });
    let client = mk_client_with_login(&registry, "ann", CANARY);
    let error = client.fetch_manifest(&repository("shop/app"), "1.0").await.unwrap_err();
    assert!(error.fault.to_string().contains("another port"), "{}", error.fault);
    assert!(other.requests().is_empty());
}

/// The token server is on another host than the registry, and both use plain HTTP: on the registry's host it
/// would be trusted, on another one it is not.
#[tokio::test]
async fn a_token_server_elsewhere_sees_neither_login_nor_request() {
    let elsewhere = FakeRegistry::start_with(FakeRegistryOptions {
        access: bearer(),
        name: "localhost".to_owned(),
        ..FakeRegistryOptions::default()
    });
    let registry = start(Access::Bearer {
        login: Some(("ann".to_owned(), CANARY.to_owned())),
        realm: format!("{}/token", elsewhere.url()),
    });
    let login = Login {
        username: "ann".to_owned(),
        password: CANARY.to_owned().into(),
    };
    let endpoint = Endpoint {
        login: Some(login),
        ..mk_endpoint(&registry)
    };
    let client = RegistryClient::new(endpoint.clone()).unwrap();
    let error = client.fetch_manifest(&repository("shop/app"), "1.0").await.unwrap_err();
    assert_eq!(
        error.fault.to_string(),
        format!(
            "the registry names the token server `{}`, which is another host and not reached by https; nothing was sent \
             there",
            elsewhere.host()
        )
    );
    assert!(elsewhere.requests().is_empty());

    let listed = Endpoint {
        token_servers: vec![elsewhere.host()],
        ..endpoint
    };
    let client = RegistryClient::new(listed).unwrap();
    // The token of the other server is not valid here; only the request for it is under test.
    client.fetch_manifest(&repository("shop/app"), "1.0").await.unwrap_err();
    assert_eq!(elsewhere.requests()[0].authorization.as_deref(), Some("Basic"));
}

#[tokio::test]
async fn harbor_is_asked_for_a_project_with_the_login_itself() {
    let registry = start(bearer());
    let client = mk_client_with_login(&registry, "ann", CANARY);
    client.ping().await.unwrap();
    let answer = |status| Effect::Status(status, vec![], String::new());
    let cases = [
        (vec![("HEAD", 200)], Ok(false)),
        (vec![("HEAD", 404), ("POST", 201)], Ok(true)),
        (vec![("HEAD", 404), ("POST", 409)], Ok(false)),
        (vec![("HEAD", 404), ("POST", 403)], Err(FailureKind::Forbidden)),
    ];
    for (answers, expected) in cases {
        registry.clear_requests();
        for (method, status) in answers {
            registry.inject(Fault::once("/api/v2.0/projects", answer(status)).method(method));
        }
        let ensured = client
            .ensure_project("spectro-images")
            .await
            .map_err(|error| error.kind());
        assert_eq!(ensured, expected, "{}", log(&registry));
        assert!(
            registry
                .requests()
                .iter()
                .all(|request| request.authorization.as_deref() == Some("Basic"))
        );
    }
}
