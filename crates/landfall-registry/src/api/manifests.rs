//! Manifests: download, push and deletion. A pushed manifest makes its image visible.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Query, Request};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use jiff::Timestamp;
use landfall_core::oci_types::{
    ContentRole, ManifestContent, is_manifest_like_type, is_manifest_type, is_media_type, parse_manifest,
};
use landfall_core::reference::{Digest, Repository, Tag};
use landfall_net::serve::budget::ClientAddress;
use landfall_net::serve::request_body::{BufferError, BufferedBody, buffer_body};
use landfall_oci::digest::{digest_of, matches_digest};
use landfall_oci::header_names::CONTENT_DIGEST;
use landfall_oci::image::{BlobState, RawManifest};
use landfall_oci::store::blocking::blocking;
use landfall_oci::store::error::StoreError;

use crate::api::budgets::{over_budget, paid};
use crate::api::conditional::{entity_tag, not_modified};
use crate::api::error::{ApiError, ErrorCode, too_slow};
use crate::api::in_place::mark_in_place;
use crate::api::listing::unknown_repository;
use crate::api::reply::{header_value, manifest_content_type};
use crate::api::route::parse_digest;
use crate::repository::Registry;
use crate::repository::manifest_cache::{CachedManifest, MANIFEST_SIZE_MAX};
use crate::repository::record::{ManifestEntry, RecordChange};
use crate::repository::servable::Wholeness;
use crate::repository::whole_images::Completeness;

/// Longest media type: type, slash and subtype (RFC 6838 section 4.2).
const MEDIA_TYPE_LENGTH_MAX: usize = 255;
/// Tags that one request may set. The draft of version 1.2 requires at least 10.
const TAGS_MAX: usize = 64;
const SUBJECT: HeaderName = HeaderName::from_static("oci-subject");
const TAG: HeaderName = HeaderName::from_static("oci-tag");

/// A manifest that a client asks for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WantedManifest<'a> {
    /// Tag or digest.
    pub(crate) selector: &'a str,
    /// False for `HEAD`.
    pub(crate) with_body: bool,
    pub(crate) completeness: Completeness,
}

impl Registry {
    pub(crate) async fn get_manifest(
        self: &Arc<Registry>,
        name: &Repository,
        wanted: WantedManifest<'_>,
        request: &HeaderMap,
        client: ClientAddress,
    ) -> Result<Response, ApiError> {
        let WantedManifest {
            selector,
            with_body,
            completeness,
        } = wanted;
        let cached = self.records.get(name)?;
        let recorded = cached.as_ref().and_then(|cached| {
            let record = cached.read();
            let (digest, entry) = record.select(selector)?;
            let media_type = manifest_content_type(&entry.media_type);
            Some((cached, digest.clone(), media_type, entry.size))
        });
        let Some((cached, digest, media_type, size)) = recorded else {
            let in_place = self.get_manifest_in_place(name, wanted, request, client).await?;
            return in_place.ok_or_else(|| match &cached {
                Some(_) => unknown_manifest(name, selector),
                None => unknown_repository(name),
            });
        };
        // A `HEAD` reads the manifest too: it says whether all content is here.
        let memory = self.budgets.take_answer(client, size)?;
        let manifest = match self.load_manifest_to_serve(&digest).await {
            Ok(manifest) => manifest,
            Err(StoreError::Missing { .. } | StoreError::Damaged { .. }) => {
                let same = WantedManifest {
                    selector: digest.as_str(),
                    ..wanted
                };
                let in_place = self.get_manifest_in_place(name, same, request, client).await?;
                return in_place.ok_or_else(|| lost_manifest(name, selector, &digest));
            }
            Err(error) => return Err(error.into()),
        };
        let wholeness = self.check_whole_to_serve(name, cached, (&digest, &manifest.parts), completeness)?;
        if let Wholeness::Lost(lost) = wholeness {
            tracing::warn!(repository = %name, manifest = %digest, %lost, "an image is not served, because the registry \
                lost content of it; a push of the image repairs it");
            self.note_loss();
            return Err(lost_manifest(name, selector, &lost));
        }
        if let Some(response) = not_modified(request, &digest) {
            return Ok(response);
        }
        let headers = [
            (header::CONTENT_TYPE, media_type),
            (header::CONTENT_LENGTH, size.into()),
            (header::ETAG, entity_tag(&digest)),
            (CONTENT_DIGEST, header_value(digest.as_str())),
        ];
        let body = if with_body {
            Body::from(manifest.bytes)
        } else {
            Body::empty()
        };
        let response = paid((headers, body).into_response(), memory);
        Ok(match wholeness {
            Wholeness::WithPlaces => mark_in_place(response),
            _ => response,
        })
    }

