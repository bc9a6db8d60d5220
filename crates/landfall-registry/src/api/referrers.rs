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
use landfall_oci::content::names::RepositoryName;
use landfall_oci::content::places::Places;
use landfall_oci::store::blocking::blocking;
use landfall_oci::store::error::StoreError;
use serde::Deserialize;

use crate::api::budgets::paid;
use crate::api::error::ApiError;
use crate::api::in_place::InPlace;
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

/// A request for a list of referrers.
#[derive(Debug)]
pub(crate) struct ReferrersRequest<'a> {
    /// Name of the repository in the request.
    name: &'a Repository,
    subject: &'a Digest,
    artifact_type: Option<String>,
    last: Option<Digest>,
}

/// A referrer that is listed.
#[derive(Debug)]
enum ListedReferrer {
    Recorded(Digest, ManifestEntry),
    InPlace(Descriptor),
}

impl ListedReferrer {
    fn digest(&self) -> &Digest {
        match self {
            ListedReferrer::Recorded(digest, _) => digest,
            ListedReferrer::InPlace(descriptor) => &descriptor.digest,
        }
    }

    /// Returns the descriptor, with the annotations that are in memory.
    fn describe(&self) -> Descriptor {
        match self {
            ListedReferrer::Recorded(digest, entry) => entry.describe(digest),
            ListedReferrer::InPlace(descriptor) => descriptor.clone(),
        }
    }

    /// Returns true if the annotations may be large.
    fn is_large(&self) -> bool {
        match self {
            ListedReferrer::Recorded(_, entry) => entry.lacks_annotations(),
            ListedReferrer::InPlace(_) => true,
        }
    }
}

impl<'a> ReferrersRequest<'a> {
    pub(crate) fn parse(name: &'a Repository, subject: &'a Digest, uri: &Uri) -> Result<Self, ApiError> {
        let Query(query) = Query::<ReferrersQuery>::try_from_uri(uri).map_err(|_| bad_query())?;
        Ok(ReferrersRequest {
            name,
            subject,
            last: query.last.as_deref().map(parse_digest).transpose()?,
            artifact_type: query.artifact_type,
        })
    }

    /// Returns true if this page may show a referrer with this digest and artifact type.
    fn wants(&self, digest: &Digest, artifact_type: Option<&str>) -> bool {
        self.last.as_ref().is_none_or(|last| digest > last)
            && (self.artifact_type.is_none() || self.artifact_type.as_deref() == artifact_type)
    }

    /// Returns the referrers in places, as far as this page may show them.
    fn find_in_place(&self, places: &Places, name: RepositoryName<'_>) -> Vec<ListedReferrer> {
        let found = places.referrers(name, self.subject).into_values();
        found
            .filter(|found| self.wants(&found.digest, found.artifact_type.as_deref()))
            .map(ListedReferrer::InPlace)
            .collect()
    }

    fn respond(&self, (page, last_of_page): (Vec<u8>, Option<Digest>)) -> Response {
        let content_type = HeaderValue::from_static(media_type::OCI_INDEX);
        let mut response = ([(header::CONTENT_TYPE, content_type)], Body::from(page)).into_response();
        let headers = response.headers_mut();
        let wanted = self.artifact_type.as_deref();
        if wanted.is_some() {
            headers.insert(FILTERS_APPLIED, HeaderValue::from_static("artifactType"));
        }
        if let Some(last) = last_of_page {
            let filter = wanted.map_or_else(String::new, |wanted| format!("artifactType={}&", encode(wanted)));
            let link = next_link(&format!(
                "/v2/{}/referrers/{}?{filter}last={}",
                self.name,
                self.subject,
                encode(last.as_str())
            ));
            headers.insert(header::LINK, link);
        }
        response
    }
}

