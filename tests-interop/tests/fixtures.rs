//! Tests of the fixtures themselves: the properties that other tests rely on.

use landfall_tests_interop::docker_registry::{Account, DockerRegistry};
use landfall_tests_interop::https::HttpsClient;
use landfall_tests_interop::images::{NamedImage, profile_images, push_images};
use landfall_tests_interop::skopeo::{Access, Skopeo};
use landfall_tests_interop::tls::PrivateAuthority;

fn https(authority: &PrivateAuthority) -> HttpsClient<'_> {
    HttpsClient {
        authority: Some(authority.pem()),
        account: None,
    }
}

#[test]
fn a_registry_with_an_account_refuses_strangers_and_logs_it() {
    let authority = PrivateAuthority::generate("fixture");
    let registry = DockerRegistry::start(
        &authority,
        Some(Account {
            user: "u",
            password: "p",
        }),
    );
    let answer = https(&authority)
        .get(&format!("https://{}/v2/", registry.host()))
        .expect("an answer");
    assert_eq!(answer.status, 401);
    let requests = registry.requests();
    assert_eq!(requests.len(), 1, "{}", registry.log());
    assert_eq!((requests[0].path.as_str(), requests[0].status), ("/v2/", 401));
}

#[test]
fn a_registry_without_an_account_serves_everybody() {
    let authority = PrivateAuthority::generate("fixture");
    let mut registry = DockerRegistry::start(&authority, None);
    let url = format!("https://{}/v2/_catalog", registry.host());
    assert_eq!(https(&authority).get(&url).expect("an answer").status, 200);
    assert!(
        https(&PrivateAuthority::generate("other")).get(&url).is_err(),
        "an unknown authority"
    );
    registry.stop();
    assert!(https(&authority).get(&url).is_err(), "a registry that is down");
    registry.start_again();
    assert_eq!(https(&authority).get(&url).expect("an answer").status, 200);
    assert_eq!(registry.requests().len(), 2, "{}", registry.log());
}

#[test]
fn every_image_of_the_profile_comes_back_from_the_registry_with_its_digest() {
    let authority = PrivateAuthority::generate("fixture");
    let account = Account {
        user: "u",
        password: "p",
    };
    let registry = DockerRegistry::start(&authority, Some(account));
    let host = registry.host();
    let access = Access {
        host: &host,
        authority: Some(authority.pem()),
        account: Some(account),
    };
    let skopeo = Skopeo::default();
    let images = profile_images();
    push_images(&skopeo, access, "all/", &images);
    for NamedImage { name, image } in &images {
        assert_eq!(
            skopeo.pull(access, &format!("all/{name}")),
            image.root.digest.to_string(),
            "{name}"
        );
    }
    assert_eq!(skopeo.tags(access, "all/docker.io/library/nginx"), ["1.27"]);

    let requests = registry.requests();
    let provider = &images[0].image;
    let layer = provider
        .blobs
        .keys()
        .next()
        .expect("a provider image has blobs")
        .to_string();
    let pulled: Vec<_> = requests
        .iter()
        .filter(|request| request.fetched_blob() == Some(&layer))
        .collect();
    assert_eq!(pulled.len(), 1, "{pulled:?}");
    assert_eq!(
        pulled[0].repository(),
        Some("all/example.io/my-images/example-custom-os")
    );
    assert_eq!(pulled[0].user.as_deref(), Some("u"));
    assert_eq!(pulled[0].written, registry.blob_size(&layer));
}
