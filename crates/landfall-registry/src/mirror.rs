//! Pull-through endpoint for the container runtime of this node. The runtime asks for `/v2/<name>/…?ns=<registry>`, and
//! the mirror answers from the sources that the caller names, in their order.
//!
//! The mirror is read-only, and serves loopback only. It stores nothing and asks clients for no login: logins stay with
//! our registry clients, and no response is a challenge, which the runtime would answer with a login of its own. The
//! mirror verifies manifests. Blobs pass through, and the runtime verifies them.
//!
//! Bundles on this host are sources as well: see [`MirrorSources::places`].

use std::fmt;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use futures_util::{StreamExt as _, stream};
use http::request::Parts;
use http::{HeaderValue, Method, StatusCode, header};
use landfall_core::failure::{FailureKind, error_chain};
use landfall_core::oci_types::Descriptor;
use landfall_core::reference::{Digest, RegistryHost, Repository};
use landfall_net::serve::budget::ClientAddress;
use landfall_oci::client::{RegistryClient, RegistryError};
use landfall_oci::content::names::RepositoryName;
use landfall_oci::content::places::Places;
use landfall_oci::header_names::CONTENT_DIGEST;
use landfall_oci::image::BlobStream;

use crate::api::budgets::Budgets;
use crate::api::error::{ApiError, ErrorCode};
use crate::api::in_place::InPlace;
use crate::api::range::{ByteRange, parse_range};
use crate::api::reply::{header_value, manifest_content_type};
use landfall_core::registry_path::{ManifestSelector, Route, parse_namespace};
use landfall_net::serve::host::HostNames;

/// A source of the mirror: a repository of a registry.
#[derive(Debug, Clone)]
pub struct MirrorSource {
    /// Client of the registry, with login and trust.
    pub client: RegistryClient,
    pub repository: Repository,
}

/// Chooses the sources of an image. The mirror makes all other decisions.
pub trait MirrorSources: fmt::Debug + Send + Sync + 'static {
    /// Returns the sources for a repository of a registry, in order. None means that the image is not available.
    ///
    /// # Errors
    /// Returns an error if a client for one of them cannot be made.
    fn sources(&self, registry: &RegistryHost, repository: &Repository) -> Result<Vec<MirrorSource>, RegistryError>;

    /// Returns the places with content of this host, by its original names. A digest is looked for there first, because
    /// no registry has other bytes under it. A tag is looked for there last.
    fn places(&self) -> Option<&Places> {
        None
    }
}

/// Returns the endpoint, for [`landfall_net::serve::serve`] or a test's `oneshot`.
pub fn mirror_service(sources: Arc<dyn MirrorSources>) -> Router {
    let budgets = Budgets::default();
    Router::new()
        .fallback(answer)
        .with_state(Arc::new(Mirror { sources, budgets }))
}

#[derive(Debug)]
struct Mirror {
    sources: Arc<dyn MirrorSources>,
    /// Budgets of content that comes from places.
    budgets: Budgets,
}

impl Mirror {
    fn places<'a>(&'a self, registry: &'a RegistryHost, name: &'a Repository, request: &Parts) -> Option<InPlace<'a>> {
        Some(InPlace {
            places: self.sources.places()?,
            budgets: &self.budgets,
            name: RepositoryName::Original(registry, name),
            client: ClientAddress::of(&request.extensions),
        })
    }

    fn find_sources(&self, registry: &RegistryHost, name: &Repository) -> Result<Vec<MirrorSource>, ApiError> {
        let sources = self.sources.sources(registry, name);
        sources.map_err(|error| unreachable(&error))
    }
}

async fn answer(State(mirror): State<Arc<Mirror>>, request: Request) -> Response {
    let (request, _body) = request.into_parts();
    match respond(&mirror, &request).await {
        Ok(response) => response,
        Err(error) => error.into_response(),
    }
}

