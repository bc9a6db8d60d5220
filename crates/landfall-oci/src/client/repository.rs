//! A repository of a registry as source and sink of images.

use std::sync::Mutex;

use futures_util::future::BoxFuture;
use landfall_core::oci_types::{Descriptor, parse_manifest};
use landfall_core::reference::{Digest, ImageReference, Repository, Tag};
use landfall_core::sync::lock;

use super::upload::{UploadJournal, UploadSessions};
use crate::client::registry_client::RegistryClient;
use crate::image::{
    BlobStart, BlobState, BlobStream, ImageSink, ImageSource, RawManifest, Referrer, RepositoryAddress, TransferError,
};

/// Reads images from one repository.
#[derive(Debug, Clone)]
pub struct RegistrySource {
    pub client: RegistryClient,
    pub repository: Repository,
}

impl ImageSource for RegistrySource {
    fn describe(&self) -> String {
        describe(&self.client, &self.repository)
    }

    fn repository_address(&self) -> Option<RepositoryAddress> {
        Some(repository_address(&self.client, &self.repository))
    }

    fn fetch_manifest<'a>(&'a self, selector: &'a str) -> BoxFuture<'a, Result<RawManifest, TransferError>> {
        Box::pin(async move { Ok(self.client.fetch_manifest(&self.repository, selector).await?) })
    }

    fn open_blob<'a>(&'a self, blob: &'a Descriptor, offset: u64) -> BoxFuture<'a, Result<BlobStream, TransferError>> {
        Box::pin(async move { Ok(self.client.open_blob(&self.repository, blob, offset).await?) })
    }

    fn find_referrers<'a>(&'a self, subject: &'a Digest) -> BoxFuture<'a, Result<Vec<Referrer>, TransferError>> {
        Box::pin(async move { Ok(self.client.find_referrers(&self.repository, subject).await?) })
    }
}

fn describe(client: &RegistryClient, repository: &Repository) -> String {
    format!("{}/{repository}", client.host())
}

fn repository_address(client: &RegistryClient, repository: &Repository) -> RepositoryAddress {
    RepositoryAddress {
        registry: client.host().clone(),
        repository: repository.clone(),
    }
}

/// Writes one image to one repository.
#[derive(Debug)]
pub struct RegistrySink {
    client: RegistryClient,
    repository: Repository,
    tag: Option<Tag>,
    /// Digest under the tag, as last seen. It saves a second request, and a push without a change.
    tagged: Mutex<Option<Digest>>,
    uploads: UploadSessions,
}

impl RegistrySink {
    /// Creates a sink that pushes the image's top manifest under `tag`; without a tag the manifest has only its digest.
    /// The name in [`ImageSink::write_manifest`] is ignored: the plan decides about the target.
    #[must_use]
    pub fn new(client: RegistryClient, repository: Repository, tag: Option<Tag>) -> RegistrySink {
        RegistrySink {
            client,
            repository,
            tag,
            tagged: Mutex::new(None),
            uploads: UploadSessions::default(),
        }
    }

    /// Adds a journal of upload sessions, so that the sink continues those of an earlier process.
    #[must_use]
    pub fn with_journal(mut self, journal: Option<UploadJournal>) -> RegistrySink {
        self.uploads = UploadSessions::new(journal);
        self
    }

    fn set_tagged(&self, digest: Option<Digest>) {
        *lock(&self.tagged) = digest;
    }

    fn is_tagged(&self, digest: &Digest) -> bool {
        lock(&self.tagged).as_ref() == Some(digest)
    }
}

impl ImageSink for RegistrySink {
    fn describe(&self) -> String {
        describe(&self.client, &self.repository)
    }

    fn repository_address(&self) -> Option<RepositoryAddress> {
        Some(repository_address(&self.client, &self.repository))
    }

    /// Asks for the top manifest only. A registry accepts a manifest only with all its content, except for the entries
    /// of an index, so that the manifest stands for all of it. A manifest under another name costs a request for each
    /// blob, and no bytes.
    fn has_image<'a>(&'a self, manifest: &'a RawManifest) -> BoxFuture<'a, Result<bool, TransferError>> {
        Box::pin(async move {
            let selector = self.tag.as_ref().map_or(manifest.digest.as_str(), Tag::as_str);
            let found = self.client.find_pushed_manifest(&self.repository, selector).await?;
            let found = found.map(|found| found.digest);
            if self.tag.is_some() {
                self.set_tagged(found.clone());
            }
            Ok(found.as_ref() == Some(&manifest.digest))
        })
    }

    /// Some registries accept an index without all of its entries.
    fn has_manifest<'a>(&'a self, part: &'a Descriptor) -> BoxFuture<'a, Result<bool, TransferError>> {
        Box::pin(async move {
            let selector = part.digest.as_str();
            let found = self.client.find_pushed_manifest(&self.repository, selector).await?;
            Ok(found.is_some())
        })
    }

    fn referrer_sink(&self, tag: Option<&Tag>) -> Option<Box<dyn ImageSink>> {
        let sink = RegistrySink::new(self.client.clone(), self.repository.clone(), tag.cloned());
        Some(Box::new(sink))
    }

    fn blob_state<'a>(&'a self, blob: &'a Descriptor) -> BoxFuture<'a, Result<BlobState, TransferError>> {
        Box::pin(async move {
            match self.client.find_pushed_blob(&self.repository, blob).await? {
                true => Ok(BlobState::Complete),
                false => Ok(BlobState::Missing),
            }
        })
    }

    fn verifies_uploads(&self) -> BoxFuture<'_, bool> {
        Box::pin(self.client.verifies_uploads(&self.repository))
    }

    fn start_blob<'a>(
        &'a self,
        blob: &'a Descriptor,
        from: Option<&'a Repository>,
    ) -> BoxFuture<'a, Result<BlobStart, TransferError>> {
        Box::pin(self.uploads.start(&self.client, &self.repository, blob, from))
    }

    fn write_blob<'a>(
        &'a self,
        blob: &'a Descriptor,
        offset: u64,
        stream: BlobStream,
    ) -> BoxFuture<'a, Result<(), TransferError>> {
        Box::pin(self.uploads.write(&self.client, &self.repository, blob, offset, stream))
    }

    fn write_manifest<'a>(
        &'a self,
        manifest: &'a RawManifest,
        name: Option<&'a ImageReference>,
    ) -> BoxFuture<'a, Result<(), TransferError>> {
        Box::pin(async move {
            let tag = self.tag.as_ref().filter(|_| name.is_some());
            let is_there = tag.is_some() && self.is_tagged(&manifest.digest);
            let mut is_listed = false;
            if !is_there {
                let selector = tag.map_or(manifest.digest.as_str(), Tag::as_str);
                let pushed = self.client.push_manifest(&self.repository, selector, manifest).await?;
                is_listed = pushed.lists_referrers;
            }
            // An earlier run may have ended between the manifest and the list of its subject's referrers.
            if !is_listed && let Ok(content) = parse_manifest(&manifest.bytes) {
                self.client
                    .ensure_referrer_listed(&self.repository, manifest, &content)
                    .await?;
            }
            if tag.is_some() {
                self.set_tagged(Some(manifest.digest.clone()));
            }
            Ok(())
        })
    }
}
