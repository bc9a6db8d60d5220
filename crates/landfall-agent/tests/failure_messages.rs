//! Failures at a site, each with the message that its operator gets.

#![expect(clippy::disallowed_methods, reason = "test set-up")]

mod common;

use std::sync::Arc;

use common::{CANARY, Differences, Site};
use landfall_agent::{AgentOutcome, run_agent};
use landfall_core::status::{EventKind, EventReason, FailedPhase, NoProgress, Phase};
use landfall_net::certificate::{Validity, issue_certificate, make_authority};
use landfall_testkit::fake_registry::{Access, FakeRegistry, FakeRegistryOptions, FakeTls};
use landfall_testkit::image_builder::{FixtureBuilder, multi_platform, oci_archive, provider_image};
use secrecy::ExposeSecret as _;
use tokio_util::sync::CancellationToken;

fn basic() -> Access {
    Access::Basic {
        username: "edge".to_owned(),
        password: "right".to_owned(),
    }
}

fn credentials(lines: &[&str]) -> Differences {
    Differences {
        credentials: lines.iter().map(|line| (*line).to_owned()).collect(),
        ..Differences::default()
    }
}

#[tokio::test]
async fn wrong_password_names_the_key_to_mend_and_not_the_password() {
    let site = Site::with_access(basic(), None);
    site.write_user_data(&credentials(&[
        "username: edge",
        &format!("password: {CANARY}"),
        "insecure: true",
    ]));
    let (phase, message) = site.failure().await;
    assert_eq!(phase, Phase::ProviderImage);
    insta::assert_snapshot!(message, @"image `example.io/os:1` cannot be fetched from registry `REGISTRY`: it refuses the password of user `edge`; hint: correct `stylus.registryCredentials.password` at DIR/user-data.yaml:6:15");
}

#[tokio::test]
async fn wrong_password_of_the_primary_registry_is_tried_once() {
    let primary = FakeRegistry::start_with(FakeRegistryOptions {
        access: basic(),
        ..FakeRegistryOptions::default()
    });
    let site = Site::new();
    let path = site.path("user-data.yaml");
    let text = std::fs::read_to_string(&path).unwrap();
    let (before, _) = text.split_once("  primary:").unwrap();
    let section = format!(
        "  primary:\n    kind: registry\n    endpoint: {}\n    insecure: true\n    username: edge\n    password: {CANARY}\n",
        primary.host()
    );
    std::fs::write(&path, format!("{before}{section}")).unwrap();
    let mut options = site.options().await;
    options.timing.retry.attempts = 5;
    let end = run_agent(options, Arc::new(NoProgress), CancellationToken::new())
        .await
        .unwrap();
    let AgentOutcome::Failed { failures } = end else {
        panic!("{end:?}")
    };
    assert_eq!(failures.len(), 1, "{failures:?}");
    let FailedPhase { phase, message } = &failures[0];
    assert_eq!(*phase, Phase::PrimaryRegistry);
    let message = site.readable(message).replace(primary.host().as_str(), "PRIMARY");
    insta::assert_snapshot!(message, @"the primary registry `PRIMARY` cannot be used: it refuses the password of user `edge`; hint: correct `landfall.primary.password` at DIR/user-data.yaml:15:15");
    let logins = primary
        .requests()
        .into_iter()
        .filter(|request| request.authorization.is_some());
    assert_eq!(logins.count(), 1, "the same question gets the same answer");
}

#[tokio::test]
async fn registry_that_refuses_every_image_is_one_failure_and_one_event() {
    let site = Site::with_access(basic(), None);
    let options = site.options().await;
    let end = run_agent(options, Arc::new(NoProgress), CancellationToken::new())
        .await
        .unwrap();
    let AgentOutcome::Failed { failures } = end else {
        panic!("{end:?}")
    };
    let phases: Vec<Phase> = failures.iter().map(|failure| failure.phase).collect();
    assert_eq!(phases, [Phase::ProviderImage]);
    let warnings: Vec<_> = site
        .events()
        .into_iter()
        .filter(|event| event.kind == EventKind::Warning)
        .map(|event| (event.reason, event.subject))
        .collect();
    assert_eq!(
        warnings,
        [
            (EventReason::ImageFailed, "example.io/os:1".to_owned()),
            (EventReason::PhaseFailed, "ProviderImage".to_owned())
        ]
    );
    let status = site.status();
    assert!(
        status.images.values().all(|image| image.error.is_some()),
        "each image has its error"
    );
    assert!(status.webhook.is_some());
}

