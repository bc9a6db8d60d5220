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
const PAGE_SIZE_MAX: usize = 4 * 1024 * 1024;

#[derive(Default)]
pub(super) struct Page {
    tags: Texts,
    repositories: Texts,
    pub(super) manifests: Vec<Descriptor>,
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
            .fetch_pages(path, Scope::Pull(repository.clone()), |page| page.tags.0)
            .await;
        listed.map_err(|fault| {
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
        let listed = self.fetch_pages(path, Scope::Catalog, |page| page.repositories.0).await;
        listed.map_err(|fault| self.error(RegistryAction::ListRepositories, fault))
    }

    pub(super) async fn fetch_pages<T>(
        &self,
        path: String,
        scope: Scope,
        pick: fn(Page) -> Vec<T>,
    ) -> Result<Vec<T>, Fault> {
        let mut found = Vec::new();
        let mut target = RequestTarget::Path(path);
        for _ in 0..PAGES_MAX {
            let mut request = RegistryRequest::new(Method::GET, "", scope.clone());
            request.target = target;
            let response = self.transport.send_expecting(request, &[StatusCode::OK]).await?;
            let next = next_page(response.url(), response.headers())?;
            let body = self.transport.read_body(response, PAGE_SIZE_MAX).await?;
            let page = lenient::from_slice(&body).map_err(|_| Fault::from(ProtocolProblem::NotJson))?;
            found.extend(pick(page));
            match next {
                Some(next) => target = RequestTarget::Url(next),
                None => return Ok(found),
            }
        }
        Err(Fault::from(ProtocolProblem::TooManyPages(PAGES_MAX)))
    }
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
