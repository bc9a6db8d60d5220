//! Every shortcut of the client against every unexpected answer: the copy succeeds by the plain way.

#![expect(clippy::unwrap_used, reason = "test set-up")]

mod common;

use common::{log, mk_bytes, mk_client, mk_endpoint, mk_options, mk_source, repository, short_timeouts};
use landfall_core::failure::{FailureKind, Shortcut};
use landfall_core::oci_types::{Descriptor, media_type};
use landfall_core::status::NoProgress;
use landfall_oci::client::{Endpoint, RegistryClient, RegistrySink, RegistrySource};
use landfall_oci::copy::{CopyReport, copy_image};
use landfall_oci::image::TransferError;
use landfall_testkit::fake_registry::{Access, Effect, FakeHarbor, FakeRegistry, FakeRegistryOptions, Fault};
use landfall_testkit::image_builder::{FixtureBuilder, ImageFixture, digest_of, small_image};
use serde_json::json;

fn mk_image() -> ImageFixture {
    FixtureBuilder::new()
        .plain_layer(&[("large", &mk_bytes(120_000))])
        .plain_layer(&[("small", b"small")])
        .build()
}

/// Returns every kind of unexpected answer, with its name. `page` is a server that answers HTML to everything.
fn answers(page: &FakeRegistry) -> Vec<(String, Effect)> {
    let html = || vec![("content-type", "text/html".to_owned())];
    let body = || "<html>no</html>".to_owned();
    let refusals = [400, 401, 403, 404, 405, 406, 409, 411, 416, 429];
    let failures = [500, 501, 503];
    let statuses = refusals.into_iter().chain(failures);
    let mut answers: Vec<_> = statuses
        .map(|status| (status.to_string(), Effect::Status(status, html(), body())))
        .collect();
    for status in [429, 503] {
        let mut headers = html();
        headers.push(("retry-after", "0".to_owned()));
        answers.push((format!("{status} with a time"), Effect::Status(status, headers, body())));
    }
    let to = |status: u16, url: Option<String>| {
        let mut headers = html();
        headers.extend(url.map(|url| ("location", url)));
        Effect::Status(status, headers, String::new())
    };
    for status in [301, 302, 303, 307, 308] {
        let login = format!("{}/login", page.url());
        answers.push((format!("{status} to a page"), to(status, Some(login))));
    }
    for place in [Some("http://127.0.0.1:1/x"), Some("file:///etc/passwd"), None] {
        answers.push((format!("307 to {place:?}"), to(307, place.map(str::to_owned))));
    }
    answers.push(("200 and HTML".to_owned(), Effect::Status(200, html(), body())));
    answers.push(("204".to_owned(), Effect::Status(204, Vec::new(), String::new())));
    answers.push(("closed".to_owned(), Effect::CloseAfterReading(0)));
    answers
}

fn html_server() -> FakeRegistry {
    let page = FakeRegistry::start();
    let headers = vec![("content-type", "text/html".to_owned())];
    let html = Effect::Status(200, headers, "<html></html>".to_owned());
    page.inject(Fault::once("/", html).method("").always());
    page
}

fn mk_client_of(registry: &FakeRegistry, upload_chunk_size: u64) -> RegistryClient {
    let mut endpoint = Endpoint {
        timeouts: short_timeouts(),
        ..mk_endpoint(registry)
    };
    endpoint.upload_chunk_size = upload_chunk_size;
    RegistryClient::new(endpoint).unwrap()
}

const WHOLE: u64 = 1 << 40;

async fn copy(
    from: &RegistryClient,
    source: &str,
    to: &RegistryClient,
    sink: &str,
) -> Result<CopyReport, TransferError> {
    let source = RegistrySource {
        client: from.clone(),
        repository: repository(source),
    };
    let sink = RegistrySink::new(to.clone(), repository(sink), Some("1".parse().unwrap()));
    let name = "reg.example.com/mirror/app:1".parse().unwrap();
    let mut options = mk_options();
    options.referrers = true;
    copy_image(&source, "1", &sink, Some(&name), &options, &NoProgress).await
}

fn assert_whole(to: &FakeRegistry, image: &ImageFixture, case: &str) {
    assert_eq!(to.manifest("mirror/app", "1"), Some(image.root_bytes()), "{case}");
    for (digest, bytes) in &image.blobs {
        assert_eq!(to.blob(digest).as_ref(), Some(bytes), "{case}");
    }
}

