//! Referrers are copied with their image: from the referrers API and the fallback tag, cosign's tags, and
//! cycles.

#![expect(clippy::unwrap_used, reason = "test set-up")]

mod common;

use camino::Utf8Path;
use common::{Served, mk_client, mk_options, mk_source, repository};
use landfall_core::failure::FailureKind;
use landfall_core::oci_types::{Descriptor, media_type};
use landfall_core::reference::Digest;
use landfall_core::status::NoProgress;
use landfall_oci::archive::open_archive;
use landfall_oci::client::{RegistryClient, RegistrySink, RegistrySource};
use landfall_oci::copy::{CopyOptions, CopyReport, copy_image};
use landfall_oci::image::{ImageSink, ImageSource, TransferError};
use landfall_oci::layout::{ArchiveForm, ArchiveSink, LayoutSink, open_layout};
use landfall_testkit::fake_registry::{Effect, FakeRegistry, Fault};
use landfall_testkit::image_builder::{ImageFixture, digest_of, small_image};
use serde_json::json;

const SIGNATURE: &str = "application/vnd.example.signature";

/// Adds a signature of `subject` to the registry; the caller adds it to a referrers list.
fn add_signature(registry: &FakeRegistry, subject: &Digest, text: &str) -> Descriptor {
    let config = registry.add_blob("application/vnd.oci.empty.v1+json", "{}");
    let layer = registry.add_blob("text/plain", text.to_owned());
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": media_type::OCI_MANIFEST,
        "artifactType": SIGNATURE,
        "config": config,
        "layers": [layer],
        "subject": {"mediaType": media_type::OCI_MANIFEST, "digest": subject, "size": 7},
        "annotations": {"of": text},
    });
    let bytes = manifest.to_string();
    let digest = digest_of(bytes.as_bytes());
    let size = bytes.len() as u64;
    registry.add_manifest("shop/app", digest.as_str(), media_type::OCI_MANIFEST, bytes);
    Descriptor::new(media_type::OCI_MANIFEST, digest, size)
}

/// Lists the referrers of a manifest under the fallback tag, which replaces the referrers API.
fn list_by_tag(registry: &FakeRegistry, subject: &Digest, referrers: &[&Descriptor]) {
    let index = json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": referrers});
    let tag = format!("sha256-{}", subject.hex());
    registry.add_manifest("shop/app", &tag, media_type::OCI_INDEX, index.to_string());
}

/// An image, its signature with its own timestamp, and cosign's objects.
struct Signed {
    subject: Digest,
    signature: Descriptor,
    timestamp: Descriptor,
    cosign_tag: String,
    cosign: ImageFixture,
}

impl Signed {
    /// Checks that the mirror has everything, and lists each referrer under its subject.
    async fn assert_is_in(&self, client: &RegistryClient) {
        assert_eq!(listed(client, &self.subject).await, [self.signature.digest.to_string()]);
        assert_eq!(
            listed(client, &self.signature.digest).await,
            [self.timestamp.digest.to_string()]
        );
        let found = client.fetch_manifest(&repository("mirror/app"), &self.cosign_tag).await;
        assert_eq!(found.unwrap().digest, self.cosign.root.digest);
    }
}

/// Adds everything; the referrers of the signature itself are not listed yet.
fn add_signed(registry: &FakeRegistry) -> Signed {
    let image = small_image("app");
    registry.add_image("shop/app", "1", &image);
    let subject = image.root.digest;
    let signature = add_signature(registry, &subject, "signature");
    let timestamp = add_signature(registry, &signature.digest, "of the signature");
    list_by_tag(registry, &subject, &[&signature]);
    let cosign_tag = format!("sha256-{}.sig", subject.hex());
    let cosign = small_image("cosign");
    registry.add_image("shop/app", &cosign_tag, &cosign);
    Signed {
        subject,
        signature,
        timestamp,
        cosign_tag,
        cosign,
    }
}

async fn copy(source: &dyn ImageSource, sink: &dyn ImageSink) -> Result<CopyReport, TransferError> {
    let options = CopyOptions {
        referrers: true,
        ..mk_options()
    };
    let name = "reg.example.com/mirror/app:1".parse().unwrap();
    copy_image(source, "1", sink, Some(&name), &options, &NoProgress).await
}

async fn listed(client: &RegistryClient, subject: &Digest) -> Vec<String> {
    let found = client.list_referrers(&repository("mirror/app"), subject).await.unwrap();
    found.into_iter().map(|referrer| referrer.digest.to_string()).collect()
}

