//! Uploads to registries that verify them, and to registries that do not: wrong bytes arrive in neither, and the error
//! names the side that has them.

#![expect(clippy::unwrap_used, reason = "test set-up")]

mod common;

use common::{log, mk_bytes, mk_client, mk_options, mk_source, repository};
use landfall_core::failure::FailureKind;
use landfall_core::status::NoProgress;
use landfall_oci::client::RegistrySink;
use landfall_oci::copy::{CopyReport, UploadHash, copy_image};
use landfall_oci::image::TransferError;
use landfall_testkit::fake_registry::{Effect, FakeRegistry, Fault};
use landfall_testkit::image_builder::{FixtureBuilder, ImageFixture};

/// Longer than the shortest blob that is left to the registry's verification.
const LAYER: u32 = 9 * 1024 * 1024;

struct Registries {
    from: FakeRegistry,
    to: FakeRegistry,
    image: ImageFixture,
}

impl Registries {
    fn start() -> Registries {
        let image = FixtureBuilder::new().plain_layer(&[("data", &mk_bytes(LAYER))]).build();
        let from = FakeRegistry::start();
        from.add_image("shop/app", "1", &image);
        let to = FakeRegistry::start();
        Registries { from, to, image }
    }

    /// Flips a bit of the layer whenever the source is asked for it, at most `times` times.
    fn flip(&self, times: u32) {
        let blobs = self.image.described_blobs().map(|(blob, _)| blob);
        let layer = blobs.max_by_key(|blob| blob.size).unwrap();
        let path = format!("/blobs/{}", layer.digest);
        self.from.inject(Fault::once(&path, Effect::FlipBit).times(times));
    }

    /// Makes the destination accept the first upload that is ended, whatever its bytes are.
    fn accept_anything_once(&self) {
        let accepted = Effect::Status(201, Vec::new(), String::new());
        self.to.inject(Fault::once("/blobs/uploads/", accepted).method("PUT"));
    }

    async fn copy(&self, upload_hash: UploadHash) -> Result<CopyReport, TransferError> {
        let mut options = mk_options();
        options.upload_hash = upload_hash;
        let sink = RegistrySink::new(mk_client(&self.to), repository("mirror/app"), None);
        copy_image(&mk_source(&self.from), "1", &sink, None, &options, &NoProgress).await
    }

    fn assert_copied(&self) {
        for (digest, bytes) in &self.image.blobs {
            assert_eq!(self.to.blob(digest).as_ref(), Some(bytes), "{}", log(&self.to));
        }
    }

    /// Returns the statuses of the ended uploads, sorted.
    fn ended(&self) -> Vec<Option<u16>> {
        let requests = self.to.requests();
        let ended = requests
            .iter()
            .filter(|request| request.method == "PUT" && request.path.contains("/uploads/"));
        let mut ended: Vec<_> = ended.map(|request| request.status).collect();
        ended.sort_unstable();
        ended
    }
}

#[tokio::test]
async fn a_registry_that_verifies_is_asked_once() {
    let registries = Registries::start();
    registries.copy(UploadHash::WhereUnverified).await.unwrap();
    registries.assert_copied();
    // The layer, the configuration, and the upload that has to be refused.
    assert_eq!(registries.ended(), [Some(201), Some(201), Some(400)]);
}

#[tokio::test]
async fn a_copy_that_always_hashes_asks_nothing() {
    let registries = Registries::start();
    registries.copy(UploadHash::Always).await.unwrap();
    assert_eq!(registries.ended(), [Some(201), Some(201)]);
}

#[tokio::test]
async fn bytes_that_were_wrong_once_are_refused_by_the_registry_and_sent_again() {
    let registries = Registries::start();
    registries.flip(1);
    registries.copy(UploadHash::WhereUnverified).await.unwrap();
    registries.assert_copied();
    assert_eq!(registries.ended(), [Some(201), Some(201), Some(400), Some(400)]);
}

#[tokio::test]
async fn a_source_with_wrong_bytes_is_named() {
    for (upload_hash, refused) in [(UploadHash::WhereUnverified, 2), (UploadHash::Always, 0)] {
        let registries = Registries::start();
        registries.flip(u32::MAX);
        let error = registries.copy(upload_hash).await.unwrap_err();
        assert_eq!(error.kind, FailureKind::Corrupt);
        assert!(
            error.attempt.starts_with("the source's bytes of blob"),
            "{}",
            error.chain()
        );
        let seen = registries.ended().iter().filter(|status| **status == Some(400)).count();
        assert_eq!(seen, refused, "{}", log(&registries.to));
    }
}

#[tokio::test]
async fn a_copy_succeeds_whatever_a_registry_answers_to_the_question() {
    let html = vec![("content-type", "text/html".to_owned())];
    for status in [200, 401, 403, 404, 405, 406, 409, 416, 429, 500, 503, 507] {
        let registries = Registries::start();
        let answer = Effect::Status(status, html.clone(), "<html></html>".to_owned());
        registries
            .to
            .inject(Fault::once("/blobs/uploads/", answer).method("PUT"));
        let copied = registries.copy(UploadHash::WhereUnverified).await;
        assert_eq!(copied.err().map(|error| error.chain()), None, "{status}");
        registries.assert_copied();
    }
}

#[tokio::test]
async fn wrong_bytes_never_reach_a_registry_that_accepts_anything() {
    let registries = Registries::start();
    registries.accept_anything_once();
    registries.flip(1);
    registries.copy(UploadHash::WhereUnverified).await.unwrap();
    registries.assert_copied();
    // The end of the wrong bytes was held back: nothing was refused.
    assert!(!registries.ended().contains(&Some(400)), "{}", log(&registries.to));
}
