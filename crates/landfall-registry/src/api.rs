//! The embedded registry: the OCI distribution API over the content store. All repositories and the agent's own images
//! share one file per blob.
//!
//! This module authorizes requests and answers them. [`crate::repository`] knows what a repository holds.
//! [`landfall_net::serve`] listens and speaks TLS.

mod auth;
mod blob_reply;
mod blobs;
pub(crate) mod budgets;
mod conditional;
mod drain_body;
pub(crate) mod error;
mod in_flight;
pub(crate) mod in_place;
mod listing;
mod manifests;
mod metrics;
mod place_server;
pub(crate) mod policy;
pub(crate) mod range;
mod referrers;
pub(crate) mod reply;
pub(crate) mod route;
mod uploads;
pub(crate) mod users;

#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use tokio::time::Instant;

use crate::api::auth::AccessControl;
use crate::api::blobs::BlobBody;
use crate::api::budgets::Budgets;
use crate::api::drain_body::SharedBody;
use crate::api::error::{ApiError, ErrorCode, too_many};
use crate::api::in_flight::InFlight;
use crate::api::manifests::WantedManifest;
use crate::api::metrics::RegistryMetrics;
use crate::api::place_server::PlaceServer;
use crate::api::policy::{DEFAULT_REQUESTS_MAX, Policy};
use crate::api::reply::json_response;
use crate::budget_limits::COME_AGAIN;
use crate::fast_path::body::AcceptsFileBody;
use crate::repository::Registry;
use crate::repository::whole_images::Completeness;
use landfall_core::registry_path::{RegistryPathError, Route};
use landfall_net::serve::budget::{ClientAddress, peer_address};
use landfall_oci::content::places::Places;

pub use self::metrics::sample_exposition;

const API_VERSION: (HeaderName, HeaderValue) = (
    HeaderName::from_static("docker-distribution-api-version"),
    HeaderValue::from_static("registry/2.0"),
);
const METRICS_PATH: &str = "/metrics";

/// Returns the distribution API under `/v2/`, for [`landfall_net::serve::serve`] or a test's `oneshot`.
pub fn registry_service(registry: Arc<Registry>, policy: Policy) -> Router {
    service(Content::Registry(registry), policy)
}

/// Returns the reading part of the distribution API over places alone, for [`landfall_net::serve::serve`] or a test's
/// `oneshot`. The policy decides about logins and limits. Images are found by the names that their places give them,
/// and in requests with `?ns=<registry>` by the original ones.
pub fn place_service(places: Arc<Places>, policy: Policy) -> Router {
    let budgets = Budgets::default();
    service(Content::Places(PlaceServer { places, budgets }), policy)
}

fn service(content: Content, policy: Policy) -> Router {
    let api = Api {
        content,
        access: AccessControl::new(&policy),
        metrics: policy.metrics.then(RegistryMetrics::new),
        in_flight: InFlight::new(policy.requests_max.unwrap_or(DEFAULT_REQUESTS_MAX)),
        policy,
    };
    Router::new().fallback(answer).with_state(Arc::new(api))
}

/// Content that the API serves.
#[derive(Debug)]
enum Content {
    Registry(Arc<Registry>),
    Places(PlaceServer),
}

#[derive(Debug)]
struct Api {
    content: Content,
    policy: Policy,
    access: AccessControl,
    metrics: Option<RegistryMetrics>,
    in_flight: InFlight,
}

async fn answer(State(api): State<Arc<Api>>, request: Request) -> Response {
    let started = Instant::now();
    let method = request.method().clone();
    let uri = request.uri().clone();
    let peer = peer_address(request.extensions());
    let route = Route::parse(uri.path());
    let (request, body) = SharedBody::of(request);
    let mut response = match (api.respond(request, route.as_ref(), peer).await, body) {
        (Ok(response), _) => response,
        (Err(error), None) => error.into_response(),
        (Err(error), Some(body)) => body.drain_after(error.into_response()),
    };
    response.headers_mut().insert(API_VERSION.0, API_VERSION.1);
    let status = response.status().as_u16();
    if let Some(metrics) = &api.metrics {
        metrics.count(&method, route.as_ref().ok(), status);
    }
    if api.policy.access_log {
        let micros = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
        let path = loggable_path(uri.path(), route.as_ref().ok());
        tracing::info!(%peer, %method, path, status, micros, "registry request");
    }
    response
}

/// Returns the path for the log. It omits the id of an upload session, because the id suffices to continue the upload.
fn loggable_path<'a>(path: &'a str, route: Option<&Route>) -> &'a str {
    match route {
        Some(Route::Upload { .. }) => path.rsplit_once('/').map_or(path, |(path, _name)| path),
        _ => path,
    }
}

