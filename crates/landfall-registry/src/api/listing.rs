//! Listings: repositories, tags, referrers.

use std::sync::Arc;

use axum::extract::Query;
use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, StatusCode, Uri, header};
use landfall_core::oci_types::media_type;
use landfall_core::reference::{Digest, Repository, Tag};
use landfall_oci::store::blocking::blocking;
use landfall_oci::store::index::render_index;
use serde::Deserialize;
use serde_json::json;

use crate::api::error::{ApiError, ErrorCode};
use crate::api::reply::json_response;
use crate::repository::Registry;

const FILTERS_APPLIED: HeaderName = HeaderName::from_static("oci-filters-applied");

#[derive(Debug, Default, Deserialize)]
struct PageQuery {
    n: Option<String>,
    last: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ReferrerFilter {
    artifact_type: Option<String>,
}

impl Registry {
    /// Lists the repositories that hold a manifest.
    pub(crate) async fn list_repositories(self: &Arc<Registry>, uri: &Uri) -> Result<Response, ApiError> {
        let page = PageRequest::parse(uri)?;
        let registry = self.clone();
        let (names, next) = blocking(move || {
            let mut pager = Pager::new(page);
            for name in registry.records.names()? {
                // Reads only the records that this page needs: there may be thousands.
                if pager.wants(name.as_str())
                    && registry
                        .records
                        .peek(&name, |record| !record.manifests.is_empty())?
                        .unwrap_or_default()
                {
                    pager.add(name.to_string());
                }
                if pager.is_over() {
                    break;
                }
            }
            Ok(pager.finish())
        })
        .await?;
        let body = json!({"repositories": names});
        Ok(with_next(json_response(body.to_string().into()), uri, next))
    }

    pub(crate) fn list_tags(&self, name: &Repository, uri: &Uri) -> Result<Response, ApiError> {
        let cached = self.records.get(name)?.ok_or_else(|| unknown_repository(name))?;
        let record = cached.read();
        if record.manifests.is_empty() {
            return Err(unknown_repository(name));
        }
        let mut pager = Pager::new(PageRequest::parse(uri)?);
        for tag in record.tags.keys().map(Tag::as_str) {
            if pager.wants(tag) {
                pager.add(tag.to_owned());
            }
            if pager.is_over() {
                break;
            }
        }
        let (tags, next) = pager.finish();
        let body = json!({"name": name, "tags": tags});
        Ok(with_next(json_response(body.to_string().into()), uri, next))
    }

    /// Lists the manifests that refer to a digest. The list of an unknown digest is empty (OCI distribution
    /// specification, "Listing Referrers").
    pub(crate) fn list_referrers(&self, name: &Repository, digest: &Digest, uri: &Uri) -> Result<Response, ApiError> {
        let Query(filter) = Query::<ReferrerFilter>::try_from_uri(uri).map_err(|_| bad_query())?;
        let wanted = filter.artifact_type.as_deref();
        let mut referrers = Vec::new();
        if let Some(cached) = self.records.get(name)? {
            for (referrer, entry) in &cached.read().manifests {
                if entry
                    .referrer
                    .as_ref()
                    .is_some_and(|referrer| referrer.subject == *digest)
                {
                    let descriptor = entry.describe(referrer);
                    if wanted.is_none() || descriptor.artifact_type.as_deref() == wanted {
                        referrers.push(descriptor);
                    }
                }
            }
        }
        let mut response = ([(header::CONTENT_TYPE, media_type::OCI_INDEX)], render_index(referrers)).into_response();
        if wanted.is_some() {
            response
                .headers_mut()
                .insert(FILTERS_APPLIED, HeaderValue::from_static("artifactType"));
        }
        Ok(response)
    }
}

pub(crate) fn unknown_repository(name: &Repository) -> ApiError {
    ApiError::new(
        StatusCode::NOT_FOUND,
        ErrorCode::NameUnknown,
        format!("there is no repository `{name}`"),
    )
}

fn bad_query() -> ApiError {
    ApiError::new(
        StatusCode::BAD_REQUEST,
        ErrorCode::Unsupported,
        "the query cannot be understood",
    )
}

/// Pagination parameters of a request (OCI distribution specification, "Listing Tags").
#[derive(Debug, Default)]
struct PageRequest {
    most: Option<usize>,
    last: Option<String>,
}

impl PageRequest {
    fn parse(uri: &Uri) -> Result<PageRequest, ApiError> {
        let Query(query) = Query::<PageQuery>::try_from_uri(uri).map_err(|_| bad_query())?;
        let most = query.n.map(|n| {
            n.parse().map_err(|_| {
                ApiError::new(
                    StatusCode::BAD_REQUEST,
                    ErrorCode::PaginationNumberInvalid,
                    "`n` is the number of items on a page",
                )
            })
        });
        Ok(PageRequest {
            most: most.transpose()?,
            last: query.last,
        })
    }
}

/// Selects the items of a page from an ordered list.
#[derive(Debug)]
struct Pager {
    page: PageRequest,
    items: Vec<String>,
    more: bool,
}

impl Pager {
    fn new(page: PageRequest) -> Pager {
        Pager {
            page,
            items: Vec::new(),
            more: false,
        }
    }

    /// Returns true if an item comes after the last item of the previous page.
    fn wants(&self, item: &str) -> bool {
        self.page.last.as_deref().is_none_or(|last| item > last)
    }

    fn add(&mut self, item: String) {
        if self.page.most.is_some_and(|most| self.items.len() >= most) {
            self.more = true;
        } else {
            self.items.push(item);
        }
    }

    fn is_over(&self) -> bool {
        self.more
    }

    /// Returns the items, and the query of the next page.
    fn finish(self) -> (Vec<String>, Option<String>) {
        let next = match (self.page.most, self.items.last()) {
            (Some(most), Some(last)) if self.more => Some(format!("n={most}&last={}", encode(last))),
            _ => None,
        };
        (self.items, next)
    }
}

/// Encodes a name or tag for a query. The slash is their only character that has a meaning there.
fn encode(text: &str) -> String {
    text.replace('/', "%2F")
}

fn with_next(mut response: Response, uri: &Uri, next: Option<String>) -> Response {
    let link = next.map(|query| format!("<{}?{query}>; rel=\"next\"", uri.path()));
    if let Some(value) = link.and_then(|link| HeaderValue::try_from(link).ok()) {
        response.headers_mut().insert(header::LINK, value);
    }
    response
}