/// The faults that refuse one shortcut for good: at the source, and at the destination.
fn refusing(shortcut: Shortcut, answer: &Effect) -> (Vec<Fault>, Vec<Fault>) {
    let always = |method, path, answer: &Effect| Fault::once(path, answer.clone()).method(method).always();
    let cut = Fault::once("/blobs/", Effect::CutBodyAfter(50_000));
    let broken = Fault::once("/blobs/uploads/", Effect::CloseAfterReading(50_000)).method("PUT");
    match shortcut {
        Shortcut::ManifestBeforePush => (vec![], vec![always("HEAD", "/manifests/", answer)]),
        Shortcut::ManifestHead => (vec![always("HEAD", "/manifests/", answer)], vec![]),
        Shortcut::BlobBeforeUpload | Shortcut::BlobHead => (vec![], vec![always("HEAD", "/blobs/", answer)]),
        Shortcut::BlobRange => (vec![cut, always("GET", "/blobs/", answer).ranges_only()], vec![]),
        Shortcut::MountFromSelf | Shortcut::MountFromOther => (vec![], vec![always("POST", "mount=", answer)]),
        Shortcut::UploadStatus => (vec![], vec![broken, always("GET", "/blobs/uploads/", answer)]),
        Shortcut::UploadProgress => {
            let with_id = always("POST", "/blobs/uploads/", &Effect::UploadId);
            (vec![], vec![with_id, always("GET", "/blobs/uploads/", answer)])
        }
        // Asked before large blobs only: `copy_verification.rs` has its answers.
        Shortcut::UploadVerification => (vec![], vec![]),
        Shortcut::ChunkedUpload => (vec![], vec![always("PATCH", "/blobs/uploads/", answer)]),
        Shortcut::ReferrersApi => {
            let refused = always("GET", "/referrers/", answer);
            (vec![refused.clone()], vec![refused])
        }
        Shortcut::HarborProject => (vec![], vec![always("HEAD", "/api/", answer)]),
    }
}

#[tokio::test]
async fn a_copy_succeeds_whatever_a_registry_answers_to_whichever_shortcut() {
    let page = html_server();
    for (name, answer) in answers(&page) {
        for shortcut in Shortcut::ALL {
            let case = format!("{shortcut:?} answered {name}");
            let (from, to) = (FakeRegistry::start(), FakeRegistry::start());
            let image = mk_image();
            from.add_image("shop/app", "1", &image);
            let (at_source, at_sink) = refusing(shortcut, &answer);
            at_source.into_iter().for_each(|fault| from.inject(fault));
            at_sink.into_iter().for_each(|fault| to.inject(fault));
            let chunk = match shortcut {
                Shortcut::ChunkedUpload | Shortcut::UploadProgress => 50_000,
                _ => WHOLE,
            };
            let (source, sink) = (mk_client_of(&from, WHOLE), mk_client_of(&to, chunk));
            for run in ["first", "second"] {
                let copied = copy(&source, "shop/app", &sink, "mirror/app").await;
                let error = copied.err().map(|error| error.chain());
                let logs = || format!("from:\n{}\nto:\n{}", log(&from), log(&to));
                assert_eq!(error, None, "{case}, {run} run:\n{}", logs());
            }
            assert_whole(&to, &image, &case);
        }
    }
}

#[tokio::test]
async fn a_blob_of_the_same_registry_arrives_whatever_it_answers_to_a_mount() {
    let page = html_server();
    for (name, answer) in answers(&page) {
        let registry = FakeRegistry::start_with(FakeRegistryOptions {
            repositories_apart: true,
            ..FakeRegistryOptions::default()
        });
        let image = mk_image();
        registry.add_image("shop/app", "1", &image);
        registry.inject(Fault::once("from=shop/app", answer).method("POST").always());
        let client = mk_client_of(&registry, WHOLE);
        let copied = copy(&client, "shop/app", &client, "mirror/app").await;
        assert_eq!(
            copied.err().map(|error| error.chain()),
            None,
            "{name}: {}",
            log(&registry)
        );
        assert_whole(&registry, &image, &name);
    }
}

