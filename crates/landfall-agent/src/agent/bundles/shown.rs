//! Bundles in the status, and in the ledger once they are gone.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use camino::{Utf8Path, Utf8PathBuf};
use landfall_core::bundle::adoption::{BundleFacts, BundlePhase, Decision, FileState, next_step};
use landfall_core::bundle::document::BundleDocument;
use landfall_core::failure::{error_chain, line_with_hint};
use landfall_core::reference::Digest;
use landfall_core::status::BundleStatus;
use landfall_oci::bundle::BundleError;
use landfall_oci::store::ContentStore;

use super::opened::{Content, Opened, has_image};
use crate::agent::ledger::KnownBundle;
use crate::failure::find_hint;

/// Returns the bundles in the order in which images are taken from them: later ones of a series first.
pub(super) fn order_of_preference(opened: &BTreeMap<Digest, Opened>) -> Vec<Digest> {
    let mut ids: Vec<&Digest> = opened.keys().collect();
    ids.sort_by_key(|id| {
        let opened = &opened[*id];
        preference_of(opened.content.document(), &opened.path)
    });
    ids.into_iter().cloned().collect()
}

/// Returns the key by which bundles are sorted: images are taken from the first one that has them.
#[must_use]
pub fn preference_of(document: &BundleDocument, path: &Utf8Path) -> (Reverse<Option<u64>>, Utf8PathBuf) {
    (Reverse(document.sequence), path.to_owned())
}

impl Opened {
    pub(super) fn status(&self) -> BundleStatus {
        let document = self.content.document();
        let missing = self.missing();
        let facts = self.facts(missing.len());
        BundleStatus {
            path: self.path.to_string(),
            id: Some(self.content.id().to_string()),
            phase: next_step(&facts).0,
            series: document.series.clone(),
            sequence: document.sequence,
            images: facts.images,
            adopted: facts.adopted,
            bytes: self.content.size(),
            missing: missing.iter().map(|image| image.name.to_string()).collect(),
            problem: self.problem.as_ref().map(|(problem, _)| problem.clone()),
            hint: self.problem.as_ref().and_then(|(_, hint)| hint.clone()),
            receipt: self.receipt.as_ref().map(ToString::to_string),
        }
    }
}

/// Returns what the ledger keeps of a bundle.
pub(super) fn known_bundle(opened: &Opened) -> KnownBundle {
    let document = opened.content.document();
    KnownBundle {
        path: opened.path.to_string(),
        series: document.series.clone(),
        sequence: document.sequence,
        bytes: opened.content.size(),
        images: document
            .images
            .iter()
            .map(|image| (image.name.clone(), image.digest.clone()))
            .collect(),
        has_receipt: opened.receipt.is_some(),
        stamp: match &opened.content {
            Content::Foreign(foreign) => Some(foreign.stamp.clone()),
            Content::Own { .. } => None,
        },
    }
}

/// Returns the status of a file that is no usable bundle.
pub(super) fn status_of_file(path: &Utf8Path, error: &BundleError) -> BundleStatus {
    let is_incomplete = matches!(error, BundleError::Incomplete { .. });
    let facts = BundleFacts {
        file: if is_incomplete {
            FileState::Incomplete
        } else {
            FileState::Unusable
        },
        trust: None,
        needs: None,
        is_served: false,
        images: 0,
        adopted: 0,
        has_receipt: false,
    };
    BundleStatus {
        path: path.to_string(),
        id: None,
        phase: next_step(&facts).0,
        series: None,
        sequence: None,
        images: 0,
        adopted: 0,
        bytes: 0,
        missing: Vec::new(),
        problem: Some(error_chain(error)),
        hint: find_hint(error).map(|hint| hint.into_owned()),
        receipt: None,
    }
}

/// Returns the status of a bundle that is gone.
pub(super) async fn status_of_known(store: &ContentStore, id: &Digest, known: &KnownBundle) -> BundleStatus {
    let (store, images) = (store.clone(), known.images.clone());
    let find = move || {
        let missing = images.iter().filter(|(name, digest)| !has_image(&store, name, digest));
        missing.map(|(name, _)| name.to_string()).collect::<BTreeSet<_>>()
    };
    let missing = tokio::task::spawn_blocking(find).await.unwrap_or_default();
    let facts = BundleFacts {
        file: FileState::Gone,
        trust: Some(Decision::Take),
        needs: Some(Decision::Take),
        is_served: false,
        images: known.images.len(),
        adopted: known.images.len() - missing.len(),
        has_receipt: known.has_receipt,
    };
    let (phase, _) = next_step(&facts);
    let is_vanished = phase == BundlePhase::Vanished;
    BundleStatus {
        path: known.path.clone(),
        id: Some(id.to_string()),
        phase,
        series: known.series.clone(),
        sequence: known.sequence,
        images: facts.images,
        adopted: facts.adopted,
        bytes: known.bytes,
        missing: missing.into_iter().collect(),
        problem: is_vanished.then(|| "the file is gone before all of it was adopted".to_owned()),
        hint: is_vanished.then(|| "bring it again: what is here already is not copied twice".to_owned()),
        receipt: None,
    }
}

/// Returns the problem of a bundle with its hint on one line.
pub(super) fn line(bundle: &BundleStatus) -> String {
    line_with_hint(bundle.problem.as_deref().unwrap_or_default(), bundle.hint.as_ref())
}
