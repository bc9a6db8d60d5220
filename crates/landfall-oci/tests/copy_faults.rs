//! Every fault of a registry, at either end of a copy. Afterwards the image is complete and verified, or the
//! error names the fault. No incomplete image ever exists.

#![expect(clippy::unwrap_used, reason = "test set-up")]

mod common;

use std::sync::atomic::{AtomicBool, Ordering};

use common::{CANARY, chain, log, mk_bytes, mk_client_with_login, mk_endpoint, mk_options, repository, short_timeouts};
use landfall_core::failure::FailureKind;
use landfall_core::status::{NoProgress, ProgressEvent, ProgressSink};
use landfall_oci::client::{Endpoint, RegistryClient, RegistrySink, RegistrySource};
use landfall_oci::copy::{CopyReport, copy_image};
use landfall_oci::image::TransferError;
use landfall_testkit::fake_registry::{Access, Effect, FakeRegistry, FakeRegistryOptions, Fault};
use landfall_testkit::image_builder::{FixtureBuilder, ImageFixture};

fn mk_image() -> ImageFixture {
    FixtureBuilder::new()
        .plain_layer(&[("large", &mk_bytes(600_000))])
        .plain_layer(&[("small", b"small")])
        .build()
}

fn mk_patient_client(registry: &FakeRegistry) -> RegistryClient {
    RegistryClient::new(Endpoint {
        timeouts: short_timeouts(),
        ..mk_endpoint(registry)
    })
    .unwrap()
}

async fn copy(
    from: RegistryClient,
    to: RegistryClient,
    progress: &dyn ProgressSink,
) -> Result<CopyReport, TransferError> {
    let source = RegistrySource {
        client: from,
        repository: repository("shop/app"),
    };
    let sink = RegistrySink::new(to, repository("mirror/app"), Some("1".parse().unwrap()));
    let name = "reg.example.com/mirror/app:1".parse().unwrap();
    copy_image(&source, "1", &sink, Some(&name), &mk_options(), progress).await
}

/// Checks that the image is complete and unchanged, or absent.
fn assert_whole_or_absent(to: &FakeRegistry, image: &ImageFixture, is_there: bool, fault: &str) {
    assert_eq!(
        to.manifest("mirror/app", "1").is_some(),
        is_there,
        "{fault}: {}",
        log(to)
    );
    for (digest, bytes) in &image.blobs {
        match to.blob(digest) {
            Some(found) => assert_eq!(&found, bytes, "{fault}"),
            None => assert!(!is_there, "{fault}: a blob is missing: {}", log(to)),
        }
    }
}

fn status(status: u16) -> Effect {
    Effect::Status(status, Vec::new(), String::new())
}

fn busy() -> Effect {
    Effect::Status(429, vec![("retry-after", "0".to_owned())], String::new())
}

#[tokio::test]
async fn faults_that_pass_cost_time_and_nothing_else() {
    let blob = |effect| Fault::once("/blobs/", effect);
    let source: Vec<(&str, Fault)> = vec![
        ("manifest 500", Fault::once("/manifests/", status(500))),
        ("manifest 429", Fault::once("/manifests/", busy())),
        ("blob 500", blob(status(500)).times(2)),
        ("blob 429", blob(busy()).times(2)),
        ("cut", blob(Effect::CutBodyAfter(100_000)).times(3)),
        ("stalled", blob(Effect::StallBodyAfter(100_000))),
        ("wrong bytes once", blob(Effect::FlipBit)),
        ("range ignored", blob(Effect::CutBodyAfter(100_000))),
    ];
    let upload = |method, effect| Fault::once("/blobs/uploads/", effect).method(method);
    let sink: Vec<(&str, Fault)> = vec![
        ("post 500", upload("POST", status(500))),
        ("post 429", upload("POST", busy())),
        ("put 500", upload("PUT", status(500))),
        ("put 429", upload("PUT", busy())),
        ("put cut", upload("PUT", Effect::CloseAfterReading(100_000))),
        ("put never read", upload("PUT", Effect::NeverRead)),
        ("manifest 500", Fault::once("/manifests/", status(500)).method("PUT")),
        (
            "manifest cut",
            Fault::once("/manifests/", Effect::CloseAfterReading(10)).method("PUT"),
        ),
    ];
    let at_source = source.into_iter().map(|(name, fault)| (name, true, fault));
    let at_sink = sink.into_iter().map(|(name, fault)| (name, false, fault));
    for (name, is_source, fault) in at_source.chain(at_sink) {
        let (from, to) = (FakeRegistry::start(), FakeRegistry::start());
        let image = mk_image();
        from.add_image("shop/app", "1", &image);
        if name == "range ignored" {
            from.inject(fault.clone());
            from.inject(Fault::once("/blobs/", Effect::IgnoreRange));
        } else {
            let at = if is_source { &from } else { &to };
            at.inject(fault);
        }
        let copied = copy(mk_patient_client(&from), mk_patient_client(&to), &NoProgress).await;
        assert!(copied.is_ok(), "{name}: {}: {}", chain(&copied.unwrap_err()), log(&to));
        assert_whole_or_absent(&to, &image, true, name);
    }
}