async fn respond(mirror: &Mirror, request: &Parts) -> Result<Response, ApiError> {
    check_host(request)?;
    let with_body = match request.method {
        Method::GET => true,
        Method::HEAD => false,
        _ => {
            let message = "images can be pulled here, and nothing else";
            return Err(ApiError::new(
                StatusCode::METHOD_NOT_ALLOWED,
                ErrorCode::Unsupported,
                message,
            ));
        }
    };
    match Route::parse(request.uri.path())? {
        Route::Ping => Ok(StatusCode::OK.into_response()),
        Route::Manifest { name, selector } => {
            // The selector becomes a part of a URL, with the agent's login: only a tag or a digest may.
            let Ok(selector) = selector.parse::<ManifestSelector>() else {
                return Err(unknown_manifest());
            };
            let registry = find_registry(request)?;
            let places = mirror.places(&registry, &name, request);
            let by_digest = matches!(selector, ManifestSelector::Digest(_));
            if by_digest && let Some(found) = manifest_in_place(places, &selector, request, with_body).await? {
                return Ok(found);
            }
            let fetched = match mirror.find_sources(&registry, &name) {
                Ok(sources) => send_manifest(&sources, &selector.to_string(), with_body).await,
                Err(error) => Err(error),
            };
            match fetched {
                Err(_) if !by_digest => {
                    let found = manifest_in_place(places, &selector, request, with_body).await?;
                    found.map_or(fetched, Ok)
                }
                fetched => fetched,
            }
        }
        Route::Blob { name, digest } => {
            let registry = find_registry(request)?;
            if let Some(places) = mirror.places(&registry, &name, request)
                && let Some(found) = places.get_blob(&digest, &request.headers, with_body).await?
            {
                return Ok(found);
            }
            let sources = mirror.find_sources(&registry, &name)?;
            let range = request.headers.get(header::RANGE).and_then(|range| range.to_str().ok());
            send_blob(&sources, &digest, range, with_body).await
        }
        _ => Err(ApiError::new(
            StatusCode::NOT_FOUND,
            ErrorCode::Unsupported,
            "this endpoint serves manifests and blobs",
        )),
    }
}

/// Rejects foreign host names, against DNS rebinding.
fn check_host(request: &Parts) -> Result<(), ApiError> {
    if HostNames::loopback().admit(&request.uri, &request.headers) {
        return Ok(());
    }
    let message = "this endpoint is for this machine, by the name of localhost";
    Err(ApiError::new(
        StatusCode::MISDIRECTED_REQUEST,
        ErrorCode::Denied,
        message,
    ))
}

/// Returns the registry that the runtime means.
fn find_registry(request: &Parts) -> Result<RegistryHost, ApiError> {
    let Ok(Some(registry)) = parse_namespace(request.uri.query().unwrap_or_default()) else {
        let message = "the query lacks `ns=<registry>`, which containerd adds for a mirror";
        return Err(ApiError::new(StatusCode::BAD_REQUEST, ErrorCode::NameInvalid, message));
    };
    Ok(registry)
}

async fn manifest_in_place(
    places: Option<InPlace<'_>>,
    selector: &ManifestSelector,
    request: &Parts,
    with_body: bool,
) -> Result<Option<Response>, ApiError> {
    let Some(places) = places else {
        return Ok(None);
    };
    let Some((digest, manifest)) = places.places.find_manifest(places.name, selector) else {
        return Ok(None);
    };
    places
        .get_manifest((&digest, &manifest), &request.headers, with_body)
        .await
}

async fn send_manifest(sources: &[MirrorSource], selector: &str, with_body: bool) -> Result<Response, ApiError> {
    let mut failure = None;
    for source in sources {
        let found = if with_body {
            source
                .client
                .fetch_manifest(&source.repository, selector)
                .await
                .map(|manifest| {
                    Some((
                        manifest.media_type,
                        manifest.digest,
                        manifest.bytes.len() as u64,
                        manifest.bytes,
                    ))
                })
        } else {
            source
                .client
                .head_manifest(&source.repository, selector)
                .await
                .map(|found| {
                    found.map(|found| (found.media_type.clone(), found.digest, found.size, bytes::Bytes::new()))
                })
        };
        match found {
            Ok(Some((media_type, digest, size, bytes))) => {
                let headers = [
                    (header::CONTENT_TYPE, manifest_content_type(&media_type)),
                    (header::CONTENT_LENGTH, size.into()),
                    (CONTENT_DIGEST, header_value(digest.as_str())),
                ];
                return Ok((headers, Body::from(bytes)).into_response());
            }
            Ok(None) => {}
            Err(error) => note_failure(&mut failure, &error),
        }
    }
    Err(failure.unwrap_or_else(unknown_manifest))
}

