//! Blobs: download, whole or by range, and deletion.

use std::sync::Arc;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode};
use landfall_core::reference::{Digest, Repository};
use landfall_net::serve::budget::ClientAddress;
use landfall_oci::store::blocking::blocking;
use landfall_oci::store::error::StoreError;

use crate::api::blob_reply::{BlobPlan, plan_blob};
use crate::api::error::{ApiError, ErrorCode};
use crate::api::in_place::mark_in_place;
use crate::fast_path::body::FileBody;
use crate::repository::record::RecordChange;
use crate::repository::{BlobAnswer, BlobAsker, Registry};

impl Registry {
    pub(crate) async fn get_blob(
        self: &Arc<Registry>,
        name: &Repository,
        digest: &Digest,
        headers: &HeaderMap,
        blob_body: BlobBody,
        client: ClientAddress,
    ) -> Result<Response, ApiError> {
        // A HEAD request usually precedes a push: the client uploads the missing blobs and relies on the others.
        let asker = match blob_body {
            BlobBody::Omitted => BlobAsker::Pusher,
            BlobBody::Stream | BlobBody::File => BlobAsker::Puller,
        };
        let Some(BlobAnswer { size, renew }) = self.answer_blob(name, digest, asker)? else {
            let in_place = self.get_blob_in_place(name, digest, headers, asker, client).await?;
            return in_place.ok_or_else(|| unknown_blob(name, digest));
        };
        if renew {
            let (registry, repository, blob) = (self.clone(), name.clone(), digest.clone());
            blocking(move || registry.link(&repository, &blob)).await?;
        }
        let part = match plan_blob(headers, digest, size)? {
            BlobPlan::NotModified(response) => return Ok(response),
            BlobPlan::Send(part) => part,
        };
        let mut file = None;
        let body = match blob_body {
            BlobBody::Omitted => Body::empty(),
            BlobBody::Stream => Body::from_stream(self.store.stream_blob(digest, part.offset, part.length).await?),
            BlobBody::File => {
                let (opened, _path) = self.store.open_blob(digest, 0)?.into_parts();
                file = Some(FileBody {
                    file: Arc::new(opened),
                    offset: part.offset,
                    length: part.length,
                });
                Body::empty()
            }
        };
        let mut response = part.respond(body);
        if let Some(file) = file {
            response.extensions_mut().insert(file);
        }
        Ok(response)
    }

    /// Answers with a blob that the repository lacks and that is served because of a place. A blob that the store has
    /// is streamed from there.
    async fn get_blob_in_place(
        &self,
        name: &Repository,
        digest: &Digest,
        headers: &HeaderMap,
        asker: BlobAsker,
        client: ClientAddress,
    ) -> Result<Option<Response>, ApiError> {
        let Some(size) = self.size_in_place(name, digest)? else {
            return Ok(None);
        };
        let served = self.ask_places(name, client);
        let with_body = asker == BlobAsker::Puller;
        if let Some(response) = served.get_blob(digest, headers, with_body).await? {
            return Ok(Some(response));
        }
        let part = match plan_blob(headers, digest, size)? {
            BlobPlan::NotModified(response) => return Ok(Some(response)),
            BlobPlan::Send(part) => part,
        };
        let stream = match self.store.stream_blob(digest, part.offset, part.length).await {
            Ok(stream) => stream,
            // The place is gone by now, or its blob is not readable.
            Err(StoreError::Missing { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let body = if with_body {
            Body::from_stream(stream)
        } else {
            Body::empty()
        };
        Ok(Some(mark_in_place(part.respond(body))))
    }

    /// Unlinks a blob that no manifest of the repository references. The next garbage collection deletes the bytes.
    pub(crate) async fn delete_blob(
        self: &Arc<Registry>,
        name: &Repository,
        digest: &Digest,
    ) -> Result<Response, ApiError> {
        let (registry, repository, blob) = (self.clone(), name.clone(), digest.clone());
        let deletion = blocking(move || registry.unlink(&repository, &blob));
        match deletion.await? {
            UnlinkOutcome::Unlinked => Ok(StatusCode::ACCEPTED.into_response()),
            UnlinkOutcome::Unknown => Err(unknown_blob(name, digest)),
            UnlinkOutcome::InUse => Err(ApiError::new(
                StatusCode::METHOD_NOT_ALLOWED,
                ErrorCode::Unsupported,
                format!("a manifest of `{name}` needs the blob; delete that one first"),
            )),
        }
    }

    fn unlink(&self, name: &Repository, digest: &Digest) -> Result<UnlinkOutcome, StoreError> {
        let manifests: Option<Vec<Digest>> = self
            .records
            .peek(name, |record| record.manifests.keys().cloned().collect())?;
        let Some(manifests) = manifests else {
            return Ok(UnlinkOutcome::Unknown);
        };
        let reachable = self.store.reachable(manifests)?;
        // What a damaged manifest names is not known.
        if reachable.content.contains(digest) || !reachable.unreadable.is_empty() {
            return Ok(UnlinkOutcome::InUse);
        }
        self.records.change(name, |record| {
            let known = record.blobs.contains_key(digest);
            let change = known.then(|| RecordChange::DropBlob { digest: digest.clone() });
            let deletion = if known {
                UnlinkOutcome::Unlinked
            } else {
                UnlinkOutcome::Unknown
            };
            (change.into_iter().collect(), deletion)
        })
    }
}

/// Form in which a response carries a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BlobBody {
    /// Headers only.
    Omitted,
    /// As a body that is streamed.
    Stream,
    /// As a file that the fast path sends.
    File,
}

enum UnlinkOutcome {
    Unlinked,
    Unknown,
    InUse,
}

pub(crate) fn unknown_blob(name: &Repository, digest: &Digest) -> ApiError {
    ApiError::new(
        StatusCode::NOT_FOUND,
        ErrorCode::BlobUnknown,
        format!("the repository `{name}` has no blob `{digest}`"),
    )
}
