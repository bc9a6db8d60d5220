//! The server of places alone, for `landfall bundle serve`: it has no store, and everything can be pulled and nothing
//! pushed.
//!
//! A node may name the server as a mirror, as containerd does with `?ns=<registry>`: the repository is then that of the
//! registry, and no image of another one is served for it.

use std::sync::Arc;

use axum::response::Response;
use http::request::Parts;
use http::{Method, StatusCode};
use landfall_core::reference::{RegistryHost, Repository};
use landfall_core::registry_path::{ManifestSelector, Route, parse_namespace};
use landfall_net::serve::budget::ClientAddress;
use landfall_oci::content::names::RepositoryName;
use landfall_oci::content::places::Places;

use crate::api::blobs::unknown_blob;
use crate::api::budgets::Budgets;
use crate::api::error::{ApiError, ErrorCode};
use crate::api::in_place::InPlace;
use crate::api::listing::{list_repositories_in_place, list_tags_in_place, unknown_repository};
use crate::api::manifests::unknown_manifest;
use crate::api::referrers::{ReferrersRequest, list_referrers_in_place};
use crate::api::reply::json_response;

/// Content of the server.
#[derive(Debug)]
pub(crate) struct PlaceServer {
    pub(crate) places: Arc<Places>,
    pub(crate) budgets: Budgets,
}

impl PlaceServer {
    pub(crate) async fn respond(
        &self,
        request: &Parts,
        route: &Route,
        client: ClientAddress,
    ) -> Result<Response, ApiError> {
        let with_body = match request.method {
            Method::GET => true,
            Method::HEAD => false,
            _ => return Err(takes_nothing()),
        };
        let namespace = parse_namespace(request.uri.query().unwrap_or_default());
        let namespace = namespace
            .map_err(|error| ApiError::new(StatusCode::BAD_REQUEST, ErrorCode::NameInvalid, error.to_string()))?;
        let place_of = |name| InPlace {
            places: &self.places,
            budgets: &self.budgets,
            name: self.find_name(namespace.as_ref(), name),
            client,
        };
        match route {
            Route::Ping => Ok(json_response(b"{}".to_vec())),
            Route::Catalog => list_repositories_in_place(&self.places, &request.uri),
            Route::Tags { name } => list_tags_in_place(&self.places, place_of(name).name, name, &request.uri),
            Route::Referrers { name, digest } => {
                let wanted = ReferrersRequest::parse(name, digest, &request.uri)?;
                list_referrers_in_place(&wanted, &place_of(name))
            }
            Route::Manifest { name, selector } => {
                self.get_manifest(place_of(name), (name, selector), request, with_body)
                    .await
            }
            Route::Blob { name, digest } => {
                let found = place_of(name).get_blob(digest, &request.headers, with_body).await?;
                found.ok_or_else(|| unknown_blob(name, digest))
            }
            Route::Uploads { .. } | Route::Upload { .. } => Err(takes_nothing()),
        }
    }

    async fn get_manifest(
        &self,
        served: InPlace<'_>,
        (name, selector): (&Repository, &str),
        request: &Parts,
        with_body: bool,
    ) -> Result<Response, ApiError> {
        if !self.places.has_repository(served.name) {
            return Err(unknown_repository(name));
        }
        let parsed = selector.parse::<ManifestSelector>().ok();
        let found = parsed.and_then(|selector| self.places.find_manifest(served.name, &selector));
        let (digest, manifest) = found.ok_or_else(|| unknown_manifest(name, selector))?;
        let needed = manifest.parts.needed.iter();
        let mut lacking = needed.filter(|(needed, size)| self.places.blob_size(served.name, needed) != Some(*size));
        if let Some((lacking, _)) = lacking.next() {
            return Err(ApiError::new(
                StatusCode::NOT_FOUND,
                ErrorCode::ManifestUnknown,
                format!(
                    "the bundles lack `{lacking}`, which the manifest `{selector}` of `{name}` needs: serve the bundle \
                     that has it as well"
                ),
            ));
        }
        let response = served
            .get_manifest((&digest, &manifest), &request.headers, with_body)
            .await?;
        response.ok_or_else(|| unknown_manifest(name, selector))
    }

    /// Returns the name by which a request means a repository. With a namespace it is that of the original registry, or
    /// the path with the host of that registry.
    fn find_name<'a>(&self, namespace: Option<&'a RegistryHost>, name: &'a Repository) -> RepositoryName<'a> {
        let Some(host) = namespace else {
            return RepositoryName::Served(name);
        };
        let original = RepositoryName::Original(host, name);
        let path = name.as_str().strip_prefix(&*host.as_path_component());
        let has_host = path.is_some_and(|path| path.starts_with('/'));
        match has_host && !self.places.has_repository(original) {
            true => RepositoryName::Served(name),
            false => original,
        }
    }
}

fn takes_nothing() -> ApiError {
    ApiError::new(
        StatusCode::METHOD_NOT_ALLOWED,
        ErrorCode::Unsupported,
        "bundles are served here as they are, and nothing can be pushed or deleted",
    )
}
