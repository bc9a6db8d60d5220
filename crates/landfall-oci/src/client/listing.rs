//! Paged lists: tags, repositories and referrers (OCI distribution specification, "Content discovery").

use http::header::LINK;
use http::{HeaderMap, Method, StatusCode};
use landfall_core::lenient::{self, Texts};
use landfall_core::lenient_object;
use landfall_core::oci_types::Descriptor;
use landfall_core::reference::Repository;
use reqwest::Url;

use super::auth::scope::Scope;
use super::error::{Fault, RegistryAction, RegistryError};
use super::problem::ProtocolProblem;
use super::redirect_policy;
use super::request::{RegistryRequest, RequestTarget};
use crate::client::registry_client::RegistryClient;

const PAGES_MAX: usize = 10_000;
/// Largest list, in bytes of its pages.
const LIST_SIZE_MAX: usize = 64 * 1024 * 1024;
const PAGE_SIZE_MAX: usize = 4 * 1024 * 1024;

#[derive(Default)]
pub(super) struct Page {
    tags: Option<Texts>,
    repositories: Option<Texts>,
    pub(super) manifests: Option<Vec<Descriptor>>,
}

lenient_object!(Page { "tags" => tags, "repositories" => repositories, "manifests" => manifests });

impl RegistryClient {
    /// Lists the tags of a repository, in the registry's order.
    ///
    /// # Errors
    /// Fails if the repository is unknown or the registry cannot be asked.
    pub async fn list_tags(&self, repository: &Repository) -> Result<Vec<String>, RegistryError> {
        let path = format!("/v2/{repository}/tags/list");
        let listed = self
            .fetch_pages(path, Scope::Pull(repository.clone()), |page| {
                page.tags.map(|tags| tags.0)
            })
            .await;
        listed.map(Option::unwrap_or_default).map_err(|fault| {
            let repository = repository.clone();
            self.error(RegistryAction::ListTags { repository }, fault)
        })
    }

    /// Lists the repositories of the registry.
    ///
    /// # Errors
    /// Fails if the registry has no such list or cannot be asked.
    pub async fn list_repositories(&self) -> Result<Vec<String>, RegistryError> {
        let path = "/v2/_catalog?n=1000".to_owned();
        let listed = self
            .fetch_pages(path, Scope::Catalog, |page| page.repositories.map(|names| names.0))
            .await;
        listed
            .map(Option::unwrap_or_default)
            .map_err(|fault| self.error(RegistryAction::ListRepositories, fault))
    }

    /// Fetches all pages of a list; `None` if no page has the list.
    pub(super) async fn fetch_pages<T>(
        &self,
        path: String,
        scope: Scope,
        pick: fn(Page) -> Option<Vec<T>>,
    ) -> Result<Option<Vec<T>>, Fault> {
        let first = self.fetch_page(RequestTarget::Path(path), scope.clone()).await?;
        self.fetch_further_pages(first, scope, pick).await
    }

    /// Fetches the pages after the first one, and joins all of them.
    pub(super) async fn fetch_further_pages<T>(
        &self,
        first: FetchedPage,
        scope: Scope,
        pick: fn(Page) -> Option<Vec<T>>,
    ) -> Result<Option<Vec<T>>, Fault> {
        let mut found: Option<Vec<T>> = None;
        let mut read = 0;
        let mut fetched = first;
        for _ in 0..PAGES_MAX {
            read += fetched.size;
            if read > LIST_SIZE_MAX {
                return Err(Fault::TooLarge { limit: LIST_SIZE_MAX });
            }
            if let Some(entries) = pick(fetched.page) {
                found.get_or_insert_default().extend(entries);
            }
            match fetched.next? {
                Some(next) => fetched = self.fetch_page(RequestTarget::Url(next), scope.clone()).await?,
                None => return Ok(found),
            }
        }
        Err(Fault::from(ProtocolProblem::TooManyPages(PAGES_MAX)))
    }

    pub(super) async fn fetch_page(&self, target: RequestTarget, scope: Scope) -> Result<FetchedPage, Fault> {
        let mut request = RegistryRequest::new(Method::GET, "", scope);
        request.target = target;
        let response = self.transport.send_expecting(request, &[StatusCode::OK]).await?;
        let next = next_page(response.url(), response.headers());
        let body = self.transport.read_body(response, PAGE_SIZE_MAX).await?;
        Ok(FetchedPage {
            page: lenient::from_slice(&body).map_err(|_| Fault::from(ProtocolProblem::NotJson))?,
            next,
            size: body.len(),
        })
    }
}

/// One page of a list.
pub(super) struct FetchedPage {
    pub(super) page: Page,
    /// URL of the next page, or the failure for one that must not be asked for.
    next: Result<Option<Url>, Fault>,
    /// Length of the document in bytes.
    size: usize,
}

/// Returns the `Link` with `rel="next"` (RFC 8288), which must be on the same host.
fn next_page(asked: &Url, headers: &HeaderMap) -> Result<Option<Url>, Fault> {
    let links = headers.get_all(LINK).iter().filter_map(|value| value.to_str().ok());
    let Some(link) = links.flat_map(|value| value.split(',')).find_map(parse_next_link) else {
        return Ok(None);
    };
    match redirect_policy::resolve_location(asked, link) {
        Some(next) if redirect_policy::is_registry(asked, &next) => Ok(Some(next)),
        _ => Err(Fault::from(ProtocolProblem::PageElsewhere)),
    }
}

fn parse_next_link(link: &str) -> Option<&str> {
    let (url, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
    let is_next = parameters
        .split(';')
        .any(|parameter| matches!(parameter.trim(), "rel=\"next\"" | "rel=next"));
    is_next.then_some(url)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn the_next_page_is_on_the_same_host_or_nowhere() {
        let asked = Url::parse("https://reg.example.com/v2/_catalog").unwrap();
        let next = |link: &str| {
            let headers = HeaderMap::from_iter([(LINK, HeaderValue::from_str(link).unwrap())]);
            next_page(&asked, &headers).map(|url| url.map(|url| url.to_string()))
        };
        let relative = next(r#"</v2/_catalog?last=a&n=2>; rel="next""#).unwrap();
        assert_eq!(
            relative.as_deref(),
            Some("https://reg.example.com/v2/_catalog?last=a&n=2")
        );
        assert_eq!(next("</x>; rel=prev").unwrap(), None);
        assert!(next(r#"<https://evil.example/v2/_catalog>; rel="next""#).is_err());
    }
}
