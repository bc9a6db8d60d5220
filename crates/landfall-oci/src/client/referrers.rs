//! Referrers of an image (OCI distribution specification, "Listing Referrers"). Works for registries with the referrers
//! API and without it, and for cosign's older form, a tag beside the image.

use landfall_core::failure::{FailureKind, Shortcut};
use landfall_core::oci_types::{Descriptor, ManifestContent, media_type, parse_manifest};
use landfall_core::reference::{Digest, Repository};

use super::auth::scope::Scope;
use super::error::{Fault, RegistryAction, RegistryError};
use super::problem::ProtocolProblem;
use super::request::RequestTarget;
use crate::client::registry_client::RegistryClient;
use crate::digest::digest_of;
use crate::image::{RawManifest, Referrer};
use crate::referrers::{cosign_tags, referrers_tag};
use crate::store::index::render_index;

impl RegistryClient {
    /// Lists the referrers of a manifest from the referrers API, or from the fallback tag if the registry has no such
    /// API.
    ///
    /// # Errors
    /// Fails if the registry cannot be asked, or the list continues on another host.
    pub async fn list_referrers(
        &self,
        repository: &Repository,
        subject: &Digest,
    ) -> Result<Vec<Descriptor>, RegistryError> {
        match self.query_referrers_api(repository, subject).await? {
            Some(listed) => Ok(listed),
            None => self.fetch_fallback_tag(repository, subject).await,
        }
    }

    /// Finds all referrers of a manifest, including those under cosign's tags.
    ///
    /// # Errors
    /// As for [`RegistryClient::list_referrers`].
    pub async fn find_referrers(
        &self,
        repository: &Repository,
        subject: &Digest,
    ) -> Result<Vec<Referrer>, RegistryError> {
        let listed = self.list_referrers(repository, subject).await?;
        let mut referrers: Vec<_> = listed
            .into_iter()
            .map(|referrer| Referrer {
                selector: referrer.digest.to_string(),
                tag: None,
            })
            .collect();
        for tag in cosign_tags(subject) {
            if self.head_manifest(repository, tag.as_str()).await?.is_some() {
                referrers.push(Referrer {
                    selector: tag.to_string(),
                    tag: Some(tag),
                });
            }
        }
        Ok(referrers)
    }

    /// Ensures that a manifest is listed as a referrer of its subject. A registry without the referrers API leaves the
    /// list to its clients ("Pushing Manifests with Subject"). The API counts as present only if it lists the manifest.
    ///
    /// # Errors
    /// Fails if the registry cannot be asked, or rejects the list.
    pub async fn ensure_referrer_listed(
        &self,
        repository: &Repository,
        manifest: &RawManifest,
        content: &ManifestContent,
    ) -> Result<(), RegistryError> {
        let Some(subject) = content.subject() else {
            return Ok(());
        };
        let api = self.query_referrers_api(repository, &subject.digest).await?;
        if api.is_some_and(|listed| listed.iter().any(|known| known.digest == manifest.digest)) {
            return Ok(());
        }
        let mut listed = self.fetch_fallback_tag(repository, &subject.digest).await?;
        if listed.iter().any(|known| known.digest == manifest.digest) {
            return Ok(());
        }
        let size = manifest.bytes.len() as u64;
        let mut entry = Descriptor::new(&manifest.media_type, manifest.digest.clone(), size);
        entry.artifact_type = content.artifact_type().map(str::to_owned);
        entry.annotations.clone_from(content.annotations());
        listed.push(entry);
        let bytes = render_index(listed);
        let list = RawManifest {
            digest: digest_of(&bytes),
            media_type: media_type::OCI_INDEX.to_owned(),
            bytes: bytes.into(),
        };
        self.push_manifest(repository, &referrers_tag(&subject.digest), &list)
            .await
            .map(drop)
    }

    /// Asks the referrers API; `None` if the registry has none that can be used.
    async fn query_referrers_api(
        &self,
        repository: &Repository,
        subject: &Digest,
    ) -> Result<Option<Vec<Descriptor>>, RegistryError> {
        let path = format!("/v2/{repository}/referrers/{subject}");
        let scope = Scope::Pull(repository.clone());
        let first = async {
            let first = self.fetch_page(RequestTarget::Path(path), scope.clone()).await?;
            // A JSON document without the list is no answer of the API.
            match first.page.manifests {
                Some(_) => Ok(first),
                None => Err(Fault::from(ProtocolProblem::NotJson)),
            }
        };
        let key = format!("{repository} {subject}");
        let listed = async {
            match self.try_shortcut(Shortcut::ReferrersApi, key, first).await? {
                // A list whose rest cannot be fetched is not a missing API: the failure stands.
                Some(first) => {
                    self.fetch_further_pages(first, scope.clone(), |page| page.manifests)
                        .await
                }
                None => Ok(None),
            }
        };
        listed.await.map_err(|fault| {
            let action = RegistryAction::ListReferrers {
                repository: repository.clone(),
                digest: subject.clone(),
            };
            self.error(action, fault)
        })
    }

    async fn fetch_fallback_tag(
        &self,
        repository: &Repository,
        subject: &Digest,
    ) -> Result<Vec<Descriptor>, RegistryError> {
        match self.fetch_manifest(repository, &referrers_tag(subject)).await {
            // An image may have a tag of this form itself.
            Ok(list) if list.digest == *subject => Ok(Vec::new()),
            Ok(list) => Ok(match parse_manifest(&list.bytes) {
                Ok(ManifestContent::Index(index)) => index.manifests,
                // The tag belongs to something else.
                Ok(ManifestContent::Image(_)) | Err(_) => Vec::new(),
            }),
            Err(error) if error.kind() == FailureKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }
}
