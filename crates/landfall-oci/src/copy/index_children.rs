//! The entries of an index: the selected ones, their presence in source and sink, and the errors of sinks that require
//! all entries. The index itself is never changed: its digest and its signatures stay valid.

use std::borrow::Cow;
use std::collections::HashSet;
use std::error::Error;

use futures_util::future::BoxFuture;
use futures_util::{StreamExt, TryStreamExt, stream};
use landfall_core::failure::{FailureKind, Hint};
use landfall_core::oci_types::{Descriptor, Index, ManifestContent, Platform, parse_manifest};
use landfall_core::reference::Digest;
use landfall_core::wording::quoted;

use super::graph::{DEPTH_MAX, Graph, MANIFESTS_MAX};
use super::job::CopyJob;
use crate::image::{RawManifest, TransferError};

/// Entries that are requested at once.
const REQUESTS_MAX: usize = 8;

/// The sink requires all entries of an index, and some of them were omitted.
#[derive(Debug, thiserror::Error)]
#[error("it was copied without some of its platforms, and the destination takes an index only with all of them")]
pub struct PartialIndexRefused {
    /// The manifests that the sink has now. Each of them can be copied alone, by its digest.
    pub copied: Vec<Digest>,
    /// Selected index entries missing from the source by construction: platform, or digest if it has none.
    pub lacking: Vec<String>,
    #[source]
    pub refusal: TransferError,
}

/// The source has an index without some of its entries: they were never copied there, or were lost.
#[derive(Debug, thiserror::Error)]
#[error("{source_name} has no manifest for {}, which the image's index names", quoted(.missing))]
pub struct IndexEntriesMissing {
    /// The source's name in messages.
    pub source_name: String,
    /// The missing entries: platform, or digest if an entry has none.
    pub missing: Vec<String>,
    /// The platforms whose entries are all present.
    pub available: Vec<Platform>,
    /// The source's error for the first missing entry.
    #[source]
    pub refusal: TransferError,
}

/// The image has none of the requested platforms.
#[derive(Debug, thiserror::Error)]
#[error("it is for {}", quoted(.offered))]
pub struct PlatformMissing {
    /// The platforms of the image.
    pub offered: Vec<Platform>,
}

/// The sink requires all layers of an image, and foreign layers were omitted.
#[derive(Debug, thiserror::Error)]
#[error("it has layers that are fetched from addresses of their own, and the destination takes no such image")]
pub struct ForeignLayersRefused {
    #[source]
    pub refusal: TransferError,
}

impl Hint for PartialIndexRefused {
    fn hint(&self) -> Option<Cow<'_, str>> {
        Some(match self.lacking.is_empty() {
            true => Cow::Borrowed("copy it whole, without `--platform`"),
            false => Cow::Owned(format!(
                "copy it from a source that has {} too, or from a bundle made with `--narrow rewrite`",
                quoted(&self.lacking)
            )),
        })
    }
}

impl Hint for IndexEntriesMissing {
    fn hint(&self) -> Option<Cow<'_, str>> {
        if self.available.is_empty() {
            return Some(Cow::Borrowed(
                "push the image to the source again: no platform of it is complete there",
            ));
        }
        let options = self.available.iter().map(|platform| format!("--platform {platform}"));
        Some(Cow::Owned(format!(
            "push the missing platforms to the source, or copy the others with `{}`",
            options.collect::<Vec<_>>().join(" ")
        )))
    }
}

impl Hint for PlatformMissing {
    fn hint(&self) -> Option<Cow<'_, str>> {
        Some(Cow::Borrowed("name one of these with `--platform`, or none for all"))
    }
}

impl Hint for ForeignLayersRefused {
    fn hint(&self) -> Option<Cow<'_, str>> {
        Some(Cow::Borrowed(
            "allow the layers' addresses in the registry (`validation.manifests.urls.allow` of Docker's), or use another",
        ))
    }
}

