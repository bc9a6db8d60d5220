//! The embedded registry: the OCI distribution API over the content store. A blob is one file, shared by all repositories
//! and by the agent's own images.
//!
//! Decides what a repository holds and who may ask. Listening and TLS are [`crate::serve`]'s.
//!
//! Repositories are small records, `<directory>/<name>/_record.jsonl`, a line for each change. What was acknowledged is on
//! disk: a blob in its place and its line in the record, a manifest likewise. Two rules keep images whole while garbage is
//! collected: a blob is held before anybody counts on it, and a manifest's line comes only once its parts are there.

mod attempts;
mod auth;
mod blobs;
mod collect;
mod conditional;
mod error;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod hot;
pub mod inventory;
mod linger;
mod listing;
mod manifests;
mod metrics;
pub mod mirror;
pub mod orders;
pub mod places;
mod promises;
mod range;
mod record;
mod records;
mod removal;
mod route;
mod sessions;
mod space;
mod uploads;

#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request, State};
use axum::response::{IntoResponse, Response};
use camino::Utf8Path;
use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use jiff::Timestamp;
use landfall_core::reference::{Digest, Repository};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::serve::pulls::TakesFile;
use crate::server::auth::Gate;
use crate::server::blobs::Delivery;
use crate::server::error::{ApiError, Code};
use crate::server::hot::HotManifests;
use crate::server::linger::SharedBody;
use crate::server::metrics::Metrics;
use crate::server::promises::Promises;
use crate::server::record::Change;
use crate::server::records::Records;
use crate::server::sessions::Uploads;
use crate::server::space::Disk;
use crate::store::ContentStore;
use crate::store::error::StoreError;
use landfall_core::registry_path::{RegistryPathError, Route};

pub use crate::server::auth::{Users, UsersError};
pub use crate::server::collect::GRACE;
pub use crate::server::removal::Removed;
pub use crate::server::space::SpaceFloor;

/// A blob that is pushed once more has its time renewed when that is older than this, so that it does not go while the
/// manifest is on its way.
const RENEW_AFTER_SECONDS: i64 = 60;
const API_VERSION: (HeaderName, HeaderValue) = (
    HeaderName::from_static("docker-distribution-api-version"),
    HeaderValue::from_static("registry/2.0"),
);
const METRICS_PATH: &str = "/metrics";

/// Who may do what.
#[derive(Debug, Default)]
pub struct Policy {
    /// Who may push, and pull; `None` lets everybody do both.
    pub login: Option<Users>,
    /// Whether pulling needs no login.
    pub anonymous_pull: bool,
    /// Whether nothing may be changed through the API.
    pub read_only: bool,
    /// Whether images are taken of which a layer or the configuration is not here. An index may always name manifests that
    /// are not: that is how one platform of many is copied under the image's own digest.
    pub incomplete_images: bool,
    /// How many requests are under way at once; more are asked to come again. `None`: [`DEFAULT_REQUESTS_MAX`].
    pub requests_max: Option<usize>,
    /// Whether `/metrics` is served, to whoever may pull.
    pub metrics: bool,
    /// Whether each request is logged.
    pub access_log: bool,
}

/// How many requests are under way at once, when nothing else is said.
pub const DEFAULT_REQUESTS_MAX: usize = 1024;

/// The registry's content.
#[derive(Debug)]
pub struct Registry {
    store: ContentStore,
    records: Records,
    uploads: Uploads,
    promises: Promises,
    floor: SpaceFloor,
    hot: HotManifests,
}

impl Registry {
    /// Opens the repositories in a directory, which is made when it is not there. Records are read when they are asked
    /// for.
    ///
    /// # Errors
    /// When the directory cannot be made.
    pub fn open(store: ContentStore, directory: &Utf8Path) -> Result<Registry, StoreError> {
        Ok(Registry {
            store,
            records: Records::open(directory)?,
            uploads: Uploads::default(),
            promises: Promises::default(),
            hot: HotManifests::default(),
            floor: SpaceFloor::default(),
        })
    }

    /// Refuses uploads below another amount of free space than the default.
    #[must_use]
    pub fn with_floor(mut self, floor: SpaceFloor) -> Registry {
        self.floor = floor;
        self
    }

    /// The digest of the manifest that a repository has under a tag or digest.
    ///
    /// # Errors
    /// When its record cannot be read.
    pub fn find_manifest(&self, repository: &Repository, selector: &str) -> Result<Option<Digest>, StoreError> {
        let found = self.records.glance(repository, |record| {
            record.select(selector).map(|(digest, _)| digest.clone())
        })?;
        Ok(found.flatten())
    }

    /// Writes down that a blob belongs to a repository.
    fn link(&self, repository: &Repository, digest: &Digest) -> Result<(), StoreError> {
        let now = Timestamp::now();
        self.records.change(repository, |record| {
            let fresh = record
                .blobs
                .get(digest)
                .is_some_and(|at| now.as_second() - at.as_second() < RENEW_AFTER_SECONDS);
            let change = (!fresh).then(|| Change::AddBlob {
                digest: digest.clone(),
                at: now,
            });
            (change.into_iter().collect(), ())
        })
    }

    /// Whether a blob belongs to a repository.
    fn has_blob(&self, repository: &Repository, digest: &Digest) -> Result<bool, StoreError> {
        let shelf = self.records.get(repository)?;
        Ok(shelf.is_some_and(|shelf| shelf.read().has_blob(digest)))
    }
}