#[tokio::test]
async fn file_with_logins_that_cannot_be_read_is_one_event_with_what_to_do() {
    let site = Site::with_access(basic(), None);
    site.write_profile(&["nginx:1.27", "busybox:1.37"]);
    site.write_user_data(&Differences {
        more: vec![format!("  credentialsFile: {}", site.path("missing.json"))],
        ..Differences::default()
    });
    let options = site.options().await;
    let end = run_agent(options, Arc::new(NoProgress), CancellationToken::new())
        .await
        .unwrap();
    let AgentOutcome::Failed { failures } = end else {
        panic!("{end:?}")
    };
    assert_eq!(failures.len(), 1, "{failures:?}");
    insta::assert_snapshot!(site.readable(&failures[0].message), @"image `example.io/os:1` cannot be fetched from registry `REGISTRY`: this host failed: the login for the registry cannot be looked up: cannot read the logins in `DIR/missing.json`: failed to open file `DIR/missing.json`: No such file or directory (os error 2); hint: make the file readable, or name another: `--credentials` on the command line, `landfall.credentialsFile` in the user-data");
    let events = site.events();
    let of_images = events.iter().filter(|event| event.reason == EventReason::ImageFailed);
    assert_eq!(of_images.count(), 1, "the file is one reason: {events:?}");
}

#[tokio::test]
async fn missing_login_says_where_to_add_one() {
    let site = Site::with_access(basic(), None);
    let (_, message) = site.failure().await;
    insta::assert_snapshot!(message, @"image `example.io/os:1` cannot be fetched from registry `REGISTRY`: it asks for a login, and none is given; hint: add `stylus.registryCredentials.username` and the password beside DIR/user-data.yaml:4:13");
}

#[tokio::test]
async fn missing_image_names_the_line_that_lists_it() {
    let site = Site::new();
    site.write_profile(&["nginx:1.27", "nginx:9.99"]);
    let (phase, message) = site.failure().await;
    assert_eq!(phase, Phase::Images);
    insta::assert_snapshot!(message, @"1 of 3 images failed: image `nginx:9.99` cannot be fetched from registry `REGISTRY`: it does not have `REGISTRY/docker.io/library/nginx:9.99`; hint: push it there, or correct the image at DIR/profile.yaml:25:26");
}

#[tokio::test]
async fn registry_that_is_down_names_its_address() {
    let site = Site::new();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let domain = free.local_addr().unwrap().to_string();
    drop(free);
    site.write_user_data(&Differences {
        domain: Some(domain.clone()),
        ..Differences::default()
    });
    let (_, message) = site.failure().await;
    insta::assert_snapshot!(message.replace(&domain, "REGISTRY"), @"image `example.io/os:1` cannot be fetched from registry `REGISTRY`: it does not answer: the connection is refused: nothing listens there; hint: check that `REGISTRY` is up and can be reached from this host; its address is `stylus.registryCredentials.domain` at DIR/user-data.yaml:4:13");
}

#[tokio::test]
async fn configuration_with_errors_fails_where_there_is_no_last_good_one() {
    let site = Site::new();
    std::fs::write(
        site.path("user-data.yaml"),
        "#cloud-config\nstylus:\n  registryCredentials: 7\n",
    )
    .unwrap();
    let (phase, message) = site.failure().await;
    assert_eq!(phase, Phase::Validating);
    insta::assert_snapshot!(message, @"DIR/user-data.yaml:3:24: `stylus.registryCredentials` takes a mapping, and this is a number (LF0201); hint: write a mapping");
}

#[tokio::test]
async fn unknown_authority_says_where_its_certificate_belongs() {
    let now = jiff::Timestamp::now();
    let validity = Validity {
        not_before: now,
        not_after: now.checked_add(jiff::SignedDuration::from_hours(1)).unwrap(),
    };
    let authority = make_authority("a private authority", validity).unwrap();
    let pair = issue_certificate(&authority, &["127.0.0.1"], validity).unwrap();
    let tls = FakeTls {
        certificates: pair.certificate,
        key: pair.key.expose_secret().to_owned(),
    };
    let site = Site::with_access(Access::Open, Some(tls));
    site.write_user_data(&credentials(&["username: edge", "password: x"]));
    let (_, message) = site.failure().await;
    insta::assert_snapshot!(message, @"image `example.io/os:1` cannot be fetched from registry `REGISTRY`: its certificate is signed by an authority that is not trusted here: invalid peer certificate: UnknownIssuer; hint: add the PEM of the authority that signed it as `stylus.registryCredentials.certificates` beside DIR/user-data.yaml:4:13, or set `insecure: true` there");
    let pem = authority.certificate.replace('\n', "\n        ");
    site.write_user_data(&credentials(&[
        "username: edge",
        "password: x",
        &format!("certificates: |\n        {pem}"),
    ]));
    assert_eq!(site.run().await, AgentOutcome::Running);
}