#[tokio::test]
async fn faults_that_last_end_in_one_clear_error_and_no_image() {
    let elsewhere = FakeRegistry::start();
    let url = |path: &str| format!("{}{path}", elsewhere.url());
    let largest = mk_image()
        .described_blobs()
        .map(|(blob, _)| blob)
        .max_by_key(|blob| blob.size)
        .unwrap();
    let path = format!("/blobs/{}", largest.digest);
    let upload = |method, effect| Fault::once("/blobs/uploads/", effect).method(method).always();
    let manifest = Fault::once("/manifests/", Effect::FlipBit);
    let cases = [
        (
            "wrong bytes",
            true,
            Fault::once(&path, Effect::FlipBit).always(),
            FailureKind::Corrupt,
        ),
        (
            "short length",
            true,
            Fault::once(&path, Effect::Truncate(1000)).always(),
            FailureKind::WrongLength,
        ),
        (
            "blob gone",
            true,
            Fault::once(&path, status(404)).always(),
            FailureKind::NotFound,
        ),
        ("wrong manifest", true, manifest.always(), FailureKind::Corrupt),
        (
            "redirect to nothing",
            true,
            Fault::once(&path, Effect::Redirect(url("/nothing"))).always(),
            FailureKind::NotFound,
        ),
        (
            "redirect to a file",
            true,
            Fault::once(&path, Effect::Redirect("file:///etc/passwd".to_owned())).always(),
            FailureKind::Protocol,
        ),
        (
            "location of a file",
            false,
            upload("POST", Effect::Location("file:///etc/passwd".to_owned())),
            FailureKind::Protocol,
        ),
        (
            "upload refused",
            false,
            upload("PUT", status(403)),
            FailureKind::Forbidden,
        ),
        ("disk full", false, upload("PUT", status(507)), FailureKind::Full),
        (
            "manifest refused",
            false,
            Fault::once("/manifests/", status(403)).method("PUT").always(),
            FailureKind::Forbidden,
        ),
    ];
    for (name, is_source, fault, expected) in cases {
        let (from, to) = (FakeRegistry::start(), FakeRegistry::start());
        let image = mk_image();
        from.add_image("shop/app", "1", &image);
        let at = if is_source { &from } else { &to };
        at.inject(fault);
        let copied = copy(mk_patient_client(&from), mk_patient_client(&to), &NoProgress).await;
        let error = copied.expect_err(name);
        if name == "short length" {
            // The second attempt shows that the source means it.
            let asked = from
                .requests()
                .iter()
                .filter(|request| request.path.contains(&path))
                .count();
            assert_eq!(asked, 2, "{}", log(&from));
        }
        assert_eq!(error.kind, expected, "{name}: {}", chain(&error));
        let text = chain(&error);
        assert!(
            text.contains(at.host().as_str()) || text.contains("the source's bytes"),
            "{name}: {text}"
        );
        assert_whole_or_absent(&to, &image, false, name);
    }
}

/// Lets all tokens expire before the first blob moves.
#[derive(Debug)]
struct Expiring<'a> {
    registry: &'a FakeRegistry,
    done: AtomicBool,
}

impl ProgressSink for Expiring<'_> {
    fn progress(&self, event: ProgressEvent) {
        if matches!(event, ProgressEvent::BlobStarted { .. }) && !self.done.swap(true, Ordering::SeqCst) {
            self.registry.expire_tokens();
        }
    }
}

#[tokio::test]
async fn a_token_that_ends_in_mid_push_is_taken_anew() {
    let from = FakeRegistry::start();
    let to = FakeRegistry::start_with(FakeRegistryOptions {
        access: Access::Bearer {
            login: Some(("ann".to_owned(), CANARY.to_owned())),
            realm: String::new(),
        },
        ..FakeRegistryOptions::default()
    });
    let image = mk_image();
    from.add_image("shop/app", "1", &image);
    let client = mk_client_with_login(&to, "ann", CANARY);
    let expiring = Expiring {
        registry: &to,
        done: AtomicBool::new(false),
    };
    let copied = copy(mk_patient_client(&from), client, &expiring).await;
    assert!(copied.is_ok(), "{}: {}", chain(&copied.unwrap_err()), log(&to));
    assert_whole_or_absent(&to, &image, true, "expiry");
    let refused = to
        .requests()
        .iter()
        .any(|request| request.method == "PUT" && request.status == Some(401));
    assert!(refused, "a token ended in mid-push: {}", log(&to));
}