#[tokio::test]
async fn questions_by_head_are_asked_again_by_get() {
    let page = html_server();
    for (name, answer) in answers(&page) {
        let registry = FakeRegistry::start();
        let image = small_image("app");
        registry.add_image("shop/app", "1", &image);
        registry.inject(Fault::once("/v2/shop", answer).method("HEAD").always());
        let client = mk_client_of(&registry, WHOLE);
        let mut asked = 0;
        let found = loop {
            // A registry that names a time is asked again after it.
            match client.head_manifest(&repository("shop/app"), "1").await {
                Err(error) if error.kind().not_before().is_some() && asked == 0 => asked += 1,
                other => break other,
            }
        };
        assert_eq!(found.unwrap().unwrap().digest, image.root.digest, "{name}");
        if name == "404" {
            continue;
        }
        let blob = image.described_blobs().next().unwrap().0;
        let mut size = client.blob_size(&repository("shop/app"), &blob.digest).await;
        if size.as_ref().is_err_and(|error| error.kind().not_before().is_some()) {
            size = client.blob_size(&repository("shop/app"), &blob.digest).await;
        }
        assert_eq!(size.unwrap(), Some(blob.size), "{name}");
    }
}

#[tokio::test]
async fn a_registry_that_refuses_the_end_of_a_chunked_upload_gets_it_in_one_request_from_then_on() {
    let (from, to) = (FakeRegistry::start(), FakeRegistry::start());
    let image = mk_image();
    from.add_image("shop/app", "1", &image);
    let blobs = image.described_blobs().map(|(blob, _)| blob);
    let large = blobs.max_by_key(|blob| blob.size).unwrap();
    let refused = Effect::Status(400, Vec::new(), String::new());
    to.inject(Fault::once(large.digest.hex(), refused).method("PUT"));
    let client = mk_client_of(&to, 70_000);
    copy(&mk_client(&from), "shop/app", &client, "mirror/app")
        .await
        .unwrap();
    assert_whole(&to, &image, "a refused end");
    to.clear_requests();
    let other = FixtureBuilder::new()
        .plain_layer(&[("other", &mk_bytes(150_000))])
        .build();
    from.add_image("shop/other", "1", &other);
    copy(&mk_client(&from), "shop/other", &client, "mirror/other")
        .await
        .unwrap();
    let chunks = to.requests().iter().filter(|request| request.method == "PATCH").count();
    assert_eq!(chunks, 0, "{}", log(&to));
}

#[tokio::test]
async fn harbor_may_refuse_the_question_for_a_project_and_take_the_push() {
    let page = html_server();
    for (name, answer) in answers(&page) {
        let registry = FakeRegistry::start_with(FakeRegistryOptions {
            access: Access::Open,
            harbor: Some(FakeHarbor::default()),
            ..FakeRegistryOptions::default()
        });
        registry.inject(Fault::once("/api/", answer).method("HEAD").always());
        let client = mk_client_of(&registry, WHOLE);
        let mut ensured = client.ensure_project("shop").await;
        if ensured.as_ref().is_err_and(|error| error.kind().not_before().is_some()) {
            ensured = client.ensure_project("shop").await;
        }
        ensured.unwrap_or_else(|error| panic!("{name}: {error:?}: {}", log(&registry)));
    }
}

/// Adds an image with a signature, listed under the tag alone.
fn add_signed(registry: &FakeRegistry) -> (ImageFixture, Vec<u8>) {
    let image = small_image("signed");
    registry.add_image("shop/app", "1", &image);
    let config = registry.add_blob("application/vnd.oci.empty.v1+json", "{}");
    let manifest = json!({
        "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "artifactType": "application/x-signature",
        "config": config, "layers": [], "subject": image.root,
    });
    let manifest = manifest.to_string().into_bytes();
    let digest = digest_of(&manifest);
    registry.add_manifest("shop/app", digest.as_str(), media_type::OCI_MANIFEST, manifest.clone());
    let entry = Descriptor::new(media_type::OCI_MANIFEST, digest, manifest.len() as u64);
    let list = json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": [entry]}).to_string();
    let tag = image.root.digest.as_str().replace(':', "-");
    registry.add_manifest("shop/app", &tag, media_type::OCI_INDEX, list);
    (image, manifest)
}

#[tokio::test]
async fn signatures_come_along_whatever_answers_in_place_of_the_referrers_api() {
    let page = html_server();
    for (name, answer) in answers(&page) {
        let (from, to) = (FakeRegistry::start(), FakeRegistry::start());
        let (image, signature) = add_signed(&from);
        let tag = image.root.digest.as_str().replace(':', "-");
        for registry in [&from, &to] {
            registry.inject(Fault::once("/referrers/", answer.clone()).always());
        }
        let report = copy(&mk_client(&from), "shop/app", &mk_client(&to), "mirror/app").await;
        let report = report.unwrap_or_else(|error| panic!("{name}: {}", error.chain()));
        assert_eq!(report.referrers, 1, "{name}");
        let digest = digest_of(&signature);
        assert!(to.manifest("mirror/app", digest.as_str()).is_some(), "{name}");
        let list = to
            .manifest("mirror/app", &tag)
            .unwrap_or_else(|| panic!("{name}: no list"));
        assert!(String::from_utf8_lossy(&list).contains(digest.as_str()), "{name}");
    }
}

