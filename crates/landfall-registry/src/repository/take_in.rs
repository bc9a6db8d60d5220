//! Blobs that a push relies on and that only a place has. A client that pushes an image asks which blobs are here and
//! sends the others. A push may outlive the place, so the registry copies the blobs into its store before it takes the
//! manifest.

use std::sync::Arc;

use landfall_core::oci_types::{Descriptor, ManifestContent};
use landfall_core::reference::Repository;
use landfall_net::serve::budget::ClientAddress;
use landfall_oci::content::names::RepositoryName;
use landfall_oci::image::{BlobState, TransferError};
use landfall_oci::store::blocking::blocking;

use crate::api::error::ApiError;
use crate::repository::Registry;

impl Registry {
    /// Copies the blobs of an image that the repository lacks and that a place has into the store, and links them. A
    /// blob that cannot be read is left out: the push then fails, and the client sends the blob.
    pub(crate) async fn take_in_blobs(
        self: &Arc<Registry>,
        name: &Repository,
        content: &ManifestContent,
        client: ClientAddress,
    ) -> Result<(), ApiError> {
        let served = RepositoryName::Served(name);
        // An index is taken without its entries.
        let ManifestContent::Image(_) = content else {
            return Ok(());
        };
        if !self.places.has_repository(served) {
            return Ok(());
        }
        for blob in content.children().filter(|blob| !blob.is_foreign()) {
            if self.size_in_place(name, &blob.digest)? != Some(blob.size) {
                continue;
            }
            let (registry, repository, wanted) = (self.clone(), name.clone(), blob.clone());
            let state = blocking(move || {
                let is_linked = registry.has_blob(&repository, &wanted.digest)?;
                Ok((registry.store.blob_state(&wanted)?, is_linked))
            });
            let (state, is_linked) = state.await?;
            if state == BlobState::Complete && is_linked {
                continue;
            }
            // The lease keeps the blob until it is linked.
            let lease = self.store.lease();
            lease.add(&blob.digest);
            if let BlobState::Missing | BlobState::Partial(_) = state {
                let _slot = self.budgets.take_upload(client)?;
                self.check_space(blob.size)?;
                match self.copy_from_place(name, blob, state).await {
                    Ok(true) => {}
                    Ok(false) => continue,
                    Err(error) => {
                        tracing::warn!(error = error.chain(), "a blob cannot be taken over from a place");
                        continue;
                    }
                }
            }
            let (registry, repository, digest) = (self.clone(), name.clone(), blob.digest.clone());
            blocking(move || registry.link(&repository, &digest)).await?;
        }
        Ok(())
    }

    /// Returns false if no place can be read.
    async fn copy_from_place(
        &self,
        name: &Repository,
        blob: &Descriptor,
        state: BlobState,
    ) -> Result<bool, TransferError> {
        let offset = match state {
            BlobState::Partial(offset) => offset,
            BlobState::Complete | BlobState::Missing => 0,
        };
        let served = RepositoryName::Served(name);
        let stream = self.places.open_blob(served, &blob.digest, offset, blob.size - offset);
        match stream.await {
            Some(stream) => self.store.receive_blob(blob, offset, stream).await.map(|()| true),
            None => Ok(false),
        }
    }
}