/// The distribution API under `/v2/`, for [`crate::serve::serve`] or a test's `oneshot`.
pub fn registry_service(registry: Arc<Registry>, policy: Policy) -> Router {
    let requests_max = policy.requests_max.unwrap_or(DEFAULT_REQUESTS_MAX);
    let api = Api {
        registry,
        gate: Gate::new(&policy),
        metrics: policy.metrics.then(Metrics::new),
        requests_max,
        under_way: Arc::new(Semaphore::new(requests_max)),
        policy,
    };
    Router::new().fallback(answer).with_state(Arc::new(api))
}

#[derive(Debug)]
struct Api {
    registry: Arc<Registry>,
    policy: Policy,
    gate: Gate,
    metrics: Option<Metrics>,
    requests_max: usize,
    under_way: Arc<Semaphore>,
}

async fn answer(State(api): State<Arc<Api>>, request: Request) -> Response {
    let begun = Instant::now();
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let peer = peer_of(&request);
    let route = Route::parse(&path);
    let named = route.as_ref().ok().cloned();
    let (request, body) = SharedBody::of(request);
    let mut response = match (api.respond(request, route, peer).await, body) {
        (Ok(response), _) => response,
        (Err(error), None) => error.into_response(),
        (Err(error), Some(body)) => body.answer(error.into_response()),
    };
    response.headers_mut().insert(API_VERSION.0, API_VERSION.1);
    let status = response.status().as_u16();
    if let Some(metrics) = &api.metrics {
        metrics.count(&method, named.as_ref(), status);
    }
    if api.policy.access_log {
        let micros = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        let path = shown_path(&path, named.as_ref());
        tracing::info!(%peer, %method, path, status, micros, "registry request");
    }
    response
}

/// Who asks; the unspecified address where nobody is connected, as in a test.
fn peer_of(request: &Request) -> IpAddr {
    request
        .extensions()
        .get::<ConnectInfo<SocketAddr>>()
        .map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |ConnectInfo(peer)| peer.ip())
}

/// The path as it may be logged: whoever knows the name of an upload can go on with it.
fn shown_path<'a>(path: &'a str, route: Option<&Route>) -> &'a str {
    match route {
        Some(Route::Upload { .. }) => path.rsplit_once('/').map_or(path, |(path, _name)| path),
        _ => path,
    }
}

impl Api {
    async fn respond(
        &self,
        request: Request,
        route: Result<Route, RegistryPathError>,
        peer: IpAddr,
    ) -> Result<Response, ApiError> {
        let Ok(_permit) = self.under_way.try_acquire() else {
            return Err(ApiError::new(
                StatusCode::TOO_MANY_REQUESTS,
                Code::TooManyRequests,
                "too many requests are under way",
            )
            .with_header(header::RETRY_AFTER, HeaderValue::from_static("1")));
        };
        if let Some(metrics) = &self.metrics
            && request.uri().path() == METRICS_PATH
        {
            // Whoever may list what is here may count it.
            self.gate
                .admit(request.method(), request.headers(), &Route::Catalog, peer)
                .await?;
            return self.show_metrics(metrics);
        }
        let route = route?;
        self.gate
            .admit(request.method(), request.headers(), &route, peer)
            .await?;
        let registry = &self.registry;
        let get = request.method() == Method::GET;
        match (request.method(), &route) {
            (&Method::GET | &Method::HEAD, Route::Ping) => Ok(json_response(b"{}".to_vec())),
            (&Method::GET, Route::Catalog) => registry.list_repositories(request.uri()).await,
            (&Method::GET, Route::Tags { name }) => registry.list_tags(name, request.uri()),
            (&Method::GET, Route::Referrers { name, digest }) => registry.list_referrers(name, digest, request.uri()),
            (&Method::GET | &Method::HEAD, Route::Manifest { name, selector }) => {
                registry.get_manifest(name, selector, request.headers(), get).await
            }
            (&Method::PUT, Route::Manifest { name, selector }) => {
                registry
                    .put_manifest(name, selector, request, self.policy.incomplete_images)
                    .await
            }
            (&Method::DELETE, Route::Manifest { name, selector }) => registry.delete_manifest(name, selector).await,
            (&Method::GET | &Method::HEAD, Route::Blob { name, digest }) => {
                let delivery = match (get, request.extensions().get::<TakesFile>()) {
                    (false, _) => Delivery::Nothing,
                    (true, Some(_)) => Delivery::File,
                    (true, None) => Delivery::Stream,
                };
                registry.get_blob(name, digest, request.headers(), delivery).await
            }
            (&Method::DELETE, Route::Blob { name, digest }) => registry.delete_blob(name, digest).await,
            (&Method::POST, Route::Uploads { name }) => registry.start_upload(name, request).await,
            (&Method::GET, Route::Upload { name, id }) => registry.upload_status(name, id).await,
            (&Method::PATCH, Route::Upload { name, id }) => registry.append_upload(name, id, request).await,
            (&Method::PUT, Route::Upload { name, id }) => registry.finish_upload(name, id, request).await,
            (&Method::DELETE, Route::Upload { name, id }) => registry.cancel_upload(name, id).await,
            _ => Err(ApiError::new(
                StatusCode::METHOD_NOT_ALLOWED,
                Code::Unsupported,
                "this method is not one of this address",
            )),
        }
    }

    fn show_metrics(&self, metrics: &Metrics) -> Result<Response, ApiError> {
        let under_way = self.requests_max - self.under_way.available_permits();
        let free = Disk::of(&self.registry.store).ok().map(|disk| disk.free);
        let text = metrics.render(under_way, free).map_err(|_| {
            ApiError::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                Code::Unknown,
                "the metrics cannot be written",
            )
        })?;
        Ok(([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response())
    }
}

fn json_response(body: Vec<u8>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], Body::from(body)).into_response()
}

/// A header value of text that we made: references, digests and numbers.
fn header_value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("names, digests and numbers are visible ASCII")
}