impl CopyJob<'_> {
    /// Returns true if the sink has the image, and the selected entries if the image is an index. Returns false if the
    /// options ask for a look at every blob.
    pub(super) async fn is_present(&self, root: &RawManifest, platforms: &[Platform]) -> Result<bool, TransferError> {
        if self.options.force {
            return Ok(false);
        }
        if !self.retrying(&self.image, || self.sink.has_image(root)).await? {
            return Ok(false);
        }
        let mut offered = Vec::new();
        let is_present = self.has_entries(root, platforms, 0, &mut offered).await?;
        if is_present {
            self.require_one(platforms, &offered)?;
        }
        Ok(is_present)
    }

    /// Returns true if the sink has the selected entries of an index, including those of nested indexes. Adds the
    /// platforms of the visited entries to `offered`.
    fn has_entries<'a>(
        &'a self,
        manifest: &'a RawManifest,
        platforms: &'a [Platform],
        depth: usize,
        offered: &'a mut Vec<Platform>,
    ) -> BoxFuture<'a, Result<bool, TransferError>> {
        Box::pin(async move {
            // The walk reports manifests that cannot be parsed and indexes that are nested too deeply.
            let Ok(ManifestContent::Index(index)) = parse_manifest(&manifest.bytes) else {
                return Ok(true);
            };
            if depth > DEPTH_MAX {
                return Ok(false);
            }
            let available = self.available(&index);
            offered.extend(available.platforms().cloned());
            let entries = available.parts_for(platforms);
            let requests: Vec<_> = entries
                .iter()
                .map(|entry| self.retrying(&self.image, move || self.sink.has_manifest(entry)))
                .collect();
            let mut responses = stream::iter(requests).buffer_unordered(REQUESTS_MAX);
            while let Some(is_present) = responses.try_next().await? {
                if !is_present {
                    return Ok(false);
                }
            }
            for entry in entries.iter().filter(|entry| entry.is_index()) {
                let inner = self.fetch_manifest(entry.digest.as_str()).await?;
                if !self.has_entries(&inner, platforms, depth + 1, &mut *offered).await? {
                    return Ok(false);
                }
            }
            Ok(true)
        })
    }

    /// Returns an index without the entries missing from the source by construction.
    pub(super) fn available(&self, index: &Index) -> Index {
        let mut available = index.clone();
        available.manifests.retain(|entry| !self.source.lacks(entry));
        available
    }

    /// Returns the labels of the selected entries missing from the source by construction.
    pub(super) fn lacking(&self, index: &Index, platforms: &[Platform]) -> Vec<String> {
        let wanted = index.parts_for(platforms).into_iter();
        wanted.filter(|entry| self.source.lacks(entry)).map(label).collect()
    }

    /// Replaces a `NotFound` error of an index entry by one that names the missing entries and the available platforms.
    pub(super) async fn explain_missing(
        &self,
        index: &Index,
        platforms: &[Platform],
        refusal: TransferError,
    ) -> TransferError {
        if refusal.kind != FailureKind::NotFound {
            return refusal;
        }
        let mut present = HashSet::new();
        let mut absent = HashSet::new();
        let requests: Vec<_> = index
            .manifests
            .iter()
            .take(MANIFESTS_MAX)
            .map(async |entry| (&entry.digest, self.source.fetch_manifest(entry.digest.as_str()).await))
            .collect();
        let mut responses = stream::iter(requests).buffer_unordered(REQUESTS_MAX);
        while let Some((digest, response)) = responses.next().await {
            match response {
                Ok(_) => present.insert(digest),
                Err(error) if error.kind == FailureKind::NotFound => absent.insert(digest),
                Err(_unknown) => false,
            };
        }
        let is_whole = |platform: &&Platform| {
            let entries = index.parts_for(std::slice::from_ref(*platform));
            entries.iter().all(|entry| present.contains(&entry.digest))
        };
        let wanted = index.parts_for(platforms).into_iter();
        let missing = IndexEntriesMissing {
            source_name: self.source.describe(),
            missing: wanted
                .filter(|entry| absent.contains(&entry.digest))
                .map(label)
                .collect(),
            available: index.platforms().filter(is_whole).cloned().collect(),
            refusal,
        };
        TransferError {
            attempt: format!("cannot copy `{}`", self.image),
            kind: FailureKind::NotFound,
            source: Some(Box::new(missing)),
        }
    }

    /// Checks that an image has at least one of the platforms, or names no platform.
    ///
    /// # Errors
    /// [`PlatformMissing`] if it has none of them.
    pub(super) fn require_one(&self, platforms: &[Platform], offered: &[Platform]) -> Result<(), TransferError> {
        let serves_one = |offered: &Platform| platforms.iter().any(|wanted| wanted.accepts(offered));
        if platforms.is_empty() || offered.is_empty() || offered.iter().any(serves_one) {
            return Ok(());
        }
        Err(TransferError {
            attempt: format!("cannot copy `{}` for {}", self.image, quoted(platforms)),
            kind: FailureKind::NotFound,
            source: Some(Box::new(PlatformMissing {
                offered: offered.to_vec(),
            })),
        })
    }
}

/// Returns the platform of an index entry, or its digest if it has none.
fn label(entry: &Descriptor) -> String {
    entry
        .image_platform()
        .map_or_else(|| entry.digest.to_string(), ToString::to_string)
}

/// Explains the refusal of a manifest that names omitted content.
pub(super) fn explain_refusal(graph: &Graph, refusal: TransferError) -> TransferError {
    let is_refusal = matches!(refusal.kind, FailureKind::NotFound | FailureKind::Protocol);
    let (attempt, kind) = (refusal.attempt.clone(), refusal.kind);
    let source: Box<dyn Error + Send + Sync> = if graph.omits_entries && is_refusal {
        let copied = graph.manifests.iter().map(|entry| entry.digest.clone()).collect();
        Box::new(PartialIndexRefused {
            copied,
            lacking: graph.lacking.clone(),
            refusal,
        })
    } else if graph.omits_foreign_layers && is_refusal {
        Box::new(ForeignLayersRefused { refusal })
    } else {
        return refusal;
    };
    TransferError {
        attempt,
        kind,
        source: Some(source),
    }
}