impl Api {
    async fn respond(
        &self,
        request: Request,
        route: Result<&Route, &RegistryPathError>,
        peer: IpAddr,
    ) -> Result<Response, ApiError> {
        let client = ClientAddress::from(peer);
        let Some(_in_flight) = self.in_flight.begin(client) else {
            return Err(too_many("too many requests are in flight", COME_AGAIN));
        };
        if let Some(metrics) = &self.metrics
            && request.uri().path() == METRICS_PATH
        {
            // A client that may list the repositories may also count them.
            self.access
                .authorize(request.method(), request.headers(), &Route::Catalog, client)
                .await?;
            return self.show_metrics(metrics);
        }
        let route = route.map_err(|error| error.clone())?;
        let user = self
            .access
            .authorize(request.method(), request.headers(), route, client)
            .await?;
        let client = client.with_login(user);
        match &self.content {
            Content::Registry(registry) => self.respond_from(registry, request, route, client).await,
            Content::Places(server) => server.respond(&request.into_parts().0, route, client).await,
        }
    }

    async fn respond_from(
        &self,
        registry: &Arc<Registry>,
        request: Request,
        route: &Route,
        client: ClientAddress,
    ) -> Result<Response, ApiError> {
        let get = request.method() == Method::GET;
        match (request.method(), route) {
            (&Method::GET | &Method::HEAD, Route::Ping) => Ok(json_response(b"{}".to_vec())),
            (&Method::GET, Route::Catalog) => registry.list_repositories(request.uri()).await,
            (&Method::GET, Route::Tags { name }) => registry.list_tags(name, request.uri()),
            (&Method::GET, Route::Referrers { name, digest }) => {
                registry.list_referrers(name, digest, request.uri(), client).await
            }
            (&Method::GET | &Method::HEAD, Route::Manifest { name, selector }) => {
                let completeness = match self.policy.incomplete_images {
                    true => Completeness::AsPushed,
                    false => Completeness::Complete,
                };
                let wanted = WantedManifest {
                    selector,
                    with_body: get,
                    completeness,
                };
                registry.get_manifest(name, wanted, request.headers(), client).await
            }
            (&Method::PUT, Route::Manifest { name, selector }) => {
                registry
                    .put_manifest(name, selector, request, self.policy.incomplete_images, client)
                    .await
            }
            (&Method::DELETE, Route::Manifest { name, selector }) => registry.delete_manifest(name, selector).await,
            (&Method::GET | &Method::HEAD, Route::Blob { name, digest }) => {
                let blob_body = match (get, request.extensions().get::<AcceptsFileBody>()) {
                    (false, _) => BlobBody::Omitted,
                    (true, Some(_)) => BlobBody::File,
                    (true, None) => BlobBody::Stream,
                };
                registry
                    .get_blob(name, digest, request.headers(), blob_body, client)
                    .await
            }
            (&Method::DELETE, Route::Blob { name, digest }) => registry.delete_blob(name, digest).await,
            (&Method::POST, Route::Uploads { name }) => registry.start_upload(name, request, client).await,
            (&Method::GET, Route::Upload { name, id }) => registry.upload_status(name, id, request.headers()).await,
            (&Method::PATCH, Route::Upload { name, id }) => registry.append_upload(name, id, request, client).await,
            (&Method::PUT, Route::Upload { name, id }) => registry.finish_upload(name, id, request, client).await,
            (&Method::DELETE, Route::Upload { name, id }) => registry.cancel_upload(name, id).await,
            _ => Err(ApiError::new(
                StatusCode::METHOD_NOT_ALLOWED,
                ErrorCode::Unsupported,
                "this method is not allowed here",
            )),
        }
    }

    fn show_metrics(&self, metrics: &RegistryMetrics) -> Result<Response, ApiError> {
        let in_flight = self.in_flight.count();
        let (mut refusals, disk, places) = match &self.content {
            Content::Registry(registry) => (registry.refusals(), registry.store.disk_space().ok(), &registry.places),
            Content::Places(server) => (server.budgets.refusals().to_vec(), None, &server.places),
        };
        refusals.extend([
            ("requests", self.in_flight.refusals()),
            ("logins", self.access.refusals()),
        ]);
        let free = disk.map(|disk| disk.free);
        let text = metrics
            .render(in_flight, free, places.reads(), &refusals)
            .map_err(|_| {
                ApiError::new(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    ErrorCode::Unknown,
                    "the metrics cannot be written",
                )
            })?;
        Ok(([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response())
    }
}
