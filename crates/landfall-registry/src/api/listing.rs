//! Listings: repositories and tags.

use std::sync::Arc;

use axum::extract::Query;
use axum::response::Response;
use http::{HeaderValue, StatusCode, Uri, header};
use landfall_core::reference::{Repository, Tag};
use landfall_oci::content::names::RepositoryName;
use landfall_oci::content::places::Places;
use landfall_oci::store::blocking::blocking;
use serde::Deserialize;
use serde_json::json;

use crate::api::error::{ApiError, ErrorCode};
use crate::api::reply::{header_value, json_response};
use crate::repository::Registry;

/// Items on a page at most.
const PAGE_ITEMS_MAX: usize = 10_000;

#[derive(Debug, Default, Deserialize)]
struct PageQuery {
    n: Option<String>,
    last: Option<String>,
}

impl Registry {
    /// Lists the repositories that hold a manifest, and those of places.
    pub(crate) async fn list_repositories(self: &Arc<Registry>, uri: &Uri) -> Result<Response, ApiError> {
        let page = PageRequest::parse(uri)?;
        let registry = self.clone();
        let page = blocking(move || {
            let in_place = registry.places.repositories();
            let mut names = registry.records.names()?;
            if !in_place.is_empty() {
                names.extend(in_place.iter().cloned());
                names.sort();
                names.dedup();
            }
            let mut pager = Pager::new(page);
            for name in names {
                // Reads only the records that this page needs: there may be thousands.
                if pager.wants(name.as_str())
                    && (in_place.contains(&name)
                        || registry
                            .records
                            .peek(&name, |record| !record.manifests.is_empty())?
                            .unwrap_or_default())
                {
                    pager.add(name.to_string());
                }
                if pager.is_over() {
                    break;
                }
            }
            Ok(pager.finish())
        });
        Ok(repositories_response(page.await?))
    }

    pub(crate) fn list_tags(&self, name: &Repository, uri: &Uri) -> Result<Response, ApiError> {
        let served = RepositoryName::Served(name);
        let in_place = self.places.has_repository(served);
        let cached = self.records.get(name)?;
        let record = cached.as_ref().map(|cached| cached.read());
        let record = record.filter(|record| !record.manifests.is_empty());
        let request = PageRequest::parse(uri);
        let page = match &record {
            None if !in_place => return Err(unknown_repository(name)),
            Some(record) if !in_place => page_of(request?, record.tags.keys().map(Tag::as_str)),
            record => {
                let mut tags = self.places.tags(served);
                tags.extend(record.iter().flat_map(|record| record.tags.keys()).cloned());
                page_of(request?, tags.iter().map(Tag::as_str))
            }
        };
        Ok(tags_response(name, page))
    }
}

/// Lists the repositories of places alone.
pub(crate) fn list_repositories_in_place(places: &Places, uri: &Uri) -> Result<Response, ApiError> {
    let names = places.repositories();
    let page = page_of(PageRequest::parse(uri)?, names.iter().map(Repository::as_str));
    Ok(repositories_response(page))
}

/// Lists the tags of a repository in places alone. `shown` is its name in the request.
pub(crate) fn list_tags_in_place(
    places: &Places,
    name: RepositoryName<'_>,
    shown: &Repository,
    uri: &Uri,
) -> Result<Response, ApiError> {
    if !places.has_repository(name) {
        return Err(unknown_repository(shown));
    }
    let tags = places.tags(name);
    let page = page_of(PageRequest::parse(uri)?, tags.iter().map(Tag::as_str));
    Ok(tags_response(shown, page))
}

/// Items of a page, and the query of the next page.
type Page = (Vec<String>, Option<String>);

fn page_of<'a>(request: PageRequest, items: impl Iterator<Item = &'a str>) -> Page {
    let mut pager = Pager::new(request);
    for item in items {
        if pager.wants(item) {
            pager.add(item.to_owned());
        }
        if pager.is_over() {
            break;
        }
    }
    pager.finish()
}

fn repositories_response((names, next): Page) -> Response {
    let body = json!({"repositories": names});
    with_next(json_response(body.to_string().into()), "/v2/_catalog", next)
}

fn tags_response(name: &Repository, (tags, next): Page) -> Response {
    let body = json!({"name": name, "tags": tags});
    with_next(
        json_response(body.to_string().into()),
        &format!("/v2/{name}/tags/list"),
        next,
    )
}

pub(crate) fn unknown_repository(name: &Repository) -> ApiError {
    ApiError::new(
        StatusCode::NOT_FOUND,
        ErrorCode::NameUnknown,
        format!("there is no repository `{name}`"),
    )
}

pub(crate) fn bad_query() -> ApiError {
    ApiError::new(
        StatusCode::BAD_REQUEST,
        ErrorCode::Unsupported,
        "the query cannot be understood",
    )
}

/// Pagination parameters of a request (OCI distribution specification, "Listing Tags").
#[derive(Debug)]
struct PageRequest {
    most: usize,
    last: Option<String>,
}

impl PageRequest {
    fn parse(uri: &Uri) -> Result<PageRequest, ApiError> {
        let Query(query) = Query::<PageQuery>::try_from_uri(uri).map_err(|_| bad_query())?;
        let most = query.n.map(|n| {
            n.parse::<usize>().map_err(|_| {
                ApiError::new(
                    StatusCode::BAD_REQUEST,
                    ErrorCode::PaginationNumberInvalid,
                    "`n` is the number of items on a page",
                )
            })
        });
        Ok(PageRequest {
            most: most.transpose()?.unwrap_or(PAGE_ITEMS_MAX).min(PAGE_ITEMS_MAX),
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
        if self.items.len() >= self.page.most {
            self.more = true;
        } else {
            self.items.push(item);
        }
    }

    fn is_over(&self) -> bool {
        self.more
    }

    fn finish(self) -> Page {
        let next = self
            .items
            .last()
            .filter(|_| self.more)
            .map(|last| format!("n={}&last={}", self.page.most, encode(last)));
        (self.items, next)
    }
}

/// Encodes a text for a query: all but the unreserved characters (RFC 3986 section 2.3).
pub(crate) fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push('%');
            for digit in [byte >> 4, byte & 15] {
                let digit = char::from_digit(digit.into(), 16).expect("four bits are a digit");
                encoded.push(digit.to_ascii_uppercase());
            }
        }
    }
    encoded
}

/// Returns the `Link` to the next page. The target's query is encoded, so that it is visible ASCII.
pub(crate) fn next_link(target: &str) -> HeaderValue {
    header_value(&format!("<{target}>; rel=\"next\""))
}

fn with_next(mut response: Response, path: &str, next: Option<String>) -> Response {
    if let Some(query) = next {
        let link = next_link(&format!("{path}?{query}"));
        response.headers_mut().insert(header::LINK, link);
    }
    response
}
