//! Manifests: what makes an image visible.

use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderName, StatusCode, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use landfall_core::oci_types::{Descriptor, ManifestContent, parse_manifest};
use landfall_core::reference::{Digest, Repository, Tag};

use std::sync::Arc;

use crate::digest::{digest_of, matches_digest};
use crate::image::{BlobState, RawManifest};
use crate::server::error::{ApiError, Code};
use crate::server::listing::unknown_repository;
use crate::server::records::ManifestEntry;
use crate::server::{CONTENT_DIGEST, Registry, header_value};
use crate::store::endpoints::blocking;
use crate::store::error::StoreError;

/// What the specification lets a registry refuse to take more of ("Pushing Manifests"), in bytes.
const MANIFEST_SIZE_MAX: usize = 4 * 1024 * 1024;
const SUBJECT: HeaderName = HeaderName::from_static("oci-subject");

impl Registry {
    pub(super) async fn get_manifest(
        &self,
        name: &Repository,
        selector: &str,
        with_body: bool,
    ) -> Result<Response, ApiError> {
        let record = self.records.get(name).ok_or_else(|| unknown_repository(name))?;
        let unknown = || {
            ApiError::new(
                StatusCode::NOT_FOUND,
                Code::ManifestUnknown,
                format!("the repository `{name}` has no manifest `{selector}`"),
            )
        };
        let digest = record.select(selector).ok_or_else(unknown)?.clone();
        let entry = record.manifests.get(&digest).ok_or_else(unknown)?;
        let headers = [
            (header::CONTENT_TYPE, header_value(&entry.descriptor.media_type)),
            (header::CONTENT_LENGTH, entry.descriptor.size.into()),
            (header::ETAG, header_value(&format!("\"{digest}\""))),
            (CONTENT_DIGEST, header_value(digest.as_str())),
        ];
        let body = if with_body {
            let store = self.store.clone();
            Body::from(blocking(move || store.read_manifest(&digest)).await?.bytes)
        } else {
            Body::empty()
        };
        Ok((headers, body).into_response())
    }

    pub(super) async fn put_manifest(
        self: &Arc<Registry>,
        name: &Repository,
        selector: &str,
        request: Request,
    ) -> Result<Response, ApiError> {
        let stated_type = request
            .headers()
            .get(header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned);
        let target = Target::parse(selector)?;
        let bytes = read_body(request).await?;
        let digest = match &target {
            Target::Digest(digest) if !matches_digest(&bytes, digest) => {
                return Err(ApiError::new(
                    StatusCode::BAD_REQUEST,
                    Code::DigestInvalid,
                    "the manifest is not what its digest says",
                ));
            }
            Target::Digest(digest) => digest.clone(),
            Target::Tag(_) => digest_of(&bytes),
        };
        let content = parse_manifest(&bytes).map_err(|source| {
            ApiError::from(StoreError::Manifest {
                digest: digest.clone(),
                source,
            })
        })?;
        let media_type = check_media_type(&content, stated_type)?;
        let manifest = RawManifest {
            bytes,
            media_type,
            digest: digest.clone(),
        };
        let subject = content.subject().map(|subject| subject.digest.clone());
        let registry = self.clone();
        let repository = name.clone();
        blocking(move || registry.store_manifest(&repository, &target, &manifest, &content)).await?;
        let mut response = (
            StatusCode::CREATED,
            [
                (
                    header::LOCATION,
                    header_value(&format!("/v2/{name}/manifests/{digest}")),
                ),
                (CONTENT_DIGEST, header_value(digest.as_str())),
            ],
        )
            .into_response();
        if let Some(subject) = subject {
            response.headers_mut().insert(SUBJECT, header_value(subject.as_str()));
        }
        Ok(response)
    }