/// Lists the referrers in places alone.
pub(crate) fn list_referrers_in_place(
    request: &ReferrersRequest<'_>,
    served: &InPlace<'_>,
) -> Result<Response, ApiError> {
    let mut found = request.find_in_place(served.places, served.name);
    let more = found.len() > PAGE_REFERRERS_MAX;
    found.truncate(PAGE_REFERRERS_MAX);
    let memory = served.budgets.take_answer(served.client, page_memory(&found))?;
    let page = render_page(&found, more, |found| Ok(found.describe()))?;
    Ok(paid(request.respond(page), memory))
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
        let request = ReferrersRequest::parse(name, digest, uri)?;
        let (found, more) = self.find_referrers(&request)?;
        let memory = self.budgets.take_answer(client, page_memory(&found))?;
        let registry = self.clone();
        let page = blocking(move || render_page(&found, more, |found| registry.describe_referrer(found)));
        Ok(paid(request.respond(page.await?), memory))
    }

    /// Finds the referrers of a page, in order, and returns true if there are more than fit on it.
    fn find_referrers(&self, request: &ReferrersRequest<'_>) -> Result<(Vec<ListedReferrer>, bool), StoreError> {
        let mut found: Vec<ListedReferrer> = Vec::new();
        let cached = self.records.get(request.name)?;
        if let Some(cached) = &cached {
            let begin = request.last.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
            let record = cached.read();
            let recorded = record.manifests.range::<Digest, _>((begin, Bound::Unbounded));
            let recorded = recorded.filter(|(digest, entry)| {
                entry.referrer.as_ref().is_some_and(|referrer| {
                    referrer.subject == *request.subject && request.wants(digest, referrer.artifact_type.as_deref())
                })
            });
            found.extend(
                recorded
                    .take(PAGE_REFERRERS_MAX + 1)
                    .map(|(digest, entry)| ListedReferrer::Recorded(digest.clone(), entry.clone())),
            );
        }
        let in_place = request.find_in_place(&self.places, RepositoryName::Served(request.name));
        if !in_place.is_empty() {
            // Of the same referrer, the one of the record is first and stays.
            found.extend(in_place);
            found.sort_by(|one, other| one.digest().cmp(other.digest()));
            found.dedup_by(|later, earlier| later.digest() == earlier.digest());
        }
        let more = found.len() > PAGE_REFERRERS_MAX;
        found.truncate(PAGE_REFERRERS_MAX);
        Ok((found, more))
    }

    /// Returns a referrer's descriptor, with annotations from its manifest where the record has none. Without them if the
    /// manifest cannot be read: a pull of it says why.
    fn describe_referrer(&self, found: &ListedReferrer) -> Result<Descriptor, StoreError> {
        let mut descriptor = found.describe();
        if let ListedReferrer::Recorded(digest, entry) = found
            && entry.lacks_annotations()
        {
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

/// Returns the memory for a page of these referrers, in bytes.
fn page_memory(found: &[ListedReferrer]) -> u64 {
    if found.iter().any(ListedReferrer::is_large) {
        LARGE_PAGE_MEMORY
    } else {
        // About 1.5 KiB each, in the list and on the page.
        found.len() as u64 * 3 * 1024
    }
}

/// Renders as many referrers as fit on a page. Returns the last digest of the page if another one follows.
fn render_page(
    found: &[ListedReferrer],
    more: bool,
    describe: impl Fn(&ListedReferrer) -> Result<Descriptor, StoreError>,
) -> Result<(Vec<u8>, Option<Digest>), StoreError> {
    let mut page = PAGE_HEAD.as_bytes().to_vec();
    let mut shown: Option<&Digest> = None;
    for referrer in found {
        let mut descriptor = describe(referrer)?;
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
        shown = Some(referrer.digest());
    }
    page.extend_from_slice(PAGE_END.as_bytes());
    Ok((page, shown.filter(|_| more).cloned()))
}

fn render(descriptor: &Descriptor) -> Vec<u8> {
    serde_json::to_vec(descriptor).expect("descriptors are strings and numbers, which JSON can hold")
}
