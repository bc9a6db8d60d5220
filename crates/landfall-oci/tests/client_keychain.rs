//! Logins from Docker's and Palette's files and from credential helpers, and the tokens obtained with them.

#![expect(clippy::unwrap_used, reason = "test set-up")]
#![expect(clippy::disallowed_methods, reason = "test set-up")]

mod common;

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use camino::Utf8PathBuf;
use common::{CANARY, chain, log, mk_bytes, mk_endpoint, repository};
use futures_util::future::join_all;
use landfall_core::failure::{FailureKind, Hint as _};
use landfall_core::oci_types::media_type;
use landfall_oci::client::{Endpoint, RegistryClient};
use landfall_oci::keychain::{Keychain, LoginFilePath};
use landfall_testkit::fake_registry::{Access, Effect, FakeRegistry, FakeRegistryOptions, Fault};
use landfall_testkit::image_builder::small_image;
use tempfile::TempDir;

fn bearer() -> Access {
    Access::Bearer {
        login: Some(("ann".to_owned(), CANARY.to_owned())),
        realm: String::new(),
    }
}

fn basic() -> Access {
    Access::Basic {
        username: "ann".to_owned(),
        password: CANARY.to_owned(),
    }
}

fn start(access: Access) -> FakeRegistry {
    let registry = FakeRegistry::start_with(FakeRegistryOptions {
        access,
        identity_token: Some(CANARY.to_owned()),
        ..FakeRegistryOptions::default()
    });
    registry.add_image("shop/app", "1.0", &small_image("app"));
    registry
}

/// A keychain of one file with this text, in which `HOST` is the registry and `AUTH` the correct login.
struct Fixture {
    directory: TempDir,
    registry: FakeRegistry,
}

impl Fixture {
    fn new(access: Access, text: &str) -> Fixture {
        let fixture = Fixture {
            directory: TempDir::new().unwrap(),
            registry: start(access),
        };
        fixture.write(text);
        fixture
    }

    fn path(&self) -> Utf8PathBuf {
        self.directory.path().join("config.json").try_into().unwrap()
    }

    fn write(&self, text: &str) {
        let text = text
            .replace("HOST", self.registry.host().as_str())
            .replace("AUTH", &STANDARD.encode(format!("ann:{CANARY}")))
            .replace("CANARY", CANARY);
        std::fs::write(self.path(), text).unwrap();
    }

    fn client(&self, file: fn(Utf8PathBuf) -> LoginFilePath) -> RegistryClient {
        let helpers = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/helpers:/usr/bin:/bin");
        let keychain = Keychain::new(vec![file(self.path())]).with_helper_path(helpers.into());
        RegistryClient::new(Endpoint {
            keychain: Some(Arc::new(keychain)),
            ..mk_endpoint(&self.registry)
        })
        .unwrap()
    }
}

#[tokio::test]
async fn a_login_is_taken_from_the_file_that_has_one() {
    let docker = r#"{"auths": {"HOST": {"auth": "AUTH"}}}"#;
    let by_path = r#"{"auths": {"HOST": {"auth": "d3Jvbmc6d3Jvbmc="}, "HOST/shop": {"auth": "AUTH"}}}"#;
    let palette = r#"{"image": [{"endpoint": "http://HOST/shop", "username": "ann", "password": "CANARY"}]}"#;
    for access in [basic(), bearer()] {
        for (text, file) in [
            (docker, LoginFilePath::Standard as fn(_) -> _),
            (docker, LoginFilePath::Named),
            (by_path, LoginFilePath::Standard),
            (palette, LoginFilePath::Named),
        ] {
            let fixture = Fixture::new(access.clone(), text);
            let client = fixture.client(file);
            client.fetch_manifest(&repository("shop/app"), "1.0").await.unwrap();
        }
    }
}