    /// Answers with a manifest that only a place has. `None` if there is none, or content of its image is missing.
    async fn get_manifest_in_place(
        &self,
        name: &Repository,
        wanted: WantedManifest<'_>,
        request: &HeaderMap,
        client: ClientAddress,
    ) -> Result<Option<Response>, ApiError> {
        let Some((digest, manifest)) = self.find_in_place(name, wanted.selector) else {
            return Ok(None);
        };
        let lacking = self.find_lacking_in_place(name, &manifest.parts)?;
        if let Some(lacking) = lacking.filter(|_| wanted.completeness == Completeness::Complete) {
            tracing::warn!(repository = %name, manifest = %digest, %lacking, "an image of a place is not served, because \
                content of it is missing");
            return Ok(None);
        }
        self.ask_places(name, client)
            .get_manifest((&digest, &manifest), request, wanted.with_body)
            .await
    }

    async fn load_manifest_to_serve(self: &Arc<Registry>, digest: &Digest) -> Result<CachedManifest, StoreError> {
        if let Some(manifest) = self.manifest_cache.get(digest) {
            return Ok(manifest);
        }
        let (registry, wanted) = (self.clone(), digest.clone());
        blocking(move || registry.load_manifest(&wanted)).await
    }

    pub(crate) async fn put_manifest(
        self: &Arc<Registry>,
        name: &Repository,
        selector: &str,
        request: Request,
        incomplete_images: bool,
        client: ClientAddress,
    ) -> Result<Response, ApiError> {
        let stated_type = request.headers().get(header::CONTENT_TYPE).cloned();
        let target = ManifestTarget::parse(selector, request.uri())?;
        let _in_flight = self.begin_upload(name)?;
        // The part of the budget is free again when the request ends.
        let body = self.read_pushed_manifest(request, client).await?;
        let bytes = body.bytes.clone();
        let digest = match &target.digest {
            Some(digest) if !matches_digest(&bytes, digest) => {
                return Err(ApiError::new(
                    StatusCode::BAD_REQUEST,
                    ErrorCode::DigestInvalid,
                    "the manifest does not match its digest",
                ));
            }
            Some(digest) => digest.clone(),
            None => digest_of(&bytes),
        };
        let content = parse_manifest(&bytes).map_err(|source| {
            ApiError::from(StoreError::Manifest {
                digest: digest.clone(),
                source,
            })
        })?;
        self.check_space(bytes.len() as u64)?;
        let media_type = check_media_type(&content, stated_type.as_ref())?;
        let subject = content.subject().map(|subject| subject.digest.clone());
        let push = ManifestPush {
            manifest: RawManifest {
                bytes,
                media_type,
                digest: digest.clone(),
            },
            content,
            tags: target.tags.clone(),
            incomplete: incomplete_images,
        };
        self.take_in_blobs(name, &push.content, client).await?;
        let (registry, repository) = (self.clone(), name.clone());
        blocking(move || registry.store_manifest(&repository, &push)).await?;
        let location = header_value(&format!("/v2/{name}/manifests/{digest}"));
        let headers = [
            (header::LOCATION, location),
            (CONTENT_DIGEST, header_value(digest.as_str())),
        ];
        let mut response = (StatusCode::CREATED, headers).into_response();
        if let Some(subject) = subject {
            response.headers_mut().insert(SUBJECT, header_value(subject.as_str()));
        }
        if target.digest.is_some() {
            for tag in &target.tags {
                response.headers_mut().append(TAG, header_value(tag.as_str()));
            }
        }
        Ok(response)
    }