#[tokio::test]
async fn port_in_use_names_the_key_that_moves_it() {
    let site = Site::new();
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let more = vec![format!("  listen: \"{address}\"")];
    site.write_user_data(&Differences {
        more,
        ..Differences::default()
    });
    let mut options = site.options().await;
    options.listeners.status = None;
    let end = run_agent(options, Arc::new(NoProgress), CancellationToken::new())
        .await
        .unwrap();
    let AgentOutcome::Failed { failures } = end else {
        panic!("{end:?}")
    };
    assert_eq!(failures.len(), 1, "{failures:?}");
    let FailedPhase { phase, message } = &failures[0];
    assert_eq!(*phase, Phase::Validating);
    insta::assert_snapshot!(message.replace(&address, "ADDRESS"), @"cannot listen on `ADDRESS`: Address already in use (os error 98); hint: free it, or set `landfall.listen` or `stylus.localUI.port` in the user-data");
}

#[tokio::test]
async fn images_that_can_be_fetched_are_fetched_although_another_one_fails() {
    let site = Site::new();
    site.write_profile(&["nginx:9.99", "nginx:1.27"]);
    site.failure().await;
    let status = site.status();
    assert!(status.images["docker.io/library/nginx:1.27"].stored);
    let failed = &status.images["docker.io/library/nginx:9.99"];
    assert!(!failed.stored && failed.error.is_some());
    let events = site.events();
    let event = events
        .iter()
        .find(|event| event.reason == EventReason::ImageFailed)
        .unwrap();
    assert_eq!(event.subject, "docker.io/library/nginx:9.99");
}

#[tokio::test]
async fn broken_core_image_is_an_event_and_everything_else_goes_on() {
    let site = Site::new();
    let broken = provider_image(&[("etcd.tar", b"no archive"), ("pause.tar", &common::core_archive())]);
    site.upstream.add_image("example.io/os", "1", &broken);
    let (phase, message) = site.failure().await;
    assert_eq!(phase, Phase::CoreImages);
    insta::assert_snapshot!(message, @"1 of 2 archives failed: `opt/kube-images/etcd.tar` of the provider image `example.io/os:1` cannot be loaded: cannot read the archive `opt/kube-images/etcd.tar`: it is not a tar archive; hint: look at how the provider image was built, or name another one in `system.uri` of the OS pack");
    let events = site.events();
    let of = |reason| -> Vec<&str> {
        events
            .iter()
            .filter(|event| event.reason == reason)
            .map(|event| event.subject.as_str())
            .collect()
    };
    assert_eq!(of(EventReason::LoadFailed), ["example.io/os:1"]);
    assert_eq!(
        of(EventReason::ImageLoaded),
        ["registry.k8s.io/pause:3.9"],
        "the others are loaded"
    );
    let mut stored = of(EventReason::ImageStored);
    stored.sort_unstable();
    assert_eq!(
        stored,
        ["docker.io/library/nginx:1.27", "example.io/calico:1", "example.io/os:1"]
    );
    assert!(site.status().webhook.is_some());
}

#[tokio::test]
async fn core_image_of_an_archive_of_one_platform_is_loaded_and_said_to_have_another_digest() {
    let site = Site::new();
    let part = |architecture: &str| {
        let image = FixtureBuilder::new().platform("linux", architecture);
        image.plain_layer(&[("program", architecture.as_bytes())]).build()
    };
    let (amd64, arm64) = (part("amd64"), part("arm64"));
    let whole = multi_platform(&[amd64.clone(), arm64.clone()]);
    let mut exported = whole.clone();
    exported
        .manifests
        .retain(|(manifest, _)| manifest.digest != arm64.root.digest);
    exported.blobs.retain(|digest, _| !arm64.blobs.contains_key(digest));
    let archive = oci_archive(&[("registry.k8s.io/etcd:3.6", &exported)]);
    let provider = provider_image(&[("etcd.tar", &archive)]);
    site.upstream.add_image("example.io/os", "1", &provider);
    assert_eq!(site.run().await, AgentOutcome::Running);
    let events = site.events();
    let loaded = events
        .iter()
        .find(|event| event.reason == EventReason::ImageLoaded)
        .unwrap();
    let narrowed = multi_platform(&[amd64]).root.digest;
    assert_eq!(
        loaded.message,
        format!(
            "from `opt/kube-images/etcd.tar` of the provider image; the archive holds some of its platforms only, so that \
             its index is `{narrowed}` in place of `{}`",
            whole.root.digest
        )
    );
}
