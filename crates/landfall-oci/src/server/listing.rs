//! Lists: repositories, tags, referrers.

use axum::extract::Query;
use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, StatusCode, Uri, header};
use landfall_core::oci_types::{Descriptor, media_type};
use landfall_core::reference::{Digest, Repository};
use serde::Deserialize;
use serde_json::json;

use crate::server::error::{ApiError, Code};
use crate::server::{Registry, json_response};
use crate::store::index::render_index;

const FILTERS_APPLIED: HeaderName = HeaderName::from_static("oci-filters-applied");

#[derive(Debug, Default, Deserialize)]
struct Page {
    n: Option<String>,
    last: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Filter {
    artifact_type: Option<String>,
}

impl Registry {
    pub(super) fn list_repositories(&self, uri: &Uri) -> Result<Response, ApiError> {
        let names: Vec<String> = self.repositories().iter().map(ToString::to_string).collect();
        let (names, next) = page(names, uri)?;
        Ok(with_next(
            json_response(json!({"repositories": names}).to_string().into()),
            next,
        ))
    }

    pub(super) fn list_tags(&self, name: &Repository, uri: &Uri) -> Result<Response, ApiError> {
        let record = self.records.get(name).ok_or_else(|| unknown_repository(name))?;
        let tags = record.tags.keys().map(ToString::to_string).collect();
        let (tags, next) = page(tags, uri)?;
        let body = json!({"name": name, "tags": tags});
        Ok(with_next(json_response(body.to_string().into()), next))
    }

    /// All manifests that refer to a digest; an empty list for one that nobody knows (OCI distribution specification,
    /// "Listing Referrers").
    pub(super) fn list_referrers(&self, name: &Repository, digest: &Digest, uri: &Uri) -> Result<Response, ApiError> {
        let Query(filter) = Query::<Filter>::try_from_uri(uri).map_err(|_| bad_query())?;
        let record = self.records.get(name).unwrap_or_default();
        let referrers: Vec<Descriptor> = record
            .manifests
            .values()
            .filter(|entry| entry.subject.as_ref() == Some(digest))
            .map(|entry| entry.descriptor.clone())
            .filter(|entry| filter.artifact_type.is_none() || entry.artifact_type == filter.artifact_type)
            .collect();
        let mut response = ([(header::CONTENT_TYPE, media_type::OCI_INDEX)], render_index(referrers)).into_response();
        if filter.artifact_type.is_some() {
            response
                .headers_mut()
                .insert(FILTERS_APPLIED, HeaderValue::from_static("artifactType"));
        }
        Ok(response)
    }
}

pub(super) fn unknown_repository(name: &Repository) -> ApiError {
    ApiError::new(
        StatusCode::NOT_FOUND,
        Code::NameUnknown,
        format!("there is no repository `{name}`"),
    )
}

fn bad_query() -> ApiError {
    ApiError::new(
        StatusCode::BAD_REQUEST,
        Code::Unsupported,
        "the query cannot be understood",
    )
}

/// The items after `last`, at most `n` of them, and where the next page is (OCI distribution specification, "Listing
/// Tags"). Items are in order.
fn page(items: Vec<String>, uri: &Uri) -> Result<(Vec<String>, Option<String>), ApiError> {
    let Query(query) = Query::<Page>::try_from_uri(uri).map_err(|_| bad_query())?;
    let mut rest: Vec<String> = match &query.last {
        Some(last) => items.into_iter().filter(|item| item > last).collect(),
        None => items,
    };
    let Some(n) = &query.n else {
        return Ok((rest, None));
    };
    let n: usize = n.parse().map_err(|_| {
        ApiError::new(
            StatusCode::BAD_REQUEST,
            Code::PaginationNumberInvalid,
            "`n` is the number of items on a page",
        )
    })?;
    let more = rest.len() > n;
    rest.truncate(n);
    let next = match rest.last() {
        Some(last) if more => Some(format!("<{}?n={n}&last={}>; rel=\"next\"", uri.path(), encode(last))),
        _ => None,
    };
    Ok((rest, next))
}

/// Names and tags have one character that means something in a query.
fn encode(text: &str) -> String {
    text.replace('/', "%2F")
}

fn with_next(mut response: Response, next: Option<String>) -> Response {
    if let Some(value) = next.and_then(|next| HeaderValue::try_from(next).ok()) {
        response.headers_mut().insert(header::LINK, value);
    }
    response
}