#[tokio::test]
async fn a_list_that_an_earlier_run_did_not_write_is_written_by_the_next() {
    let (from, to) = (FakeRegistry::start(), FakeRegistry::start());
    let (image, signature) = add_signed(&from);
    from.add_manifest("shop/app", "sig", media_type::OCI_MANIFEST, signature.clone());
    let tag = image.root.digest.as_str().replace(':', "-");
    let refused = Effect::Status(403, Vec::new(), String::new());
    to.inject(Fault::once("/manifests/sha256-", refused).method("PUT"));
    let name = "reg.example.com/mirror/app:sig".parse().unwrap();
    let (source, options) = (mk_source(&from), mk_options());
    for is_listed in [false, true] {
        let sink = RegistrySink::new(mk_client(&to), repository("mirror/app"), Some("sig".parse().unwrap()));
        let copied = copy_image(&source, "sig", &sink, Some(&name), &options, &NoProgress).await;
        assert_eq!(copied.is_ok(), is_listed, "{copied:?}");
        assert_eq!(to.manifest("mirror/app", &tag).is_some(), is_listed, "{}", log(&to));
    }
}

#[tokio::test]
async fn a_registry_that_says_that_it_lists_a_referrer_is_believed() {
    let (from, to) = (FakeRegistry::start(), FakeRegistry::start());
    let (image, signature) = add_signed(&from);
    from.add_manifest("shop/app", "sig", media_type::OCI_MANIFEST, signature);
    to.inject(Fault::once("/manifests/", Effect::ListsSubject).method("PUT"));
    let sink = RegistrySink::new(mk_client(&to), repository("mirror/app"), Some("sig".parse().unwrap()));
    let name = "reg.example.com/mirror/app:sig".parse().unwrap();
    let copied = copy_image(&mk_source(&from), "sig", &sink, Some(&name), &mk_options(), &NoProgress).await;
    copied.unwrap();
    let tag = image.root.digest.as_str().replace(':', "-");
    assert!(to.manifest("mirror/app", &tag).is_none(), "{}", log(&to));
}

#[tokio::test]
async fn a_wrong_login_is_still_said_to_be_wrong() {
    let (from, to) = (
        FakeRegistry::start(),
        FakeRegistry::start_with(FakeRegistryOptions {
            access: Access::Basic {
                username: "ann".to_owned(),
                password: "right".to_owned(),
            },
            ..FakeRegistryOptions::default()
        }),
    );
    from.add_image("shop/app", "1", &mk_image());
    let client = common::mk_client_with_login(&to, "ann", common::CANARY);
    let error = copy(&mk_client(&from), "shop/app", &client, "mirror/app")
        .await
        .unwrap_err();
    assert_eq!(error.kind, FailureKind::Unauthorized);
}

#[tokio::test]
async fn a_blob_whose_upload_is_redirected_arrives_where_the_registry_says() {
    for status in [307, 308] {
        let (from, to, elsewhere) = (FakeRegistry::start(), FakeRegistry::start(), FakeRegistry::start());
        let image = mk_image();
        from.add_image("shop/app", "1", &image);
        let large = image
            .described_blobs()
            .map(|(blob, _)| blob)
            .max_by_key(|blob| blob.size)
            .unwrap();
        let place = format!("{}/v2/store/blobs/uploads/1?digest={}", elsewhere.url(), large.digest);
        let there = Effect::Status(status, vec![("location", place)], String::new());
        to.inject(Fault::once(large.digest.hex(), there).method("PUT"));
        // The registry has the blob in its store then; the fake one is told so.
        let (layer, bytes) = image
            .described_blobs()
            .find(|(blob, _)| blob.digest == large.digest)
            .unwrap();
        to.add_blob(&layer.media_type, bytes.clone());
        to.inject(
            Fault::once("mount=", Effect::Status(404, Vec::new(), String::new()))
                .method("POST")
                .always(),
        );
        copy(&mk_client(&from), "shop/app", &mk_client(&to), "mirror/app")
            .await
            .unwrap();
        assert_eq!(
            elsewhere.blob(&large.digest).as_ref(),
            Some(bytes),
            "{status}: {}",
            log(&to)
        );
    }
}
