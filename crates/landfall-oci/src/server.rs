//! The embedded registry: the OCI distribution API over the content store. A blob is one file, shared by all repositories
//! and by the agent's own images.
//!
//! Decides what a repository holds and who may ask. Listening and TLS are [`crate::serve`]'s.
//!
//! Repositories are small JSON records, `<directory>/<name>/_record.json`, replaced atomically. Blobs belong to a
//! repository when one of its manifests names them; before that, a push links them in memory only: after a restart the
//! client mounts them again, which moves no bytes.

mod auth;
mod blobs;
mod error;
mod listing;
mod manifests;
mod range;
mod records;
mod route;
mod uploads;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use camino::Utf8Path;
use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use landfall_core::reference::{Digest, Repository};
use tokio::time::Instant;

use crate::server::auth::Gate;
use crate::server::error::{ApiError, Code};
use crate::server::records::Records;
use crate::server::route::Route;
use crate::server::uploads::Uploads;
use crate::store::ContentStore;
use crate::store::error::StoreError;
use crate::store::gc::GcReport;
use crate::store::pins::Hold;

pub use crate::server::auth::{Users, UsersError};

/// How long a pushed blob waits for a manifest that names it.
const LINK_AGE_MAX: Duration = Duration::from_secs(24 * 60 * 60);
const API_VERSION: (HeaderName, HeaderValue) = (
    HeaderName::from_static("docker-distribution-api-version"),
    HeaderValue::from_static("registry/2.0"),
);
const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// Who may do what.
#[derive(Debug, Default)]
pub struct Policy {
    /// Who may push, and pull; `None` lets everybody do both.
    pub login: Option<Users>,
    /// Whether pulling needs no login.
    pub anonymous_pull: bool,
    /// Whether nothing may be changed through the API.
    pub read_only: bool,
}

/// The registry's content.
#[derive(Debug)]
pub struct Registry {
    store: ContentStore,
    records: Records,
    links: Mutex<HashMap<(Repository, Digest), Link>>,
    uploads: Uploads,
}

/// A blob that was pushed to a repository, for which no manifest came yet.
#[derive(Debug)]
struct Link {
    since: Instant,
    _hold: Hold,
}

impl Registry {
    /// Reads the records of all repositories. A record that is damaged is set aside; see [`Registry::repairs`].
    ///
    /// # Errors
    /// When the directory cannot be read or made.
    pub fn open(store: ContentStore, directory: &Utf8Path) -> Result<Registry, StoreError> {
        Ok(Registry {
            store,
            records: Records::load(directory)?,
            links: Mutex::default(),
            uploads: Uploads::default(),
        })
    }

    /// What [`Registry::open`] had to mend, one sentence each.
    #[must_use]
    pub fn repairs(&self) -> &[String] {
        self.records.repairs()
    }

    /// The digest of the manifest that a repository has under a tag or digest.
    #[must_use]
    pub fn find_manifest(&self, repository: &Repository, selector: &str) -> Option<Digest> {
        self.records.get(repository)?.select(selector).cloned()
    }

    /// All repositories that hold a manifest, in order.
    #[must_use]
    pub fn repositories(&self) -> Vec<Repository> {
        self.records.names()
    }

    /// Deletes the blobs that no repository, no named image of the store and no push under way counts on. Blocks.
    ///
    /// # Errors
    /// When the disk does not answer.
    pub fn gc(&self, now: SystemTime) -> Result<GcReport, StoreError> {
        self.links().retain(|_, link| link.since.elapsed() < LINK_AGE_MAX);
        self.store.gc(|| Ok(self.records.manifests()), now)
    }

    fn links(&self) -> MutexGuard<'_, HashMap<(Repository, Digest), Link>> {
        // Insertions and removals are single steps: a panic cannot leave half of one.
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn link(&self, repository: &Repository, digest: &Digest, hold: Hold) {
        let link = Link {
            since: Instant::now(),
            _hold: hold,
        };
        self.links().insert((repository.clone(), digest.clone()), link);
    }

    /// Whether a blob belongs to a repository.
    fn has_blob(&self, repository: &Repository, digest: &Digest) -> bool {
        self.links().contains_key(&(repository.clone(), digest.clone()))
            || self
                .records
                .get(repository)
                .is_some_and(|record| record.names_blob(digest))
    }
}

/// The distribution API under `/v2/`, for [`crate::serve::serve`] or a test's `oneshot`.
pub fn registry_service(registry: Arc<Registry>, policy: Policy) -> Router {
    let api = Api {
        registry,
        gate: Gate::new(policy),
    };
    Router::new().fallback(answer).with_state(Arc::new(api))
}

#[derive(Debug)]
struct Api {
    registry: Arc<Registry>,
    gate: Gate,
}

async fn answer(State(api): State<Arc<Api>>, request: Request) -> Response {
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let mut response = match api.respond(request).await {
        Ok(response) => response,
        Err(error) => error.into_response(),
    };
    response.headers_mut().insert(API_VERSION.0, API_VERSION.1);
    tracing::debug!(%method, path, status = response.status().as_u16(), "registry request");
    response
}

impl Api {
    async fn respond(&self, request: Request) -> Result<Response, ApiError> {
        let route = Route::parse(request.uri().path())?;
        self.gate.admit(request.method(), request.headers(), &route).await?;
        let registry = &self.registry;
        let get = request.method() == Method::GET;
        match (request.method(), &route) {
            (&Method::GET | &Method::HEAD, Route::Ping) => Ok(json_response(b"{}".to_vec())),
            (&Method::GET, Route::Catalog) => registry.list_repositories(request.uri()),
            (&Method::GET, Route::Tags { name }) => registry.list_tags(name, request.uri()),
            (&Method::GET, Route::Referrers { name, digest }) => registry.list_referrers(name, digest, request.uri()),
            (&Method::GET | &Method::HEAD, Route::Manifest { name, selector }) => {
                registry.get_manifest(name, selector, get).await
            }
            (&Method::PUT, Route::Manifest { name, selector }) => registry.put_manifest(name, selector, request).await,
            (&Method::DELETE, Route::Manifest { name, selector }) => registry.delete_manifest(name, selector).await,
            (&Method::GET | &Method::HEAD, Route::Blob { name, digest }) => {
                registry.get_blob(name, digest, request.headers(), get).await
            }
            (&Method::DELETE, Route::Blob { name, digest }) => registry.delete_blob(name, digest),
            (&Method::POST, Route::Uploads { name }) => registry.start_upload(name, request).await,
            (&Method::GET, Route::Upload { name, id }) => registry.upload_status(name, id),
            (&Method::PATCH, Route::Upload { name, id }) => registry.append_upload(name, id, request).await,
            (&Method::PUT, Route::Upload { name, id }) => registry.finish_upload(name, id, request).await,
            (&Method::DELETE, Route::Upload { name, id }) => registry.cancel_upload(name, id),
            _ => Err(ApiError::new(
                StatusCode::METHOD_NOT_ALLOWED,
                Code::Unsupported,
                "this method is not one of this address",
            )),
        }
    }
}

fn json_response(body: Vec<u8>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], Body::from(body)).into_response()
}

/// A header value of text that we made: references, digests and numbers.
fn header_value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("names, digests and numbers are visible ASCII")
}