    fn store_manifest(
        &self,
        name: &Repository,
        target: &Target,
        manifest: &RawManifest,
        content: &ManifestContent,
    ) -> Result<(), StoreError> {
        // Until the record counts as a root, this keeps everything from garbage collection.
        let hold = self.store.hold();
        for child in content.children() {
            hold.keep(&child.digest);
            let is_here = self.has_blob(name, &child.digest) && self.store.blob_state(child)? == BlobState::Complete;
            if !is_here && !child.is_foreign() {
                return Err(StoreError::Incomplete {
                    manifest: manifest.digest.clone(),
                    child: child.digest.clone(),
                });
            }
        }
        self.store.write_manifest(manifest, None, &hold)?;
        let size = manifest.bytes.len() as u64;
        let descriptor = Descriptor::new(&manifest.media_type, manifest.digest.clone(), size);
        let entry = ManifestEntry::new(descriptor, content);
        self.records.change(name, |record| {
            record.manifests.insert(manifest.digest.clone(), entry);
            if let Target::Tag(tag) = target {
                record.tags.insert(tag.clone(), manifest.digest.clone());
            }
        })
    }

    /// A tag alone goes; a digest goes with all tags that it has.
    pub(super) async fn delete_manifest(
        self: &Arc<Registry>,
        name: &Repository,
        selector: &str,
    ) -> Result<Response, ApiError> {
        let target = Target::parse(selector)?;
        if self.records.get(name).is_none() {
            return Err(unknown_repository(name));
        }
        let registry = self.clone();
        let repository = name.clone();
        let deleted = blocking(move || {
            registry.records.change(&repository, |record| match &target {
                Target::Tag(tag) => record.tags.remove(tag).is_some(),
                Target::Digest(digest) => {
                    record.tags.retain(|_, tagged| tagged != digest);
                    record.manifests.remove(digest).is_some()
                }
            })
        });
        if deleted.await? {
            Ok(StatusCode::ACCEPTED.into_response())
        } else {
            Err(ApiError::new(
                StatusCode::NOT_FOUND,
                Code::ManifestUnknown,
                format!("the repository `{name}` has no manifest `{selector}`"),
            ))
        }
    }
}

/// What a manifest is put under.
#[derive(Debug)]
enum Target {
    Tag(Tag),
    Digest(Digest),
}

impl Target {
    fn parse(selector: &str) -> Result<Target, ApiError> {
        if selector.contains(':') {
            return super::route::parse_digest(selector).map(Target::Digest);
        }
        selector
            .parse()
            .map(Target::Tag)
            .map_err(|error| ApiError::new(StatusCode::BAD_REQUEST, Code::TagInvalid, format!("{error}")))
    }
}

/// The manifest is served under the type that it was pushed with, which must be the one that it gives itself.
fn check_media_type(content: &ManifestContent, stated: Option<String>) -> Result<String, ApiError> {
    let own = content.media_type();
    let says_itself = match content {
        ManifestContent::Image(manifest) => manifest.media_type.is_some(),
        ManifestContent::Index(index) => index.media_type.is_some(),
    };
    let stated = stated.map(|stated| stated.split(';').next().unwrap_or_default().trim().to_owned());
    match stated {
        Some(stated) if says_itself && stated != own => Err(ApiError::new(
            StatusCode::BAD_REQUEST,
            Code::ManifestInvalid,
            format!("the manifest calls itself `{own}` and was pushed as `{stated}`"),
        )),
        Some(stated) if landfall_core::oci_types::is_manifest_type(&stated) => Ok(stated),
        _ => Ok(own.to_owned()),
    }
}

async fn read_body(request: Request) -> Result<Bytes, ApiError> {
    match Limited::new(request.into_body(), MANIFEST_SIZE_MAX).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(ApiError::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            Code::SizeInvalid,
            "a manifest has at most 4 MiB",
        )),
        Err(_the_client_hung_up) => Err(ApiError::new(
            StatusCode::BAD_REQUEST,
            Code::SizeInvalid,
            "the manifest did not arrive whole",
        )),
    }
}