    async fn read_pushed_manifest(&self, request: Request, client: ClientAddress) -> Result<BufferedBody, ApiError> {
        let budget = &self.budgets.pushed_manifests;
        let body = buffer_body(request.into_body(), MANIFEST_SIZE_MAX, budget, client).await;
        body.map_err(|error| match error {
            BufferError::TooLong => ApiError::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                ErrorCode::SizeInvalid,
                "a manifest has at most 4 MiB",
            ),
            BufferError::OverBudget => over_budget(),
            BufferError::Incomplete => ApiError::new(
                StatusCode::BAD_REQUEST,
                ErrorCode::SizeInvalid,
                "the manifest did not arrive whole",
            ),
            BufferError::TooSlow => too_slow(ErrorCode::SizeInvalid),
        })
    }

    fn store_manifest(&self, name: &Repository, push: &ManifestPush) -> Result<(), StoreError> {
        // The lease keeps the manifest and its children from garbage collection until the record references them.
        let lease = self.store.lease();
        let cached = self.records.get(name)?;
        let has = |digest: &Digest| cached.as_ref().is_some_and(|cached| cached.read().has_blob(digest));
        let may_lack_parts = push.incomplete || matches!(push.content, ManifestContent::Index(_));
        let (mut here, mut missing) = (Vec::new(), Vec::new());
        for child in push.content.children() {
            lease.add(&child.digest);
            if self.store.blob_state(child)? == BlobState::Complete && has(&child.digest) {
                here.push((child.digest.clone(), push.content.role_of(child)));
            } else if !may_lack_parts && !child.is_foreign() {
                missing.push(child.digest.clone());
            }
        }
        StoreError::unless_complete(&push.manifest.digest, missing)?;
        self.store.write_manifest_alone(&push.manifest, &lease)?;
        let digest = &push.manifest.digest;
        let size = push.manifest.bytes.len() as u64;
        let entry = ManifestEntry::new(push.manifest.media_type.clone(), size, &push.content);
        let (at, run_seconds) = (Timestamp::now(), self.clock.now());
        self.records.change(name, |record| {
            // Garbage collection may have unlinked a blob since the check above. The hold kept its file, so it is
            // linked again. A layer that the repository has as a manifest gets a link of its own: the manifest may be
            // deleted. No push waits for these blobs any more.
            let mut changes: Vec<RecordChange> = here
                .into_iter()
                .filter(|(child, role)| match record.blobs.get(child) {
                    Some(link) => !link.settled,
                    None => *role == ContentRole::Blob || !record.has_blob(child),
                })
                .map(|(digest, _)| {
                    let link = record.blobs.get(&digest);
                    RecordChange::AddBlob {
                        at: link.map_or(at, |link| link.at),
                        run_seconds: link.map_or(run_seconds, |link| link.run_seconds),
                        settled: true,
                        digest,
                    }
                })
                .collect();
            if record.manifests.get(digest) != Some(&entry) {
                changes.push(RecordChange::AddManifest {
                    digest: digest.clone(),
                    entry,
                });
            }
            let moved = push.tags.iter().filter(|tag| record.tags.get(*tag) != Some(digest));
            changes.extend(moved.map(|tag| RecordChange::SetTag {
                tag: tag.clone(),
                digest: digest.clone(),
            }));
            (changes, ())
        })
    }

    /// Deletes a tag, or a manifest by digest together with all its tags.
    pub(crate) async fn delete_manifest(
        self: &Arc<Registry>,
        name: &Repository,
        selector: &str,
    ) -> Result<Response, ApiError> {
        let target = ManifestTarget::parse(selector, &Uri::default())?;
        if self.records.get(name)?.is_none() {
            return Err(unknown_repository(name));
        }
        let (registry, repository) = (self.clone(), name.clone());
        let deleted = blocking(move || {
            registry.records.change(&repository, |record| {
                let change = match (target.digest, target.tags.into_iter().next()) {
                    (Some(digest), _) if record.manifests.contains_key(&digest) => {
                        Some(RecordChange::DropManifest { digest })
                    }
                    (None, Some(tag)) if record.tags.contains_key(&tag) => Some(RecordChange::DropTag { tag }),
                    _ => None,
                };
                let found = change.is_some();
                (change.into_iter().collect(), found)
            })
        });
        if deleted.await? {
            self.note_loss();
            Ok(StatusCode::ACCEPTED.into_response())
        } else {
            Err(unknown_manifest(name, selector))
        }
    }
}

