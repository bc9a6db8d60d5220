//! Listings: repositories and tags.

use std::sync::Arc;

use axum::extract::Query;
use axum::response::Response;
use http::{HeaderValue, StatusCode, Uri, header};
use landfall_core::reference::{Repository, Tag};
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
        Ok(with_next(json_response(body.to_string().into()), "/v2/_catalog", next))
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
        Ok(with_next(
            json_response(body.to_string().into()),
            &format!("/v2/{name}/tags/list"),
            next,
        ))
    }
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

    /// Returns the items, and the query of the next page.
    fn finish(self) -> (Vec<String>, Option<String>) {
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
