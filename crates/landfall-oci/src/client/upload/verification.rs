//! The proof that a registry verifies uploads: a tiny upload under a wrong digest, which the registry has to refuse.
//! Bytes for such a registry need no hash of our own.

use bytes::Bytes;
use futures_util::stream;
use landfall_core::failure::Shortcut;
use landfall_core::oci_types::Descriptor;
use landfall_core::reference::Repository;

use crate::client::error::Fault;
use crate::client::registry_client::RegistryClient;
use crate::digest::digest_of;

/// Content of the upload.
const BYTES: &[u8] = b"This upload has a wrong digest. The registry refuses it.";
/// Code of the refusal in the distribution specification.
pub(in crate::client) const DIGEST_INVALID: &str = "DIGEST_INVALID";

impl RegistryClient {
    /// Returns true if the registry refused an upload with a wrong digest. The question is asked once: all clones of
    /// the client know the answer. Any answer but that refusal counts as no proof.
    pub(in crate::client) async fn verifies_uploads(&self, repository: &Repository) -> bool {
        *self.verifies.get_or_init(|| self.prove_verification(repository)).await
    }

    async fn prove_verification(&self, repository: &Repository) -> bool {
        let blob = Descriptor::new("", digest_of(b"other bytes"), BYTES.len() as u64);
        let question = Box::pin(async {
            let session = self.post_upload(repository).await?;
            let bytes = Box::pin(stream::iter([Ok(Bytes::from_static(BYTES))]));
            match self.finish(repository, &blob, session, bytes).await {
                Err(Fault::Answer { message, .. }) if message.has_code(DIGEST_INVALID) => Ok(true),
                other => other.map(|()| false),
            }
        });
        let answer = self
            .try_shortcut(Shortcut::UploadVerification, repository, question)
            .await;
        let is_proven = answer.ok().flatten().unwrap_or(false);
        tracing::debug!(registry = %self.host(), is_proven, "asked whether uploads are verified");
        is_proven
    }
}