pub(crate) fn unknown_manifest(name: &Repository, selector: &str) -> ApiError {
    ApiError::new(
        StatusCode::NOT_FOUND,
        ErrorCode::ManifestUnknown,
        format!("the repository `{name}` has no manifest `{selector}`"),
    )
}

/// Returns the answer for a manifest that the repository has, and of which the registry lost content: a client goes to
/// another registry, or pushes the image again.
fn lost_manifest(name: &Repository, selector: &str, lost: &Digest) -> ApiError {
    ApiError::new(
        StatusCode::NOT_FOUND,
        ErrorCode::ManifestUnknown,
        format!("the registry lost `{lost}` of the manifest `{selector}` of `{name}`: push the image again"),
    )
}

/// A manifest to be stored in a repository.
struct ManifestPush {
    manifest: RawManifest,
    content: ManifestContent,
    tags: Vec<Tag>,
    /// True if blobs of an image may be missing.
    incomplete: bool,
}

/// Names under which a manifest is pushed: a tag, or a digest and any number of tags.
#[derive(Debug)]
struct ManifestTarget {
    digest: Option<Digest>,
    tags: Vec<Tag>,
}

impl ManifestTarget {
    fn parse(selector: &str, uri: &Uri) -> Result<ManifestTarget, ApiError> {
        if !selector.contains(':') {
            return Ok(ManifestTarget {
                digest: None,
                tags: vec![parse_tag(selector)?],
            });
        }
        let digest = parse_digest(selector)?;
        let Query(query) = Query::<Vec<(String, String)>>::try_from_uri(uri).unwrap_or_default();
        let tags: Vec<Tag> = query
            .iter()
            .filter(|(key, _)| key == "tag")
            .map(|(_, tag)| parse_tag(tag))
            .collect::<Result<_, _>>()?;
        if tags.len() > TAGS_MAX {
            return Err(ApiError::new(
                StatusCode::URI_TOO_LONG,
                ErrorCode::TagInvalid,
                format!("one request sets at most {TAGS_MAX} tags"),
            ));
        }
        Ok(ManifestTarget {
            digest: Some(digest),
            tags,
        })
    }
}

fn parse_tag(text: &str) -> Result<Tag, ApiError> {
    text.parse()
        .map_err(|error| ApiError::new(StatusCode::BAD_REQUEST, ErrorCode::TagInvalid, format!("{error}")))
}

/// Returns the media type under which the manifest is served. The `Content-Type` of the push must agree with the
/// manifest's own `mediaType`, which must be a type of JSON.
fn check_media_type(content: &ManifestContent, stated: Option<&HeaderValue>) -> Result<String, ApiError> {
    let own = content.media_type();
    let says_itself = match content {
        ManifestContent::Image(manifest) => manifest.media_type.is_some(),
        ManifestContent::Index(index) => index.media_type.is_some(),
    };
    let invalid = |message: String| ApiError::new(StatusCode::BAD_REQUEST, ErrorCode::ManifestInvalid, message);
    if !is_manifest_like_type(own) {
        return Err(invalid(format!(
            "the manifest calls itself `{}`, which is no media type of a manifest",
            excerpt(own)
        )));
    }
    if content
        .artifact_type()
        .is_some_and(|artifact| artifact.len() > MEDIA_TYPE_LENGTH_MAX)
    {
        return Err(invalid(format!(
            "the artifact's type has more than {MEDIA_TYPE_LENGTH_MAX} bytes, and no media type has"
        )));
    }
    let Some(stated) = stated else {
        return Ok(own.to_owned());
    };
    let stated = stated.to_str().unwrap_or_default();
    let stated = stated.split(';').next().unwrap_or_default().trim();
    if !is_media_type(stated) {
        return Err(invalid("the `Content-Type` is no media type".to_owned()));
    }
    if says_itself && stated != own {
        return Err(invalid(format!(
            "the manifest calls itself `{own}` and was pushed as `{stated}`"
        )));
    }
    Ok(if is_manifest_type(stated) { stated } else { own }.to_owned())
}

/// Returns the beginning of a text, for a message.
fn excerpt(text: &str) -> String {
    text.chars().take(100).collect::<String>().escape_default().to_string()
}
