//! Carried signatures of images, made by cosign 3.1.3 with `cosign sign --key` in both forms, verified by key.
//!
//! `tests/data/cosign` holds the bytes that cosign pushed: the image, `classic.json` (the manifest under the tag `.sig`,
//! with signatures by three keys over `payload.json`), and for each key the referrer and its bundle.

#![expect(clippy::unwrap_used, reason = "test set-up")]

mod common;

use common::mk_source;
use landfall_core::cosign::{CosignOutcome, ImageRefusal, SignatureForm, SignatureProblem};
use landfall_core::failure::FailureKind;
use landfall_core::oci_types::{Descriptor, media_type};
use landfall_core::reference::Digest;
use landfall_oci::bundle::signature::PublicKey;
use landfall_oci::cosign::verify_image;
use landfall_oci::image::ImageSource;
use landfall_testkit::fake_registry::{Effect, FakeRegistry, Fault};
use landfall_testkit::image_builder::digest_of;
use serde_json::{Value, json};

const REPOSITORY: &str = "shop/app";
const BUNDLE_TYPE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
const IMAGE: &str = include_str!("data/cosign/image.json");
const CLASSIC: &str = include_str!("data/cosign/classic.json");
const PAYLOAD: &str = include_str!("data/cosign/payload.json");

/// A bundle and the referrer that carries it.
struct Carried {
    referrer: &'static str,
    bundle: &'static str,
}

const P256: Carried = Carried {
    referrer: include_str!("data/cosign/referrer-p256.json"),
    bundle: include_str!("data/cosign/bundle-p256.json"),
};
const RSA: Carried = Carried {
    referrer: include_str!("data/cosign/referrer-rsa.json"),
    bundle: include_str!("data/cosign/bundle-rsa.json"),
};
const P384: Carried = Carried {
    referrer: include_str!("data/cosign/referrer-p384.json"),
    bundle: include_str!("data/cosign/bundle-p384.json"),
};
/// An attestation by the key of [`P256`].
const ATTESTATION: Carried = Carried {
    referrer: include_str!("data/cosign/referrer-attestation.json"),
    bundle: include_str!("data/cosign/bundle-attestation.json"),
};
/// A signature by the key of [`P256`] over the bytes of the image's manifest.
const MESSAGE: &str = include_str!("data/cosign/message-p256.json");

fn key(text: &str) -> PublicKey {
    PublicKey::parse(text).unwrap()
}

fn keys() -> [PublicKey; 3] {
    [
        key(include_str!("data/cosign/p256.pub")),
        key(include_str!("data/cosign/rsa.pub")),
        key(include_str!("data/cosign/p384.pub")),
    ]
}

fn image() -> Digest {
    digest_of(IMAGE.as_bytes())
}

fn mk_registry() -> FakeRegistry {
    let registry = FakeRegistry::start();
    registry.add_manifest(REPOSITORY, image().as_str(), media_type::OCI_MANIFEST, IMAGE);
    registry
}

/// Lists manifests as referrers of the image.
fn list(registry: &FakeRegistry, referrers: &[String]) {
    let entries: Vec<Descriptor> = referrers
        .iter()
        .map(|bytes| {
            let digest = digest_of(bytes.as_bytes());
            registry.add_manifest(REPOSITORY, digest.as_str(), media_type::OCI_MANIFEST, bytes.clone());
            Descriptor::new(media_type::OCI_MANIFEST, digest, bytes.len() as u64)
        })
        .collect();
    let index = json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": entries});
    let tag = format!("sha256-{}", image().hex());
    registry.add_manifest(REPOSITORY, &tag, media_type::OCI_INDEX, index.to_string());
}

fn add_bundles(registry: &FakeRegistry, carried: &[&Carried]) {
    for one in carried {
        registry.add_blob(BUNDLE_TYPE, one.bundle);
    }
    let referrers: Vec<String> = carried.iter().map(|one| one.referrer.to_owned()).collect();
    list(registry, &referrers);
}

fn add_classic(registry: &FakeRegistry, manifest: &str) {
    registry.add_blob("application/vnd.dev.cosign.simplesigning.v1+json", PAYLOAD);
    let tag = format!("sha256-{}.sig", image().hex());
    registry.add_manifest(REPOSITORY, &tag, media_type::OCI_MANIFEST, manifest.to_owned());
}

/// Returns a referrer with one layer.
fn referrer(layer: &Descriptor) -> String {
    let mut manifest: Value = serde_json::from_str(P256.referrer).unwrap();
    manifest["layers"] = json!([layer]);
    manifest.to_string()
}

async fn verify(registry: &FakeRegistry, keys: &[PublicKey]) -> CosignOutcome {
    let source = mk_source(registry);
    verify_image(&source, &image(), keys)
        .await
        .unwrap_or_else(|error| panic!("{}", error.chain()))
}

fn signed(key: &PublicKey, form: SignatureForm) -> CosignOutcome {
    CosignOutcome::Signed {
        key: key.id().clone(),
        form,
    }
}

fn not_trusted(problems: &[SignatureProblem]) -> CosignOutcome {
    CosignOutcome::Refused(ImageRefusal::NotTrusted(problems.to_vec()))
}

