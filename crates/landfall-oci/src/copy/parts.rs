//! The parts of an index: which of them are wanted, whether they are there, and what it means when a sink wants the others
//! as well. The index itself is never changed: its digest, and what was signed, stay what they are.

use futures_util::{StreamExt, TryStreamExt, stream};
use landfall_core::oci_types::{Descriptor, Index, ManifestContent, Platform, parse_manifest};
use landfall_core::reference::Digest;
use landfall_core::retry::FailureKind;

use super::Job;
use super::graph::Graph;
use crate::image::{RawManifest, TransferError};

/// How many parts are asked for at once.
const QUESTIONS_MAX: usize = 8;

/// A sink takes an index only with all that it names, and some of it was left out.
#[derive(Debug, thiserror::Error)]
#[error("it was copied without some of its platforms, and the destination takes an index only with all of them")]
pub struct PartsRefused {
    /// The manifests that are there now, each of which can be copied alone, by its digest.
    pub copied: Vec<Digest>,
    /// What the sink said.
    #[source]
    pub refusal: TransferError,
}

impl Job<'_> {
    /// Whether the sink has the image, and of an index the parts that are wanted.
    pub(super) async fn is_there(&self, root: &RawManifest, platforms: &[Platform]) -> Result<bool, TransferError> {
        if !self.retrying(&self.image, || self.sink.has_image(root)).await? {
            return Ok(false);
        }
        // What cannot be parsed is a failure of the walk's to tell.
        let Ok(ManifestContent::Index(index)) = parse_manifest(&root.bytes) else {
            return Ok(true);
        };
        let questions: Vec<_> = index
            .parts_for(platforms)
            .into_iter()
            .map(|part| self.retrying(&self.image, move || self.sink.has_manifest(part)))
            .collect();
        let mut answers = stream::iter(questions).buffer_unordered(QUESTIONS_MAX);
        while let Some(is_there) = answers.try_next().await? {
            if !is_there {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The parts of an index that are wanted.
    ///
    /// # Errors
    /// When it has nothing for any of the platforms.
    pub(super) fn select_parts<'i>(
        &self,
        index: &'i Index,
        platforms: &[Platform],
    ) -> Result<Vec<&'i Descriptor>, TransferError> {
        let parts = index.parts_for(platforms);
        let offered: Vec<_> = index.platforms().map(|platform| format!("`{platform}`")).collect();
        let serves_one = |platform: &Platform| platforms.iter().any(|wanted| wanted.accepts(platform));
        if platforms.is_empty() || offered.is_empty() || index.platforms().any(serves_one) {
            return Ok(parts);
        }
        let wanted: Vec<_> = platforms.iter().map(|platform| format!("`{platform}`")).collect();
        Err(TransferError {
            attempt: format!(
                "cannot copy `{}` for {}: it is for {}",
                self.image,
                wanted.join(", "),
                offered.join(", ")
            ),
            kind: FailureKind::NotFound,
            source: None,
        })
    }
}

/// Says so where a manifest is refused that names what was left out.
pub(super) fn explain_refusal(graph: &Graph, refusal: TransferError) -> TransferError {
    let is_refusal = matches!(refusal.kind, FailureKind::NotFound | FailureKind::Protocol);
    if !graph.has_left_out || !is_refusal {
        return refusal;
    }
    TransferError {
        attempt: refusal.attempt.clone(),
        kind: refusal.kind,
        source: Some(Box::new(PartsRefused {
            copied: graph.manifests.iter().map(|part| part.digest.clone()).collect(),
            refusal,
        })),
    }
}