fn unknown_manifest() -> ApiError {
    ApiError::new(
        StatusCode::NOT_FOUND,
        ErrorCode::ManifestUnknown,
        "no registry that the rules allow has this image",
    )
}

async fn send_blob(
    sources: &[MirrorSource],
    digest: &Digest,
    range: Option<&str>,
    with_body: bool,
) -> Result<Response, ApiError> {
    let mut failure = None;
    for source in sources {
        let size = match source.client.blob_size(&source.repository, digest).await {
            Ok(Some(size)) => size,
            Ok(None) => continue,
            Err(error) => {
                note_failure(&mut failure, &error);
                continue;
            }
        };
        let (offset, length) = match parse_range(range.filter(|_| with_body), size) {
            ByteRange::Full => (0, size),
            ByteRange::Part { offset, length } => (offset, length),
            ByteRange::Unsatisfiable => {
                let total = header_value(&format!("bytes */{size}"));
                let error = ApiError::new(
                    StatusCode::RANGE_NOT_SATISFIABLE,
                    ErrorCode::SizeInvalid,
                    "the blob has no such range",
                );
                return Err(error.with_header(header::CONTENT_RANGE, total));
            }
        };
        let body = if with_body {
            let blob = Descriptor::new("application/octet-stream", digest.clone(), size);
            match source.client.open_blob(&source.repository, &blob, offset).await {
                Ok(opened) => Body::from_stream(first_bytes(opened, length)),
                Err(error) => {
                    note_failure(&mut failure, &error);
                    continue;
                }
            }
        } else {
            Body::empty()
        };
        let mut response = Response::new(body);
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/octet-stream"),
        );
        headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        headers.insert(CONTENT_DIGEST, header_value(digest.as_str()));
        if length < size {
            let last = offset + length - 1;
            let part = header_value(&format!("bytes {offset}-{last}/{size}"));
            headers.insert(header::CONTENT_RANGE, part);
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        }
        return Ok(response);
    }
    Err(failure.unwrap_or_else(|| {
        ApiError::new(
            StatusCode::NOT_FOUND,
            ErrorCode::BlobUnknown,
            "no registry that the rules allow has this blob",
        )
    }))
}

/// Streams the requested bytes. An error of the transfer breaks the response off, so that the client does not take it
/// for complete.
fn first_bytes(
    opened: BlobStream,
    length: u64,
) -> impl futures_util::Stream<Item = Result<bytes::Bytes, std::io::Error>> {
    stream::unfold((opened, length), async |(mut opened, left)| {
        if left == 0 {
            return None;
        }
        let mut chunk = match opened.next().await? {
            Ok(chunk) => chunk,
            Err(error) => return Some((Err(std::io::Error::other(error.to_string())), (opened, 0))),
        };
        chunk.truncate(usize::try_from(left).unwrap_or(usize::MAX));
        let left = left - chunk.len() as u64;
        Some((Ok(chunk), (opened, left)))
    })
}

/// Keeps the first failure, to report it if no source has the content. Missing content is no failure.
fn note_failure(failure: &mut Option<ApiError>, error: &RegistryError) {
    if error.kind() != FailureKind::NotFound {
        tracing::warn!(
            error = error_chain(error),
            "a registry behind the node-local mirror does not serve"
        );
        failure.get_or_insert_with(|| unreachable(error));
    }
}

fn unreachable(error: &RegistryError) -> ApiError {
    ApiError::new(StatusCode::BAD_GATEWAY, ErrorCode::Unknown, error_chain(error))
}
