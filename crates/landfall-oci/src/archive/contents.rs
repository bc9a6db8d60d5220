//! Images and content of an archive.

use std::collections::HashMap;
use std::fs::File;
use std::sync::Arc;

use bytes::Bytes;
use landfall_core::oci_types::Descriptor;
use landfall_core::reference::Digest;

use crate::archive::extent::Extent;
use crate::referrers::ReferrerMap;

/// Treatment of an index with missing entries: an export of one platform has the complete index, but only the content
/// of that platform.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum PartialIndex {
    /// The index stays unchanged.
    #[default]
    Kept,
    /// The index names only the available entries. Its digest changes.
    Narrowed,
}

#[derive(Debug, Clone)]
pub(super) enum ContentLocation {
    /// A section of the archive.
    Archive(Extent),
    /// An unnamed file with a layer that was decompressed.
    Spooled(Arc<File>),
    /// Generated content, or a small document.
    Memory(Bytes),
    /// The place where the blobs of an archive that is read once are kept.
    Staged,
}

/// Locations of all content by digest.
pub(super) type ContentLocations = HashMap<Digest, ContentLocation>;

/// A manifest of the archive, or the narrowed index in its place.
#[derive(Debug, Clone)]
pub(super) struct VisitedManifest {
    digest: Digest,
    size: u64,
}

impl VisitedManifest {
    pub(super) fn of(descriptor: &Descriptor) -> VisitedManifest {
        VisitedManifest {
            digest: descriptor.digest.clone(),
            size: descriptor.size,
        }
    }

    /// Returns the descriptor of an index entry, which may add platform and annotations.
    pub(super) fn named_by(self, entry: &Descriptor) -> Descriptor {
        Descriptor {
            digest: self.digest,
            size: self.size,
            ..entry.clone()
        }
    }
}

/// Images and content of one archive.
#[derive(Debug, Default)]
pub(super) struct ArchiveContents {
    pub(super) partial: PartialIndex,
    pub(super) images: Vec<ArchivedImage>,
    pub(super) locations: ContentLocations,
    pub(super) referrers: ReferrerMap,
    /// Manifests visited so far; `None` for those missing from the archive.
    pub(super) visited: HashMap<Digest, Option<VisitedManifest>>,
}

/// One image, before it has a source.
#[derive(Debug)]
pub(super) struct ArchivedImage {
    pub(super) names: Vec<String>,
    pub(super) ref_names: Vec<String>,
    pub(super) root: Descriptor,
    pub(super) narrowed_from: Option<Digest>,
    pub(super) kind: Option<String>,
}
