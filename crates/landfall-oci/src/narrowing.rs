//! Images whose indexes are made again with some of their platforms only, for readers that take no index without all of
//! its entries. The digests of these indexes change, and what signs or describes them is lost.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use landfall_core::failure::FailureKind;
use landfall_core::oci_types::{Descriptor, ManifestContent, Platform, narrow_index, parse_manifest};
use landfall_core::reference::Digest;

use crate::digest::digest_of;
use crate::image::{BlobStream, ImageSource, RawManifest, Referrer, RepositoryAddress, TransferError};

/// Largest nesting of indexes in one another.
const DEPTH_MAX: usize = 8;
/// Indexes of one image that are read, at most.
const INDEXES_MAX: usize = 1000;

/// An image whose index was made again.
#[derive(Debug)]
pub struct NarrowedImage {
    pub source: NarrowedSource,
    /// The digest of the index at its source.
    pub from: Digest,
    /// The digest of the new index.
    pub to: Digest,
    /// The referrers of the old indexes, by tag or digest: signatures, attestations, bills of materials. They do not
    /// refer to the new ones.
    pub lost: Vec<String>,
}

/// Source of an image with new indexes. All else comes from another source.
#[derive(Debug)]
pub struct NarrowedSource {
    inner: Arc<dyn ImageSource>,
    /// The new indexes by their digests.
    made: HashMap<Digest, RawManifest>,
}

/// Makes the index of an image again, with the entries that these platforms need. Returns `None` if nothing is to be
/// changed: the image has no index, or all entries are needed, or it has none of the platforms.
///
/// # Errors
/// If a manifest cannot be read.
pub async fn narrow_image(
    source: &Arc<dyn ImageSource>,
    selector: &str,
    platforms: &[Platform],
) -> Result<Option<NarrowedImage>, TransferError> {
    let mut narrowing = Narrowing {
        source: &**source,
        platforms,
        made: HashMap::new(),
        changed: Vec::new(),
        offered: Vec::new(),
        read: 0,
    };
    let root = source.fetch_manifest(selector).await?;
    let Narrowed::Made(to) = narrowing.narrow(&root, 0).await? else {
        return Ok(None);
    };
    let is_wanted = |offered: &Platform| platforms.iter().any(|wanted| wanted.accepts(offered));
    if !narrowing.offered.is_empty() && !narrowing.offered.iter().any(is_wanted) {
        return Ok(None);
    }
    let Narrowing { made, changed, .. } = narrowing;
    let mut lost = Vec::new();
    for old in &changed {
        let referrers = source.find_referrers(old).await?;
        lost.extend(referrers.into_iter().map(|referrer| referrer.selector));
    }
    Ok(Some(NarrowedImage {
        source: NarrowedSource {
            inner: source.clone(),
            made,
        },
        from: root.digest,
        to: to.digest,
        lost,
    }))
}

/// Result for one manifest.
enum Narrowed {
    /// It stays as it is.
    Same,
    /// None of its entries is needed.
    Nothing,
    /// A new index takes its place.
    Made(RawManifest),
}

/// The indexes of one image.
struct Narrowing<'a> {
    source: &'a dyn ImageSource,
    platforms: &'a [Platform],
    made: HashMap<Digest, RawManifest>,
    /// The digests of indexes that were replaced.
    changed: Vec<Digest>,
    /// The platforms of all entries.
    offered: Vec<Platform>,
    /// The number of indexes that were read.
    read: usize,
}

impl Narrowing<'_> {
    fn narrow<'a>(
        &'a mut self,
        manifest: &'a RawManifest,
        depth: usize,
    ) -> BoxFuture<'a, Result<Narrowed, TransferError>> {
        async move {
            let index = match parse_manifest(&manifest.bytes) {
                Ok(ManifestContent::Index(index)) => index,
                // The copy reports a manifest that cannot be parsed.
                Ok(ManifestContent::Image(_)) | Err(_) => return Ok(Narrowed::Same),
            };
            self.read += 1;
            // The copy reports indexes that are nested too deeply, or too many.
            if depth >= DEPTH_MAX || self.read > INDEXES_MAX {
                return Ok(Narrowed::Same);
            }
            self.offered.extend(index.platforms().cloned());
            let needed = index.parts_for(self.platforms);
            let mut kept: Vec<Option<Descriptor>> = Vec::with_capacity(index.manifests.len());
            for entry in &index.manifests {
                let is_needed = needed.iter().any(|needed| std::ptr::eq(*needed, entry));
                kept.push(match is_needed && !self.source.lacks(entry) {
                    true => self.narrow_entry(entry, depth).await?,
                    false => None,
                });
            }
            if kept.iter().flatten().eq(&index.manifests) {
                return Ok(Narrowed::Same);
            }
            if kept.iter().all(Option::is_none) {
                return Ok(Narrowed::Nothing);
            }
            let bytes = narrow_index(&manifest.bytes, kept).map_err(|error| TransferError {
                attempt: format!(
                    "cannot make the index `{}` of {} again",
                    manifest.digest,
                    self.source.describe()
                ),
                kind: FailureKind::Protocol,
                source: Some(Box::new(error)),
            })?;
            let bytes = Bytes::from(bytes);
            let made = RawManifest {
                media_type: manifest.media_type.clone(),
                digest: digest_of(&bytes),
                bytes,
            };
            self.made.insert(made.digest.clone(), made.clone());
            self.changed.push(manifest.digest.clone());
            Ok(Narrowed::Made(made))
        }
        .boxed()
    }

    /// Returns an entry as it is in the new index, or `None` if it is left out.
    async fn narrow_entry(&mut self, entry: &Descriptor, depth: usize) -> Result<Option<Descriptor>, TransferError> {
        if !entry.is_index() {
            return Ok(Some(entry.clone()));
        }
        let child = self.source.fetch_manifest(entry.digest.as_str()).await?;
        Ok(match self.narrow(&child, depth + 1).await? {
            Narrowed::Same => Some(entry.clone()),
            Narrowed::Nothing => None,
            Narrowed::Made(made) => Some(Descriptor {
                digest: made.digest,
                size: made.bytes.len() as u64,
                ..entry.clone()
            }),
        })
    }
}

impl ImageSource for NarrowedSource {
    fn describe(&self) -> String {
        self.inner.describe()
    }

    fn repository_address(&self) -> Option<RepositoryAddress> {
        self.inner.repository_address()
    }

    fn lacks(&self, entry: &Descriptor) -> bool {
        self.inner.lacks(entry)
    }

    fn fetch_manifest<'a>(&'a self, selector: &'a str) -> BoxFuture<'a, Result<RawManifest, TransferError>> {
        let digest = selector.parse::<Digest>().ok();
        match digest.and_then(|digest| self.made.get(&digest)) {
            Some(made) => async move { Ok(made.clone()) }.boxed(),
            None => self.inner.fetch_manifest(selector),
        }
    }

    fn open_blob<'a>(&'a self, blob: &'a Descriptor, offset: u64) -> BoxFuture<'a, Result<BlobStream, TransferError>> {
        self.inner.open_blob(blob, offset)
    }

    fn find_referrers<'a>(&'a self, subject: &'a Digest) -> BoxFuture<'a, Result<Vec<Referrer>, TransferError>> {
        match self.made.contains_key(subject) {
            true => async { Ok(Vec::new()) }.boxed(),
            false => self.inner.find_referrers(subject),
        }
    }
}