#[tokio::test]
async fn an_identity_token_is_exchanged_for_a_token_of_the_least_scope() {
    let fixture = Fixture::new(bearer(), r#"{"auths": {"HOST": {"identitytoken": "CANARY"}}}"#);
    let client = fixture.client(LoginFilePath::Standard);
    client.fetch_manifest(&repository("shop/app"), "1.0").await.unwrap();
    assert_eq!(
        log(&fixture.registry),
        "GET /v2/ -> 401\n\
         GET /v2/shop/app/manifests/1.0 -> 401\n\
         POST /token -> 200\n\
         GET /v2/shop/app/manifests/1.0 -> 200"
    );
}

#[tokio::test]
async fn a_refused_login_says_which_file_or_helper_it_is_from() {
    let cases = [
        (
            r#"{"auths": {"HOST": {"username": "bob", "password": "canary-2"}}}"#,
            "the login of user `bob` from file `FILE` is not accepted: UNAUTHORIZED",
        ),
        (
            r#"{"credHelpers": {"HOST": "good"}}"#,
            "the login of user `ann at HOST` from helper `docker-credential-good` is not accepted: UNAUTHORIZED",
        ),
        (
            r#"{"auths": {"HOST": {"identitytoken": "canary-2"}}}"#,
            "the login of user `<token>` from file `FILE` is not accepted: UNAUTHORIZED",
        ),
        (
            r#"{"credsStore": "angry"}"#,
            "the login for the registry cannot be looked up: cannot get the login that `FILE` leaves to a helper: \
             the credential helper `docker-credential-angry` failed for `HOST`: it ended with exit status: 3: \
             no session: run `cloud login`",
        ),
        (
            r#"{"auths": {"HOST": {"auth": "canary"}}}"#,
            "the login for the registry cannot be looked up: cannot use the logins in `FILE`: the entry `HOST` is not \
             usable: `auth` is not base64",
        ),
        (
            r#"{"auths": {"canary""#,
            "the login for the registry cannot be looked up: cannot use the logins in `FILE`: line 1, column 19: the \
             JSON ends too early",
        ),
    ];
    for (text, expected) in cases {
        let fixture = Fixture::new(bearer(), text);
        let client = fixture.client(LoginFilePath::Standard);
        let error = client.fetch_manifest(&repository("shop/app"), "1.0").await.unwrap_err();
        let said = chain(&*error.fault)
            .replace(fixture.path().as_str(), "FILE")
            .replace(fixture.registry.host().as_str(), "HOST");
        assert!(said.starts_with(expected), "{said}");
        let is_of_the_helper = error.hint().is_some_and(|hint| hint.starts_with("run the helper"));
        assert_eq!(is_of_the_helper, text.contains("angry"), "{said}");
        assert!(!format!("{said} {error:?}").contains("canary"), "{error:?}");
    }
}

#[tokio::test]
async fn a_file_that_is_not_there_is_none_unless_the_user_named_it() {
    let fixture = Fixture::new(
        Access::Bearer {
            login: None,
            realm: String::new(),
        },
        "",
    );
    std::fs::remove_file(fixture.path()).unwrap();
    let usual = fixture.client(LoginFilePath::Standard);
    usual.fetch_manifest(&repository("shop/app"), "1.0").await.unwrap();
    let named = fixture.client(LoginFilePath::Named);
    let error = named.fetch_manifest(&repository("shop/app"), "1.0").await.unwrap_err();
    assert_eq!(error.kind(), FailureKind::Local);
}

#[tokio::test]
async fn a_login_that_was_refused_is_read_anew_for_the_next_attempt() {
    let fixture = Fixture::new(basic(), r#"{"auths": {"HOST": {"auth": "d3Jvbmc6d3Jvbmc="}}}"#);
    let client = fixture.client(LoginFilePath::Standard);
    client.ping().await.unwrap_err();
    fixture.write(r#"{"auths": {"HOST": {"auth": "AUTH"}}}"#);
    client.ping().await.unwrap();
}

#[tokio::test]
async fn all_who_need_a_token_wait_for_one() {
    let fixture = Fixture::new(bearer(), r#"{"auths": {"HOST": {"auth": "AUTH"}}}"#);
    let client = fixture.client(LoginFilePath::Standard);
    for _ in 0..2 {
        fixture.registry.clear_requests();
        let repository = repository("shop/app");
        let fetches = (0..8).map(|_| client.fetch_manifest(&repository, "1.0"));
        join_all(fetches)
            .await
            .into_iter()
            .for_each(|fetched| drop(fetched.unwrap()));
        let asked = log(&fixture.registry).matches("/token").count();
        assert_eq!(asked, 1, "{}", log(&fixture.registry));
        fixture.registry.expire_tokens();
    }
}

#[tokio::test]
async fn a_token_that_ends_in_the_middle_of_a_push_is_replaced_for_the_next_attempt() {
    let fixture = Fixture::new(bearer(), r#"{"auths": {"HOST": {"auth": "AUTH"}}}"#);
    let client = fixture.client(LoginFilePath::Standard);
    let bytes = mk_bytes(300_000);
    let blob = FakeRegistry::start().add_blob(media_type::OCI_LAYER, bytes.clone());
    let challenge = format!(r#"Bearer realm="{}/token",service="fake""#, fixture.registry.url());
    let refusal = Effect::Status(401, vec![("www-authenticate", challenge)], String::new());
    fixture.registry.inject(Fault::once("/uploads/", refusal).method("PUT"));
    let stream = |bytes| Box::pin(futures_util::stream::iter([Ok(bytes)]));
    let to = repository("shop/app");

    let error = client.push_blob(&to, &blob, stream(bytes.clone())).await.unwrap_err();
    assert_eq!(
        error.kind(),
        FailureKind::Unreachable,
        "it is worth another attempt: {error:?}"
    );
    fixture.registry.expire_tokens();
    // A request without a body can be repeated at once.
    client.push_blob(&to, &blob, stream(bytes.clone())).await.unwrap();
    assert_eq!(fixture.registry.blob(&blob.digest).unwrap(), bytes);
}