#[tokio::test]
async fn both_forms_are_verified_with_each_kind_of_key() {
    let classic = mk_registry();
    add_classic(&classic, CLASSIC);
    let bundles = mk_registry();
    add_bundles(&bundles, &[&ATTESTATION, &P256, &RSA, &P384]);
    for key in &keys() {
        let one = std::slice::from_ref(key);
        assert_eq!(
            verify(&classic, one).await,
            signed(key, SignatureForm::Classic),
            "{key:?}"
        );
        assert_eq!(
            verify(&bundles, one).await,
            signed(key, SignatureForm::Bundle),
            "{key:?}"
        );
    }
    let outcome = verify(&classic, &[]).await;
    assert_eq!(outcome, not_trusted(&vec![SignatureProblem::OtherKey; 3]));
}

#[tokio::test]
async fn a_signature_over_the_manifest_itself_is_verified() {
    let registry = mk_registry();
    let blob = registry.add_blob(BUNDLE_TYPE, MESSAGE);
    list(&registry, &[referrer(&blob)]);
    let [p256, rsa, _] = keys();
    let expected = signed(&p256, SignatureForm::Bundle);
    assert_eq!(verify(&registry, &[rsa.clone(), p256]).await, expected);
    assert_eq!(
        verify(&registry, &[rsa]).await,
        not_trusted(&[SignatureProblem::OtherKey])
    );
}

#[tokio::test]
async fn an_attestation_is_no_signature() {
    let registry = mk_registry();
    let [p256, ..] = keys();
    assert_eq!(
        verify(&registry, std::slice::from_ref(&p256)).await,
        CosignOutcome::Refused(ImageRefusal::Unsigned)
    );
    add_bundles(&registry, &[&ATTESTATION]);
    let kind = "https://cosign.sigstore.dev/attestation/v1".to_owned();
    let expected = not_trusted(&[SignatureProblem::OtherStatement(kind)]);
    assert_eq!(verify(&registry, &[p256]).await, expected);
}

#[tokio::test]
async fn a_signature_of_another_image_is_refused() {
    let registry = mk_registry();
    registry.add_blob(BUNDLE_TYPE, P256.bundle);
    let other = format!("{IMAGE} ");
    let digest = digest_of(other.as_bytes());
    registry.add_manifest(REPOSITORY, digest.as_str(), media_type::OCI_MANIFEST, other);
    for (tag, bytes, of_media) in [
        (format!("sha256-{}.sig", digest.hex()), CLASSIC, PAYLOAD),
        (format!("sha256-{}.sig", digest.hex()), P256.referrer, P256.bundle),
    ] {
        registry.add_blob("application/octet-stream", of_media);
        registry.add_manifest(REPOSITORY, &tag, media_type::OCI_MANIFEST, bytes);
        let outcome = verify_image(&mk_source(&registry), &digest, &keys()).await.unwrap();
        let CosignOutcome::Refused(ImageRefusal::NotTrusted(problems)) = outcome else {
            panic!("{outcome:?}");
        };
        assert_eq!(problems[0], SignatureProblem::OtherImage(image().to_string()));
    }
}

#[tokio::test]
async fn a_changed_document_is_damaged_and_another_signature_still_counts() {
    let [p256, rsa, _] = keys();
    for effect in [Effect::FlipBit, Effect::Truncate(9)] {
        let name = format!("{effect:?}");
        let registry = mk_registry();
        add_bundles(&registry, &[&P256, &RSA]);
        let path = format!("/blobs/{}", digest_of(P256.bundle.as_bytes()));
        let fault = || Fault {
            times: u32::MAX,
            ..Fault::once(&path, effect.clone())
        };
        registry.inject(fault());
        let expected = not_trusted(&[SignatureProblem::Damaged, SignatureProblem::OtherKey]);
        assert_eq!(verify(&registry, std::slice::from_ref(&p256)).await, expected, "{name}");
        assert_eq!(
            verify(&registry, &[p256.clone(), rsa.clone()]).await,
            signed(&rsa, SignatureForm::Bundle),
            "{name}"
        );
    }
}

#[tokio::test]
async fn a_signature_that_cannot_be_fetched_is_an_error_unless_another_one_is_good() {
    let [p256, rsa, _] = keys();
    let registry = mk_registry();
    add_bundles(&registry, &[&P256, &RSA]);
    registry.remove_blob(&digest_of(P256.bundle.as_bytes()));
    let source = mk_source(&registry);
    assert_eq!(
        verify(&registry, &[rsa.clone(), p256.clone()]).await,
        signed(&rsa, SignatureForm::Bundle)
    );
    let error = verify_image(&source, &image(), &[p256]).await.unwrap_err();
    assert_eq!(error.kind, FailureKind::NotFound);
    assert!(source.describe().contains(REPOSITORY));
}

#[tokio::test]
async fn a_large_document_is_not_fetched() {
    let registry = mk_registry();
    let mut blob = registry.add_blob(BUNDLE_TYPE, P256.bundle);
    blob.size = 1024 * 1024 + 1;
    list(&registry, &[referrer(&blob)]);
    let [p256, ..] = keys();
    let expected = not_trusted(&[SignatureProblem::TooLarge { size: blob.size }]);
    assert_eq!(verify(&registry, &[p256]).await, expected);
    assert!(
        registry
            .requests()
            .iter()
            .all(|request| !request.path.contains("/blobs/"))
    );
}
