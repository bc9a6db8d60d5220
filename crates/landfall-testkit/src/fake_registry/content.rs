//! Content of a fake registry. All repositories share blobs, unless `repositories_apart` is set; manifests
//! belong to one repository.

use std::collections::{BTreeMap, HashMap, HashSet};

use bytes::Bytes;
use landfall_core::reference::Digest;
use serde_json::Value;

use crate::image_builder::digest_of;

#[derive(Default)]
pub(super) struct Content {
    blobs: HashMap<String, Bytes>,
    /// `(repository, tag or digest)`, so that tags list in order.
    manifests: BTreeMap<(String, String), (String, Bytes)>,
    uploads: u64,
    /// Received bytes of upload sessions, by path.
    pieces: HashMap<String, Vec<u8>>,
    /// Pairs of repository and blob, if repositories are kept apart.
    members: Option<HashSet<(String, String)>>,
}

impl Content {
    pub(super) fn put_blob(&mut self, bytes: Bytes) -> Digest {
        let digest = digest_of(&bytes);
        self.blobs.insert(digest.to_string(), bytes);
        digest
    }

    pub(super) fn keep_apart(&mut self) {
        self.members = Some(HashSet::new());
    }

    /// Links a blob to the repository.
    pub(super) fn link_blob(&mut self, repository: &str, digest: &str) {
        if let Some(members) = &mut self.members {
            members.insert((repository.to_owned(), digest.to_owned()));
        }
    }

    pub(super) fn blob_in(&self, repository: &str, digest: &str) -> Option<Bytes> {
        let member = (repository.to_owned(), digest.to_owned());
        let is_here = self.members.as_ref().is_none_or(|members| members.contains(&member));
        self.blob(digest).filter(|_| is_here)
    }

    pub(super) fn remove_blob(&mut self, digest: &Digest) {
        self.blobs.remove(digest.as_str());
    }

    pub(super) fn blob(&self, digest: &str) -> Option<Bytes> {
        self.blobs.get(digest).cloned()
    }

    /// Stores a manifest under the selector and under its digest.
    pub(super) fn put_manifest(&mut self, repository: &str, selector: &str, media_type: &str, bytes: Bytes) -> Digest {
        let digest = digest_of(&bytes);
        for key in [selector, digest.as_str()] {
            let content = (media_type.to_owned(), bytes.clone());
            self.manifests.insert((repository.to_owned(), key.to_owned()), content);
        }
        digest
    }

    pub(super) fn manifest(&self, repository: &str, selector: &str) -> Option<(String, Bytes)> {
        self.manifests
            .get(&(repository.to_owned(), selector.to_owned()))
            .cloned()
    }

    pub(super) fn tags(&self, repository: &str) -> Vec<String> {
        let keys = self.manifests.keys();
        keys.filter(|(found, selector)| found == repository && !selector.contains(':'))
            .map(|(_, tag)| tag.clone())
            .collect()
    }

    pub(super) fn repositories(&self) -> Vec<String> {
        let mut names: Vec<_> = self
            .manifests
            .keys()
            .map(|(repository, _)| repository.clone())
            .collect();
        names.dedup();
        names
    }

    /// Appends a chunk to an upload and returns its length.
    pub(super) fn append(&mut self, path: &str, bytes: &[u8]) -> usize {
        let upload = self.pieces.entry(path.to_owned()).or_default();
        upload.extend_from_slice(bytes);
        upload.len()
    }

    /// Ends an upload and returns its bytes.
    pub(super) fn take_upload(&mut self, path: &str) -> Bytes {
        self.pieces.remove(path).unwrap_or_default().into()
    }

    pub(super) fn next_upload(&mut self) -> u64 {
        self.uploads += 1;
        self.uploads
    }

    /// Returns the first missing part of a manifest; foreign layers may be missing.
    pub(super) fn missing_part(&self, repository: &str, manifest: &[u8]) -> Option<String> {
        let manifest: Value = serde_json::from_slice(manifest).ok()?;
        let list = |name: &str| manifest[name].as_array().cloned().unwrap_or_default();
        let digest = |part: &Value| part["digest"].as_str().map(str::to_owned);
        let blobs = std::iter::once(manifest["config"].clone()).chain(list("layers"));
        let missing_blob = blobs
            .filter(|part| part["urls"].is_null())
            .filter_map(|part| digest(&part))
            .find(|digest| self.blob_in(repository, digest).is_none());
        let missing_manifest = || {
            let manifests = list("manifests").into_iter().filter_map(|part| digest(&part));
            manifests
                .into_iter()
                .find(|digest| self.manifest(repository, digest).is_none())
        };
        missing_blob.or_else(missing_manifest)
    }
}
