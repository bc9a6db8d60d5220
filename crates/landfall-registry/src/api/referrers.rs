//! Lists of referrers, in pages of at most 4 MiB (OCI distribution specification, "Listing Referrers"). Large
//! annotations are read from the manifests for the page that shows them. The memory for it is bounded for each client
//! and in all.

use std::ops::Bound;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::Query;
use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, Uri, header};
use landfall_core::oci_types::{Descriptor, media_type};
use landfall_core::reference::{Digest, Repository};
use landfall_net::serve::budget::ClientAddress;
use landfall_oci::store::blocking::blocking;
use landfall_oci::store::error::StoreError;
use serde::Deserialize;

use crate::api::budgets::paid;
use crate::api::error::ApiError;
use crate::api::listing::{bad_query, encode, next_link};
use crate::api::route::parse_digest;
use crate::repository::Registry;
use crate::repository::manifest_cache::MANIFEST_SIZE_MAX;
use crate::repository::record::ManifestEntry;

const FILTERS_APPLIED: HeaderName = HeaderName::from_static("oci-filters-applied");
/// Largest page, in bytes: clients take manifests of 4 MiB.
const PAGE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Referrers on a page at most.
const PAGE_REFERRERS_MAX: usize = 2000;
/// Memory for a page with annotations of manifests: the page, a manifest, and its annotations twice.
const LARGE_PAGE_MEMORY: u64 = 4 * PAGE_BYTES_MAX as u64;
const PAGE_HEAD: &str = r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":["#;
const PAGE_END: &str = "]}";

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ReferrersQuery {
    artifact_type: Option<String>,
    /// Last digest of the previous page.
    last: Option<String>,
}

/// Annotations of a manifest. All else is skipped.
#[derive(Deserialize)]
struct Annotations {
    #[serde(default)]
    annotations: std::collections::BTreeMap<String, String>,
}

impl Registry {
    /// Lists the manifests that refer to a digest. The list of an unknown digest is empty.
    pub(crate) async fn list_referrers(
        self: &Arc<Registry>,
        name: &Repository,
        digest: &Digest,
        uri: &Uri,
        client: ClientAddress,
    ) -> Result<Response, ApiError> {
        let Query(query) = Query::<ReferrersQuery>::try_from_uri(uri).map_err(|_| bad_query())?;
        let last = query.last.as_deref().map(parse_digest).transpose()?;
        let wanted = query.artifact_type.as_deref();
        let (found, more) = self.find_referrers(name, digest, wanted, last.as_ref())?;
        let memory = if found.iter().any(|(_, entry)| entry.lacks_annotations()) {
            LARGE_PAGE_MEMORY
        } else {
            // About 1.5 KiB each, in the list and on the page.
            found.len() as u64 * 3 * 1024
        };
        let memory = self.budgets.take_answer(client, memory)?;
        let registry = self.clone();
        let (page, last_of_page) = blocking(move || registry.render_page(&found, more)).await?;
        let content_type = HeaderValue::from_static(media_type::OCI_INDEX);
        let mut response = ([(header::CONTENT_TYPE, content_type)], Body::from(page)).into_response();
        if wanted.is_some() {
            response
                .headers_mut()
                .insert(FILTERS_APPLIED, HeaderValue::from_static("artifactType"));
        }
        if let Some(last) = last_of_page {
            let filter = wanted.map_or_else(String::new, |wanted| format!("artifactType={}&", encode(wanted)));
            let link = next_link(&format!(
                "/v2/{name}/referrers/{digest}?{filter}last={}",
                encode(last.as_str())
            ));
            response.headers_mut().insert(header::LINK, link);
        }
        Ok(paid(response, memory))
    }

    /// Finds the referrers after a digest, in order, and returns true if there are more than fit on a page.
    fn find_referrers(
        &self,
        name: &Repository,
        subject: &Digest,
        wanted: Option<&str>,
        after: Option<&Digest>,
    ) -> Result<(Vec<(Digest, ManifestEntry)>, bool), StoreError> {
        let Some(cached) = self.records.get(name)? else {
            return Ok((Vec::new(), false));
        };
        let begin = after.map_or(Bound::Unbounded, Bound::Excluded);
        let record = cached.read();
        let mut found = record
            .manifests
            .range::<Digest, _>((begin, Bound::Unbounded))
            .filter(|(_, entry)| {
                entry.referrer.as_ref().is_some_and(|referrer| {
                    referrer.subject == *subject
                        && wanted.is_none_or(|wanted| referrer.artifact_type.as_deref() == Some(wanted))
                })
            })
            .map(|(digest, entry)| (digest.clone(), entry.clone()));
        let page = found.by_ref().take(PAGE_REFERRERS_MAX).collect();
        Ok((page, found.next().is_some()))
    }

    /// Renders as many referrers as fit on a page. Returns the last digest of the page if another one follows.
    fn render_page(
        &self,
        found: &[(Digest, ManifestEntry)],
        more: bool,
    ) -> Result<(Vec<u8>, Option<Digest>), StoreError> {
        let mut page = PAGE_HEAD.as_bytes().to_vec();
        let mut shown: Option<&Digest> = None;
        for (digest, entry) in found {
            let mut descriptor = self.describe_referrer(digest, entry)?;
            let room = PAGE_BYTES_MAX - page.len() - PAGE_END.len() - 1;
            let mut text = render(&descriptor);
            if text.len() > room {
                if let Some(shown) = shown {
                    page.extend_from_slice(PAGE_END.as_bytes());
                    return Ok((page, Some(shown.clone())));
                }
                // It fits on no page. The client finds the annotations in the manifest.
                descriptor.annotations.clear();
                text = render(&descriptor);
            }
            if shown.is_some() {
                page.push(b',');
            }
            page.extend_from_slice(&text);
            shown = Some(digest);
        }
        page.extend_from_slice(PAGE_END.as_bytes());
        Ok((page, shown.filter(|_| more).cloned()))
    }

    /// Returns a referrer's descriptor, with annotations from its manifest where the record has none. Without them if the
    /// manifest cannot be read: a pull of it says why.
    fn describe_referrer(&self, digest: &Digest, entry: &ManifestEntry) -> Result<Descriptor, StoreError> {
        let mut descriptor = entry.describe(digest);
        if entry.lacks_annotations() {
            match self.store.read_blob(digest, MANIFEST_SIZE_MAX as u64) {
                Ok(bytes) => {
                    if let Ok(Annotations { annotations }) = serde_json::from_slice(&bytes) {
                        descriptor.annotations = annotations;
                    }
                }
                Err(StoreError::Missing { .. } | StoreError::Damaged { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(descriptor)
    }
}

fn render(descriptor: &Descriptor) -> Vec<u8> {
    serde_json::to_vec(descriptor).expect("descriptors are strings and numbers, which JSON can hold")
}