#[tokio::test]
async fn signatures_and_what_is_said_about_them_come_along_to_registries_of_both_kinds() {
    let from = FakeRegistry::start();
    let signed = add_signed(&from);
    // A cycle, which only a lying registry can have.
    list_by_tag(&from, &signed.signature.digest, &[&signed.timestamp, &signed.signature]);

    // The product's registry has the referrers API.
    let ours = Served::start().await;
    let client = ours.client();
    let sink = || RegistrySink::new(client.clone(), repository("mirror/app"), Some("1".parse().unwrap()));
    let report = copy(&mk_source(&from), &sink()).await.unwrap();
    assert_eq!(report.referrers, 3);
    signed.assert_is_in(&client).await;
    // A present image gets its new referrers.
    let again = copy(&mk_source(&from), &sink()).await.unwrap();
    assert!(again.unchanged && again.bytes_moved == 0, "{again:?}");

    // The other registry lacks the API: a fallback tag has to list them.
    let theirs = FakeRegistry::start();
    let source = RegistrySource {
        client,
        repository: repository("mirror/app"),
    };
    let sink = RegistrySink::new(mk_client(&theirs), repository("mirror/app"), Some("1".parse().unwrap()));
    copy(&source, &sink).await.unwrap();
    let client = mk_client(&theirs);
    let list = client.list_referrers(&repository("mirror/app"), &signed.subject).await;
    let list = list.unwrap();
    assert_eq!(list[0].digest, signed.signature.digest);
    assert_eq!(list[0].artifact_type.as_deref(), Some(SIGNATURE));
    assert_eq!(list[0].annotations["of"], "signature");
    signed.assert_is_in(&client).await;
    assert_eq!(
        theirs.manifest("mirror/app", &signed.cosign_tag),
        Some(signed.cosign.root_bytes())
    );
}

#[tokio::test]
async fn signatures_come_along_into_layouts_and_archives_and_out_of_them() {
    let from = FakeRegistry::start();
    let signed = add_signed(&from);
    list_by_tag(&from, &signed.signature.digest, &[&signed.timestamp]);

    let directory = tempfile::tempdir().unwrap();
    let directory = Utf8Path::from_path(directory.path()).unwrap();
    let (layout, tar) = (directory.join("layout"), directory.join("app.tar"));
    let into_layout = LayoutSink::new(&layout, Some("app".to_owned())).unwrap();
    let into_archive = ArchiveSink::new(&tar, Some("app".to_owned()), ArchiveForm::Oci).unwrap();
    for sink in [&into_layout as &dyn ImageSink, &into_archive] {
        assert_eq!(copy(&mk_source(&from), sink).await.unwrap().referrers, 3);
    }
    for found in [open_layout(&layout).unwrap(), open_archive(&tar, directory).unwrap()] {
        // Referrers are not images of their own.
        let [only] = &found[..] else { panic!("{found:?}") };
        let ours = Served::start().await;
        let client = ours.client();
        let sink = RegistrySink::new(client.clone(), repository("mirror/app"), Some("1".parse().unwrap()));
        let report = copy(&*only.source, &sink).await.unwrap();
        assert_eq!((&report.digest, report.referrers), (&signed.subject, 3));
        signed.assert_is_in(&client).await;
    }
    // Docker's archives cannot hold referrers: nothing is written.
    let docker = directory.join("docker.tar");
    let sink = ArchiveSink::new(&docker, None, ArchiveForm::Docker).unwrap();
    let error = copy(&mk_source(&from), &sink).await.unwrap_err();
    assert!(error.attempt.contains("takes no referrers"), "{error}");
    drop(sink);
    assert!(!docker.exists());
}

#[tokio::test]
async fn a_list_of_referrers_that_goes_on_elsewhere_is_not_followed() {
    let from = FakeRegistry::start();
    let elsewhere = FakeRegistry::start();
    from.add_image("shop/app", "1", &small_image("app"));
    let next = format!("<{}/v2/shop/app/referrers/x>; rel=\"next\"", elsewhere.url());
    let page = json!({"schemaVersion": 2, "manifests": []}).to_string();
    from.inject(Fault::once("/referrers/", Effect::Status(200, vec![("link", next)], page)).always());
    let to = FakeRegistry::start();
    let sink = RegistrySink::new(mk_client(&to), repository("mirror/app"), None);
    let error = copy(&mk_source(&from), &sink).await.unwrap_err();
    assert_eq!(error.kind, FailureKind::Protocol);
    assert!(error.chain().contains("on another host"), "{}", error.chain());
    assert!(elsewhere.requests().is_empty());
}
