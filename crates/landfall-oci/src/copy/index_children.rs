//! The parts of an index: which of them are wanted, whether they are there, and what it means when a sink wants the others
//! as well. The index itself is never changed: its digest, and what was signed, stay what they are.

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
use super::job::Job;
use crate::image::{RawManifest, TransferError};

/// How many parts are asked for at once.
const QUESTIONS_MAX: usize = 8;

/// A sink takes an index only with all that it names, and some of it was left out.
#[derive(Debug, thiserror::Error)]
#[error("it was copied without some of its platforms, and the destination takes an index only with all of them")]
pub struct PartialIndexRefused {
    /// The manifests that are there now, each of which can be copied alone, by its digest.
    pub copied: Vec<Digest>,
    /// What was wanted, and the source itself was made without: platforms, and digests of what names none.
    pub lacking: Vec<String>,
    /// What the sink said.
    #[source]
    pub refusal: TransferError,
}

/// A source has an index and not all of it: somebody copied some platforms there, or lost the others.
#[derive(Debug, thiserror::Error)]
#[error("{source_name} has no manifest for {}, which the image's index names", quoted(.missing))]
pub struct IndexEntriesMissing {
    /// What messages call the source.
    pub source_name: String,
    /// What is not there: platforms, and digests of what names none.
    pub missing: Vec<String>,
    /// The platforms that are there, with what belongs to each.
    pub available: Vec<Platform>,
    /// What the source said of the first one.
    #[source]
    pub refusal: TransferError,
}

/// An image has nothing for any of the platforms that were asked for.
#[derive(Debug, thiserror::Error)]
#[error("it is for {}", quoted(.offered))]
pub struct PlatformMissing {
    /// What it is for.
    pub offered: Vec<Platform>,
}

/// A sink takes an image only with all of its layers, and some must not be handed on.
#[derive(Debug, thiserror::Error)]
#[error("it has layers that are fetched from addresses of their own, and the destination takes no such image")]
pub struct ForeignLayersRefused {
    /// What the sink said.
    #[source]
    pub refusal: TransferError,
}

impl Hint for PartialIndexRefused {
    fn hint(&self) -> Option<Cow<'_, str>> {
        Some(match self.lacking.is_empty() {
            true => Cow::Borrowed("copy it whole, without `--platform`"),
            false => Cow::Owned(format!("copy it from a source that has {} too", quoted(&self.lacking))),
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

impl Job<'_> {
    /// Whether the sink has the image, and of an index the parts that are wanted.
    pub(super) async fn is_present(&self, root: &RawManifest, platforms: &[Platform]) -> Result<bool, TransferError> {
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

    /// Whether the sink has the parts of an index that are wanted, those of indexes in it included. Notes the platforms
    /// that it has something for, as far as it looked.
    fn has_entries<'a>(
        &'a self,
        manifest: &'a RawManifest,
        platforms: &'a [Platform],
        depth: usize,
        offered: &'a mut Vec<Platform>,
    ) -> BoxFuture<'a, Result<bool, TransferError>> {
        Box::pin(async move {
            // What cannot be parsed, or lies too deep, is a failure of the walk's to tell.
            let Ok(ManifestContent::Index(index)) = parse_manifest(&manifest.bytes) else {
                return Ok(true);
            };
            if depth > DEPTH_MAX {
                return Ok(false);
            }
            let available = self.available(&index);
            offered.extend(available.platforms().cloned());
            let entries = available.parts_for(platforms);
            let questions: Vec<_> = entries
                .iter()
                .map(|entry| self.retrying(&self.image, move || self.sink.has_manifest(entry)))
                .collect();
            let mut answers = stream::iter(questions).buffer_unordered(QUESTIONS_MAX);
            while let Some(is_present) = answers.try_next().await? {
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

    /// An index without what the source was made without.
    pub(super) fn available(&self, index: &Index) -> Index {
        let mut available = index.clone();
        available.manifests.retain(|entry| !self.source.lacks(entry));
        available
    }

    /// What people call the wanted parts of an index that the source was made without.
    pub(super) fn lacking(&self, index: &Index, platforms: &[Platform]) -> Vec<String> {
        let wanted = index.parts_for(platforms).into_iter();
        wanted.filter(|entry| self.source.lacks(entry)).map(label).collect()
    }

    /// Says so where the source does not have a wanted part of an index, and what it has.
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
        let questions: Vec<_> = index
            .manifests
            .iter()
            .take(MANIFESTS_MAX)
            .map(async |entry| (&entry.digest, self.source.fetch_manifest(entry.digest.as_str()).await))
            .collect();
        let mut answers = stream::iter(questions).buffer_unordered(QUESTIONS_MAX);
        while let Some((digest, answer)) = answers.next().await {
            match answer {
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

    /// That an image is for one of the platforms, or names none.
    ///
    /// # Errors
    /// When it has nothing for any of them.
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

/// What people call a part of an index.
fn label(entry: &Descriptor) -> String {
    entry
        .image_platform()
        .map_or_else(|| entry.digest.to_string(), ToString::to_string)
}

/// Says so where a manifest is refused that names what was left out.
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
