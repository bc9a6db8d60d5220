//! Responses with content of places. The registry, the node-local mirror and the server of bundles give the same ones.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, header};
use landfall_core::reference::{Digest, Repository};
use landfall_net::serve::budget::ClientAddress;
use landfall_oci::content::names::RepositoryName;
use landfall_oci::content::place::PlacedManifest;
use landfall_oci::content::places::Places;
use landfall_oci::content::read_only::CHUNK_SIZE_MAX;
use landfall_oci::header_names::{CONTENT_DIGEST, IN_PLACE};

use crate::api::blob_reply::{BlobPlan, plan_blob};
use crate::api::budgets::{Budgets, paid};
use crate::api::conditional::{entity_tag, not_modified};
use crate::api::error::ApiError;
use crate::api::reply::{header_value, manifest_content_type};
use crate::repository::Registry;

/// Memory of a blob that is being sent, in bytes: a chunk on its way to the client, and the next one.
const STREAM_MEMORY: u64 = 2 * CHUNK_SIZE_MAX as u64;

/// A request for content of places.
#[derive(Debug, Clone, Copy)]
pub(crate) struct InPlace<'a> {
    pub(crate) places: &'a Places,
    pub(crate) budgets: &'a Budgets,
    pub(crate) name: RepositoryName<'a>,
    pub(crate) client: ClientAddress,
}

impl Registry {
    /// Returns the request of a client for content of the places behind the store.
    pub(crate) fn ask_places<'a>(&'a self, name: &'a Repository, client: ClientAddress) -> InPlace<'a> {
        InPlace {
            places: &self.places,
            budgets: &self.budgets,
            name: RepositoryName::Served(name),
            client,
        }
    }
}

impl InPlace<'_> {
    /// Answers with a blob. `None` if no place has it, or none that has it can be read.
    pub(crate) async fn get_blob(
        &self,
        digest: &Digest,
        headers: &HeaderMap,
        with_body: bool,
    ) -> Result<Option<Response>, ApiError> {
        let Some(size) = self.places.blob_size(self.name, digest) else {
            return Ok(None);
        };
        let part = match plan_blob(headers, digest, size)? {
            BlobPlan::NotModified(response) => return Ok(Some(response)),
            BlobPlan::Send(part) => part,
        };
        if !with_body {
            return Ok(Some(mark_in_place(part.respond(Body::empty()))));
        }
        let memory = self.budgets.take_answer(self.client, STREAM_MEMORY)?;
        let opened = self.places.open_blob(self.name, digest, part.offset, part.length);
        let Some(stream) = opened.await else {
            return Ok(None);
        };
        self.places.note_read(digest);
        Ok(Some(mark_in_place(paid(
            part.respond(Body::from_stream(stream)),
            memory,
        ))))
    }

    /// Answers with a manifest. `None` if no place that has it can be read.
    pub(crate) async fn get_manifest(
        &self,
        found: (&Digest, &PlacedManifest),
        headers: &HeaderMap,
        with_body: bool,
    ) -> Result<Option<Response>, ApiError> {
        let (digest, manifest) = found;
        if let Some(response) = not_modified(headers, digest) {
            return Ok(Some(response));
        }
        let mut body = Body::empty();
        let mut memory = None;
        if with_body {
            memory = self.budgets.take_answer(self.client, manifest.size)?;
            let Some(read) = self.places.read_manifest(self.name, digest).await else {
                return Ok(None);
            };
            self.places.note_read(digest);
            body = Body::from(read.bytes);
        }
        let headers = [
            (header::CONTENT_TYPE, manifest_content_type(&manifest.media_type)),
            (header::CONTENT_LENGTH, manifest.size.into()),
            (header::ETAG, entity_tag(digest)),
            (CONTENT_DIGEST, header_value(digest.as_str())),
        ];
        Ok(Some(mark_in_place(paid((headers, body).into_response(), memory))))
    }
}

/// Marks a response whose content the server does not hold: a client that pushes sends the content.
pub(crate) fn mark_in_place(mut response: Response) -> Response {
    response.headers_mut().insert(IN_PLACE, HeaderValue::from_static("1"));
    response
}
