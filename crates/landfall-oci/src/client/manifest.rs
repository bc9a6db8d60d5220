//! Manifests, fetched and pushed as the raw bytes of their digest.

use std::str::FromStr;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use landfall_core::failure::{FailureKind, Shortcut};
use landfall_core::oci_types::{Descriptor, is_manifest_type, parse_manifest};
use landfall_core::reference::{Digest, Repository};

use super::auth::scope::Scope;
use super::error::{Fault, RegistryAction, RegistryError};
use super::problem::ProtocolProblem;
use super::request::{RegistryRequest, RequestBody};
use crate::client::registry_client::RegistryClient;
use crate::digest::{Algorithm, Digester};
use crate::header_names::{CONTENT_DIGEST, IN_PLACE, SUBJECT};
use crate::image::RawManifest;

/// Largest manifest that is read, in bytes: the size that every registry must accept (OCI distribution specification,
/// "Pushing Manifests").
pub const MANIFEST_SIZE_MAX: usize = 4 * 1024 * 1024;

const ACCEPTED: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
                        application/vnd.docker.distribution.manifest.list.v2+json, \
                        application/vnd.docker.distribution.manifest.v2+json, */*";

impl RegistryClient {
    /// Fetches a manifest by tag or digest. The client verifies the bytes against the requested digest, or else against
    /// the one in the response.
    ///
    /// # Errors
    /// Fails if the manifest is missing, cannot be fetched, is larger than [`MANIFEST_SIZE_MAX`], or does not match its
    /// digest.
    pub async fn fetch_manifest(&self, repository: &Repository, selector: &str) -> Result<RawManifest, RegistryError> {
        let fetched = self.fetch_manifest_inner(repository, selector).await;
        fetched.map_err(|fault| self.error(fetch_action(repository, selector), fault))
    }

    async fn fetch_manifest_inner(&self, repository: &Repository, selector: &str) -> Result<RawManifest, Fault> {
        let request = manifest_request(Method::GET, repository, selector);
        let response = self.transport.send_expecting(request, &[StatusCode::OK]).await?;
        let stated = header_digest(response.headers());
        let content_type = header_media_type(response.headers());
        let bytes = self.transport.read_body(response, MANIFEST_SIZE_MAX).await?;
        let asked = Digest::from_str(selector).ok();
        let digest = digest_like(&bytes, asked.as_ref().or(stated.as_ref()));
        if let Some(expected) = asked.filter(|asked| *asked != digest) {
            return Err(Fault::WrongDigest {
                expected,
                computed: digest,
            });
        }
        if let Some(header) = stated.filter(|stated| stated.algorithm() == digest.algorithm() && *stated != digest) {
            return Err(Fault::from(ProtocolProblem::DigestHeader {
                header,
                computed: digest,
            }));
        }
        Ok(RawManifest {
            media_type: settle_media_type(content_type, &bytes)?,
            bytes,
            digest,
        })
    }

    /// Returns a manifest's digest, size and media type; `None` if it is missing. A `HEAD` saves the bytes; only a `GET`
    /// proves that the manifest is missing: some registries and proxies answer 404 to every `HEAD`.
    ///
    /// # Errors
    /// Fails if the registry cannot be asked.
    pub async fn head_manifest(
        &self,
        repository: &Repository,
        selector: &str,
    ) -> Result<Option<Descriptor>, RegistryError> {
        let subject = format!("{repository} {selector}");
        let head = self.head_manifest_inner(repository, selector);
        let found = self.try_shortcut(Shortcut::ManifestHead, subject, head).await;
        if let Some((found, _)) = found.map_err(|fault| self.error(fetch_action(repository, selector), fault))? {
            return Ok(Some(found));
        }
        match self.fetch_manifest(repository, selector).await {
            Ok(manifest) => Ok(Some(describe(&manifest))),
            Err(error) if error.kind() == FailureKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Returns a manifest's digest, size and media type before its push. `None` means that it is to be pushed: it is
    /// missing, the registry does not hold all of its image ([`IN_PLACE`]), or does not say.
    ///
    /// # Errors
    /// Fails if the registry cannot be reached, or is to be asked again.
    pub(super) async fn find_pushed_manifest(
        &self,
        repository: &Repository,
        selector: &str,
    ) -> Result<Option<Descriptor>, RegistryError> {
        let subject = format!("{repository} {selector}");
        let head = self.head_manifest_inner(repository, selector);
        let found = self.try_shortcut(Shortcut::ManifestBeforePush, subject, head).await;
        let found = found.map_err(|fault| self.error(fetch_action(repository, selector), fault))?;
        Ok(found.and_then(|(manifest, is_held)| is_held.then_some(manifest)))
    }

    /// Returns a manifest, and true if the registry holds all of its image.
    async fn head_manifest_inner(&self, repository: &Repository, selector: &str) -> Result<(Descriptor, bool), Fault> {
        let request = manifest_request(Method::HEAD, repository, selector);
        let response = self.transport.send_expecting(request, &[StatusCode::OK]).await?;
        let headers = response.headers();
        let is_held = !headers.contains_key(IN_PLACE);
        let size = headers
            .get(http::header::CONTENT_LENGTH)
            .and_then(|value| value.to_str().ok()?.parse().ok());
        match (header_digest(headers), header_media_type(headers), size) {
            (Some(digest), Some(media_type), Some(size)) => Ok((Descriptor::new(&media_type, digest, size), is_held)),
            // The headers are optional (distribution specification, "Checking if content exists in the registry").
            _ => Ok((
                describe(&self.fetch_manifest_inner(repository, selector).await?),
                is_held,
            )),
        }
    }

    /// Pushes a manifest under a tag or its digest.
    ///
    /// # Errors
    /// Fails if the registry rejects it, or states another digest for it.
    pub async fn push_manifest(
        &self,
        repository: &Repository,
        selector: &str,
        manifest: &RawManifest,
    ) -> Result<PushedManifest, RegistryError> {
        let pushed = self.push_manifest_inner(repository, selector, manifest).await;
        pushed.map_err(|fault| {
            let action = RegistryAction::PushManifest {
                repository: repository.clone(),
                selector: selector.to_owned(),
            };
            self.error(action, fault)
        })
    }

    async fn push_manifest_inner(
        &self,
        repository: &Repository,
        selector: &str,
        manifest: &RawManifest,
    ) -> Result<PushedManifest, Fault> {
        let content_type = HeaderValue::from_str(&manifest.media_type).map_err(|_| {
            Fault::from(ProtocolProblem::UnsupportedManifest {
                media_type: manifest.media_type.clone(),
            })
        })?;
        let path = format!("/v2/{repository}/manifests/{selector}");
        let mut request =
            RegistryRequest::new(Method::PUT, path, Scope::Push(repository.clone())).header(CONTENT_TYPE, content_type);
        request.body = RequestBody::Bytes(manifest.bytes.clone());
        let response = self
            .transport
            .send_expecting(request, &[StatusCode::CREATED, StatusCode::OK])
            .await?;
        match header_digest(response.headers()) {
            Some(header) if header.algorithm() == manifest.digest.algorithm() && header != manifest.digest => {
                Err(Fault::from(ProtocolProblem::DigestHeader {
                    header,
                    computed: manifest.digest.clone(),
                }))
            }
            _ => Ok(PushedManifest {
                lists_referrers: response.headers().contains_key(SUBJECT),
            }),
        }
    }
}

/// Answer of a registry to the push of a manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PushedManifest {
    /// True if the registry says that it lists the manifest as a referrer of its subject (`OCI-Subject`).
    pub lists_referrers: bool,
}

fn describe(manifest: &RawManifest) -> Descriptor {
    let size = manifest.bytes.len() as u64;
    Descriptor::new(&manifest.media_type, manifest.digest.clone(), size)
}

fn fetch_action(repository: &Repository, selector: &str) -> RegistryAction {
    RegistryAction::FetchManifest {
        repository: repository.clone(),
        selector: selector.to_owned(),
    }
}

fn manifest_request(method: Method, repository: &Repository, selector: &str) -> RegistryRequest {
    let path = format!("/v2/{repository}/manifests/{selector}");
    let scope = Scope::Pull(repository.clone());
    RegistryRequest::new(method, path, scope).header(ACCEPT, HeaderValue::from_static(ACCEPTED))
}

fn header_digest(headers: &HeaderMap) -> Option<Digest> {
    headers.get(CONTENT_DIGEST)?.to_str().ok()?.parse().ok()
}

/// Returns the media type without parameters such as `charset`.
fn header_media_type(headers: &HeaderMap) -> Option<String> {
    let text = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    let essence = text.split(';').next()?.trim();
    (!essence.is_empty()).then(|| essence.to_owned())
}

fn digest_like(bytes: &[u8], model: Option<&Digest>) -> Digest {
    let mut digester = Digester::new(model.map(Algorithm::of).unwrap_or_default());
    digester.update(bytes);
    digester.finish()
}

/// Returns the header's media type if it is a manifest's. Otherwise (`application/json`, nothing) the content decides.
fn settle_media_type(header: Option<String>, bytes: &Bytes) -> Result<String, Fault> {
    if let Some(header) = &header
        && is_manifest_type(header)
    {
        return Ok(header.clone());
    }
    match parse_manifest(bytes) {
        Ok(content) => Ok(content.media_type().to_owned()),
        Err(_) => Err(Fault::Protocol(match header {
            Some(media_type) => ProtocolProblem::UnsupportedManifest { media_type },
            None => ProtocolProblem::NoMediaType,
        })),
    }
}

#[cfg(test)]
mod tests {
    use landfall_core::oci_types::media_type;

    use super::*;

    #[test]
    fn the_content_says_what_it_is_where_the_header_does_not() {
        let index = Bytes::from_static(br#"{"schemaVersion":2,"manifests":[]}"#);
        let settle = |header: Option<&str>| settle_media_type(header.map(str::to_owned), &index).unwrap();
        assert_eq!(settle(Some("application/json")), media_type::OCI_INDEX);
        assert_eq!(settle(None), media_type::OCI_INDEX);
        assert_eq!(settle(Some(media_type::DOCKER_INDEX)), media_type::DOCKER_INDEX);
        assert!(settle_media_type(Some("text/html".to_owned()), &Bytes::from_static(b"<html>")).is_err());
    }
}
